"""Makes a release's files from what the members signed, and opens one that is sealed. The same inputs give the same bytes.

The evidence is written first and examined as a stranger would; only then come the files that repeat it in other words. So what
does not verify is never published.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from federation.errors import InvalidUsage, VerificationFailed
from federation.identity.keys import SigningKey
from federation.releases import evidence
from federation.releases.bom import bom_of
from federation.releases.card import card_of
from federation.releases.config import config_of, predicate_of
from federation.releases.examination import Examination
from federation.releases.facts import Facts
from federation.releases.listing import (
    APPROVAL,
    BOM,
    CARD,
    CLOSED,
    CONFIG,
    KEYS,
    LISTING,
    LOG,
    MADE,
    MANIFEST,
    MODEL,
    ROLL,
    ROSTER,
    SEALED,
    STATE,
    STATEMENT,
    TASK,
    Content,
    consent_path,
    digest_of,
    pieces_of,
    revocation_path,
    round_path,
    seal_listing,
)
from federation.releases.model import digest_of_pieces, model_pieces, state_pieces
from federation.releases.statement import seal_statement, statement_of
from federation.sealing import recipient_key, release_purpose, unseal, unwrap
from federation.secagg.events import Roster, RosterCertificate
from federation.secagg.messages import Announcement, Certificate, Receipt, Sealing


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """A closed round, as its members signed it. ``cohort``: member ids; the certificate is what counts."""

    round: int
    attempt: int
    announcement: Announcement
    certificate: Certificate
    receipts: tuple[Receipt, ...]
    cohort: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What there is when the rounds are over, before anybody has given a model."""

    roll: bytes
    manifest: bytes
    bundle: bytes
    consents: Mapping[str, bytes]
    """envelopes by member; those of members in no roster stay out"""
    rosters: Sequence[tuple[Roster, RosterCertificate]]
    """of each epoch, from the first"""
    rounds: Sequence[RoundRecord]
    revocations: Mapping[str, bytes] = field(default_factory=dict)
    """envelopes by member, of consents that were taken back; those of members in no roster stay out"""


def evidence_files(held: Evidence) -> dict[str, Content]:
    """Raises VerificationFailed where a member's consent is missing, or a round was recorded twice."""
    signed_rosters = tuple(evidence.SignedRoster(*each) for each in held.rosters)
    files: dict[str, Content] = {
        ROLL: held.roll,
        MANIFEST: held.manifest,
        TASK: held.bundle,
        ROSTER: evidence.encode(evidence.SignedRosters(signed_rosters)),
    }
    if len({each.round for each in held.rounds}) != len(held.rounds):
        raise VerificationFailed("A round was recorded twice.")
    for each in held.rounds:
        signed = evidence.SignedRound(each.announcement, each.certificate, each.receipts)
        files[round_path(each.round)] = evidence.encode(signed)
    examination = Examination(files, None, Path)
    examination.roll()
    examination.manifest()
    examination.task()
    examination.roster()
    for member in examination.members:
        if member not in held.consents:
            raise VerificationFailed(f"The consent of {member} is missing, and no release is made without it.")
        files[consent_path(member)] = held.consents[member]
        if member in held.revocations:
            files[revocation_path(member)] = held.revocations[member]
    return files


