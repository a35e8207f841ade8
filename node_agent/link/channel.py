"""Mutual TLS to the coordinator, and what its errors mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import grpc

from federation.errors import ERRORS, FederationError, Unavailable
from node_agent.link.route import Route

MESSAGE_LIMIT: Final = 64 << 20
CALL_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Credentials:
    federation: str
    ca_pem: bytes
    certificate_pem: bytes
    key_pem: bytes = field(repr=False)


def open_channel(route: Route, credentials: Credentials) -> grpc.aio.Channel:
    """The server must show the name coordinator.<federation> under the federation's own CA."""
    tls = grpc.ssl_channel_credentials(credentials.ca_pem, credentials.key_pem, credentials.certificate_pem)
    options: list[tuple[str, str | int]] = [
        ("grpc.ssl_target_name_override", f"coordinator.{credentials.federation}"),
        ("grpc.max_receive_message_length", MESSAGE_LIMIT),
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.use_local_subchannel_pool", 1),
        *route.options,
    ]
    return grpc.aio.secure_channel(route.address, tls, options=options)


@contextmanager
def spoken(route: Route) -> Iterator[None]:
    """Each gRPC error inside becomes a FederationError: the coordinator's own words where it sent them."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise error_of(error, route) from None


def error_of(error: grpc.aio.AioRpcError, route: Route) -> FederationError:
    metadata: Any = error.trailing_metadata() or ()
    trailers = {str(key): value for key, value in metadata}
    code = trailers.get("concord-code")
    if code in ERRORS:
        return ERRORS[str(code)](
            _text(trailers.get("concord-message-bin")), hint=_text(trailers.get("concord-hint-bin"))
        )
    if error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
        return Unavailable(
            f"The coordinator cannot be reached: {route.sentence}.",
            hint=f"Is it running, and is this one host and port open outwards? The network says: {(error.details() or '')[:300]}",
        )
    return FederationError(f"The coordinator answered {error.code().name}: {(error.details() or '')[:300]}")


def _text(value: object) -> str:
    return value.decode("utf-8", "replace")[:4000] if isinstance(value, bytes) else str(value or "")[:4000]
