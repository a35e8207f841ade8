"""Whatever a coordinator does with up to f members on its side, the invariants hold (``tests.simulation.invariants``).

Each list of ops is drawn from a seed; one that fails is made small and printed, and becomes a named test in
``test_reproductions``.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulation.hostile import Hostile, Scenario
from tests.simulation.invariants import Broken
from tests.simulation.op_lists import MANY

BLOCKS, RUNS = 10, 60 * MANY


@pytest.mark.parametrize("block", range(BLOCKS))
def test_whatever_a_hostile_coordinator_does_the_invariants_hold(block: int) -> None:
    reached: Counter[str] = Counter()
    for seed in range(block * RUNS, (block + 1) * RUNS):
        scenario = Scenario.of(seed)
        outcome = scenario.outcome()
        if isinstance(outcome, Broken):
            small = scenario.smallest(outcome)
            pytest.fail(f"seed {seed}: {small.outcome()}\n{small}")
        reached.update(_reached(outcome))
    for what in ("released", "next round", "second attempt", "second epoch", "certificate refused"):
        assert reached[what] >= RUNS // 30, (what, reached)
    for what in ("proof refused", "convicted", "restored"):
        assert reached[what], (what, reached)


def _reached(hostile: Hostile) -> list[str]:
    watch, peers = hostile.watch, hostile.peers.values()
    found = {
        "released": any(watch.released.values()),
        "next round": any(peer.machine.position.round > 1 for peer in peers),
        "second attempt": any(attempt.number > 0 for attempt in watch.attempts.values()),
        "second epoch": any(peer.machine.position.epoch > 1 for peer in peers),
        "certificate refused": any("acks" in peer.refused for peer in peers),
        "proof refused": any("proof" in peer.refused for peer in peers),
        "restored": bool(watch.forgetful),
        "convicted": any(key.startswith("convicted/") for peer in peers for key in peer.journal),
    }
    return [what for what, true in found.items() if true]
