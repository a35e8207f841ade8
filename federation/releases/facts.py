"""What the checked files of a release establish: all that its config, card, bill of materials and statement are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from federation.audit.checkpoint import VerifierKey
from federation.catalogue.entry import Entry
from federation.governance.ballot import Decision
from federation.identity.consent import Consent
from federation.identity.revocation import Revocation
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
    epoch: int
    certificate: bytes
    """SHA-256 of the cohort's certificate, as the log names it"""
    receipts: bytes
    """SHA-256 of the receipts, as the log names them"""


@dataclass(frozen=True, slots=True)
class LogFacts:
    """What the public log proves (``federation.releases.logged``)."""

    key: VerifierKey
    size: int
    time: int
    """of the head, in seconds since 1970, as the log says"""
    first: int
    witnesses: tuple[str, ...]
    """members of the last roster whose nodes cosigned the head, sorted"""
    revoked_before: Mapping[str, int]
    """member -> the round that closed first after its revocation stood in the log; 0: none closed after it"""


@dataclass(frozen=True, slots=True)
class Facts:
    roll: Roll
    manifest: Manifest
    seats: tuple[Seat, ...]
    consents: Mapping[str, Consent]
    """of each member of a roster"""
    described: Mapping[str, tuple[Entry, ...]]
    """what each laboratory publishes of the data sets that its consent binds"""
    revocations: Mapping[str, Revocation]
    """of the consents that were taken back, or have ended, while the job ran"""
    rounds: tuple[RoundFacts, ...]
    verdicts: tuple[Verdict, ...]
    """of the job's gates, all passed"""
    subject: bytes
    """what members vote on (``federation.releases.approval``)"""
    decision: Decision | None
    """their vote; None where none is needed"""
    log: LogFacts
    state_digest: bytes
    """of the final state, as the members signed it"""
    state: ModelState | None
    """None where it is sealed"""

    @property
    def data_sets(self) -> Mapping[str, str]:
        """The data set of each member."""
        return {member: consent.data_set for member, consent in self.consents.items()}

    @property
    def approved_by(self) -> tuple[str, ...]:
        return () if self.decision is None else approvers(self.decision)

    @property
    def approved(self) -> datetime | None:
        """When the last vote was cast that counts."""
        if self.decision is None:
            return None
        return max(vote.cast for vote in self.decision.votes)
