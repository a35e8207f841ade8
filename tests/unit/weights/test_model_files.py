"""Models as flat vectors, and as files: what is not whole, or not the model's, is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.extra.numpy import arrays as some_array
from safetensors.numpy import load_file

from federation.errors import TaskFailed, VerificationFailed
from federation.sealing import seal, sealed_size
from federation.secagg.levels import clipped
from federation.weights.layout import Difference, Layout, rest_limit
from federation.weights.outer_step import initial_state
from federation.weights.state import MAX_FILE, ModelState, file_limit, read_state, write_state
from federation.weights.tensors import read_arrays, write_arrays
from tests.simulation.harness import World

MODELS = some.dictionaries(
    some.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
    some.sampled_from([np.float32, np.float64, np.float16, np.int64, np.uint8, np.bool_]).flatmap(
        lambda kind: some_array(kind, some.lists(some.integers(0, 4), max_size=3).map(tuple))
    ),
    max_size=5,
)


@settings(deadline=None, max_examples=60)
@given(MODELS)
def test_a_file_gives_back_what_went_in_in_its_order(tmp_path_factory: pytest.TempPathFactory, arrays: Any) -> None:
    path = tmp_path_factory.mktemp("file") / "model.safetensors"
    write_arrays(path, arrays)
    found = read_arrays(path)
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    assert set(load_file(path)) == set(arrays)  # the format's own reader opens it


@settings(deadline=None, max_examples=60)
@given(MODELS)
def test_a_layout_covers_every_floating_number_once(arrays: Any) -> None:
    layout = Layout.of(arrays)
    flat = np.arange(layout.size, dtype=np.float64)
    parts = [part.reshape(-1) for _entry, part in layout.split(flat)]
    np.testing.assert_array_equal(np.concatenate([np.empty(0), *parts]), flat)
    floating = [name for name, array in arrays.items() if np.issubdtype(array.dtype, np.floating)]
    assert [entry.name for entry in layout.entries] == floating


def difference(trained: dict[str, Any], model: dict[str, Any]) -> Any:
    """All of it at once, looked through for what is no number."""
    source, _squared = clipped(Difference(trained, model), 1e30)
    return source.part(0, source.size, np.empty(source.size, dtype=np.float32))


def base() -> dict[str, Any]:
    return {"w": np.ones((2, 2), dtype=np.float32), "n": np.array([3], dtype=np.int64)}


def test_a_difference_is_of_floating_entries_alone() -> None:
    trained = {"w": np.full((2, 2), 1.5, dtype=np.float32), "n": np.array([9], dtype=np.int64)}
    np.testing.assert_array_equal(difference(trained, base()), np.full(4, 0.5, dtype=np.float32))


@pytest.mark.parametrize(
    "changed",
    [
        {"w": np.ones((2, 2), dtype=np.float32)},
        {**base(), "more": np.ones(1, dtype=np.float32)},
        {"n": base()["n"], "w": base()["w"]},
        {**base(), "w": np.ones((4,), dtype=np.float32)},
        {**base(), "w": np.ones((2, 2), dtype=np.float64)},
        {**base(), "w": np.array([[1, 2], [3, np.nan]], dtype=np.float32)},
        {**base(), "w": np.array([[1, 2], [3, np.inf]], dtype=np.float32)},
    ],
    ids=["missing", "extra", "order", "shape", "type", "nan", "infinite"],
)
def test_what_is_not_the_models_own_form_is_the_tasks_failure(changed: dict[str, Any]) -> None:
    with pytest.raises(TaskFailed) as refused:
        difference(changed, base())
    assert refused.value.hint


def test_a_difference_that_overflows_is_refused() -> None:
    big = {"w": np.full(1, np.finfo(np.float32).max, dtype=np.float32)}
    with pytest.raises(TaskFailed, match="infinite"):
        difference({"w": -big["w"]}, big)


@settings(deadline=None, max_examples=60)
@given(MODELS, some.integers(0, 2))
def test_no_file_of_a_state_is_larger_than_its_parameters_allow(
    tmp_path_factory: pytest.TempPathFactory, arrays: Any, moments: int
) -> None:
    summed = [name for name, array in arrays.items() if np.issubdtype(array.dtype, np.floating)]
    optimiser = {f"{kind}/{name}": arrays[name] for kind in ("m_t", "v_t")[:moments] for name in summed}
    size = Layout.of(arrays).size
    path = tmp_path_factory.mktemp("file") / "state"
    write_state(path, ModelState(1, arrays, optimiser, np.zeros(size, np.int8)))
    sealed = sum(map(len, seal(bytes(32), bytes(32), [path.read_bytes()])))
    assert sealed == sealed_size(path.stat().st_size)
    assert sealed <= file_limit(size) < 100 << 20
    assert file_limit(1 << 40) == MAX_FILE


def test_a_model_with_more_beside_its_parameters_is_refused_before_it_trains() -> None:
    """Otherwise no member that is behind could ever be given its state."""
    terms, weights = World(3).terms, np.zeros(8, np.float32)
    fits = np.broadcast_to(np.int64(0), (rest_limit(8) // 8,))
    assert initial_state({"w": weights, "table": fits}, terms).round == 1
    with pytest.raises(TaskFailed, match="more than") as refused:
        initial_state({"w": weights, "table": np.broadcast_to(np.int64(0), (rest_limit(8) // 8 + 1,))}, terms)
    assert "arrays of whole numbers" in refused.value.message
    assert refused.value.hint


def state() -> ModelState:
    optimiser = {"m_t/w": np.zeros((2, 2), dtype=np.float32)}
    return ModelState(5, base(), optimiser, np.array([-3, 2], dtype=np.int8))


def test_a_state_comes_back_with_its_digest(tmp_path: Path) -> None:
    write_state(tmp_path / "state", state())
    found = read_state(tmp_path / "state")
    assert (found.round, found.digest()) == (5, state().digest())


@pytest.mark.parametrize("field", ["round", "array", "shape", "name", "optimiser", "scales", "order", "type"])
def test_every_part_of_a_state_is_in_its_digest(field: str) -> None:
    it = state()
    arrays, optimiser = dict(it.arrays), dict(it.optimiser)
    if field == "array":
        arrays["w"] = np.nextafter(arrays["w"], 2, dtype=np.float32)
    elif field == "shape":
        arrays["w"] = arrays["w"].reshape(4)
    elif field == "name":
        arrays = {"v": arrays["w"], "n": arrays["n"]}
    elif field == "order":
        arrays = {"n": arrays["n"], "w": arrays["w"]}
    elif field == "type":
        arrays["n"] = arrays["n"].view(np.uint64)
    elif field == "optimiser":
        optimiser["m_t/w"] = optimiser["m_t/w"] + 1
    scales = np.array([-3, 3], dtype=np.int8) if field == "scales" else it.scales
    other = ModelState(6 if field == "round" else 5, arrays, optimiser, scales)
    assert other.digest() != it.digest()


def test_a_cut_or_spoilt_file_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_state(path, state())
    whole = path.read_bytes()
    for length in range(0, len(whole), 3):
        path.write_bytes(whole[:length])
        with pytest.raises(VerificationFailed):
            read_state(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(VerificationFailed):
        read_state(path)


def header_file(header: dict[str, Any], body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


@pytest.mark.parametrize(
    "header",
    [
        {"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}},
        {
            "w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            "v": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
        },
        {"w": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}},
        {"w": {"dtype": "F32", "shape": [1 << 62], "data_offsets": [0, 8]}},
        {"w": {"dtype": "PICKLE", "shape": [2], "data_offsets": [0, 8]}},
        {"w": {"dtype": "F32", "shape": [2]}},
        {"w": [1, 2]},
        {"__metadata__": {"order": '["v"]'}, "w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}},
    ],
    ids=["gap", "overlap", "negative", "vast", "type", "no-place", "no-entry", "order"],
)
def test_a_crafted_header_is_refused(tmp_path: Path, header: dict[str, Any]) -> None:
    path = tmp_path / "crafted"
    path.write_bytes(header_file(header, b"\0" * 8))
    with pytest.raises(VerificationFailed):
        read_arrays(path)


def test_a_state_file_without_round_or_scales_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bare"
    write_arrays(path, {"weights/w": np.ones(1, dtype=np.float32)}, {"round": "1"})
    with pytest.raises(VerificationFailed):
        read_state(path)
    write_arrays(path, {"weights/w": np.ones(1, dtype=np.float32), "scales": np.zeros(1, dtype=np.int8)})
    with pytest.raises(VerificationFailed):
        read_state(path)
