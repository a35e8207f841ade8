"""Updates, sums and states that a test wants whole in memory: made by the product's own code, piece by piece, and put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import ParamSpec

import numpy as np
import numpy.typing as npt

from federation.manifest.strategy import StrategySpec
from federation.secagg import summing
from federation.secagg.encoding import Piece, pieces_of
from federation.secagg.events import MaskPlan
from federation.secagg.masking import Buffer
from federation.secagg.opening import Sum, open_sum
from federation.secagg.parameters import Encoding, Terms
from federation.secagg.summing import InMemory, sum_of
from federation.weights.outer_step import next_form, next_parts
from federation.weights.state import ModelState
from federation.weights.strategies import kept_by

P = ParamSpec("P")


def _copied(made: Callable[P, Iterable[Piece]]) -> Callable[P, Iterator[bytes]]:
    def copies(*arguments: P.args, **named: P.kwargs) -> Iterator[bytes]:
        for piece in made(*arguments, **named):
            yield piece.data.tobytes()

    return copies


encode = _copied(pieces_of)
"""One masked chunk each, header last, as bytes that stay."""


def added(updates: Iterable[bytes], terms: Terms, encoding: Encoding, plan: MaskPlan | None = None) -> bytes:
    """The sum of the updates without the masks of ``plan``, as the coordinator makes it where it sees nothing."""
    stored = [InMemory(update) for update in updates]
    pieces = sum_of(stored, plan or MaskPlan(b"", ()), terms, encoding)
    return b"".join(piece.tobytes() for piece in pieces)


def root_of(update: bytes, terms: Terms, encoding: Encoding) -> bytes:
    """The Merkle root of a complete update."""
    return summing.root_of(InMemory(update), terms, encoding)


def read_sum(
    data: Buffer, terms: Terms, encoding: Encoding, cohort_size: int, total_weight: int, parameters: int | None = None
) -> Sum:
    """A sum without masks, by who has no key of the MAC: all other checks of ``open_sum``."""
    return open_sum(data, MaskPlan(b"", ()), terms, encoding, cohort_size, total_weight, parameters)


def mean_of(total: Sum, scales: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
    """float64[parameters]"""
    return np.concatenate([np.empty(0), *(part.copy() for part in total.means(scales))])


def outer_step(
    spec: StrategySpec, state: ModelState, mean: npt.NDArray[np.float64], scales: npt.NDArray[np.int8]
) -> ModelState:
    """The next state."""
    form, kinds = next_form(spec, state, scales), kept_by(spec)
    parts = dict(next_parts(spec, state, [mean]))  # one part an array
    arrays = {name: parts[name][0].reshape(array.shape) for name, array in form.arrays.items()}
    optimiser = {
        f"{kind}/{name}": part[place].reshape(form.arrays[name].shape)
        for place, kind in enumerate(kinds, start=1)
        for name, part in parts.items()
        if len(part) > 1
    }
    return ModelState(form.round, arrays, optimiser, scales)
