"""Where the coordinator sees models, it reads a state's file before anybody is told of it; of who was not asked, nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np

from coordinator.rounds import driver
from federation.secagg import events
from federation.v1 import rounds_pb2
from federation.weights.state import ModelState
from tests.unit.coordinator.labs import SIZE, World


def later(world: World) -> bool:
    world.now += 1
    world.driver.say(events.Tick())
    return True


def test_a_state_is_read_before_it_is_offered_and_only_of_who_was_asked(tmp_path: Path, monkeypatch) -> None:
    """m3 was away for a round. m1, who is asked first, puts another state; m2, unasked, says of both that they are the state."""
    world = World(tmp_path / "world", n=4, rounds=4)
    other = ModelState(3, {"w": np.ones(SIZE, np.float32)}, {}, np.zeros(1, np.int8))
    read: list[Path] = []

    def reading(path: Path) -> ModelState:
        read.append(path)
        return true_reading(path)

    true_reading = driver.read_state
    monkeypatch.setattr(driver, "read_state", reading)

    async def story() -> None:
        world.start()
        await world.run(until=lambda world: world.outcomes == ["closed"])
        lab = world.labs["m3"]
        lab.connected = False
        world.driver.say(events.Lost("m3"))
        await world.run(until=lambda world: later(world) and len(world.outcomes) == 2)
        await world.run(until=lambda world: bool(world.driver.machine.announced and world.driver.machine.round == 3))
        for digest in (other.digest(), bytes(32), b"x"):
            world.driver.state_stored(
                "m2", rounds_pb2.StateStored(epoch=1, state_digest=digest, blob=world.put(world.labs["m2"], other))
            )
        assert read == []
        assert not world.driver._checking_state
        world.gives["m1"] = other
        world.connect("m3")
        await world.run(until=lambda world: lab.machine.position.round >= 3)
        assert world.asked == ["m1", "m2"]
        assert len(read) == 2
        world.gives.clear()
        await world.run()
        await world.driver.stop()

    asyncio.run(story())
    assert world.reason is None
    assert world.final is not None
