"""Integer noise, drawn from a keyed stream: Skellam, and the discrete Gaussian. The same key gives the same noise.

Masses of the distribution are integers of a 128-bit fixed point, made with big integers alone and summing to exactly one;
Walker's alias method (Vose's construction, on those integers) then samples **exactly these masses**: 32 bits of the
stream choose a cell and compare with its threshold, and where they tie, 96 more decide. What is left is the distance of
the masses from the true distribution: at most 2^-110 in total variation for a sample, 2^-75 for a sum of 2^35
parameters. The accountant has room for it (``accounting.SLACK``). Uniform bits are AES-256-CTR(key, IV = chunk index
(8 bytes, big-endian) || 0), so a chunk's noise can be made by itself, on any thread.

Skellam: the difference of two Poisson variables of mean variance/2 each (arXiv 2110.04995); masses are Bessel functions
by their backward recurrence (Miller), normalised by their sum. Discrete Gaussian: mass proportional to
exp(-k^2 / (2 variance)) (arXiv 2004.00010). Sampling time depends on what is drawn by a tie alone.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, localcontext
from functools import lru_cache
from math import ceil, log, sqrt
from typing import Final

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from federation.errors import InvalidManifest
from federation.privacy.terms import DISCRETE_GAUSSIAN, MOST_VARIANCE, SKELLAM

MASS_BITS: Final = 128
_WORK_BITS: Final = 320
_WORD: Final = 32
_TIE: Final = MASS_BITS - _WORD
_TIE_BYTES: Final = _TIE // 8
_TAIL_BITS: Final = 130
"""the mass that is cut off is below 2^-_TAIL_BITS on each side"""


def _reach(variance: float, bits: int) -> int:
    """Beyond it lies less than 2^-bits on each side (Bernstein's inequality; it holds for both mechanisms)."""
    exponent = bits * log(2)
    return ceil(exponent / 3 + sqrt(exponent * exponent / 9 + 2 * exponent * variance))


def _skellam(variance: float, reach: int) -> list[int]:
    """Relative masses of 0..reach: I_{k-1} = I_{k+1} + (2k / variance) I_k, from far beyond downwards."""
    numerator, denominator = variance.as_integer_ratio()
    above, here = 0, 1 << _WORK_BITS
    masses = []
    for k in range(_reach(variance, 2 * _WORK_BITS), 0, -1):
        if k <= reach:
            masses.append(here)
        above, here = here, above + 2 * k * denominator * here // numerator
    return [here, *reversed(masses)]


def _discrete_gaussian(variance: float, reach: int) -> list[int]:
    """Relative masses of 0..reach: each is the one before times exp(-(2k + 1) / (2 variance))."""
    with localcontext() as context:
        context.prec = 120
        step = int((Decimal(-1) / (2 * Decimal(variance))).exp() * (1 << _WORK_BITS))
    masses, ratio, square = [1 << _WORK_BITS], step, (step * step) >> _WORK_BITS
    for _ in range(reach):
        masses.append((masses[-1] * ratio) >> _WORK_BITS)
        ratio = (ratio * square) >> _WORK_BITS
    return masses


_MASSES: Final[dict[str, Callable[[float, int], list[int]]]] = {
    SKELLAM: _skellam,
    DISCRETE_GAUSSIAN: _discrete_gaussian,
}


def masses_of(mechanism: str, variance: float) -> list[int]:
    """Masses of -reach..reach, in 2^-128, that sum to 2^128: rounded down, and what is missing given to zero."""
    relative = _MASSES[mechanism](variance, _reach(variance, _TAIL_BITS))
    whole = relative[0] + 2 * sum(relative[1:])
    half = [(mass << MASS_BITS) // whole for mass in relative]
    masses = [*reversed(half[1:]), *half]
    masses[len(half) - 1] += (1 << MASS_BITS) - sum(masses)
    return masses


class Table:
    """The alias table of one distribution. Immutable; shared by threads."""

    def __init__(self, mechanism: str, variance: float) -> None:
        masses = masses_of(mechanism, variance)
        self.zero = len(masses) // 2
        """the cell of the value 0"""
        self.bits = (len(masses) - 1).bit_length()
        cells = 1 << self.bits
        capacity = 1 << (MASS_BITS - self.bits)
        left = masses + [0] * (cells - len(masses))
        thresholds, aliases = [0] * cells, list(range(cells))
        small = [cell for cell in range(cells) if left[cell] < capacity]
        large = [cell for cell in range(cells) if left[cell] >= capacity]
        while small and large:
            poor, rich = small.pop(), large[-1]
            thresholds[poor], aliases[poor] = left[poor], rich
            left[rich] -= capacity - left[poor]
            if left[rich] < capacity:
                small.append(large.pop())
        packed = np.empty((cells, 2), dtype="<u4")
        packed[:, 0] = aliases
        packed[:, 1] = [threshold >> _TIE for threshold in thresholds]
        self.packed = packed.view("<u8").reshape(cells)
        """threshold (high half; of the word's bits below the cell's) and alias (low half)"""
        self.rest = tuple(threshold & ((1 << _TIE) - 1) for threshold in thresholds)
        """the further 96 bits of each threshold"""


@lru_cache(maxsize=8)
def table_of(mechanism: str, variance: float) -> Table:
    """Raises InvalidManifest when the variance is beyond what a table holds."""
    if not 0 < variance <= MOST_VARIANCE:
        raise InvalidManifest(
            f"One member's noise of {variance:.3g} levels squared is out of range (0 to {MOST_VARIANCE:.3g}).",
            hint="Raise spec.secureAggregation.scaleExponent: a level then stands for more.",
            field="spec.secureAggregation.scaleExponent",
        )
    return Table(mechanism, variance)


class Noise:
    """One member's noise for one attempt. Buffers are reused: one object per thread."""

    def __init__(self, mechanism: str, variance: float, key: bytes) -> None:
        """``variance``: levels^2, of each draw; 0: none. ``key``: 32 bytes that serve one attempt, and nothing else."""
        self._table = table_of(mechanism, variance) if variance else None
        self._key = key
        self._zeros = b""

    def __repr__(self) -> str:
        return "Noise(key redacted)"

    def add(self, levels: npt.NDArray[np.signedinteger], index: int) -> None:
        """To one chunk, in place, modulo the ring: what a member sends is noisy before it is reduced."""
        if self._table is not None:
            np.add(levels, self.draw(index, levels.size), out=levels, casting="unsafe")

    def draw(self, index: int, count: int) -> npt.NDArray[np.int64]:
        """int64[count]: the noise of chunk ``index``."""
        table = self._table
        if table is None:
            return np.zeros(count, dtype=np.int64)
        stream = Cipher(AES(self._key), CTR(index.to_bytes(8, "big") + bytes(8))).encryptor()
        if len(self._zeros) < 4 * count:
            self._zeros = bytes(4 * count)
        words = np.frombuffer(stream.update(memoryview(self._zeros)[: 4 * count]), dtype="<u4")
        cells = (words >> np.uint32(_WORD - table.bits)).astype(np.intp)
        low = words & np.uint32((1 << (_WORD - table.bits)) - 1)
        entries = table.packed.take(cells).view("<u4")
        aliases, thresholds = entries[0::2], entries[1::2]
        chosen = np.where(low < thresholds, cells, aliases)
        for place in np.flatnonzero(low == thresholds).tolist():
            cell = int(cells[place])
            more = int.from_bytes(stream.update(bytes(_TIE_BYTES)), "little")
            chosen[place] = cell if more < table.rest[cell] else int(aliases[place])
        chosen -= table.zero
        return chosen
