"""A clipped difference as levels of a ring, and a sum of levels as a mean: what every member must compute alike.

x_i = difference * w_i / weight_unit; a chunk's level stands for 2^exponent (public); levels are rounded stochastically
with a dither from AES-CTR (resolution 2^-16 of a level for rings of 8 and 16 bits) and saturate at +-L, n*L <= 2^(B-1)
- 1, so that no sum can wrap. The header is 8-byte words: weight, squared norm over clip^2 (2^-32), saturated count,
then for each metric value * w/unit and w/unit (2^-32), then four of the sum MAC. (docs/protocol/secure-aggregation.md, "Encoding".)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import isfinite, sqrt
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from federation.errors import ProtocolViolation, TaskFailed
from federation.privacy.noise import Noise as DrawnNoise
from federation.privacy.sensitivity import TRIES, squared_norm
from federation.privacy.terms import FIGURE_LEVELS, SIGMAS
from federation.secagg import sum_mac
from federation.secagg.events import FloatArray, MaskPlan
from federation.secagg.masking import HEADER_INDEX, SIGNED, UNSIGNED, Buffer, Keystream
from federation.secagg.merkle import MerkleRoot
from federation.secagg.parameters import FIXED_WORDS, Encoding, Terms
from federation.secagg.suite import STANDARD

__all__ = [
    "Accumulator",
    "Buffer",
    "Header",
    "MerkleRoot",
    "Noise",
    "Sum",
    "clip",
    "encode",
    "encoding_of",
    "header_words",
    "noises_of",
    "open_sum",
    "read_sum",
    "root_of",
    "settled_dither",
]

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

    def add(self, levels: npt.NDArray[np.signedinteger], index: int) -> None: ...


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


def clip(difference: FloatArray, norm: float) -> float:
    """Clips to the L2 norm, in place; returns the squared norm after it. Raises TaskFailed on NaN or Inf."""
    step = 1 << 20
    squared = sum(
        float(np.einsum("i,i->", part, part))
        for part in (difference[start : start + step].astype(np.float64) for start in range(0, difference.size, step))
    )
    if not isfinite(squared):
        raise TaskFailed(
            "The update holds NaN or infinite values.",
            hint="Lower the learning rate, or look at the data.",
            phase="reply",
        )
    if squared <= norm * norm:
        return squared
    np.multiply(difference, np.float32(norm / squared**0.5), out=difference)
    return norm * norm


def settled_dither(
    difference: FloatArray, weight: int, plan: MaskPlan, encoding: Encoding, scales: npt.NDArray[np.int8]
) -> MaskPlan:
    """The plan with a dither under which the rounded vector is within its sensitivity: conditional rounding, in a pass of
    its own, so that memory stays one chunk. The plan itself without noise."""
    if not encoding.noised or not difference.size:
        return plan
    size, bound = encoding.chunk_parameters, encoding.sensitivity(difference.size) ** 2
    for again in range(TRIES):
        tried = replace(plan, dither=_local(plan, f"dither {again}"))
        quantiser = _Quantiser(encoding, weight, tried.dither, tried.cipher)
        chunks = (
            quantiser.levels_of(difference[index * size : (index + 1) * size], index, int(scales[index]))
            for index in range(encoding.chunks(difference.size))
        )
        if squared_norm(chunks) <= bound:
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


class _Quantiser:
    """Buffers of one chunk, reused."""

    def __init__(self, encoding: Encoding, weight: int, dither: bytes, cipher: str) -> None:
        size = encoding.chunk_parameters
        self._encoding = encoding
        self._weight = weight
        self._dither = dither
        wide = encoding.ring_bits == 32
        self._values = np.empty(size, dtype=np.float64 if wide else np.float32)
        self._fixed = np.empty(size, dtype=np.int64 if wide else np.int32)
        self.levels = np.empty(size, dtype=SIGNED[encoding.ring_bits])
        self.keystream = Keystream(size * 4, cipher)
        self.saturated = 0

    def levels_of(self, chunk: FloatArray, index: int, exponent: int) -> npt.NDArray[np.signedinteger]:
        """Levels of one chunk: a view that the next call overwrites."""
        count, bound = chunk.size, self._encoding.level_bound
        values, fixed, levels = self._values[:count], self._fixed[:count], self.levels[:count]
        factor = self._weight / self._encoding.weight_unit * 2.0**-exponent
        np.multiply(chunk, values.dtype.type(factor), out=values)
        high, low = float(values.max()), float(values.min())
        if not isfinite(high - low) and not (isfinite(high) and isfinite(low)):
            raise TaskFailed(
                "The update holds NaN or infinite values.",
                hint="Lower the learning rate, or look at the data.",
                phase="reply",
            )
        if high > bound or low < -bound:
            self.saturated += int(np.count_nonzero(np.abs(values) > bound))
            np.clip(values, -bound, bound, out=values)
        if self._encoding.ring_bits == 32:
            dither = self.keystream.fill(self._dither, index, count * 4).view("<u4")
            shift = 32
        else:
            dither = self.keystream.fill(self._dither, index, count * 2).view("<u2")
            shift = 16
        np.multiply(values, values.dtype.type(2**shift), out=values)
        np.copyto(fixed, values, casting="unsafe")
        np.add(fixed, dither, out=fixed, casting="unsafe")
        np.right_shift(fixed, shift, out=fixed)
        np.copyto(levels, fixed, casting="unsafe")
        return levels


def encode(
    difference: FloatArray | None,
    header: Header,
    plan: MaskPlan,
    encoding: Encoding,
    scales: npt.NDArray[np.int8],
    noise: Noise | None = None,
    figure_noise: Noise | None = None,
) -> Iterator[bytes]:
    """One masked chunk each, header LAST. ``difference`` None or empty: header only. ``noise`` goes onto the levels before
    anything else does; where the job has privacy, nothing is encoded without it. Raises TaskFailed on NaN or Inf."""
    if encoding.noised and noise is None and difference is not None:
        raise TaskFailed("The update has no noise.", hint="Report it: nothing was sent.", phase="reply")
    saturated, size = 0, encoding.chunk_parameters
    held = 0 if difference is None else difference.size
    mac = sum_mac.SumMac(plan.tag.key, min(size, held)) if plan.tag is not None else None
    if difference is not None and difference.size:
        quantiser = _Quantiser(encoding, header.weight, plan.dither, plan.cipher)
        for index in range(encoding.chunks(difference.size)):
            exponent = int(scales[index])
            if not encoding.min_scale_exponent <= exponent <= encoding.max_scale_exponent:
                raise ProtocolViolation(
                    f"The scale of chunk {index} is outside the manifest's bounds.", check="scale-bounds"
                )
            levels = quantiser.levels_of(difference[index * size : (index + 1) * size], index, exponent)
            if noise is not None:
                noise.add(levels, index)
            if mac is not None:
                mac.add_chunk(index, levels)
            quantiser.keystream.apply(levels.view(UNSIGNED[encoding.ring_bits]), plan, index)
            yield levels.tobytes()
        saturated = quantiser.saturated
    plain = header.words(encoding, saturated, figure_noise)
    tags = [0] * sum_mac.WORDS
    if mac is not None and plan.tag is not None:
        mac.add_header(plain.tolist())
        tags = sum_mac.words_of(mac.tag, sum_mac.pad_of(plan.tag.pads[0]))
    words = np.concatenate([plain, np.array(tags, dtype="<i8")]).view("<u8")
    Keystream(words.nbytes, plan.cipher).apply(words, plan, HEADER_INDEX)
    yield words.tobytes()


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

    def chunks(self) -> Iterator[npt.NDArray[np.signedinteger]]:
        """Signed level sums, chunk by chunk: views that the next overwrites."""
        yield from _open_chunks(self.source, self.plan, self.encoding)

    def mean(self, scales: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
        """The weighted mean difference, float64[parameters]: S * 2^exponent * unit (exact) / sum of weights (one IEEE
        division)."""
        mean = np.empty(self.parameters, dtype=np.float64)
        for index, chunk in enumerate(self.chunks()):
            start = index * self.encoding.chunk_parameters
            part = mean[start : start + chunk.size]
            np.multiply(chunk, 2.0 ** int(scales[index]) * self.encoding.weight_unit, out=part)
            np.divide(part, float(self.header[0]), out=part)
        return mean


def _open_chunks(
    source: npt.NDArray[np.unsignedinteger], plan: MaskPlan, encoding: Encoding
) -> Iterator[npt.NDArray[np.signedinteger]]:
    """Without the masks of ``plan``. Memory: one chunk."""
    size, signed = encoding.chunk_parameters, SIGNED[encoding.ring_bits]
    if not plan.masks:
        for start in range(0, source.size, size):
            yield source[start : start + size].view(signed)
        return
    longest = min(size, source.size)
    keystream = Keystream(longest * source.itemsize, plan.cipher)
    buffer = np.empty(longest, dtype=source.dtype)
    for index in range(encoding.chunks(source.size)):
        chunk = source[index * size : (index + 1) * size]
        held = buffer[: chunk.size]
        np.copyto(held, chunk)
        keystream.apply(held, plan, index)
        yield held.view(signed)


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
) -> Sum:
    """A member's reading: takes off what only members can, checks size, ranges, weights and the sum MAC; raises
    ProtocolViolation. ``parameters``: how many the layout has (0 when header-only). Memory: one chunk."""
    words = header_words(terms)
    body = memoryview(data).nbytes - WORD_BYTES * words
    width = encoding.ring_bits // 8
    if body < 0 or body % width or (parameters is not None and body != parameters * width):
        raise _bad("sum-size", "The sum has the wrong size")
    tail = np.frombuffer(data, dtype="<u8", offset=body).copy()
    Keystream(tail.nbytes, plan.cipher).apply(tail, plan, HEADER_INDEX)
    header = tuple(int(word) for word in tail.view("<i8"))
    source = np.frombuffer(data, dtype=np.uint8, count=body).view(UNSIGNED[encoding.ring_bits])
    if header[0] != total_weight or total_weight < 1:
        raise _bad("sum-weight", "The sum's weight is not that of its cohort")
    if not 0 <= header[1] <= cohort_size * ONE or not 0 <= header[2] <= cohort_size * source.size:
        raise _bad("sum-header", "The sum's norm or saturation count is out of range")
    known = words - sum_mac.WORDS
    largest, noisy = METRIC_BOUND, 0.0
    if encoding.privacy is not None and encoding.privacy.figures is not None:
        step = figure_step(encoding.privacy.figures.bound)
        largest = 2 * encoding.privacy.figures.bound
        noisy = step * (SIGMAS * sqrt(cohort_size * encoding.figure_variance(len(terms.metrics))) + cohort_size)
    for place in range(FIXED_WORDS, known, 2):
        value, share = header[place], header[place + 1]
        if (
            not 0 <= share <= total_weight * ONE // encoding.weight_unit
            or abs(value) > largest * share + cohort_size + noisy
        ):
            raise _bad("sum-header", "A metric of the sum is out of range")
    variance = encoding.noise_variance(source.size)
    bound = cohort_size * encoding.level_bound + int(SIGMAS * sqrt(cohort_size * variance))
    peaks = np.zeros(encoding.chunks(source.size), dtype=np.int64)
    tag = plan.tag
    mac = sum_mac.SumMac(tag.key, min(encoding.chunk_parameters, source.size)) if tag is not None else None
    for index, chunk in enumerate(_open_chunks(source, plan, encoding)):
        peaks[index] = max(int(chunk.max()), -int(chunk.min()))
        if peaks[index] > bound:
            raise _bad("sum-range", "The sum of the models is out of range")
        if mac is not None:
            mac.add_chunk(index, chunk)
    if mac is not None and tag is not None:
        mac.add_header(header[:known])
        if not sum_mac.agrees(mac.tag, header[known:], tag.pads):
            raise _bad("sum-mac", "The sum is not that of its cohort")
    return Sum(source.size, header, header[2], peaks, source, plan, encoding)


def _bad(check: str, text: str) -> ProtocolViolation:
    return ProtocolViolation(
        f"{text}: a member sent garbage, or the sum was altered.",
        check=check,
        hint="The round is void. Ask the operator who took part, and run the job again without the faulty member.",
    )
