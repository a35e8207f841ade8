"""Orders and lifts as signed documents (``federation.identity.envelope``). What a signer may order is in ``powers``.

An order names what it halts by a scope: ``job`` (with ``member``: only that member's part in it), ``member`` (all that its nodes
do), ``federation``. ``number`` grows with each order of one signer, so that a gap shows an order that was kept back. A lift
holds the whole order that it takes back: it means nothing for any other, and needs nothing else to be read.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, get_args

from federation.errors import InvalidIdentity
from federation.halt.levels import Level, level_of
from federation.identity.envelope import open_envelope, seal
from federation.identity.fields import exact, hexadecimal, moment, moment_text, text, whole
from federation.identity.keys import SigningKey
from federation.identity.names import checked_label

Scope = Literal["job", "member", "federation"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
SignerKind = Literal["member", "lead", "operator", "node"]
KINDS: Final[tuple[SignerKind, ...]] = get_args(SignerKind)

NONCE_BYTES: Final = 16
REASON_LETTERS: Final = 500
MAX_ORDER: Final = 1 << 13
MAX_LIFT: Final = 1 << 20
"""it may hold a decision with the votes of many members"""
ORDER_FIELDS: Final = (
    *("federation", "scope", "job", "member", "level", "by", "number", "nonce", "issued", "reason", "drill"),
)
LIFT_FIELDS: Final = ("federation", "order", "decision", "nonce", "issued", "reason")


@dataclass(frozen=True, slots=True)
class Signer:
    """Who ordered: a member by its officer, a lead, an operator whom the charter names, or a node for itself."""

    kind: SignerKind
    id: str
    """of the member or lead; of a node its member's; empty for an operator"""
    node: str = ""

    @property
    def words(self) -> str:
        if self.kind == "node":
            return f"node {self.node} of {self.id}"
        return f"{self.kind} {self.id}".rstrip()


@dataclass(frozen=True, slots=True)
class HaltOrder:
    federation: str
    scope: Scope
    job: bytes
    """the manifest's digest; empty unless the scope is job"""
    member: str
    """for scope member; for scope job: whose part, or empty for the whole job"""
    level: Level
    by: Signer
    number: int
    nonce: bytes
    issued: datetime
    reason: str
    """a person's words: shown to the members, never in the log"""
    drill: bool = False
    """a rehearsal: it is told, kept and acknowledged like any other, and halts nothing"""

    @property
    def words(self) -> str:
        """What it halts, in words."""
        if self.scope == "federation":
            return "the federation"
        if self.scope == "member":
            return f"{self.member}" if self.by.kind != "node" else f"{self.by.node} of {self.member}"
        part = f"{self.member}'s part in " if self.member else ""
        return f"{part}job {self.job.hex()[:12]}"


@dataclass(frozen=True, slots=True)
class SignedOrder:
    """An order whose signature checks; whether its signer may order it is asked of ``powers``."""

    order: HaltOrder
    digest: bytes
    key: bytes
    """that signed it"""
    envelope: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SignedLift:
    lifted: SignedOrder
    decision: bytes = field(repr=False)
    """a vote on it (``federation.governance``); empty where its own signer takes an order back"""
    issued: datetime
    reason: str
    keys: tuple[bytes, ...]
    digest: bytes
    envelope: bytes = field(repr=False)


def seal_order(order: HaltOrder, key: SigningKey) -> bytes:
    """Raises InvalidIdentity for an order that would not read back."""
    envelope = seal(
        {
            "federation": order.federation,
            "scope": order.scope,
            "job": order.job.hex(),
            "member": order.member,
            "level": order.level.name,
            "by": {"kind": order.by.kind, "id": order.by.id, "node": order.by.node},
            "number": order.number,
            "nonce": order.nonce.hex(),
            "issued": moment_text(order.issued),
            "reason": order.reason,
            "drill": order.drill,
        },
        "halt-order",
        (key,),
    )
    read_order(envelope)
    return envelope


