"""Who calls, and how an error leaves: one place for both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, NoReturn, TypeVar

import grpc
import structlog
from structlog.contextvars import bound_contextvars

from coordinator.registry.enrolment import Registry
from federation.errors import TABLE, FederationError, InvalidIdentity, PolicyDenied
from federation.identity.transport import Principal, principal_of
from federation.parsing import parsed, parser

log = structlog.get_logger()
TRAILER_LIMIT: Final = 4000
Context = grpc.aio.ServicerContext[Any, Any]
S = TypeVar("S")
Q = TypeVar("Q")
R = TypeVar("R")


def caller_of(context: Context) -> Principal:
    """The name in the peer's certificate, which TLS has verified. Raises InvalidIdentity."""
    certificates = context.auth_context().get("x509_pem_cert") or ()
    for certificate in certificates:
        return principal_of(certificate)
    raise InvalidIdentity("The call carries no client certificate.")


def admitted(context: Context, registry: Registry, *kinds: str) -> Principal:
    """The caller, when its kind may make this call and it is in good standing. Raises InvalidIdentity or PolicyDenied."""
    caller = caller_of(context)
    if caller.kind not in kinds:
        raise PolicyDenied(f"A {caller.kind} may not call this.", hint=f"It is for: {', '.join(kinds)}.")
    if caller.kind != "ticket":
        registry.admit(caller)
    return caller


@asynccontextmanager
async def spoken(context: Context) -> AsyncIterator[None]:
    """Every error inside leaves as a status with code, message and hint in the trailers; never a traceback."""
    try:
        yield
    except FederationError as error:
        await _abort(context, error)
    except (grpc.RpcError, grpc.aio.AbortError, grpc.aio.BaseError):
        raise
    except Exception as error:
        log.exception("call.failed", error=type(error).__name__)
        await _abort(
            context,
            FederationError("The coordinator met an internal error.", hint="Its log says more; tell the operator."),
        )


async def _abort(context: Context, error: FederationError) -> NoReturn:
    status = getattr(grpc.StatusCode, TABLE[error.code].grpc_status)
    trailers = (
        ("concord-code", error.code),
        ("concord-message-bin", error.message.encode()[:TRAILER_LIMIT]),
        ("concord-hint-bin", (error.hint or error.remedy).encode()[:TRAILER_LIMIT]),
    )
    await context.abort(status, error.code, trailing_metadata=trailers)


class Parsing(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Requests that are no message come to the servicers as None (``federation.parsing``), not as an exception that gRPC prints."""

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = await continuation(details)
        if handler is None or handler.request_deserializer is None:
            return handler
        return handler._replace(request_deserializer=parser(handler.request_deserializer))


def unary(handler: Callable[[S, Q, Context], Awaitable[R]]) -> Callable[[S, Q, Context], Awaitable[R]]:
    """Wraps a servicer's method (self, request, context)."""

    async def call(service: S, request: Q, context: Context) -> R:
        with bound_contextvars(**_named(request)):
            async with spoken(context):
                return await handler(service, parsed(request), context)
        raise AssertionError("spoken() lets no error through")

    return call


def _named(request: object) -> dict[str, str]:
    """The job that a request is about, by its digest, for the lines of the log that are written meanwhile."""
    job = getattr(request, "job", b"")
    return {"job": job.hex()[:12]} if isinstance(job, bytes) and job else {}
