"""The files of one job at a lab, and one contribution: private, whole or absent, checked before use, gone at the end."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.errors import FederationError, TaskFailed, Unavailable, VerificationFailed
from federation.secagg import encoding as codes
from federation.secagg.events import Contribute, MaskPlan
from federation.secagg.figures import mean_figures, public_words
from federation.secagg.header import header_words
from federation.weights.state import ModelState
from federation.weights.tensors import read_arrays
from node_agent.rounds import training
from node_agent.rounds.files import JobFiles
from node_agent.rounds.growing import GrowingUpdate
from node_agent.rounds.spec import worker_spec
from node_agent.rounds.training import Trainer
from node_agent.runner.accelerators import Accelerators
from node_agent.runner.devices import Gpu
from node_agent.runner.worker import WorkerSpec
from node_agent.settings import NodeSettings
from tests.unit.agent import deaths_of_states
from tests.unit.agent.deaths_of_states import state
from tests.unit.agent.hall import Bench, PlainWorker, model
from tests.unit.agent.homes import JOB, federation_of, manifest_of
from tests.unit.agent.killed import alone, tree
from tests.whole import added, mean_of, read_sum, root_of

PARTIES = federation_of()
MANIFEST = manifest_of(PARTIES, JOB + "  rounds: 2\n  localSteps: 7\n")
TERMS = MANIFEST.terms()


@pytest.fixture
def files(tmp_path: Path) -> JobFiles:
    files = JobFiles(tmp_path / "jobs" / "job")
    files.prepare()
    return files


# ---------------------------------------------------------------------------------------------------------------------- states


def test_a_kill_at_any_step_of_keeping_a_state(tmp_path: Path) -> None:
    alone(deaths_of_states.keeping, tmp_path)


def test_the_last_two_states_are_kept_and_what_the_worker_reads_of_them(files: JobFiles) -> None:
    for number in range(1, 6):
        files.keep(state(number))
    assert sorted(tree(files.states)) == ["4.safetensors", "5.safetensors"]
    assert sorted(tree(files.scratch)) == ["model-4.safetensors", "model-5.safetensors"]
    assert files.load(5, state(5).digest()).digest() == state(5).digest()
    assert read_arrays(files.model(5))["w"][0] == 5


def test_a_state_is_what_was_promised_or_refused(files: JobFiles) -> None:
    files.keep(state(1))
    for number, digest in ((1, state(2).digest()), (1, bytes(32)), (1, b""), (2, state(1).digest())):
        with pytest.raises(VerificationFailed):
            files.load(number, digest)
    files.state(2).write_bytes(files.state(1).read_bytes())  # under another round's name
    with pytest.raises(VerificationFailed, match="not the one that was promised"):
        files.load(2, state(1).digest())


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_change_of_a_state_s_file_is_taken_for_it(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    files = JobFiles(tmp_path_factory.mktemp("job"))
    files.prepare()
    files.keep(state(1))
    whole = bytearray(files.state(1).read_bytes())
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        whole[place] ^= data.draw(st.integers(1, 255))
    else:
        del whole[place:]
    files.state(1).write_bytes(whole)
    try:
        loaded = files.load(1, state(1).digest())
    except VerificationFailed:
        assert files.find(state(1).digest()) is None
    else:  # a byte of the header that says nothing
        np.testing.assert_array_equal(loaded.arrays["w"], state(1).arrays["w"])


def test_a_state_is_found_by_what_it_is_past_files_that_are_none(files: JobFiles) -> None:
    files.keep(state(1))
    files.keep(state(2))
    (files.states / "0.safetensors").write_bytes(b"damaged")
    (files.states / "x.safetensors").write_bytes(b"")
    assert files.find(state(1).digest()) == files.state(1)
    assert files.find(state(2).digest()) == files.state(2)
    assert files.find(bytes(32)) is None
    files.keep(state(3))  # and what has no number is not in the way


# ---------------------------------------------------------------------------------------------------------------------- folder


def test_nobody_else_may_look_into_a_job(files: JobFiles) -> None:
    for folder in (files.root, files.states, files.scratch, files.updates):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_bundle_replaces_the_one_before_wholly(files: JobFiles) -> None:
    files.unpack({"pyproject.toml": b"1", "tiny/task.py": b"old", "tiny/old.py": b""})
    (files.root / "bundle.new").mkdir()
    (files.root / "bundle.new" / "half.py").write_bytes(b"a kill left this")
    files.unpack({"pyproject.toml": b"2", "tiny/task.py": b"new"})
    held = {name: data for name, data in tree(files.bundle).items() if data is not None}
    assert held == {"pyproject.toml": b"2", "tiny/task.py": b"new"}
    assert not (files.root / "bundle.new").exists()


def test_at_the_end_only_the_lab_s_own_log_is_left(files: JobFiles) -> None:
    files.keep(state(1))
    files.unpack({"a/b/c.py": b""})
    files.update(b"\x01" * 32).write_bytes(b"masked")
    (files.root / "snapshot.safetensors").write_bytes(b"")
    files.task_log.write_text("a row of data")
    files.erase_work()
    assert tree(files.root) == {"task.log": b"a row of data"}
    files.task_log.unlink()
    files.erase_work()
    assert not files.root.exists()
    files.erase_work()


def test_a_link_that_a_task_left_is_erased_and_not_what_it_names(files: JobFiles, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.csv").write_text("1,2")
    (files.scratch / "work").symlink_to(tmp_path / "data")
    (files.root / "rows").symlink_to(tmp_path / "data")
    files.erase_work()
    assert (tmp_path / "data" / "rows.csv").read_text() == "1,2"


# ---------------------------------------------------------------------------------------------------------------- contribution


@pytest.fixture(autouse=True)
def _workers_of_this_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(training, "Worker", Bench)
    before = os.umask(0)
    yield
    os.umask(before)


CONTEXT = b"\x07" * 32
WORK = Contribute(1, 0, MaskPlan(CONTEXT, (), b"\x01" * 32), weight=4, weight_unit=8, members=3, header_only=False)


class Scene:
    """One trainer that holds state 1."""

    def __init__(self, files: JobFiles) -> None:
        self.files, self.worker = files, PlainWorker(step=0.5)
        self.trainer = Trainer(MANIFEST, TERMS, files, self.worker)  # type: ignore[arg-type]

    def contribute(self, work: Contribute = WORK) -> bytes:
        async def story() -> bytes:
            start = await self.trainer.initial(None)
            try:
                return await self.trainer.contribute(work, start)
            finally:
                await self.trainer.close()

        return asyncio.run(story())

    def update(self) -> bytes:
        return self.files.update(CONTEXT).read_bytes()


@pytest.fixture
def scene(files: JobFiles) -> Scene:
    return Scene(files)


def test_a_contribution_is_one_private_file_whose_root_is_what_is_said(scene: Scene) -> None:
    root = scene.contribute()
    code = codes.encoding_of(TERMS, 3, 8)
    assert root_of(scene.update(), TERMS, code) == root
    path = scene.files.update(CONTEXT)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(scene.files.updates.iterdir()) == [path]  # the trained model is not kept
    assert scene.contribute() == root, "the same work gives the same bytes"


def test_what_leaves_is_the_difference_to_the_state_and_the_declared_figures(scene: Scene) -> None:
    scene.worker.loss = 0.25
    scene.contribute()
    code = codes.encoding_of(TERMS, 3, 8)
    read = read_sum(added([scene.update()], TERMS, code), TERMS, code, 1, 4, 10)
    mean = mean_of(read, np.full(1, TERMS.initial_scale_exponent, np.int8))
    np.testing.assert_allclose(mean, 0.5, atol=2**TERMS.initial_scale_exponent * 2)
    figures = mean_figures(public_words(read.header, TERMS), TERMS)
    assert figures == {"evaluate/eval_loss": 0.25, "train/train_loss": 0.25}


def test_a_round_that_evaluates_alone_trains_nothing(scene: Scene) -> None:
    from dataclasses import replace

    scene.contribute(replace(WORK, header_only=True))
    assert scene.worker.calls == ["initial", "evaluate"]
    assert len(scene.update()) == 8 * header_words(TERMS)


def changed(name: str, value: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(arrays: dict[str, Any]) -> dict[str, Any]:
        filled = arrays[name].copy()
        filled.flat[-1] = value
        return {**arrays, name: filled}

    return change


REPLIES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "NaN": changed("bias", np.nan),
    "infinite": changed("weight", np.inf),
    "minus infinite": lambda arrays: {**arrays, "bias": np.full(4, -np.inf, np.float32)},
    "another shape": lambda arrays: {**arrays, "bias": arrays["bias"][:3]},
    "transposed": lambda arrays: {**arrays, "weight": arrays["weight"].T.copy()},
    "flat": lambda arrays: {**arrays, "weight": arrays["weight"].reshape(-1)},
    "another type": lambda arrays: {**arrays, "bias": arrays["bias"].astype(np.float64)},
    "integers": lambda arrays: {**arrays, "bias": arrays["bias"].astype(np.int64)},
    "floating buffer": lambda arrays: {**arrays, "steps": np.zeros((), np.float32)},
    "missing": lambda arrays: {"weight": arrays["weight"], "steps": arrays["steps"]},
    "more": lambda arrays: {**arrays, "patients": np.arange(4)},
    "another name": lambda arrays: {name.replace("bias", "patients"): array for name, array in arrays.items()},
    "another order": lambda arrays: dict(reversed(arrays.items())),
    "nothing": lambda arrays: {},
}


@pytest.mark.parametrize("reply", REPLIES)
def test_a_reply_that_does_not_fit_the_model_makes_no_update(scene: Scene, reply: str) -> None:
    scene.worker.trained = REPLIES[reply]
    with pytest.raises(TaskFailed) as said:
        scene.contribute()
    assert said.value.phase == "reply"
    assert said.value.hint
    assert "patients" not in said.value.message, "names that a task chose stay in the lab"
    assert not scene.files.update(CONTEXT).exists()


def test_a_full_disk_is_told_of_in_words_and_signs_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_update: GrowingUpdate, _pieces: Any) -> bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(GrowingUpdate, "write", full)
    with pytest.raises(Unavailable, match="No space left") as said:
        scene.contribute()
    assert "disk full" in said.value.hint


GARBAGE = [b"", bytes(7), bytes(64), b"8" * 1000, b'\x08\0\0\0\0\0\0\0"string"', b"\x02\0\0\0\0\0\0\0[]", b"\xff" * 20]


@pytest.mark.parametrize("data", GARBAGE, ids=range(len(GARBAGE)))
def test_a_reply_that_is_no_model_makes_no_update(scene: Scene, data: bytes) -> None:
    scene.worker.file = data
    with pytest.raises(FederationError):
        scene.contribute()
    assert not scene.files.update(CONTEXT).exists()


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=80))
def test_any_bytes_in_place_of_a_reply_are_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    files = JobFiles(tmp_path_factory.mktemp("job"))
    files.prepare()
    scene = Scene(files)
    scene.worker.file = len(data).to_bytes(8, "little") + data
    with pytest.raises(FederationError):
        scene.contribute()
    assert not files.update(CONTEXT).exists()


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf")])
def test_a_declared_figure_that_is_no_number_makes_no_update(scene: Scene, loss: float) -> None:
    scene.worker.loss = loss
    with pytest.raises(TaskFailed, match="is not a finite number"):
        scene.contribute()
    assert not scene.files.update(CONTEXT).exists()


def test_a_reply_of_an_earlier_training_is_never_taken_for_this_one(scene: Scene) -> None:
    """A task that writes nothing, after one that did and failed."""
    scene.worker.trained = REPLIES["NaN"]
    with pytest.raises(TaskFailed):
        scene.contribute()
    trained = f"trained-{CONTEXT.hex()}.safetensors"
    kept = scene.files.updates / trained
    good = ModelState(1, model(), {}, np.zeros(1, np.int8))
    training_before = kept.exists()
    scene.worker.file = None

    async def nothing(path: Path, out: Path, config: Any, timeout: float) -> training.Reply:
        return training.Reply({}, 1)

    scene.worker.train = nothing  # type: ignore[method-assign]
    with pytest.raises(VerificationFailed, match="cannot be read"):
        asyncio.run(scene.trainer.contribute(WORK, good))
    assert training_before, "or this shows nothing"
    assert not scene.files.update(CONTEXT).exists()


# ------------------------------------------------------------------------------------------------------------------------ spec


def test_workers_of_two_jobs_see_different_gpus(files: JobFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """The coordinator counted two cards; which one a job's worker sees is the node's to say."""
    seen: list[tuple[int, ...]] = []

    async def start(spec: WorkerSpec) -> SimpleNamespace:
        seen.append(spec.gpus)
        return SimpleNamespace(alive=len(seen) != 1, close=AsyncMock())  # the first one dies at once

    monkeypatch.setattr(training, "Worker", SimpleNamespace(start=start))
    cards = (Gpu(0, "H100", 80 << 30), Gpu(1, "T4", 16 << 30))
    counted: Counter[str] = Counter()
    spec = WorkerSpec(bundle=files.bundle, data_sets={}, scratch=files.scratch, log=files.task_log)

    async def story() -> None:
        node = Accelerators(lambda: cards)
        first, second = (
            Trainer(
                manifest_of(PARTIES, f"{JOB}  resources: {{gpus: 1}}\n  rounds: {rounds}\n"),
                TERMS,
                files,
                spec,
                node,
                count=lambda name: counted.update((name,)),
            )
            for rounds in (1, 2)
        )
        await first.worker()
        await second.worker()
        await first.worker()
        await first.close()
        await second.close()
        await second.worker()

    asyncio.run(story())
    assert seen == [(1,), (0,), (1,), (1,)]
    assert counted == {"worker_starts": 4, "worker_restarts": 2}


def test_a_worker_sees_its_job_s_data_and_folders_and_no_other(files: JobFiles, tmp_path: Path) -> None:
    sets = {name: {"path": str(tmp_path / name), "examples": 5} for name in ("digits", "ages", "secret")}
    own = NodeSettings.model_validate(
        {"member": "fr", "node": "fr-1", "federation": "health", "dataSets": sets, "scratch": None}
    )
    manifest = manifest_of(
        PARTIES,
        JOB + "  extraDataSets: [ages]\n  resources: {gpus: 2, cpus: 3, memory: 2Gi}\n  runConfig: {rate: 0.5}\n",
    )
    spec = worker_spec(manifest, "digits", own, files, PARTIES.roll, "bubblewrap")
    assert dict(spec.data_sets) == {"digits": tmp_path / "digits", "ages": tmp_path / "ages"}
    assert next(iter(spec.data_sets)) == "digits"  # the app's own data path
    assert (spec.bundle, spec.scratch, spec.log) == (files.bundle, files.scratch, files.task_log)
    assert (spec.partition_id, spec.num_partitions) == (1, 3)
    assert (spec.cpus, spec.memory_bytes, spec.sandbox) == (3, 2 << 30, "bubblewrap")
    assert spec.run_config["rate"] == 0.5
