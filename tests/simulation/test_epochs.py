"""Members that join a job under way: the roster changes hands at a round boundary, and every sum stays exact."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from federation.secagg.events import RosterFormed, Tell
from federation.secagg.messages import Announcement
from tests.simulation.harness import World
from tests.simulation.test_storms import blow, shuffle_step


class Growing(World):
    """Keeps the rosters and the announcements that were made."""

    formed: list[RosterFormed]
    announced: list[Announcement]

    def perform(self, instructions):
        for instruction in instructions:
            if isinstance(instruction, RosterFormed):
                self.formed.append(instruction)
            if isinstance(instruction, Tell) and isinstance(instruction.message, Announcement):
                self.announced.append(instruction.message)
        super().perform(instructions)


def growing(n: int, first: int, **changes) -> Growing:
    Growing.formed, Growing.announced = [], []
    world = Growing(n, **{"rounds": 5, "stand_in": True, **changes})
    world.formed, world.announced = [], []
    world.begin(world.names[:first])
    return world


def members(formed: RosterFormed) -> list[str]:
    return [seat.member for seat in formed.seats]


def cohort_names(world: Growing, round_number: int) -> list[str]:
    closed = next(each for each in world.closed if each.round == round_number)
    epoch = next(each.epoch for each in reversed(world.announced) if each.round == round_number)
    seats = {formed.epoch: formed.seats for formed in world.formed}[epoch]
    return [seats[index - 1].member for index in closed.certificate.survivors.cohort]


@pytest.mark.parametrize("blind", [True, False])
@pytest.mark.parametrize(("n", "first"), [(4, 3), (5, 4), (7, 4), (7, 5)])
def test_a_member_that_joins_is_in_the_sum_of_the_round_after(n: int, first: int, blind: bool) -> None:
    world = growing(n, first, blind=blind)
    world.run(until=lambda world: world.collector.round == 2 and world.collector.phase == "collecting")
    for name in world.names[first:]:
        world.join(name)
    world.run()
    assert world.done is not None
    assert members(world.formed[0]) == world.names[:first]
    assert members(world.formed[-1]) == world.names
    assert cohort_names(world, 5) == world.names
    assert cohort_names(world, 2) == world.names[:first]
    assert not world.misconduct
    assert all(not lab.refused for lab in world.labs.values())
    assert {lab.machine.position.state_digest for lab in world.labs.values()} == {world.done.state_digest}


def test_rounds_go_on_while_the_next_roster_is_formed_and_when_it_cannot_be() -> None:
    world = growing(6, 5, rounds=8)
    world.run(until=lambda world: world.collector.round == 2 and world.collector.phase == "collecting")
    world.tamper = lambda member, message: None if (member, type(message).__name__) == ("m6", "Opening") else message
    world.join("m6")
    world.run()
    assert world.done is not None
    assert cohort_names(world, 8) == world.names[:5]
    assert not world.misconduct


def test_who_was_away_when_the_roster_was_formed_comes_in_when_it_returns() -> None:
    world = growing(5, 5, rounds=4)
    world.kill("m5")
    world.run(until=lambda world: world.collector.round == 2 and world.collector.phase == "gathering")
    assert members(world.formed[0]) == world.names[:4]
    world.restart("m5")
    world.run()
    assert members(world.formed[-1]) == world.names
    assert cohort_names(world, 4) == world.names


def test_a_member_that_lost_its_disk_comes_in_anew_at_the_next_epoch() -> None:
    world = growing(5, 5, rounds=5)
    world.run(until=lambda world: world.collector.round == 2 and world.collector.phase == "collecting")
    before = world.labs["m3"].machine.seats[2].exchange_key
    world.forget("m3")
    world.run()
    assert world.done is not None
    assert len(world.formed) == 2
    assert cohort_names(world, 5) == world.names
    assert world.labs["m3"].machine.seats[2].exchange_key != before


def test_a_roster_may_change_hands_more_than_once() -> None:
    world = growing(6, 4, rounds=8)
    for round_number, name in ((2, "m5"), (4, "m6")):
        world.run(
            until=lambda world, at=round_number: world.collector.round == at and world.collector.phase == "collecting"
        )
        world.join(name)
    world.run()
    assert [formed.epoch for formed in world.formed] == [1, 2, 3]
    assert cohort_names(world, 8) == world.names


def test_the_keys_of_two_epochs_have_nothing_in_common() -> None:
    world = growing(5, 4)
    world.run(until=lambda world: world.collector.round == 2 and world.collector.phase == "collecting")
    world.join("m5")
    world.run()
    first, second = world.formed
    assert first.roster_hash != second.roster_hash
    assert second.roster.keys[0].predecessor == first.roster_hash
    for column in ("exchange_key", "kem_key", "nonce_hash", "group_hash"):
        assert not {getattr(seat, column) for seat in first.seats} & {getattr(seat, column) for seat in second.seats}


def test_an_epoch_is_not_opened_by_fewer_than_a_quorum_of_the_one_before() -> None:
    world = growing(7, 4)
    world.run(until=lambda world: world.collector.round == 2 and world.collector.phase == "collecting")
    book = world.collector._book
    book.present |= set(world.names[4:])
    book.joining |= set(world.names[4:])  # all at once
    for name in world.names[4:]:
        world.join(name)
    world.run(until=lambda world: len(world.formed) == 2 and world.collector.phase == "collecting")
    opening = world.announced[-1]
    assert opening.epoch == 2
    newcomers = {seat.index for seat in world.formed[-1].seats if seat.member in world.names[4:]}
    fewer = [ready for ready in opening.readies if ready.index in newcomers]
    fewer += [ready for ready in opening.readies if ready.index not in newcomers][:2]
    forged = replace(opening, readies=tuple(sorted(fewer, key=lambda ready: ready.index)))
    for name in ("m1", "m7"):
        (refusal,) = world.labs[name].machine.handle(forged, 0.0)
        assert refusal.violation.check == "successor"


def test_who_has_moved_says_nothing_more_in_the_epoch_before() -> None:
    world = growing(5, 4)
    world.run(until=lambda world: world.collector.round == 2 and world.collector.phase == "collecting")
    old = world.announced[-1]
    world.join("m5")
    world.run(until=lambda world: len(world.formed) == 2 and world.collector.phase == "collecting")
    machine = world.labs["m1"].machine
    assert machine.position.epoch == 2
    (refusal,) = machine.handle(old, 0.0)
    assert refusal.violation.check == "epoch"


@pytest.mark.parametrize("seed", range(30))
def test_after_any_storm_with_joiners_the_job_finishes(seed: int) -> None:
    dice = random.Random(seed)
    world = growing(5, dice.choice([3, 4]), rounds=4, size=4, chunk_parameters=4, final_evaluation=True)
    world.windows = replace(world.windows, formation_attempts=3, attempts=1000)
    world.collector._windows = world.windows
    while world.collector.phase == "forming":
        assert shuffle_step(world, dice)
    away = [name for name in world.names if name not in world.collector.index_of]
    for _ in range(dice.randrange(50, 500)):
        if world.done or world.stuck:
            break
        if away and dice.random() < 0.02:
            world.join(away.pop())
        if dice.random() < 0.08 or not shuffle_step(world, dice):
            blow(world, dice, collector=True)
    world.fail_task.clear()
    for _ in range(3):
        for lab in world.labs.values():
            if lab.name in away and lab.machine.phase == "new":
                continue
            if not lab.alive:
                world.restart(lab.name)
            elif not lab.connected:
                world.reconnect(lab.name)
        world.run()
    assert world.stuck is None, world.stuck
    assert world.done is not None
    assert {each.round for each in world.closed} == set(range(1, world.terms.last_round + 1))
