"""Documents that people sign and hand to each other as files: rolls, cards, requests. Each is read by its own rules."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from coordinator.client.files import about, read_file
from federation.errors import InvalidIdentity
from federation.identity.credential import open_node_request
from federation.identity.envelope import open_envelope
from federation.identity.keys import public_of
from federation.identity.names import checked_label
from federation.identity.roll import RevokedNode, Roll, RollMember, open_member_card

Document = TypeVar("Document")

KIND_PREFIX: Final = "application/vnd.concord."
KIND_SUFFIX: Final = ".v1+json"


def kind_of(envelope: bytes, path: Path) -> str:
    try:
        named = str(json.loads(envelope)["payloadType"])
        base64.b64decode(json.loads(envelope)["payload"], validate=True)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InvalidIdentity(
            f"{path} is no document to sign.", hint="It comes from --offline, or `concord roll amend`."
        ) from None
    if not named.startswith(KIND_PREFIX) or not named.endswith(KIND_SUFFIX):
        raise InvalidIdentity(f"{path} is a document of a kind that Concord does not know.")
    return named[len(KIND_PREFIX) : -len(KIND_SUFFIX)]


def roll_of(path: Path) -> Roll:
    return opened(path, "The roll", Roll.open)


def card_of(path: Path) -> RollMember:
    return opened(path, "The member's card", open_member_card)


def opened(path: Path, what: str, opener: Callable[[bytes], Document]) -> Document:
    envelope = read_file(path, what=what)
    with about(path):
        return opener(envelope)


def revoked_node(path: Path) -> RevokedNode:
    """From the node's request, or from its credential."""
    envelope = read_file(path, what="The node's request or credential")
    kind = kind_of(envelope, path)
    with about(path):
        if kind == "node-request":
            asked = open_node_request(envelope)
            return RevokedNode(asked.member, asked.node, asked.identity_key)
        document = open_envelope(envelope, "node-credential").document
        return RevokedNode(
            checked_label(document.get("member"), "member"),
            checked_label(document.get("node"), "node"),
            public_of(document.get("identityKey")),
        )
