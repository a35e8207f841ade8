"""Whatever a network and up to f members do, an honest coordinator closes exact sums or none, and once the weather clears the
job goes on (``tests.simulation.invariants``).

Each list of ops is drawn from a seed; one that fails is made small and printed, and becomes a named test in
``test_reproductions``.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulation.faulty import Faulty, Weather
from tests.simulation.invariants import Broken
from tests.simulation.op_lists import MANY

BLOCKS, RUNS = 10, 40 * MANY


@pytest.mark.parametrize("block", range(BLOCKS))
def test_whatever_the_weather_sums_are_exact_and_the_job_goes_on(block: int) -> None:
    reached: Counter[str] = Counter()
    for seed in range(block * RUNS, (block + 1) * RUNS):
        weather = Weather.of(seed)
        outcome = weather.outcome()
        if isinstance(outcome, Broken):
            small = weather.smallest(outcome)
            pytest.fail(f"seed {seed}: {small.outcome()}\n{small}")
        reached.update(_reached(outcome))
    for what, share in {
        "done": 0.9,
        "lied": 0.05,
        "second attempt": 0.1,
        "incomplete": 0.1,
        "second epoch": 0.1,
    }.items():
        assert reached[what] >= share * RUNS, (what, reached)


def _reached(world: Faulty) -> list[str]:
    found = {
        "done": world.done is not None,
        "lied": bool(world.lied),
        "second attempt": any(closed.attempt > 0 for closed in world.closed),
        "second epoch": any(lab.machine.position.epoch > 1 for lab in world.labs.values()),
        "incomplete": any(len(closed.certificate.survivors.cohort) < len(world.names) for closed in world.closed),
    }
    return [what for what, true in found.items() if true]
