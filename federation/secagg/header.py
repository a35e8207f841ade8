"""The header of an update: 8-byte words beside the chunks, added and masked as they are.

Weight, squared norm over clip^2 (2^-32), saturated count, then for each metric value * w/unit and w/unit (2^-32), then four of
the sum MAC. (docs/protocol/secure-aggregation.md, "Bytes".)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from federation.errors import TaskFailed
from federation.privacy.terms import FIGURE_LEVELS
from federation.secagg import sum_mac
from federation.secagg.masking import HEADER_INDEX
from federation.secagg.parameters import FIXED_WORDS, Encoding, Terms

WORD_BYTES: Final = 8
ONE: Final = 1 << 32
"""1.0 in the header's fixed point"""
METRIC_BOUND: Final = float(1 << 20)
"""a metric is held within +-2^20, so that 200 members' sum stays below 2^60"""


@dataclass(frozen=True, slots=True)
class Header:
    """What one member's header says. Build it with ``Header.of``; ``encoding.pieces_of`` adds the saturation count by itself."""

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
