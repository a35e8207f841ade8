"""A sum as its members read it: the masks that only they can take off, what a sum may hold, the sum MAC, and the mean.

A mean is S * 2^exponent * weight_unit (exact) / sum of weights (one IEEE division), so that all members compute the same bits.
(docs/protocol/secure-aggregation.md, "Checks on a sum", "The next state".)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import sqrt
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from federation.errors import ProtocolViolation
from federation.privacy.terms import SIGMAS
from federation.secagg import sum_mac
from federation.secagg.events import MaskPlan
from federation.secagg.header import METRIC_BOUND, ONE, WORD_BYTES, figure_step, header_words
from federation.secagg.lanes import STRETCH, in_order, stations_for
from federation.secagg.masking import HEADER_INDEX, SIGNED, UNSIGNED, Buffer, Keystream
from federation.secagg.parameters import FIXED_WORDS, Encoding, Terms

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Sum:
    """A sum that passed its checks."""

    parameters: int
    header: tuple[int, ...]
    """words as signed integers"""
    saturated: int
    peaks: npt.NDArray[np.int64]
    """largest |S_k| of each chunk: for the next round's scales"""
    source: npt.NDArray[np.unsignedinteger]
    """the ring elements as they came"""
    plan: MaskPlan
    """what is left on them"""
    encoding: Encoding
    lanes: int = 1

    def chunks(self) -> Iterator[npt.NDArray[np.signedinteger]]:
        """Signed level sums, chunk by chunk: views that the next overwrites."""
        yield from self._each(lambda _station, rows, _first: rows)

    def means(self, scales: npt.NDArray[np.int8]) -> Iterator[npt.NDArray[np.float64]]:
        """The weighted mean difference, S * 2^exponent * unit (exact) / sum of weights (one IEEE division), chunk by chunk:
        views that the next overwrites."""

        def divide(
            station: _Opening, rows: list[npt.NDArray[np.signedinteger]], first: int
        ) -> list[npt.NDArray[np.float64]]:
            parts = []
            for place, row in enumerate(rows):
                part = station.wide(place)[: row.size]
                np.multiply(row, 2.0 ** int(scales[first + place]) * self.encoding.weight_unit, out=part)
                np.divide(part, float(self.header[0]), out=part)
                parts.append(part)
            return parts

        yield from self._each(divide)

    def _each(self, work: Callable[[_Opening, list[npt.NDArray[np.signedinteger]], int], list[P]]) -> Iterator[P]:
        stretches = -(-self.encoding.chunks(self.parameters) // STRETCH)
        stations = [
            _Opening(self.source, self.plan, self.encoding, None) for _ in range(stations_for(self.lanes, stretches))
        ]

        def opened(station: _Opening, number: int) -> list[P]:
            return work(station, station.open(self.source, self.plan, self.encoding, number), number * STRETCH)

        for parts in in_order(stations, opened, stretches):
            yield from parts


class _Opening:
    """What a thread needs to take the masks off a stretch of chunks."""

    def __init__(
        self,
        source: npt.NDArray[np.unsignedinteger],
        plan: MaskPlan,
        encoding: Encoding,
        mac: sum_mac.SumMac | None,
    ) -> None:
        self.mac = mac
        self._longest = min(encoding.chunk_parameters, source.size)
        self._rows = min(STRETCH, encoding.chunks(source.size))
        self._keystream = Keystream(self._longest * source.itemsize if plan.masks else 0, plan.cipher)
        self._held = np.empty((self._rows, self._longest) if plan.masks else (0, 0), dtype=source.dtype)
        self._wide: npt.NDArray[np.float64] | None = None

    def open(
        self, source: npt.NDArray[np.unsignedinteger], plan: MaskPlan, encoding: Encoding, number: int
    ) -> list[npt.NDArray[np.signedinteger]]:
        """Stretch ``number``: views, of the sum itself where no mask is left on it."""
        size, signed = encoding.chunk_parameters, SIGNED[encoding.ring_bits]
        first = number * STRETCH
        rows = []
        for index in range(first, min(first + STRETCH, encoding.chunks(source.size))):
            chunk = source[index * size : (index + 1) * size]
            if plan.masks:
                held = self._held[index - first, : chunk.size]
                np.copyto(held, chunk)
                self._keystream.apply(held, plan, index)
                chunk = held
            rows.append(chunk.view(signed))
        return rows

    def wide(self, place: int) -> npt.NDArray[np.float64]:
        if self._wide is None:
            self._wide = np.empty((self._rows, self._longest), dtype=np.float64)
        row: npt.NDArray[np.float64] = self._wide[place]
        return row


def open_sum(
    data: Buffer,
    plan: MaskPlan,
    terms: Terms,
    encoding: Encoding,
    cohort_size: int,
    total_weight: int,
    parameters: int | None = None,
    lanes: int = 1,
) -> Sum:
    """A member's reading: takes off what only members can, checks size, ranges, weights and the sum MAC; raises
    ProtocolViolation. ``parameters``: how many the layout has (0 when header-only). Memory: some chunks for each lane."""
    words = header_words(terms)
    body = memoryview(data).nbytes - WORD_BYTES * words
    width = encoding.ring_bits // 8
    if body < 0 or body % width or (parameters is not None and body != parameters * width):
        raise _bad("sum-size", "The sum has the wrong size")
    tail = np.frombuffer(data, dtype="<u8", offset=body).copy()
    Keystream(tail.nbytes, plan.cipher).apply(tail, plan, HEADER_INDEX)
    source = np.frombuffer(data, dtype=np.uint8, count=body).view(UNSIGNED[encoding.ring_bits])
    header = check_header(tail, encoding, cohort_size, total_weight, source.size)
    peaks = np.zeros(encoding.chunks(source.size), dtype=np.int64)
    bound, tag = level_sum_bound(encoding, cohort_size, source.size), plan.tag
    mac = sum_mac.SumMac(tag.key, min(encoding.chunk_parameters, source.size)) if tag is not None else None

    def judge(station: _Opening, number: int) -> None:
        first = number * STRETCH
        rows = station.open(source, plan, encoding, number)
        for place, row in enumerate(rows, first):
            peaks[place] = peak_within(row, bound)
        if station.mac is not None:
            station.mac.add_rows(first, rows)

    stretches = -(-encoding.chunks(source.size) // STRETCH)
    stations = [
        _Opening(source, plan, encoding, None if mac is None else mac.sibling())
        for _ in range(stations_for(lanes, stretches))
    ]
    for _ in in_order(stations, judge, stretches):
        pass
    if mac is not None and tag is not None:
        for station in stations:
            if station.mac is not None:
                mac.merge(station.mac)
        known = words - sum_mac.WORDS
        mac.add_header(header[:known])
        if not sum_mac.agrees(mac.tag, header[known:], tag.pads):
            raise _bad("sum-mac", "The sum is not that of its cohort")
    return Sum(source.size, header, header[2], peaks, source, plan, encoding, lanes)


def check_header(
    tail: npt.NDArray[np.uint64],
    encoding: Encoding,
    cohort_size: int,
    total_weight: int,
    parameters: int,
) -> tuple[int, ...]:
    """A sum's header as signed words, when it can be that of its cohort. Raises ProtocolViolation."""
    header = tuple(int(word) for word in tail.view("<i8"))
    if header[0] != total_weight or total_weight < 1:
        raise _bad("sum-weight", "The sum's weight is not that of its cohort")
    if not 0 <= header[1] <= cohort_size * ONE or not 0 <= header[2] <= cohort_size * parameters:
        raise _bad("sum-header", "The sum's norm or saturation count is out of range")
    known, largest, noisy = len(header) - sum_mac.WORDS, METRIC_BOUND, 0.0
    if encoding.privacy is not None and encoding.privacy.figures is not None:
        step = figure_step(encoding.privacy.figures.bound)
        largest = 2 * encoding.privacy.figures.bound
        variance = encoding.figure_variance((known - FIXED_WORDS) // 2)
        noisy = step * (SIGMAS * sqrt(cohort_size * variance) + cohort_size)
    for place in range(FIXED_WORDS, known, 2):
        value, share = header[place], header[place + 1]
        if (
            not 0 <= share <= total_weight * ONE // encoding.weight_unit
            or abs(value) > largest * share + cohort_size + noisy
        ):
            raise _bad("sum-header", "A metric of the sum is out of range")
    return header


def level_sum_bound(encoding: Encoding, cohort_size: int, parameters: int) -> int:
    """No element of a sum of ``cohort_size`` contributions is larger, but with a chance that SIGMAS makes negligible."""
    variance = encoding.noise_variance(parameters)
    return cohort_size * encoding.level_bound + int(SIGMAS * sqrt(cohort_size * variance))


def peak_within(levels: npt.NDArray[np.signedinteger], bound: int) -> int:
    """The largest size of a chunk's level sums. Raises ProtocolViolation when it is above ``bound``."""
    peak = max(int(levels.max()), -int(levels.min()))
    if peak > bound:
        raise _bad("sum-range", "The sum of the models is out of range")
    return peak


def _bad(check: str, text: str) -> ProtocolViolation:
    return ProtocolViolation(
        f"{text}: a member sent garbage, or the sum was altered.",
        check=check,
        hint="The round is void. Ask the operator who took part, and run the job again without the faulty member.",
    )
