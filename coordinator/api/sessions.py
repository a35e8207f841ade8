"""The open streams of nodes. Each has a bounded queue; a node that does not keep up is cut off and comes back by itself."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

from federation.v1 import rounds_pb2

QUEUE_LIMIT: Final = 1024


@dataclass(slots=True, eq=False)
class Session:
    member: str
    node: str
    offer: rounds_pb2.Offer
    queue: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(QUEUE_LIMIT))
    refusals: int = 0
    """events of this stream that were refused"""
    held: dict[bytes, rounds_pb2.Position] = field(default_factory=dict)
    """where the node's hello said that it stands, by job"""

    def send(self, data: bytes) -> bool:
        try:
            self.queue.put_nowait(data)
        except asyncio.QueueFull:
            self.close()
            return False
        return True

    def close(self) -> None:
        """The writer ends at the next step; what is queued is dropped, since everything is told again."""
        while not self.queue.empty():
            self.queue.get_nowait()
        self.queue.put_nowait(None)


class Sessions:
    def __init__(self) -> None:
        self._open: dict[tuple[str, str], Session] = {}

    def add(self, session: Session) -> None:
        """A node that connects again replaces its older stream."""
        older = self._open.get((session.member, session.node))
        self._open[session.member, session.node] = session
        if older is not None:
            older.close()

    def remove(self, session: Session) -> bool:
        """Whether this was the node's present stream."""
        if self._open.get((session.member, session.node)) is session:
            del self._open[session.member, session.node]
            return True
        return False

    def get(self, member: str, node: str) -> Session | None:
        return self._open.get((member, node))

    def post(self, member: str, node: str, data: bytes) -> bool:
        session = self._open.get((member, node))
        return session is not None and session.send(data)

    def all(self) -> tuple[Session, ...]:
        """By member and node. From any thread: what is open is copied before it is looked at."""
        return tuple(session for _, session in sorted(self._open.items(), key=lambda each: each[0]))
