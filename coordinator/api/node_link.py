"""NodeLink: each node's one stream, and the masked updates that it sends chunk by chunk.

Instructions are queued as bytes, so that a broadcast is encoded once; the response serializer passes them through.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final

import grpc
import structlog

from coordinator.api.calls import Context, admitted, spoken
from coordinator.api.sessions import Session, Sessions
from coordinator.catalogue.shelf import Shelf
from coordinator.jobs.docket import Docket
from coordinator.registry.assembly import Assembly
from coordinator.registry.enrolment import Registry
from coordinator.store.spool import Spool
from coordinator.studies.desk import StudyDesk
from federation.errors import FederationError, InvalidUsage, ProtocolViolation
from federation.parsing import parsed
from federation.v1 import rounds_pb2

log = structlog.get_logger()

PART: Final = 1 << 20
HELLO_SECONDS: Final = 30.0
PART_SECONDS: Final = 60.0
SERVICE: Final = "federation.v1.NodeLink"


@dataclass(frozen=True, slots=True)
class NodeLinkService:
    registry: Registry
    sessions: Sessions
    docket: Docket
    spool: Spool
    shelf: Shelf
    assembly: Assembly
    opened: Callable[[], None] = lambda: None
    """metrics: one more stream"""
    resumed: Callable[[], None] = lambda: None
    """metrics: one more upload that goes on where it broke off"""
    studies: StudyDesk | None = None

    def handler(self) -> grpc.GenericRpcHandler[Any, Any]:
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Connect": grpc.stream_stream_rpc_method_handler(
                    self.connect,
                    request_deserializer=rounds_pb2.NodeEvent.FromString,
                    response_serializer=_as_is,
                ),
                "PutUpdate": grpc.stream_unary_rpc_method_handler(
                    self.put_update,
                    request_deserializer=rounds_pb2.UpdatePart.FromString,
                    response_serializer=rounds_pb2.UpdateReceipt.SerializeToString,
                ),
                "Audit": grpc.unary_stream_rpc_method_handler(
                    self.audit,
                    request_deserializer=rounds_pb2.AuditRequest.FromString,
                    response_serializer=rounds_pb2.AuditPart.SerializeToString,
                ),
                "HeldUpdate": grpc.unary_unary_rpc_method_handler(
                    self.held_update,
                    request_deserializer=rounds_pb2.UpdateQuery.FromString,
                    response_serializer=rounds_pb2.UpdateReceipt.SerializeToString,
                ),
            },
        )

    async def connect(self, requests: AsyncIterator[rounds_pb2.NodeEvent], context: Context) -> AsyncIterator[bytes]:
        async with spoken(context):
            caller = admitted(context, self.registry, "node")
            try:
                first = parsed(await asyncio.wait_for(anext(aiter(requests)), HELLO_SECONDS))
            except (TimeoutError, StopAsyncIteration) as error:
                raise InvalidUsage("The stream does not begin with Hello.") from error
            hello = first.hello
            if first.WhichOneof("event") != "hello" or (hello.member, hello.node) != (caller.member, caller.node):
                raise ProtocolViolation("The stream's Hello is not the certificate's node.", check="hello")
            session = Session(caller.member, caller.node, hello.offer)
            self.sessions.add(session)
            self.opened()
            roll = self.registry.roll()
            welcome = rounds_pb2.Instruction(welcome=rounds_pb2.Welcome(federation=roll.federation, roll=roll.envelope))
            session.send(welcome.SerializeToString())
            log.info("node.connected", member=session.member, node=session.node, version=hello.version)
            if self.studies is not None:  # a run is asked about after its study
                self.studies.connected(session)
            self.docket.connected(session, hello)
            reader = asyncio.get_running_loop().create_task(self._read(requests, session))
            try:
                while (data := await session.queue.get()) is not None:
                    yield data
            finally:
                reader.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await reader
                if self.sessions.remove(session):
                    log.info("node.disconnected", member=session.member, node=session.node)
                    self.docket.disconnected(session)

    async def _read(self, requests: AsyncIterator[rounds_pb2.NodeEvent], session: Session) -> None:
        try:
            async for event in requests:
                if event is None:
                    self.docket.garbled(session)
                    continue
                if event.WhichOneof("event") == "catalogue":
                    await self._shelve(session, event.catalogue.envelope)
                    continue
                if event.WhichOneof("event") == "roll_held":
                    self._held(session, event.roll_held.statement)
                    continue
                if self.studies is not None and self.studies.hears(session, event):
                    continue
                self.docket.heard(session, event)
                await self.docket.room(session)
        except grpc.aio.AioRpcError as error:
            log.info("node.stream-broke", member=session.member, node=session.node, status=str(error.code()))
        finally:
            session.close()

    async def _shelve(self, session: Session, envelope: bytes) -> None:
        held = await asyncio.to_thread(self.shelf.heard, session.member, session.node, envelope)
        session.send(rounds_pb2.Instruction(catalogue=held).SerializeToString())

    def _held(self, session: Session, statement: bytes) -> None:
        try:
            self.assembly.held(session.member, session.node, statement)
        except FederationError as error:
            log.warning("roll.statement-refused", member=session.member, node=session.node, detail=error.message)

    async def put_update(
        self, parts: AsyncIterator[rounds_pb2.UpdatePart], context: Context
    ) -> rounds_pb2.UpdateReceipt:
        async with spoken(context):
            caller = admitted(context, self.registry, "node")
            query, size, held = rounds_pb2.UpdateQuery(), 0, 0
            iterator = aiter(parts)
            while True:
                try:
                    part = parsed(await asyncio.wait_for(anext(iterator), PART_SECONDS))
                except StopAsyncIteration:
                    break
                except TimeoutError as error:
                    raise InvalidUsage(
                        "The upload stood still for a minute and was ended.", hint="Continue it."
                    ) from error
                if not query.job:
                    query, size = part.update, part.size
                    if part.offset:
                        self.resumed()
                # Asked for each part: an upload that goes on when its attempt is over would be kept by nobody.
                self.docket.driver(query.job, caller.member, caller.node).expected(caller.member, query.context)
                if not 0 < len(part.data) <= PART:
                    raise InvalidUsage(
                        "A part is empty, or larger than 1 MiB.", hint="Send it in parts of up to 1 MiB."
                    )
                held = self.spool.append(query.job, query.context, caller.member, size, part.offset, part.data)
            return rounds_pb2.UpdateReceipt(held=held, complete=size > 0 and held == size)

    async def audit(self, request: rounds_pb2.AuditRequest, context: Context) -> AsyncIterator[rounds_pb2.AuditPart]:
        async with spoken(context):
            caller = admitted(context, self.registry, "node")
            request = parsed(request)
            driver = self.docket.driver(request.job, caller.member, caller.node)
            parts = driver.audit(request.context, request.place)
            while (part := await asyncio.to_thread(next, parts, None)) is not None:
                yield part

    async def held_update(self, request: rounds_pb2.UpdateQuery, context: Context) -> rounds_pb2.UpdateReceipt:
        async with spoken(context):
            caller = admitted(context, self.registry, "node")
            request = parsed(request)
            self.docket.driver(request.job, caller.member, caller.node)
            return rounds_pb2.UpdateReceipt(held=self.spool.held(request.job, request.context, caller.member))


def _as_is(data: Any) -> bytes:
    return bytes(data)
