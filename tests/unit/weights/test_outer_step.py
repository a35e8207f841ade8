"""The outer step is Flower's strategy to the bit, in pieces of any size, and the same bits on every processor."""

import math
import os
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, Metadata, MetricRecord, RecordDict
from flwr.serverapp import strategy as strategies

from federation.manifest.strategy import DEFAULTS, StrategySpec
from federation.secagg.parameters import Terms
from federation.weights.layout import Layout
from federation.weights.outer_step import initial_state, message_config, next_scales
from federation.weights.state import ModelState, read_state
from federation.weights.strategies import kept_by
from node_agent.rounds.files import JobFiles
from tests.plain.strategies import power
from tests.whole import outer_step

ROOT = Path(__file__).resolve().parents[3]
ROUNDS = 3
SPECS = [
    StrategySpec(name, {**DEFAULTS[name], **parameters})
    for name, parameters in [
        ("FedAvg", {}),
        ("FedProx", {"proximalMu": 0.1}),
        ("FedAvgM", {}),
        ("FedAvgM", {"serverLearningRate": 0.7}),
        ("FedAvgM", {"serverMomentum": 0.9}),
        ("FedAvgM", {"serverLearningRate": 0.7, "serverMomentum": 0.9}),
        ("FedAdam", {}),
        ("FedAdam", {"beta1": 0.0, "biasCorrection": False}),
        ("FedYogi", {}),
        ("FedAdagrad", {}),
    ]
]
CORRECTED = next(spec for spec in SPECS if spec.parameters.get("biasCorrection"))
PARAMETERS = {
    "serverLearningRate": "server_learning_rate", "serverMomentum": "server_momentum", "eta": "eta", "etaL": "eta_l",
    "beta1": "beta_1", "beta2": "beta_2", "tau": "tau", "proximalMu": "proximal_mu",
}  # fmt: skip


def label(spec: StrategySpec) -> str:
    own = {name: value for name, value in spec.parameters.items() if DEFAULTS[spec.name][name] != value}
    return " ".join([spec.name, *(f"{name}={value}" for name, value in own.items())])


def strategy_of(spec: StrategySpec) -> Any:
    """Flower's own, with the job's parameters. ``fraction_train=0.0`` lets it take the model without a Grid."""
    parameters = {PARAMETERS[name]: value for name, value in spec.parameters.items() if name in PARAMETERS}
    kind = getattr(strategies, spec.name)
    return kind(fraction_train=0.0, fraction_evaluate=0.0, weighted_by_key="num-examples", **parameters)


def model(seed: int = 0) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    return {
        "z.weight": generator.normal(size=(4, 3)).astype(np.float32),
        "bias": generator.normal(size=5).astype(np.float32),
        "steps": np.array([7], dtype=np.int64),
        "half": generator.normal(size=6).astype(np.float16),
        "scale": np.array(0.5, dtype=np.float32),
    }


def state_of(arrays: dict[str, Any]) -> ModelState:
    return ModelState(1, arrays, {}, np.zeros(1, dtype=np.int8))


def means(arrays: dict[str, Any]) -> list[Any]:
    generator = np.random.default_rng(1)
    return [generator.normal(size=Layout.of(arrays).size) * 0.01 for _ in range(ROUNDS)]


def reply(arrays: dict[str, Any]) -> Message:
    content = RecordDict(
        {
            "arrays": ArrayRecord({name: Array(array) for name, array in arrays.items()}),
            "metrics": MetricRecord({"num-examples": 1}),
        }
    )
    metadata = Metadata(
        run_id=1, message_id="1", src_node_id=1, dst_node_id=1, reply_to_message_id="", group_id="",
        created_at=0.0, ttl=1.0, message_type="train",
    )  # fmt: skip
    return Message(metadata=metadata, content=content)


def by_hand(spec: StrategySpec, arrays: dict[str, Any], steps: list[Any]) -> dict[str, Any]:
    """One Flower strategy object that lives through all rounds, as a ServerApp would drive it."""
    strategy = strategy_of(spec)
    current = {name: array for name, array in arrays.items() if np.issubdtype(array.dtype, np.floating)}
    for round_number, mean in enumerate(steps, 1):
        record = ArrayRecord({name: Array(array) for name, array in current.items()})
        strategy.configure_train(round_number, record, ConfigRecord(), None)
        moved = {
            entry.name: np.asarray((current[entry.name] + part).astype(current[entry.name].dtype))
            for entry, part in Layout.of(current).split(mean)
        }
        result, _metrics = strategy.aggregate_train(round_number, [reply(moved)])
        current = {name: result[name].numpy().astype(array.dtype) for name, array in current.items()}
    return current


