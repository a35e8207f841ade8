"""IEEE 754 without floating point: a value is a fraction, rounded to the nearest that a format has, ties to even."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from fractions import Fraction


def _rounded(value: Fraction, digits: int, lowest: int) -> Fraction:
    if not value:
        return value
    size = abs(value)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    if Fraction(2) ** exponent > size:
        exponent -= 1
    unit = Fraction(2) ** max(exponent - digits + 1, lowest)
    return round(value / unit) * unit


def single(value: Fraction) -> Fraction:
    return _rounded(value, 24, -149)


def double(value: Fraction) -> Fraction:
    return _rounded(value, 53, -1074)


def singles(data: bytes) -> list[Fraction]:
    """Of little-endian float32."""
    return [Fraction(value) for (value,) in struct.iter_unpack("<f", data)]


def bytes_of_singles(values: Iterable[Fraction]) -> bytes:
    """Of values that float32 has."""
    return b"".join(struct.pack("<f", float(value)) for value in values)


def bytes_of_doubles(values: Iterable[Fraction]) -> bytes:
    return b"".join(struct.pack("<d", float(value)) for value in values)
