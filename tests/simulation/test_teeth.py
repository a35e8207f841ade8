"""The simulation finds what it is there for: machines that lack one check each are caught, by the invariant that is broken."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from federation.errors import ProtocolViolation
from federation.secagg import proof
from federation.secagg.certificate import Bench
from federation.secagg.member import MemberMachine
from federation.secagg.messages import Certificate, Reveal, Void
from tests.simulation.hostile import Scenario
from tests.simulation.invariants import Broken
from tests.simulation.op_lists import Op

SEEDS = 400


class Forgetful(MemberMachine):
    """A release binds nothing."""

    def _check_binding(self, announced: Any, digest: bytes, cohort: tuple[int, ...]) -> None:
        return None


class Fickle(MemberMachine):
    """Its ACK is not remembered."""

    def _survivors(self, event: Any) -> Any:
        return [each for each in super()._survivors(event) if not getattr(each, "key", "").startswith("ack/")]


class Talkative(MemberMachine):
    """Reveals for a cohort, certified or not."""

    def _certificate(self, event: Certificate) -> Any:
        bench, self._bench = self._bench, _Lax(**{name: getattr(self._bench, name) for name in Bench.__slots__})
        try:
            return super()._certificate(event)
        finally:
            self._bench = bench


class _Lax(Bench):
    def check_certificate(self, certificate: Certificate, announced: Any) -> bytes:
        return self.check_survivors(certificate.survivors, announced)


class Generous(MemberMachine):
    """Reveals its edge to one member of the cohort."""

    def _certificate(self, event: Certificate) -> Any:
        out = super()._certificate(event)
        for place, each in enumerate(out):
            message = getattr(each, "message", None)
            if isinstance(message, Reveal):
                announced = self._announced[message.context]
                peer = next(index for index in event.survivors.cohort if index != self._index)
                edges = tuple(sorted({**dict(message.edges), peer: self._seed(peer, announced)}.items()))
                out[place] = replace(each, message=replace(message, edges=edges))
        return out


class _Gullible(Bench):
    def convicted(self, void: Void, context: bytes) -> tuple[int, ...]:
        keys = {proof.read(each).identity_key for each in void.proofs}
        found = [seat.index for seat in self.seats if seat.identity_key in keys]
        if len(found) > self.quorums.f:
            raise ProtocolViolation("too many", check="proof")
        return tuple(found)


class Gullible(MemberMachine):
    """Whoever is named in a proof is convicted by it."""

    def _bench_of(self, seat: Any) -> Bench:
        bench = super()._bench_of(seat)
        return _Gullible(**{name: getattr(bench, name) for name in Bench.__slots__})


class Ratting(MemberMachine):
    """Signs an ABORT after it has released."""

    def _abort_request(self, event: Any) -> Any:
        kept, self._votes.bound_in = self._votes.bound_in, lambda *where: False  # type: ignore[method-assign]
        try:
            return super()._abort_request(event)
        finally:
            self._votes.bound_in = kept  # type: ignore[method-assign]


class Skipping(MemberMachine):
    """Its ACK ends no attempt before it."""

    def _check_latest(self, announced: Any) -> None:
        return None


@pytest.mark.parametrize(
    ("variant", "invariants"),
    [
        (Forgetful, {"I2", "I4"}),
        (Fickle, {"I2", "I5", "I6"}),
        (Talkative, {"I2", "I3"}),
        (Generous, {"I3"}),
        (Ratting, {"I2"}),
        (Skipping, {"I4"}),
    ],
)
def test_a_machine_without_one_check_is_caught(variant: type[MemberMachine], invariants: set[str]) -> None:
    for seed in range(SEEDS):
        outcome = Scenario.of(seed).outcome(variant)
        if isinstance(outcome, Broken):
            assert outcome.invariant in invariants, outcome
            return
    pytest.fail(f"{variant.__name__} was not caught in {SEEDS} lists of ops")


def test_a_machine_that_believes_any_proof_is_caught() -> None:
    """m1 is framed with its own ACKs, left out of the next attempt, and subtracted from two sums."""
    scenario = Scenario(5, (5,), 0, (Op("attempt"), Op("without", choice=1, less=1)))
    outcome = scenario.outcome(Gullible)
    assert isinstance(outcome, Broken)
    assert outcome.invariant in ("I2", "I4")
    assert not isinstance(scenario.outcome(), Broken)
