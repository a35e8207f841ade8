"""A member that was suspended in the middle of a job and taken back: it comes in with a later epoch, and remembers what it said."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from federation.secagg.events import Join, Left, Readmitted
from tests.simulation.test_epochs import cohort_names, growing, members
from tests.simulation.test_storms import blow, shuffle_step

PHASES = ("gathering", "collecting", "certifying", "revealing")


def suspend(world, name: str) -> None:
    """As a node does it: its worker ends and nothing more is said of the job; what it has said stays on its disk."""
    world.kill(name)
    world.labs[name].connected = False
    world.tell_collector(Left(name))


def take_back(world, name: str) -> None:
    """With a fresh consent, over a fresh stream."""
    world.tell_collector(Readmitted(name))
    world.restart(name)
    world.tell_collector(Join(name))


@pytest.mark.parametrize("soon", [True, False])
@pytest.mark.parametrize("blind", [True, False])
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("n", [4, 5])
def test_who_is_taken_back_is_in_the_sums_again_wherever_it_stood_when_it_was_put_out(
    n: int, phase: str, blind: bool, soon: bool
) -> None:
    """``soon``: before an epoch without it stands."""
    world = growing(n, n, blind=blind, rounds=12)
    world.run(until=lambda world: world.collector.round == 2 and world.collector.phase == phase)
    suspend(world, "m2")
    if not soon:
        world.run(until=lambda world: world.collector.round == 4 and world.collector.phase == "collecting")
        assert members(world.formed[-1]) == [name for name in world.names if name != "m2"]
        assert "m2" not in cohort_names(world, 3)
    take_back(world, "m2")
    assert not world.collector.left
    world.run()
    assert world.done is not None, (world.stuck, world.collector.story)
    assert not world.misconduct
    assert members(world.formed[-1]) == world.names
    assert cohort_names(world, 12) == world.names
    assert {lab.machine.position.state_digest for lab in world.labs.values()} == {world.done.state_digest}


def test_one_member_is_put_out_and_taken_back_twice_and_the_coordinator_starts_again_between() -> None:
    world = growing(5, 5, rounds=12)
    for round_number in (2, 7):
        world.run(
            until=lambda world, at=round_number: world.collector.round == at and world.collector.phase == "collecting"
        )
        suspend(world, "m2")
        world.run(
            until=lambda world, at=round_number: (
                world.collector.round == at + 2 and world.collector.phase == "collecting"
            )
        )
        world.restart_collector()
        assert world.collector.left == {"m2"}
        take_back(world, "m2")
        world.restart_collector()
        assert not world.collector.left
    world.run()
    assert world.done is not None
    assert cohort_names(world, 12) == world.names
    assert [len(formed.seats) for formed in world.formed] == [5, 4, 5, 4, 5]


def test_who_was_put_out_before_its_epoch_had_certified_anything_stays_out_and_holds_up_nobody() -> None:
    """It was let into epoch 3, and has not seen that this certified a state: it sets up none after it, whoever asks."""
    world = growing(5, 5, rounds=12)
    for round_number in (2, 6):
        world.run(
            until=lambda world, at=round_number: world.collector.round == at and world.collector.phase == "collecting"
        )
        suspend(world, "m2")
        world.run(until=lambda world, at=round_number: world.collector.round == at + 2)
        take_back(world, "m2")
    world.run()
    assert world.done is not None
    assert world.labs["m2"].refused == ["formation"]
    assert cohort_names(world, 12) == ["m1", "m3", "m4", "m5"]


def test_before_it_has_consented_anew_nothing_that_it_says_counts() -> None:
    world = growing(5, 5, rounds=6)
    world.run(until=lambda world: world.collector.round == 2 and world.collector.phase == "collecting")
    suspend(world, "m2")
    world.restart("m2")
    world.tell_collector(Join("m2"))
    world.run()
    assert world.done is not None
    assert "m2" not in members(world.formed[-1])
    assert all("m2" not in cohort_names(world, number) for number in range(2, 7))


@pytest.mark.parametrize("seed", range(20))
def test_after_any_storm_in_which_one_is_put_out_and_taken_back_the_job_finishes(seed: int) -> None:
    dice = random.Random(seed)
    world = growing(5, 5, rounds=5, size=4, chunk_parameters=4, final_evaluation=True)
    world.windows = replace(world.windows, formation_attempts=3, attempts=1000)
    world.collector._windows = world.windows
    while world.collector.phase == "forming":
        assert shuffle_step(world, dice)
    name, at = dice.choice(world.names), dice.randrange(40, 200)
    back = at + dice.randrange(1, 100)
    for step in range(300):
        if world.done or world.stuck:
            break
        if step == at:
            suspend(world, name)
        if step == back and not (world.done or world.stuck):
            take_back(world, name)
        if dice.random() < 0.08 or not shuffle_step(world, dice):
            blow(world, dice, collector=True)
            if name in world.collector.left:
                world.labs[name].alive = world.labs[name].connected = False
    if name in world.collector.left and not world.stuck:
        take_back(world, name)
    world.fail_task.clear()
    for _ in range(3):
        for lab in world.labs.values():
            if not lab.alive:
                world.restart(lab.name)
            elif not lab.connected:
                world.reconnect(lab.name)
        world.run()
    if world.stuck is not None:
        assert f"{name} of its cohort has left" in world.stuck.reason, world.stuck
        return
    assert world.done is not None, world.collector.story
