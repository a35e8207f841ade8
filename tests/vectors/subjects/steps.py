"""strategies: the outer step of each strategy over three rounds, with what it keeps."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Any

from tests.plain import floats
from tests.plain.ciphers import drawn
from tests.plain.strategies import Kept, stepped
from tests.plain.sums import Numbers, digest_of

Document = dict[str, Any]
ROUNDS = 3
KINDS = {
    "FedAvgM": ("momentum_vector",),
    "FedAdam": ("m_t", "v_t"),
    "FedYogi": ("m_t", "v_t"),
    "FedAdagrad": ("m_t", "v_t"),
}
SHAPES: dict[str, tuple[str, tuple[int, ...]]] = {
    "z.weight": ("<f4", (2, 3)),
    "steps": ("<i8", (2,)),
    "half": ("<f2", (5,)),
    "wide": ("<f8", (2, 2)),
    "scale": ("<f4", ()),
}
CASES: list[tuple[str, str, dict[str, float], bool]] = [
    ("FedAvg", "", {}, False),
    ("FedProx", "The parameter is the task's: the step is that of FedAvg.", {"proximalMu": 0.1}, False),
    ("FedAvgM, neither rate nor momentum", "The step of FedAvg.", {"serverLearningRate": 1.0, "serverMomentum": 0.0}, False),
    ("FedAvgM, a rate", "Nothing is kept.", {"serverLearningRate": 0.7, "serverMomentum": 0.0}, False),
    ("FedAvgM, momentum", "", {"serverLearningRate": 1.0, "serverMomentum": 0.9}, False),
    ("FedAvgM, both", "", {"serverLearningRate": 0.7, "serverMomentum": 0.9}, False),
    ("FedAdam", "The rate is corrected for bias.", {"eta": 0.1, "etaL": 0.1, "beta1": 0.9, "beta2": 0.99, "tau": 1e-3}, True),
    ("FedAdam, not corrected", "", {"eta": 0.1, "etaL": 0.1, "beta1": 0.9, "beta2": 0.99, "tau": 1e-3}, False),
    ("FedYogi", "", {"eta": 0.01, "etaL": 0.0316, "beta1": 0.9, "beta2": 0.99, "tau": 1e-3}, False),
    ("FedAdagrad", "", {"eta": 0.1, "etaL": 0.1, "tau": 1e-3}, False),
]  # fmt: skip


def _count(sides: tuple[int, ...]) -> int:
    found = 1
    for side in sides:
        found *= side
    return found


def _drawn(label: str, count: int) -> list[Fraction]:
    """Within +-1, in steps of 2^-31."""
    data = drawn(label, 4 * count)
    return [Fraction(int.from_bytes(data[at : at + 4], "big") - 2**31, 2**31) for at in range(0, len(data), 4)]


def _means(name: str) -> list[list[Fraction]]:
    """Of all floating numbers, for each round: small ones, zeros, and one by which float16 moves in no round."""
    count = sum(_count(sides) for type_, sides in SHAPES.values() if type_ != "<i8")
    found = []
    for round_ in range(1, ROUNDS + 1):
        values = [floats.double(value / 50) for value in _drawn(f"mean/{name}/{round_}", count)]
        values[round_], values[7] = Fraction(0), Fraction(1, 2**30)
        found.append(values)
    return found


def _first() -> dict[str, list[Fraction]]:
    return {
        name: [floats.FORMATS[type_][0](value) for value in _drawn(f"model/{name}", _count(sides))]
        for name, (type_, sides) in SHAPES.items()
        if type_ != "<i8"
    }


def _case(name: str, comment: str, parameters: dict[str, float], corrected: bool) -> Document:
    strategy = name.split(",")[0]
    whole = struct.pack("<2q", 7, -7)
    exact = {key: Fraction(value) for key, value in parameters.items()}
    held, kept = _first(), {each: Kept() for each in _first()}
    scales, rounds = [-9, -10], []

    def state(round_: int) -> Document:
        model = {
            each: Numbers(type_, sides, whole if type_ == "<i8" else floats.bytes_of(held[each], type_))
            for each, (type_, sides) in SHAPES.items()
        }
        beside = {
            f"{kind}/{each}": Numbers(*SHAPES[each], floats.bytes_of(kept[each][kind], SHAPES[each][0]))
            for kind in KINDS.get(strategy, ())
            for each in held
            if kind in kept[each]
        }
        return {
            "round": round_,
            "arrays": [{"name": each, "data": array.data} for each, array in model.items()],
            "optimiser": [{"name": each, "data": array.data} for each, array in beside.items()],
            "scales": list(scales),
            "digest": digest_of(round_, model, beside, scales),
        }

    before = state(1)
    for round_, mean in enumerate(_means(name), start=1):
        at = 0
        for each, values in held.items():
            part, at = mean[at : at + len(values)], at + len(values)
            held[each], kept[each] = stepped(
                strategy, exact, corrected, round_, SHAPES[each][0], values, part, kept[each]
            )
        scales = [scales[0] - 1, scales[1] + 1]
        rounds.append({"mean": floats.bytes_of_doubles(mean), "next": state(round_ + 1)})
    said: Document = dict(parameters)
    if strategy == "FedAdam":
        said["biasCorrection"] = corrected
    return {
        "name": name,
        "comment": comment,
        "strategy": strategy,
        "parameters": said,
        "form": [{"name": each, "type": type_, "shape": list(sides)} for each, (type_, sides) in SHAPES.items()],
        "state": before,
        "rounds": rounds,
    }


def strategy_document() -> Document:
    return {
        "section": "The next state",
        "comment": "form: the arrays of the model, in order; their bytes, and those of what the optimiser keeps, little-endian. "
        "mean: float64, of all floating numbers in order. Parameters are those of the manifest. The scales are given, and "
        "move here for the digest's sake.",
        "cases": [_case(*case) for case in CASES],
        "invalid": [],
    }
