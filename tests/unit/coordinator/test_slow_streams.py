"""Streams that stand still, and uploads that say more or less than they declared: each has a deadline, a limit and a name."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from coordinator.api import node_link, services
from coordinator.api.node_link import NodeLinkService
from coordinator.api.services import BlobService
from coordinator.api.sessions import Sessions
from coordinator.store.blobs import Blobs
from coordinator.store.spool import Spool
from federation.errors import OutOfOrder
from federation.identity.transport import Principal
from federation.v1 import blobs_pb2, rounds_pb2

JOB, CONTEXT = b"\1" * 32, b"\2" * 32
SIZE = 1000
STATE_LIMIT = 5000


class Ended(Exception):
    """gRPC's abort."""


class Context:
    def __init__(self) -> None:
        self.said: dict[str, bytes | str] = {}

    async def abort(self, _status: grpc.StatusCode, code: str, trailing_metadata: Any) -> None:
        self.said = {"code": code, **dict(trailing_metadata)}
        raise Ended


class Docket:
    """One job, which collects for one context until ``over``."""

    def __init__(self) -> None:
        self.over, self.asks, self.given = False, 1, 0

    def driver(self, job: bytes, member: str, node: str) -> Docket:
        assert (job, member, node) == (JOB, "de", "de-1")
        return self

    def expected(self, _member: str, context: bytes) -> None:
        if self.over or context != CONTEXT:
            raise OutOfOrder("Nothing is collected for this context now.")

    def state_limit(self, _member: str, _node: str) -> int:
        return STATE_LIMIT if self.asks > self.given else 0

    def gave_state(self, _member: str, _node: str) -> None:
        self.given += 1


async def silence() -> AsyncIterator[Any]:
    await asyncio.Event().wait()
    yield None


async def these(*parts: Any, hangs: bool = False, before_last: Any = lambda: None) -> AsyncIterator[Any]:
    for number, part in enumerate(parts):
        if number == len(parts) - 1:
            before_last()
        yield part
    if hangs:
        await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_link, "HELLO_SECONDS", 0.05)
    monkeypatch.setattr(node_link, "PART_SECONDS", 0.05)
    monkeypatch.setattr(services, "PART_SECONDS", 0.05)
    for module in (node_link, services):
        monkeypatch.setattr(module, "admitted", lambda *_: Principal("node", "de", "de-1"))


@pytest.fixture
def link(tmp_path: Path) -> NodeLinkService:
    return NodeLinkService(None, Sessions(), Docket(), Spool(tmp_path / "spool", 10_000), None, None)  # type: ignore[arg-type]


def told(context: Context) -> str:
    assert context.said["concord-hint-bin"], "whoever is refused is told what to do"
    return bytes(context.said["concord-message-bin"]).decode()  # type: ignore[arg-type]


def connect(link: NodeLinkService, events: AsyncIterator[Any]) -> Context:
    context = Context()

    async def read() -> None:
        async for _ in link.connect(events, context):  # type: ignore[arg-type]
            raise AssertionError("nothing is said to who has not said Hello")

    with pytest.raises(Ended):
        asyncio.run(asyncio.wait_for(read(), 30))
    return context


def test_a_stream_begins_with_its_own_hello_in_time_or_ends(link: NodeLinkService) -> None:
    assert connect(link, silence()).said["code"] == "invalid-usage"
    assert connect(link, these()).said["code"] == "invalid-usage"
    assert "no message" in told(connect(link, these(None)))
    other = rounds_pb2.NodeEvent(hello=rounds_pb2.Hello(member="ar", node="ar-1"))
    assert "not the certificate's node" in told(connect(link, these(other)))
    assert link.sessions.all() == ()


def first(size: int = SIZE, data: bytes = b"x" * 100) -> rounds_pb2.UpdatePart:
    return rounds_pb2.UpdatePart(update=rounds_pb2.UpdateQuery(job=JOB, context=CONTEXT), size=size, data=data)


def more(offset: int, data: bytes) -> rounds_pb2.UpdatePart:
    return rounds_pb2.UpdatePart(offset=offset, data=data)


