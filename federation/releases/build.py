"""Makes a release's files from what the members signed; the same inputs give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from federation.identity.keys import SigningKey
from federation.releases.listing import Content
from federation.secagg.events import Roster, RosterCertificate
from federation.secagg.messages import Announcement, Certificate, Receipt


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """A closed round, as its members signed it."""

    round: int
    attempt: int
    announcement: Announcement
    certificate: Certificate
    receipts: tuple[Receipt, ...]
    cohort: tuple[str, ...]
    metrics: Mapping[str, float]


def build_release(
    *,
    roll: bytes,
    manifest: bytes,
    bundle: bytes,
    consents: Mapping[str, bytes],
    roster: Roster,
    roster_certificate: RosterCertificate,
    rounds: Sequence[RoundRecord],
    state_file: Path,
    release_key: SigningKey,
    created: str,
) -> dict[str, Content]:
    raise NotImplementedError
