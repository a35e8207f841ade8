"""The newest catalogue of each node: taken when its own node signed it, logged by digest, shown to members, leads and operators.

What is withdrawn is not kept: the next catalogue takes the place of the last, and the log holds digests alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import structlog

from coordinator.registry.enrolment import REFUSED_STATES, Registry
from coordinator.store.database import Database
from federation.catalogue.statement import digest_of, open_catalogue
from federation.errors import FederationError, InvalidUsage, NotFound
from federation.identity.credential import verify_credential
from federation.v1 import catalogue_pb2, rounds_pb2

log = structlog.get_logger()

PAUSE_SECONDS: Final = 1.0
"""between two catalogues of one node that are looked at: each costs a signature and a schema"""
CHANGES: Final = 200
"""of one node within a day: each is an entry of the log"""
DAY: Final = 86_400.0
PAGE_BYTES: Final = 8 << 20


@dataclass(slots=True)
class _Pace:
    looked: float = 0.0
    begun: float = 0.0
    changes: int = 0


@dataclass(slots=True)
class Shelf:
    database: Database
    registry: Registry
    clock: Callable[[], float]
    _paces: dict[tuple[str, str], _Pace] = field(default_factory=dict)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def heard(self, member: str, node: str, envelope: bytes) -> rounds_pb2.CatalogueHeld:
        """Takes a node's catalogue, or says why not. Called with the names of the stream's certificate."""
        try:
            with self._turn:
                return rounds_pb2.CatalogueHeld(digest=self._take(member, node, envelope))
        except FederationError as error:
            log.info("catalogue.refused", member=member, node=node, code=error.code, detail=error.message)
            return rounds_pb2.CatalogueHeld(digest=self._held(member, node), problem=error.message[:1000])

    def _take(self, member: str, node: str, envelope: bytes) -> bytes:
        now = self.clock()
        with self.database.transaction() as change:
            held, row = change.catalogue(member, node), change.node(member, node)
        if held is not None and held[1] == envelope:
            return digest_of(envelope)
        if row is None:
            raise NotFound("The node is not enrolled.")
        pace = self._paces.setdefault((member, node), _Pace())
        if now < pace.looked + PAUSE_SECONDS:
            raise InvalidUsage("Catalogues come too fast.", hint="The node sends it again by itself.")
        pace.looked = now
        if now >= pace.begun + DAY:
            pace.begun, pace.changes = now, 0
        if pace.changes >= CHANGES:
            raise InvalidUsage(f"This node's catalogue has changed {CHANGES} times today.", hint="Try again tomorrow.")
        today = datetime.fromtimestamp(now, UTC)
        statement = open_catalogue(envelope, verify_credential(row.credential, self.registry.roll(), today), today)
        if held is not None and statement.sequence <= held[0]:
            raise InvalidUsage("The coordinator holds a later catalogue of this node.", hint="Was its home put back?")
        digest = digest_of(envelope)
        with self.database.transaction() as change:
            change.put_catalogue(member, node, statement.sequence, envelope)
            change.audit(now, "catalogue", f"{member} {node}", digest=digest)
        pace.changes += 1
        log.info("catalogue.taken", member=member, node=node, entries=len(statement.entries))
        return digest

    def _held(self, member: str, node: str) -> bytes:
        with self.database.transaction() as change:
            held = change.catalogue(member, node)
        return digest_of(held[1]) if held is not None else b""

    def page(self, after: str) -> catalogue_pb2.ListCataloguesReply:
        """Catalogues after a cursor, as many as one answer holds. What has ended, or whose node may not take part, is left out."""
        reply, size, last = catalogue_pb2.ListCataloguesReply(), 0, ""
        for place, credential, envelope in self._standing():
            if place <= after:
                continue
            size += len(envelope) + len(credential)
            if size > PAGE_BYTES and reply.catalogues:
                reply.next = last
                break
            reply.catalogues.add(envelope=envelope, credential=credential)
            last = place
        return reply

    def _standing(self) -> Iterator[tuple[str, bytes, bytes]]:
        """(cursor, credential, envelope)"""
        with self.database.transaction() as change:
            rows = change.catalogues()
        for row, envelope in rows:
            if row.state not in REFUSED_STATES:
                yield f"{row.member}/{row.node}", row.credential, envelope
