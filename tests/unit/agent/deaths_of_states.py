"""A scene in which a job's process is killed at each step of keeping a state."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from federation.errors import VerificationFailed
from federation.manifest.strategy import StrategySpec
from federation.weights.state import ModelState
from federation.weights.tensors import read_arrays
from node_agent.rounds.files import JobFiles
from tests.unit.agent.killed import each_kill

AVERAGE = StrategySpec("FedAvg", {})
MOMENTUM = StrategySpec("FedAvgM", {"serverLearningRate": 1.0, "serverMomentum": 0.9})


def state(round_number: int, value: float | None = None) -> ModelState:
    filled = float(round_number) if value is None else value
    return ModelState(round_number, {"w": np.full(300, filled, np.float32)}, {}, np.zeros(1, np.int8))


def keeping(folder: Path) -> None:
    """The state before stays; the new one is whole or not there; the worker's model is never that of another state."""
    files = JobFiles(folder / "job")
    files.prepare()
    for number in (1, 2):
        files.keep(state(number))
    step = [np.ones(300)]  # what the members' mean adds to each parameter
    scales = np.zeros(1, np.int8)
    moving = ModelState(3, state(3).arrays, {"momentum_vector/w": np.full(300, -1, np.float32)}, scales)
    ways = (
        (state(3), lambda _: files.keep(state(3))),
        (state(3), lambda _: files.advance(AVERAGE, state(2), step, scales)),
        (moving, lambda _: files.advance(MOMENTUM, state(2), step, scales)),
    )
    for made, way in ways:
        files.state(3).unlink(missing_ok=True)
        outcomes = []
        for _ in each_kill(way):
            files.load(2, state(2).digest())
            try:
                files.load(3, made.digest())
                outcomes.append(True)
            except VerificationFailed:
                outcomes.append(False)
            assert read_arrays(files.show(made))["w"][0] == 3
            for path in (files.state(3), files.model(3)):
                path.unlink(missing_ok=True)
            files.keep(state(1))
        assert set(outcomes) == {False, True}
    outcomes = []
    for _ in each_kill(lambda _: files.keep(state(2, 9))):  # another state of the round takes its place
        held = files.find(state(2, 9).digest()) is not None
        outcomes.append(held)
        present = state(2, 9) if held else state(2)
        files.load(2, present.digest())
        assert read_arrays(files.show(present))["w"][0] == present.arrays["w"][0]
        files.keep(state(2))
    assert set(outcomes) == {False, True}
