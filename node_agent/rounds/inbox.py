"""What waits for one job's machine, in order: the coordinator's messages, within bounds, and this lab's own events."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from federation.secagg import events

INBOX_MESSAGES: Final = 256
INBOX_BYTES: Final = 32 << 20
"""of the coordinator's messages that wait: while there are more, nothing more is read from the stream"""


class Inbox:
    def __init__(self) -> None:
        self._queue: asyncio.Queue[tuple[events.MemberEvent, Any]] = asyncio.Queue()
        self._waiting, self._waiting_bytes = 0, 0
        self._room = asyncio.Event()
        self._room.set()

    def hear(self, event: events.MemberEvent, proto: Any) -> None:
        """A message of the coordinator, and the bytes that it came as."""
        self._waiting += 1
        self._waiting_bytes += proto.ByteSize()
        if self._waiting >= INBOX_MESSAGES or self._waiting_bytes >= INBOX_BYTES:
            self._room.clear()
        self._queue.put_nowait((event, proto))

    def own(self, event: events.MemberEvent) -> None:
        """An event of this lab's own."""
        self._queue.put_nowait((event, None))

    async def take(self) -> tuple[events.MemberEvent, Any]:
        """The next event, and the coordinator's message that it came as; None for our own."""
        event, proto = await self._queue.get()
        if proto is not None:
            self._waiting -= 1
            self._waiting_bytes -= proto.ByteSize()
            if self._waiting < INBOX_MESSAGES and self._waiting_bytes < INBOX_BYTES:
                self._room.set()
        return event, proto

    async def room(self) -> None:
        """Returns when few enough of the coordinator's messages wait: who reads the stream asks before it reads on."""
        await self._room.wait()

    @property
    def full(self) -> bool:
        return not self._room.is_set()

    @property
    def empty(self) -> bool:
        return self._queue.empty()
