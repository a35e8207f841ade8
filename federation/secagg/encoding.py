"""A clipped difference as levels of a ring, and a sum of levels as a mean: what every member must compute alike.

x_i = difference * w_i / weight_unit; a chunk's level stands for 2^exponent (public); levels are rounded stochastically
with a dither from AES-CTR (resolution 2^-16 of a level for rings of 8 and 16 bits) and saturate at +-L, n*L <= 2^(B-1)
- 1, so that no sum can wrap. The header is 8-byte words: weight, squared norm over clip^2 (2^-32), saturated count,
then for each metric value * w/unit and w/unit (2^-32), then four of the sum MAC. (docs/protocol/secure-aggregation.md, "Encoding".)
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, replace
from math import isfinite, sqrt
from typing import Final, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from federation.errors import ProtocolViolation, TaskFailed
from federation.privacy.noise import Noise as DrawnNoise
from federation.privacy.sensitivity import TRIES, squared_norm
from federation.privacy.terms import FIGURE_LEVELS, SIGMAS
from federation.secagg import sum_mac
from federation.secagg.events import FloatArray, MaskPlan
from federation.secagg.lanes import in_order, stations_for
from federation.secagg.levels import Quantiser, Source, clipped, quiet, source_of
from federation.secagg.masking import HEADER_INDEX, SIGNED, UNSIGNED, Buffer, Keystream
from federation.secagg.merkle import MerkleRoot, leaf_hash
from federation.secagg.parameters import FIXED_WORDS, Encoding, Terms
from federation.secagg.suite import STANDARD

__all__ = [
    "Accumulator",
    "Buffer",
    "Header",
    "MerkleRoot",
    "Noise",
    "Source",
    "Sum",
    "clipped",
    "encode",
    "encoding_of",
    "header_words",
    "noises_of",
    "open_sum",
    "read_sum",
    "root_of",
    "settled_dither",
]

P = TypeVar("P")

WORD_BYTES: Final = 8
ONE: Final = 1 << 32
"""1.0 in the header's fixed point"""
METRIC_BOUND: Final = float(1 << 20)
"""a metric is held within +-2^20, so that 200 members' sum stays below 2^60"""


@dataclass(frozen=True, slots=True)
class Header:
    """What one member's header says. Build it with ``Header.of``; ``encode`` adds the saturation count by itself."""

    weight: int
    squared_norm: float
    metrics: Mapping[str, float | None]
    """every declared name, sorted; None: this member has no such figure"""

    @staticmethod
    def of(terms: Terms, weight: int, squared_norm: float, metrics: Mapping[str, float]) -> Header:
        """Keeps the declared metrics only. Raises TaskFailed when a declared metric is NaN or infinite."""
        for name in terms.metrics:
            if name in metrics and not isfinite(metrics[name]):
                raise TaskFailed(
                    f"The metric {name} is not a finite number.",
                    hint="Lower the learning rate, or look at the data.",
                    phase="reply",
                )
        return Header(weight, squared_norm, {name: metrics.get(name) for name in terms.metrics})

    def words(self, encoding: Encoding, saturated: int, noise: Noise | None = None) -> npt.NDArray[np.int64]:
        if encoding.privacy is not None:
            return self._private(encoding, noise)
        share = self.weight * ONE // encoding.weight_unit
        words = [self.weight, round(min(1.0, self.squared_norm / encoding.clip_norm**2) * ONE), saturated]
        for value in self.metrics.values():
            held = 0.0 if value is None else min(max(value, -METRIC_BOUND), METRIC_BOUND)
            words += [round(held * share), 0 if value is None else share]
        return np.array(words, dtype="<i8")

    def _private(self, encoding: Encoding, noise: Noise | None) -> npt.NDArray[np.int64]:
        """Nothing that the data decides: the public weight, and figures with their noise, in steps of their bound."""
        words = np.zeros(FIXED_WORDS + 2 * len(self.metrics), dtype="<i8")
        words[0] = self.weight
        if encoding.privacy is None or encoding.privacy.figures is None or not self.metrics:
            return words
        bound = encoding.privacy.figures.bound
        share = self.weight / encoding.weight_unit
        held = [0.0 if value is None else min(max(value, -bound), bound) / bound for value in self.metrics.values()]
        steps = np.array([round(value * share * FIGURE_LEVELS) for value in held], dtype=np.int64)
        if noise is None:
            raise TaskFailed("The figures have no noise.", hint="Report it: nothing was sent.", phase="reply")
        noise.add(steps, HEADER_INDEX)
        words[FIXED_WORDS::2] = steps * figure_step(bound)
        words[FIXED_WORDS + 1 :: 2] = self.weight * ONE // encoding.weight_unit
        return words


