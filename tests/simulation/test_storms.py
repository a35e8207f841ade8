"""Storms: random interleavings, kills, broken streams and collector restarts. When the weather clears, the job finishes.

Every closed round is compared with plain integers by the harness; a shrunk failure becomes a named test in test_dropouts.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import pytest

from tests.simulation.harness import World


def shuffle_step(world: World, dice: random.Random) -> bool:
    """One delivery or task of a random member; the order of one member's messages is kept."""
    if world.queue and (not world.tasks or dice.random() < 0.6):
        name = dice.choice([item[0] for item in world.queue])
        kept: deque[tuple[str, Any]] = deque()
        message = None
        for item in world.queue:
            if message is None and item[0] == name:
                message = item[1]
            else:
                kept.append(item)
        world.queue = kept
        world.deliver(name, message)
        return True
    if world.tasks:
        place = dice.randrange(len(world.tasks))
        world.tasks.rotate(-place)
        name, life, task = world.tasks.popleft()
        world.tasks.rotate(place)
        if world.labs[name].alive and world.labs[name].lives == life:
            task()
        return True
    return world.step()


def blow(world: World, dice: random.Random, collector: bool) -> None:
    name = dice.choice(world.names)
    lab = world.labs[name]
    gust = dice.random()
    if not lab.alive:
        world.restart(name)
    elif not lab.connected:
        world.reconnect(name)
    elif gust < 0.4:
        world.kill(name)
    elif gust < 0.8:
        world.queue = deque(item for item in world.queue if item[0] != name)
        world.lose(name)
    elif gust < 0.85 and collector:
        world.restart_collector()
    else:
        world.fail_task.add(name)


@pytest.mark.parametrize("seed", range(60))
def test_after_any_storm_the_job_finishes(seed: int) -> None:
    dice = random.Random(seed)
    world = World(dice.choice([3, 4, 5]), stand_in=True, rounds=3, size=4, chunk_parameters=4, final_evaluation=True)
    world.windows = world.windows.__class__(60, 3, 30, 5, 600, 30, 1000)
    world.collector._windows = world.windows
    world.begin()
    while world.collector.phase == "forming":  # who is away while the roster forms is left out
        assert shuffle_step(world, dice)
    for _ in range(dice.randrange(50, 400)):
        if world.done or world.stuck:
            break
        if dice.random() < 0.08 or not shuffle_step(world, dice):
            blow(world, dice, collector=True)
    world.fail_task.clear()
    for _ in range(3):
        for lab in world.labs.values():
            if not lab.alive:
                world.restart(lab.name)
            elif not lab.connected:
                world.reconnect(lab.name)
        world.run()
    assert world.stuck is None, world.stuck
    assert world.done is not None, (world.collector.story, [lab.machine.story for lab in world.labs.values()])
    assert [closed.round for closed in world.closed] == [1, 2, 3, 4]
    assert {each.violation.check for each in world.misconduct} <= {"out-of-order"}
    finals = {lab.machine.position.state_digest for lab in world.labs.values() if lab.machine.position.round == 5}
    assert finals == {world.done.state_digest}
