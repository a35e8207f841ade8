"""The node's one stream: events out, instructions in; dialled again for as long as it takes. Beside it: blobs, updates in parts.

Nothing is kept for a broken stream: when it is open again, the coordinator tells what is still of use, and the machines
answer alike.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import grpc
import structlog

from federation.errors import FederationError, Halted, ProtocolViolation, Unavailable, VerificationFailed
from federation.parsing import parsed
from federation.route import Route
from federation.v1 import blobs_pb2, blobs_pb2_grpc, rounds_pb2, rounds_pb2_grpc
from node_agent.link.channel import CALL_SECONDS, Credentials, error_of, open_channel, parsing, spoken
from node_agent.link.duplex import duplex
from node_agent.link.timing import Took, timed, unnoticed
from node_agent.rounds.growing import GrowingUpdate

log = structlog.get_logger()

PART: Final = (1 << 20) - 256
QUEUE_LIMIT: Final = 4096
FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 15.0
TRIES: Final = 5
TRANSFER_SECONDS: Final = 3600.0
PART_SECONDS: Final = 60.0
"""the longest pause within a transfer"""
NOES: Final = frozenset({"refusal", "consent_revocation"})
"""what a node still says of a job when it is muted: taking back is always possible"""
AUDIT_PART_LIMIT: Final = 4 << 20
"""bytes: a chunk of a MiB, and a trailer for 200 members"""


class Link:
    """``hello`` builds the first event of each stream; ``hear`` gets each instruction; ``room`` returns when the next may come."""

    def __init__(
        self,
        route: Route,
        credentials: Callable[[], Credentials],
        hello: Callable[[], rounds_pb2.NodeEvent],
        hear: Callable[[rounds_pb2.Instruction], None],
        room: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.route = route
        self._credentials, self._hello, self._hear, self._room = credentials, hello, hear, room
        self._out: asyncio.Queue[rounds_pb2.NodeEvent] = asyncio.Queue(QUEUE_LIMIT)
        self._channel: grpc.aio.Channel | None = None
        self._call: grpc.aio.StreamStreamCall[rounds_pb2.NodeEvent, rounds_pb2.Instruction] | None = None
        self.connected = asyncio.Event()
        self._muted = ""
        self.turn: Callable[[], Route] | None = None
        """where to dial next, after an attempt in vain"""
        self.count: Callable[[str], None] = lambda _name: None
        """metrics: one more of ..."""
        self.sent: Callable[[int], None] = lambda _size: None
        """metrics: bytes of an update that left"""
        self.took: Took = unnoticed
        """metrics: how a call beside the stream ended, and when"""

    def mute(self, why: str) -> None:
        """From now on nothing leaves that is about a job but ``NOES``; uploads raise Halted."""
        self._muted = why

    def _check_muted(self) -> None:
        if self._muted:
            raise Halted(self._muted, hint="Nothing was sent. The lab's operator decides when this node goes on.")

    def send(self, event: rounds_pb2.NodeEvent) -> None:
        """Queues an event; dropped while the stream is broken, or muted and the event is about a job and says no "no"."""
        if self._muted and event.job and event.WhichOneof("event") not in NOES:
            return
        if self.connected.is_set():
            try:
                self._out.put_nowait(event)
                if event.upload.inline_update:
                    self.sent(len(event.upload.inline_update))
            except asyncio.QueueFull:
                self.redial()

    def redial(self) -> None:
        """Ends the stream; it is opened anew (with a renewed certificate, say)."""
        if self._call is not None:
            self._call.cancel()

    async def run(self) -> None:
        """Until cancelled."""
        pause = FIRST_PAUSE
        while True:
            try:
                await self._stream()
            except grpc.aio.AioRpcError as error:
                said = error_of(error, self.route)
                log.warning("link.broken", detail=said.message, hint=said.hint)
            except FederationError as error:
                log.warning("link.refused", code=error.code, detail=error.message, hint=error.hint)
            except Exception as error:  # whatever a coordinator says, the node dials again
                log.exception("link.failed", error=type(error).__name__)
            finally:
                if self.connected.is_set():
                    pause = FIRST_PAUSE
                elif self.turn is not None:
                    self.route = self.turn()
                self.connected.clear()
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads the dialling, protects nobody
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _stream(self) -> None:
        """One stream from Hello to its end."""
        self.count("link_dials")
        async with open_channel(self.route, self._credentials()) as channel:
            self._channel = channel
            # The stubs are typed for the blocking API: asyncio's stream needs no iterator of requests.
            connect: Any = rounds_pb2_grpc.NodeLinkStub(parsing(channel)).Connect
            call = self._call = connect()
            while not self._out.empty():
                self._out.get_nowait()
            try:
                async with duplex(call, self._write(call, self._hello())):
                    async for instruction in call:
                        if not self.connected.is_set():
                            self.connected.set()
                            log.info("link.open", route=self.route.sentence)
                        self._hear(parsed(instruction))
                        if self._room is not None:
                            await self._room()
            finally:
                self._channel = self._call = None

    async def _write(self, call: object, hello: rounds_pb2.NodeEvent) -> None:
        await call.write(hello)  # type: ignore[attr-defined]
        while True:
            await call.write(await self._out.get())  # type: ignore[attr-defined]

    # ------------------------------------------------------------------------------------------------------------ parts

    def channel(self) -> grpc.aio.Channel:
        """The open channel, for calls beside the stream. Raises Unavailable."""
        if self._channel is None:
            raise Unavailable(
                f"The coordinator cannot be reached: {self.route.place}.", hint="The node dials again by itself."
            )
        return self._channel

    def calls(self) -> grpc.aio.Channel:
        """The open channel for stubs, with metrics. Raises Unavailable."""
        return parsing(timed(self.channel(), self.took))

    async def put_update(self, job: bytes, context: bytes, update: GrowingUpdate) -> None:
        """Streams a masked update, from where the coordinator has it; what is not written yet follows when it is.

        Raises Unavailable or what the coordinator says.
        """
        self._check_muted()
        query, size = rounds_pb2.UpdateQuery(job=job, context=context), update.size
        stub = rounds_pb2_grpc.NodeLinkStub(self.calls())
        with spoken(self.route):
            held = parsed(await stub.HeldUpdate(query, timeout=CALL_SECONDS)).held
            if held == size:
                return
            if held:
                self.count("transfers_resumed")

            async def parts() -> AsyncIterator[rounds_pb2.UpdatePart]:
                with update.path.open("rb", buffering=0) as stream:
                    stream.seek(held)
                    offset, first = held, True
                    while offset < size:
                        standing = await update.until(offset + PART)
                        self._check_muted()
                        data = stream.read(min(PART, standing - offset))
                        if not data:
                            raise Unavailable("The masked update is shorter than it was.", hint="Its attempt is over.")
                        head = {"update": query, "size": size} if first else {}
                        yield rounds_pb2.UpdatePart(offset=offset, data=data, **head)  # type: ignore[arg-type]
                        self.sent(len(data))
                        offset, first = offset + len(data), False

            receipt = parsed(await stub.PutUpdate(parts(), timeout=TRANSFER_SECONDS))
        if not receipt.complete:
            raise Unavailable("The update did not arrive whole.", hint="The node sends the rest by itself.")

    async def audit(self, job: bytes, context: bytes, leaf: int, members: int) -> list[rounds_pb2.AuditPart]:
        """What the cohort uploaded at one place: at most ``members`` parts. Raises Unavailable, or what the coordinator says."""
        stub = rounds_pb2_grpc.NodeLinkStub(self.calls())
        parts: list[rounds_pb2.AuditPart] = []
        with spoken(self.route):
            request = rounds_pb2.AuditRequest(job=job, context=context, place=leaf)
            async for part in paced(stub.Audit(request, timeout=TRANSFER_SECONDS), self.route):
                if len(parts) == members:
                    raise ProtocolViolation("An audit shows more members than the cohort has.", check="audit-cohort")
                if part.ByteSize() > AUDIT_PART_LIMIT:
                    raise ProtocolViolation("An audit shows more bytes than a chunk has.", check="audit-chunk")
                parts.append(part)
        return parts

    async def put_blob(self, digest: bytes, path: Path) -> None:
        """Raises Unavailable when it cannot be brought to its end."""
        self._check_muted()
        size = path.stat().st_size
        stub = blobs_pb2_grpc.BlobsStub(self.calls())
        with spoken(self.route):
            receipt = parsed(await stub.Held(blobs_pb2.BlobRequest(digest=digest), timeout=CALL_SECONDS))
            if receipt.complete:
                return
            held = receipt.held
            if held:
                self.count("transfers_resumed")

            async def parts() -> AsyncIterator[blobs_pb2.BlobPart]:
                with path.open("rb") as stream:
                    stream.seek(held)
                    offset, first = held, True
                    while data := stream.read(PART):
                        head = {"digest": digest, "size": size} if first else {}
                        yield blobs_pb2.BlobPart(offset=offset, data=data, **head)  # type: ignore[arg-type]
                        offset, first = offset + len(data), False

            receipt = parsed(await stub.Put(parts(), timeout=TRANSFER_SECONDS))
        if not receipt.complete:
            raise Unavailable("The blob did not arrive whole.", hint="The node sends the rest by itself.")

    async def get_blob(self, digest: bytes, path: Path, limit: int) -> None:
        """Fetches a blob into ``path``, in several tries where it must. Raises VerificationFailed for other bytes than named."""
        partial = path.with_name(f".{path.name}.part")
        partial.unlink(missing_ok=True)
        try:
            for attempt in range(TRIES):
                try:
                    await self._fetch(digest, partial, limit)
                    break
                except (Unavailable, VerificationFailed) as error:
                    if attempt == TRIES - 1:
                        raise
                    self.count("transfers_retried")
                    log.warning("transfer.again", blob=digest.hex()[:16], detail=error.message, hint=error.hint)
                    await asyncio.sleep(FIRST_PAUSE * 2**attempt)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    async def _fetch(self, digest: bytes, partial: Path, limit: int) -> None:
        stub = blobs_pb2_grpc.BlobsStub(self.calls())
        with partial.open("ab") as stream, spoken(self.route):
            done = stream.tell()
            call = stub.Get(blobs_pb2.BlobRequest(digest=digest, offset=done), timeout=TRANSFER_SECONDS)
            empty = 0
            async for part in paced(call, self.route):
                empty += not part.data
                if part.offset != done or done + len(part.data) > limit or empty > 1:  # a blob may be empty
                    partial.unlink()
                    raise VerificationFailed(
                        f"The coordinator sent other bytes than were asked for, or more than {limit:,}.",
                        hint="They were thrown away. Tell the coordinator's operator.",
                    )
                stream.write(part.data)
                done += len(part.data)
        if await asyncio.to_thread(digest_of, partial) != digest:
            partial.unlink()
            raise VerificationFailed(
                f"What came for {digest.hex()[:16]}… has another digest; it was thrown away.",
                hint="Tell the coordinator's operator.",
            )


async def paced(call: Any, route: Route) -> AsyncIterator[Any]:
    """The parts of a transfer. Raises Unavailable, and ends the call, when the next does not come in time."""
    parts = aiter(call)
    try:
        while True:
            try:
                yield parsed(await asyncio.wait_for(anext(parts), PART_SECONDS))
            except StopAsyncIteration:
                return
    except TimeoutError:
        raise Unavailable(
            f"A transfer from {route.place} stood still for {PART_SECONDS:.0f} s and was ended.",
            hint="The node tries again by itself. If it stays so, tell the coordinator's operator.",
        ) from None
    finally:
        call.cancel()


def digest_of(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
