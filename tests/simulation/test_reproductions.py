"""What the simulation found, made small and named: each failed before it was mended."""

from __future__ import annotations

from tests.simulation.hostile import Op, Scenario
from tests.simulation.invariants import Broken


def test_an_abort_of_an_attempt_that_was_released_after_an_earlier_one_was_shown_again() -> None:
    """The binding of a state was one record: a release for attempt 0, shown after one for attempt 1 and to the same
    cohort, took its place, and the ABORT of attempt 1 was signed."""
    scenario = Scenario(
        n=4,
        colluders=(4,),
        guests=1,
        ops=(Op("attempt"), Op("attempt", less=8), Op("reopen"), Op("attempt"), Op("certify", pick=2), Op("abort")),
    )
    assert not isinstance(scenario.outcome(), Broken)
