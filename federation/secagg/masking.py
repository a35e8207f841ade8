"""Keystreams of AES-256-CTR, or of ChaCha20 where the manifest says so, added to ring elements chunk by chunk.

AES: key = seed, IV = chunk index (8 bytes, big-endian) || 0. ChaCha20 (RFC 8439): key = seed, block counter from 0,
nonce = 0^4 || chunk index (8 bytes, big-endian). So each chunk can be made by itself, in any order, on any
thread. A keystream read as little-endian unsigned integers of B bits is exactly uniform mod 2^B. Buffers are reused;
nothing here allocates by model size. (docs/protocol/secure-aggregation.md, "Masks".)
"""

from __future__ import annotations

from collections.abc import Sequence
from mmap import mmap
from typing import Final

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES, ChaCha20
from cryptography.hazmat.primitives.ciphers.modes import CTR

from federation.secagg.events import MaskPlan
from federation.secagg.parameters import AES_256_CTR

HEADER_INDEX: Final = 2**64 - 1
"""the chunk index of the header"""

Buffer = bytes | bytearray | memoryview | mmap

UNSIGNED: Final[dict[int, np.dtype[np.unsignedinteger]]] = {
    bits: np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)
}
SIGNED: Final[dict[int, np.dtype[np.signedinteger]]] = {bits: np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)}


TOGETHER: Final = 2
"""chunks whose keystreams are added by one call: as many as stay in a core's own cache with what they are added to"""


class Keystream:
    """Reused buffers for keystreams of up to ``size`` bytes, and the ciphers of the seeds met so far. One per thread."""

    def __init__(self, size: int, cipher: str = AES_256_CTR) -> None:
        self._cipher = cipher
        self._size = size
        self._zeros = memoryview(bytes(size))
        self._buffer = np.empty(size, dtype=np.uint8)
        self._out = self._buffer.data
        self._ciphers: dict[bytes, CipherContext] = {}
        """made once for each seed, not once more for each chunk: 4 us of the 20 that 128 KiB take"""

    def fill(self, seed: bytes, chunk_index: int, size: int) -> npt.NDArray[np.uint8]:
        """The first ``size`` bytes of the chunk's keystream: a view that the next call overwrites."""
        self.fill_into(self._out[:size], seed, chunk_index)
        return self._buffer[:size]

    def fill_into(self, out: memoryview, seed: bytes, chunk_index: int) -> None:
        """The first bytes of the chunk's keystream, as many as ``out`` has room for: no more than ``size``."""
        self._draw(seed, self._nonce(chunk_index), self._zeros[: out.nbytes], out)

    def apply(self, ring: npt.NDArray[np.unsignedinteger], plan: MaskPlan, chunk_index: int) -> None:
        """Adds or subtracts every mask of the plan, in place, mod 2^B. ``ring`` is contiguous and little-endian: a chunk, or
        several whole ones of ``size`` bytes each, of which the last may be shorter, from ``chunk_index`` on."""
        size = self._size
        if ring.nbytes <= size:
            self._apply(ring, plan, (chunk_index,))
            return
        step = TOGETHER * size // ring.itemsize
        for start in range(0, ring.size, step):
            part = ring[start : start + step]
            first = chunk_index + start // step * TOGETHER
            self._apply(part, plan, range(first, first + -(-part.nbytes // size)))

    def _apply(self, ring: npt.NDArray[np.unsignedinteger], plan: MaskPlan, indices: Sequence[int]) -> None:
        """Of at most TOGETHER chunks."""
        if ring.nbytes > self._buffer.nbytes:
            self._buffer = np.empty(TOGETHER * self._size, dtype=np.uint8)
            self._out = self._buffer.data
        stream, drawn = self._buffer[: ring.nbytes].view(ring.dtype), []
        for place, index in enumerate(indices):
            out = self._out[place * self._size : min((place + 1) * self._size, ring.nbytes)]
            drawn.append((self._nonce(index), self._zeros[: out.nbytes], out))
        for mask in plan.masks:
            for nonce, zeros, out in drawn:
                self._draw(mask.seed, nonce, zeros, out)
            (np.add if mask.sign > 0 else np.subtract)(ring, stream, ring)

    def _nonce(self, chunk_index: int) -> bytes:
        place = chunk_index.to_bytes(8, "big")
        return place + bytes(8) if self._cipher == AES_256_CTR else bytes(8) + place

    def _draw(self, seed: bytes, nonce: bytes, zeros: memoryview, out: memoryview) -> None:
        cipher = self._ciphers.get(seed)
        if cipher is None:
            made = Cipher(AES(seed), CTR(nonce)) if self._cipher == AES_256_CTR else Cipher(ChaCha20(seed, nonce), None)
            cipher = self._ciphers[seed] = made.encryptor()
        else:
            cipher.reset_nonce(nonce)
        cipher.update_into(zeros, out)
