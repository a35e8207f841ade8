"""What the checked files of a release establish: all that its config, card, bill of materials and statement are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from federation.governance.ballot import Decision
from federation.identity.roll import Roll
from federation.manifest.manifest import Manifest
from federation.releases.approval import approvers
from federation.releases.gates import Verdict
from federation.secagg.messages import Seat
from federation.weights.state import ModelState

LIMITS: Final = (
    "Figures are what members' tasks reported on their own data, as sums. Nobody checked that a task told the truth.",
    "Members prove that they agreed, not that they trained well: up to f of them may have lied.",
    "The data never left the members: who holds this release can judge it by its figures, and not by the data.",
)


@dataclass(frozen=True, slots=True)
class RoundFacts:
    round: int
    attempt: int
    cohort: tuple[str, ...]
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Facts:
    roll: Roll
    manifest: Manifest
    seats: tuple[Seat, ...]
    data_sets: Mapping[str, str]
    """the data set of each member, from its consent"""
    rounds: tuple[RoundFacts, ...]
    verdicts: tuple[Verdict, ...]
    """of the job's gates, all passed"""
    subject: bytes
    """what members vote on (``federation.releases.approval``)"""
    decision: Decision | None
    """their vote; None where none is needed"""
    state_digest: bytes
    """of the final state, as the members signed it"""
    state: ModelState | None
    """None where it is sealed"""

    @property
    def approved_by(self) -> tuple[str, ...]:
        return () if self.decision is None else approvers(self.decision)

    @property
    def approved(self) -> datetime | None:
        """When the last vote was cast that counts."""
        if self.decision is None:
            return None
        return max(vote.cast for vote in self.decision.votes)
