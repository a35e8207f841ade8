"""What a strategy makes of the certified mean, number by number: those of Flower, in IEEE arithmetic that every member does alike.

The strategies are those of flwr 1.41 to 1.42 (``flwr.serverapp.strategy``; Reddi et al., Adaptive Federated Optimization, arXiv
2003.00295), each given the round's model and, as its one reply, the average. No number looks at another one, so a model is stepped
in pieces of any size. Each operation is rounded to the array's own type, in the order that is written here and on the page
(docs/protocol/secure-aggregation.md, "The next state"). Scalars are Python's; they are rounded to the array's type where they meet
an array, and none goes through a ``pow``, whose last bit depends on the machine. Tests hold this against Flower's own classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from federation.manifest.strategy import StrategySpec
from federation.weights.tensors import Array

MOMENTUM: Final = ("momentum_vector",)
MOMENTS: Final = ("m_t", "v_t")
ADAPTIVE: Final = frozenset({"FedAdam", "FedYogi", "FedAdagrad"})

Step = Callable[[Array, Array, Sequence[Array]], tuple[Array, ...]]
"""Of the round's numbers, their average, and what was kept of each kind (nothing yet: no kinds): the next numbers, and after
them what is kept of each kind. Arrays of one type and shape."""


def kept_by(spec: StrategySpec) -> tuple[str, ...]:
    """The kinds of arrays that the strategy keeps beside the model, in their order in a state."""
    if spec.name in ADAPTIVE:
        return MOMENTS
    return MOMENTUM if spec.name == "FedAvgM" and _number(spec, "serverMomentum") > 0 else ()


def step_of(spec: StrategySpec, round_number: int) -> Step:
    """The step that ends this round of a job with this strategy."""
    if spec.name == "FedAvgM":
        rate, momentum = _number(spec, "serverLearningRate"), _number(spec, "serverMomentum")
        return _average if (rate, momentum) == (1.0, 0.0) else _momentum(rate, momentum)
    return _adaptive(spec, round_number) if spec.name in ADAPTIVE else _average


def averaged(base: Array, mean: npt.NDArray[np.floating]) -> Array:
    """base + mean in float64, as the array's own type."""
    return np.asarray(np.add(base, mean, dtype=np.float64)).astype(base.dtype)


def _average(_base: Array, average: Array, _held: Sequence[Array]) -> tuple[Array, ...]:
    return (average,)


def _momentum(rate: float, momentum: float) -> Step:
    def step(base: Array, average: Array, held: Sequence[Array]) -> tuple[Array, ...]:
        change = base - average  # the other way round than a difference: Flower's pseudo-gradient
        if momentum == 0:
            return (base - rate * change,)
        if held:
            change = momentum * held[0] + change
        return base - rate * change, change

    return step


def _adaptive(spec: StrategySpec, round_number: int) -> Step:
    """FedAdagrad is the one without decay: beta1 is 0, and v only grows."""
    tau, rate = _number(spec, "tau"), _rate(spec, round_number)
    beta1, beta2 = (0.0, 0.0) if spec.name == "FedAdagrad" else (_number(spec, "beta1"), _number(spec, "beta2"))
    grown: dict[str, Callable[[Array, Array], Any]] = {
        "FedAdam": lambda v, square: beta2 * v + (1 - beta2) * square,
        "FedYogi": lambda v, square: v - (1 - beta2) * square * np.sign(v - square),
        "FedAdagrad": lambda v, square: v + square,
    }
    second = grown[spec.name]

    def step(base: Array, average: Array, held: Sequence[Array]) -> tuple[Array, ...]:
        m, v = held or (np.zeros_like(base), np.zeros_like(base))
        delta = average - base
        m = beta1 * m + (1 - beta1) * delta
        v = second(v, delta * delta)
        return base + rate * m / (np.sqrt(v) + tau), m, v

    return step


def _rate(spec: StrategySpec, round_number: int) -> float:
    """eta; FedAdam corrects it for the bias of its first rounds, with our own powers: Flower takes them from NumPy's."""
    eta = _number(spec, "eta")
    if not spec.parameters.get("biasCorrection", False):
        return eta
    first, second = (_power(_number(spec, name), round_number + 1) for name in ("beta1", "beta2"))
    return eta * math.sqrt(1 - second) / (1 - first)


def _power(base: float, exponent: int) -> float:
    """Repeated squaring: the same bits with every C library, unlike pow()."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


def _number(spec: StrategySpec, name: str) -> float:
    return float(spec.parameters[name])
