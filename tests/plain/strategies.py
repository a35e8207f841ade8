"""Page: "Outer step": what each strategy makes of a number, its average, and what is kept of it.

Every operation is exact, and rounded once to the array's type; what is computed of scalars alone is rounded to float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

from tests.plain.floats import FORMATS, double, root

Round = Callable[[Fraction], Fraction]
Kept = dict[str, list[Fraction]]
"""by kind: of an array, and then of each number"""


def power(base: Fraction, exponent: int) -> Fraction:
    """float64, by squaring: for each bit of the exponent, from the lowest: multiplied by the base where it is set, then the base
    by itself."""
    result = Fraction(1)
    while exponent:
        if exponent % 2:
            result = double(result * base)
        base, exponent = double(base * base), exponent // 2
    return result


def rate(parameters: Mapping[str, Fraction], corrected: bool, round_: int) -> Fraction:
    eta = parameters["eta"]
    if not corrected:
        return eta
    first, second = power(parameters["beta1"], round_ + 1), power(parameters["beta2"], round_ + 1)
    return double(double(eta * root(double(1 - second), double)) / double(1 - first))


def sign(value: Fraction) -> int:
    return (value > 0) - (value < 0)


def stepped(
    strategy: str,
    parameters: Mapping[str, Fraction],
    corrected: bool,
    round_: int,
    type_: str,
    weights: Sequence[Fraction],
    mean: Sequence[Fraction],
    kept: Kept,
) -> tuple[list[Fraction], Kept]:
    """One array of a type (``<f2``, ``<f4``, ``<f8``), its part of the mean (float64), and what is kept of it (nothing: the first
    step)."""
    held = FORMATS[type_][0]
    scalars = {name: held(value) for name, value in parameters.items()}
    if strategy in ("FedAdam", "FedYogi", "FedAdagrad"):
        scalars |= {"rate": held(rate(parameters, corrected, round_)), "tau": held(parameters["tau"])}
        betas = {name: parameters.get(name, Fraction(0)) for name in ("beta1", "beta2")}
        scalars |= {name: held(beta) for name, beta in betas.items()}
        scalars |= {f"1-{name}": held(double(1 - beta)) for name, beta in betas.items()}
    found: list[Fraction] = []
    keeps: Kept = {}
    for place, (x, difference) in enumerate(zip(weights, mean, strict=True)):
        a = held(double(x + difference))
        before = {kind: values[place] for kind, values in kept.items()}
        after, numbers = _number(strategy, scalars, held, x, a, before)
        found.append(after)
        for kind, number in numbers.items():
            keeps.setdefault(kind, []).append(number)
    return found, keeps


def _number(
    strategy: str, of: Mapping[str, Fraction], held: Round, x: Fraction, a: Fraction, kept: Mapping[str, Fraction]
) -> tuple[Fraction, dict[str, Fraction]]:
    if strategy in ("FedAvg", "FedProx"):
        return a, {}
    if strategy == "FedAvgM":
        lr, mu = of["serverLearningRate"], of["serverMomentum"]
        if lr == 1 and mu == 0:
            return a, {}
        g = held(x - a)
        if mu > 0 and kept:
            g = held(held(mu * kept["momentum_vector"]) + g)
        return held(x - held(lr * g)), {"momentum_vector": g} if mu > 0 else {}
    m, v = kept.get("m_t", Fraction(0)), kept.get("v_t", Fraction(0))
    delta = held(a - x)
    square = held(delta * delta)
    m = held(held(of["beta1"] * m) + held(of["1-beta1"] * delta))
    if strategy == "FedAdam":
        v = held(held(of["beta2"] * v) + held(of["1-beta2"] * square))
    elif strategy == "FedYogi":
        v = held(v - held(of["1-beta2"] * square) * sign(held(v - square)))
    else:
        v = held(v + square)
    return held(x + held(held(of["rate"] * m) / held(root(v, held) + of["tau"]))), {"m_t": m, "v_t": v}
