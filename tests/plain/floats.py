"""IEEE 754 without floating point: a value is a fraction, rounded to the nearest that a format has, ties to even."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from fractions import Fraction
from math import isqrt


def _rounded(value: Fraction, digits: int, lowest: int) -> Fraction:
    if not value:
        return value
    size = abs(value)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    if Fraction(2) ** exponent > size:
        exponent -= 1
    unit = Fraction(2) ** max(exponent - digits + 1, lowest)
    return round(value / unit) * unit


def half(value: Fraction) -> Fraction:
    return _rounded(value, 11, -24)


def single(value: Fraction) -> Fraction:
    return _rounded(value, 24, -149)


def double(value: Fraction) -> Fraction:
    return _rounded(value, 53, -1074)


FORMATS: dict[str, tuple[Callable[[Fraction], Fraction], str]] = {
    "<f2": (half, "e"),
    "<f4": (single, "f"),
    "<f8": (double, "d"),
}
"""of a type as NumPy writes it: how it rounds, and Python's name for it"""


def root(value: Fraction, rounded: Callable[[Fraction], Fraction]) -> Fraction:
    """The square root, correctly rounded: of so many digits that what is cut off decides nothing but which side it is on."""
    shift = 2 * max(0, 256 - value.numerator.bit_length() + value.denominator.bit_length())
    scaled = value * 2**shift
    whole = isqrt(scaled.numerator // scaled.denominator)
    exact = Fraction(whole) ** 2 == scaled
    return rounded((Fraction(whole) if exact else Fraction(2 * whole + 1, 2)) / 2 ** (shift // 2))


def values(data: bytes, type_: str) -> list[Fraction]:
    """Of little-endian numbers of a type."""
    return [Fraction(value) for (value,) in struct.iter_unpack("<" + FORMATS[type_][1], data)]


def bytes_of(numbers: Iterable[Fraction], type_: str) -> bytes:
    """Of values that the type has."""
    return b"".join(struct.pack("<" + FORMATS[type_][1], float(value)) for value in numbers)


def singles(data: bytes) -> list[Fraction]:
    """Of little-endian float32."""
    return values(data, "<f4")


def bytes_of_singles(numbers: Iterable[Fraction]) -> bytes:
    """Of values that float32 has."""
    return bytes_of(numbers, "<f4")


def bytes_of_doubles(numbers: Iterable[Fraction]) -> bytes:
    return bytes_of(numbers, "<f8")
