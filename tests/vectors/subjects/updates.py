"""levels, headers, sum-mac: from numbers to ring elements."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Any

from tests.plain import floats, update
from tests.plain.ciphers import AES_256_CTR, CHACHA20, drawn
from tests.plain.update import Code

Document = dict[str, Any]


def level_document() -> Document:
    largest = Fraction(2) ** 127
    values = {
        "plain": [Fraction(1, 2), Fraction(-1, 2), Fraction(0), Fraction(1, 3), Fraction(-1, 3), Fraction(7, 5), Fraction(-7, 5)],
        "below the dither's resolution": [Fraction(1, 2**40), Fraction(-1, 2**40), Fraction(3, 2**18), Fraction(-3, 2**18)],
        "at the bound and beyond": [Fraction(10), Fraction(-10), Fraction(10**6), Fraction(-(10**6)), Fraction(2, 3)],
    }  # fmt: skip
    cases = []
    for bits in (8, 16, 32):
        for cipher in (AES_256_CTR, CHACHA20):
            code = Code(5, bits, cipher, 8, Fraction(1), 8, ())
            for name, differences in values.items():
                for weight, exponent, index in ((8, -3, 0), (1, -20 if bits == 32 else -5, 1)):
                    held = [floats.single(value) for value in differences]
                    dither = drawn(f"dither/{bits}/{name}", 32)
                    found, saturated = update.levels(code, held, weight, exponent, dither, index)
                    cases.append(
                        {
                            "name": f"{bits} bits, {cipher}, {name}, weight {weight}",
                            "bits": bits, "cipher": cipher, "n": code.n, "L": code.bound, "weight": weight, "w_unit": code.unit,
                            "exponent": exponent, "index": index, "dither": dither, "difference": floats.bytes_of_singles(held),
                            "levels": found, "saturated": saturated,
                        }
                    )  # fmt: skip
    common = {"bits": 16, "cipher": AES_256_CTR, "n": 5, "weight": 1, "w_unit": 1, "dither": drawn("dither", 32)}
    nan, infinite = struct.pack("<f", float("nan")), struct.pack("<f", float("inf"))
    one = floats.bytes_of_singles([Fraction(1)])
    invalid = [
        {"name": "NaN", "comment": "", **common, "exponent": 0, "difference": one + nan, "error": "task-failed"},
        {"name": "infinity", "comment": "", **common, "exponent": 0, "difference": infinite + one, "error": "task-failed"},
        {"name": "beyond float32 once scaled", "comment": "2^127 * 2^5 has no float32.", **common, "exponent": -5,
         "difference": floats.bytes_of_singles([largest]), "error": "task-failed"},
        {"name": "scale below the manifest's bounds", "comment": "The bounds are -20 and 8.", **common, "exponent": -21,
         "difference": one, "error": "protocol-violation", "check": "scale-bounds"},
        {"name": "scale above the manifest's bounds", "comment": "", **common, "exponent": 9,
         "difference": one, "error": "protocol-violation", "check": "scale-bounds"},
    ]  # fmt: skip
    return {
        "section": "Levels",
        "comment": "difference: little-endian float32, the chunk at this index. The difference is clipped already.",
        "cases": cases,
        "invalid": invalid,
    }


def header_document() -> Document:
    def case(name: str, comment: str, weight: int, norm: float, saturated: int, figures: dict[str, float]) -> Document:
        code = Code(5, 16, AES_256_CTR, 64, Fraction(8), 4, ("evaluate/accuracy", "train/loss"))
        exact = {key: Fraction(value) for key, value in figures.items()}
        return {
            "name": name, "comment": comment, "weight": weight, "w_unit": 64, "clip norm": 8, "metrics": list(code.metrics),
            "squared norm": struct.pack("<d", norm), "saturated": saturated,
            "figures": {key: struct.pack("<d", value) for key, value in figures.items()},
            "words": update.header(code, weight, Fraction(norm), saturated, exact),
        }  # fmt: skip

    cases = [
        case("all figures", "", 64, 16.0, 0, {"evaluate/accuracy": 0.75, "train/loss": 2.25}),
        case("a lighter member", "Its figures count by its share.", 2, 1.0, 3, {"evaluate/accuracy": 0.1, "train/loss": -0.1}),
        case("no figures", "Both words of a figure that is missing are 0.", 1, 64.0, 0, {}),
        case("held within +-2^20", "", 64, 1e9, 0, {"evaluate/accuracy": 1e300, "train/loss": -1e7}),
        case("ties go to even", "Half of 2^-32.", 64, 2.0**-27 * 0.5, 0, {"evaluate/accuracy": 2.0**-33,
         "train/loss": 3 * 2.0**-33}),
    ]  # fmt: skip
    return {
        "section": "Header",
        "comment": "squared norm and figures: little-endian float64. Words without those of the MAC.",
        "cases": cases,
        "invalid": [],
    }


def mac_document() -> Document:
    cases = []
    for bits in (8, 16, 32):
        key, size = drawn(f"mac/{bits}", 32), 4
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        for name, chunks, header in (
            ("two chunks", [[1, -2, 3, -4], [5, -6]], [12, 2**31, 0, -(2**40), 2**32]),
            ("extremes", [[low, high, low, high]], [2**60 - 1, -(2**60), 0]),
            ("header only", [], [3, 0, 0, 5, 7]),
        ):
            tag, pad = update.tags(key, chunks, header), drawn(f"pad/{bits}/{name}", 32)
            cases.append(
                {
                    "name": f"{bits} bits, {name}", "bits": bits, "longest": size if chunks else 0, "key": key, "chunks": chunks,
                    "header": [str(word) for word in header], "tag": [str(each) for each in tag], "pad seed": pad,
                    "pad": [str(each) for each in update.elements(pad, 0, 2)], "words": update.mac_words(tag, pad),
                }
            )  # fmt: skip
    return {
        "section": "Sum MAC",
        "comment": "tag and pad before they are added; words: what a member appends to its header.",
        "cases": cases,
        "invalid": [],
    }
