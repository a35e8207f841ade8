"""The Merkle tree over the chunks of an update, header last (leaves and nodes are told apart as in RFC 6962)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from federation.secagg.masking import Buffer


def leaf_hash(chunk: Buffer) -> bytes:
    leaf = hashlib.sha256(b"\x00")
    leaf.update(chunk)
    return leaf.digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class MerkleRoot:
    """``add`` each piece that ``encoding.pieces_of`` yields, or its hash, then ``root``. Memory: one hash for each power of two."""

    def __init__(self) -> None:
        self._peaks: list[tuple[int, bytes]] = []

    def add(self, chunk: Buffer) -> None:
        self.add_leaf(leaf_hash(chunk))

    def add_leaf(self, leaf: bytes) -> None:
        """A piece that was hashed already (``leaf_hash``)."""
        size, node = 1, leaf
        while self._peaks and self._peaks[-1][0] == size:
            _, left = self._peaks.pop()
            size, node = size * 2, _node(left, node)
        self._peaks.append((size, node))

    def root(self) -> bytes:
        if not self._peaks:
            return hashlib.sha256().digest()
        node = self._peaks[-1][1]
        for _, left in reversed(self._peaks[:-1]):
            node = _node(left, node)
        return node


def path_of(leaves: Sequence[bytes], place: int) -> tuple[bytes, ...]:
    """The audit path of leaf ``place``, from the leaf upwards (RFC 6962, section 2.1.1). ``leaves``: their hashes."""
    if len(leaves) <= 1:
        return ()
    half = _half(len(leaves))
    if place < half:
        return (*path_of(leaves[:half], place), _root_of(leaves[half:]))
    return (*path_of(leaves[half:], place - half), _root_of(leaves[:half]))


def root_from_path(chunk: Buffer, place: int, leaves: int, path: Sequence[bytes]) -> bytes:
    """The root of a tree of ``leaves`` leaves in which ``chunk`` stands at ``place``; empty when the path has another length."""
    sides = []
    while leaves > 1:
        half = _half(leaves)
        left = place < half
        sides.append(left)
        place, leaves = (place, half) if left else (place - half, leaves - half)
    if len(sides) != len(path):
        return b""
    node = leaf_hash(chunk)
    for left, other in zip(reversed(sides), path, strict=True):
        node = _node(node, other) if left else _node(other, node)
    return node


def _half(leaves: int) -> int:
    """The largest power of two below ``leaves``."""
    return 1 << ((leaves - 1).bit_length() - 1)


def _root_of(leaves: Sequence[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    half = _half(len(leaves))
    return _node(_root_of(leaves[:half]), _root_of(leaves[half:]))
