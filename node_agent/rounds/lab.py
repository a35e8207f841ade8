"""What all jobs of a node share: its keys, its disk, its way to the coordinator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from federation.identity.credential import NodeCredential
from federation.identity.keys import SigningKey
from federation.identity.revocation import Cause
from federation.identity.roll import Roll
from federation.privacy.budget import Budget
from federation.v1 import rounds_pb2
from node_agent.consent.standing import Standing
from node_agent.halt.gate import OPEN, Gate
from node_agent.link.discretion import Discretion
from node_agent.rounds.disclosure import FigureBook
from node_agent.rounds.growing import GrowingUpdate
from node_agent.store.evidence import EvidenceFolder
from node_agent.store.journal import Journal


class Way(Protocol):
    """What a job needs of the link: independent of how messages travel."""

    def send(self, event: rounds_pb2.NodeEvent) -> None: ...

    async def put_update(self, job: bytes, context: bytes, update: GrowingUpdate) -> None: ...

    async def audit(self, job: bytes, context: bytes, leaf: int, members: int) -> list[rounds_pb2.AuditPart]: ...

    async def put_blob(self, digest: bytes, path: Path) -> None: ...

    async def get_blob(self, digest: bytes, path: Path, limit: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Lab:
    """What all jobs of this node share."""

    journal: Journal
    key: SigningKey
    credential: NodeCredential
    rolls: Callable[[], Roll]
    """the roll that the node holds now"""
    min_cohort: int | None
    way: Way
    evidence: EvidenceFolder
    count: Callable[[str], None]
    """metrics: one more of ..."""
    figures: FigureBook
    """what left exactly, over all jobs"""
    standing: Standing
    """whether this lab's own consent to a job stands"""
    discreet: Discretion
    """for the texts of errors that leave"""
    budgets: Mapping[str, Budget] = field(default_factory=dict)
    """of the data sets that have one"""
    gate: Gate = OPEN
    """asked before each step of a job"""
    over: Callable[[bytes, Cause], None] = lambda _job, _cause: None
    """the lab's consent to a job has ended: the job is left"""
    expect: Callable[[bytes, str, bytes], None] = lambda _document, _what, _job: None
    """the public log must hold an entry about a document (SHA-256), of this kind, of this job"""
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    @property
    def roll(self) -> Roll:
        return self.rolls()
