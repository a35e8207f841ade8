"""The Merkle root over the chunks of an update, header last (leaves and nodes are told apart as in RFC 6962)."""

from __future__ import annotations

import hashlib

from federation.secagg.masking import Buffer


class MerkleRoot:
    """``add`` each piece that ``encoding.encode`` yields, then ``root``. Memory: one hash for each power of two."""

    def __init__(self) -> None:
        self._peaks: list[tuple[int, bytes]] = []

    def add(self, chunk: Buffer) -> None:
        leaf = hashlib.sha256(b"\x00")
        leaf.update(chunk)
        size, node = 1, leaf.digest()
        while self._peaks and self._peaks[-1][0] == size:
            _, left = self._peaks.pop()
            size, node = size * 2, hashlib.sha256(b"\x01" + left + node).digest()
        self._peaks.append((size, node))

    def root(self) -> bytes:
        if not self._peaks:
            return hashlib.sha256().digest()
        node = self._peaks[-1][1]
        for _, left in reversed(self._peaks[:-1]):
            node = hashlib.sha256(b"\x01" + left + node).digest()
        return node
