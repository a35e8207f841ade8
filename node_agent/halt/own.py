"""A lab's own halt: an order by the node, for the node, on its own disk. Needs no network and nobody's leave."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from federation.errors import Halted, InvalidUsage, NotFound
from federation.halt.book import HaltBook
from federation.halt.levels import Level
from federation.halt.order import (
    NONCE_BYTES,
    HaltOrder,
    SignedOrder,
    Signer,
    read_lift,
    read_order,
    seal_lift,
    seal_order,
)
from federation.identity.keys import SigningKey
from node_agent.halt.folder import HaltFolder


@dataclass(frozen=True, slots=True)
class OwnHand:
    federation: str
    member: str
    node: str
    key: SigningKey
    folder: HaltFolder

    @property
    def by(self) -> Signer:
        return Signer("node", self.member, self.node)

    def book(self) -> HaltBook:
        book, found = HaltBook(), self.folder.read()
        for order in found.orders:
            book.take(order)
        for lift in found.lifts:
            book.lift(lift)
        return book

    def halt(self, level: Level, reason: str, job: bytes = b"") -> SignedOrder:
        """On disk when this returns: a running node sees it at once, another at its next start."""
        order = HaltOrder(
            federation=self.federation,
            scope="job" if job else "member",
            job=job,
            member=self.member,
            level=level,
            by=self.by,
            number=self.book().next_number(self.by),
            nonce=secrets.token_bytes(NONCE_BYTES),
            issued=datetime.now(UTC).replace(microsecond=0),
            reason=reason,
        )
        signed = read_order(seal_order(order, self.key))
        self.folder.keep_order(signed)
        return signed

    def lift(self, digits: str, reason: str) -> SignedOrder:
        """Raises NotFound, InvalidUsage for somebody else's order, Halted for the stop of a job, which is final."""
        book = self.book()
        found = [signed for signed in book.orders() if digits and signed.digest.hex().startswith(digits)]
        if len(found) != 1:
            raise NotFound(
                f"{len(found) or 'No'} orders here begin with {digits[:70]!r}.",
                hint="See: concord-node halts --home HOME",
            )
        order = found[0].order
        if order.by != self.by:
            raise InvalidUsage(
                f"It is the order of the {order.by.words}, not of this node.", hint="They lift it: concord lift."
            )
        if order.scope == "job" and order.level is Level.stop:
            raise Halted("A stop of a job is final.", hint="Nothing was changed. The lead may submit it as a new job.")
        moment = datetime.now(UTC).replace(microsecond=0)
        lift = seal_lift(found[0].envelope, moment, secrets.token_bytes(NONCE_BYTES), reason, self.key)
        self.folder.keep_lift(read_lift(lift))
        return found[0]
