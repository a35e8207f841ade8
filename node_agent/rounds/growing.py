"""A masked update's file while it is being written: what stands in it may leave already.

A chunk is in the file before it leaves, and the file is never written twice, so that whatever is sent again is the same
bytes. If the work ends before the header, nothing was signed, and the attempt is forfeit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from federation.secagg.encoding import Piece
from federation.secagg.merkle import MerkleRoot

STEP: Final = 1 << 20
"""bytes that are told of at once"""


@dataclass(slots=True)
class GrowingUpdate:
    """``size``: bytes of the whole. Read on the event loop on which it was made, written in a thread."""

    path: Path
    size: int
    standing: int = 0
    _loop: asyncio.AbstractEventLoop | None = None
    _grown: asyncio.Event = field(default_factory=asyncio.Event)

    @staticmethod
    def whole(path: Path) -> GrowingUpdate:
        """A file that is finished. Raises FileNotFoundError."""
        size = path.stat().st_size
        return GrowingUpdate(path, size, size)

    @staticmethod
    def begun(path: Path, size: int) -> GrowingUpdate:
        """For ``write``, in a thread; call this on the loop."""
        return GrowingUpdate(path, size, 0, asyncio.get_running_loop())

    async def until(self, count: int) -> int:
        """Waits until the first ``count`` bytes (or all) stand in the file; returns how many do."""
        while self.standing < min(count, self.size):
            self._grown.clear()
            await self._grown.wait()
        return self.standing

    def write(self, pieces: Generator[Piece]) -> bytes:
        """All pieces, in order, into the file, which must be empty; returns their Merkle root. When the disk takes no more,
        raises OSError, and the threads that made the pieces have ended."""
        tree, written = MerkleRoot(), 0
        with closing(pieces), self.path.open("wb", buffering=0) as stream:
            for piece in pieces:
                rest = piece.data
                while rest:  # a raw write may be short
                    rest = rest[stream.write(rest) :]
                tree.add_leaf(piece.leaf)
                written += piece.data.nbytes
                if written - self.standing >= STEP:
                    self._tell(written)
        self._tell(written)
        return tree.root()

    def _tell(self, written: int) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._set, written)

    def _set(self, written: int) -> None:
        self.standing = written
        self._grown.set()
