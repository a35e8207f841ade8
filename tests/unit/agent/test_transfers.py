"""Transfers from a coordinator that dawdles, repeats itself, or never ends: each has a deadline and a limit, and leaves nothing."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from federation.errors import Halted, ProtocolViolation, Unavailable, VerificationFailed
from federation.route import Route
from federation.v1 import blobs_pb2, rounds_pb2
from node_agent.link import stream
from node_agent.link.stream import Link, paced

ROUTE = Route("127.0.0.1:1")
DATA = b"whole" * 100
DIGEST = hashlib.sha256(DATA).digest()


class Call:
    """An answer in parts; ``hangs``: nothing comes after them."""

    def __init__(self, parts: list[Any], *, hangs: bool = False) -> None:
        self.parts, self.hangs, self.cancelled = parts, hangs, False

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._each()

    async def _each(self) -> AsyncIterator[Any]:
        for part in self.parts:
            yield part
        if self.hangs:
            await asyncio.Event().wait()

    def cancel(self) -> None:
        self.cancelled = True


class Liar:
    """In the place of the channel: each Get is answered by the next of ``answers``, the last for ever."""

    def __init__(self, *answers: Call) -> None:
        self.answers, self.asked = list(answers), 0

    def unary_stream(self, path: str, **_: Any) -> Any:
        def call(_request: Any, timeout: float) -> Call:
            assert timeout
            self.asked += 1
            return self.answers[min(self.asked, len(self.answers)) - 1]

        return call

    def unary_unary(self, path: str, **_: Any) -> Any:
        return None

    stream_unary = stream_stream = unary_unary


def part(offset: int, data: bytes) -> blobs_pb2.BlobPart:
    return blobs_pb2.BlobPart(digest=DIGEST, offset=offset, data=data)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(stream, "PART_SECONDS", 0.05)


def fetch(liar: Liar, path: Path) -> None:
    link: Any = Link(ROUTE, None, None, None, None)  # type: ignore[arg-type]
    link._channel = liar
    asyncio.run(link.get_blob(DIGEST, path, len(DATA)))


BAD: dict[str, tuple[Call, type[Exception]]] = {
    "more than the limit": (Call([part(0, DATA), part(len(DATA), b"x")]), VerificationFailed),
    "another place": (Call([part(3, DATA)]), VerificationFailed),
    "nothing, again and again": (Call([part(0, b"")] * 1000), VerificationFailed),
    "other bytes": (Call([part(0, DATA[::-1])]), VerificationFailed),
    "half": (Call([part(0, DATA[:10])]), VerificationFailed),
    "no message": (Call([None]), ProtocolViolation),
    "nothing more comes": (Call([part(0, DATA[:10])], hangs=True), Unavailable),
}


@pytest.mark.parametrize("how", BAD)
def test_a_bad_transfer_is_ended_named_and_leaves_nothing(tmp_path: Path, how: str) -> None:
    call, kind = BAD[how]
    with pytest.raises(kind) as caught:
        fetch(Liar(call), tmp_path / "blob")
    assert caught.value.hint  # type: ignore[attr-defined]
    assert call.cancelled
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", [how for how in BAD if how != "no message"])
def test_a_good_one_after_it_counts(tmp_path: Path, how: str) -> None:
    good = Call([part(0, DATA)]) if how != "nothing more comes" else Call([part(10, DATA[10:])])
    fetch(Liar(BAD[how][0], good), tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == DATA
    assert len(list(tmp_path.iterdir())) == 1


def test_an_audit_ends_at_the_first_part_that_is_too_many_or_too_large() -> None:
    async def audit(*parts: Any) -> int:
        link: Any = Link(ROUTE, None, None, None, None)  # type: ignore[arg-type]
        link._channel = Liar(Call(list(parts)))
        return len(await link.audit(bytes(32), bytes(32), 0, 3))

    small, large = rounds_pb2.AuditPart(index=1, data=b"x"), rounds_pb2.AuditPart(index=1, data=bytes(5 << 20))
    assert asyncio.run(audit(small, small, small)) == 3
    for parts, check in (((small,) * 4, "audit-cohort"), ((large,), "audit-chunk"), ((None,), "malformed-message")):
        with pytest.raises(ProtocolViolation) as caught:
            asyncio.run(audit(*parts))
        assert caught.value.check == check


def test_parts_that_come_in_time_are_handed_on() -> None:
    async def read() -> list[int]:
        return [each async for each in paced(Call([1, 2, 3]), ROUTE)]

    assert asyncio.run(read()) == [1, 2, 3]


def test_a_muted_link_lets_refusals_out_and_nothing_else_of_a_job(tmp_path: Path) -> None:
    async def story() -> list[str]:
        link: Any = Link(ROUTE, None, None, None, None)  # type: ignore[arg-type]
        link.connected.set()
        link.mute("the log was rewritten")
        link.send(rounds_pb2.NodeEvent(job=b"j", ready=rounds_pb2.Ready()))
        link.send(rounds_pb2.NodeEvent(job=b"j", consent=rounds_pb2.ConsentReply()))
        link.send(rounds_pb2.NodeEvent(job=b"j", refusal=rounds_pb2.Refusal()))
        link.send(rounds_pb2.NodeEvent(pong=rounds_pb2.Pong()))
        (tmp_path / "blob").write_bytes(DATA)
        for upload in (link.put_blob(DIGEST, tmp_path / "blob"), link.put_update(b"j", b"c", None)):
            with pytest.raises(Halted, match="rewritten"):
                await upload
        return [link._out.get_nowait().WhichOneof("event") for _ in range(link._out.qsize())]

    assert asyncio.run(story()) == ["refusal", "pong"]
