"""A job is blind unless it says otherwise: its model is nowhere on the coordinator's disk, and opens for its recipients alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file

from federation.errors import NotFound, VerificationFailed
from tests.e2e.commands import refused, said
from tests.e2e.runs import Runs


def vector_of(folder: Path) -> npt.NDArray[np.float32]:
    found: npt.NDArray[np.float32] = load_file(folder / "model.safetensors")["vector"]
    return found


def holding(home: Path, values: npt.NDArray[np.float32]) -> list[Path]:
    """The files below ``home`` in which the values stand as they are."""
    return [path for path in home.rglob("*") if path.is_file() and values.tobytes() in path.read_bytes()]


@pytest.mark.parametrize("view", ["blind", "sum"])
def test_the_coordinator_never_holds_the_model_of_a_blind_job(three: Runs, view: str) -> None:
    job = three.run(three.document("sealed", coordinatorView=view))
    assert job.state == "finished", job.reason
    model = vector_of(three.release(job.name))
    found = holding(three.local.coordinator.home, model)
    assert bool(found) == (view == "sum"), found


def test_a_recipient_that_the_job_names_opens_the_release_and_nobody_else_does(three: Runs, tmp_path: Path) -> None:
    ministry, key = tmp_path / "ministry", three.folder / "ministry.key"
    assert said("concord", "release", "key", "--home", ministry, "--out", key).code == 0
    path = three.document("named", release={"recipients": [{"name": "Ministry", "keyFile": key.name}]})
    job = three.run(path)
    assert job.state == "finished", job.reason
    shown = three.local.concord("describe", job.name)
    assert "Ministry (key " in shown
    assert key.read_text().strip() not in shown
    sealed, roll = tmp_path / "sealed", three.local.folder / "roll.json"
    three.local.concord("release", "fetch", job.name, "--sealed", "--out", sealed)
    assert not (sealed / "model.safetensors").exists()
    assert said("concord", "verify", sealed, "--roll", roll).code == 0

    assert (
        said("concord", "release", "open", sealed, "--home", ministry, "--roll", roll, "--out", tmp_path / "a").code
        == 0
    )
    assert said("concord", "verify", tmp_path / "a", "--roll", roll).code == 0
    np.testing.assert_array_equal(vector_of(tmp_path / "a"), vector_of(three.release(job.name)))

    stranger, out = tmp_path / "stranger", tmp_path / "b"
    refused(said("concord", "release", "open", sealed, "--home", stranger, "--out", out), NotFound, "no sealing key")
    assert said("concord", "release", "key", "--home", stranger).code == 0
    answer = said("concord", "release", "open", sealed, "--home", stranger, "--out", out)
    refused(answer, VerificationFailed, "not sealed for this key")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a", "ministry", "sealed", "stranger"], (
        "no trace of a failure"
    )

    state = sealed / "state.sealed"
    data = bytearray(state.read_bytes())
    data[-1] ^= 1
    state.write_bytes(data)
    refused(said("concord", "release", "open", sealed, "--home", ministry, "--out", out), VerificationFailed)
    assert not out.exists()
