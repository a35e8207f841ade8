# mypy: disable-error-code="override"
"""The AuditLog service: the public log for whoever may call, and the documents that it names for the federation's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import grpc

from coordinator.api.calls import Context, admitted, spoken, unary
from coordinator.audit.book import LogBook
from coordinator.registry.enrolment import Registry
from federation.parsing import parsed
from federation.v1 import audit_pb2, audit_pb2_grpc

CALLERS: Final = ("node", "lead", "officer", "operator")
PART: Final = (1 << 20) - 256


@dataclass(frozen=True, slots=True)
class AuditLogService(audit_pb2_grpc.AuditLogServicer):
    registry: Registry
    book: LogBook

    def add_to(self, server: grpc.aio.Server) -> None:
        audit_pb2_grpc.add_AuditLogServicer_to_server(self, server)

    @unary
    async def Head(self, request: audit_pb2.HeadQuery, context: Context) -> audit_pb2.HeadReply:
        admitted(context, self.registry, *CALLERS)
        head, seen = await asyncio.to_thread(self.book.head_since, request.size)
        return audit_pb2.HeadReply(
            note=head.note,
            path=head.path,
            seen=[audit_pb2.SeenHead(note=other.note, path=other.path) for other in seen],
            key=str(self.book.key),
        )

    @unary
    async def Part(self, request: audit_pb2.PartQuery, context: Context) -> audit_pb2.PartReply:
        admitted(context, self.registry, *CALLERS)
        if request.path == "checkpoint":
            return audit_pb2.PartReply(data=await asyncio.to_thread(self.book.note))
        return audit_pb2.PartReply(data=await asyncio.to_thread(self.book.part, request.path))

    @unary
    async def Prove(self, request: audit_pb2.ProofQuery, context: Context) -> audit_pb2.ProofReply:
        admitted(context, self.registry, *CALLERS)
        proof = await asyncio.to_thread(self.book.prove, request.document, request.number, request.size)
        return audit_pb2.ProofReply(
            entry=proof.entry, number=proof.index, size=proof.size, path=proof.path, note=proof.note
        )

    async def Document(
        self, request: audit_pb2.DocumentQuery, context: Context
    ) -> AsyncIterator[audit_pb2.DocumentPart]:
        async with spoken(context):
            admitted(context, self.registry, *CALLERS)
            kind, data = await asyncio.to_thread(self.book.document, parsed(request).digest)
            for start in range(0, len(data), PART):
                head = {"kind": kind, "size": len(data)} if start == 0 else {}
                yield audit_pb2.DocumentPart(data=data[start : start + PART], **head)  # type: ignore[arg-type]

    async def Witnesses(
        self, request: audit_pb2.WitnessesQuery, context: Context
    ) -> AsyncIterator[audit_pb2.WitnessCredential]:
        async with spoken(context):
            admitted(context, self.registry, *CALLERS)
            parsed(request)
            for member, node, credential in await asyncio.to_thread(lambda: tuple(self.book.witnesses())):
                yield audit_pb2.WitnessCredential(member=member, node=node, credential=credential)
