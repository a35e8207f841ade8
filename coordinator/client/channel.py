"""A mutual-TLS channel to a coordinator, and what its failures mean to a person.

The server shows the name ``coordinator.<federation>``, whatever address it is reached at, under the federation's own CA. A
coordinator's error travels in three trailers, ``concord-code``, ``concord-message-bin`` and ``concord-hint-bin`` (UTF-8), and comes
back as the same FederationError; what gRPC itself reports is put into words here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import grpc

from coordinator.client.route import Route, route_to
from federation.errors import (
    ERRORS,
    FederationError,
    InvalidIdentity,
    InvalidUsage,
    NotFound,
    PolicyDenied,
    ProtocolViolation,
    Unavailable,
)

UNARY_SECONDS: Final = 30.0
RECEIVE_LIMIT: Final = 32 << 20
"""A job's view carries its manifest, its consents and up to thousands of rounds."""

TRAILER_LIMIT: Final = 4096


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a coordinator is, and the credentials that it accepts."""

    address: str
    federation: str
    ca_pem: bytes
    certificate_pem: bytes
    key_pem: bytes = field(repr=False)


def open_channel(endpoint: Endpoint, environment: Mapping[str, str]) -> tuple[grpc.Channel, Route]:
    """A lazy channel: nothing is dialled yet. Raises InvalidUsage when no route can work."""
    route = route_to(endpoint.address, environment)
    credentials = grpc.ssl_channel_credentials(
        root_certificates=endpoint.ca_pem,
        private_key=endpoint.key_pem,
        certificate_chain=endpoint.certificate_pem,
    )
    options: list[tuple[str, str | int]] = [
        ("grpc.ssl_target_name_override", f"coordinator.{endpoint.federation}"),
        ("grpc.max_receive_message_length", RECEIVE_LIMIT),
        ("grpc.max_reconnect_backoff_ms", 5_000),
        *route.options(),
    ]
    return grpc.secure_channel(endpoint.address, credentials, options=options), route


@contextmanager
def spoken_errors(address: str) -> Iterator[None]:
    """Turns each gRPC error inside into a FederationError."""
    try:
        yield
    except grpc.RpcError as error:
        raise error_of(error, address) from None


def error_of(error: grpc.RpcError, address: str) -> FederationError:
    """What a failed call means: the coordinator's own words where it sent them, else ours."""
    trailers = _trailers(error)
    code = trailers.get("concord-code", b"").decode("ascii", "replace")
    if code:
        message = _text(trailers.get("concord-message-bin", b"")) or "The coordinator refused."
        hint = _text(trailers.get("concord-hint-bin", b""))
        if code == ProtocolViolation.code:
            return ProtocolViolation(message, check="reported-by-coordinator", hint=hint)
        return ERRORS.get(code, FederationError)(message, hint=hint)
    status = error.code() if isinstance(error, grpc.Call) else None
    details = (error.details() or "") if isinstance(error, grpc.Call) else ""
    return _error_of_status(status, details[:TRAILER_LIMIT], address)


def _error_of_status(status: grpc.StatusCode | None, details: str, address: str) -> FederationError:
    if status is grpc.StatusCode.UNAVAILABLE:
        if any(word in details.lower() for word in ("ssl", "tls", "handshake", "certificate", "tsi")):
            return Unavailable(
                f"The coordinator at {address} and this machine do not accept each other's certificates.",
                hint="If yours has expired, ask the operator for a new ticket and run `concord login`; if not, check that "
                f"{address} is the coordinator of your federation. TLS says: {details}",
            )
        return Unavailable(
            f"The coordinator at {address} does not answer.",
            hint=f"Is it running, and is the address right? The network says: {details}",
        )
    if status is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Unavailable(
            f"The coordinator at {address} did not answer in time.", hint="It may be overloaded; try again in a minute."
        )
    if status is grpc.StatusCode.UNAUTHENTICATED:
        return InvalidIdentity(
            f"The coordinator at {address} does not know this certificate. {details}".strip(),
            hint="Ask the operator for a ticket and run `concord login`.",
        )
    if status is grpc.StatusCode.PERMISSION_DENIED:
        return PolicyDenied(f"The coordinator does not allow this call. {details}".strip())
    if status is grpc.StatusCode.NOT_FOUND:
        return NotFound(details or "The coordinator has no such thing.")
    if status is grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidUsage(details or "The coordinator does not accept this request.")
    if status is grpc.StatusCode.UNIMPLEMENTED:
        return FederationError(
            f"The coordinator at {address} does not offer this.",
            hint="Are both of the same version? Run `concord version`.",
        )
    name = status.name if status is not None else "no status"
    return FederationError(f"The call to {address} failed ({name}): {details}".strip(": "))


def _trailers(error: grpc.RpcError) -> dict[str, bytes]:
    if not isinstance(error, grpc.Call):
        return {}
    found: dict[str, bytes] = {}
    for key, value in error.trailing_metadata() or ():
        if key.startswith("concord-"):
            found[key] = (value if isinstance(value, bytes) else value.encode())[:TRAILER_LIMIT]
    return found


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
