"""A warm worker from start to end: one process per job, and none of it outlives the agent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from federation.errors import InvalidUsage, TaskFailed, Unavailable
from federation.weights.tensors import read_arrays
from node_agent.runner.environment import SILENCE
from node_agent.runner.sandbox import SandboxReport
from node_agent.runner.tensors import write_new

OWNER = Path(__file__).with_name("worker_owner.py")
REPOSITORY = Path(__file__).parents[3]


def wait_for(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


@pytest.fixture
def owner(scene, sandbox_kind):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, str(OWNER), str(scene.place), sandbox_kind]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, start_new_session=True
    ) as process:
        try:
            said = process.stdout.readline()
            assert said.strip().isdigit(), process.stderr.read().decode()
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_its_agent(scene, owner, number):
    assert scene.processes()
    os.killpg(owner.pid, number)
    owner.wait(timeout=20)
    wait_for(lambda: scene.processes() == [])


def test_the_worker_is_warm_its_state_persists_and_it_can_be_closed_twice(scene):
    async def story():
        async with scene.worker() as worker:
            assert worker.alive
            assert worker.evaluates
            config = {"server-round": 1}
            first = await worker.evaluate(scene.model, config, 20)
            second = await worker.evaluate(scene.model, config, 20)
            assert (first.metrics["calls"], second.metrics["calls"]) == (1.0, 2.0)  # Context.state
            assert first.examples == 10
            assert "num-examples" not in first.metrics
            await worker.close()
            assert not worker.alive
            assert not (scene.scratch / "work").exists()

    scene.run(story())
    assert scene.processes() == []


def test_the_smallest_app_trains_by_partition_and_round(scene):
    start, model = scene.scratch / "start", scene.scratch / "m"

    async def story():
        async with scene.worker("tiny", partition_id=2, num_partitions=3) as worker:
            await worker.initial_model("tiny.task:initial_arrays", 0, start)
            write_new(model, {"vector": np.arange(10, dtype=np.float32)})
            reply = await worker.train(model, scene.out, {"server-round": 4}, 20)
            seen = await worker.evaluate(model, {"server-round": 4}, 20)
        assert reply.examples == 100
        assert reply.metrics["train_loss"] == seen.metrics["eval_loss"]

    scene.run(story())
    np.testing.assert_array_equal(load_file(start)["vector"], np.zeros(10, np.float32))
    vector = np.arange(10, dtype=np.float32)
    expected = vector + (np.float32(3) - vector) * np.float32(0.5) + np.float32(4 / 1024)
    np.testing.assert_array_equal(read_arrays(scene.out)["vector"], expected)


def test_an_app_that_cannot_be_loaded_fails_with_its_place(scene):
    bundle = scene.place / "bundle"
    (bundle / "broken").mkdir(parents=True)
    (bundle / "broken/__init__.py").write_text("")
    (bundle / "broken/client_app.py").write_text("import numpy\n\nimport no_such_package\n")
    (bundle / "broken/syntax.py").write_text("x = 1\nx = = 2\n")
    (bundle / "broken/other.py").write_text("app = 3\n")

    async def load(reference):
        async with scene.worker(bundle=bundle, client_app=reference):
            pass

    for reference, exception, file, line in (
        ("broken.client_app:app", "ModuleNotFoundError", "broken/client_app.py", 3),
        ("broken.syntax:app", "SyntaxError", "broken/syntax.py", 2),
        ("broken.other:app", "", "", 0),
        ("broken.other:nothing", "AttributeError", "", 0),
    ):
        with pytest.raises(TaskFailed) as caught:
            scene.run(load(reference))
        error = caught.value
        assert (error.exception, error.file, error.line, error.phase) == (exception, file, line, "load")
    assert scene.processes() == []


def test_a_model_outside_the_scratch_folder_is_refused(scene):
    async def story():
        async with scene.worker() as worker:
            with pytest.raises(InvalidUsage, match="scratch"):
                await worker.evaluate(scene.place / "model", {}, 20)
            with pytest.raises(InvalidUsage, match="scratch"):
                await worker.evaluate(scene.scratch / "work/model", {}, 20)

    scene.run(story())


def test_a_missing_data_set_and_a_bad_name_are_said_before_anything_starts(scene):
    async def start(**data_sets):
        async with scene.worker(data_sets=data_sets):
            pass

    with pytest.raises(Unavailable, match="not at") as caught:
        scene.run(start(rows=scene.place / "missing"))
    assert "concord-node data add" in caught.value.hint
    with pytest.raises(InvalidUsage):
        scene.run(start(**{"../x": scene.data}))


def test_without_a_sandbox_the_worker_starts_only_when_asked_for_by_name(scene, monkeypatch):
    report = SandboxReport("none", "AppArmor says no.", "Install the profile.")
    monkeypatch.setattr("node_agent.runner.worker.detect_sandbox", lambda: report)

    async def start(sandbox):
        async with scene.worker(sandbox=sandbox) as worker:
            return (await scene.train(worker)).examples

    with pytest.raises(Unavailable, match="AppArmor") as caught:
        scene.run(start("bubblewrap"))
    assert caught.value.hint == "Install the profile."
    assert scene.run(start("none")) == 10
    with pytest.raises(InvalidUsage):
        scene.run(start("chroot"))


def test_the_environment_is_built_from_nothing_and_silent(scene, monkeypatch, sandbox_kind):
    monkeypatch.setenv("CONCORD_TEST_SECRET", "do not leak")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    bundle = scene.place / "bundle"
    bundle.mkdir()
    (bundle / "env.py").write_text(
        "import json, os\n"
        "import numpy as np\n"
        "from flwr.supercore.telemetry import FLWR_TELEMETRY_ENABLED\n"
        "def make(run_config):\n"
        "    text = json.dumps({**os.environ, 'flwr': FLWR_TELEMETRY_ENABLED, 'threads': run_config['size']})\n"
        "    return {'env': np.frombuffer(text.encode(), dtype=np.uint8)}\n"
    )

    async def story():
        async with scene.worker(bundle=bundle, client_app="", cpus=3, sandbox=sandbox_kind) as worker:
            await worker.initial_model("env:make", 0, scene.out)

    scene.run(story())
    text = bytes(read_arrays(scene.out)["env"]).decode()
    assert "do not leak" not in text
    for name, value in {**SILENCE, "OMP_NUM_THREADS": "3", "CUDA_VISIBLE_DEVICES": "", "flwr": "0"}.items():
        assert f'"{name}": "{value}"' in text
    assert '"CONCORD_CHANNEL"' not in text
