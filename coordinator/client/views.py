"""What a coordinator tells about jobs and nodes, as nouns of this SDK. Every text came from a peer: it is shown, never trusted.

Control characters end here: a text that holds some comes out with spaces in their place, whatever is done with it later. Signed
envelopes stay verbatim.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from coordinator.client import markup
from coordinator.client.figures import is_accuracy, is_loss
from coordinator.client.terminal import amount, plain
from federation.errors import FederationError, InvalidIdentity
from federation.governance.holding import open_holding
from federation.identity.credential import once_verified
from federation.identity.envelope import open_envelope
from federation.identity.roll import Roll
from federation.v1 import jobs_pb2

ENDED: Final = frozenset({"finished", "failed", "withdrawn", "stopped"})
ALL_DAY: Final = "00:00-24:00"
ROUND_HEADINGS: Final = ("ROUND", "PHASE", "COHORT", "LOSS", "ACCURACY", "UP", "SECONDS", "LOST")
ROUND_NUMBERS: Final = ("LOSS", "ACCURACY", "UP", "SECONDS")
MINUTE: Final = len("2026-01-31T12:00")
NODE_HEADINGS: Final = ("MEMBER", "NODE", "JURISDICTION", "STATE", "CONNECTED", "ROLL", "OFFERS")


@dataclass(frozen=True, slots=True)
class Consent:
    member: str
    node: str
    state: str
    """asked | granted | denied | refused (the node could not decide; the reason says why) | revoked | expired"""
    reasons: tuple[str, ...]
    envelope: bytes = field(repr=False)
    """the signed consent or denial, verbatim; empty while it is asked"""

    @property
    def row(self) -> tuple[str, str, str]:
        return f"{self.member}/{self.node}", self.state, "; ".join(self.reasons)

    def as_document(self) -> dict[str, object]:
        return {"member": self.member, "node": self.node, "state": self.state, "reasons": list(self.reasons)}


@dataclass(frozen=True, slots=True)
class Round:
    round: int
    attempt: int
    phase: str
    """announced | collecting | certifying | revealing | closed | aborted | void"""
    ready: tuple[str, ...]
    cohort: tuple[str, ...]
    lost: tuple[str, ...]
    seconds: float
    metrics: Mapping[str, float]
    """weighted means of the declared metrics, by "train/<name>" and "evaluate/<name>\""""
    bytes_up: int
    """masked bytes received from all members together"""
    weight: float
    reason: str
    phase_seconds: Mapping[str, float]

    @property
    def loss(self) -> float | None:
        return self._figure(is_loss)

    @property
    def accuracy(self) -> float | None:
        return self._figure(is_accuracy)

    def row(self, rounds_total: int) -> tuple[str, ...]:
        """Below ``ROUND_HEADINGS``. The round after the last one moves no model: it evaluates the final one."""
        number = "final" if self.round > rounds_total else str(self.round)
        return (
            number + (f".{self.attempt}" if self.attempt else ""),
            self.phase,
            " ".join(self.cohort or self.ready),
            "" if self.loss is None else f"{self.loss:.4f}",
            "" if self.accuracy is None else f"{self.accuracy:.4f}",
            amount(self.bytes_up),
            f"{self.seconds:.2f}",
            " ".join(self.lost),
        )

    def _figure(self, wanted: Callable[[str], bool]) -> float | None:
        """The evaluated figure if there is one, else the trained one."""
        for prefix in ("evaluate/", "train/"):
            for name in sorted(self.metrics):
                if name.startswith(prefix) and wanted(name):
                    return self.metrics[name]
        return None

    def as_document(self) -> dict[str, object]:
        return {
            "round": self.round,
            "attempt": self.attempt,
            "phase": self.phase,
            "ready": list(self.ready),
            "cohort": list(self.cohort),
            "lost": list(self.lost),
            "seconds": _number(self.seconds),
            "metrics": {name: _number(value) for name, value in self.metrics.items()},
            "bytesUp": self.bytes_up,
            "weight": _number(self.weight),
            "reason": self.reason,
            "phaseSeconds": {name: _number(value) for name, value in self.phase_seconds.items()},
        }


