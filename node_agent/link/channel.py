"""Mutual TLS to the coordinator, and what its errors mean."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, cast

# What gRPC would print stands in the error of each call: a node's log holds events, one a line.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc

from federation.errors import ERRORS, FederationError, InvalidIdentity, InvalidUsage, ProtocolViolation, Unavailable
from federation.parsing import parser
from federation.route import Route

MESSAGE_LIMIT: Final = 16 << 20
"""of one message: what 200 members fill is a fifth of it"""
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


def parsing(channel: grpc.aio.Channel) -> grpc.aio.Channel:
    """For stubs: bytes that are no message come as None (``federation.parsing``)."""
    return cast(grpc.aio.Channel, _Parsing(channel))


class _Parsing:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    def __getattr__(self, name: str) -> Any:
        make = getattr(self._channel, name)

        def call(path: str, *, response_deserializer: Any, **rest: Any) -> Any:
            return make(path, response_deserializer=parser(response_deserializer), **rest)

        return call


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
    if code == ProtocolViolation.code:
        return ProtocolViolation(
            _text(trailers.get("concord-message-bin")),
            check="reported-by-coordinator",
            hint=_text(trailers.get("concord-hint-bin")),
        )
    details = (error.details() or "")[:300]
    if error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
        return route.refusal(details) or _unreached(details, route)
    if (
        error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        and "Received message larger" in details
        and "CLIENT" in details
    ):
        return ProtocolViolation(
            f"The coordinator sent a message of more than {MESSAGE_LIMIT >> 20} MiB, which is not read.",
            check="message-size",
            hint="Its software is broken, or hostile: tell its operator, and the other members if it goes on.",
        )
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return InvalidUsage(f"The message is larger than may be sent at once: {details}", hint="Send it in parts.")
    return FederationError(f"The coordinator answered {error.code().name}: {details}")


def _unreached(details: str, route: Route) -> FederationError:
    """gRPC has one status for all that goes wrong before the first byte; the difference is in its words."""
    if "CERTIFICATE_VERIFY_FAILED" in details or "Hostname Verification" in details:
        return InvalidIdentity(
            f"What answers at {route.place} does not show a certificate of this federation's coordinator.",
            hint="Are the address in node.yaml and this machine's clock right? If so, ask the operator; when the coordinator "
            f"has a new CA, run `concord-node join` with a new ticket.{route.opens_tls}",
        )
    if "WRONG_VERSION_NUMBER" in details:
        return Unavailable(
            f"What answers at {route.place} does not speak TLS.", hint=f"Are host and port right?{route.opens_tls}"
        )
    if "Socket closed" in details or "Connection reset" in details:
        return Unavailable(
            f"The coordinator closed the connection: {route.place}.",
            hint="Perhaps it is just being restarted. If it stays so, it does not accept this node's certificate: ask its "
            f"operator for a new ticket and run `concord-node join`.{route.cuts}",
        )
    return Unavailable(
        f"The coordinator cannot be reached: {route.place}.",
        hint=f"Is it running, and is this one host and port open outwards? The network says: {details}.{route.cuts}",
    )


def _text(value: object) -> str:
    return value.decode("utf-8", "replace")[:4000] if isinstance(value, bytes) else str(value or "")[:4000]
