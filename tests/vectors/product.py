"""The product, driven by what the plain implementation made: its messages, machines, encoding and sums, for comparison."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from federation.errors import InvalidIdentity
from federation.manifest.strategy import StrategySpec
from federation.secagg import encoding as codes
from federation.secagg import wire
from federation.secagg.collector import CollectorMachine
from federation.secagg.events import FetchSum, MaskPlan, Windows
from federation.secagg.header import Header
from federation.secagg.member import Me, MemberMachine
from federation.secagg.opening import Sum, open_sum
from federation.secagg.parameters import Terms
from federation.secagg.suite import Suite
from federation.v1 import rounds_pb2
from federation.weights import outer_step as outer
from federation.weights.state import ModelState
from tests.plain import wire as plain_wire
from tests.plain.attempt import Attempt, Input, Rules
from tests.plain.ciphers import Draws, sign
from tests.plain.floats import bytes_of_singles
from tests.plain.kem import encapsulate
from tests.plain.setup import Epoch, Member, encapsulation_draw
from tests.whole import encode, outer_step

WINDOWS = Windows(formation=60, formation_attempts=3, ready=30, reconnect=5, round=600, phase=30, attempts=5)


def read(kind: str, data: bytes) -> Any:
    """Wire bytes as the product takes them from a peer. Raises ProtocolViolation."""
    return wire.from_proto(getattr(rounds_pb2, kind).FromString(data))


def message(kind: str, said: Mapping[str, Any]) -> Any:
    """A plain message as the product's, by way of the wire; it goes back to the same bytes."""
    data = plain_wire.encode(kind, said)
    found = read(kind, data)
    assert sent(found) == data
    return found


def sent(value: Any) -> bytes:
    return wire.to_proto(value).SerializeToString(deterministic=True)


def terms_of(job: bytes, rules: Rules, members: int = 3, scale: int = -6, rounds: int = 2) -> Terms:
    return Terms(
        job=job, federation="f", rounds=rounds, final_evaluation=False, ring_bits=rules.bits, clip_norm=float(rules.clip_norm),
        weight_cap=1 << 20, initial_scale_exponent=scale, min_scale_exponent=rules.lowest, max_scale_exponent=rules.highest,
        metrics=rules.metrics, min_members=members, min_jurisdictions=1, chunk_parameters=rules.chunk, blind=rules.blind,
        cipher=rules.cipher,
    )  # fmt: skip


@dataclass(frozen=True)
class Card:
    member: str
    node: str
    jurisdiction: str
    identity_key: bytes


def credentials_of(members: Sequence[Member]) -> Callable[[bytes], Card]:
    """To this protocol a credential is opaque: what identity says about it is given."""
    known = {member.credential: Card(member.id, f"{member.id}-1", "FR", member.identity) for member in members}

    def verify_credential(data: bytes) -> Card:
        if data not in known:
            raise InvalidIdentity("No officer on the roll signed this credential.")
        return known[data]

    return verify_credential


class Told(Suite):
    """The real ciphers; what they draw when they encapsulate is given."""

    def __init__(self, own: Member, epoch: Epoch) -> None:
        self._own = own.id
        self._of = {key["kem_key"]: member.id for key, member in zip(epoch.keys, epoch.members, strict=True)}

    def encapsulate(self, kem_key: bytes) -> tuple[bytes, bytes]:
        if kem_key not in self._of:
            return super().encapsulate(kem_key)
        return encapsulate(kem_key, encapsulation_draw(self._own, self._of[kem_key]))


