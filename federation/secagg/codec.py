"""One strict encoding of this room's dataclasses for local journals, driven by their annotations. No pickle; not for
peers.

bool and int: 8 bytes, big-endian, signed. float: IEEE 754. bytes, str: length and bytes. tuple, set, dict: count and
items (sets and dicts sorted). Optional and unions of dataclasses: a tag. Dataclass: its fields in order. Whatever is
left over, or short, is an error.
"""

from __future__ import annotations

import struct
import types
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from federation.errors import VerificationFailed

T = TypeVar("T")

Write = Callable[[Any, list[bytes]], None]
Read = Callable[[memoryview, int], tuple[Any, int]]


def _damaged() -> VerificationFailed:
    return VerificationFailed(
        "A journal record of the protocol is damaged.",
        hint="Restore nothing by hand: let the member rejoin with an empty journal.",
    )


def _int_write(value: Any, out: list[bytes]) -> None:
    out.append(int(value).to_bytes(8, "big", signed=True))


def _int_read(data: memoryview, at: int) -> tuple[int, int]:
    if at + 8 > len(data):
        raise _damaged()
    return int.from_bytes(data[at : at + 8], "big", signed=True), at + 8


def _bytes_write(value: Any, out: list[bytes]) -> None:
    _int_write(len(value), out)
    out.append(value)


def _bytes_read(data: memoryview, at: int) -> tuple[bytes, int]:
    size, at = _int_read(data, at)
    if size < 0 or at + size > len(data):
        raise _damaged()
    return bytes(data[at : at + size]), at + size


def _text_read(data: memoryview, at: int) -> tuple[str, int]:
    raw, at = _bytes_read(data, at)
    return raw.decode(), at


def _float_read(data: memoryview, at: int) -> tuple[float, int]:
    if at + 8 > len(data):
        raise _damaged()
    return struct.unpack_from(">d", data, at)[0], at + 8


_SCALARS: dict[Any, tuple[Write, Read]] = {
    int: (_int_write, _int_read),
    bool: (_int_write, lambda data, at: (bool((read := _int_read(data, at))[0]), read[1])),
    bytes: (_bytes_write, _bytes_read),
    str: (lambda value, out: _bytes_write(value.encode(), out), _text_read),
    float: (lambda value, out: out.append(struct.pack(">d", value)), _float_read),
}


def _sequence(item: tuple[Write, Read], build: Callable[[list[Any]], Any], order: bool) -> tuple[Write, Read]:
    write_item, read_item = item

    def write(value: Any, out: list[bytes]) -> None:
        items = sorted(value) if order else value
        _int_write(len(items), out)
        for each in items:
            write_item(each, out)

    def read(data: memoryview, at: int) -> tuple[Any, int]:
        count, at = _int_read(data, at)
        if not 0 <= count <= len(data):
            raise _damaged()
        items = []
        for _ in range(count):
            each, at = read_item(data, at)
            items.append(each)
        return build(items), at

    return write, read


def _record(
    parts: list[tuple[Write, Read]], take: Callable[[Any], tuple[Any, ...]], build: Callable[..., Any]
) -> tuple[Write, Read]:
    def write(value: Any, out: list[bytes]) -> None:
        for (write_part, _), part in zip(parts, take(value), strict=True):
            write_part(part, out)

    def read(data: memoryview, at: int) -> tuple[Any, int]:
        values = []
        for _, read_part in parts:
            value, at = read_part(data, at)
            values.append(value)
        return build(*values), at

    return write, read


def _union(options: list[Any]) -> tuple[Write, Read]:
    codecs = [_of(option) if option is not type(None) else None for option in options]

    def write(value: Any, out: list[bytes]) -> None:
        place = next(i for i, option in enumerate(options) if isinstance(value, get_origin(option) or option))
        _int_write(place, out)
        if (codec := codecs[place]) is not None:
            codec[0](value, out)

    def read(data: memoryview, at: int) -> tuple[Any, int]:
        place, at = _int_read(data, at)
        if not 0 <= place < len(codecs):
            raise _damaged()
        codec = codecs[place]
        return (None, at) if codec is None else codec[1](data, at)

    return write, read


@cache
def _of(kind: Any) -> tuple[Write, Read]:
    if kind in _SCALARS:
        return _SCALARS[kind]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _union(list(arguments))
    if origin is tuple and arguments[-1] is Ellipsis:
        return _sequence(_of(arguments[0]), tuple, order=False)
    if origin is tuple:
        return _record([_of(argument) for argument in arguments], tuple, lambda *values: values)
    if origin is set:
        return _sequence(_of(arguments[0]), set, order=True)
    if origin is dict:
        write, read = _sequence(
            _record([_of(argument) for argument in arguments], tuple, lambda *pair: pair), dict, order=False
        )
        return (lambda value, out: write(sorted(value.items(), key=lambda item: item[0]), out)), read
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        names = [field.name for field in fields(kind)]
        return _record(
            [_of(hints[name]) for name in names], lambda value: tuple(getattr(value, name) for name in names), kind
        )
    raise TypeError(f"{kind} has no encoding")


def encode(value: Any, kind: Any) -> bytes:
    """``kind``: the annotation, a dataclass or a union of dataclasses."""
    out: list[bytes] = []
    _of(kind)[0](value, out)
    return b"".join(out)


def decode(data: bytes, kind: Any) -> Any:
    """Raises VerificationFailed when ``data`` is not exactly one value of ``kind``."""
    try:
        value, end = _of(kind)[1](memoryview(data), 0)
    except UnicodeDecodeError as error:
        raise _damaged() from error
    if end != len(data):
        raise _damaged()
    return value
