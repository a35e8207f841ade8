"""A roster changes hands two and three times, in round 1 and later, under a coordinator that wants two cohorts of one state. What
lemma 5a of docs/protocol/secure-aggregation.md says of rounds and epochs is looked at in every run, and the invariants hold."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from federation.secagg import member
from federation.secagg.member import MemberMachine
from federation.secagg.parameters import Quorums
from tests.simulation.hostile import Hostile, Scenario
from tests.simulation.invariants import Broken
from tests.simulation.op_lists import MANY, Op

BLOCKS, RUNS = 4, 40 * MANY
STEPS = {"attempt": 6, "round": 6, "abort": 2, "without": 2, "crash": 1, "catch_up": 3, "work": 2, "parts": 2, "recover": 1,
         "certify": 1, "skip": 2}  # fmt: skip
CLEAN = [Op("round"), Op("round")]
"""the second announcement shows everybody the receipts of the first"""


def changing(seed: int) -> Scenario:
    """Two or three changes of epochs, each after some of all that may happen in one; half of the seeds close no round before."""
    dice = random.Random(seed)
    n = dice.choice((3, 4, 4, 5, 7))
    f, guests = Quorums.of(n).f, dice.choice((0, 1, 2, 2))

    def some() -> int:
        kind, width = dice.random(), n + guests
        return 0 if kind < 0.4 else 1 << dice.randrange(width) if kind < 0.8 else dice.randrange(1 << width)

    def step(names: dict[str, int]) -> Op:
        name = dice.choices(list(names), list(names.values()))[0]
        return Op(name, dice.choice((0, 0, 1)), dice.choice((0, 0, 1)), some(), some())

    early = {name: weight for name, weight in STEPS.items() if name != "round"} if seed % 2 else STEPS
    ops = [step(early) for _ in range(dice.choice((0, 1, 2)))]
    for _ in range(dice.choice((2, 3, 3))):
        how = dice.choice((0, 0, 0, 0, 1, 3))
        ops.append(Op("epoch", choice=how, less=dice.choice((0, 0, some())), spare=dice.choice((0, 0, some()))))
        ops += [Op("work"), *dice.choice(([], CLEAN, CLEAN)), *(step(STEPS) for _ in range(dice.choice((0, 1, 2, 3))))]
    colluders = sorted(dice.sample(range(1, n + 1), dice.choice((0, f, f))))
    return Scenario(n, tuple(colluders), guests, tuple(ops))


def rounds_of(hostile: Hostile) -> dict[int, set[int]]:
    """Epoch -> the rounds that an honest member took part in there."""
    found: dict[int, set[int]] = {}
    for _, _member, *key in [each for each in hostile.watch.said if each[0] == "contributed"]:
        epoch, round_number, _attempt = key[0]
        found.setdefault(epoch, set()).add(round_number)
    return found


@pytest.mark.parametrize("block", range(BLOCKS))
def test_however_often_a_roster_changes_hands_one_state_has_one_cohort(block: int) -> None:
    reached: Counter[str] = Counter()
    for seed in range(block * RUNS, (block + 1) * RUNS):
        scenario = changing(seed)
        outcome = scenario.outcome()
        if isinstance(outcome, Broken):
            small = scenario.smallest(outcome)
            pytest.fail(f"seed {seed}: {small.outcome()}\n{small}")
        rounds = rounds_of(outcome)
        for epoch in rounds:
            before, long_before = rounds.get(epoch - 1, set()), rounds.get(epoch - 2, set())
            assert min(rounds[epoch]) >= max(before, default=0), (scenario, rounds)
            assert min(rounds[epoch]) > max(long_before, default=0), (scenario, rounds)
        reached.update(f"epoch {epoch}" for epoch in rounds)
        reached["refused"] += any("formation" in peer.refused for peer in outcome.peers.values())
    for what in ("epoch 2", "epoch 3", "refused"):
        assert reached[what] >= RUNS // 20, (what, reached)


class Rootless(MemberMachine):
    """Sets up the roster after one that has certified nothing."""

    @property
    def _rooted(self) -> int:
        return max(self._votes.epochs(), default=0)


class Trusting(MemberMachine):
    """Takes a roster for the epoch before, whether it stood or not."""

    def _lineage(self, event: Any) -> Any:
        kept, member.check_confirmations = member.check_confirmations, lambda *_: None
        try:
            return super()._lineage(event)
        finally:
            member.check_confirmations = kept


def test_a_roster_that_was_never_confirmed_is_not_followed() -> None:
    """Epoch 1 opens the sum of all four by m1, m3, and the colluder m2. A roster of them and two newcomers is set up until all
    have signed it, and given up for another one: so m4 forgets that it had a seat there. Yet epoch 3 follows it: m4, m2 and the
    newcomers are q of its members. m4, whose newest epoch was the first, needed no receipts; it masked one state twice. LINEAGE
    now shows that all n confirmed the roster, and whoever confirmed one waits for its confirmations."""
    m1_and_m3, m4 = 0b101, 0b100
    unconfirmed, instead = Op("epoch", choice=3), Op("epoch", choice=1)
    ops = (Op("attempt", spare=m4), unconfirmed, instead, Op("epoch", less=m1_and_m3), Op("work"), Op("attempt"))
    scenario = Scenario(4, (2,), 2, ops)
    broken = scenario.outcome(Trusting)
    assert isinstance(broken, Broken)
    assert broken.invariant == "I4"
    outcome = scenario.outcome()
    assert not isinstance(outcome, Broken)
    assert set(outcome.eras) == {1, 2, 3}
    assert set(rounds_of(outcome)) == {1}
    assert all("confirmations" in outcome.peers[name].refused for name in ("m4", "m5", "m6"))


@pytest.mark.parametrize("changes", [2, 3])
def test_without_its_rule_changes_in_round_1_give_two_cohorts_of_one_state(changes: int) -> None:
    """Epoch 1 opens the sum of all four by m1, m3, and the colluder m2. m4, which released nothing, goes on with two newcomers and
    m2: they are q of epoch 2, where nobody else ever came. With the rule m1, m3, m4 and the newcomers set up no third roster."""
    between = [Op("epoch")] * (changes - 1)
    m1_and_m3, m4 = 0b101, 0b100
    ops = (Op("attempt", spare=m4), *between, Op("epoch", less=m1_and_m3), Op("work"), Op("attempt"))
    scenario = Scenario(4, (2,), 2, ops)
    broken = scenario.outcome(Rootless)
    assert isinstance(broken, Broken)
    assert broken.invariant == "I4"
    outcome = scenario.outcome()
    assert not isinstance(outcome, Broken)
    assert set(outcome.eras) == {1, 2}
    assert set(rounds_of(outcome)) == {1}
