"""A clipped difference as masked levels of a ring: what a member computes, chunk by chunk.

x_i = difference * w_i / weight_unit; a chunk's level stands for 2^exponent (public); levels are rounded stochastically
with a dither from AES-CTR (resolution 2^-16 of a level for rings of 8 and 16 bits) and saturate at +-L, n*L <= 2^(B-1)
- 1, so that no sum can wrap. (docs/protocol/secure-aggregation.md, "Bytes".)
"""

from __future__ import annotations

from collections.abc import Generator
from copy import copy
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from federation.errors import ProtocolViolation, TaskFailed
from federation.privacy.noise import Noise as DrawnNoise
from federation.privacy.sensitivity import TRIES, squared_norm
from federation.secagg import sum_mac
from federation.secagg.events import FloatArray, MaskPlan
from federation.secagg.header import WORD_BYTES, Header, Noise, header_words
from federation.secagg.lanes import STRETCH, in_order, stations_for
from federation.secagg.levels import Quantiser, Source, quiet, source_of
from federation.secagg.masking import HEADER_INDEX, SIGNED, UNSIGNED, Keystream
from federation.secagg.merkle import leaf_hash
from federation.secagg.parameters import Encoding, Terms
from federation.secagg.suite import STANDARD


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
    """The masked chunks, one after another, and the header LAST, each with its leaf of the Merkle tree; the same bytes for any
    number of lanes. ``difference`` None or empty: header only. ``noise`` goes onto the levels before anything else does;
    where the job has privacy, nothing is encoded without it. Raises TaskFailed on NaN or Inf.

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
