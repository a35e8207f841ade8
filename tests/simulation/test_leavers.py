"""A member takes its consent back in the middle of a job: it is silent from then on, and the others go on without it."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from federation.secagg.events import Left, SumFailed
from tests.simulation.test_epochs import cohort_names, growing, members
from tests.simulation.test_storms import blow, shuffle_step

PHASES = ("gathering", "collecting", "certifying", "revealing")


def leave(world, name: str) -> None:
    """As a node does it: what it held is erased, and nothing more is said of the job."""
    lab = world.labs[name]
    lab.alive = lab.connected = False
    lab.journal.clear()
    world.queue = type(world.queue)(item for item in world.queue if item[0] != name)
    world.tasks = type(world.tasks)(item for item in world.tasks if item[0] != name)
    world.tell_collector(Left(name))


@pytest.mark.parametrize("blind", [True, False])
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("n", [4, 5, 7])
def test_who_leaves_in_any_phase_is_in_no_later_roster_and_the_job_finishes(n: int, phase: str, blind: bool) -> None:
    world = growing(n, n, blind=blind)
    world.run(until=lambda world: world.collector.round == 2 and world.collector.phase == phase)
    assert (world.collector.round, world.collector.phase) == (2, phase)
    leave(world, "m2")
    before = world.now
    world.run()
    assert world.done is not None, (world.stuck, world.collector.story)
    assert not world.misconduct
    others = [name for name in world.names if name != "m2"]
    assert members(world.formed[-1]) == others
    assert {name for round_number in (3, 4, 5) for name in cohort_names(world, round_number)} == set(others)
    assert {world.labs[name].machine.position.state_digest for name in others} == {world.done.state_digest}
    assert world.now == before, "nobody waited for it"


def test_who_left_does_not_come_back_by_connecting_joining_or_by_a_start_of_the_coordinator() -> None:
    world = growing(5, 5, rounds=6)
    world.run(until=lambda world: world.collector.round == 2 and world.collector.phase == "collecting")
    leave(world, "m2")
    world.restart_collector()
    world.labs["m2"].alive = True
    world.join("m2")
    world.run()
    assert world.done is not None
    assert world.collector.left == {"m2"}
    assert all("m2" not in cohort_names(world, number) for number in range(3, 7))
    assert "m2" not in members(world.formed[-1])


def test_a_certified_round_that_gave_no_sum_ends_the_job_when_one_of_its_cohort_has_left() -> None:
    """Only the same cohort may be summed for that model: nobody else could tell that from an attempt to open the leaver."""
    world = growing(5, 5, blind=False)
    world.run(until=lambda world: world.collector.round == 2 and world.collector.phase == "collecting")
    world._unmask = lambda instruction: None
    world.run(until=lambda world: world.collector.phase == "unmasking")
    world.tell_collector(SumFailed(world.collector._round_context, "not a sum"))
    leave(world, "m2")
    assert world.stuck is not None
    assert "m2 of its cohort has left" in world.stuck.reason


@pytest.mark.parametrize("seed", range(20))
def test_after_any_storm_in_which_one_leaves_the_job_finishes_without_it(seed: int) -> None:
    """Or waits, where fewer than q of its roster still hold the model: the leaver has used up what may be missing."""
    dice = random.Random(seed)
    world = growing(5, 5, rounds=4, size=4, chunk_parameters=4, final_evaluation=True)
    world.windows = replace(world.windows, formation_attempts=3, attempts=1000)
    world.collector._windows = world.windows
    while world.collector.phase == "forming":
        assert shuffle_step(world, dice)
    leaver, at = dice.choice(world.names), dice.randrange(40, 200)
    for step in range(300):
        if world.done or world.stuck:
            break
        if step == at:
            leave(world, leaver)
        if dice.random() < 0.08 or not shuffle_step(world, dice):
            blow(world, dice, collector=True)
            if leaver in world.collector.left:
                world.labs[leaver].alive = world.labs[leaver].connected = False
    if leaver not in world.collector.left:
        leave(world, leaver)
    world.fail_task.clear()
    for _ in range(3):
        for lab in world.labs.values():
            if lab.name == leaver:
                continue
            if not lab.alive:
                world.restart(lab.name)
            elif not lab.connected:
                world.reconnect(lab.name)
        world.run()
    if world.stuck is not None:
        assert f"{leaver} of its cohort has left" in world.stuck.reason, world.stuck
        return
    assert leaver in world.collector.left
    if world.done is None:
        newest = [name for name in world.names if world.labs[name].machine.position.round == world.collector.round]
        assert len(newest) < world.collector.bench.quorums.q, world.collector.story