class Noise(Protocol):
    """What is added to a chunk before it is masked (``federation.privacy.noise``)."""

    def add(self, levels: npt.NDArray[np.signedinteger], index: int) -> None:
        """In place, to the levels of chunk ``index``, in any order of chunks. Each thread has a copy (``copy.copy``)."""
        ...


def figure_step(bound: float) -> int:
    """What one step of a noised figure stands for in its header word."""
    return max(1, round(bound * ONE / FIGURE_LEVELS))


def header_words(terms: Terms) -> int:
    """How many 8-byte words the header has."""
    return FIXED_WORDS + 2 * len(terms.metrics) + sum_mac.WORDS


def encoding_of(terms: Terms, members: int, weight_unit: int) -> Encoding:
    noised = terms.privacy is not None and terms.privacy.distributed  # half of the ring is for the noise
    return Encoding(
        ring_bits=terms.ring_bits,
        level_bound=Encoding.level_bound_of(terms.ring_bits - noised, members),
        clip_norm=terms.clip_norm,
        weight_unit=weight_unit,
        min_scale_exponent=terms.min_scale_exponent,
        max_scale_exponent=terms.max_scale_exponent,
        chunk_parameters=terms.chunk_parameters,
        privacy=terms.privacy,
        members=members,
    )


def update_size(terms: Terms, encoding: Encoding, parameters: int) -> int:
    """Bytes of an update, and of a sum, of ``parameters`` (0: header-only)."""
    return parameters * encoding.ring_bits // 8 + WORD_BYTES * header_words(terms)