@dataclass(frozen=True, slots=True)
class Job:
    digest: bytes
    """SHA-256 of the canonical manifest: the job's identity"""
    name: str
    state: str
    """submitted | consulting | ready | running | held | finished | failed | withdrawn | stopped"""
    reason: str
    lead: str
    created: str
    rounds_total: int
    rounds_closed: int
    consents: tuple[Consent, ...]
    rounds: tuple[Round, ...]
    roster: tuple[str, ...]
    epoch: int
    manifest: bytes = field(repr=False)
    """the signed envelope, verbatim"""
    release: bytes
    lines: tuple[str, ...]

    def _repr_html_(self) -> str:
        what = {"state": self.state, "why": self.reason, "lead": self.lead, "created": self.created}
        parts = [
            markup.fields(what | {"rounds": f"{self.rounds_closed} of {self.rounds_total}"}, f"job/{self.name}"),
            markup.table(("node", "state", "reasons"), (each.row for each in self.consents), "Consents"),
            markup.table(
                ROUND_HEADINGS, (each.row(self.rounds_total) for each in self.rounds), "Rounds", ROUND_NUMBERS
            ),
        ]
        return "".join(parts)

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def current(self) -> Round | None:
        """The newest round and attempt, if any was announced."""
        return self.rounds[-1] if self.rounds else None

    def settled(self, item: Round) -> bool:
        """Whether all is told of an attempt that is over: a closed round's figures come later, with its members' receipts."""
        if item.phase != "closed":
            return item.phase in {"aborted", "void"}
        return bool(item.metrics) or self.ended or self.rounds[-1].round > item.round

    def signed_document(self) -> dict[str, Any]:
        """The job with all its defaults, as the lead signed it. Raises InvalidIdentity when the envelope is not that of this job.

        Whether that lead is on the roll is not asked here.
        """
        opened = open_envelope(self.manifest, "manifest")
        if opened.digest != self.digest:
            raise InvalidIdentity(
                "The coordinator sent the manifest of another job.", hint="Do not rely on it; tell the operator."
            )
        return dict(opened.document)

    def as_summary(self) -> dict[str, object]:
        """What a list of jobs tells of each."""
        return {
            "name": self.name,
            "digest": self.digest.hex(),
            "state": self.state,
            "reason": self.reason,
            "lead": self.lead,
            "created": self.created,
            "roundsTotal": self.rounds_total,
            "roundsClosed": self.rounds_closed,
            "release": self.release.hex(),
        }

    def as_document(self) -> dict[str, object]:
        """Everything; without "manifest" when the coordinator sent none that is this job's."""
        whole = {
            **self.as_summary(),
            "epoch": self.epoch,
            "roster": list(self.roster),
            "consents": [consent.as_document() for consent in self.consents],
            "rounds": [item.as_document() for item in self.rounds],
            "story": list(self.lines),
        }
        try:
            return {**whole, "manifest": self.signed_document()}
        except InvalidIdentity:
            return whole


@dataclass(frozen=True, slots=True)
class LogLine:
    time: str
    member: str
    """empty: the coordinator itself"""
    text: str


@dataclass(frozen=True, slots=True)
class Offer:
    """What a node lends to jobs."""

    gpus: tuple[tuple[str, int], ...]
    """model and memory in bytes of each"""
    cpus: int
    memory_bytes: int
    hours: str
    sandbox: str
    python: str

    @property
    def words(self) -> str:
        if not self.cpus:
            return ""
        parts = [f"{len(self.gpus) or 'no'} GPU{'' if len(self.gpus) == 1 else 's'}"]
        parts += sorted({f"{model} ({amount(memory)})" for model, memory in self.gpus})
        parts += [f"{self.cpus} CPU{'' if self.cpus == 1 else 's'}", amount(self.memory_bytes)]
        parts += [self.hours] if self.hours not in {"", ALL_DAY} else []
        parts += [f"sandbox: {self.sandbox}"] if self.sandbox else []
        return ", ".join(parts)

    def as_document(self) -> dict[str, object]:
        return {
            "gpus": [{"model": model, "memoryBytes": memory} for model, memory in self.gpus],
            "cpus": self.cpus,
            "memoryBytes": self.memory_bytes,
            "hours": self.hours,
            "sandbox": self.sandbox,
            "python": self.python,
        }


@dataclass(frozen=True, slots=True)
class Node:
    member: str
    node: str
    jurisdiction: str
    state: str
    connected: bool
    last_seen: str
    offer: Offer
    roll: int = 0
    """the version of the roll that the node has said, signed, that it holds; 0 where it has not"""

    @property
    def row(self) -> tuple[str, ...]:
        """Below ``NODE_HEADINGS``."""
        connected, roll = "yes" if self.connected else "no", str(self.roll or "-")
        return self.member, self.node, self.jurisdiction, self.state, connected, roll, self.offer.words

    def as_document(self) -> dict[str, object]:
        return {
            "member": self.member,
            "node": self.node,
            "jurisdiction": self.jurisdiction,
            "state": self.state,
            "connected": self.connected,
            "lastSeen": self.last_seen,
            "offer": self.offer.as_document(),
            "roll": self.roll or None,
        }


