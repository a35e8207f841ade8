"""Keystreams of AES-256-CTR, or of ChaCha20 where the manifest says so, added to ring elements chunk by chunk.

AES: key = seed, IV = chunk index (8 bytes, big-endian) || 0. ChaCha20 (RFC 8439): key = seed, block counter from 0,
nonce = 0^4 || chunk index (8 bytes, big-endian). So each chunk can be made by itself, in any order, on any
thread. A keystream read as little-endian unsigned integers of B bits is exactly uniform mod 2^B. Buffers are reused;
nothing here allocates by model size. (docs/protocol/secure-aggregation.md, "Masks".)
"""

from __future__ import annotations

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


class Keystream:
    """Reused buffers for keystreams of up to ``size`` bytes, and the ciphers of the seeds met so far. One per thread."""

    def __init__(self, size: int, cipher: str = AES_256_CTR) -> None:
        self._cipher = cipher
        self._zeros = memoryview(bytes(size))
        self._buffer = np.empty(size, dtype=np.uint8)
        self._out = self._buffer.data
        self._ciphers: dict[bytes, CipherContext] = {}
        """made once for each seed, not once more for each chunk: 4 us of the 20 that 128 KiB take"""

    def fill(self, seed: bytes, chunk_index: int, size: int) -> npt.NDArray[np.uint8]:
        """The first ``size`` bytes of the chunk's keystream: a view that the next call overwrites."""
        self._draw(seed, self._nonce(chunk_index), self._zeros[:size], self._out[:size])
        return self._buffer[:size]

    def apply(self, ring: npt.NDArray[np.unsignedinteger], plan: MaskPlan, chunk_index: int) -> None:
        """Adds or subtracts every mask of the plan, in place, mod 2^B. ``ring`` is contiguous and little-endian."""
        size, nonce = ring.nbytes, self._nonce(chunk_index)
        zeros, out, stream = self._zeros[:size], self._out[:size], self._buffer[:size].view(ring.dtype)
        for mask in plan.masks:
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


def mask(levels: npt.NDArray[np.integer], plan: MaskPlan, chunk_index: int) -> None:
    """Masks one chunk of levels (int8, int16, int32; or int64 header words), in place."""
    unsigned = levels.view(UNSIGNED[levels.dtype.itemsize * 8])
    Keystream(unsigned.nbytes, plan.cipher).apply(unsigned, plan, chunk_index)