UPLOADS: dict[str, tuple[list[Any], bool, str]] = {
    "stands still": ([first()], True, "stood still"),
    "longer than declared": ([first(), more(100, b"y" * 901)], False, "does not continue"),
    "more than is taken": ([first(size=10_001)], False, "more than this coordinator takes"),
    "nothing, again and again": ([first(), *[more(100, b"")] * 100], False, "empty, or larger"),
    "a gap": ([first(), more(101, b"y")], False, "does not continue"),
    "too large a part": ([first(), more(100, bytes((1 << 20) + 1))], False, "empty, or larger"),
    "no message": ([first(), None], False, "no message"),
}


@pytest.mark.parametrize("how", UPLOADS)
def test_a_bad_upload_is_ended_and_named(link: NodeLinkService, how: str) -> None:
    parts, hangs, words = UPLOADS[how]
    context = Context()
    with pytest.raises(Ended):
        asyncio.run(asyncio.wait_for(link.put_update(these(*parts, hangs=hangs), context), 30))  # type: ignore[arg-type]
    assert words in told(context)
    assert link.spool.held(JOB, CONTEXT, "de") <= SIZE


def test_an_upload_does_not_outlive_its_attempt(link: NodeLinkService, tmp_path: Path) -> None:
    """Its first part came in time. What comes after the end would lie in the spool for ever."""
    docket: Any = link.docket

    def end() -> None:
        docket.over = True
        link.spool.discard(JOB, CONTEXT)

    context = Context()
    with pytest.raises(Ended):
        asyncio.run(link.put_update(these(first(), more(100, b"y"), before_last=end), context))  # type: ignore[arg-type]
    assert context.said["code"] == "out-of-order"
    assert not list((tmp_path / "spool").rglob("de"))


def test_a_node_puts_the_one_blob_that_it_was_asked_for(tmp_path: Path) -> None:
    """Who begins another gives up the first; once one is whole, no more are taken."""
    docket = Docket()

    def put(digest: bytes, *data: bytes, size: int) -> Context:
        context, offset, parts = Context(), 0, []
        for each in data:
            parts.append(blobs_pb2.BlobPart(digest=digest, size=size, offset=offset, data=each))
            offset += len(each)
        service = BlobService(None, Blobs(tmp_path / "blobs"), docket)  # type: ignore[arg-type]  # of a process of its own
        with contextlib.suppress(Ended):
            asyncio.run(service.Put(these(*parts), context))
        return context

    assert "5,000 is the most" in told(put(b"\6" * 32, b"x", size=STATE_LIMIT + 1))
    for number in range(20):  # never brought to an end
        assert not put(bytes([number]) * 32, b"x" * 10, size=100).said
    assert len(list((tmp_path / "blobs" / "partial").iterdir())) == 1
    whole = b"a state"
    assert not put(hashlib.sha256(whole).digest(), whole, size=len(whole)).said
    assert "asked for no blob" in told(put(b"\7" * 32, b"x", size=1))
    docket.asks += 1
    assert "empty" in told(put(b"\7" * 32, b"x", b"", size=10))


def test_nobody_spoils_or_ends_what_another_is_sending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two send the blob of one name, one of them other bytes, and then begins another."""
    service = BlobService(None, Blobs(tmp_path / "blobs"), Docket())  # type: ignore[arg-type]
    whole = bytes(range(100))
    digest = hashlib.sha256(whole).digest()

    def put(name: str, digest: bytes, offset: int, data: bytes) -> Context:
        monkeypatch.setattr(services, "admitted", lambda *_: Principal("lead", name=name))
        part, context = blobs_pb2.BlobPart(digest=digest, size=100, offset=offset, data=data), Context()
        with contextlib.suppress(Ended):
            asyncio.run(service.Put(these(part), context))
        return context

    def held(name: str) -> int:
        monkeypatch.setattr(services, "admitted", lambda *_: Principal("lead", name=name))
        receipt: Any = asyncio.run(service.Held(blobs_pb2.BlobRequest(digest=digest), Context()))  # type: ignore[arg-type]
        return int(receipt.held)

    put("ana", digest, 0, whole[:60])
    assert (held("ana"), held("eve")) == (60, 0)
    put("eve", digest, 0, bytes(60))
    put("eve", digest, 60, bytes(40))
    put("eve", b"\7" * 32, 0, b"x")
    assert (held("ana"), held("eve")) == (60, 0)
    assert not put("ana", digest, 60, whole[60:]).said
    assert service.blobs.path(digest).read_bytes() == whole
    assert (held("ana"), held("eve")) == (100, 100)
