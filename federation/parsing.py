"""Bytes of a peer as protobuf messages: what does not parse is told apart, and leaves no trace in a log.

gRPC prints the exception of a deserializer and hands on None; so do the parsers here, without printing. Whoever takes a
message asks ``parsed`` for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from google.protobuf.message import DecodeError

from federation.errors import ProtocolViolation

T = TypeVar("T")


def parser(parse: Callable[[bytes], T]) -> Callable[[bytes], T | None]:
    """``parse``: a message class's FromString. None for bytes that are no such message."""

    def read(data: bytes) -> T | None:
        try:
            return parse(data)
        except DecodeError:
            return None

    return read


def parsed(message: T | None) -> T:
    """Raises ProtocolViolation for what did not parse."""
    if message is None:
        raise ProtocolViolation(
            "Bytes came that are no message of the protocol.",
            check="malformed-message",
            hint="The peer's software is broken, of another version, or hostile; or something on the way alters bytes.",
        )
    return message
