"""Page: "Differential privacy": how much noise, the sampler, conditional rounding, noised figures.

Masses are sums of series and powers of e, taken to as many digits as it needs to cut them off at 2^-128; not by the recurrences
of the product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache
from math import ceil

from tests.plain import floats
from tests.plain.ciphers import AES_256_CTR, HEADER, expand, keystream
from tests.plain.quorums import quorums
from tests.plain.update import ONE, Code, levels

SKELLAM = "skellam"
DISCRETE_GAUSSIAN = "discrete_gaussian"
DIGITS = 150
TRIES = 16
PREFIX = b"concord/secagg/v1/"


def _decimal(value: Fraction) -> Decimal:
    return Decimal(value.numerator) / Decimal(value.denominator)


# --------------------------------------------------------------------------------------------------------- how much noise


def sensitivity(clip_norm: Fraction, exponent: int, parameters: int) -> Fraction:
    """Delta, as the nearest float64."""
    with localcontext() as context:
        context.prec = DIGITS
        norm, root = _decimal(clip_norm) * Decimal(2) ** -exponent, Decimal(parameters).sqrt()
        slack = (40 * Decimal(2).ln()).sqrt()  # 2 ln 2^20
        spread = min(Decimal(parameters) / 4, root * norm) + slack * (norm + root / 2)
        return floats.double(Fraction(min(norm + root, (norm * norm + spread).sqrt())))


def variance(multiplier: Fraction, moved: Fraction, n: int) -> Fraction:
    """Of one member's noise. ``moved``: by how much a member moves the sum."""
    found = quorums(n)
    return floats.double((multiplier * moved) ** 2 / (found.m - max(found.f, 1)))


def figure_variance(multiplier: Fraction, figures: int, n: int) -> Fraction:
    found = quorums(n)
    return floats.double((multiplier * 64) ** 2 * figures / (found.m - max(found.f, 1)))


def level_bound(bits: int, n: int) -> int:
    return (2 ** (bits - 2) - 1) // n


def room(bits: int, n: int, each: Fraction) -> bool:
    """Whether ten standard deviations of all n fit."""
    return 100 * n * each <= (2 ** (bits - 2) - 1) ** 2


def sum_bound(bound: int, cohort: int, each: Fraction) -> int:
    with localcontext() as context:
        context.prec = DIGITS
        return cohort * bound + int(10 * (cohort * _decimal(each)).sqrt())


# ------------------------------------------------------------------------------------------------------------ the sampler


def reach(each: Fraction, bits: int = 130) -> int:
    with localcontext() as context:
        context.prec = DIGITS
        x = bits * Decimal(2).ln()
        return ceil(x / 3 + (x * x / 9 + 2 * x * _decimal(each)).sqrt())


def _bessel(each: Fraction, k: int) -> Decimal:
    """I_k(V): of (V/2)^(2j+k) / (j! (j+k)!), over j."""
    half = _decimal(each) / 2
    term = Decimal(1)
    for factor in range(1, k + 1):
        term *= half / factor
    total, j = term, 0
    while term > total * Decimal(10) ** -(DIGITS - 10):
        j += 1
        term *= half * half / (j * (j + k))
        total += term
    return total


@cache
def masses(mechanism: str, each: Fraction) -> tuple[int, ...]:
    """Of 0, 1, .. reach, and of the negative ones alike, in 2^-128."""
    with localcontext() as context:
        context.prec = DIGITS
        far = reach(each)
        if mechanism == SKELLAM:
            relative = [_bessel(each, k) for k in range(far + 1)]
        else:
            relative = [(-(_decimal(Fraction(k * k) / (2 * each)))).exp() for k in range(far + 1)]
        whole = relative[0] + 2 * sum(relative[1:], Decimal(0))
        found = [int(mass / whole * 2**128) for mass in relative]
    found[0] += 2**128 - (found[0] + 2 * sum(found[1:]))
    return tuple(found)


