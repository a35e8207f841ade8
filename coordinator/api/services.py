# mypy: disable-error-code="override"
"""The unary and blob services: Enrolment, Blobs, Jobs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

import grpc

from coordinator.api.calls import Context, admitted, spoken, unary
from coordinator.api.sessions import Sessions
from coordinator.jobs.docket import Docket
from coordinator.jobs.lifecycle import ENDED
from coordinator.jobs.views import JobViews, moment
from coordinator.registry.enrolment import Registry, state_of
from coordinator.releases.desk import ReleaseDesk
from coordinator.store.blobs import MAX_BYTES, Blobs
from coordinator.store.database import Database
from federation.errors import InvalidUsage, PolicyDenied
from federation.identity.transport import Principal
from federation.parsing import parsed
from federation.v1 import (
    blobs_pb2,
    blobs_pb2_grpc,
    enrolment_pb2,
    enrolment_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    rounds_pb2,
)

PART: Final = 1 << 20
CLIENTS: Final = ("node", "lead", "operator")
READERS: Final = (*CLIENTS, "officer")
PEOPLE: Final = ("lead", "operator")
WATCH_PAUSE: Final = 0.05
"""views of one job are sent at most every so many seconds"""
PEOPLE_LIMIT: Final = 8 << 30
"""of a bundle or a first model that a lead puts"""
PART_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class EnrolmentService(enrolment_pb2_grpc.EnrolmentServicer):
    registry: Registry
    log_key: str = ""

    @unary
    async def Join(self, request: enrolment_pb2.JoinRequest, context: Context) -> enrolment_pb2.JoinReply:
        caller = admitted(context, self.registry, "ticket")
        joined = self.registry.join(caller, request.ticket_id, request.token, request.csr_pem, request.node_credential)
        return enrolment_pb2.JoinReply(
            certificate_pem=joined.certificate_pem,
            ca_pem=self.registry.authority.certificate_pem,
            roll=joined.roll.envelope,
            federation=joined.roll.federation,
            log_key=self.log_key,
        )

    @unary
    async def Renew(self, request: enrolment_pb2.RenewRequest, context: Context) -> enrolment_pb2.RenewReply:
        caller = admitted(context, self.registry, *READERS)
        return enrolment_pb2.RenewReply(certificate_pem=self.registry.renew(caller, request.csr_pem))


def _sender(caller: Principal) -> str:
    """One for each of the roll's people and nodes, whatever certificate they hold today."""
    return "/".join((caller.kind, caller.member, caller.node, caller.name))


@dataclass(frozen=True, slots=True)
class BlobService(blobs_pb2_grpc.BlobsServicer):
    registry: Registry
    blobs: Blobs
    docket: Docket
    check: Callable[[Principal, bytes], None] = lambda _caller, _digest: None
    """raises PolicyDenied for a file that this caller may not have"""

    @unary
    async def Put(self, parts: AsyncIterator[blobs_pb2.BlobPart], context: Context) -> blobs_pb2.BlobReceipt:
        caller = admitted(context, self.registry, *CLIENTS)
        limit = PEOPLE_LIMIT if caller.kind == "lead" else MAX_BYTES
        if caller.kind == "node" and not (limit := self.docket.state_limit(caller.member, caller.node)):
            raise PolicyDenied(
                "This node was asked for no blob.", hint="A node puts the state of a round, when the coordinator asks."
            )
        digest, size, held, complete = b"", 0, 0, False
        iterator = aiter(parts)
        while True:
            try:
                part = parsed(await asyncio.wait_for(anext(iterator), PART_SECONDS))
            except StopAsyncIteration:
                break
            except TimeoutError as error:
                raise InvalidUsage("The upload stood still for a minute and was ended.", hint="Continue it.") from error
            if not digest:
                digest, size = part.digest, part.size
                if size > limit:
                    raise InvalidUsage(
                        f"A blob of {size:,} bytes is too large: {limit:,} is the most.", hint="Send a smaller one."
                    )
                self.blobs.begin(digest, _sender(caller))
            elif not part.data:
                raise InvalidUsage("A part is empty.", hint="Send parts of up to 1 MiB.")
            if len(part.data) > PART:
                raise InvalidUsage("A part is larger than 1 MiB.", hint="Send it in smaller parts.")
            held, complete = await asyncio.to_thread(
                self.blobs.append, digest, size, part.offset, part.data, _sender(caller)
            )
            if complete:
                break
        if complete and caller.kind == "node":
            self.docket.gave_state(caller.member, caller.node)
        return blobs_pb2.BlobReceipt(held=held, complete=complete)

    async def Get(self, request: blobs_pb2.BlobRequest, context: Context) -> AsyncIterator[blobs_pb2.BlobPart]:
        async with spoken(context):
            caller = admitted(context, self.registry, *READERS)
            request = parsed(request)
            self.check(caller, request.digest)
            path = self.blobs.path(request.digest)
            size = path.stat().st_size
            with path.open("rb") as stream:
                stream.seek(min(request.offset, size))
                offset = stream.tell()
                first = True
                while True:
                    data = stream.read(PART - 64)
                    if not data and not first:
                        break
                    head = {"digest": request.digest, "size": size} if first else {}
                    yield blobs_pb2.BlobPart(offset=offset, data=data, **head)  # type: ignore[arg-type]
                    offset, first = offset + len(data), False

    @unary
    async def Held(self, request: blobs_pb2.BlobRequest, context: Context) -> blobs_pb2.BlobReceipt:
        caller = admitted(context, self.registry, *CLIENTS)
        held, complete = self.blobs.held(request.digest, _sender(caller))
        return blobs_pb2.BlobReceipt(held=held, complete=complete)


