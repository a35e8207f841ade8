"""The tree over the log's entries (RFC 6962, section 2.1; proofs as in RFC 9162, sections 2.1.3 and 2.1.4).

``federation.secagg.merkle`` hashes alike, and is kept apart: that tree is finished once, its pieces are gigabytes, and its root is
signed inside the protocol whose vectors pin it. This one grows for years, and is proved from parts that are read from tiles.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from federation.errors import VerificationFailed

HASH_BYTES: Final = 32
EMPTY: Final = hashlib.sha256().digest()
"""the root of the tree without entries"""
MAX_SIZE: Final = (1 << 63) - 1
MAX_PATH: Final = 64

NodeOf = Callable[[int, int], bytes]
"""(height, place) -> the root of the 2^height entries from place * 2^height on"""


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """What must be kept of a tree to append to it: the roots of its complete subtrees, the largest first."""

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def append(self, leaf: bytes) -> Frontier:
        """``leaf`` is the entry's leaf hash."""
        peaks, node, size = list(self.peaks), leaf, self.size
        while size & 1:
            node = node_hash(peaks.pop(), node)
            size >>= 1
        return Frontier(self.size + 1, (*peaks, node))

    def root(self) -> bytes:
        if not self.peaks:
            return EMPTY
        node = self.peaks[-1]
        for left in reversed(self.peaks[:-1]):
            node = node_hash(left, node)
        return node

    def encode(self) -> bytes:
        """The peaks, one after the other."""
        return b"".join(self.peaks)

    @staticmethod
    def decode(size: int, peaks: bytes) -> Frontier:
        """Raises VerificationFailed when they are not the peaks of a tree of that size."""
        if not 0 <= size <= MAX_SIZE or len(peaks) != HASH_BYTES * size.bit_count():
            raise VerificationFailed("The state of the log's tree is damaged.", hint="Restore the coordinator's files.")
        return Frontier(size, tuple(peaks[at : at + HASH_BYTES] for at in range(0, len(peaks), HASH_BYTES)))


def root_of(start: int, end: int, node: NodeOf) -> bytes:
    """MTH(D[start:end]) for a range that begins at a multiple of the power of two at or above its length."""
    if start == end:
        return EMPTY
    length = end - start
    if length & (length - 1) == 0:
        height = length.bit_length() - 1
        return node(height, start >> height)
    half = split(length)
    return node_hash(root_of(start, start + half, node), root_of(start + half, end, node))


def split(size: int) -> int:
    """The largest power of two below ``size``, which is at least 2."""
    return 1 << ((size - 1).bit_length() - 1)


def inclusion_path(index: int, size: int, node: NodeOf) -> tuple[bytes, ...]:
    """PATH(index, D[size]), from the leaf upwards. Raises VerificationFailed when there is no such entry."""
    if not 0 <= index < size <= MAX_SIZE:
        raise VerificationFailed(f"There is no entry {index} in a log of {size}.", hint="Ask for one that is there.")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        half = start + split(end - start)
        if index < half:
            path.append(root_of(half, end, node))
            end = half
        else:
            path.append(root_of(start, half, node))
            start = half
    return tuple(reversed(path))


def consistency_path(old: int, new: int, node: NodeOf) -> tuple[bytes, ...]:
    """PROOF(old, D[new]), and always with its first hash: RFC 6962 leaves it out where ``old`` is a power of two.

    With it, the path alone gives both roots, and so convicts a log that has signed another one at ``old``. Empty for equal sizes
    and from an empty tree on.
    """
    if not 0 <= old <= new <= MAX_SIZE:
        raise VerificationFailed(f"A log of {new} entries does not hold one of {old}.", hint="Ask for a smaller one.")
    if old in {0, new}:
        return ()
    path: list[bytes] = []
    start, end = 0, new
    while True:
        if end == old:
            path.append(root_of(start, end, node))
            return tuple(reversed(path))
        half = start + split(end - start)
        if old <= half:
            path.append(root_of(half, end, node))
            end = half
        else:
            path.append(root_of(start, half, node))
            start = half


def root_from_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root that the path leads to. Raises VerificationFailed for a path of another length."""
    _check_path(path)
    if not 0 <= index < size <= MAX_SIZE:
        raise VerificationFailed(f"There is no entry {index} in a log of {size}.")
    node, rest, first, last = leaf, list(path), index, size - 1
    while last:
        if first & 1 or first == last:
            node = node_hash(_next(rest), node)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            node = node_hash(node, _next(rest))
        first, last = first >> 1, last >> 1
    if rest:
        raise VerificationFailed("The path of the proof is too long.")
    return node


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Raises VerificationFailed unless ``leaf`` (a leaf hash) is entry ``index`` of the tree of ``size`` with this root."""
    if root_from_inclusion(leaf, index, size, path) != root:
        raise VerificationFailed(
            f"Entry {index} is not in the log of {size} entries under this root.",
            hint="The entry, the proof or the head was altered: get them again, and tell the federation's members.",
        )


def roots_from_consistency(old: int, new: int, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The two roots that the path leads to, for 0 < old < new. Raises VerificationFailed for a path of another length."""
    _check_path(path)
    if not 0 < old < new <= MAX_SIZE:
        raise VerificationFailed(f"No path leads from {old} to {new} entries.")
    rest, first, last = list(path), old - 1, new - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    before = after = _next(rest)
    while last:
        if first & 1 or first == last:
            other = _next(rest)
            before, after = node_hash(other, before), node_hash(other, after)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            after = node_hash(after, _next(rest))
        first, last = first >> 1, last >> 1
    if rest:
        raise VerificationFailed("The path of the proof is too long.")
    return before, after


def verify_consistency(old: int, old_root: bytes, new: int, new_root: bytes, path: Sequence[bytes]) -> None:
    """Raises VerificationFailed unless the tree of ``new`` entries begins with the tree of ``old`` entries."""
    if old > new:
        raise VerificationFailed(f"The log has {new} entries, and had {old}: entries were taken back.")
    if old == new:
        fits = old_root == new_root and not path
    elif old == 0:
        fits = old_root == EMPTY and not path
    else:
        fits = roots_from_consistency(old, new, path) == (old_root, new_root)
    if not fits:
        raise VerificationFailed(
            f"The log of {new} entries does not begin with the {old} that it had.",
            hint="The log shows different histories. Keep both signed heads, and tell the federation's members.",
        )


def _check_path(path: Sequence[bytes]) -> None:
    if len(path) > MAX_PATH + 1 or any(len(node) != HASH_BYTES for node in path):
        raise VerificationFailed("The path of the proof is malformed.")


def _next(rest: list[bytes]) -> bytes:
    if not rest:
        raise VerificationFailed("The path of the proof is too short.")
    return rest.pop(0)
