"""How long calls take, and how they fail: of those with one answer, since a stream stays open for as long as its peer likes."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from coordinator.web.metrics import Metrics

Behaviour = Callable[[Any, Any], Awaitable[Any]]


class Timing(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Only methods that there are get a series of their own: a peer can name whatever it likes."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = await continuation(details)
        if handler is None or handler.response_streaming:
            return handler
        method = details.method.removeprefix("/").removeprefix("federation.v1.")
        if handler.request_streaming:
            return handler._replace(stream_unary=self._timed(handler.stream_unary, method))
        return handler._replace(unary_unary=self._timed(handler.unary_unary, method))

    def _timed(self, behaviour: Behaviour, method: str) -> Behaviour:
        async def call(request: Any, context: Any) -> Any:
            began = time.perf_counter()
            try:
                return await behaviour(request, context)
            except BaseException:
                self._metrics.call_failed(method, reason_of(context))
                raise
            finally:
                self._metrics.call(method, time.perf_counter() - began)

        return call


def reason_of(context: Any) -> str:
    """The name of the status with which a call was ended; its peer's leaving is "cancelled"."""
    code = context.code()
    for status in grpc.StatusCode:
        if code in (status, status.value[0]):
            return "cancelled" if status is grpc.StatusCode.OK else status.name.lower()
    return "unknown"
