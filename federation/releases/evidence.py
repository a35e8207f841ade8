"""The protocol's signed messages as canonical JSON (RFC 8785), for people and for programs in any language.

A message is an object of its fields by their names; bytes are lower-case hex; a set is a list sorted by index. It is read
back strictly: every field and no other, lengths and ranges as on the wire, and only the one canonical encoding. What is signed
are the transcripts of ``federation.secagg.transcripts``, never this text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Final, TypeVar, get_args, get_origin, get_type_hints

from federation.errors import FederationError, VerificationFailed
from federation.identity.envelope import MAX_DEPTH, canonical
from federation.secagg import wire
from federation.secagg.events import Roster, RosterCertificate
from federation.secagg.messages import Announcement, Certificate, Receipt, Sealing, Void
from federation.secagg.parameters import MAX_MEMBERS

_HEX: Final = frozenset("0123456789abcdef")
_EXACT_DIGITS: Final = 15
_HINT: Final = "The file was altered, or comes from another version of Concord; fetch the release again."


@dataclass(frozen=True, slots=True)
class SignedRoster:
    roster: Roster
    certificate: RosterCertificate


@dataclass(frozen=True, slots=True)
class SignedRosters:
    """Of every epoch, from the first; each names the one before."""

    epochs: tuple[SignedRoster, ...]


@dataclass(frozen=True, slots=True)
class SignedRound:
    announcement: Announcement
    certificate: Certificate
    receipts: tuple[Receipt, ...]


@dataclass(frozen=True, slots=True)
class SealedKeys:
    """What f + 1 members say of the sealed state, each with the file's key for the recipients."""

    sealings: tuple[Sealing, ...]


SignedT = TypeVar("SignedT", SignedRosters, SignedRound, SealedKeys)


def encode(value: SignedRosters | SignedRound | SealedKeys) -> bytes:
    """Raises VerificationFailed for a value that would not read back."""
    data = canonical(_plain(value))
    same: bool = _read(data, type(value)) == value
    if not same:
        raise VerificationFailed("A message of the protocol is not what the wire would carry.")
    return data


def decode(data: bytes, kind: type[SignedT]) -> SignedT:
    """Raises VerificationFailed."""
    value: SignedT = _read(data, kind)
    return value


def _read(data: bytes, kind: type[Any]) -> Any:
    document = read_canonical(data, kind.__name__)
    value = _built(document, kind)
    for message in _messages(value):
        try:
            same = wire.from_proto(wire.to_proto(message)) == message
        except (FederationError, ValueError) as error:
            raise _malformed(f"{type(message).__name__} has a field of a wrong length or range") from error
        if not same:
            raise _malformed(f"{type(message).__name__} is not what the wire would carry")
    return value


def read_canonical(data: bytes, what: str) -> Any:
    """The JSON value, if ``data`` is its canonical encoding. Raises VerificationFailed."""
    try:
        document = json.loads(data, parse_int=_number)
        if _depth(document) <= MAX_DEPTH and canonical(document) == data:
            return document
    except (ValueError, TypeError, RecursionError, FederationError):
        pass
    raise VerificationFailed(f"The {what} is not canonical JSON (RFC 8785).", hint=_HINT)


def _number(digits: str) -> int | float:
    """RFC 8785 writes large fractions as whole numbers."""
    return int(digits) if len(digits) <= _EXACT_DIGITS else float(digits)


def _depth(value: object) -> int:
    depth, layer = 0, [value]
    while layer and depth <= MAX_DEPTH:
        depth += 1
        inner = [item for item in layer if isinstance(item, (dict, list))]
        layer = [child for item in inner for child in (item.values() if isinstance(item, dict) else item)]
    return depth


def _messages(value: Any) -> tuple[Any, ...]:
    if isinstance(value, SignedRosters):
        return tuple(message for each in value.epochs for message in (each.roster, each.certificate))
    if isinstance(value, SealedKeys):
        return value.sealings
    return (value.announcement, value.certificate, *value.receipts)


@cache
def _fields_of(kind: Any) -> tuple[tuple[str, Any], ...]:
    hints = get_type_hints(kind)
    return tuple((field.name, hints[field.name]) for field in fields(kind))


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, int):
        return value
    kind: Any = type(value)
    return {name: _plain(getattr(value, name)) for name, _ in _fields_of(kind)}


def _built(value: Any, kind: Any) -> Any:
    if kind is bytes:
        if not isinstance(value, str) or len(value) % 2 or not set(value) <= _HEX:
            raise _malformed("a value is not lower-case hex")
        return bytes.fromhex(value)
    if kind is int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise _malformed("a value is not a whole number")
        return value
    if kind == Void | None:
        return None if value is None else _built(value, Void)
    if get_origin(kind) is tuple:
        if not isinstance(value, list) or len(value) > MAX_MEMBERS:
            raise _malformed(f"a list is missing, or longer than {MAX_MEMBERS}")
        return tuple(_built(item, get_args(kind)[0]) for item in value)
    hints: tuple[tuple[str, Any], ...] = _fields_of(kind)
    if not isinstance(value, dict) or set(value) != {name for name, _ in hints}:
        raise _malformed(f"{kind.__name__} has other fields than it should")
    return kind(**{name: _built(value[name], hint) for name, hint in hints})


def _malformed(text: str) -> VerificationFailed:
    return VerificationFailed(f"A message of the protocol is malformed: {text}.", hint=_HINT)
