"""A local socket in the node's home, over which commands speak with the node that runs there. Never the network.

Readable by the node's own account alone (0600, in a folder of 0700), and the peer's account is checked again. One request a
connection: a line of JSON, at most 64 KiB; one line comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import structlog

from federation.errors import ERRORS, FederationError, InvalidUsage, PolicyDenied, Unavailable

log = structlog.get_logger()

LIMIT: Final = 64 << 10
PATIENCE_SECONDS: Final = 60.0
LONGEST_NAME: Final = 100
"""bytes of a socket's path that every system takes"""
Handler = Callable[[Mapping[str, Any]], Awaitable[str]]
"""takes what was asked, returns what is told"""


class Control:
    """``handlers``: by the word of the request. An error of theirs goes to whoever asked."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self._path, self._handlers = path, handlers
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """In the place of what a killed node left. The caller holds the lock of the home."""
        self._path.unlink(missing_ok=True)
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            with _short(self._path) as name:
                made.bind(name)
        finally:
            os.umask(before)
        self._server = await asyncio.start_unix_server(self._serve, sock=made, limit=LIMIT)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            reply = await self._reply(reader, writer)
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()
        except (OSError, TimeoutError) as error:
            log.warning("control.interrupted", error=type(error).__name__)
        finally:
            writer.close()

    async def _reply(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> dict[str, Any]:
        try:
            if not _own(writer.get_extra_info("socket")):
                raise PolicyDenied("This socket is for the account under which the node runs.")
            try:
                request = json.loads(await asyncio.wait_for(reader.readline(), PATIENCE_SECONDS))
            except (ValueError, RecursionError) as error:
                raise InvalidUsage("This is no request.") from error
            handler = self._handlers.get(request.get("do", "")) if isinstance(request, dict) else None
            if handler is None:
                raise InvalidUsage(
                    "The node that runs here does not know this request.", hint="Is it of another version?"
                )
            return {"told": await handler(request)}
        except FederationError as error:
            reasons = error.reasons if isinstance(error, PolicyDenied) else ()
            return {"code": error.code, "message": error.message, "hint": error.hint, "reasons": list(reasons)}


def ask(path: Path, request: Mapping[str, Any]) -> str | None:
    """What the node that runs here tells; None when none does. Raises what it raises, Unavailable when it does not answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(PATIENCE_SECONDS)
        try:
            with _short(path) as name:
                link.connect(name)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        try:
            link.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(_line(link))
        except (OSError, ValueError) as error:
            raise Unavailable(
                "The node that runs here did not answer.", hint="See its log; what it wrote down stands."
            ) from error
    if "told" in answer:
        return str(answer["told"])
    kind = ERRORS.get(answer["code"], FederationError)
    if kind is PolicyDenied:
        raise PolicyDenied(answer["message"], hint=answer["hint"], reasons=tuple(answer["reasons"]))
    raise kind(answer["message"], hint=answer["hint"])


def _line(link: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\n") and len(data) <= LIMIT and (piece := link.recv(LIMIT)):
        data += piece
    return data


def _own(link: socket.socket) -> bool:
    """Whether the peer's process runs under this account, or as root."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return True  # where the system cannot tell, the file's mode alone decides
    _, user, _ = struct.unpack("3i", link.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))
    return user in (0, os.geteuid())


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name of the socket that fits where the system takes some hundred bytes."""
    if len(os.fsencode(path)) <= LONGEST_NAME:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
