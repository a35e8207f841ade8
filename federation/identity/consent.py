"""A node's answer to a job, signed with its identity key: a consent, or a denial with reasons."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from federation.errors import InvalidIdentity
from federation.identity.credential import NodeCredential
from federation.identity.envelope import Opened, open_envelope, seal
from federation.identity.fields import exact, hexadecimal, moment, moment_text, text, texts, whole
from federation.identity.keys import SigningKey
from federation.identity.names import checked_label

MAX_ENVELOPE = 1 << 18
FIELDS = ("job", "member", "node", "granted", "reasons", "dataSet", "weight", "figures", "lacks", "issued", "expires")


@dataclass(frozen=True, slots=True)
class Consent:
    job: bytes
    """the manifest's digest"""
    member: str
    node: str
    granted: bool
    reasons: tuple[str, ...]
    data_set: str
    weight: int
    """the public bucket with which this member counts; 0 in a denial"""
    figures: tuple[str, ...]
    """what this member declares public: figures that may leave as exact sums"""
    lacks: tuple[str, ...]
    """what the job's runtime names and this node has not"""
    issued: datetime
    expires: datetime

    def valid_at(self, now: datetime) -> bool:
        return self.granted and self.issued <= now <= self.expires


def seal_consent(consent: Consent, key: SigningKey) -> bytes:
    document: dict[str, Any] = {
        "job": consent.job.hex(),
        "member": consent.member,
        "node": consent.node,
        "granted": consent.granted,
        "reasons": list(consent.reasons),
        "dataSet": consent.data_set,
        "weight": consent.weight,
        "figures": list(consent.figures),
        "lacks": list(consent.lacks),
        "issued": moment_text(consent.issued),
        "expires": moment_text(consent.expires),
    }
    return seal(document, "consent", (key,))


def open_consent(envelope: bytes, credential: NodeCredential) -> Consent:
    """Raises InvalidIdentity unless the node that ``credential`` names signed exactly this."""
    opened = open_envelope(envelope, "consent", MAX_ENVELOPE)
    if opened.signers != (credential.identity_key,):
        raise InvalidIdentity(f"The consent is not signed by the node {credential.node} of {credential.member}.")
    consent = read_consent(opened)
    if (consent.member, consent.node) != (credential.member, credential.node):
        raise InvalidIdentity("The consent speaks for another node than the one that signed it.")
    return consent


def read_consent(opened: Opened) -> Consent:
    """The fields of an opened consent; who signed is the caller's question. Raises InvalidIdentity."""
    document = exact(opened.document, "consent", *FIELDS)
    if not isinstance(document["granted"], bool):
        raise InvalidIdentity("The consent's granted is neither true nor false.")
    consent = Consent(
        job=hexadecimal(document["job"], "consent's job", 32),
        member=checked_label(document["member"], "member"),
        node=checked_label(document["node"], "node"),
        granted=document["granted"],
        reasons=texts(document["reasons"], "consent's reasons"),
        data_set=text(document["dataSet"], "consent's data set"),
        weight=whole(document["weight"], "consent's weight"),
        figures=texts(document["figures"], "consent's figures"),
        lacks=texts(document["lacks"], "consent's lacks"),
        issued=moment(document["issued"], "issued"),
        expires=moment(document["expires"], "expires"),
    )
    if consent.granted and (consent.weight < 1 or consent.weight & (consent.weight - 1)):
        raise InvalidIdentity("The consent's weight is not a power of two.")
    return consent
