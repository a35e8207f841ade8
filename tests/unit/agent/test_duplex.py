"""Why a stream ended is told as the other side said it, also while this side writes all the time."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from node_agent.link.duplex import duplex

STREAMS = 40
METHOD = "/concord.test/Stream"


async def _too_large(context: Any) -> None:
    await context.write(bytes(8 << 20))
    await asyncio.sleep(30)


async def _refused(context: Any) -> None:
    await context.abort(grpc.StatusCode.PERMISSION_DENIED, "revoked", (("concord-code", "invalid-identity"),))


async def _ended(_context: Any) -> None:
    return


@asynccontextmanager
async def served(behave: Any) -> AsyncIterator[str]:
    """A server that behaves so after one message."""

    async def handle(_requests: Any, context: Any) -> None:
        await context.write(b"hello")
        await behave(context)

    server = grpc.aio.server()
    _, service, name = METHOD.split("/")
    methods = {name: grpc.stream_stream_rpc_method_handler(handle)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


async def _stream(address: str) -> tuple[Any, ...]:
    """What one stream, on which this side never stops writing, ended with."""
    async with grpc.aio.insecure_channel(address) as channel:
        call: Any = channel.stream_stream(METHOD)()

        async def write() -> None:
            while True:
                await call.write(b"x")

        try:
            async with duplex(call, write()):
                async for _ in call:
                    pass
        except grpc.aio.AioRpcError as error:
            return error.code().name, dict(error.trailing_metadata() or ()).get("concord-code")
        return ("ended",)


@pytest.mark.parametrize(
    ("behave", "told"),
    [
        (_too_large, ("RESOURCE_EXHAUSTED", None)),
        (_refused, ("PERMISSION_DENIED", "invalid-identity")),
        (_ended, ("ended",)),
    ],
    ids=["a message that is too large", "a refusal", "an end"],
)
def test_an_end_is_told_as_it_was_said(behave: Any, told: tuple[Any, ...]) -> None:
    async def story() -> Counter[tuple[Any, ...]]:
        async with served(behave) as address:
            return Counter([await _stream(address) for _ in range(STREAMS)])

    assert asyncio.run(story()) == {told: STREAMS}
