"""How long a node's calls to the coordinator take, and how they end: of those that end by themselves.

A call with one answer, and a transfer that the coordinator sends in parts, are timed from their start to their end; the two
streams of a node stay open for as long as they can, and are not. A call is named as in the coordinator's own metrics, and its end
by gRPC's word for the status: what the coordinator says makes no other.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, cast

import grpc

Took = Callable[[str, str, float], None]
"""hears the method, the word of the status, and the seconds"""
OK: Final = "ok"
CANCELLED: Final = "cancelled"
"""ended here: the caller has gone, or waited long enough for the next part"""
UNKNOWN: Final = "unknown"
PACKAGE: Final = "/federation.v1."


def unnoticed(_method: str, _code: str, _seconds: float) -> None:
    """For who keeps no metrics."""


def timed(channel: grpc.aio.Channel, took: Took) -> grpc.aio.Channel:
    """For stubs: the same channel, whose calls are told to ``took`` when they have ended."""
    return cast(grpc.aio.Channel, _Timed(channel, took))


class _Timed:
    def __init__(self, channel: grpc.aio.Channel, took: Took) -> None:
        self._channel, self._took = channel, took

    def unary_unary(self, path: str, **options: Any) -> Any:
        return self._answered(self._channel.unary_unary(path, **options), path)

    def stream_unary(self, path: str, **options: Any) -> Any:
        return self._answered(self._channel.stream_unary(path, **options), path)

    def unary_stream(self, path: str, **options: Any) -> Any:
        begin = self._channel.unary_stream(path, **options)
        return lambda *said, **how: _Parts(begin(*said, **how), _Watch(path, self._took))

    def stream_stream(self, path: str, **options: Any) -> Any:
        return self._channel.stream_stream(path, **options)

    def _answered(self, begin: Any, path: str) -> Any:
        async def call(*said: Any, **how: Any) -> Any:
            watch = _Watch(path, self._took)
            try:
                answer = await begin(*said, **how)
            except BaseException as error:
                watch.ended(word_of(error))
                raise
            watch.ended(OK)
            return answer

        return call


class _Watch:
    def __init__(self, path: str, took: Took) -> None:
        self._method, self._took, self._began = path.removeprefix(PACKAGE), took, time.perf_counter()
        self._running = True

    def ended(self, code: str) -> None:
        """The first end counts."""
        if self._running:
            self._running = False
            self._took(self._method, code, time.perf_counter() - self._began)


class _Parts:
    """A transfer: iterated once, and cancelled when it is given up."""

    def __init__(self, call: Any, watch: _Watch) -> None:
        self._call, self._watch = call, watch

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            async for part in self._call:
                yield part
        except BaseException as error:
            self._watch.ended(word_of(error))
            raise
        self._watch.ended(OK)

    def cancel(self) -> bool:
        self._watch.ended(CANCELLED)
        return bool(self._call.cancel())


def word_of(error: BaseException) -> str:
    """What ends a call, as gRPC calls it, in lower case."""
    if isinstance(error, grpc.aio.AioRpcError):
        return error.code().name.lower()
    return UNKNOWN if isinstance(error, Exception) else CANCELLED
