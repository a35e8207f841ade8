"""A clipped difference as levels of a ring, part by part: what a member computes before it masks.

x_i = difference * w_i / weight_unit; a level stands for 2^exponent of its chunk; levels are rounded stochastically with a dither
from the keystream (resolution 2^-16 of a level for rings of 8 and 16 bits, 2^-32 for 32) and saturate at +-L.
(docs/protocol/secure-aggregation.md, "Bytes".)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from federation.errors import TaskFailed
from federation.secagg.events import FloatArray
from federation.secagg.lanes import in_order, stations_for
from federation.secagg.masking import Keystream
from federation.secagg.parameters import Encoding


class Source(Protocol):
    """A difference that is computed part by part, and never held whole (``weights.layout.Difference``)."""

    @property
    def size(self) -> int: ...

    def part(self, start: int, stop: int, out: FloatArray, /) -> FloatArray:
        """float32[stop - start]; ``out`` has room for it and may be used. Called from several threads."""
        ...


@dataclass(frozen=True, slots=True)
class Held:
    """A difference that is in memory already."""

    values: FloatArray

    @property
    def size(self) -> int:
        return self.values.size

    def part(self, start: int, stop: int, _out: FloatArray, /) -> FloatArray:
        return self.values[start:stop]


@dataclass(frozen=True, slots=True)
class _Scaled:
    """``inner`` times ``factor``, in float32."""

    inner: Source
    factor: np.float32

    @property
    def size(self) -> int:
        return self.inner.size

    def part(self, start: int, stop: int, out: FloatArray, /) -> FloatArray:
        return np.multiply(self.inner.part(start, stop, out), self.factor, out=out[: stop - start])


NORM_STEP: Final = 1 << 20
"""values whose squares are added in float64 by one call"""
NORM_LANES: Final = 2
"""threads that do so at once, at most: each has 12 MiB, and 64 MiB above the model is all that a member may take"""


def source_of(difference: FloatArray | Source) -> Source:
    return Held(difference) if isinstance(difference, np.ndarray) else difference


def _not_finite() -> TaskFailed:
    return TaskFailed(
        "The update holds NaN or infinite values.",
        hint="Lower the learning rate, or look at the data.",
        phase="reply",
    )


def clipped(difference: FloatArray | Source, norm: float, lanes: int = 1) -> tuple[Source, float]:
    """The difference clipped to the L2 norm, still part by part, and its squared norm. Raises TaskFailed on NaN or Inf.

    Reads all of it once. Memory: 12 MiB for each of at most three stations.
    """
    source = source_of(difference)
    steps, longest = -(-source.size // NORM_STEP), min(NORM_STEP, source.size)
    stations = [
        (np.empty(longest, dtype=np.float32), np.empty(longest, dtype=np.float64))
        for _ in range(stations_for(min(lanes, NORM_LANES), steps))
    ]

    def square(station: tuple[FloatArray, npt.NDArray[np.float64]], step: int) -> float:
        start = step * NORM_STEP
        stop = min(start + NORM_STEP, source.size)
        wide = station[1][: stop - start]
        np.copyto(wide, source.part(start, stop, station[0]))
        return float(np.einsum("i,i->", wide, wide))

    squared = sum(in_order(stations, square, steps))
    if not isfinite(squared):
        raise _not_finite()
    if squared <= norm * norm:
        return source, squared
    return _Scaled(source, np.float32(norm / squared**0.5)), norm * norm


def quiet() -> np.errstate:
    """Numbers that overflow are looked for, not warned of."""
    return np.errstate(over="ignore", invalid="ignore")


class Quantiser:
    """Buffers for ``longest`` values, reused: one per thread."""

    def __init__(self, encoding: Encoding, weight: int, longest: int, keystream: Keystream, dither: bytes) -> None:
        self._encoding, self._weight = encoding, weight
        self._keystream, self._dither = keystream, dither
        wide = encoding.ring_bits == 32
        self._kind: type[np.floating[Any]] = np.float64 if wide else np.float32
        self._shift = 32 if wide else 16
        """a level is this many bits above the fixed point, and so is the dither below it"""
        self.difference = np.empty(longest, dtype=np.float32)
        self._values: npt.NDArray[np.floating[Any]] = np.empty(longest, dtype=self._kind)
        self._fixed = np.empty(longest, dtype=np.int64 if wide else np.int32)
        self._drawn = np.empty(longest, dtype="<u4" if wide else "<u2")
        self.saturated = 0

    def quantise(
        self, values: FloatArray, first: int, exponents: Sequence[int], levels: npt.NDArray[np.signedinteger]
    ) -> None:
        """The levels of whole chunks from index ``first`` on (the last may be shorter), each with its exponent, into ``levels``.
        Raises TaskFailed for NaN, or what is infinite once it is scaled.

        The plain way is: scale, saturate, shift into the fixed point, add the dither, shift back. Here the first and the third
        are one multiplication, of the same result to the bit, since the second factor is a power of two; where only the
        product of both is infinite, the plain way is gone. (An overflow is seen, not warned of: the caller is ``quiet``.)
        """
        count, size, bound, shift = (
            values.size,
            self._encoding.chunk_parameters,
            self._encoding.level_bound,
            self._shift,
        )
        scaled, fixed, drawn = self._values[:count], self._fixed[:count], self._drawn[:count]
        factors = [self._kind(self._weight / self._encoding.weight_unit * 2.0**-exponent) for exponent in exponents]
        whole = self._kind(2**shift)
        for place, factor in enumerate(factors):
            chunk = slice(place * size, min((place + 1) * size, count))
            np.multiply(values[chunk], factor * whole, out=scaled[chunk])
            self._keystream.fill_into(drawn[chunk].view(np.uint8).data, self._dither, first + place)
        high, low, limit = float(scaled.max()), float(scaled.min()), bound << shift
        if not (isfinite(high) and isfinite(low)):
            for place, factor in enumerate(factors):
                chunk = slice(place * size, min((place + 1) * size, count))
                np.multiply(values[chunk], factor, out=scaled[chunk])
            if not (isfinite(float(scaled.max())) and isfinite(float(scaled.min()))):
                raise _not_finite()
            self._saturate(scaled, bound)
            np.multiply(scaled, whole, out=scaled)
        elif high > limit or low < -limit:
            self._saturate(scaled, limit)
        np.copyto(fixed, scaled, casting="unsafe")
        np.add(fixed, drawn, out=fixed, casting="unsafe")
        np.right_shift(fixed, shift, out=fixed)
        np.copyto(levels, fixed, casting="unsafe")

    def _saturate(self, values: npt.NDArray[np.floating], limit: int) -> None:
        self.saturated += int(np.count_nonzero(np.abs(values) > limit))
        np.clip(values, -limit, limit, out=values)