@dataclass(frozen=True)
class Table:
    bits: int
    zero: int
    thresholds: list[int]
    aliases: list[int]


@cache
def table(mechanism: str, each: Fraction) -> Table:
    half = masses(mechanism, each)
    left = [*reversed(half[1:]), *half]
    zero, bits = len(half) - 1, (len(left) - 1).bit_length()
    cells, full = 2**bits, 2 ** (128 - bits)
    left += [0] * (cells - len(left))
    thresholds, aliases = [0] * cells, list(range(cells))
    small = [cell for cell in range(cells) if left[cell] < full]
    large = [cell for cell in range(cells) if left[cell] >= full]
    while small and large:
        poor, rich = small.pop(), large[-1]
        thresholds[poor], aliases[poor] = left[poor], rich
        left[rich] -= full - left[poor]
        if left[rich] < full:
            large.pop()
            small.append(rich)
    return Table(bits, zero, thresholds, aliases)


def draw(mechanism: str, each: Fraction, key: bytes, index: int, count: int) -> tuple[list[int], list[int]]:
    """The noise of a chunk, and the places at which more than a word was needed."""
    if not each:
        return [0] * count, []
    made = table(mechanism, each)
    low_bits = 32 - made.bits
    data = keystream(key, index, 4 * count, AES_256_CTR)
    found, ties = [], []
    for place in range(count):
        word = int.from_bytes(data[4 * place : 4 * place + 4], "little")
        cell, low = word >> low_bits, word % 2**low_bits
        threshold = made.thresholds[cell]
        if low == threshold >> 96:
            at = 4 * count + 12 * len(ties)
            low = low * 2**96 + int.from_bytes(keystream(key, index, at + 12, AES_256_CTR)[at:], "little")
            ties.append(place)
        else:
            threshold >>= 96
        found.append((cell if low < threshold else made.aliases[cell]) - made.zero)
    return found, ties


# ------------------------------------------------------------------------------------------------------------- one member


def noise_key(dither: bytes, label: str) -> bytes:
    return expand(dither, PREFIX + label.encode())


class Unbounded(Exception):
    """No rounding was within the sensitivity."""


def rounded(
    code: Code, chunks: Sequence[Sequence[Fraction]], weight: int, exponent: int, dither: bytes, moved: Fraction
) -> tuple[int, list[list[int]]]:
    """Which dither it was, and the levels before noise. Raises Unbounded."""
    for again in range(TRIES):
        key = noise_key(dither, f"dither {again}")
        found = [levels(code, chunk, weight, exponent, key, index)[0] for index, chunk in enumerate(chunks)]
        if sum(level * level for chunk in found for level in chunk) <= moved * moved:
            return again, found
    raise Unbounded


def noised(mechanism: str, each: Fraction, dither: bytes, clear: Sequence[Sequence[int]]) -> list[list[int]]:
    key = noise_key(dither, "noise")
    return [
        [level + more for level, more in zip(chunk, draw(mechanism, each, key, index, len(chunk))[0], strict=True)]
        for index, chunk in enumerate(clear)
    ]


def header(
    code: Code,
    weight: int,
    figures: Mapping[str, Fraction],
    bound: Fraction | None,
    mechanism: str,
    each: Fraction,
    dither: bytes,
) -> list[int]:
    """Without the words of the MAC. ``bound``: of the figures; None where the manifest has none."""
    found = [weight, 0, 0]
    if bound is None:
        return found + [0, 0] * len(code.metrics)
    more, _ = draw(mechanism, each, noise_key(dither, "figure noise"), HEADER, len(code.metrics))
    step = max(1, round(bound * 2**26))
    for name, noise in zip(code.metrics, more, strict=True):
        held = floats.double(min(max(figures.get(name, Fraction(0)), -bound), bound) / bound)
        found += [(round(held * Fraction(weight, code.unit) * 64) + noise) * step, weight * ONE // code.unit]
    return found
