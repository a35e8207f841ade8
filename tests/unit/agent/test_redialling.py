"""How long a node waits before it dials again: longer each time nobody answers, from the start once somebody did."""

import asyncio
from typing import Any

import grpc
import pytest

from federation.route import Route
from node_agent.link import stream
from node_agent.link.stream import FIRST_PAUSE, LONGEST_PAUSE, Link


def broken() -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "Socket closed")


def pauses(monkeypatch: pytest.MonkeyPatch, answered: list[bool]) -> list[float]:
    """The pauses after streams that broke, of which those marked had been answered."""
    slept: list[float] = []
    link: Any = Link(Route("127.0.0.1:1"), None, None, None, None)  # type: ignore[arg-type]

    async def scripted() -> None:
        if len(slept) == len(answered):
            raise asyncio.CancelledError
        if answered[len(slept)]:
            link.connected.set()
        raise broken()

    async def sleep(seconds: float) -> None:
        assert not link.connected.is_set()
        slept.append(seconds)

    monkeypatch.setattr(link, "_stream", scripted)
    monkeypatch.setattr(stream.asyncio, "sleep", sleep)
    monkeypatch.setattr(stream.random, "uniform", lambda _low, high: high)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(link.run())
    return slept


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    found = pauses(monkeypatch, [False] * 10)
    assert found[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert found == sorted(found)
    assert found[-1] == LONGEST_PAUSE


def test_a_stream_that_broke_after_an_answer_starts_from_the_shortest_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    found = pauses(monkeypatch, [False, False, False, True, True, False, False, True])
    shortest = [index for index, seconds in enumerate(found) if seconds == FIRST_PAUSE]
    assert shortest == [0, 3, 4, 7]
