"""What a node says, under its own signature, when an order has been carried out there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from federation.errors import InvalidIdentity
from federation.halt.levels import Level, level_of
from federation.identity.envelope import open_envelope, seal
from federation.identity.fields import exact, hexadecimal, moment, moment_text, whole
from federation.identity.keys import SigningKey
from federation.identity.names import checked_label

MAX_ENVELOPE: Final = 1 << 12
FIELDS: Final = ("order", "member", "node", "level", "received", "tookMicroseconds", "processes", "jobs")


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    order: bytes
    """digest"""
    member: str
    node: str
    level: Level
    received: datetime
    """by the node's clock, to the second"""
    took_microseconds: int
    """from then until the last process was gone and the last file erased"""
    processes: int
    """that were ended"""
    jobs: int
    """that it reached here"""


def seal_acknowledgement(said: Acknowledgement, key: SigningKey) -> bytes:
    document: dict[str, Any] = {
        "order": said.order.hex(),
        "member": said.member,
        "node": said.node,
        "level": said.level.name,
        "received": moment_text(said.received),
        "tookMicroseconds": said.took_microseconds,
        "processes": said.processes,
        "jobs": said.jobs,
    }
    return seal(document, "halt-acknowledgement", (key,))


def open_acknowledgement(envelope: bytes, identity_key: bytes) -> Acknowledgement:
    """Raises InvalidIdentity unless the node with ``identity_key`` signed it, and nobody else."""
    opened = open_envelope(envelope, "halt-acknowledgement", MAX_ENVELOPE)
    if opened.signers != (identity_key,):
        raise InvalidIdentity("The acknowledgement is not signed by the node that it comes from.")
    document = exact(opened.document, "acknowledgement", *FIELDS)
    return Acknowledgement(
        order=hexadecimal(document["order"], "acknowledgement's order", 32),
        member=checked_label(document["member"], "member"),
        node=checked_label(document["node"], "node"),
        level=level_of(document["level"]),
        received=moment(document["received"], "received"),
        took_microseconds=whole(document["tookMicroseconds"], "tookMicroseconds"),
        processes=whole(document["processes"], "processes"),
        jobs=whole(document["jobs"], "jobs"),
    )
