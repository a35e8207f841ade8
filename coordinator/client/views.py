"""What a coordinator tells about jobs and nodes, as nouns of this SDK. Every text came from a peer: it is shown, never trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from federation.v1 import jobs_pb2

ENDED: Final = frozenset({"finished", "failed", "withdrawn", "stopped"})


@dataclass(frozen=True, slots=True)
class Consent:
    member: str
    node: str
    state: str
    """asked | granted | denied | revoked | expired"""
    reasons: tuple[str, ...]
    envelope: bytes = field(repr=False)
    """the signed consent or denial, verbatim; empty while it is asked"""

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
        return self._figure("loss")

    @property
    def accuracy(self) -> float | None:
        return self._figure("acc")

    def _figure(self, word: str) -> float | None:
        """The evaluated figure if there is one, else the trained one."""
        for prefix in ("evaluate/", "train/"):
            for name in sorted(self.metrics):
                if name.startswith(prefix) and word in name:
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
            "seconds": self.seconds,
            "metrics": dict(self.metrics),
            "bytesUp": self.bytes_up,
            "weight": self.weight,
            "reason": self.reason,
            "phaseSeconds": dict(self.phase_seconds),
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

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def current(self) -> Round | None:
        """The newest round and attempt, if any was announced."""
        return self.rounds[-1] if self.rounds else None

    def as_document(self) -> dict[str, object]:
        return {
            "digest": self.digest.hex(),
            "name": self.name,
            "state": self.state,
            "reason": self.reason,
            "lead": self.lead,
            "created": self.created,
            "roundsTotal": self.rounds_total,
            "roundsClosed": self.rounds_closed,
            "epoch": self.epoch,
            "roster": list(self.roster),
            "consents": [consent.as_document() for consent in self.consents],
            "rounds": [item.as_document() for item in self.rounds],
            "release": self.release.hex(),
            "story": list(self.lines),
        }


@dataclass(frozen=True, slots=True)
class LogLine:
    time: str
    member: str
    """empty: the coordinator itself"""
    text: str


@dataclass(frozen=True, slots=True)
class Node:
    member: str
    node: str
    jurisdiction: str
    state: str
    connected: bool
    last_seen: str
    offer: str
    """what it offers to jobs, in words"""

    def as_document(self) -> dict[str, object]:
        return {
            "member": self.member,
            "node": self.node,
            "jurisdiction": self.jurisdiction,
            "state": self.state,
            "connected": self.connected,
            "lastSeen": self.last_seen,
            "offer": self.offer,
        }


@dataclass(frozen=True, slots=True)
class FederationState:
    federation: str
    roll: bytes = field(repr=False)
    """the roll's envelope as the coordinator holds it; believe only what its signatures say"""
    nodes: tuple[Node, ...]


def job_of(view: jobs_pb2.JobView) -> Job:
    return Job(
        digest=view.job,
        name=view.name,
        state=view.state,
        reason=view.reason,
        lead=view.lead,
        created=view.created,
        rounds_total=view.rounds_total,
        rounds_closed=view.rounds_closed,
        consents=tuple(
            Consent(item.member, item.node, item.state, tuple(item.reasons), item.envelope) for item in view.consents
        ),
        rounds=tuple(round_of(item) for item in view.rounds),
        roster=tuple(view.roster),
        epoch=view.epoch,
        manifest=view.manifest,
        release=view.release,
        lines=tuple(view.lines),
    )


def round_of(view: jobs_pb2.RoundView) -> Round:
    return Round(
        round=view.round,
        attempt=view.attempt,
        phase=view.phase,
        ready=tuple(view.ready),
        cohort=tuple(view.cohort),
        lost=tuple(view.lost),
        seconds=view.seconds,
        metrics=dict(view.metrics),
        bytes_up=view.bytes_up,
        weight=view.weight,
        reason=view.reason,
        phase_seconds=dict(view.phase_seconds),
    )


def node_of(view: jobs_pb2.NodeView) -> Node:
    offer = view.offer
    words = [f"{len(offer.gpus)} GPU" + ("s" if len(offer.gpus) != 1 else "")]
    words += sorted({gpu.model for gpu in offer.gpus})
    words += [f"{offer.cpus} CPUs", f"{offer.memory_bytes / (1 << 30):.1f} GiB"]
    return Node(view.member, view.node, view.jurisdiction, view.state, view.connected, view.last_seen, ", ".join(words))
