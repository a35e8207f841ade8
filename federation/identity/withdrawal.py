"""A lead withdraws a job: signed with the key that signed its manifest."""

from __future__ import annotations

from dataclasses import dataclass

from federation.errors import InvalidIdentity
from federation.identity.envelope import open_envelope, seal
from federation.identity.fields import exact, hexadecimal, text
from federation.identity.keys import SigningKey

MAX_ENVELOPE = 1 << 14


@dataclass(frozen=True, slots=True)
class Withdrawal:
    job: bytes
    reason: str


def seal_withdrawal(job: bytes, reason: str, key: SigningKey) -> bytes:
    return seal({"job": job.hex(), "reason": reason}, "withdrawal", (key,))


def withdrawn_job(envelope: bytes) -> bytes:
    """Which job a withdrawal names, before anything about its signer is known. Raises InvalidIdentity."""
    opened = open_envelope(envelope, "withdrawal", MAX_ENVELOPE)
    return hexadecimal(exact(opened.document, "withdrawal", "job", "reason")["job"], "withdrawal's job", 32)


def open_withdrawal(envelope: bytes, job: bytes, lead_key: bytes) -> Withdrawal:
    """Raises InvalidIdentity unless the lead with ``lead_key`` withdrew exactly ``job`` (the manifest's digest)."""
    opened = open_envelope(envelope, "withdrawal", MAX_ENVELOPE)
    if opened.signers != (lead_key,):
        raise InvalidIdentity(
            "The withdrawal is not signed by the lead who submitted the job.",
            hint="Cancel it from the home that holds the key with which the job was signed.",
        )
    document = exact(opened.document, "withdrawal", "job", "reason")
    if hexadecimal(document["job"], "withdrawal's job", 32) != job:
        raise InvalidIdentity("The withdrawal names another job.")
    return Withdrawal(job, text(document["reason"], "withdrawal's reason"))
