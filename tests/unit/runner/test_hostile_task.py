"""What a job's code may try, and what comes of it: the lab's machine, data and keys stay, the federation goes on."""

import asyncio
import os
import socket
import time
from contextlib import ExitStack

import pytest

from federation.errors import TaskFailed, Unavailable
from federation.weights.tensors import read_arrays
from node_agent.runner.lab_log import FULL, LIMIT_BYTES

SECRET = "patient-4711"

IN_SANDBOX = {
    "socket": {"ConnectionRefusedError"},
    "write-outside": {"FileNotFoundError", "OSError"},
    "write-data": {"OSError"},
    "write-bundle": {"OSError"},
    "namespaces": {"PermissionError"},
}
ANYWHERE = {
    "raise": "RowRefused",
    "raise-secret-class": "RowRefused",
    "raise-in-library": "ValueError",
    "exit": "SystemExit",
    "files": "OSError",
}
REFUSED = {
    "two-arrays": "exactly one ArrayRecord",
    "two-metrics": "exactly one MetricRecord",
    "no-metrics": "exactly one MetricRecord",
    "no-weight": "lacks the weight",
    "negative-weight": "whole number",
    "many-metrics": "larger than it may be",
    "huge": "larger than it may be",
    "not-a-message": "something else than a Flower Message",
}


def line_of(app_file, text):
    return next(i for i, line in enumerate(app_file.read_text().splitlines(), 1) if text in line)


def test_a_failing_task_tells_the_lead_class_file_and_line_but_never_its_message(scene):
    async def story():
        async with scene.worker() as worker:
            for fault, exception in ANYWHERE.items():
                with pytest.raises(TaskFailed) as caught:
                    await scene.train(worker, fault)
                error = caught.value
                assert (error.exception, error.file, error.phase) == (exception, "faulty/client_app.py", "train"), fault
                assert error.line > 0
                assert SECRET not in f"{error.message}{error.hint}{error!r}"
                assert SECRET.replace("-", "_") not in f"{error.message}{error.exception}"
                assert worker.alive
            assert (await scene.train(worker)).examples == 10
            with pytest.raises(TaskFailed) as caught:
                await scene.train(worker, "raise")
            assert caught.value.line == line_of(scene.spec().bundle / "faulty/client_app.py", "cannot read row")

    scene.run(story())
    assert f"cannot read row {SECRET}" in scene.log.read_text()  # the lab sees all


def test_replies_of_other_forms_are_refused_by_name(scene):
    async def story():
        async with scene.worker() as worker:
            for fault, words in REFUSED.items():
                with pytest.raises(TaskFailed, match=words) as caught:
                    await scene.train(worker, fault)
                assert caught.value.hint
                assert not scene.out.exists()
            # Other shapes and NaN are for the agent's arithmetic to refuse; they arrive as they are.
            for fault in ("other-shapes", "nan", "missing-array"):
                await scene.train(worker, fault)
                assert read_arrays(scene.out)
                scene.out.unlink()
            reply = await scene.train(worker, "nan-metric")
            assert str(reply.metrics["train_loss"]) == "nan"

    scene.run(story())


def test_the_sandbox_has_no_network_no_writing_no_namespaces(scene, sandboxed):
    outside = scene.place / "outside"
    with socket.create_server(("127.0.0.1", 0)) as server:
        paths = {"socket": str(server.getsockname()[1]), "write-outside": str(outside)}

        async def story():
            async with scene.worker() as worker:
                for fault, exceptions in IN_SANDBOX.items():
                    with pytest.raises(TaskFailed) as caught:
                        await scene.train(worker, fault, path=paths.get(fault, ""))
                    assert caught.value.exception in exceptions, (fault, caught.value.message)
                for target in ("/new", "/concord/new", "/concord/job/new", "/usr/new", "/etc/new", "/dev/new"):
                    with pytest.raises(TaskFailed):
                        await scene.train(worker, "write-outside", path=target)

        scene.run(story())
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert not outside.exists()
    assert [path.name for path in scene.data.iterdir()] == ["rows.csv"]