@dataclass(frozen=True, slots=True)
class JobService(jobs_pb2_grpc.JobsServicer):
    registry: Registry
    database: Database
    docket: Docket
    sessions: Sessions
    releases: ReleaseDesk
    views: JobViews

    @unary
    async def Submit(self, request: jobs_pb2.SubmitRequest, context: Context) -> jobs_pb2.SubmitReply:
        caller = admitted(context, self.registry, *PEOPLE)
        job, created = self.docket.submit(caller, request.manifest)
        return jobs_pb2.SubmitReply(job=job, created=created)

    @unary
    async def Get(self, request: jobs_pb2.JobQuery, context: Context) -> jobs_pb2.JobView:
        admitted(context, self.registry, *READERS)
        return self.views.view(self.docket.row(request.job))

    @unary
    async def List(self, request: jobs_pb2.ListJobsRequest, context: Context) -> jobs_pb2.ListJobsReply:  # noqa: ARG002
        admitted(context, self.registry, *READERS)
        with self.database.transaction() as change:
            rows = change.jobs()
        return jobs_pb2.ListJobsReply(jobs=[self.views.view(row, brief=True) for row in reversed(rows)])

    async def Watch(self, request: jobs_pb2.JobQuery, context: Context) -> AsyncIterator[jobs_pb2.JobView]:
        async with spoken(context):
            admitted(context, self.registry, *READERS)
            digest = self.docket.row(parsed(request).job).digest
            while True:
                changed = self.docket.next_change(digest)
                row = self.docket.row(digest)
                yield self.views.view(row)
                if row.state in ENDED:
                    return
                await changed.wait()
                await asyncio.sleep(WATCH_PAUSE)

    async def Logs(self, request: jobs_pb2.LogsRequest, context: Context) -> AsyncIterator[jobs_pb2.LogLine]:
        async with spoken(context):
            admitted(context, self.registry, *READERS)
            digest = self.docket.row(parsed(request).job).digest
            seen = 0
            while True:
                changed = self.docket.next_change(digest)
                ended = self.docket.row(digest).state in ENDED
                with self.database.transaction() as change:
                    lines = change.lines(digest, seen)
                for line in lines:
                    seen = line.sequence
                    yield jobs_pb2.LogLine(time=moment(line.time), member=line.member, text=line.text)
                if ended or not request.follow:
                    return
                await changed.wait()

    @unary
    async def Withdraw(self, request: jobs_pb2.WithdrawRequest, context: Context) -> jobs_pb2.JobView:
        caller = admitted(context, self.registry, *PEOPLE)
        return self.views.view(self.docket.row(self.docket.withdraw(caller, request.withdrawal)))

    @unary
    async def GetRelease(self, request: jobs_pb2.JobQuery, context: Context) -> jobs_pb2.ReleaseView:
        caller = admitted(context, self.registry, *READERS)
        row = self.docket.row(request.job)
        files = [
            jobs_pb2.ReleaseFile(path=path, digest=digest, size=size)
            for path, digest, size in self.releases.files(caller, row)
        ]
        return jobs_pb2.ReleaseView(job=bytes.fromhex(row.digest), files=files)

    @unary
    async def DescribeFederation(
        self,
        request: jobs_pb2.DescribeFederationRequest,  # noqa: ARG002
        context: Context,
    ) -> jobs_pb2.FederationView:
        admitted(context, self.registry, *READERS)
        roll = self.registry.roll()
        with self.database.transaction() as change:
            rows = change.nodes()
            held = {(row.member, row.node): row.statement for row in change.assembly.holders()}
        nodes = []
        for row in rows:
            session = self.sessions.get(row.member, row.node)
            nodes.append(
                jobs_pb2.NodeView(
                    member=row.member,
                    node=row.node,
                    jurisdiction=roll.member(row.member).jurisdiction,
                    state=state_of(row, roll),
                    connected=session is not None,
                    last_seen=moment(row.last_seen if session is None else time.time()),
                    offer=session.offer if session is not None else rounds_pb2.Offer(),
                    credential=row.credential,
                    roll_held=held.get((row.member, row.node), b""),
                )
            )
        return jobs_pb2.FederationView(federation=roll.federation, roll=roll.envelope, nodes=nodes)


def add_services(server: grpc.aio.Server, enrolment: EnrolmentService, blobs: BlobService, jobs: JobService) -> None:
    """Stubs stay in this room: the service composes, and knows no generated name."""
    enrolment_pb2_grpc.add_EnrolmentServicer_to_server(enrolment, server)
    blobs_pb2_grpc.add_BlobsServicer_to_server(blobs, server)
    jobs_pb2_grpc.add_JobsServicer_to_server(jobs, server)
