"""noise: how much, what a key and a chunk's index give, and what a member then sends."""

from __future__ import annotations

import hashlib
import struct
from fractions import Fraction
from math import isqrt
from typing import Any

from tests.plain import floats
from tests.plain import noise as plain
from tests.plain.ciphers import AES_256_CTR, HEADER, drawn
from tests.plain.noise import DISCRETE_GAUSSIAN, SKELLAM
from tests.plain.update import Code, bytes_of

Document = dict[str, Any]
UNCLIPPED = Fraction(29, 25)
"""A norm over the clip norm at which one dither in a few gives a vector that is short enough."""


def _float(value: Fraction) -> bytes:
    return floats.bytes_of_doubles([value])


def _variances() -> list[Document]:
    found = []
    for n, bits, clip_norm, exponent, parameters, multiplier in (
        (3, 16, Fraction(1), -4, 6, Fraction(1, 2)),
        (4, 16, Fraction(2), -6, 20_000, Fraction(1)),
        (7, 32, Fraction(1, 2), -10, 1_000_000, Fraction(3, 4)),
        (10, 16, Fraction(5), -3, 100, Fraction(2)),
    ):
        moved = plain.sensitivity(clip_norm, exponent, parameters)
        each = plain.variance(multiplier, moved, n)
        found.append(
            {
                "name": f"n = {n}, {parameters} parameters", "kind": "variance", "n": n, "bits": bits,
                "clip norm": float(clip_norm), "exponent": exponent, "parameters": parameters,
                "noise multiplier": float(multiplier), "Delta": _float(moved), "variance": _float(each),
                "L": plain.level_bound(bits, n), "bound of a sum of n": plain.sum_bound(plain.level_bound(bits, n), n, each),
            }
        )  # fmt: skip
    return found


def _draws() -> list[Document]:
    found = []
    for mechanism, each, index, count, comment in (
        (SKELLAM, Fraction(3, 4), 0, 64, "Small: few cells."),
        (SKELLAM, Fraction(300), 3, 64, ""),
        (SKELLAM, Fraction(300), HEADER, 3, "The header's index."),
        (DISCRETE_GAUSSIAN, Fraction(33, 4), 0, 64, ""),
        (DISCRETE_GAUSSIAN, Fraction(10**6), 1797, 4096, "Two words tie: 12 more bytes for each."),
    ):  # fmt: skip
        key = drawn("noise/ties", 32)
        values, ties = plain.draw(mechanism, each, key, index, count)
        half = plain.masses(mechanism, each)
        shown = sorted({*range(min(count, 8)), *ties})
        found.append(
            {
                "name": f"{mechanism}, variance {float(each)}, chunk {index}", "comment": comment, "kind": "draw",
                "mechanism": mechanism, "variance": _float(each), "reach": len(half) - 1,
                "masses of 0 and 1": [str(mass) for mass in half[:2]], "key": key, "index": str(index), "count": count,
                "ties": ties, "values": [[place, values[place]] for place in shown],
                "sha256": hashlib.sha256(struct.pack(f"<{count}q", *values)).digest(),
            }
        )  # fmt: skip
    return found


def _member(
    name: str, comment: str, mechanism: str, bits: int, stretched: Fraction, figures: dict[str, float] | None
) -> Document:
    """One member's levels and header. ``stretched``: the norm of its difference over the clip norm."""
    n, clip_norm, exponent, parameters, multiplier = 3, Fraction(1), -4, 6, Fraction(1, 2)
    code = Code(n, bits, AES_256_CTR, 4, clip_norm, 4, ("evaluate/accuracy", "train/loss"))
    weight, dither = 4, drawn(f"noise/{name}/dither", 32)
    ragged = [Fraction(value) for value in (3, -1, 4, 1, -5, 9)]
    norm = Fraction(isqrt(10**12 * int(sum(value * value for value in ragged))), 10**6)
    values = [floats.single(value * stretched * clip_norm / norm) for value in ragged]
    chunks = [values[:4], values[4:]]
    moved = plain.sensitivity(clip_norm, exponent, parameters)
    each = plain.variance(multiplier, moved, n)
    bound, times = Fraction(8), Fraction(1, 8)
    given: Document = {
        "name": name, "comment": comment, "kind": "member", "mechanism": mechanism, "n": n, "bits": bits, "clip norm": 1,
        "exponent": exponent, "noise multiplier": float(multiplier), "chunkParameters": 4, "metrics": list(code.metrics),
        "weight": weight, "w_unit": code.unit, "dither": dither, "difference": floats.bytes_of_singles(values),
        "figures": None if figures is None else {key: struct.pack("<d", value) for key, value in figures.items()},
        "figure bound": None if figures is None else float(bound), "figure multiplier": None if figures is None else float(times),
    }  # fmt: skip
    try:
        again, clear = plain.rounded(code, chunks, weight, exponent, dither, moved)
    except plain.Unbounded:
        return {**given, "error": "task-failed"}
    noisy = plain.noised(mechanism, each, dither, clear)
    exact = {key: Fraction(value) for key, value in (figures or {}).items()}
    words = plain.header(
        code, weight, exact, None if figures is None else bound, mechanism,
        plain.figure_variance(times, len(code.metrics), n) if figures is not None else Fraction(0), dither,
    )  # fmt: skip
    return {
        **given,
        "dither that held": again,
        "levels": clear,
        "noised": noisy,
        "chunks": [bytes_of(chunk, bits) for chunk in noisy],
        "header": [str(word) for word in words],
    }


def noise_document() -> Document:
    figures = {"evaluate/accuracy": 0.75, "train/loss": -2.5}
    cases = [
        *_variances(),
        *_draws(),
        _member("a member, Skellam", "Without figures the header is the weight.", SKELLAM, 16, Fraction(1), None),
        _member("a member, discrete Gaussian", "", DISCRETE_GAUSSIAN, 32, Fraction(1), figures),
        _member("a figure is missing, one is held within its bound", "The member puts its noise, too, and its share.",
                SKELLAM, 16, Fraction(1), {"train/loss": 1e9}),
        _member("rounded until it is within the sensitivity",
                "The difference is not clipped, so that it shows: the first dithers give too long a vector.",
                SKELLAM, 16, UNCLIPPED, None),
    ]  # fmt: skip
    far = _member(
        "never within the sensitivity", "Sixteen dithers, and nothing is sent.", SKELLAM, 16, Fraction(9), None
    )
    common = {"kind": "variance", "noise multiplier": 1.0, "clip norm": 1.0, "exponent": -4, "parameters": 6, "n": 3, "bits": 16,
              "mechanism": SKELLAM, "error": "invalid-manifest"}  # fmt: skip
    invalid = [
        far,
        {"name": "no room for it in the ring", "comment": "Ten deviations of all n, against 2^(B-2) - 1.", **common, "bits": 8},
        {"name": "too little for a discrete Gaussian", "comment": "One member's is below 8 levels squared.", **common,
         "mechanism": DISCRETE_GAUSSIAN, "noise multiplier": 0.01},
        {"name": "more than a table holds", "comment": "Above 4800^2 levels squared: our own limit.", **common, "bits": 32,
         "noise multiplier": 1000.0},
    ]  # fmt: skip
    return {
        "section": "Differential privacy",
        "comment": "variance: of one member's noise in levels squared; it, Delta, differences and figures are little-endian "
        "(float64, the difference float32). draw: the noise of a chunk; sha256 of all of them as 8-byte integers. member: from a "
        "difference, clipped already, to what is masked; the words of the MAC are left out.",
        "cases": cases,
        "invalid": invalid,
    }
