"""Tiles and entry bundles (C2SP tlog-tiles): the parts in which the log is stored, served and fetched, and their paths."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from federation.audit.entry import MAX_ENTRY
from federation.audit.tree import HASH_BYTES, NodeOf, node_hash
from federation.errors import VerificationFailed

WIDTH: Final = 256
HEIGHT: Final = 8
"""levels of the tree in one tile"""
MAX_LEVEL: Final = 7
MAX_TILE: Final = WIDTH * HASH_BYTES
MAX_BUNDLE: Final = WIDTH * (2 + MAX_ENTRY)
_PATH: Final = re.compile(r"tile/(entries|[0-7])/((?:x[0-9]{3}/)*)([0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")
_MAX_NUMBER: Final = (1 << 63) // WIDTH

TileOf = Callable[[int, int, int], bytes]
"""(level, number, width) -> the first ``width`` hashes of a tile"""


@dataclass(frozen=True, slots=True)
class Part:
    """One file of the log: a tile of level 0..7, or (level None) an entry bundle."""

    level: int | None
    number: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        """``tile/<L>/<N>[.p/<W>]`` with N in groups of three digits, all but the last with an x."""
        digits = f"{self.number:d}"
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
        place = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
        tail = "" if self.width == WIDTH else f".p/{self.width}"
        return f"tile/{'entries' if self.level is None else self.level}/{place}{tail}"

    @staticmethod
    def parse(path: str) -> Part:
        """Raises VerificationFailed for a path that ``path`` would not write."""
        match = _PATH.fullmatch(path) if len(path) <= 100 else None
        if match is not None:
            kind, groups, last, width = match.groups()
            number = int(groups.replace("x", "").replace("/", "") + last)
            part = Part(None if kind == "entries" else int(kind), number, int(width) if width else WIDTH)
            if part.path == path and number <= _MAX_NUMBER and part.width <= WIDTH:
                return part
        raise VerificationFailed(f"{path[:100]!r} is no path of a tile.", hint="See docs/protocol/log.md.")


def parts_of(size: int) -> Iterator[Part]:
    """Every file of a log of ``size`` entries: bundles, then tiles from the leaves up."""
    yield from _row(None, size)
    level = 0
    while size:
        yield from _row(level, size)
        level, size = level + 1, size // WIDTH


def _row(level: int | None, count: int) -> Iterator[Part]:
    for number in range(count // WIDTH):
        yield Part(level, number)
    if count % WIDTH:
        yield Part(level, count // WIDTH, count % WIDTH)


def width_at(size: int, level: int, number: int) -> int:
    """How many hashes of a tile there are in a log of ``size`` entries; 0: none."""
    return max(0, min(WIDTH, (size >> (HEIGHT * level)) - number * WIDTH))


def encode_bundle(entries: Iterable[bytes]) -> bytes:
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def decode_bundle(data: bytes, width: int) -> tuple[bytes, ...]:
    """Raises VerificationFailed unless it is exactly ``width`` entries."""
    entries: list[bytes] = []
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 2], "big")
        if at + 2 + length > len(data) or len(entries) == width:
            raise VerificationFailed("An entry bundle is not cut where its entries end.")
        entries.append(data[at + 2 : at + 2 + length])
        at += 2 + length
    if len(entries) != width:
        raise VerificationFailed(f"An entry bundle holds {len(entries)} entries, and {width} were asked for.")
    return tuple(entries)


def hashes_of(tile: bytes, width: int) -> tuple[bytes, ...]:
    """Raises VerificationFailed unless it is exactly ``width`` hashes."""
    if len(tile) != width * HASH_BYTES:
        raise VerificationFailed(f"A tile has {len(tile)} bytes, and {width * HASH_BYTES} were asked for.")
    return tuple(tile[at : at + HASH_BYTES] for at in range(0, len(tile), HASH_BYTES))


def root_of_tile(hashes: bytes) -> bytes:
    """Of a power of two of hashes."""
    row = [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]
    while len(row) > 1:
        row = [node_hash(left, right) for left, right in zip(row[::2], row[1::2], strict=True)]
    return row[0]


def node_in(tile: TileOf, height: int, place: int) -> bytes:
    """The root of the 2^height entries from place * 2^height on, out of the one tile that holds it."""
    level, above = divmod(height, HEIGHT)
    span = 1 << above
    number, at = divmod(place * span, WIDTH)
    hashes = tile(level, number, at + span)
    return root_of_tile(hashes[at * HASH_BYTES : (at + span) * HASH_BYTES])


def nodes_of(tile: TileOf) -> NodeOf:
    return lambda height, place: node_in(tile, height, place)
