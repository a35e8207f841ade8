"""What of a release is in the public log: each document that it carries, and what the log's entry about it says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from federation.identity.credential import NodeCredential
from federation.manifest.manifest import Manifest
from federation.releases.facts import RoundFacts
from federation.releases.listing import APPROVAL, consent_path, revocation_path
from federation.secagg.certificate import Bench
from federation.secagg.setup import FIRST_EPOCH


@dataclass(frozen=True, slots=True)
class Claim:
    """A document of the release, and what the log's entry about it says."""

    what: str
    kind: str
    fields: Mapping[str, str]
    document: bytes
    """its SHA-256"""


@dataclass(frozen=True, slots=True)
class RoundClaims:
    round: int
    epoch: int
    cohort: tuple[str, ...]
    closed: Claim
    """of the cohort's certificate"""
    certified: Claim
    """of the receipts"""


@dataclass(frozen=True, slots=True)
class Claims:
    """What of a release is in the log, by what its other checks have established."""

    job: bytes
    submission: Claim
    consents: Mapping[str, Claim]
    revocations: Mapping[str, Claim]
    """of the consents that were taken back, by member"""
    rosters: Sequence[Claim]
    """of each epoch, from the first"""
    joined: Mapping[str, int]
    """member -> the first epoch that it was in"""
    rounds: Sequence[RoundClaims]
    approval: Claim | None
    """the members' vote; None where there was none"""
    subject: bytes
    """the release's"""


def claims_of(
    manifest: Manifest,
    benches: Mapping[int, Bench],
    formed: Sequence[bytes],
    credentials: Mapping[str, NodeCredential],
    revoked: Sequence[str],
    rounds: Sequence[RoundFacts],
    subject: bytes,
    voted: bool,
    read: Callable[[str], bytes],
) -> Claims:
    """``formed``: SHA-256 of each epoch's certificate. ``revoked``: members whose revocation is carried. ``read``: of a path."""
    job = {"job": manifest.digest.hex()}

    def of_node(kind: str, path: Callable[[str], str], member: str, **more: str) -> Claim:
        fields = {**job, "member": member, "node": credentials[member].node, **more}
        return Claim(f"the {kind} of {member}", kind, fields, sha256(read(path(member))))

    joined: dict[str, int] = {}
    for epoch, bench in sorted(benches.items()):
        for seat in bench.seats:
            joined.setdefault(seat.member, epoch)
    decided = {**job, "release": subject.hex(), "state": "approved"}
    return Claims(
        job=manifest.digest,
        submission=Claim("the job", "submission", job, sha256(manifest.envelope)),
        consents={member: of_node("consent", consent_path, member, state="granted") for member in joined},
        revocations={member: of_node("revocation", revocation_path, member) for member in revoked},
        rosters=[
            Claim(f"the roster of epoch {epoch}", "roster", {**job, "epoch": str(epoch)}, digest)
            for epoch, digest in enumerate(formed, start=FIRST_EPOCH)
        ],
        joined=joined,
        rounds=[_round(each, job) for each in rounds],
        approval=Claim("the members' vote on the release", "release", decided, sha256(read(APPROVAL)))
        if voted
        else None,
        subject=subject,
    )


def _round(each: RoundFacts, job: Mapping[str, str]) -> RoundClaims:
    named = {**job, "round": str(each.round)}
    closed = {**named, "attempt": str(each.attempt), "outcome": "closed"}
    return RoundClaims(
        each.round,
        each.epoch,
        each.cohort,
        Claim(f"the cohort of round {each.round}", "round-closed", closed, each.certificate),
        Claim(f"the model after round {each.round}", "certificate", named, each.receipts),
    )


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
