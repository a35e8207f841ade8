"""Sends what the lab publishes: when the coordinator answers, and again when what is published has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from federation.catalogue.statement import digest_of
from federation.errors import FederationError
from federation.identity.credential import NodeCredential
from federation.identity.keys import SigningKey
from federation.v1 import rounds_pb2
from node_agent.catalogue.publication import signed, stamp
from node_agent.settings import Home

log = structlog.get_logger()

PAUSE_SECONDS: Final = 2.0
"""between two looks at the folder"""
LONGEST_PAUSE: Final = 600.0
LOOK_ANYWAY: Final = timedelta(hours=1)


@dataclass(slots=True)
class Bulletin:
    home: Home
    key: SigningKey
    credential: NodeCredential
    connected: asyncio.Event
    send: Callable[[rounds_pb2.NodeEvent], None]
    expect: Callable[[bytes], None] = lambda _digest: None
    """the public log must name this catalogue before long"""
    forget: Callable[[bytes], None] = lambda _digest: None
    """it need not: it was refused, or another was sent in its place before anybody said to hold it"""
    _sent: bytes = b""
    """digest of the catalogue that was sent last"""
    _owed: bool = False
    """whether it is awaited, and nobody has said to hold it"""
    _held: bytes = b""
    """digest of the catalogue that the coordinator has said to hold"""
    _pause: float = PAUSE_SECONDS
    _said: str = ""
    """the last problem, which is logged once"""
    _settled: tuple[tuple[str, int, int], ...] | None = None
    """the folder when what it holds was all told; None: it is not"""
    _due: datetime | None = None
    """when it is looked at although nothing has changed: catalogues end"""
    _again: bool = False
    """the coordinator refused: the next is signed anew, with a later number"""

    def begin(self) -> None:
        """A new connection: whoever answers may hold nothing."""
        self._held, self._pause, self._again, self._settled = b"", PAUSE_SECONDS, False, None

    async def run(self) -> None:
        """Until cancelled. A coordinator that refuses is asked again, ever more rarely."""
        while True:
            await self.connected.wait()
            await self.tell()
            await asyncio.sleep(self._pause)

    async def tell(self) -> None:
        """Sends the catalogue unless the coordinator has it."""
        now, again, seen = datetime.now(UTC), self._again, stamp(self.home)
        if self._settled == seen and not again and self._due is not None and now < self._due:
            return
        try:
            envelope = await asyncio.to_thread(signed, self.home, self.key, self.credential, now, again=again)
        except FederationError as error:
            self._problem(error.message, error.hint)
            return
        if envelope is None or digest_of(envelope) == self._held:
            self._settled, self._due = stamp(self.home), now + LOOK_ANYWAY
            return
        self.send(rounds_pb2.NodeEvent(catalogue=rounds_pb2.CatalogueStatement(envelope=envelope)))
        self._await(digest_of(envelope))

    def answered(self, held: rounds_pb2.CatalogueHeld) -> None:
        """What the coordinator says it holds: its word, since whoever reads the catalogue sees for themselves."""
        self._again = bool(held.problem)
        if held.problem:
            if self._owed:
                self.forget(self._sent)
            self._sent, self._owed = b"", False
            self._problem(held.problem[:1000], "Nothing else of this node depends on it.")
            return
        if held.digest == self._sent:
            self._owed = False
        if held.digest != self._held:
            log.info("catalogue.published", digest=held.digest.hex()[:12])
        self._held, self._pause, self._said = held.digest, PAUSE_SECONDS, ""

    def _await(self, digest: bytes) -> None:
        """Once for each catalogue, however often it is sent."""
        if digest == self._sent:
            return
        if self._owed:
            self.forget(self._sent)
        self._sent, self._owed = digest, True
        self.expect(digest)

    def _problem(self, detail: str, hint: str) -> None:
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        if detail != self._said:
            self._said = detail
            log.warning("catalogue.not-published", detail=detail, hint=hint)
