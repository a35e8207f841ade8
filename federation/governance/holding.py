"""A node says, signed with its identity key, which roll it holds. So nobody can say for it that it knows of a suspension."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from federation.errors import InvalidIdentity
from federation.identity.envelope import open_envelope, seal
from federation.identity.fields import exact, hexadecimal, moment, moment_text, whole
from federation.identity.names import checked_label
from federation.identity.signer import Signer

MAX_ENVELOPE: Final = 1 << 14


@dataclass(frozen=True, slots=True)
class Holding:
    federation: str
    member: str
    node: str
    version: int
    roll: bytes
    """digest"""
    since: datetime
    signer: bytes = b""
    envelope: bytes = field(default=b"", repr=False)


def seal_holding(holding: Holding, key: Signer) -> bytes:
    document = {
        "federation": holding.federation,
        "member": holding.member,
        "node": holding.node,
        "version": holding.version,
        "roll": holding.roll.hex(),
        "since": moment_text(holding.since),
    }
    return seal(document, "roll-held", (key,))


def open_holding(envelope: bytes, identity_key: bytes) -> Holding:
    """Raises InvalidIdentity unless the node with this key signed it."""
    opened = open_envelope(envelope, "roll-held", MAX_ENVELOPE)
    if opened.signers != (identity_key,):
        raise InvalidIdentity("What a node says of its roll is not signed by that node.")
    document = exact(opened.document, "statement of a roll", "federation", "member", "node", "version", "roll", "since")
    return Holding(
        federation=checked_label(document["federation"], "federation"),
        member=checked_label(document["member"], "member"),
        node=checked_label(document["node"], "node"),
        version=whole(document["version"], "roll's version", low=1),
        roll=hexadecimal(document["roll"], "roll", 32),
        since=moment(document["since"], "since"),
        signer=identity_key,
        envelope=envelope,
    )
