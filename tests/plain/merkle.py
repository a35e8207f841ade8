"""RFC 6962, section 2.1, by its recursive definition."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def leaf(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _half(count: int) -> int:
    half = 1
    while 2 * half < count:
        half *= 2
    return half


def root(chunks: Sequence[bytes]) -> bytes:
    if len(chunks) == 1:
        return leaf(chunks[0])
    half = _half(len(chunks))
    return node(root(chunks[:half]), root(chunks[half:]))


def path(chunks: Sequence[bytes], place: int) -> list[bytes]:
    if len(chunks) == 1:
        return []
    half = _half(len(chunks))
    if place < half:
        return [*path(chunks[:half], place), root(chunks[half:])]
    return [*path(chunks[half:], place - half), root(chunks[:half])]
