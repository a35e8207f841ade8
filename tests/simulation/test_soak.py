"""The simulations at length, from seeds that ``make test`` does not draw: ``pytest -m soak tests/simulation``.

A failure is printed as the smallest list of ops that still fails, and becomes a named test in ``test_reproductions``.
"""

from __future__ import annotations

import pytest

from tests.simulation.faulty import Weather
from tests.simulation.hostile import Scenario
from tests.simulation.invariants import Broken
from tests.simulation.op_lists import MANY

FIRST, RUNS = 1_000_000, 500 * MANY


@pytest.mark.soak
@pytest.mark.timeout(900 * MANY)
@pytest.mark.parametrize("block", range(10))
@pytest.mark.parametrize("kind", [Scenario, Weather], ids=["hostile coordinator", "faulty network"])
def test_the_invariants_hold_for_many_more_lists_of_ops(kind: type[Scenario] | type[Weather], block: int) -> None:
    for seed in range(FIRST + block * RUNS, FIRST + (block + 1) * RUNS):
        drawn = kind.of(seed)
        outcome = drawn.outcome()
        if isinstance(outcome, Broken):
            small = drawn.smallest(outcome)
            pytest.fail(f"seed {seed}: {small.outcome()}\n{small}")
