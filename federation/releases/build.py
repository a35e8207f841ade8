"""Makes a release's files from what the members signed. The same inputs give the same bytes.

The evidence is written first and examined as a stranger would; only then come the files that repeat it in other words. So what
does not verify is never published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from federation.errors import VerificationFailed
from federation.identity.keys import SigningKey
from federation.releases import evidence
from federation.releases.card import card_of, config_of
from federation.releases.examination import Examination
from federation.releases.listing import (
    CARD,
    CONFIG,
    LISTING,
    MANIFEST,
    MODEL,
    ROLL,
    ROSTER,
    STATE,
    TASK,
    Content,
    consent_path,
    digest_of,
    round_path,
    seal_listing,
)
from federation.releases.model import digest_of_pieces, model_pieces, state_pieces
from federation.secagg.events import Roster, RosterCertificate
from federation.secagg.messages import Announcement, Certificate, Receipt


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """A closed round, as its members signed it. ``cohort``: member ids; the certificate is what counts."""

    round: int
    attempt: int
    announcement: Announcement
    certificate: Certificate
    receipts: tuple[Receipt, ...]
    cohort: tuple[str, ...]


def build_release(
    *,
    roll: bytes,
    manifest: bytes,
    bundle: bytes,
    consents: Mapping[str, bytes],
    rosters: Sequence[tuple[Roster, RosterCertificate]],
    rounds: Sequence[RoundRecord],
    state_file: Path,
    release_key: SigningKey,
    created: str,
) -> dict[str, Content]:
    """{path: content}, the state as the path that was given where its bytes are in order. ``created``: RFC 3339.

    ``rosters``: of each epoch, from the first. ``consents``: envelopes by member; those of members in no roster stay out.
    Raises VerificationFailed, or another FederationError, when a release of this would not verify.
    """
    files: dict[str, Content] = {
        ROLL: roll,
        MANIFEST: manifest,
        TASK: bundle,
        ROSTER: evidence.encode(evidence.SignedRosters(tuple(evidence.SignedRoster(*each) for each in rosters))),
        STATE: state_file,
    }
    if len({each.round for each in rounds}) != len(rounds):
        raise VerificationFailed("A round was recorded twice.")
    for each in rounds:
        signed = evidence.SignedRound(each.announcement, each.certificate, each.receipts)
        files[round_path(each.round)] = evidence.encode(signed)
    examination = Examination(files, None, lambda: state_file)
    examination.roll()
    examination.manifest()
    examination.task()
    examination.roster()
    for member in examination.members:
        if member not in consents:
            raise VerificationFailed(f"The consent of {member} is missing, and no release is made without it.")
        files[consent_path(member)] = consents[member]
    examination.consents()
    examination.rounds()
    examination.state()
    facts = examination.facts()
    for record, found in zip(sorted(rounds, key=lambda each: each.round), facts.rounds, strict=True):
        if sorted(record.cohort) != sorted(found.cohort) or record.attempt != found.attempt:
            raise VerificationFailed(
                f"Round {found.round} was recorded with another cohort than its certificate names."
            )
    if digest_of(state_file) != digest_of_pieces(state_pieces(facts.state)):
        files[STATE] = b"".join(state_pieces(facts.state))  # a member put the right state, written in another way
    files[MODEL] = b"".join(model_pieces(facts.state))
    files[CONFIG] = config_of(facts)
    files[CARD] = card_of(facts)
    files[LISTING] = seal_listing(files, created, release_key)
    return files
