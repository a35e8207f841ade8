"""The sum MAC: members see whether the sum that comes is that of its cohort, though the coordinator added it up.

A Carter-Wegman MAC that adds (the tags of summands sum to the tag of the sum), over the field of p = 2^61 - 1, under a
key that all members share and the coordinator does not have. For each of two independent keys: a vector rho for the
places within a chunk, a coefficient sigma for each chunk, a vector for the header. With e the difference of two sums,
sum_c sigma_c <rho, e_c> + <rho_h, e_h> is a polynomial of degree 2 in the key that is not zero, since p exceeds every
difference of two sums in range. No value of an element is likelier than 2^-60 (0 is drawn twice), so it vanishes with
probability at most 2^-59, for both keys 2^-118. A member adds a pad of its own, so tags say nothing of its update.
(docs/protocol/secure-aggregation.md, "Sum MAC".)

Inner products are exact: field elements are cut into three limbs of 21 bits and vectors into blocks of 2^13, so that every
partial sum of a float64 product stays below 2^53, in whatever order it is added. Blocks of this length also stay below
the size from which a BLAS starts threads of its own, which cost far more than they bring here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

PRIME: Final = (1 << 61) - 1
KEYS: Final = 2
WORDS: Final = 2 * KEYS
"""of a header: low 32 bits and high 29 bits of each tag, so that the sum of 200 members' halves does not wrap"""
_LIMBS: Final = 3
_LIMB: Final = 21
_BLOCK: Final = 1 << 13
TOGETHER: Final = 4
"""chunks whose products are taken at once"""
_HALF: Final = 16
_WIDE: Final = 32
_SIGMA: Final = 4
"""streams 0, 1: rho of each key; 2, 3: of the header; from 4 on: sigma of each chunk, two words"""

Tag = tuple[int, int]


def _elements(key: bytes, stream: int, count: int) -> npt.NDArray[np.uint64]:
    """61 bits each of AES-256-CTR(key, IV = stream || 0); p itself counts as 0: a bias of 2^-61."""
    cipher = Cipher(AES(key), CTR(_nonce(stream))).encryptor()
    words = np.frombuffer(cipher.update(bytes(8 * count)), dtype="<u8") & np.uint64(PRIME)
    return np.where(words == PRIME, np.uint64(0), words)


def _nonce(stream: int) -> bytes:
    return stream.to_bytes(8, "big") + bytes(8)


def pad_of(seed: bytes) -> Tag:
    """A member's two pads, of its 32-byte seed."""
    a, b = _elements(seed, 0, KEYS).tolist()
    return a, b


def _limbs(key: bytes, longest: int) -> list[npt.NDArray[np.float64]]:
    """Of rho, for each block of places: float64[keys * limbs, places]."""
    rows = []
    for which in range(KEYS):
        rho = _elements(key, which, longest)
        for limb in range(_LIMBS):
            rows.append((rho >> np.uint64(_LIMB * limb)) & np.uint64((1 << _LIMB) - 1))
    table = np.array(rows, dtype=np.float64)
    return [np.ascontiguousarray(table[:, start : start + _BLOCK]) for start in range(0, longest, _BLOCK)]


class SumMac:
    """The tag of one vector: chunks in any order, then the header. ``longest``: parameters of the longest chunk."""

    def __init__(self, key: bytes, longest: int) -> None:
        self._setup(key, _limbs(key, longest))

    def _setup(self, key: bytes, limbs: list[npt.NDArray[np.float64]]) -> None:
        self._key, self._limbs = key, limbs
        self._values = np.zeros((TOGETHER, min(limbs[0].shape[1], _BLOCK) if limbs else 0), dtype=np.float64)
        self._sigma = Cipher(AES(key), CTR(bytes(16))).encryptor()
        self._tag = [0] * KEYS

    def sibling(self) -> SumMac:
        """One more for the same vector, for another thread: it counts other chunks, and ``merge`` puts the tags together."""
        other = SumMac.__new__(SumMac)
        other._setup(self._key, self._limbs)
        return other

    def merge(self, other: SumMac) -> None:
        self._tag = [(mine + its) % PRIME for mine, its in zip(self._tag, other._tag, strict=True)]

    def add_rows(self, first: int, rows: Sequence[npt.NDArray[np.signedinteger]]) -> None:
        """Chunks from index ``first`` on, signed, of at most 32 bits, none longer than ``longest``: ``TOGETHER`` of them read the
        key once."""
        for start in range(0, len(rows), TOGETHER):
            some = rows[start : start + TOGETHER]
            if some[0].dtype.itemsize * 8 == _WIDE:
                low = self._products([row & 0xFFFF for row in some])
                high = self._products([row >> _HALF for row in some])
                products = [
                    [one + (other << _HALF) for one, other in zip(*pair, strict=True)]
                    for pair in zip(low, high, strict=True)
                ]
            else:
                products = self._products(some)
            for place, product in enumerate(products, first + start):
                self._add(place, product)

    def _add(self, index: int, products: list[int]) -> None:
        self._sigma.reset_nonce(_nonce(_SIGMA + index))
        drawn = self._sigma.update(bytes(8 * KEYS))
        for which in range(KEYS):
            sigma = int.from_bytes(drawn[8 * which : 8 * which + 8], "little") & PRIME
            mine = products[which * _LIMBS : (which + 1) * _LIMBS]
            inner = sum(product << (_LIMB * limb) for limb, product in enumerate(mine))
            self._tag[which] = (self._tag[which] + sigma * inner) % PRIME  # p counts as 0 by itself

    def _products(self, rows: Sequence[npt.NDArray[np.signedinteger]]) -> list[list[int]]:
        """For each row: its inner product with every limb of both keys. What a row lacks is zero, so that the product is one
        of matrices, which is small enough for a BLAS to stay on this thread."""
        totals = np.zeros((TOGETHER, KEYS * _LIMBS), dtype=np.int64)
        longest = max(row.size for row in rows)
        for block, limbs in enumerate(self._limbs):
            start = block * _BLOCK
            width = min(_BLOCK, longest - start)
            if width <= 0:
                break
            values = self._values[:, :width]
            for value, row in zip(values, rows, strict=False):
                part = row[start : start + width]
                np.copyto(value[: part.size], part)
                value[part.size :] = 0
            values[len(rows) :] = 0
            totals += np.matmul(limbs[:, :width], values.T).T.astype(np.int64)
        return [row.tolist() for row in totals[: len(rows)]]

    def add_header(self, words: Iterable[int]) -> None:
        """Signed words, without those of the MAC."""
        listed = list(words)
        for which in range(KEYS):
            rho = _elements(self._key, KEYS + which, len(listed)).tolist()
            inner = sum(word * element for word, element in zip(listed, rho, strict=True))
            self._tag[which] = (self._tag[which] + inner) % PRIME

    @property
    def tag(self) -> Tag:
        return self._tag[0], self._tag[1]


def words_of(tag: Tag, pad: Tag) -> list[int]:
    """What a member puts into its header."""
    words = []
    for value, hidden in zip(tag, pad, strict=True):
        sent = (value + hidden) % PRIME
        words += [sent & 0xFFFFFFFF, sent >> 32]
    return words


def agrees(tag: Tag, words: Sequence[int], pads: Iterable[bytes]) -> bool:
    """Whether the MAC words of a sum are those of the tag of that sum. ``pads``: the seeds of the cohort."""
    hidden = [pad_of(seed) for seed in pads]
    for which in range(KEYS):
        found = words[2 * which] + (words[2 * which + 1] << 32)
        if (found - tag[which] - sum(pad[which] for pad in hidden)) % PRIME:
            return False
    return True