def settled_dither(
    difference: FloatArray | Source,
    weight: int,
    plan: MaskPlan,
    encoding: Encoding,
    scales: npt.NDArray[np.int8],
    lanes: int = 1,
) -> MaskPlan:
    """The plan with a dither under which the rounded vector is within its sensitivity: conditional rounding, in a pass of
    its own, so that memory stays a few chunks. The plan itself without noise."""
    source = source_of(difference)
    if not encoding.noised or not source.size:
        return plan
    bound = encoding.sensitivity(source.size) ** 2
    for again in range(TRIES):
        tried = replace(plan, dither=_local(plan, f"dither {again}"))
        work = _Work(source, weight, tried, encoding, scales, hashed=False)
        stretches = -(-encoding.chunks(source.size) // STRETCH)
        stations = [_Station(work, None, None) for _ in range(stations_for(lanes, stretches))]
        if squared_norm(row for rows in in_order(stations, work.levels, stretches) for row in rows) <= bound:
            return tried
    raise TaskFailed(
        "The update could not be rounded within its sensitivity.", hint="Report it: nothing was sent.", phase="reply"
    )


def noises_of(terms: Terms, encoding: Encoding, plan: MaskPlan, parameters: int) -> tuple[Noise | None, Noise | None]:
    """This member's noise on the levels and on the figures of this attempt, where the job has such; keyed from the seed
    that its journal holds before anything is encoded. Raises InvalidManifest when the ring has no room for it."""
    privacy = encoding.privacy
    if privacy is None or not privacy.distributed:
        return None, None
    levels = encoding.noise_variance(parameters)
    figures = encoding.figure_variance(len(terms.metrics))
    return (
        DrawnNoise(privacy.mechanism, levels, _local(plan, "noise")),
        DrawnNoise(privacy.mechanism, figures, _local(plan, "figure noise")),
    )


def _local(plan: MaskPlan, label: str) -> bytes:
    """A key that never leaves the member."""
    return STANDARD.expand(plan.dither, b"concord/secagg/v1/" + label.encode())


STRETCH: Final = sum_mac.TOGETHER
"""chunks that a thread takes at a time: few enough for its caches, and enough that handing over costs nothing"""


@dataclass(frozen=True, slots=True)
class Piece:
    """A masked chunk, or the header, which comes last. ``data`` stands until the next piece is asked for."""

    data: memoryview
    leaf: bytes
    """its hash in the Merkle tree; empty when nobody asked for it"""


class _Station:
    """What a thread needs to encode a stretch of chunks."""

    def __init__(self, work: _Work, mac: sum_mac.SumMac | None, noise: Noise | None) -> None:
        encoding, size = work.encoding, work.encoding.chunk_parameters
        longest, width = min(STRETCH * size, work.source.size), encoding.ring_bits // 8
        self.mac, self.noise = mac, copy(noise)
        self.keystream = Keystream(min(size, longest) * width, work.plan.cipher)
        dither = Keystream(min(size, longest) * max(2, width), work.plan.cipher)
        self.quantiser = Quantiser(encoding, work.weight, longest, dither, work.plan.dither)
        self.levels = np.empty(longest, SIGNED[encoding.ring_bits])


@dataclass(frozen=True, slots=True)
class _Work:
    """The encoding of one update: what does not change from chunk to chunk."""

    source: Source
    weight: int
    plan: MaskPlan
    encoding: Encoding
    scales: npt.NDArray[np.int8]
    hashed: bool

    def levels(self, station: _Station, number: int) -> list[npt.NDArray[np.signedinteger]]:
        """Of a stretch of chunks, a row each, before noise and masks."""
        size, first = self.encoding.chunk_parameters, number * STRETCH
        start, stop = first * size, min((first + STRETCH) * size, self.source.size)
        values = self.source.part(start, stop, station.quantiser.difference)
        levels = station.levels[: stop - start]
        exponents: list[int] = self.scales[first : first + -(-levels.size // size)].tolist()
        with quiet():
            station.quantiser.quantise(values, first, exponents, levels)
        return [levels[at : at + size] for at in range(0, levels.size, size)]

    def stretch(self, station: _Station, number: int) -> list[Piece]:
        first, rows = number * STRETCH, self.levels(station, number)
        if station.noise is not None:
            for index, levels in enumerate(rows, first):
                station.noise.add(levels, index)
        if station.mac is not None:
            station.mac.add_rows(first, rows)
        levels = station.levels[: sum(row.size for row in rows)]
        station.keystream.apply(levels.view(UNSIGNED[self.encoding.ring_bits]), self.plan, first)
        pieces = []
        for row in rows:
            data = row.view(np.uint8).data
            pieces.append(Piece(data, leaf_hash(data) if self.hashed else b""))
        return pieces


def encode(
    difference: FloatArray | Source | None,
    header: Header,
    plan: MaskPlan,
    encoding: Encoding,
    scales: npt.NDArray[np.int8],
    noise: Noise | None = None,
    figure_noise: Noise | None = None,
    lanes: int = 1,
) -> Iterator[bytes]:
    """One masked chunk each, header LAST. ``difference`` None or empty: header only. ``noise`` goes onto the levels before
    anything else does; where the job has privacy, nothing is encoded without it. Raises TaskFailed on NaN or Inf."""
    for piece in pieces_of(difference, header, plan, encoding, scales, noise, figure_noise, lanes, hashed=False):
        yield piece.data.tobytes()


def pieces_of(
    difference: FloatArray | Source | None,
    header: Header,
    plan: MaskPlan,
    encoding: Encoding,
    scales: npt.NDArray[np.int8],
    noise: Noise | None = None,
    figure_noise: Noise | None = None,
    lanes: int = 1,
    *,
    hashed: bool = True,
) -> Generator[Piece]:
    """As ``encode``, without a copy, each with its leaf of the Merkle tree; the same bytes for any number of lanes.

    Memory: about 5 MiB for each lane and one more, whatever the size (chunks of 65,536; twice that in the 32-bit ring).
    """
    if encoding.noised and noise is None and difference is not None:
        raise TaskFailed("The update has no noise.", hint="Report it: nothing was sent.", phase="reply")
    source = None if difference is None else source_of(difference)
    held, saturated = 0 if source is None else source.size, 0
    tag = plan.tag
    mac = sum_mac.SumMac(tag.key, min(encoding.chunk_parameters, held)) if tag is not None else None
    if source is not None and held:
        chunks = encoding.chunks(held)
        used = scales[:chunks]
        if len(used) < chunks or used.min() < encoding.min_scale_exponent or used.max() > encoding.max_scale_exponent:
            raise ProtocolViolation(
                "A chunk's scale is missing, or outside the manifest's bounds.", check="scale-bounds"
            )
        work = _Work(source, header.weight, plan, encoding, scales, hashed)
        stretches = -(-chunks // STRETCH)
        stations = [
            _Station(work, None if mac is None else mac.sibling(), noise) for _ in range(stations_for(lanes, stretches))
        ]
        for pieces in in_order(stations, work.stretch, stretches):
            yield from pieces
        saturated = sum(station.quantiser.saturated for station in stations)
        for station in stations:
            if mac is not None and station.mac is not None:
                mac.merge(station.mac)
    plain = header.words(encoding, saturated, figure_noise)
    tags = [0] * sum_mac.WORDS
    if mac is not None and tag is not None:
        mac.add_header(plain.tolist())
        tags = sum_mac.words_of(mac.tag, sum_mac.pad_of(tag.pads[0]))
    words = np.concatenate([plain, np.array(tags, dtype="<i8")]).view("<u8")
    Keystream(words.nbytes, plan.cipher).apply(words, plan, HEADER_INDEX)
    data = words.view(np.uint8).data
    yield Piece(data, leaf_hash(data) if hashed else b"")


def root_of(update: Buffer, terms: Terms, encoding: Encoding) -> bytes:
    """The Merkle root of a complete update: the collector's driver compares it with Upload.root before it counts the
    upload."""
    view = memoryview(update)
    body = view.nbytes - WORD_BYTES * header_words(terms)
    step = encoding.chunk_parameters * encoding.ring_bits // 8
    tree = MerkleRoot()
    for start in range(0, body, step):
        tree.add(view[start : min(start + step, body)])
    tree.add(view[body:])
    return tree.root()


class Accumulator:
    """The collector's arithmetic: add each update of the cohort, then ``unmask``; ``data`` is the sum. Memory: one
    update."""

    def __init__(self, terms: Terms, encoding: Encoding, parameters: int) -> None:
        self._encoding = encoding
        self._data = bytearray(update_size(terms, encoding, parameters))
        self._body = parameters * encoding.ring_bits // 8

    def _parts(self, buffer: Buffer) -> tuple[npt.NDArray[np.unsignedinteger], npt.NDArray[np.uint64]]:
        ring = np.frombuffer(buffer, dtype=np.uint8, count=self._body).view(UNSIGNED[self._encoding.ring_bits])
        return ring, np.frombuffer(buffer, dtype="<u8", offset=self._body)

    def add(self, update: Buffer) -> None:
        """Raises ProtocolViolation when the size is wrong."""
        if memoryview(update).nbytes != len(self._data):
            raise ProtocolViolation("The update has the wrong size.", check="update-size")
        for total, part in zip(self._parts(self._data), self._parts(update), strict=True):
            np.add(total, part, out=total)

    def unmask(self, plan: MaskPlan) -> None:
        ring, words = self._parts(self._data)
        size = self._encoding.chunk_parameters
        keystream = Keystream(max(size * self._encoding.ring_bits // 8, words.nbytes), plan.cipher)
        for index in range(self._encoding.chunks(ring.size)):
            keystream.apply(ring[index * size : (index + 1) * size], plan, index)
        keystream.apply(words, plan, HEADER_INDEX)

    @property
    def data(self) -> memoryview:
        return memoryview(self._data).toreadonly()


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

    def mean(self, scales: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
        """The weighted mean difference, float64[parameters]: S * 2^exponent * unit (exact) / sum of weights (one IEEE
        division)."""
        mean = np.empty(self.parameters, dtype=np.float64)
        at = 0
        for part in self.means(scales):
            mean[at : at + part.size] = part
            at += part.size
        return mean

    def means(self, scales: npt.NDArray[np.int8]) -> Iterator[npt.NDArray[np.float64]]:
        """``mean`` chunk by chunk: views that the next overwrites."""

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


def read_sum(
    data: Buffer, terms: Terms, encoding: Encoding, cohort_size: int, total_weight: int, parameters: int | None = None
) -> Sum:
    """The collector's reading, where it may see the sum: all checks of ``open_sum`` but the MAC, whose key it has not."""
    return open_sum(data, MaskPlan(b"", ()), terms, encoding, cohort_size, total_weight, parameters)


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
