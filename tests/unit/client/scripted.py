"""A coordinator that says what a test tells it to, over real mutual TLS on loopback, and the home of a lead who is logged in."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc

from coordinator.client.home import Home, Profile
from coordinator.registry.authority import Authority
from federation.errors import TABLE, FederationError
from federation.identity.roll import lead_card
from federation.identity.transport import Principal
from federation.manifest.manifest import open_manifest
from federation.v1 import blobs_pb2, blobs_pb2_grpc, enrolment_pb2, enrolment_pb2_grpc, jobs_pb2, jobs_pb2_grpc
from tests.unit.identity.parties import Parties, found

FEDERATION = "health"
LEAD = "lead"
PART = 1000


def fail(context: grpc.ServicerContext, error: FederationError) -> None:
    """As a coordinator lets an error leave: status, and the words in the trailers."""
    trailers = (
        ("concord-code", error.code),
        ("concord-message-bin", error.message.encode()),
        ("concord-hint-bin", error.hint.encode()),
    )
    context.set_trailing_metadata(trailers)
    context.abort(getattr(grpc.StatusCode, TABLE[error.code].grpc_status), error.code)


@dataclass
class Coordinator(jobs_pb2_grpc.JobsServicer, enrolment_pb2_grpc.EnrolmentServicer):
    """Each answer is a field that a test sets; an error there is raised instead."""

    parties: Parties
    authority: Authority
    jobs: list[Any] = field(default_factory=list)
    """JobViews; what Get and Watch answer is the first that has the name"""
    watched: list[Any] = field(default_factory=list)
    """what a watch sends, one stream after another: JobViews, or None where the stream breaks"""
    lines: list[tuple[str, str, str]] = field(default_factory=list)
    nodes: list[Any] = field(default_factory=list)
    submitted: list[bytes] = field(default_factory=list)
    created: bool = True
    withdrawn: list[bytes] = field(default_factory=list)
    release: list[tuple[str, bytes]] = field(default_factory=list)
    """path and content"""
    blobs: dict[bytes, bytes] = field(default_factory=dict)
    offsets: list[int] = field(default_factory=list)
    """where each download began"""
    error: FederationError | None = None
    issued: Callable[[bytes, Principal], bytes] | None = None
    """in place of the authority's own issue"""
    roll: bytes = b""
    calls: list[str] = field(default_factory=list)
    _server: Any = None
    port: int = 0

    # ---------------------------------------------------------------------------------------------------------- serving

    def start(self) -> None:
        """On the port of last time, if there was one."""
        certificate, key = self.authority.server("127.0.0.1", datetime.now(UTC), timedelta(days=1))
        credentials = grpc.ssl_server_credentials([(key, certificate)], self.authority.certificate_pem, True)
        self._server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        jobs_pb2_grpc.add_JobsServicer_to_server(self, self._server)
        blobs_pb2_grpc.add_BlobsServicer_to_server(Blobs(self), self._server)
        enrolment_pb2_grpc.add_EnrolmentServicer_to_server(self, self._server)
        self.port = self._server.add_secure_port(f"127.0.0.1:{self.port}", credentials)
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _called(self, name: str, context: grpc.ServicerContext) -> None:
        self.calls.append(name)
        if self.error is not None:
            fail(context, self.error)

    # ------------------------------------------------------------------------------------------------------------- jobs

    def List(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._called("List", context)
        return jobs_pb2.ListJobsReply(jobs=self.jobs)

    def Get(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._called("Get", context)
        return next(job for job in self.jobs if request.job in (job.name, job.job.hex()))

    def Watch(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        self._called("Watch", context)
        while self.watched:
            view = self.watched.pop(0)
            if view is None:
                context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
            yield view

    def Logs(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        self._called("Logs", context)
        for time, member, text in self.lines:
            yield jobs_pb2.LogLine(time=time, member=member, text=text)

    def Submit(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._called("Submit", context)
        self.submitted.append(request.manifest)
        return jobs_pb2.SubmitReply(job=open_manifest(request.manifest, self.parties.roll).digest, created=self.created)

    def Withdraw(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._called("Withdraw", context)
        self.withdrawn.append(request.withdrawal)
        ended = jobs_pb2.JobView.FromString(self.jobs[0].SerializeToString())
        ended.state = "withdrawn"
        return ended

    def DescribeFederation(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._called("DescribeFederation", context)
        roll = self.roll or self.parties.roll.envelope
        return jobs_pb2.FederationView(federation=FEDERATION, nodes=self.nodes, roll=roll)

    def GetRelease(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._called("GetRelease", context)
        files = []
        for path, content in self.release:
            digest = hashlib.sha256(content).digest()
            self.blobs.setdefault(digest, content)
            files.append(jobs_pb2.ReleaseFile(path=path, digest=digest, size=len(content)))
        return jobs_pb2.ReleaseView(files=files)

    # ------------------------------------------------------------------------------------------------------------ blobs

    def Held(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._called("Held", context)
        data = self.blobs.get(request.digest, b"")
        complete = hashlib.sha256(data).digest() == request.digest
        return blobs_pb2.BlobReceipt(held=len(data), complete=complete)

    def Put(self, request: Iterator[Any], context: grpc.ServicerContext) -> Any:
        self._called("Put", context)
        digest = b""
        for part in request:
            digest = part.digest or digest
            self.offsets.append(part.offset)
            self.blobs[digest] = self.blobs.get(digest, b"")[: part.offset] + part.data
        data = self.blobs[digest]
        return blobs_pb2.BlobReceipt(held=len(data), complete=hashlib.sha256(data).digest() == digest)

    def Get_blob(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        self._called("Blobs.Get", context)
        self.offsets.append(request.offset)
        data = self.blobs[request.digest]
        for offset in range(request.offset, len(data), PART):
            yield blobs_pb2.BlobPart(offset=offset, data=data[offset : offset + PART])

    # -------------------------------------------------------------------------------------------------------- enrolment

    def Join(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._called("Join", context)
        return enrolment_pb2.JoinReply(
            certificate_pem=self._issue(request.csr_pem, Principal("lead", name=LEAD)),
            ca_pem=self.authority.certificate_pem,
            roll=self.roll or self.parties.roll.envelope,
            federation=FEDERATION,
        )

    def Renew(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._called("Renew", context)
        return enrolment_pb2.RenewReply(certificate_pem=self._issue(request.csr_pem, Principal("lead", name=LEAD)))

    def _issue(self, csr: bytes, principal: Principal) -> bytes:
        if self.issued is not None:
            return self.issued(csr, principal)
        return self.authority.issue(csr, principal, datetime.now(UTC), timedelta(hours=24))


class Blobs(blobs_pb2_grpc.BlobsServicer):
    """Both services have a Get: this one is the blobs'."""

    def __init__(self, whole: Coordinator) -> None:
        self.Get, self.Put, self.Held = whole.Get_blob, whole.Put, whole.Held


def coordinator(members: tuple[str, ...] = ("fr", "ke", "us")) -> Coordinator:
    return Coordinator(found(*members), Authority.create(FEDERATION, datetime.now(UTC)))


def logged_in(
    path: Path, server: Coordinator, lifetime: timedelta = timedelta(hours=24), age: timedelta | None = None
) -> Home:
    """The lead's home after `concord login`. ``age``: how long ago the certificate was issued."""
    home = Home.at(path)
    roll, key = server.parties.roll, server.parties.lead_key
    listed = roll.lead(LEAD)
    home.create(Profile("lead", LEAD, "A lead", {"member": listed.member}), key, lead_card(listed, key))
    home.trust_roll(roll.envelope)
    issued = server.authority.issue_for(
        home.transport_key().private.public_key(),
        Principal("lead", name=LEAD),
        datetime.now(UTC) - (age or timedelta()),
        lifetime,
    )
    home.remember_connection(server.address, FEDERATION, server.authority.certificate_pem, issued)
    return home


def free_port() -> int:
    """A port on which nothing listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port: int = probe.getsockname()[1]
        return port


__all__ = ["FEDERATION", "LEAD", "Coordinator", "coordinator", "fail", "free_port", "logged_in"]
