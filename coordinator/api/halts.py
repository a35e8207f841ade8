# mypy: disable-error-code="override"
"""Halts: orders and lifts from whoever carries them, and each node's stream for them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import grpc

from coordinator.api.calls import Context, admitted, spoken, unary
from coordinator.halts.desk import Attendance, HaltDesk
from coordinator.registry.enrolment import Registry
from federation.parsing import parsed
from federation.v1 import halt_pb2, halt_pb2_grpc

CALLERS: Final = ("node", "lead", "officer", "operator")


@dataclass(frozen=True, slots=True)
class HaltService(halt_pb2_grpc.HaltsServicer):
    registry: Registry
    desk: HaltDesk

    @unary
    async def Give(self, request: halt_pb2.GiveHalt, context: Context) -> halt_pb2.HaltTaken:
        admitted(context, self.registry, *CALLERS)
        digest, receipt = self.desk.give(request.order, request.lift)
        return halt_pb2.HaltTaken(digest=digest, receipt=receipt)

    @unary
    async def List(self, request: halt_pb2.ListHalts, context: Context) -> halt_pb2.HaltList:  # noqa: ARG002
        admitted(context, self.registry, *CALLERS)
        return halt_pb2.HaltList(halts=list(self.desk.views()))

    async def Watch(self, request: halt_pb2.WatchHalt, context: Context) -> AsyncIterator[halt_pb2.HaltView]:
        async with spoken(context):
            admitted(context, self.registry, *CALLERS)
            digest = parsed(request).digest
            while True:
                changed = self.desk.change(digest)
                yield self.desk.view(digest)
                await changed.wait()

    async def Attend(
        self, requests: AsyncIterator[halt_pb2.HaltReport], context: Context
    ) -> AsyncIterator[halt_pb2.HaltNotice]:
        async with spoken(context):
            caller = admitted(context, self.registry, "node")
            attendance = self.desk.attend(caller.member, caller.node)
            reader = asyncio.get_running_loop().create_task(self._read(requests, attendance))
            try:
                while (notice := await attendance.queue.get()) is not None:
                    yield notice
            finally:
                reader.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await reader
                self.desk.leave(attendance)

    async def _read(self, requests: AsyncIterator[halt_pb2.HaltReport], attendance: Attendance) -> None:
        try:
            async for report in requests:
                if report is not None:
                    self.desk.heard(attendance, report)
        except grpc.aio.AioRpcError:
            return
        finally:
            attendance.close()


def add_halts(server: grpc.aio.Server, service: HaltService) -> None:
    halt_pb2_grpc.add_HaltsServicer_to_server(service, server)
