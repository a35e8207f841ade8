"""Asking the coordinator for the public log. Answers are as they come: the witness checks them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from federation.audit.tree import MAX_PATH
from federation.errors import NotFound, Unavailable, VerificationFailed
from federation.parsing import parsed
from federation.v1 import audit_pb2, audit_pb2_grpc
from node_agent.link.channel import CALL_SECONDS, spoken
from node_agent.link.stream import Link, paced

SEEN_LIMIT: Final = 64
WITNESSES_LIMIT: Final = 4096


@dataclass(frozen=True, slots=True)
class Shown:
    note: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class HeadAnswer:
    head: Shown
    seen: tuple[Shown, ...]
    key: str


@dataclass(frozen=True, slots=True)
class ProofAnswer:
    entry: bytes
    number: int
    path: tuple[bytes, ...]


class AuditLink:
    """Raises Unavailable while the stream is broken, and what the coordinator says."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def head(self, size: int) -> HeadAnswer:
        """The newest head, with a path from ``size`` on."""
        with spoken(self._link.route):
            reply = parsed(await self._stub().Head(audit_pb2.HeadQuery(size=size), timeout=CALL_SECONDS))
        seen = tuple(Shown(each.note, _path(each.path)) for each in reply.seen[:SEEN_LIMIT])
        return HeadAnswer(Shown(reply.note, _path(reply.path)), seen, reply.key)

    async def prove(self, document: bytes, size: int) -> ProofAnswer | None:
        """The newest entry about a document in the head of ``size``; None when the log says that there is none."""
        try:
            with spoken(self._link.route):
                query = audit_pb2.ProofQuery(document=document, size=size)
                reply = parsed(await self._stub().Prove(query, timeout=CALL_SECONDS))
        except NotFound:
            return None
        return ProofAnswer(reply.entry, reply.number, _path(reply.path))

    async def witnesses(self) -> tuple[bytes, ...]:
        """The credentials of the federation's nodes."""
        found: list[bytes] = []
        with spoken(self._link.route):
            call = self._stub().Witnesses(audit_pb2.WitnessesQuery(), timeout=CALL_SECONDS)
            async for each in paced(call, self._link.route):
                found.append(each.credential)
                if len(found) == WITNESSES_LIMIT:
                    break
        return tuple(found)

    def _stub(self) -> audit_pb2_grpc.AuditLogAsyncStub:
        if not self._link.connected.is_set():  # the members' roll, which names the log's key, comes first
            raise Unavailable(
                "The coordinator has not said which roll it holds.", hint="The node looks again by itself."
            )
        stub: audit_pb2_grpc.AuditLogAsyncStub = audit_pb2_grpc.AuditLogStub(self._link.calls())
        return stub


def _path(nodes: Sequence[bytes]) -> tuple[bytes, ...]:
    if len(nodes) > MAX_PATH + 1:
        raise VerificationFailed("A path of the log is too long.")
    return tuple(nodes)