class Lab:
    """One member's machine. What it draws are the given bytes."""

    def __init__(
        self,
        epoch: Epoch,
        index: int,
        terms: Terms,
        label: str,
        min_cohort: int | None = None,
        known: Sequence[Member] = (),
    ) -> None:
        """``known``: others whose credentials an officer signed."""
        own = epoch.members[index - 1]
        self.index, self.epoch = index, epoch
        self.draws = Draws(f"{label}/{own.id}/setup")
        self.machine = MemberMachine(
            terms,
            Me(own.id, f"{own.id}-1", own.credential, own.weight, min_cohort),
            lambda text: sign(own.seed, text),
            credentials_of([*epoch.members, *known]),
            lambda size: self.draws(size),
            suite=Told(own, epoch),
        )

    def hears(self, event: Any) -> list[Any]:
        found = self.machine.handle(event, 0.0)
        self.machine.validate()
        return found

    def told(self, kind: str, said: Mapping[str, Any]) -> list[Any]:
        return self.hears(message(kind, said))

    def setup(self) -> list[tuple[str, Any]]:
        """Through all of the setup: (kind, what the machine said) at each step."""
        epoch, said = self.epoch, []
        steps = (
            ("Form", epoch.form()),
            ("Candidates", epoch.candidates()),
            ("Roster", epoch.roster(self.index)),
            ("RosterCertificate", epoch.certificate()),
            ("Openings", epoch.opened_for(self.index)),
            ("Confirmations", epoch.confirmed()),
        )
        for kind, step in steps:
            said += [(kind, each.message) for each in self.told(kind, step) if hasattr(each, "message")]
        return said


def collector_of(epoch: Epoch, terms: Terms) -> CollectorMachine:
    return CollectorMachine(terms, WINDOWS, credentials_of(epoch.members))


def header_of(terms: Terms, weight: int, given: Input) -> Header:
    figures = {name: float(value) for name, value in given.figures.items()}
    return Header.of(terms, weight, float(given.squared_norm), figures)


def vector(given: Input) -> np.ndarray:
    return np.frombuffer(bytes_of_singles(given.difference), "<f4").copy()


def encoded(terms: Terms, attempt: Attempt, index: int, plan: Any) -> list[bytes]:
    """A member's masked update, piece by piece, under the plan that its machine made."""
    epoch = attempt.epoch
    code = codes.encoding_of(terms, epoch.n, epoch.unit)
    given = attempt.inputs[index]
    header = header_of(terms, epoch.members[index - 1].weight, given)
    return list(encode(vector(given), header, plan, code, np.array(attempt.scales, np.int8)))


def opened(terms: Terms, attempt: Attempt, fetch: Any, data: bytes) -> Sum:
    code = codes.encoding_of(terms, attempt.epoch.n, attempt.epoch.unit)
    return open_sum(data, fetch.plan, terms, code, len(fetch.cohort), fetch.total_weight, attempt.parameters)


def state_of(round_: int, weights: bytes, scales: Sequence[int]) -> ModelState:
    return ModelState(round_, {"weights": np.frombuffer(weights, "<f4").copy()}, {}, np.array(scales, np.int8))


def form_of(case: Mapping[str, Any]) -> ModelState:
    """The state that a case of the strategies begins with."""
    data = {each["name"]: bytes.fromhex(each["data"]) for each in case["state"]["arrays"]}
    arrays = {
        each["name"]: np.frombuffer(data[each["name"]], each["type"]).reshape(each["shape"]) for each in case["form"]
    }
    return ModelState(case["state"]["round"], arrays, {}, np.array(case["state"]["scales"], np.int8))


def stepped(state: ModelState, mean: np.ndarray, scales: np.ndarray) -> ModelState:
    return outer_step(StrategySpec("FedAvg", {}), state, mean, scales)


def blob(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def next_scales(scales: np.ndarray, total: Sum, cohort: int, level_bound: int, terms: Terms) -> np.ndarray:
    return outer.next_scales(scales, total.peaks, cohort, level_bound, total.saturated, terms)


def fetched(attempt: Attempt, terms: Terms) -> FetchSum:
    """What a member is to fetch, for its audit."""
    return FetchSum(
        close=message("Close", attempt.close), plan=MaskPlan(attempt.context, ()), cohort=attempt.cohort,
        total_weight=attempt.weight, weight_unit=attempt.epoch.unit, members=attempt.epoch.n, ready=attempt.ready,
    )  # fmt: skip
