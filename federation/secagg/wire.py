"""skeleton: protobuf <-> values (final signatures).

``to_proto(value)`` takes any message of ``messages`` or peer event of ``events`` and gives its rounds_pb2 twin. Inline payloads
(Upload.inline_update, Close.inline_sum) are the driver's: set or read them on the protobuf message itself.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from federation.secagg.events import CollectorEvent


def to_proto(value: Any) -> Message:
    raise NotImplementedError


def from_proto(message: Message) -> Any:
    """Raises ProtocolViolation(check="malformed-message") on wrong lengths, counts, order, or an unknown type."""
    raise NotImplementedError


def event_to_bytes(event: CollectorEvent) -> bytes:
    raise NotImplementedError


def event_from_bytes(data: bytes) -> CollectorEvent:
    raise NotImplementedError
