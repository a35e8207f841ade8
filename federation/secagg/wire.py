"""Protobuf <-> values, bounded; and the collector's events as journal bytes.

``to_proto`` takes a message of ``messages`` or a peer's event of ``events`` and gives its rounds_pb2 twin. Inline
payloads (Upload.inline_update, Close.inline_sum) are the driver's: it sets or reads them on the protobuf message.
Everything that comes from a peer is checked here for length, count, range and order, before a machine sees it; nothing
here checks a signature.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Final, NamedTuple, get_args, get_origin, get_type_hints

from google.protobuf.message import Message

from federation.errors import ProtocolViolation
from federation.sealing import WRAPPED_BYTES
from federation.secagg import codec, events, messages, proof
from federation.secagg.events import CollectorEvent
from federation.secagg.parameters import MAX_ATTEMPTS, MAX_MEMBERS, Quorums
from federation.secagg.shamir import SHARE_BYTES
from federation.secagg.suite import CIPHERTEXT_BYTES, KEM_KEY_BYTES
from federation.v1 import rounds_pb2

_CREDENTIAL_LIMIT: Final = 64 * 1024
_BOX_LIMIT: Final = SHARE_BYTES * MAX_MEMBERS + 16
_ROUND_LIMIT: Final = 1 << 31

_EXACT: Final[dict[str, int]] = {
    "signature": 64,
    "predecessor": 32,
    "exchange_key": 32,
    "kem_key": KEM_KEY_BYTES,
    "nonce_hash": 32,
    "group_hash": 32,
    "keys_hash": 32,
    "hashes": 32,
    "ciphertexts": CIPHERTEXT_BYTES,
    "nonce": 32,
    "beacon": 32,
    "roster_hash": 32,
    "state_digest": 32,
    "state_blob": 32,
    "context": 32,
    "survivors_digest": 32,
    "root": 32,
    "trailer_hash": 32,
    "sum_blob": 32,
    "sealed_blob": 32,
    "wrapped": WRAPPED_BYTES,
    "self_seed": 32,
    "seed": 32,
    "secret_hashes": 32,
    "share_hashes": 32,
}
_AT_MOST: Final[dict[str, int]] = {
    "credential": _CREDENTIAL_LIMIT,
    "ciphertext": _BOX_LIMIT,
    "box": _BOX_LIMIT,
    "proofs": proof.MAX_BYTES,
}
_COUNT: Final[dict[str, int]] = {"share_hashes": MAX_MEMBERS * MAX_MEMBERS, "proofs": Quorums.of(MAX_MEMBERS).f}
_RANGE: Final[dict[str, tuple[int, int]]] = {
    "index": (1, MAX_MEMBERS),
    "holder": (1, MAX_MEMBERS),
    "owner": (1, MAX_MEMBERS),
    "edges": (1, MAX_MEMBERS),
    "min_cohort": (1, MAX_MEMBERS),
    "epoch": (1, _ROUND_LIMIT),
    "formation": (0, _ROUND_LIMIT),
    "round": (1, _ROUND_LIMIT),
    "attempt": (0, MAX_ATTEMPTS),
    "weight": (1, 1 << 40),
    "sum_size": (1, 1 << 62),
    "ready": (1, MAX_MEMBERS),
    "figures": (-(1 << 62), 1 << 62),
}
_UNORDERED: Final = frozenset({"figures"})


class _Pair(NamedTuple):
    proto: Any
    number: str
    value: str
    size: int
    lowest: int


_PAIRS: Final[dict[tuple[type, str], _Pair]] = {
    (messages.Reveal, "edges"): _Pair(rounds_pb2.EdgeSeed, "peer", "seed", 32, 1),
    (messages.RecoverReply, "shares"): _Pair(rounds_pb2.Share, "peer", "value", SHARE_BYTES, 0),
}

_KINDS: Final[dict[str, type]] = {
    kind.__name__: kind
    for kind in (
        *get_args(get_type_hints(events.Send)["message"]),
        *get_args(get_type_hints(events.Tell)["message"]),
        messages.Box,
        messages.Sealing,
        messages.SurvivorEntry,
        messages.Void,
    )
}


def _malformed(text: str) -> ProtocolViolation:
    return ProtocolViolation(
        f"A message is malformed: {text}.",
        check="malformed-message",
        hint="The peer's software is broken, older, or hostile.",
    )


@cache
def _hints(kind: Any) -> tuple[tuple[str, Any], ...]:
    hints = get_type_hints(kind)
    return tuple((field.name, hints[field.name]) for field in fields(kind))


def to_proto(value: Any) -> Message:
    proto: Message = getattr(rounds_pb2, type(value).__name__)()
    _fill(proto, value)
    return proto


def _fill(proto: Any, value: Any) -> None:
    kind: Any = type(value)
    for name, _ in _hints(kind):
        part = getattr(value, name)
        pair = _PAIRS.get((type(value), name))
        if pair is not None:
            getattr(proto, name).extend(pair.proto(**{pair.number: peer, pair.value: data}) for peer, data in part)
        elif isinstance(part, messages.Trailer):
            _fill(proto, part)
        elif part is None:
            continue
        elif is_dataclass(part):
            getattr(proto, name).SetInParent()
            _fill(getattr(proto, name), part)
        elif isinstance(part, tuple):
            getattr(proto, name).extend(to_proto(item) if is_dataclass(item) else item for item in part)
        else:
            setattr(proto, name, part)


def from_proto(message: Message) -> Any:
    """Raises ProtocolViolation(check="malformed-message") on wrong lengths, counts, ranges, order, or an unknown
    type."""
    kind = _KINDS.get(type(message).__name__)
    if kind is None:
        raise _malformed(f"{type(message).__name__} is not a message of the protocol")
    return _read(message, kind)


def unmasked_to_proto(value: messages.Unmasked) -> rounds_pb2.AuditPart:
    """Without the chunk and its path."""
    part = rounds_pb2.AuditPart(index=value.index)
    if value.reveal is not None:
        _fill(part.reveal, value.reveal)
    if value.upload is not None:
        _fill(part.upload, value.upload)
    part.seeds.extend(rounds_pb2.EdgeSeed(peer=peer, seed=seed) for peer, seed in value.seeds)
    return part


def unmasked_from_proto(part: rounds_pb2.AuditPart) -> messages.Unmasked:
    """Raises ProtocolViolation."""
    _count("seeds", part.seeds)
    seeds = tuple(
        (_number("peer", seed.peer, (0, MAX_MEMBERS)), _exact("seed", seed.seed, _EXACT["seed"])) for seed in part.seeds
    )
    return messages.Unmasked(
        _number("index", part.index, _RANGE["index"]),
        _read(part.reveal, messages.Reveal) if part.HasField("reveal") else None,
        _read(part.upload, messages.Upload) if part.HasField("upload") else None,
        _ordered("seeds", seeds, lambda each: int(each[0])),
    )


def _read(proto: Any, kind: type) -> Any:
    values: list[Any] = []
    for name, hint in _hints(kind):
        pair = _PAIRS.get((kind, name))
        if pair is not None:
            items = getattr(proto, name)
            _count(name, items)
            values.append(
                _ordered(
                    name,
                    tuple(
                        (
                            _number(name, getattr(item, pair.number), (pair.lowest, MAX_MEMBERS)),
                            _exact(name, getattr(item, pair.value), pair.size),
                        )
                        for item in items
                    ),
                    lambda item: int(item[0]),
                )
            )
        elif hint is messages.Trailer:
            values.append(_read(proto, messages.Trailer))
        elif hint == messages.Void | None:
            values.append(_read(proto.void, messages.Void) if proto.HasField(name) else None)
        elif is_dataclass(hint):
            if not proto.HasField(name):
                raise _malformed(f"{kind.__name__} lacks {name}")
            values.append(_read(getattr(proto, name), hint))  # type: ignore[arg-type]
        elif get_origin(hint) is tuple:
            values.append(_sequence(name, getattr(proto, name), get_args(hint)[0]))
        else:
            values.append(_scalar(name, getattr(proto, name)))
    return kind(*values)


def _sequence(name: str, items: Any, item_kind: Any) -> tuple[Any, ...]:
    _count(name, items)
    if not is_dataclass(item_kind):
        plain = tuple(_scalar(name, item) for item in items)
        return _ordered(name, plain, int) if item_kind is int and name not in _UNORDERED else plain
    read = tuple(_read(item, item_kind) for item in items)  # type: ignore[arg-type]
    if item_kind is messages.KeyMessage:
        return read
    return _ordered(name, read, lambda item: item.holder if isinstance(item, messages.Box) else item.index)


def _count(name: str, items: Any) -> None:
    if len(items) > _COUNT.get(name, MAX_MEMBERS):
        raise _malformed(f"too many {name}")


def _ordered(name: str, items: tuple[Any, ...], key: Callable[[Any], int]) -> tuple[Any, ...]:
    numbers = [key(item) for item in items]
    if any(low >= high for low, high in pairwise(numbers)):
        raise _malformed(f"{name} is not sorted, or names somebody twice")
    return items


def _scalar(name: str, value: Any) -> Any:
    if isinstance(value, bytes):
        if name in _AT_MOST:
            if len(value) > _AT_MOST[name]:
                raise _malformed(f"{name} is too long")
            return value
        return _exact(name, value, _EXACT[name])
    return _number(name, value, _RANGE[name])


def _exact(name: str, value: bytes, size: int) -> bytes:
    if len(value) != size:
        raise _malformed(f"{name} has {len(value)} bytes instead of {size}")
    return value


def _number(name: str, value: int, bounds: tuple[int, int]) -> int:
    if not bounds[0] <= value <= bounds[1]:
        raise _malformed(f"{name} is out of range")
    return value


def event_to_bytes(event: CollectorEvent) -> bytes:
    return codec.encode(event, CollectorEvent)


def event_from_bytes(data: bytes) -> CollectorEvent:
    """Raises VerificationFailed when the journal is damaged."""
    event: CollectorEvent = codec.decode(data, CollectorEvent)
    return event
