"""One stream in both directions, with its own writer: whichever side ends, the other ends with it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import grpc


@asynccontextmanager
async def duplex(call: Any, writer: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Reading is done inside; ``writer`` writes beside it. A call that was cancelled by the other side ends without an error."""
    writing = asyncio.get_running_loop().create_task(writer)
    try:
        yield
    except asyncio.CancelledError:
        if not call.cancelled() or asyncio.current_task().cancelling():  # type: ignore[union-attr]
            raise
    finally:
        writing.cancel()
        with contextlib.suppress(
            asyncio.CancelledError, grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError
        ):
            await writing
        call.cancel()
