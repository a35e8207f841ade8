"""The outer step: from a state and the certified mean difference to the next state, piece by piece, to the bit at every member.

What is done to a number is the strategy's (``weights.strategies``). Here: in which pieces, and how the scales of the chunks move.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from federation.manifest.strategy import StrategySpec
from federation.secagg.parameters import FIRST_ROUND, Terms
from federation.weights.layout import Layout, is_floating
from federation.weights.state import ModelState
from federation.weights.strategies import averaged, kept_by, step_of
from federation.weights.tensors import Array


def initial_state(arrays: Mapping[str, Array], terms: Terms) -> ModelState:
    """state_1 from the first model. Raises TaskFailed when too much of it is not summed."""
    layout = Layout.of(arrays)
    layout.check_rest(arrays)
    chunks = -(-layout.size // terms.chunk_parameters)
    scales = np.full(chunks, terms.initial_scale_exponent, dtype=np.int8)
    return ModelState(FIRST_ROUND, dict(arrays), {}, scales)


def message_config(spec: StrategySpec, round_number: int) -> dict[str, int | float]:
    """What Flower's strategy puts into the training message's config."""
    config: dict[str, int | float] = {"server-round": round_number}
    if spec.name == "FedProx":
        config["proximal-mu"] = float(spec.parameters["proximalMu"])
    return config


def next_scales(
    scales: npt.NDArray[np.int8],
    peaks: npt.NDArray[np.int64],
    cohort: int,
    level_bound: int,
    saturated: int,
    terms: Terms,
) -> npt.NDArray[np.int8]:
    """Exponents for the next round, each moved by at most one within the manifest's bounds; an all-zero chunk keeps its own.

    Up when the sum comes near its bound, or when members saturated; down when it is far below and nobody saturated.
    """
    bound = cohort * level_bound
    up = (peaks * 2 > bound) | ((peaks * 4 > bound) & (saturated > 0))
    down = (peaks * 16 < bound) & (saturated == 0) & (peaks > 0)
    moved = scales.astype(np.int16) + up.astype(np.int16) - down.astype(np.int16)
    return np.clip(moved, terms.min_scale_exponent, terms.max_scale_exponent).astype(np.int8)


def next_form(spec: StrategySpec, state: ModelState, scales: npt.NDArray[np.int8]) -> ModelState:
    """A state of the next one's round, names, types, shapes and scales; its numbers are still those of ``state``."""
    summed = {name: array for name, array in state.arrays.items() if is_floating(array)}
    optimiser = {f"{kind}/{name}": array for kind in kept_by(spec) for name, array in summed.items()}
    return ModelState(state.round + 1, state.arrays, optimiser, scales)


def next_parts(
    spec: StrategySpec, state: ModelState, means: Iterable[npt.NDArray[np.float64]]
) -> Iterator[tuple[str, tuple[Array, ...]]]:
    """The arrays of the next state in the model's order, each in parts, flat: of the model, and of each kind that the strategy
    keeps. Of an array that is not summed: the model's alone, what it was.

    ``means``: the certified mean difference in pieces of any size; each may be overwritten when the next is asked for.
    Memory: a few pieces.
    """
    step, kinds = step_of(spec, state.round), kept_by(spec)
    pieces, piece = iter(means), np.empty(0, dtype=np.float64)
    for name, array in state.arrays.items():
        flat = np.asarray(array).reshape(-1)
        if not is_floating(array):
            yield name, (flat,)
            continue
        if not flat.size:
            yield name, (flat, *(flat for _ in kinds))
        kept = [
            np.asarray(state.optimiser[f"{kind}/{name}"]).reshape(-1)
            for kind in kinds
            if f"{kind}/{name}" in state.optimiser
        ]
        at = 0
        while at < flat.size:
            if not piece.size:
                piece = next(pieces)
            count = min(piece.size, flat.size - at)
            base = flat[at : at + count]
            yield name, step(base, averaged(base, piece[:count]), [held[at : at + count] for held in kept])
            piece, at = piece[count:], at + count
