"""How long a node's calls take, by method and how they end: whatever the coordinator answers, the words are the program's own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from federation.errors import FederationError, ProtocolViolation, Unavailable
from federation.route import Route
from federation.v1 import audit_pb2, audit_pb2_grpc, blobs_pb2, blobs_pb2_grpc, rounds_pb2, rounds_pb2_grpc
from node_agent.link import stream
from node_agent.link.audit import AuditLink
from node_agent.link.stream import Link, digest_of
from node_agent.link.timing import timed
from node_agent.telemetry.families import CALL_SECONDS
from node_agent.telemetry.metrics import NodeMetrics

DATA = bytes(range(256))


class Books(audit_pb2_grpc.AuditLogServicer):
    """A log whose answer depends on what it is asked for."""

    async def Head(self, request: Any, context: Any) -> Any:
        if request.size == 1:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no")
        if request.size == 2:
            raise ValueError
        if request.size == 3:
            await asyncio.Event().wait()
        return audit_pb2.HeadReply(key="k")


class Shelf(blobs_pb2_grpc.BlobsServicer):
    """Every blob is ``DATA``; some never come to their end."""

    async def Get(self, request: Any, context: Any) -> Any:
        yield blobs_pb2.BlobPart(offset=request.offset, data=DATA[request.offset : 100])
        if request.digest == b"slow":
            await asyncio.Event().wait()
        if request.digest == b"gone":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "later")
        yield blobs_pb2.BlobPart(offset=100, data=DATA[100:])

    async def Held(self, _request: Any, _context: Any) -> Any:
        return blobs_pb2.BlobReceipt(held=0)

    async def Put(self, parts: Any, _context: Any) -> Any:
        async for _part in parts:
            pass
        return blobs_pb2.BlobReceipt(complete=True)


class Rooms(rounds_pb2_grpc.NodeLinkServicer):
    async def Connect(self, events: Any, _context: Any) -> Any:
        async for _event in events:
            yield rounds_pb2.Instruction()


Story = Callable[[Link], Awaitable[None]]


def played(story: Story) -> NodeMetrics:
    """What was measured of a story with a real server."""

    async def play() -> NodeMetrics:
        server = grpc.aio.server()
        audit_pb2_grpc.add_AuditLogServicer_to_server(Books(), server)  # type: ignore[no-untyped-call]
        blobs_pb2_grpc.add_BlobsServicer_to_server(Shelf(), server)  # type: ignore[no-untyped-call]
        rounds_pb2_grpc.add_NodeLinkServicer_to_server(Rooms(), server)  # type: ignore[no-untyped-call]
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        metrics = NodeMetrics("1.2.3")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            link: Any = Link(Route(f"127.0.0.1:{port}"), None, None, None, None)  # type: ignore[arg-type]
            link._channel, link.took = channel, metrics.called
            link.connected.set()
            await story(link)
        await server.stop(None)
        return metrics

    return asyncio.run(play())


def counted(metrics: NodeMetrics) -> Counter[tuple[str, str]]:
    (family,) = (each for each in metrics.registry.collect() if each.name == "concord_node_rpc_seconds")
    return Counter(
        {
            (sample.labels["method"], sample.labels["code"]): int(sample.value)
            for sample in family.samples
            if sample.name.endswith("_count")
        }
    )


def test_questions_are_timed_by_how_they_are_answered() -> None:
    async def story(link: Link) -> None:
        log = AuditLink(link)
        for _ in range(3):
            assert (await log.head(0)).key == "k"
        for bad in (1, 2):
            with pytest.raises(FederationError):
                await log.head(bad)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(log.head(3), 0.05)

    assert counted(played(story)) == {
        ("AuditLog/Head", "ok"): 3,
        ("AuditLog/Head", "not_found"): 1,
        ("AuditLog/Head", "unknown"): 1,
        ("AuditLog/Head", "cancelled"): 1,
    }


def test_transfers_are_timed_to_their_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "PART_SECONDS", 0.05)
    monkeypatch.setattr(stream, "TRIES", 1)
    (tmp_path / "data").write_bytes(DATA)
    digest = digest_of(tmp_path / "data")

    async def story(link: Link) -> None:
        await link.get_blob(digest, tmp_path / "blob", 256)
        await link.put_blob(digest, tmp_path / "data")
        for broken in (b"gone", b"slow"):
            with pytest.raises(Unavailable):
                await link.get_blob(broken, tmp_path / "blob", 256)

    assert counted(played(story)) == {
        ("Blobs/Get", "ok"): 1,
        ("Blobs/Get", "unavailable"): 1,
        ("Blobs/Get", "cancelled"): 1,
        ("Blobs/Held", "ok"): 1,
        ("Blobs/Put", "ok"): 1,
    }


def test_a_stream_that_stays_open_is_not_a_call(tmp_path: Path) -> None:
    async def story(link: Link) -> None:
        call: Any = rounds_pb2_grpc.NodeLinkStub(link.calls()).Connect()  # type: ignore[no-untyped-call]
        await call.write(rounds_pb2.NodeEvent())
        assert await call.read() == rounds_pb2.Instruction()
        call.cancel()

    assert counted(played(story)) == {}


class Loud:
    """A channel that ends each call with what a hostile peer would like to see as a label."""

    def __init__(self, end: BaseException) -> None:
        self.end = end

    def unary_unary(self, _path: str, **_options: Any) -> Any:
        async def call(*_said: Any) -> Any:
            raise self.end

        return call


def test_a_hostile_coordinator_makes_no_words() -> None:
    """gRPC knows sixteen statuses and no other; whatever else comes of an answer is "unknown"."""
    heard: list[str] = []

    async def story() -> None:
        said = [
            grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "x" * 99) for code in grpc.StatusCode
        ]
        for end in (*said, KeyError(99), ValueError("z" * 1000), ProtocolViolation("no", check="x" * 50)):
            channel = timed(Loud(end), lambda _method, code, _seconds: heard.append(code))  # type: ignore[arg-type]
            with pytest.raises(type(end)):
                await channel.unary_unary("/federation.v1.AuditLog/Head")(b"")  # type: ignore[misc]

    asyncio.run(story())
    assert set(heard) == {code.name.lower() for code in grpc.StatusCode}
    assert len(heard) == len(grpc.StatusCode) + 3


def test_buckets_reach_from_a_question_to_a_large_model() -> None:
    assert CALL_SECONDS[0] <= 0.001
    assert CALL_SECONDS[-1] >= stream.TRANSFER_SECONDS