def test_keys_and_other_folders_do_not_exist_in_the_sandbox(scene, sandboxed):
    keys = scene.place / "keys"
    keys.mkdir()
    (keys / "identity.key").write_text("a key")
    repository = scene.spec().bundle.parents[2]
    hidden = [keys / "identity.key", scene.log, scene.place, repository / "pyproject.toml"]
    hidden += [repository / "federation/errors.py", repository / "node_agent/main.py", "/etc/passwd", "/root", "/home"]

    async def story():
        async with scene.worker() as worker:
            await scene.train(worker, "read", path="/concord/data/rows/rows.csv")
            for path in hidden:
                with pytest.raises(TaskFailed) as caught:
                    await scene.train(worker, "read", path=str(path))
                assert caught.value.exception in {"FileNotFoundError", "IsADirectoryError"}, path
            with pytest.raises(TaskFailed) as caught:  # no process of the machine but its own
                await scene.train(worker, "read", path=f"/proc/{os.getpid()}/environ")
            assert caught.value.exception == "FileNotFoundError"

    scene.run(story())


@pytest.mark.parametrize(("fault", "how"), [("os-exit", "exit status 3"), ("segfault", "SIGSEGV")])
def test_a_worker_that_dies_is_noticed_at_once_and_another_can_start(scene, fault, how):
    async def story():
        async with scene.worker() as worker:
            began = time.monotonic()
            with pytest.raises(Unavailable, match=how):
                await scene.train(worker, fault, timeout=60)
            assert time.monotonic() - began < 30
            assert not worker.alive
            with pytest.raises(Unavailable):
                await scene.train(worker)
        async with scene.worker() as another:
            assert (await scene.train(another)).examples == 10

    scene.run(story())
    assert scene.processes() == []


@pytest.mark.parametrize("fault", ["hang", "hang-with-children"])
def test_a_hung_task_is_ended_with_all_its_children(scene, fault):
    async def story():
        async with scene.worker() as worker:
            with pytest.raises(TaskFailed, match="longer than") as caught:
                await scene.train(worker, fault, timeout=0.5)
            assert caught.value.exception == "Timeout"
            assert not worker.alive
            assert scene.processes() == []

    scene.run(story())


def test_a_child_that_keeps_the_channel_open_does_not_hide_the_death(scene):
    async def story():
        async with scene.worker() as worker:
            began = time.monotonic()
            with pytest.raises(Unavailable, match="died"):
                await scene.train(worker, "daemon", timeout=60)
            assert time.monotonic() - began < 30

    scene.run(story())
    assert scene.processes() == []


@pytest.mark.parametrize("open_files", [0, 200])  # of an agent with many jobs
def test_rubbish_on_the_channel_ends_the_worker(scene, open_files):
    async def story():
        async with scene.worker() as worker:
            with pytest.raises(TaskFailed, match="not well-formed") as caught:
                await scene.train(worker, "forge")
            assert caught.value.exception == "BadFrame"
            assert not worker.alive

    with ExitStack() as held:
        for _ in range(open_files):
            held.enter_context(scene.log.open("ab"))
        scene.run(story())


def test_a_task_that_takes_too_much_memory_is_ended(scene):
    async def story():
        async with scene.worker(memory_bytes=512 << 20) as worker:
            with pytest.raises(TaskFailed, match="more memory") as caught:
                await scene.train(worker, "memory", timeout=60)
            assert caught.value.exception == "MemoryLimit"

    scene.run(story())


def test_a_fork_bomb_is_ended(scene, sandboxed):
    async def story():
        async with scene.worker() as worker:
            with pytest.raises(TaskFailed) as caught:
                await scene.train(worker, "fork-bomb", timeout=60)
            assert caught.value.exception in {"ProcessLimit", "BlockingIOError"}

    scene.run(story())
    assert scene.processes() == []


def test_what_a_task_prints_goes_to_the_labs_log_and_is_bounded(scene, capfd):
    async def story():
        async with scene.worker() as worker:
            await scene.train(worker, "print-secrets")
            await scene.train(worker, "print-forever", timeout=60)
            assert (await scene.train(worker)).examples == 10

    scene.run(story())
    text = scene.log.read_bytes()
    assert f"stdout {SECRET}".encode() in text
    assert f"stderr {SECRET}".encode() in text
    assert len(text) <= LIMIT_BYTES + len(FULL)
    assert text.endswith(FULL)
    assert scene.log.stat().st_mode & 0o777 == 0o600
    assert SECRET not in "".join(capfd.readouterr())


def test_abandoning_a_call_ends_the_worker(scene):
    async def story():
        async with scene.worker() as worker:
            call = asyncio.create_task(scene.train(worker, "hang"))
            await asyncio.wait({call}, timeout=0.2)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert not worker.alive

    scene.run(story())
    assert scene.processes() == []
