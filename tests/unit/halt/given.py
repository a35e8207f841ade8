"""A federation whose people halt things: orders and lifts, in few words."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from federation.halt.levels import Level
from federation.halt.order import (
    HaltOrder,
    SignedLift,
    SignedOrder,
    Signer,
    read_lift,
    read_order,
    seal_lift,
    seal_order,
)
from federation.identity.keys import SigningKey
from tests.unit.identity.parties import Parties, found

NOW = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)
JOB, OTHER = b"\x01" * 32, b"\x02" * 32
MEMBERS = ("ch", "fr", "ke")


@dataclass
class Officers:
    """``node_keys``: of the first node of each member."""

    parties: Parties = field(default_factory=lambda: found(*MEMBERS))
    node_keys: dict[str, SigningKey] = field(default_factory=lambda: {name: SigningKey.generate() for name in MEMBERS})
    count: Any = field(default_factory=lambda: itertools.count(1))

    def key_of(self, by: Signer) -> SigningKey:
        if by.kind == "lead":
            return self.parties.lead_key
        return self.node_keys[by.id] if by.kind == "node" else self.parties.officers[by.id]

    def node_key(self, member: str, node: str) -> bytes | None:
        return self.node_keys[member].public if node == f"{member}-1" else None

    def order(self, level: Level, by: Signer, *, key: SigningKey | None = None, **changes: Any) -> SignedOrder:
        number = next(self.count)
        fields: dict[str, Any] = {
            "federation": "health",
            "scope": "federation",
            "job": b"",
            "member": "",
            "level": level,
            "by": by,
            "number": number,
            "nonce": number.to_bytes(16, "big"),
            "issued": NOW,
            "reason": "a test",
            **changes,
        }
        return read_order(seal_order(HaltOrder(**fields), key or self.key_of(by)))

    def lift(self, order: SignedOrder, *, key: SigningKey | None = None, decision: bytes = b"") -> SignedLift:
        signer = key or self.key_of(order.order.by)
        return read_lift(seal_lift(order.envelope, NOW, b"n" * 16, "all is well", signer, decision))


def member(id: str) -> Signer:
    return Signer("member", id)


LEAD = Signer("lead", "lead")


def node(id: str) -> Signer:
    return Signer("node", id, f"{id}-1")
