"""Every drop-out pattern, up to renaming, at every phase: an exact sum over the cohort, or a clean wait. Never a wrong
sum.

The harness compares each published sum with plain integers; these tests say when a sum must come, and when it must not.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from itertools import combinations_with_replacement, product
from typing import Any

import pytest

from federation.secagg.events import StateReady
from federation.secagg.suite import STANDARD
from tests.simulation.harness import World
from tests.simulation.stand_ins import Quick, Seated

MOMENTS = ("Ready", "Upload", "Ack", "Reveal", "Receipt")
"""killed just before the member's first message of this kind"""
SETUP = ("KeyMessage", "Encapsulation", "RosterSignature", "Opening", "Confirmation")


def kill_pattern(n: int, moments: Sequence[str], *, back: bool, naming: int | None = None, **changes: Any) -> World:
    """As many members are killed, at these moments, in round 1; with ``back`` they start again when nothing more
    happens. ``naming``: seed of who they are; None: m1 and on."""
    kind = Quick if set(moments) & set(SETUP) or "suite" in changes else Seated
    world = kind(n, **{"rounds": 2, "size": 2, "chunk_parameters": 4, "blind": False, **changes})
    names = list(world.names)
    if naming is not None:
        random.Random(naming).shuffle(names)
    for name, moment in zip(names, moments, strict=False):
        world.kill_before.add((name, moment))
    world.begin().run()
    while back and world.done is None and any(not lab.alive for lab in world.labs.values()):
        for lab in world.labs.values():
            if not lab.alive:
                world.restart(lab.name)
        world.run()
    return world


@pytest.mark.parametrize("moment", MOMENTS)
def test_any_one_of_five_may_be_killed_at_any_moment_and_every_round_closes(moment: str) -> None:
    world = kill_pattern(5, (moment,), back=False)
    assert world.done is not None
    assert len(world.closed) == 2
    assert all(phase.phase != "aborted" for phase in world.phases)


def patterns(n: int, moments: Sequence[str] = MOMENTS) -> list[tuple[str, ...]]:
    """Up to renaming: how many are killed at each moment."""
    return [found for gone in range(1, n + 1) for found in combinations_with_replacement(moments, gone)]


LARGE = [pytest.param(n, part, marks=pytest.mark.soak) for n, part in ((6, 0), (7, 0), (7, 1))]
"""some minutes together; every day a sample of them is drawn, below"""


@pytest.mark.parametrize(("n", "part"), [(3, 0), (4, 0), (5, 0), *LARGE])
def test_every_pattern_of_drop_outs_waits_cleanly_and_finishes_when_all_return(n: int, part: int) -> None:
    """Attack 32: at every phase of a round, each in a random naming, which the failure tells. Every sum that is closed is
    compared with plain integers over its cohort; nobody applies another."""
    parts = 2 if n == 7 else 1
    for place, moments in enumerate(patterns(n)):
        if place % parts != part:
            continue
        world = kill_pattern(n, moments, back=True, naming=place, rounds=2 if n < 5 else 1)
        story = (n, moments, f"naming={place}", world.collector.story)
        assert world.done is not None, story
        assert [closed.round for closed in world.closed] == list(range(1, world.terms.rounds + 1)), story
        assert {closed.context for closed in world.closed} == world.judged, story
        assert not world.misconduct, story


@pytest.mark.parametrize("n", [3, 4, 5])
def test_every_pattern_of_drop_outs_in_the_setup_leaves_out_or_waits_and_closes_no_wrong_sum(n: int) -> None:
    """Two at most: with more gone there is no roster, which the bounded number of formations shows."""
    for place, moments in enumerate(patterns(2, SETUP)):
        world = kill_pattern(n, moments, back=True, naming=place, rounds=1)
        story = (n, moments, f"naming={place}", world.collector.story)
        assert (world.done is not None) != (world.stuck is not None), story
        if world.stuck is not None:
            assert n - len(moments) < world.terms.min_members, story
            assert not world.closed, story
        else:
            assert {closed.context for closed in world.closed} == world.judged, story


@pytest.mark.parametrize("place", range(8))
def test_patterns_of_drop_outs_with_the_real_ciphers_in_blind_mode(place: int) -> None:
    """A sample, drawn with its seed."""
    dice = random.Random(place)
    n = dice.choice((3, 4, 5, 7))
    moments = dice.choice(patterns(n))
    world = kill_pattern(n, moments, back=True, naming=place, suite=STANDARD, blind=True, rounds=1)
    assert world.done is not None, (n, moments, world.collector.story)
    assert {closed.context for closed in world.closed} == world.judged


