"""The node's stream for halts, on a connection of its own: nothing that the other one carries delays an order or a lease."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

import grpc
import structlog

from federation.errors import FederationError
from federation.parsing import parsed
from federation.route import Route
from federation.v1 import halt_pb2, halt_pb2_grpc
from node_agent.halt.halts import Halts
from node_agent.link.channel import Credentials, error_of, open_channel, parsing
from node_agent.link.duplex import duplex

log = structlog.get_logger()

ASKS_A_LEASE: Final = 6
LONGEST_PAUSE: Final = 2.0
FIRST_PAUSE: Final = 0.1
QUEUE_LIMIT: Final = 4096


class HaltLink:
    """``route``: asked each time, since members may move the coordinator.

    ``connected``: called when a stream is open, before its first notice is heard.
    """

    def __init__(
        self,
        route: Callable[[], Route],
        credentials: Callable[[], Credentials],
        halts: Halts,
        connected: Callable[[], None],
    ) -> None:
        self._route, self._credentials, self._halts, self._connected = route, credentials, halts, connected
        self._out: asyncio.Queue[halt_pb2.HaltReport] = asyncio.Queue(QUEUE_LIMIT)

    def send(self, report: halt_pb2.HaltReport) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            self._out.put_nowait(report)

    async def run(self) -> None:
        """Until cancelled."""
        pause = FIRST_PAUSE
        while True:
            try:
                await self._stream()
                pause = FIRST_PAUSE
            except grpc.aio.AioRpcError as error:
                log.info("halts.link-broken", detail=error_of(error, self._route()).message)
            except FederationError as error:
                log.warning("halts.link-refused", code=error.code, detail=error.message)
            except Exception as error:  # whatever a coordinator says, the node dials again
                log.exception("halts.link-failed", error=type(error).__name__)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _stream(self) -> None:
        async with open_channel(self._route(), self._credentials()) as channel:
            attend: Any = halt_pb2_grpc.HaltsStub(parsing(channel)).Attend
            call = attend()
            self._halts.new_stream()
            while not self._out.empty():
                self._out.get_nowait()
            notices = aiter(call)
            begun = False
            async with duplex(call, self._write(call)):
                try:
                    # An answer that stays away for three questions means that nobody is there, whatever TCP thinks.
                    while (notice := await asyncio.wait_for(anext(notices, None), 3 * self._every)) is not None:
                        if not begun:
                            begun = True
                            self._connected()
                        self._hear(parsed(notice))
                except TimeoutError:
                    log.warning("halts.silent", seconds=3 * self._every)

    @property
    def _every(self) -> float:
        """Seconds between two questions."""
        return self._halts.lease_seconds / ASKS_A_LEASE

    async def _write(self, call: Any) -> None:
        """Only the queue is waited for with a limit: a write that is cut off ends the stream."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            if (wait := due - loop.time()) <= 0:
                due = loop.time() + self._every
                await call.write(halt_pb2.HaltReport(lease=self._halts.ask()))
                continue
            with contextlib.suppress(TimeoutError):
                report = await asyncio.wait_for(self._out.get(), wait)
                await call.write(report)

    def _hear(self, notice: halt_pb2.HaltNotice) -> None:
        """A bad notice is logged, and the stream goes on: what it should have said is then missing from the lease."""
        kind = notice.WhichOneof("notice")
        try:
            if kind == "order":
                self._halts.take(notice.order)
            elif kind == "lift":
                self._halts.take_lift(notice.lift)
            elif kind == "lease":
                self._halts.granted(notice.lease.number, list(notice.lease.standing))
            elif kind == "receipt_key" and len(notice.receipt_key) == 32:
                self._halts.folder.keep_coordinator_key(notice.receipt_key)
        except FederationError as error:
            log.error("halt.refused", kind=kind, code=error.code, detail=error.message, hint=error.hint)