class Arithmetic:
    """What Flower's FedAdam asks of NumPy, with powers that are the same everywhere, as Python's numbers; or as if nothing had to
    be corrected."""

    zeros_like, asarray = staticmethod(np.zeros_like), staticmethod(np.asarray)

    def __init__(self, corrected: bool) -> None:
        self._corrected = corrected

    def power(self, base: float, exponent: float) -> float:
        return float(power(Fraction(base), int(exponent))) if self._corrected else 0.0

    def sqrt(self, value: Any) -> Any:
        return math.sqrt(value) if isinstance(value, float) else np.sqrt(value)


@pytest.mark.parametrize("spec", SPECS, ids=label)
def test_three_rounds_equal_flower_to_the_bit(spec: StrategySpec, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = model()
    state, steps = state_of(arrays), means(arrays)
    for mean in steps:
        state = outer_step(spec, state, mean, state.scales)
    monkeypatch.setattr("flwr.serverapp.strategy.fedadam.np", Arithmetic(spec.parameters.get("biasCorrection", False)))
    for name, wanted in by_hand(spec, arrays, steps).items():
        assert (state.arrays[name].dtype, state.arrays[name].shape) == (arrays[name].dtype, arrays[name].shape)
        np.testing.assert_array_equal(state.arrays[name], wanted, err_msg=name)
    assert state.round == 1 + ROUNDS


@pytest.mark.parametrize("spec", SPECS, ids=label)
@pytest.mark.parametrize("sizes", [(1,), (7,), (3, 20), (1000,)], ids=str)
def test_a_step_taken_part_by_part_is_the_same_to_the_bit(
    spec: StrategySpec, sizes: tuple[int, ...], tmp_path: Path
) -> None:
    """Over rounds, with what the strategy keeps; parts of any size, across the edges of arrays, each overwritten when the next is
    asked for; and the files are those of a state that is written whole."""
    arrays = {**model(), "empty": np.zeros((0, 4), np.float32), "wide": np.arange(9, dtype=np.float64).reshape(3, 3)}
    whole, generator = state_of(arrays), np.random.default_rng(3)
    files, other = JobFiles(tmp_path / "one"), JobFiles(tmp_path / "other")
    files.prepare()
    other.prepare()
    advanced = whole

    def parts(mean: Any) -> Any:
        buffer, at, place = np.empty(max(sizes)), 0, 0
        while at < mean.size:
            held = buffer[: min(sizes[place % len(sizes)], mean.size - at)]
            held[:] = mean[at : at + held.size]
            at, place = at + held.size, place + 1
            yield held

    for round_number in (2, 3, 4):
        mean, scales = generator.normal(size=Layout.of(arrays).size), np.array([round_number], np.int8)
        whole = outer_step(spec, whole, mean, scales)
        advanced = files.advance(spec, advanced, parts(mean), scales)
        other.keep(whole)
        assert advanced.digest() == whole.digest() == replace(advanced, _digest=[]).digest()
        assert files.state(round_number).read_bytes() == other.state(round_number).read_bytes()
        assert files.model(round_number).read_bytes() == other.model(round_number).read_bytes()
        for name, array in whole.arrays.items():
            assert (advanced.arrays[name].dtype, advanced.arrays[name].shape) == (array.dtype, array.shape)
            np.testing.assert_array_equal(advanced.arrays[name], array)
    summed = [name for name in arrays if name != "steps"]
    assert list(advanced.optimiser) == [f"{kind}/{name}" for kind in kept_by(spec) for name in summed]


@pytest.mark.parametrize("name", ["FedAvg", "FedAvgM", "FedAdam", "FedYogi"])
def test_a_step_takes_a_few_pieces_of_memory(name: str, tmp_path: Path) -> None:
    """Not the model, nor what is kept beside it: 4 MiB each here."""
    spec = StrategySpec(name, {**DEFAULTS[name], **({"serverMomentum": 0.9} if name == "FedAvgM" else {})})
    size, piece = 1 << 20, np.full(1 << 14, 0.5)
    files = JobFiles(tmp_path / "job")
    files.prepare()
    files.keep(state_of({"w": np.ones(size, np.float32)}))
    state = read_state(files.state(1))
    for _ in range(2):
        tracemalloc.start()
        try:
            state = files.advance(spec, state, iter([piece] * (size // piece.size)), state.scales)
            assert tracemalloc.get_traced_memory()[1] < 3 << 20
        finally:
            tracemalloc.stop()


def test_fedadam_equals_flower_but_for_the_last_bits_of_its_factor() -> None:
    arrays = {name: array for name, array in model().items() if array.dtype == np.float32}
    state = state_of(arrays)
    steps = means(arrays)
    for mean in steps:
        state = outer_step(CORRECTED, state, mean, state.scales)
    for name, wanted in by_hand(CORRECTED, arrays, steps).items():
        np.testing.assert_allclose(state.arrays[name], wanted, rtol=1e-6)


def test_fedadam_without_bias_correction_is_the_papers() -> None:
    """Reddi et al., arXiv 2003.00295, algorithm 2 (FedAdam), in float64."""
    parameters = {**DEFAULTS["FedAdam"], "eta": 0.01, "beta2": 0.999, "tau": 1e-8, "biasCorrection": False}
    spec = StrategySpec("FedAdam", parameters)
    arrays = {"w": np.random.default_rng(3).normal(size=20)}
    state = state_of(arrays)
    steps = means(arrays)
    x, m, v = arrays["w"].copy(), np.zeros(20), np.zeros(20)
    for mean in steps:
        state = outer_step(spec, state, mean, state.scales)
        m = 0.9 * m + 0.1 * mean
        v = 0.999 * v + 0.001 * mean**2
        x = x + 0.01 * m / (np.sqrt(v) + 1e-8)
    np.testing.assert_allclose(state.arrays["w"], x, rtol=1e-9)


@pytest.mark.parametrize("spec", SPECS, ids=label)
def test_integer_buffers_and_the_order_of_the_arrays_stay(spec: StrategySpec) -> None:
    arrays = model()
    state = state_of(arrays)
    stepped = outer_step(spec, state, means(arrays)[0], state.scales)
    assert list(stepped.arrays) == list(arrays)
    np.testing.assert_array_equal(stepped.arrays["steps"], arrays["steps"])
    assert not np.array_equal(stepped.arrays["bias"], arrays["bias"])


def test_what_the_strategy_puts_into_messages() -> None:
    assert message_config(SPECS[0], 4) == {"server-round": 4}
    assert message_config(SPECS[1], 4) == {"server-round": 4, "proximal-mu": 0.1}


DIGEST = """
import numpy as np
from tests.unit.weights.test_outer_step import SPECS, means, model, state_of
from tests.whole import outer_step
for spec in SPECS:
    state = state_of(model())
    for mean in means(model()):
        state = outer_step(spec, state, mean, state.scales)
    print(spec.name, state.digest().hex())
"""


def features() -> list[str]:
    """The vector extensions that this NumPy was built to use and may be told not to."""
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    return [name for name in __cpu_dispatch__ if __cpu_features__.get(name)]


def test_the_digests_are_the_same_without_vector_extensions() -> None:
    wide = features()
    assert wide, "this machine has no vector extension to switch off, so that this test shows nothing"
    printed = []
    for disabled in ("", " ".join(wide)):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "NPY_DISABLE_CPU_FEATURES": disabled}
        done = subprocess.run(
            [sys.executable, "-c", DIGEST], env=environment, capture_output=True, text=True, check=True, timeout=60
        )
        printed.append(done.stdout)
    assert printed[0] == printed[1]
    assert printed[0].count("\n") == len(SPECS)


def terms(**changed: Any) -> Terms:
    from dataclasses import replace

    from tests.simulation.harness import World

    return replace(World(3).terms, **changed)


def test_the_first_state_has_a_scale_for_each_chunk() -> None:
    rules = terms(chunk_parameters=8)
    state = initial_state(model(), rules)
    assert state.round == 1
    assert len(state.scales) == math.ceil(Layout.of(model()).size / 8)
    assert set(state.scales.tolist()) == {rules.initial_scale_exponent}


def test_scales_follow_the_size_of_the_sums_within_their_bounds() -> None:
    rules = terms(min_scale_exponent=-4, max_scale_exponent=4)
    peaks = np.array([600, 100, 0, 30, 600, 10], dtype=np.int64)
    scales = np.array([0, 0, 0, 0, 4, -4], dtype=np.int8)
    assert next_scales(scales, peaks, 2, 500, 0, rules).tolist() == [1, 0, 0, -1, 4, -4]
    assert next_scales(scales, np.array([300] * 6), 2, 500, 5, rules).tolist() == [1, 1, 1, 1, 4, -3]
