"""One question to the coordinator over a route, to see whether it is reached: for `doctor`, before and after a node has joined."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from federation.route import Route
from federation.v1 import audit_pb2, audit_pb2_grpc
from node_agent.link.channel import Credentials, error_of, open_channel, parsing

SECONDS = 15.0
REACHED = frozenset(
    {
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)


def reach(route: Route, credentials: Credentials) -> audit_pb2.HeadReply | None:
    """What the coordinator says of its log; None where it answers and does not tell this caller.

    Raises Unavailable or InvalidIdentity when it is not reached, with what the network, a proxy or TLS says.
    """
    return asyncio.run(_ask(route, credentials))


async def _ask(route: Route, credentials: Credentials) -> audit_pb2.HeadReply | None:
    async with open_channel(route, credentials) as channel:
        stub: audit_pb2_grpc.AuditLogAsyncStub = audit_pb2_grpc.AuditLogStub(parsing(channel))
        try:
            reply: audit_pb2.HeadReply | None = await stub.Head(audit_pb2.HeadQuery(), timeout=SECONDS)
        except grpc.aio.AioRpcError as error:
            trailers: Any = error.trailing_metadata() or ()
            said = {str(key) for key, _ in trailers}
            if error.code() in REACHED or "concord-code" in said:
                return None
            raise error_of(error, route) from None
        return reply
