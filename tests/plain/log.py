"""RFC 6962, section 2.1, and C2SP tlog-tiles, by their definitions, over all entries at once; nothing of the product's."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from tests.plain.merkle import _half, node, path
from tests.plain.merkle import root as root_of_some

inclusion = path


def root(entries: Sequence[bytes]) -> bytes:
    return root_of_some(entries) if entries else hashlib.sha256(b"").digest()


def consistency(entries: Sequence[bytes], old: int) -> list[bytes]:
    """PROOF(m, D[n]) for 0 < m <= n."""
    return _subproof(entries, old, True)


def _subproof(entries: Sequence[bytes], old: int, known: bool) -> list[bytes]:
    count = len(entries)
    if old == count:
        return [] if known else [root(entries)]
    half = _half(count)
    if old <= half:
        return [*_subproof(entries[:half], old, known), root(entries[half:])]
    return [*_subproof(entries[half:], old - half, False), root(entries[:half])]


def tile(entries: Sequence[bytes], level: int, number: int, width: int) -> bytes:
    span = 256**level
    hashes = []
    for place in range(width):
        start = (number * 256 + place) * span
        assert start + span <= len(entries)
        hashes.append(root(entries[start : start + span]))
    return b"".join(hashes)


def bundle(entries: Sequence[bytes], number: int, width: int) -> bytes:
    chosen = entries[number * 256 : number * 256 + width]
    assert len(chosen) == width
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in chosen)


def folder(entries: Sequence[bytes]) -> dict[str, bytes]:
    """Every file of the log but its checkpoint."""
    files = {}
    count, level = len(entries), 0
    while count:
        for number in range(-(-count // 256)):
            width = min(256, count - number * 256)
            tail = f"{_place(number)}{'' if width == 256 else f'.p/{width}'}"
            files[f"tile/{level}/{tail}"] = tile(entries, level, number, width)
            if level == 0:
                files[f"tile/entries/{tail}"] = bundle(entries, number, width)
        count, level = count // 256, level + 1
    return files


def _place(number: int) -> str:
    text = f"{number % 1000:03d}"
    while number >= 1000:
        number //= 1000
        text = f"x{number % 1000:03d}/{text}"
    return text


__all__ = ["bundle", "consistency", "folder", "inclusion", "node", "root", "tile"]
