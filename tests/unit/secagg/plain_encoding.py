"""The encoding as it is defined, over whole arrays and on one thread: the judge of the one that streams.

Nothing here is reused between chunks, nothing is fused; what the product saves by being quick must not change one bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from federation.secagg import sum_mac
from federation.secagg.events import MaskPlan
from federation.secagg.header import Header, header_words
from federation.secagg.merkle import MerkleRoot
from federation.secagg.parameters import Encoding, Terms

HEADER = 2**64 - 1


def keystream(seed: bytes, index: int, size: int) -> bytes:
    return Cipher(AES(seed), CTR(index.to_bytes(8, "big") + bytes(8))).encryptor().update(bytes(size))


def difference(trained: dict[str, Any], base: dict[str, Any]) -> np.ndarray:
    """trained - base of the floating arrays, float32, one after another."""
    parts = []
    with np.errstate(over="ignore", invalid="ignore"):
        for name, array in base.items():
            if np.issubdtype(array.dtype, np.floating):
                part = np.empty(array.shape, np.float32)
                np.subtract(trained[name], array, out=part, casting="same_kind")
                parts.append(part.reshape(-1))
    return np.concatenate(parts)


def clip(values: np.ndarray, norm: float) -> tuple[np.ndarray, float]:
    squared = 0.0
    for start in range(0, values.size, 1 << 20):
        wide = values[start : start + (1 << 20)].astype(np.float64)
        squared += float(np.einsum("i,i->", wide, wide))
    if squared <= norm * norm:
        return values, squared
    return values * np.float32(norm / squared**0.5), norm * norm


def levels(
    values: np.ndarray, weight: int, dither: bytes, encoding: Encoding, scales: np.ndarray
) -> tuple[np.ndarray, int]:
    """All levels, and how many were saturated."""
    wide = encoding.ring_bits == 32
    kind, whole, drawn, shift = (np.float64, np.int64, "<u4", 32) if wide else (np.float32, np.int32, "<u2", 16)
    out, saturated = [], 0
    for index in range(encoding.chunks(values.size)):
        chunk = values[index * encoding.chunk_parameters : (index + 1) * encoding.chunk_parameters]
        with np.errstate(over="ignore"):
            scaled = chunk.astype(kind) * kind(weight / encoding.weight_unit * 2.0 ** -int(scales[index]))
        assert np.isfinite(scaled).all()
        saturated += int((np.abs(scaled) > encoding.level_bound).sum())
        fixed = (np.clip(scaled, -encoding.level_bound, encoding.level_bound) * kind(2**shift)).astype(whole)
        random = np.frombuffer(keystream(dither, index, chunk.size * np.dtype(drawn).itemsize), drawn)
        out.append(((fixed + random.astype(whole)) >> shift).astype(f"<i{encoding.ring_bits // 8}"))
    return np.concatenate(out), saturated


def update(values: np.ndarray, header: Header, plan: MaskPlan, encoding: Encoding, scales: np.ndarray) -> list[bytes]:
    """The masked chunks and the masked header."""
    found, saturated = levels(values, header.weight, plan.dither, encoding, scales)
    size, tags, words = encoding.chunk_parameters, [0] * sum_mac.WORDS, header.words(encoding, saturated)
    if plan.tag is not None:
        mac = sum_mac.SumMac(plan.tag.key, min(size, found.size))
        for index in range(encoding.chunks(found.size)):
            mac.add_rows(index, [found[index * size : (index + 1) * size]])
        mac.add_header(words.tolist())
        tags = sum_mac.words_of(mac.tag, sum_mac.pad_of(plan.tag.pads[0]))
    plain = [found[start : start + size] for start in range(0, found.size, size)]
    plain.append(np.concatenate([words, np.array(tags, "<i8")]))
    return [
        masked(chunk, plan, HEADER if place == len(plain) - 1 else place).tobytes() for place, chunk in enumerate(plain)
    ]


def root_of(update: bytes, terms: Terms, encoding: Encoding) -> bytes:
    """The Merkle root of an update: over its chunks, and the header last."""
    body = len(update) - 8 * header_words(terms)
    step = encoding.chunk_parameters * encoding.ring_bits // 8
    tree = MerkleRoot()
    for start in range(0, body, step):
        tree.add(update[start : min(start + step, body)])
    tree.add(update[body:])
    return tree.root()


class Accumulator:
    """A sum over whole buffers: ``add`` each update, then ``unmask``; ``data`` is the sum."""

    def __init__(self, terms: Terms, encoding: Encoding, parameters: int) -> None:
        self._encoding, self._parameters = encoding, parameters
        self._ring = np.zeros(parameters, f"<u{encoding.ring_bits // 8}")
        self._words = np.zeros(header_words(terms), "<u8")

    def add(self, update: bytes) -> None:
        self._ring += np.frombuffer(update, self._ring.dtype, self._parameters)
        self._words += np.frombuffer(update, "<u8", offset=self._ring.nbytes)

    def unmask(self, plan: MaskPlan) -> None:
        size = self._encoding.chunk_parameters
        for index in range(self._encoding.chunks(self._parameters)):
            chunk = slice(index * size, (index + 1) * size)
            self._ring[chunk] = masked(self._ring[chunk], plan, index)
        self._words = masked(self._words, plan, HEADER)

    @property
    def data(self) -> bytes:
        return self._ring.tobytes() + self._words.tobytes()


def masked(chunk: np.ndarray, plan: MaskPlan, index: int) -> np.ndarray:
    kind = np.dtype(f"<u{chunk.dtype.itemsize}")
    total = chunk.view(kind).copy()
    for mask in plan.masks:
        stream = np.frombuffer(keystream(mask.seed, index, chunk.nbytes), kind)
        total = total + stream if mask.sign > 0 else total - stream
    return total
