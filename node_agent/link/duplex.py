"""One stream in both directions, with its own writer: whichever side ends, the other ends with it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc

WRITE_FAILED: Final = "Internal error from Core"
"""what grpcio's own code says of a stream on which a write failed, until the stream's status is there"""
STATUS_SECONDS: Final = 1.0


@asynccontextmanager
async def duplex(call: Any, writer: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Reading is done inside; ``writer`` writes beside it. A call that was cancelled by the other side ends without an error.

    One that failed raises AioRpcError with what the other side, or the library's core, said.
    """
    ended = _End(call)
    writing = asyncio.get_running_loop().create_task(writer)
    try:
        yield
    except asyncio.CancelledError:
        if not call.cancelled() or asyncio.current_task().cancelling():  # type: ignore[union-attr]
            raise
    except grpc.aio.AioRpcError as error:
        if error.details() != WRITE_FAILED:
            raise
        said = await ended.said()
        if said is None:
            raise
        if said.code() is not grpc.StatusCode.OK:
            raise said from None
    finally:
        writing.cancel()
        with contextlib.suppress(
            asyncio.CancelledError, grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError
        ):
            await writing
        call.cancel()


class _End:
    """Why a stream ended. A write that meets the end puts words of its own in the place of the status, before or after it came
    (https://github.com/grpc/grpc/issues/36066): so each status is read at the moment when it is set."""

    def __init__(self, call: Any) -> None:
        self._said: grpc.aio.AioRpcError | None = None
        self._is_said = asyncio.Event()
        call.add_done_callback(self._set)

    def _set(self, call: Any) -> None:
        status = grpc.aio.AioRpcError(
            _now(call.code()),
            grpc.aio.Metadata(),
            _now(call.trailing_metadata()),
            _now(call.details()),
            _now(call.debug_error_string()),
        )
        if status.code() is not None and status.details() != WRITE_FAILED and self._said is None:
            self._said = status
            self._is_said.set()

    async def said(self) -> grpc.aio.AioRpcError | None:
        """None when nothing came in time."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._is_said.wait(), STATUS_SECONDS)
        return self._said


def _now(answer: Coroutine[Any, Any, Any]) -> Any:
    """The answer of a coroutine that has nothing to wait for."""
    try:
        answer.send(None)
    except StopIteration as end:
        return end.value
    answer.close()
    return None
