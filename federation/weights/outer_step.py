"""The outer step: a Flower Strategy, given one virtual reply that holds the certified mean. Every member computes it to the bit.

Elementwise IEEE operations only. Results are cast back to each entry's type (NumPy 2 promotes FedAdam to float64); scalars such as
beta ** r are Python's, never NumPy's power, whose last bit depends on the vector unit. ``fraction_train=0.0`` lets
``configure_train`` take the model without a Grid. Flower is imported here alone, where it is used.
(Reddi et al., Adaptive Federated Optimization, arXiv 2003.00295.)
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from federation.errors import VerificationFailed
from federation.manifest.strategy import StrategySpec
from federation.secagg.parameters import FIRST_ROUND, Terms
from federation.weights.layout import Layout, is_floating
from federation.weights.state import ModelState
from federation.weights.tensors import Array

WEIGHT_KEY: Final = "num-examples"
STATE_NAMES: Final = ("momentum_vector", "m_t", "v_t")
PARAMETER_NAMES: Final = {
    "serverLearningRate": "server_learning_rate",
    "serverMomentum": "server_momentum",
    "eta": "eta",
    "etaL": "eta_l",
    "beta1": "beta_1",
    "beta2": "beta_2",
    "tau": "tau",
    "proximalMu": "proximal_mu",
}


def initial_state(arrays: Mapping[str, Array], terms: Terms) -> ModelState:
    """state_1 from the first model."""
    chunks = -(-Layout.of(arrays).size // terms.chunk_parameters)
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


def skipped(state: ModelState) -> ModelState:
    """The state after a round without training."""
    return ModelState(state.round + 1, state.arrays, state.optimiser, state.scales)


def outer_step(
    spec: StrategySpec, state: ModelState, mean: npt.NDArray[np.float64], scales: npt.NDArray[np.int8]
) -> ModelState:
    """state_{r+1} from state_r and the certified mean difference (float64[parameters]); ``scales`` for the next round."""
    arrays = {name: array for name, array in state.arrays.items() if is_floating(array)}
    averaged: dict[str, Array] = {}
    for entry, part in Layout.of(state.arrays).split(mean):
        averaged[entry.name] = _moved(arrays[entry.name], part)
    optimiser: dict[str, Array] = {}
    if not averages(spec):
        averaged, optimiser = _flower_step(spec, state, arrays, averaged)
    stepped = {name: averaged.get(name, array) for name, array in state.arrays.items()}
    return ModelState(state.round + 1, stepped, optimiser, scales)


def averages(spec: StrategySpec) -> bool:
    """Whether the step ends with the average (one reply's weighted average is itself), so that ``moved_parts`` is all of it."""
    return spec.name in {"FedAvg", "FedProx"}


def moved_parts(state: ModelState, means: Iterable[npt.NDArray[np.float64]]) -> Iterator[tuple[str, Array]]:
    """The arrays of the next state in order, each in parts, flat: of those that are not summed, what they were.

    ``means``: the certified mean difference in pieces of any size; each may be overwritten when the next is asked for.
    To the bit as ``outer_step``. Memory: one piece.
    """
    pieces, piece = iter(means), np.empty(0, dtype=np.float64)
    for name, array in state.arrays.items():
        flat = np.asarray(array).reshape(-1)
        if not is_floating(array):
            yield name, flat
            continue
        if not flat.size:
            yield name, flat
        at = 0
        while at < flat.size:
            if not piece.size:
                piece = next(pieces)
            count = min(piece.size, flat.size - at)
            yield name, _moved(flat[at : at + count], piece[:count])
            piece, at = piece[count:], at + count


def _moved(base: Array, mean: npt.NDArray[np.floating]) -> Array:
    return np.asarray(np.add(base, mean, dtype=np.float64)).astype(base.dtype)


def _flower_step(
    spec: StrategySpec, state: ModelState, current: Mapping[str, Array], averaged: Mapping[str, Array]
) -> tuple[dict[str, Array], dict[str, Array]]:
    if spec.name == "FedAdam":
        return _adam(spec, state, current, averaged)
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    from flwr.app import ArrayRecord, ConfigRecord, Message, Metadata, MetricRecord, RecordDict

    flower_log = logging.getLogger("flwr")
    level = flower_log.level
    flower_log.setLevel(logging.ERROR)
    try:
        strategy = strategy_of(spec)
        _restore(strategy, state.optimiser, current)
        strategy.configure_train(state.round, _record(current), ConfigRecord(), None)
        content = RecordDict({"arrays": _record(averaged), "metrics": MetricRecord({WEIGHT_KEY: 1})})
        metadata = Metadata(
            run_id=1, message_id="1", src_node_id=1, dst_node_id=1, reply_to_message_id="", group_id="",
            created_at=0.0, ttl=1.0, message_type="train",
        )  # fmt: skip
        reply = Message(metadata=metadata, content=content)  # type: ignore[call-overload]
        result, _metrics = strategy.aggregate_train(state.round, [reply])
    finally:
        flower_log.setLevel(level)
    if not isinstance(result, ArrayRecord):
        raise VerificationFailed(f"Flower's {spec.name} gave no model.")
    stepped = {name: result[name].numpy().astype(array.dtype).reshape(array.shape) for name, array in current.items()}
    return stepped, _saved(strategy, current)


def strategy_of(spec: StrategySpec) -> Any:
    """Flower's Strategy with the job's parameters."""
    from flwr.serverapp import strategy as strategies

    kind = getattr(strategies, spec.name)
    parameters = {PARAMETER_NAMES[name]: value for name, value in spec.parameters.items() if name in PARAMETER_NAMES}
    return kind(fraction_train=0.0, fraction_evaluate=0.0, weighted_by_key=WEIGHT_KEY, **parameters)


def _record(arrays: Mapping[str, Array]) -> Any:
    from flwr.app import Array as FlowerArray
    from flwr.app import ArrayRecord

    return ArrayRecord({name: FlowerArray(np.asarray(array, order="C")) for name, array in arrays.items()})


def _restore(strategy: Any, optimiser: Mapping[str, Array], current: Mapping[str, Array]) -> None:
    for kind in STATE_NAMES:
        held = {name: optimiser[f"{kind}/{name}"] for name in current if f"{kind}/{name}" in optimiser}
        if held:
            setattr(strategy, kind, list(held.values()) if kind == "momentum_vector" else held)


def _saved(strategy: Any, current: Mapping[str, Array]) -> dict[str, Array]:
    """The optimiser's arrays, cast to their entry's type."""
    saved: dict[str, Array] = {}
    for kind in STATE_NAMES:
        held = getattr(strategy, kind, None)
        if held is None:
            continue
        values = dict(zip(current, held, strict=True)) if isinstance(held, list) else held
        saved |= {
            f"{kind}/{name}": np.asarray(values[name]).astype(current[name].dtype).reshape(current[name].shape)
            for name in current
        }
    return saved


def _adam(
    spec: StrategySpec, state: ModelState, current: Mapping[str, Array], averaged: Mapping[str, Array]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """FedAdam with our own bias-correction factor: Flower takes it from NumPy's power. A test holds it against Flower's."""
    eta, tau = float(spec.parameters["eta"]), float(spec.parameters["tau"])
    beta1, beta2 = float(spec.parameters["beta1"]), float(spec.parameters["beta2"])
    factor = eta
    if spec.parameters["biasCorrection"]:
        factor = eta * math.sqrt(1 - _power(beta2, state.round + 1)) / (1 - _power(beta1, state.round + 1))
    stepped: dict[str, Array] = {}
    optimiser_m: dict[str, Array] = {}
    optimiser_v: dict[str, Array] = {}
    for name, base in current.items():
        delta = averaged[name] - base
        m = beta1 * state.optimiser.get(f"m_t/{name}", np.zeros_like(base)) + (1 - beta1) * delta
        v = beta2 * state.optimiser.get(f"v_t/{name}", np.zeros_like(base)) + (1 - beta2) * (delta * delta)
        stepped[name] = np.asarray(base + factor * m / (np.sqrt(v) + tau)).astype(base.dtype)
        optimiser_m[f"m_t/{name}"] = np.asarray(m).astype(base.dtype)
        optimiser_v[f"v_t/{name}"] = np.asarray(v).astype(base.dtype)
    return stepped, optimiser_m | optimiser_v


def _power(base: float, exponent: int) -> float:
    """Repeated multiplication: the same bits with every C library, unlike pow()."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result
