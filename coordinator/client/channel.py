"""A mutual-TLS channel to a coordinator, and what its failures mean to a person.

The server shows the name ``coordinator.<federation>``, whatever address it is reached at, under the federation's own CA. A
coordinator's error travels in three trailers, ``concord-code``, ``concord-message-bin`` and ``concord-hint-bin`` (UTF-8), and comes
back as the same FederationError; what gRPC itself reports is put into words here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

# gRPC's own log would stand between the lines that people read; what it says comes back in the error of each call.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc

from coordinator.client.terminal import plain
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
from federation.route import Route, route_to

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
        # Never silent for long: proxies and firewalls cut what is.
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.max_pings_without_data", 0),
        *route.options,
    ]
    return grpc.secure_channel(endpoint.address, credentials, options=options), route


@contextmanager
def spoken_errors(route: Route) -> Iterator[None]:
    """Turns each gRPC error inside into a FederationError that names where the coordinator is, and how it is reached."""
    try:
        yield
    except grpc.RpcError as error:
        raise error_of(error, route) from None


def said_by_coordinator(error: grpc.RpcError) -> bool:
    """Whether it was a coordinator that refused, and not the way to it."""
    codes = {
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.UNIMPLEMENTED,
    }
    return "concord-code" in _trailers(error) or (isinstance(error, grpc.Call) and error.code() in codes)


def error_of(error: grpc.RpcError, route: Route) -> FederationError:
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
    return _error_of_status(status, plain(details[:TRAILER_LIMIT]), route)


def _error_of_status(status: grpc.StatusCode | None, details: str, route: Route) -> FederationError:
    place = route.place
    if status is grpc.StatusCode.UNAVAILABLE:
        return route.refusal(details) or _unreached(details, route)
    if status is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Unavailable(
            f"The coordinator at {place} did not answer in time.",
            hint=f"It may be overloaded; try again in a minute.{route.cuts}",
        )
    if status is grpc.StatusCode.UNAUTHENTICATED:
        return InvalidIdentity(
            f"The coordinator at {place} does not know this certificate. {details}".strip(),
            hint="Ask the operator for a ticket and run `concord login`.",
        )
    if status is grpc.StatusCode.PERMISSION_DENIED:
        return PolicyDenied(f"The coordinator does not allow this call. {details}".strip())
    if status is grpc.StatusCode.NOT_FOUND:
        return NotFound(details or "The coordinator has no such thing.")
    if status is grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidUsage(details or "The coordinator does not accept this request.")
    if status is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return InvalidUsage(
            f"The message is larger than the coordinator at {place} takes: {details}",
            hint="Make it smaller, or send it in parts.",
        )
    if status is grpc.StatusCode.UNIMPLEMENTED:
        return FederationError(
            f"The coordinator at {place} does not offer this.",
            hint="Are both of the same version? Run `concord version`.",
        )
    name = status.name if status is not None else "no status"
    return FederationError(f"The call to {place} failed ({name}): {details}".strip(": "))


def _unreached(details: str, route: Route) -> FederationError:
    """gRPC reports all that can go wrong before the first byte with one status; the difference is in its words."""
    place = route.place
    said = details.rpartition("last error: ")[2].rpartition("desc = ")[2]
    if "CERTIFICATE_VERIFY_FAILED" in details:
        reason = said.rpartition("CERTIFICATE_VERIFY_FAILED: ")[2].removesuffix(": OK")
        return InvalidIdentity(
            f"What answers at {place} does not show a good certificate of your federation's CA: {reason}.",
            hint="Is it the coordinator of your federation, and is this machine's clock right? If both, tell the operator."
            f"{route.opens_tls}",
        )
    if "Hostname Verification" in details:
        return InvalidIdentity(
            f"What answers at {place} is not the coordinator of your federation: its certificate is for another name.",
            hint="Check the address; the ticket from your operator has the right one.",
        )
    if "WRONG_VERSION_NUMBER" in details:
        return Unavailable(
            f"What answers at {place} does not speak TLS.",
            hint="Is it the right port? A coordinator's port for metrics is another than the one for nodes and leads."
            f"{route.opens_tls}",
        )
    if "resolv" in details or "lookup" in details:
        return Unavailable(
            f"The host of {place} was not found.", hint="Check the address and this machine's network, then try again."
        )
    if "Socket closed" in details or "Connection reset" in details:
        return Unavailable(
            f"The coordinator at {place} closed the connection.",
            hint="Perhaps it is just being restarted: try again. If it stays so, it does not accept this home's certificate: "
            f"ask the operator for a new ticket and run `concord login`.{route.cuts}",
        )
    return Unavailable(
        f"The coordinator at {place} does not answer: {_cause(said)}.",
        hint=f"Ask the operator whether it is running and whether the address is right, then try again.{route.cuts}",
    )


def _cause(said: str) -> str:
    for words, cause in (
        ("Connection refused", "the connection was refused"),
        ("Endpoint closing", "it took the connection and then stayed silent"),
        ("Timeout", "nothing came back in time"),
        ("unreachable", "the network does not lead there"),
    ):
        if words.lower() in said.lower():
            return cause
    return said.strip().rstrip(".") or "no reason was given"


def _trailers(error: grpc.RpcError) -> dict[str, bytes]:
    if not isinstance(error, grpc.Call):
        return {}
    found: dict[str, bytes] = {}
    for key, value in error.trailing_metadata() or ():
        if key.startswith("concord-"):
            found[key] = (value if isinstance(value, bytes) else value.encode())[:TRAILER_LIMIT]
    return found


def _text(data: bytes) -> str:
    return "\n".join(plain(line) for line in data.decode("utf-8", "replace").splitlines())
