"""What is halted: a set of orders and a set of lifts, and nothing else.

Both only grow, so the level does not depend on the order in which they arrive, nor on how often; and it falls only by a lift of
exactly the order that raised it. What is checked before it is put in (``powers``) is not asked again: a roll that changes later, a
signer that is suspended, take no halt away. Jobs that a stop has reached are noted and stay stopped, whatever is lifted later.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from federation.errors import InvalidUsage
from federation.halt.levels import Level
from federation.halt.order import SignedLift, SignedOrder, Signer

MAX_ORDERS: Final = 4096
"""of one signer: whoever needs more has its key in other hands"""


@dataclass(frozen=True, slots=True)
class Part:
    """What is asked about: a member's part in a job, at one of its nodes. Empty: any, or none."""

    job: bytes = b""
    member: str = ""
    node: str = ""
    lead: str = ""
    """whose job it is: a lead halts its own jobs alone. Empty where that is not known: then every lead counts"""


@dataclass(slots=True)
class HaltBook:
    _orders: dict[bytes, SignedOrder] = field(default_factory=dict)
    _lifts: dict[bytes, SignedLift] = field(default_factory=dict)
    """by the digest of the order that they take back"""
    _stopped: set[tuple[bytes, str]] = field(default_factory=set)
    """(job, member): member empty for all"""

    def take(self, signed: SignedOrder) -> bool:
        """Whether it is new. Raises InvalidUsage when its signer has given too many."""
        if signed.digest in self._orders:
            return False
        if sum(other.order.by == signed.order.by for other in self._orders.values()) >= MAX_ORDERS:
            raise InvalidUsage(
                f"The {signed.order.by.words} has given {MAX_ORDERS} orders, and no more are taken.",
                hint="Its earlier orders stand. Has somebody else got its key?",
            )
        self._orders[signed.digest] = signed
        return True

    def lift(self, signed: SignedLift) -> bool:
        """Whether it is the first for its order. It may come before the order."""
        if signed.lifted.digest in self._lifts:
            return False
        self._lifts[signed.lifted.digest] = signed
        return True

    def end(self, job: bytes, member: str = "") -> None:
        """A stop has reached this job, or this member's part in it."""
        self._stopped.add((job, member))

    def level(self, part: Part) -> Level:
        if part.job and not {(part.job, ""), (part.job, part.member)}.isdisjoint(self._stopped):
            return Level.stop
        return max((signed.order.level for signed in self.halting(part)), default=Level.none)

    def halting(self, part: Part) -> tuple[SignedOrder, ...]:
        """The orders that halt it now, the strongest first."""
        found = [signed for signed in self.standing() if _reaches(signed, part)]
        return tuple(sorted(found, key=lambda signed: (-signed.order.level, signed.order.issued, signed.digest)))

    def standing(self) -> Iterator[SignedOrder]:
        """Orders that nobody has lifted and that halt something."""
        for digest, signed in self._orders.items():
            if digest not in self._lifts and not signed.order.drill:
                yield signed

    def order(self, digest: bytes) -> SignedOrder | None:
        return self._orders.get(digest)

    def lift_of(self, digest: bytes) -> SignedLift | None:
        return self._lifts.get(digest)

    def orders(self) -> tuple[SignedOrder, ...]:
        return tuple(self._orders.values())

    def lifts(self) -> tuple[SignedLift, ...]:
        return tuple(self._lifts.values())

    def next_number(self, by: Signer) -> int:
        """For the next order of this signer."""
        return 1 + max((signed.order.number for signed in self._orders.values() if signed.order.by == by), default=0)

    def missing(self, by: Signer) -> tuple[int, ...]:
        """Numbers below the highest of this signer that were never seen: orders that somebody keeps back."""
        seen = {signed.order.number for signed in self._orders.values() if signed.order.by == by}
        return tuple(number for number in range(1, max(seen, default=0)) if number not in seen)[:MAX_ORDERS]

    def forked(self) -> tuple[tuple[SignedOrder, SignedOrder], ...]:
        """Pairs under one signer and number: both count, and somebody has a copy of the key, or lost count."""
        seen: dict[tuple[Signer, int], SignedOrder] = {}
        pairs = []
        for signed in sorted(self._orders.values(), key=lambda signed: signed.digest):
            other = seen.setdefault((signed.order.by, signed.order.number), signed)
            if other is not signed:
                pairs.append((other, signed))
        return tuple(pairs)


def _reaches(signed: SignedOrder, part: Part) -> bool:
    order = signed.order
    if order.by.kind == "node" and (order.by.id, order.by.node) != (part.member, part.node):
        return False
    if order.by.kind == "lead" and part.lead not in {"", order.by.id}:
        return False
    if order.scope == "federation":
        return True
    if order.scope == "member":
        return order.member == part.member
    return order.job == part.job and order.member in {"", part.member}