def read_order(envelope: bytes) -> SignedOrder:
    """Raises InvalidIdentity unless exactly one key signed it and every field is in order."""
    opened = open_envelope(envelope, "halt-order", MAX_ORDER)
    document = exact(opened.document, "halt order", *ORDER_FIELDS)
    if len(opened.signers) != 1:
        raise InvalidIdentity(
            "A halt order has one signature.", hint="Whoever orders signs; others give orders of their own."
        )
    order = HaltOrder(
        federation=checked_label(document["federation"], "federation"),
        scope=_scope(document["scope"]),
        job=hexadecimal(document["job"], "order's job", 32) if document["job"] != "" else b"",
        member=checked_label(document["member"], "member") if document["member"] != "" else "",
        level=level_of(document["level"]),
        by=_signer(document["by"]),
        number=whole(document["number"], "order's number", low=1),
        nonce=hexadecimal(document["nonce"], "order's nonce", NONCE_BYTES),
        issued=moment(document["issued"], "order's issued"),
        reason=text(document["reason"], "order's reason", REASON_LETTERS),
        drill=_truth(document["drill"]),
    )
    _check_target(order)
    return SignedOrder(order, opened.digest, opened.signers[0], envelope)


def seal_lift(
    order: bytes, issued: datetime, nonce: bytes, reason: str, key: SigningKey, decision: bytes = b""
) -> bytes:
    """Takes back the order with the envelope ``order``. Raises InvalidIdentity for what is no order."""
    document: dict[str, Any] = {
        "federation": read_order(order).order.federation,
        "order": base64.b64encode(order).decode(),
        "decision": base64.b64encode(decision).decode(),
        "nonce": nonce.hex(),
        "issued": moment_text(issued),
        "reason": reason,
    }
    envelope = seal(document, "halt-lift", (key,))
    read_lift(envelope)
    return envelope


def read_lift(envelope: bytes) -> SignedLift:
    """Raises InvalidIdentity. Whether it may be lifted so is asked of ``powers``."""
    opened = open_envelope(envelope, "halt-lift", MAX_LIFT)
    document = exact(opened.document, "lift", *LIFT_FIELDS)
    lifted = read_order(_bytes(document["order"], "lift's order"))
    if document["federation"] != lifted.order.federation:
        raise InvalidIdentity("The lift is for another federation than its order.")
    hexadecimal(document["nonce"], "lift's nonce", NONCE_BYTES)
    return SignedLift(
        lifted,
        _bytes(document["decision"], "lift's decision"),
        moment(document["issued"], "lift's issued"),
        text(document["reason"], "lift's reason", REASON_LETTERS),
        opened.signers,
        opened.digest,
        envelope,
    )


def _check_target(order: HaltOrder) -> None:
    wanted = {"job": bool(order.job), "member": bool(order.member) and not order.job, "federation": True}[order.scope]
    if not wanted or (order.scope == "federation" and (order.job or order.member)):
        raise InvalidIdentity(f"The order of scope {order.scope} does not name what it halts, or names more.")


def _scope(value: object) -> Scope:
    for scope in SCOPES:
        if value == scope:
            return scope
    raise InvalidIdentity("The order's scope is none of job, member and federation.")


def _signer(value: object) -> Signer:
    entry = exact(value, "order's by", "kind", "id", "node")
    for kind in KINDS:
        if entry["kind"] == kind:
            break
    else:
        raise InvalidIdentity(f"The order's by is none of: {', '.join(KINDS)}.")
    named = kind != "operator"
    if (entry["id"] != "") != named or (entry["node"] != "") != (kind == "node"):
        raise InvalidIdentity("The order's by does not name who ordered, or names more.")
    return Signer(
        kind,
        checked_label(entry["id"], kind) if named else "",
        checked_label(entry["node"], "node") if kind == "node" else "",
    )


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidIdentity("The order's drill is neither true nor false.")
    return value


def _bytes(value: object, what: str) -> bytes:
    try:
        if isinstance(value, str):
            data = base64.b64decode(value, validate=True)
            if base64.b64encode(data).decode() == value:
                return data
    except (binascii.Error, ValueError):
        pass
    raise InvalidIdentity(f"The {what} is not base64.")
