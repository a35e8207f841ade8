"""Page: "Levels", "Header", "Sum MAC", "Masks": from a difference to the masked update of one member."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from tests.plain import floats
from tests.plain.ciphers import AES_256_CTR, HEADER, words
from tests.plain.quorums import level_bound

P = 2**61 - 1
ONE = 2**32
Mask = tuple[bytes, int]
"""seed, and +1 or -1"""


@dataclass(frozen=True)
class Code:
    """What the manifest and the roster fix for an update."""

    n: int
    bits: int
    cipher: str
    unit: int
    """the largest bucket in the roster"""
    clip_norm: Fraction
    chunk: int
    metrics: tuple[str, ...]

    @property
    def bound(self) -> int:
        return level_bound(self.bits, self.n)

    def cut(self, values: Sequence[Fraction] | Sequence[int]) -> list[Sequence[Fraction] | Sequence[int]]:
        return [values[at : at + self.chunk] for at in range(0, len(values), self.chunk)]

    @property
    def header_words(self) -> int:
        return 3 + 2 * len(self.metrics) + 4


def levels(
    code: Code, values: Sequence[Fraction], weight: int, exponent: int, dither: bytes, index: int
) -> tuple[list[int], int]:
    """Of one chunk, and how many were saturated."""
    wide = code.bits == 32
    held, shift = (floats.double, 32) if wide else (floats.single, 16)
    noise = words(dither, index, len(values), shift, code.cipher)
    found, saturated = [], 0
    for value, random in zip(values, noise, strict=True):
        scaled = held(value * Fraction(weight, code.unit) * Fraction(2) ** -exponent)
        if abs(scaled) > code.bound:
            saturated += 1
            scaled = Fraction(code.bound if scaled > 0 else -code.bound)
        fixed = int(scaled * 2**shift)  # towards zero
        found.append((fixed + random) >> shift)  # floor
    return found, saturated


def header(
    code: Code, weight: int, squared_norm: Fraction, saturated: int, figures: Mapping[str, Fraction]
) -> list[int]:
    """Without the words of the MAC."""
    share = weight * ONE // code.unit
    norm = floats.double(squared_norm / floats.double(code.clip_norm**2))
    found = [weight, round(min(Fraction(1), norm) * ONE), saturated]
    for name in code.metrics:
        if name not in figures:
            found += [0, 0]
            continue
        held = min(max(figures[name], Fraction(-(2**20))), Fraction(2**20))
        found += [round(held * share), share]
    return found


# --------------------------------------------------------------------------------------------------------- the sum MAC


def elements(key: bytes, stream: int, count: int) -> list[int]:
    """AES-256-CTR whatever the manifest's cipher is."""
    return [word % 2**61 % P for word in words(key, stream, count, 64, AES_256_CTR)]


def tags(key: bytes, chunks: Sequence[Sequence[int]], header_words: Sequence[int]) -> list[int]:
    longest = max((len(chunk) for chunk in chunks), default=0)
    found = []
    for k in (0, 1):
        rho, total = elements(key, k, longest), 0
        for index, chunk in enumerate(chunks):
            sigma = elements(key, 4 + index, 2)[k]
            total += sigma * sum(a * b for a, b in zip(rho, chunk, strict=False))
        eta = elements(key, 2 + k, len(header_words))
        total += sum(a * b for a, b in zip(eta, header_words, strict=True))
        found.append(total % P)
    return found


def mac_words(tag: Sequence[int], pad: bytes) -> list[int]:
    found = []
    for value, hidden in zip(tag, elements(pad, 0, 2), strict=True):
        sent = (value + hidden) % P
        found += [sent % 2**32, sent >> 32]
    return found


def mac_holds(tag: Sequence[int], found: Sequence[int], pads: Sequence[bytes]) -> bool:
    return all(
        (found[2 * k] + found[2 * k + 1] * 2**32 - tag[k] - sum(elements(pad, 0, 2)[k] for pad in pads)) % P == 0
        for k in (0, 1)
    )


# ------------------------------------------------------------------------------------------------------------- masking


def masked(values: Sequence[int], masks: Sequence[Mask], index: int, bits: int, cipher: str) -> list[int]:
    """Ring elements: integers mod 2^bits."""
    totals = list(values)
    for seed, sign in masks:
        totals = [
            total + sign * word
            for total, word in zip(totals, words(seed, index, len(values), bits, cipher), strict=True)
        ]
    return [total % 2**bits for total in totals]


def signed_values(values: Sequence[int], bits: int) -> list[int]:
    return [value - 2**bits if value >= 2 ** (bits - 1) else value for value in values]


def bytes_of(values: Sequence[int], bits: int) -> bytes:
    return b"".join((value % 2**bits).to_bytes(bits // 8, "little") for value in values)


def values_of(data: bytes, bits: int) -> list[int]:
    width = bits // 8
    return [int.from_bytes(data[at : at + width], "little") for at in range(0, len(data), width)]


@dataclass(frozen=True)
class Update:
    levels: list[list[int]]
    """of each chunk, before masking"""
    saturated: int
    header: list[int]
    """before masking, the words of the MAC among them"""
    tag: list[int]
    chunks: list[bytes]
    """masked; the header last"""

    @property
    def data(self) -> bytes:
        return b"".join(self.chunks)


def update(
    code: Code,
    difference: Sequence[Fraction],
    scales: Sequence[int],
    weight: int,
    squared_norm: Fraction,
    figures: Mapping[str, Fraction],
    dither: bytes,
    masks: Sequence[Mask],
    tag_key: bytes,
    pad: bytes,
) -> Update:
    """``difference`` empty: a round without training, header only."""
    clear, saturated = [], 0
    for index, chunk in enumerate(code.cut(difference)):
        found, many = levels(code, chunk, weight, scales[index], dither, index)  # type: ignore[arg-type]
        clear.append(found)
        saturated += many
    plain = header(code, weight, squared_norm, saturated, figures)
    tag = tags(tag_key, clear, plain)
    whole = [*plain, *mac_words(tag, pad)]
    pieces = [
        bytes_of(masked(chunk, masks, index, code.bits, code.cipher), code.bits) for index, chunk in enumerate(clear)
    ]
    pieces.append(bytes_of(masked(whole, masks, HEADER, 64, code.cipher), 64))
    return Update(clear, saturated, whole, tag, pieces)