@dataclass(frozen=True, slots=True)
class FederationState:
    federation: str
    roll: bytes = field(repr=False)
    """the roll's envelope as the coordinator holds it; believe only what its signatures say"""
    nodes: tuple[Node, ...]

    def _repr_html_(self) -> str:
        return markup.table(NODE_HEADINGS, (each.row for each in self.nodes), f"Nodes of {self.federation}")


class Jobs(list[Job]):
    """Newest as the coordinator lists them; a table in a notebook."""

    HEADINGS: Final = ("NAME", "STATE", "ROUNDS", "LEAD", "CREATED", "DIGEST", "REASON")

    def rows(self) -> list[tuple[str, ...]]:
        return [
            (
                job.name,
                job.state,
                f"{job.rounds_closed}/{job.rounds_total}",
                job.lead,
                job.created[:MINUTE].replace("T", " "),
                job.digest.hex()[:12],
                job.reason,
            )
            for job in self
        ]

    def _repr_html_(self) -> str:
        return markup.table(self.HEADINGS, self.rows(), "Jobs")


def job_of(view: jobs_pb2.JobView) -> Job:
    return Job(
        digest=view.job,
        name=plain(view.name),
        state=plain(view.state),
        reason=plain(view.reason),
        lead=plain(view.lead),
        created=plain(view.created),
        rounds_total=view.rounds_total,
        rounds_closed=view.rounds_closed,
        consents=tuple(
            Consent(plain(item.member), plain(item.node), plain(item.state), _all(item.reasons), item.envelope)
            for item in view.consents
        ),
        rounds=tuple(round_of(item) for item in view.rounds),
        roster=_all(view.roster),
        epoch=view.epoch,
        manifest=view.manifest,
        release=view.release,
        lines=_all(view.lines),
    )


def round_of(view: jobs_pb2.RoundView) -> Round:
    return Round(
        round=view.round,
        attempt=view.attempt,
        phase=plain(view.phase),
        ready=_all(view.ready),
        cohort=_all(view.cohort),
        lost=_all(view.lost),
        seconds=view.seconds,
        metrics={plain(name): value for name, value in sorted(view.metrics.items())},
        bytes_up=view.bytes_up,
        weight=view.weight,
        reason=plain(view.reason),
        phase_seconds={plain(name): value for name, value in sorted(view.phase_seconds.items())},
    )


def line_of(line: jobs_pb2.LogLine) -> LogLine:
    return LogLine(plain(line.time), plain(line.member), plain(line.text))


def roll_held(view: jobs_pb2.NodeView, roll: Roll) -> int:
    """Which version of the roll the node itself says that it holds; 0 when that is not its own word."""
    try:
        credential = once_verified(view.credential, roll)
        said = open_holding(view.roll_held, credential.identity_key)
    except FederationError:
        return 0
    own = (said.federation, said.member, said.node) == (credential.federation, credential.member, credential.node)
    named = (credential.member, credential.node) == (view.member, view.node)
    return said.version if own and named and roll.line.get(said.version, said.roll) == said.roll else 0


def node_of(view: jobs_pb2.NodeView, roll: Roll | None = None) -> Node:
    offer = Offer(
        gpus=tuple((plain(gpu.model), gpu.memory_bytes) for gpu in view.offer.gpus),
        cpus=view.offer.cpus,
        memory_bytes=view.offer.memory_bytes,
        hours=plain(view.offer.hours),
        sandbox=plain(view.offer.sandbox),
        python=plain(view.offer.python),
    )
    return Node(
        plain(view.member),
        plain(view.node),
        plain(view.jurisdiction),
        plain(view.state) if roll is None else state_by(view, roll),
        view.connected,
        plain(view.last_seen),
        offer,
        roll_held(view, roll) if roll is not None else 0,
    )


def state_by(view: jobs_pb2.NodeView, roll: Roll) -> str:
    """The reader's own roll comes first: no coordinator shows a node as active that the members have put out."""
    member = next((each for each in roll.members if each.id == view.member), None)
    if member is None:
        return plain(view.state)
    with contextlib.suppress(FederationError):
        credential = once_verified(view.credential, roll)
        if roll.node_revoked(credential.member, credential.identity_key):
            return "revoked"
    return plain(view.state) if member.active and roll.tier_of(member).nodes else "suspended"


def _number(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if math.isfinite(value) else None


def _all(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(plain(text) for text in texts)
