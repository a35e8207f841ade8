"""The sum of a cohort from where its updates lie, and the root of one update: chunk by chunk, on several threads, in memory
that grows neither with the model nor with the members.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from federation.errors import ProtocolViolation
from federation.secagg.events import MaskPlan
from federation.secagg.header import WORD_BYTES, header_words
from federation.secagg.lanes import STRETCH, in_order, stations_for
from federation.secagg.masking import HEADER_INDEX, SIGNED, UNSIGNED, Keystream
from federation.secagg.merkle import MerkleRoot, leaf_hash
from federation.secagg.opening import check_header, level_sum_bound, peak_within
from federation.secagg.parameters import Encoding, Terms


class Stored(Protocol):
    """The bytes of an update, wherever they are."""

    @property
    def size(self) -> int: ...

    def read(self, start: int, out: memoryview) -> None:
        """Fills ``out`` with what stands from byte ``start`` on. Called from several threads."""
        ...


@dataclass(frozen=True, slots=True)
class InMemory:
    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, start: int, out: memoryview) -> None:
        out[:] = self.data[start : start + len(out)]


@dataclass(frozen=True, slots=True)
class View:
    """Whose sum it is, for a collector that sees it."""

    cohort_size: int
    total_weight: int


def sum_of(
    updates: Sequence[Stored],
    plan: MaskPlan,
    terms: Terms,
    encoding: Encoding,
    view: View | None = None,
    lanes: int = 1,
) -> Generator[memoryview]:
    """The sum, without the masks of ``plan``: its chunks, and the header last. A piece stands until the next is asked for.

    With ``view`` each piece is judged before it comes, as by ``opening.open_sum``, but for the MAC, whose key only members
    have. Raises ProtocolViolation, also when the updates have different sizes. Memory: 2 * STRETCH chunks for each lane and
    one more.
    """
    if not updates:
        raise ProtocolViolation("The cohort is empty.", check="cohort")
    width, tail = encoding.ring_bits // 8, WORD_BYTES * header_words(terms)
    whole = updates[0].size
    if any(update.size != whole for update in updates) or whole < tail or (whole - tail) % width:
        raise ProtocolViolation("The update has the wrong size.", check="update-size")
    body, size = whole - tail, encoding.chunk_parameters * width
    stretches = -(-body // (STRETCH * size))
    longest = min(STRETCH * size, body)
    bound = None if view is None else level_sum_bound(encoding, view.cohort_size, body // width)
    adding = _Adding(updates, plan, encoding, body, bound)
    stations = [_Station(longest, min(size, body), plan) for _ in range(stations_for(lanes, stretches))]
    for pieces in in_order(stations, adding.stretch, stretches):
        yield from pieces
    words, other = np.zeros(tail // WORD_BYTES, dtype="<u8"), np.empty(tail // WORD_BYTES, dtype="<u8")
    for update in updates:
        update.read(body, other.view(np.uint8).data)
        np.add(words, other, out=words)
    Keystream(tail, plan.cipher).apply(words, plan, HEADER_INDEX)
    if view is not None:
        check_header(words, encoding, view.cohort_size, view.total_weight, body // width)
    yield words.view(np.uint8).data


class _Station:
    def __init__(self, longest: int, chunk: int, plan: MaskPlan) -> None:
        self.total = np.empty(longest, dtype=np.uint8)
        self.other = np.empty(longest, dtype=np.uint8)
        self.keystream = Keystream(chunk, plan.cipher)


@dataclass(frozen=True, slots=True)
class _Adding:
    updates: Sequence[Stored]
    plan: MaskPlan
    encoding: Encoding
    body: int
    """bytes of the chunks"""
    bound: int | None
    """of a level of the sum, where it is seen"""

    def stretch(self, station: _Station, number: int) -> list[memoryview]:
        bits = self.encoding.ring_bits
        size = self.encoding.chunk_parameters * bits // 8
        start = number * STRETCH * size
        total = station.total[: min(STRETCH * size, self.body - start)]
        other = station.other[: total.size]
        self.updates[0].read(start, total.data)
        for update in self.updates[1:]:
            update.read(start, other.data)
            np.add(total.view(UNSIGNED[bits]), other.view(UNSIGNED[bits]), out=total.view(UNSIGNED[bits]))
        pieces = []
        for at in range(0, total.size, size):
            chunk = total[at : at + size]
            station.keystream.apply(chunk.view(UNSIGNED[bits]), self.plan, (start + at) // size)
            if self.bound is not None:
                peak_within(chunk.view(SIGNED[bits]), self.bound)
            pieces.append(chunk.data)
        return pieces


def root_of(update: Stored, terms: Terms, encoding: Encoding, lanes: int = 1) -> bytes:
    """The Merkle root of a complete update, from where it lies: the collector's driver compares it with Upload.root before it
    counts the upload. Memory: a stretch of chunks for each lane and one more."""
    tree = MerkleRoot()
    for leaf in leaves_of_update(update, terms, encoding, lanes):
        tree.add_leaf(leaf)
    return tree.root()


def leaves_of_update(update: Stored, terms: Terms, encoding: Encoding, lanes: int = 1) -> Iterator[bytes]:
    """The hash of each piece, in order."""
    body = update.size - WORD_BYTES * header_words(terms)
    size = encoding.chunk_parameters * encoding.ring_bits // 8
    longest = min(STRETCH * size, body)
    stretches = -(-body // (STRETCH * size))

    def hashes(station: npt.NDArray[np.uint8], number: int) -> list[bytes]:
        start = number * STRETCH * size
        held = station[: min(STRETCH * size, body - start)]
        update.read(start, held.data)
        return [leaf_hash(held[at : at + size].data) for at in range(0, held.size, size)]

    stations = [np.empty(longest, dtype=np.uint8) for _ in range(stations_for(lanes, stretches))]
    for leaves in in_order(stations, hashes, stretches):
        yield from leaves
    tail = bytearray(update.size - body)
    update.read(body, memoryview(tail))
    yield leaf_hash(tail)