def test_patterns_of_two_of_five_close_or_wait_without_anybody_returning() -> None:
    ends: Counter[str] = Counter()
    for moments in product(MOMENTS, repeat=2):
        world = kill_pattern(5, moments, back=False)
        assert world.stuck is None
        ends["done" if world.done else world.collector.phase] += 1
        assert world.done is None  # q = m = 4 of 5: three alone can certify nothing
        assert len(world.closed) <= 1
    assert ends["done"] == 0


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_member_that_restarts_at_once_says_the_same_bytes_or_nothing(moment: str) -> None:
    for when in ("before", "after"):
        world = World(4, rounds=2)
        getattr(world, f"kill_{when}").add(("m2", moment))
        world.begin().run(until=lambda world: not world.labs["m2"].alive)
        world.restart("m2")
        world.run()
        assert world.done is not None
        said: dict[tuple[object, ...], object] = {}
        for message in world.labs["m2"].sent:
            key = (type(message), getattr(message, "context", b""), getattr(message, "round", 0))
            key = (*key, getattr(message, "attempt", 0), getattr(message, "owner", 0))
            assert said.setdefault(key, message) == message
        assert not world.misconduct


def test_a_killed_member_is_in_the_next_round_but_one() -> None:
    world = World(5, rounds=5)
    world.kill_before.add(("m3", "Upload"))
    world.begin().run(until=lambda world: len(world.closed) == 1)
    world.restart("m3")
    world.run()
    assert world.done is not None
    assert 3 not in world.closed[0].certificate.survivors.cohort
    assert all(3 in closed.certificate.survivors.cohort for closed in world.closed[2:])


def test_a_member_that_was_away_for_rounds_catches_up_from_a_state_that_a_quorum_signs() -> None:
    world = World(5, rounds=5)
    world.kill_before.add(("m3", "Ack"))
    world.begin().run(until=lambda world: len(world.closed) == 3)
    world.restart("m3")
    world.run()
    assert world.done is not None
    assert 3 in world.closed[4].certificate.survivors.cohort
    assert len(world.done.receipts) == 5


def test_a_silent_member_after_upload_is_recovered_from_the_shares_of_t_holders() -> None:
    world = World(5, rounds=1)
    world.kill_before |= {("m1", "Ack")}
    world.begin().run()
    assert world.done is not None
    assert world.closed[0].certificate.survivors.cohort == (1, 2, 3, 4, 5)
    replies = [m for lab in world.labs.values() for m in lab.sent if type(m).__name__ == "RecoverReply"]
    assert len(replies) >= 3


def test_two_silent_after_the_certificate_wait_for_nobody_when_t_holders_are_left() -> None:
    world = World(5, rounds=1)
    world.kill_before |= {("m1", "Reveal"), ("m2", "Reveal")}
    world.begin().run()
    assert [closed.round for closed in world.closed] == [1]


def test_a_task_that_fails_is_not_waited_for() -> None:
    world = World(5, rounds=2)
    world.fail_task.add("m4")
    world.begin().run()
    assert world.done is not None
    assert world.closed[0].certificate.survivors.cohort == (1, 2, 3, 5)
    assert world.now == 0


def test_too_small_a_cohort_aborts_and_the_next_attempt_uses_fresh_seeds() -> None:
    world = World(3, rounds=1)
    world.fail_task.add("m3")
    world.begin().run()
    assert world.done is not None
    assert (world.closed[0].round, world.closed[0].attempt) == (1, 1)
    assert len(world.updates) == 2


def test_attempts_are_bounded() -> None:
    world = World(3, rounds=1)
    world.begin()
    while world.stuck is None:
        world.fail_task.add("m1")
        world.run(until=lambda world: "m1" not in world.fail_task)
    assert world.collector.attempt == world.windows.attempts
    assert not world.closed


@pytest.mark.parametrize("moment", ["KeyMessage", "RosterSignature"])
def test_a_member_that_is_silent_in_the_formation_is_left_out_of_the_roster(moment: str) -> None:
    world = World(5, rounds=1)
    world.kill_before.add(("m2", moment))
    world.begin().run()
    assert world.done is not None
    assert [seat.member for seat in world.collector.seats] == ["m1", "m3", "m4", "m5"]


def test_a_formation_without_enough_members_is_given_up_after_its_attempts() -> None:
    world = World(3, rounds=1)
    world.kill_before.add(("m2", "KeyMessage"))
    world.begin().run()
    assert world.stuck is not None
    assert "m2" in world.stuck.reason


def test_the_collector_killed_at_every_step_finishes_with_the_same_sums() -> None:
    whole = World(3, rounds=1, stand_in=True)
    steps = 0
    whole.begin()
    while whole.done is None and whole.step():
        steps += 1
    for kill_at in range(0, steps, 3):
        world = World(3, rounds=1, stand_in=True)
        world.begin()
        for _ in range(kill_at):
            world.step()
        world.restart_collector()
        world.run()
        assert world.done is not None, kill_at
        assert len(world.closed) == 1


def test_final_evaluation_is_a_round_of_headers_only() -> None:
    world = World(3, rounds=1, final_evaluation=True)
    world.begin().run()
    assert [closed.round for closed in world.closed] == [1, 2]
    assert len(world.sums[world.closed[1].sum_blob]) == 8 * (3 + 2 + 4)


def test_a_state_that_a_later_one_overtook_is_dropped() -> None:
    world = World(4, rounds=3)
    world.begin().run(until=lambda world: len(world.closed) == 2)
    world.run(until=lambda world: world.labs["m1"].machine.position.round == 3)
    assert world.labs["m1"].machine.handle(StateReady(2, bytes(32)), 0.0) == []
