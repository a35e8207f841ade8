"""A node's credential: the member's officer says that this identity key is a node of the member, for a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from federation.errors import InvalidIdentity
from federation.identity.envelope import open_envelope, seal
from federation.identity.fields import exact, moment, moment_text
from federation.identity.keys import SigningKey, key_id, public_of
from federation.identity.names import checked_label
from federation.identity.roll import Roll
from federation.identity.signer import Signer

MAX_ENVELOPE = 1 << 14


@dataclass(frozen=True, slots=True)
class NodeRequest:
    federation: str
    member: str
    node: str
    identity_key: bytes


@dataclass(frozen=True, slots=True)
class NodeCredential:
    federation: str
    member: str
    node: str
    jurisdiction: str
    """of the member, from the roll"""
    identity_key: bytes
    not_before: datetime
    not_after: datetime
    envelope: bytes = field(repr=False)
    digest: bytes


def node_request(federation: str, member: str, node: str, key: SigningKey) -> bytes:
    """What a new node gives its officer: its names and public key, signed with that key (so nobody asks for another's)."""
    document = {
        "federation": checked_label(federation, "federation"),
        "member": checked_label(member, "member"),
        "node": checked_label(node, "node"),
        "identityKey": key_id(key.public),
    }
    return seal(document, "node-request", (key,))


def open_node_request(envelope: bytes) -> NodeRequest:
    """Raises InvalidIdentity unless the request is signed by the key that it names."""
    opened = open_envelope(envelope, "node-request", MAX_ENVELOPE)
    document = exact(opened.document, "node's request", "federation", "member", "node", "identityKey")
    request = NodeRequest(
        checked_label(document["federation"], "federation"),
        checked_label(document["member"], "member"),
        checked_label(document["node"], "node"),
        public_of(document["identityKey"]),
    )
    opened.require(request.identity_key, f"the node {request.node}")
    return request


def sign_credential(
    request_envelope: bytes,
    federation: str,
    officer: Signer | None,
    member: str,
    not_before: datetime,
    not_after: datetime,
) -> bytes:
    """The credential's envelope; without an ``officer`` what is to be signed elsewhere.

    Raises InvalidIdentity when the request is for another member or federation, or times are off.
    """
    request = open_node_request(request_envelope)
    if (request.federation, request.member) != (federation, member):
        raise InvalidIdentity(
            f"The request is for {request.member} in {request.federation}, and you are the officer of {member} in {federation}.",
            hint="Ask the node's operator to run concord-node init with your member's id.",
        )
    if not_after <= not_before:
        raise InvalidIdentity("The credential would end before it begins.")
    document: dict[str, Any] = {
        "federation": federation,
        "member": member,
        "node": request.node,
        "identityKey": key_id(request.identity_key),
        "notBefore": moment_text(not_before),
        "notAfter": moment_text(not_after),
    }
    return seal(document, "node-credential", (officer,) if officer is not None else ())


def verify_credential(envelope: bytes, roll: Roll, now: datetime | None, *, standing: bool = True) -> NodeCredential:
    """The node that an officer on ``roll`` vouches for. ``now`` None leaves out the dates, and whether member and node are in good
    standing today (a release is verified years later); ``standing`` False leaves out the latter alone.

    Raises InvalidIdentity for any other signer, another federation, a credential outside its dates, and a node that is revoked,
    whose member is suspended, or whose member's tier has none.
    """
    credential = _read(envelope, roll, now)
    if now is not None and standing:
        roll.require_node(credential.member, credential.identity_key)
    return credential


def _read(envelope: bytes, roll: Roll, now: datetime | None) -> NodeCredential:
    opened = open_envelope(envelope, "node-credential", MAX_ENVELOPE)
    document = exact(
        opened.document, "node's credential", "federation", "member", "node", "identityKey", "notBefore", "notAfter"
    )
    member = roll.member(checked_label(document["member"], "member"))
    if document["federation"] != roll.federation:
        raise InvalidIdentity("The node's credential is for another federation.")
    if opened.signers != (member.officer_key,):
        raise InvalidIdentity(
            f"The node's credential is not signed by the officer of {member.id} on the membership roll.",
            hint="Only that officer can make a node of this member: concord member sign-node.",
        )
    credential = NodeCredential(
        federation=roll.federation,
        member=member.id,
        node=checked_label(document["node"], "node"),
        jurisdiction=member.jurisdiction,
        identity_key=public_of(document["identityKey"]),
        not_before=moment(document["notBefore"], "notBefore"),
        not_after=moment(document["notAfter"], "notAfter"),
        envelope=envelope,
        digest=opened.digest,
    )
    if now is not None and not credential.not_before <= now <= credential.not_after:
        raise InvalidIdentity(
            f"The credential of node {credential.node} is valid from {moment_text(credential.not_before)} to "
            f"{moment_text(credential.not_after)}, not now.",
            hint="Have the member's officer sign a fresh one, and check this machine's clock.",
        )
    return credential


def once_verified(envelope: bytes, roll: Roll, now: datetime | None = None) -> NodeCredential:
    """The node that an officer vouched for under ``roll`` or one before it, whatever became of the officer's key, the member or
    the node since: for what was signed earlier. ``now``: within its dates at that time. Raises InvalidIdentity."""
    refused: InvalidIdentity | None = None
    for version in (roll, *reversed(roll.past)):
        try:
            return _read(envelope, version, now)
        except InvalidIdentity as error:
            refused = refused or error
    assert refused is not None
    raise refused
