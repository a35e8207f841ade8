"""A node takes its consent back, or says that it has ended: signed with its identity key, final for this job.

Nothing undoes it: whoever wants to take part after all is asked about another manifest. It names the envelope of the consent that
it ends, so that it cannot be turned against another. Why, in a person's words, stays at the lab; what the lab's rules say is told,
as it is in a denial.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, get_args

from federation.errors import InvalidIdentity
from federation.identity.credential import NodeCredential
from federation.identity.envelope import Opened, open_envelope, seal
from federation.identity.fields import exact, hexadecimal, moment, moment_text, texts
from federation.identity.keys import SigningKey
from federation.identity.names import checked_label

MAX_ENVELOPE: Final = 1 << 14
KIND: Final = "revocation"
FIELDS: Final = ("job", "consent", "member", "node", "cause", "by", "issued")
RULES: Final = (*FIELDS, "reasons")
Cause = Literal["person", "expired", "data", "rules"]
TAKEN_BACK: Final = frozenset({"person", "rules"})
"""causes by which the lab took it back; by the others its time, or what it was given for, was over"""
MOST_LETTERS: Final = 8000
"""of all reasons together: what the rules say beyond it stays at the lab"""
CAUSES: Final[dict[str, str]] = {
    "person": "revoked",
    "expired": "expired",
    "data": "ended, since the data is another than was consented to",
    "rules": "revoked",
}


@dataclass(frozen=True, slots=True)
class Revocation:
    job: bytes
    """digest of the manifest, or of the study"""
    consent: bytes
    """SHA-256 of the envelope of the consent that ends"""
    member: str
    node: str
    cause: Cause
    """person: somebody at the lab took it back; expired: its time has passed; data: the data set is another by now; rules: the
    lab's rules, or what they rest on, changed, and they would not give it any more"""
    by: str
    """the role that decided; ``policy`` where nobody did"""
    issued: datetime
    reasons: tuple[str, ...] = ()
    """of cause ``rules``: what they say"""

    @property
    def sentence(self) -> str:
        by = {"person": f" by the lab ({self.by})", "rules": " by the lab's rules"}.get(self.cause, "")
        why = f": {'; '.join(self.reasons)}" if self.reasons else ""
        return f"consent {CAUSES[self.cause]}{by} at {moment_text(self.issued)}{why}"


def sayable(reasons: Iterable[str]) -> tuple[str, ...]:
    """As many whole reasons as leave."""
    said: list[str] = []
    left = MOST_LETTERS
    for reason in reasons:
        left -= len(reason.encode())
        if left < 0:
            said.append("and more, which stays at the lab")
            break
        said.append(reason)
    return tuple(said)


def consent_digest(envelope: bytes) -> bytes:
    return hashlib.sha256(envelope).digest()


def seal_revocation(revocation: Revocation, key: SigningKey) -> bytes:
    document = {
        "job": revocation.job.hex(),
        "consent": revocation.consent.hex(),
        "member": revocation.member,
        "node": revocation.node,
        "cause": revocation.cause,
        "by": revocation.by,
        "issued": moment_text(revocation.issued),
        **({"reasons": list(revocation.reasons)} if revocation.cause == "rules" else {}),
    }
    return seal(document, KIND, (key,))


def open_revocation(envelope: bytes, credential: NodeCredential) -> Revocation:
    """Raises InvalidIdentity unless the node that ``credential`` names signed exactly this."""
    opened = open_envelope(envelope, KIND, MAX_ENVELOPE)
    if opened.signers != (credential.identity_key,):
        raise InvalidIdentity(f"The revocation is not signed by the node {credential.node} of {credential.member}.")
    revocation = _read(opened)
    if (revocation.member, revocation.node) != (credential.member, credential.node):
        raise InvalidIdentity("The revocation speaks for another node than the one that signed it.")
    return revocation


def read_revocation(envelope: bytes) -> Revocation:
    """One that was opened before; who signed is not looked at. Raises InvalidIdentity."""
    return _read(open_envelope(envelope, KIND, MAX_ENVELOPE))


def _read(opened: Opened) -> Revocation:
    by_rules = isinstance(opened.document, dict) and opened.document.get("cause") == "rules"
    document = exact(opened.document, KIND, *(RULES if by_rules else FIELDS))
    if document["cause"] not in get_args(Cause):
        raise InvalidIdentity("The revocation does not say why.")
    return Revocation(
        job=hexadecimal(document["job"], "revocation's job", 32),
        consent=hexadecimal(document["consent"], "revocation's consent", 32),
        member=checked_label(document["member"], "member"),
        node=checked_label(document["node"], "node"),
        cause=document["cause"],
        by=checked_label(document["by"], "role"),
        issued=moment(document["issued"], "issued"),
        reasons=texts(document["reasons"], "revocation's reasons") if by_rules else (),
    )
