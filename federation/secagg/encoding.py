"""skeleton: see final signatures below"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from mmap import mmap

import numpy as np
import numpy.typing as npt

from federation.secagg.events import FloatArray, MaskPlan
from federation.secagg.parameters import Encoding, Terms

Buffer = bytes | bytearray | memoryview | mmap


@dataclass(frozen=True, slots=True)
class Header:
    """What one member's header says. Build it with ``Header.of``; ``encode`` adds the saturation count by itself."""

    weight: int
    squared_norm: float
    metrics: Mapping[str, float | None]
    """every declared name; None: this member has no such figure"""

    @staticmethod
    def of(terms: Terms, weight: int, squared_norm: float, metrics: Mapping[str, float]) -> Header:
        """Keeps the declared metrics only. Raises TaskFailed when a declared metric is NaN or infinite."""
        raise NotImplementedError


def header_words(terms: Terms) -> int:
    """How many 8-byte words the header has: weight, squared norm, saturated, and two for each metric."""
    raise NotImplementedError


def encoding_of(terms: Terms, members: int, weight_unit: int) -> Encoding:
    raise NotImplementedError


def update_size(terms: Terms, encoding: Encoding, parameters: int) -> int:
    """Bytes of an update, and of a sum, of ``parameters`` (0: header-only)."""
    raise NotImplementedError


def clip(difference: FloatArray, norm: float) -> float:
    """Clips to the L2 norm, in place; returns the squared norm after clipping (for ``Header.of``). Raises TaskFailed on NaN or Inf."""
    raise NotImplementedError


def encode(
    difference: FloatArray | None, header: Header, plan: MaskPlan, encoding: Encoding, scales: npt.NDArray[np.int8]
) -> Iterator[bytes]:
    """One masked chunk each, header LAST. ``difference`` None or empty: header only."""
    raise NotImplementedError


class MerkleRoot:
    """``add`` each piece that ``encode`` yields, header included, then ``root``."""

    def add(self, chunk: bytes) -> None:
        raise NotImplementedError

    def root(self) -> bytes:
        raise NotImplementedError


def root_of(update: Buffer, terms: Terms, encoding: Encoding) -> bytes:
    """The Merkle root of a complete update: the collector's driver compares it with Upload.root before it counts the upload."""
    raise NotImplementedError


class Accumulator:
    """The collector's arithmetic: add each update of the cohort, then ``unmask``; ``data`` is the sum. Memory: one update."""

    def __init__(self, terms: Terms, encoding: Encoding, parameters: int) -> None:
        raise NotImplementedError

    def add(self, update: Buffer) -> None:
        """Raises ProtocolViolation when the size is wrong."""

    def unmask(self, plan: MaskPlan) -> None: ...

    @property
    def data(self) -> memoryview:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Sum:
    """A sum that passed its checks."""

    parameters: int
    header: tuple[int, ...]
    """words as signed integers"""
    saturated: int
    peaks: npt.NDArray[np.int64]
    """largest |S_k| of each chunk: for ``weights.next_scales``"""

    def chunks(self) -> Iterator[npt.NDArray[np.signedinteger]]:
        """Signed level sums, chunk by chunk: views of the data."""
        raise NotImplementedError

    def mean(self, scales: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
        """The weighted mean difference, float64[parameters]."""
        raise NotImplementedError


def read_sum(
    data: Buffer, terms: Terms, encoding: Encoding, cohort_size: int, total_weight: int, parameters: int | None = None
) -> Sum:
    """Checks size, ranges and weights; raises ProtocolViolation. ``parameters``: how many the layout has (0 when header-only)."""
    raise NotImplementedError


def mean_metrics(header: tuple[int, ...], terms: Terms) -> dict[str, float]:
    """Weighted means of the metrics that at least one member had."""
    raise NotImplementedError
