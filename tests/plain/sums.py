"""Page: "Update and sum", "Checks on a sum", "The next state": what the collector adds, what members read, and what follows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from tests.plain import floats
from tests.plain.ciphers import HEADER
from tests.plain.update import ONE, Code, Mask, bytes_of, mac_holds, masked, signed_values, tags, values_of


def pieces_of(code: Code, data: bytes) -> list[tuple[int, int, list[int]]]:
    """(chunk index, bits, ring elements) of an update or a sum: chunks, then the header."""
    body, width = len(data) - 8 * code.header_words, code.bits // 8
    step = code.chunk * width
    found = [
        (place, code.bits, values_of(data[at : min(at + step, body)], code.bits))
        for place, at in enumerate(range(0, body, step))
    ]
    return [*found, (HEADER, 64, values_of(data[body:], 64))]


def unmasked(code: Code, updates: Sequence[bytes], masks: Sequence[Mask]) -> bytes:
    """The sum, as the collector publishes it: blind masks stay on. ``masks``: with the sign that takes them off."""
    data = b""
    for parts in zip(*(pieces_of(code, each) for each in updates), strict=True):
        index, bits, _ = parts[0]
        total = [sum(column) for column in zip(*(values for _, _, values in parts), strict=True)]
        data += bytes_of(masked(total, masks, index, bits, code.cipher), bits)
    return data


@dataclass(frozen=True)
class Sum:
    chunks: list[list[int]]
    """signed level sums"""
    header: list[int]

    @property
    def levels(self) -> list[int]:
        return [level for chunk in self.chunks for level in chunk]


class Refused(Exception):
    """``args[0]``: the check, as the page names it."""


def opened(
    code: Code,
    data: bytes,
    parameters: int,
    blinds: Sequence[bytes],
    tag_key: bytes,
    pads: Sequence[bytes],
    total_weight: int,
) -> Sum:
    """A member's reading. ``pads``: of the cohort; their number is its size. Raises Refused."""
    size = len(pads)
    if len(data) != parameters * code.bits // 8 + 8 * code.header_words:
        raise Refused("sum-size")
    masks = [(seed, -1) for seed in blinds]
    found = [
        signed_values(masked(values, masks, index, bits, code.cipher), bits)
        for index, bits, values in pieces_of(code, data)
    ]
    chunks, head = found[:-1], found[-1]
    if head[0] != total_weight:
        raise Refused("sum-weight")
    if not 0 <= head[1] <= size * ONE or not 0 <= head[2] <= size * parameters:
        raise Refused("sum-header")
    for place in range(3, len(head) - 4, 2):
        value, share = head[place : place + 2]
        if not 0 <= share <= total_weight * ONE // code.unit or abs(value) > 2**20 * share + size:
            raise Refused("sum-header")
    if any(abs(level) > size * code.bound for chunk in chunks for level in chunk):
        raise Refused("sum-range")
    if not mac_holds(tags(tag_key, chunks, head[:-4]), head[-4:], pads):
        raise Refused("sum-mac")
    return Sum(chunks, head)


def mean(code: Code, total: Sum, scales: Sequence[int]) -> list[Fraction]:
    """float64"""
    return [
        floats.double(level * Fraction(2) ** exponent * code.unit / total.header[0])
        for chunk, exponent in zip(total.chunks, scales, strict=True)
        for level in chunk
    ]


def next_scales(code: Code, total: Sum, scales: Sequence[int], cohort: int, lowest: int, highest: int) -> list[int]:
    bound, saturated, found = cohort * code.bound, total.header[2], []
    for chunk, exponent in zip(total.chunks, scales, strict=True):
        peak = max(abs(level) for level in chunk)
        if 2 * peak > bound or (4 * peak > bound and saturated > 0):
            exponent += 1
        elif 16 * peak < bound and saturated == 0 and peak > 0:
            exponent -= 1
        found.append(min(max(exponent, lowest), highest))
    return found


def averaged(weights: Sequence[Fraction], step: Sequence[Fraction]) -> list[Fraction]:
    """The outer step of FedAvg and FedProx on float32 weights."""
    return [floats.single(floats.double(weight + part)) for weight, part in zip(weights, step, strict=True)]


# --------------------------------------------------------------------------------------------------------------- states


def _framed(kind: bytes, data: bytes) -> bytes:
    return kind + len(data).to_bytes(8, "big") + data


def _stated(label: str, *fields: str | int | bytes) -> bytes:
    found = _framed(b"L", label.encode())
    for field in fields:
        if isinstance(field, str):
            found += _framed(b"S", field.encode())
        elif isinstance(field, int):
            found += _framed(b"I", field.to_bytes(8, "big"))
        else:
            found += _framed(b"B", field)
    return found


@dataclass(frozen=True)
class Numbers:
    """An array of a state: its type, its sides, its bytes."""

    type: str
    sides: tuple[int, ...]
    data: bytes


def digest_of(round_: int, model: Mapping[str, Numbers], beside: Mapping[str, Numbers], scales: Sequence[int]) -> bytes:
    """H(state). ``beside``: what the optimiser keeps, by "kind/array", in the order of kinds and then of arrays."""
    text = _stated("concord/state/v1", round_, len(model), len(beside))
    for name, array in [*model.items(), *beside.items()]:
        text += _stated("array", name, array.type, *array.sides) + array.data
    text += _stated("scales", bytes(exponent % 256 for exponent in scales))
    return hashlib.sha256(text).digest()


CODES = {"<f2": "F16", "<f4": "F32", "<f8": "F64", "<i8": "I64", "|i1": "I8"}


def file_of(round_: int, model: Mapping[str, Numbers], beside: Mapping[str, Numbers], scales: Sequence[int]) -> bytes:
    """Page: "A state's file"."""
    arrays = {f"weights/{name}": array for name, array in model.items()}
    arrays |= {f"optimiser/{name}": array for name, array in beside.items()}
    arrays["scales"] = Numbers("|i1", (len(scales),), bytes(exponent % 256 for exponent in scales))
    head: dict[str, object] = {"__metadata__": {"round": str(round_), "order": json.dumps(list(arrays))}}
    at = 0
    for name, array in arrays.items():
        places = [at, at + len(array.data)]
        head[name] = {"dtype": CODES[array.type], "shape": list(array.sides), "data_offsets": places}
        at += len(array.data)
    text = json.dumps(head, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(array.data for array in arrays.values())


def state_digest(round_: int, arrays: Mapping[str, Sequence[Fraction]], scales: Sequence[int]) -> bytes:
    """Of a state whose arrays are vectors of float32, without optimiser arrays."""
    model = {name: Numbers("<f4", (len(values),), floats.bytes_of_singles(values)) for name, values in arrays.items()}
    return digest_of(round_, model, {}, scales)
