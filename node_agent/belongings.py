"""What a node has of its own, and each of its rooms works with: names, keys, papers, disk, and the way out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from federation.identity.credential import NodeCredential
from federation.identity.keys import SigningKey
from federation.identity.roll import Roll
from node_agent.catalogue.inventories import Inventories
from node_agent.catalogue.versions import SealedVersions
from node_agent.consent.decision import Situation
from node_agent.consent.lapses import Lapses
from node_agent.halt.halts import Halts
from node_agent.link.stream import Link
from node_agent.membership import Membership
from node_agent.rounds.files import JobFiles
from node_agent.rounds.workshop import workshop_of
from node_agent.settings import Home, NodeSettings
from node_agent.store.journal import Journal
from node_agent.store.revocations import Revocations
from node_agent.tasks import Tasks
from node_agent.telemetry.metrics import NodeMetrics


@dataclass(frozen=True, slots=True)
class Belongings:
    home: Home
    settings: NodeSettings
    key: SigningKey
    credential: NodeCredential
    membership: Membership
    journal: Journal
    revocations: Revocations
    lapses: Lapses
    halts: Halts
    inventories: Inventories
    sealed: SealedVersions
    link: Link
    metrics: NodeMetrics
    situation: Callable[[], Situation]
    """in which a job is decided on now; raises FederationError where nobody can tell it"""
    tasks: Tasks = field(default_factory=Tasks)

    @property
    def roll(self) -> Roll:
        return self.membership.roll

    def files(self, job: bytes) -> JobFiles:
        return JobFiles(self.home.jobs / job.hex(), workshop_of(self.settings))

    def grew(self, job: bytes, name: str, consented: bytes) -> bool:
        """Whether a data set holds all that it held in the version that was consented to, and more. Raises OSError."""
        held = self.settings.data_sets.get(name)
        return held is not None and self.inventories.grew(job, name, Path(held.path), consented)