def proposed(files: Mapping[str, Content], trusted_roll: bytes | None = None) -> bytes:
    """The subject of the release that this evidence is for: what members vote on. Raises a FederationError where it does not
    check, or a gate has failed."""
    examination = Examination(files, trusted_roll, Path)
    for name, step in examination.steps().items():
        if name == "approval":
            break
        step()
    return examination.subject


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
    log: bytes,
    revocations: Mapping[str, bytes] | None = None,
    sealings: Sequence[Sealing] = (),
    decision: bytes | None = None,
) -> dict[str, Content]:
    """{path: content}, the state as the path that was given where its bytes are in order. ``created``: RFC 3339.

    ``log``: the public log from the job's submission on, as ``federation.audit.excerpt`` encodes it, under a head that a quorum of
    the last roster's nodes cosigned. ``revocations``: envelopes by member; that none which the log has is missing is checked.

    ``decision``: the members' vote, where charter or job ask for one.

    ``state_file``: sealed where there are ``sealings``, else in clear.

    ``rosters``: of each epoch, from the first. ``consents``: envelopes by member; those of members in no roster stay out.
    Raises VerificationFailed, or another FederationError, when a release of this would not verify.
    """
    held = Evidence(roll, manifest, bundle, consents, rosters, rounds, revocations or {})
    files = evidence_files(held)
    files[LOG] = log
    if decision is not None:
        files[APPROVAL] = decision
    files |= {SEALED: state_file, KEYS: evidence.encode(evidence.SealedKeys(tuple(sealings)))} if sealings else {}
    if not sealings:
        files[STATE] = state_file
    examination = Examination(files, None, lambda: state_file)
    for step in examination.steps().values():
        step()
    facts = examination.facts()
    for record, found in zip(sorted(rounds, key=lambda each: each.round), facts.rounds, strict=True):
        if sorted(record.cohort) != sorted(found.cohort) or record.attempt != found.attempt:
            raise VerificationFailed(
                f"Round {found.round} was recorded with another cohort than its certificate names."
            )
    return _with_summaries(files, facts, created, release_key)


def open_release(
    files: Mapping[str, Content], private: bytes, scratch: Path, key: SigningKey, created: str
) -> dict[str, Content]:
    """The same release with its state in clear, listed under ``key``; files are written to the folder ``scratch``.

    ``private``: a recipient's sealing key. Raises FederationError when the release does not check, is not sealed for this
    recipient, or holds another state than the one that the members signed.
    """
    if SEALED not in files:
        raise InvalidUsage("The release is not sealed.", hint="Its model.safetensors can be used as it is.")
    sealed = Examination(files, None, lambda: scratch)
    for step in sealed.steps().values():
        step()
    facts = sealed.facts()
    recipients, own = facts.manifest.recipients, recipient_key(private)
    if own not in recipients:
        raise VerificationFailed(
            "The release is not sealed for this key.", hint="Only the recipients that config.json names can open it."
        )
    purpose = release_purpose(facts.manifest.digest, facts.state_digest)
    state_file = scratch / STATE
    for sealing in sealed.sealings:
        try:
            file_key = unwrap(private, sealing.wrapped[recipients.index(own)], purpose)
            _write(state_file, unseal(file_key, pieces_of(files[SEALED])))
            break
        except VerificationFailed:  # this member lied about the key; another did not
            state_file.unlink(missing_ok=True)
    else:
        raise VerificationFailed(
            "No member's key opens the sealed file.", hint="Fetch the release again; tell the members."
        )
    evidence_files = {path: content for path, content in files.items() if path not in (*CLOSED, *MADE, LISTING)}
    opened = {**evidence_files, STATE: state_file}
    examination = Examination(opened, None, lambda: state_file)
    for step in examination.steps().values():
        step()
    return _with_summaries(opened, examination.facts(), created, key)


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    with path.open("wb") as stream:
        for piece in pieces:
            stream.write(piece)


def _with_summaries(files: Mapping[str, Content], facts: Facts, created: str, key: SigningKey) -> dict[str, Content]:
    """With the files that say again what the others say."""
    made = dict(files)
    if facts.state is not None:
        if digest_of(made[STATE]) != digest_of_pieces(state_pieces(facts.state)):
            made[STATE] = b"".join(state_pieces(facts.state))  # a member put the right state, written in another way
        made[MODEL] = b"".join(model_pieces(facts.state))
    made[CONFIG] = config_of(facts)
    made[CARD] = card_of(facts)
    made[BOM] = bom_of(facts, {path: digest_of(content) for path, content in made.items() if path not in MADE})
    digests = {path: digest_of(content) for path, content in made.items() if path != STATEMENT}
    made[STATEMENT] = seal_statement(statement_of(digests, predicate_of(facts)), key)
    made[LISTING] = seal_listing(made, created, key)
    return made
