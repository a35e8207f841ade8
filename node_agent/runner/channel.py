"""What agent and worker say to each other: one JSON object at a time, behind its length (4 bytes, big-endian).

Both sides refuse more than ``LIMIT`` bytes. Tensors never travel here (tensors.py), nor does any text of an exception.
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any, Final

LIMIT: Final = 1 << 20

Frame = dict[str, Any]


class BadFrame(ValueError):
    """The peer sent what is no frame: too long, not JSON, or not an object."""


def pack(frame: Frame) -> bytes:
    data = json.dumps(frame, separators=(",", ":")).encode()
    if len(data) > LIMIT:
        raise BadFrame(f"a frame of {len(data)} bytes is over the limit of {LIMIT}")
    return len(data).to_bytes(4, "big") + data


def unpack(data: bytes) -> Frame:
    try:
        frame = json.loads(data)
    except (ValueError, RecursionError):
        raise BadFrame("a frame is not JSON") from None
    if not isinstance(frame, dict):
        raise BadFrame("a frame is not an object")
    return frame


def _length(prefix: bytes) -> int:
    length = int.from_bytes(prefix, "big")
    if length > LIMIT:
        raise BadFrame(f"a frame of {length} bytes is over the limit of {LIMIT}")
    return length


async def receive(reader: asyncio.StreamReader) -> Frame:
    """asyncio.IncompleteReadError at the end of the stream."""
    return unpack(await reader.readexactly(_length(await reader.readexactly(4))))


def receive_blocking(peer: socket.socket) -> Frame | None:
    """None at the end of the stream."""
    prefix = _exactly(peer, 4)
    if prefix is None:
        return None
    data = _exactly(peer, _length(prefix))
    return None if data is None else unpack(data)


def _exactly(peer: socket.socket, count: int) -> bytes | None:
    data = bytearray()
    while len(data) < count:
        piece = peer.recv(count - len(data))
        if not piece:
            return None
        data += piece
    return bytes(data)
