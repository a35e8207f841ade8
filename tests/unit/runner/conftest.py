"""What the runner's tests share. With CONCORD_TEST_NO_SANDBOX=1 they run without a sandbox (see tests/conftest.py)."""

import asyncio
import os
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from node_agent.runner.tensors import write_new
from node_agent.runner.worker import Worker, WorkerSpec

APPS = Path(__file__).parents[2] / "apps"
WITHOUT = os.environ.get("CONCORD_TEST_NO_SANDBOX") == "1"


@pytest.fixture(params=["none"] if WITHOUT else ["bubblewrap", "none"])
def sandbox_kind(request):
    return request.param


class Scene:
    """One job's folders at one node, and workers in them. ``model`` is what the faulty app trains."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.scratch, self.data, self.log = place / "job", place / "rows", place / "task.log"
        self.scratch.mkdir()
        self.data.mkdir()
        (self.data / "rows.csv").write_text("1,2\n")
        self.model, self.out = self.scratch / "model.safetensors", self.scratch / "trained.safetensors"
        write_new(self.model, {"vector": np.zeros(10, np.float32), "steps": np.zeros((), np.int64)})

    def spec(self, app="faulty", **changes) -> WorkerSpec:
        config = {"fault": "none", "fault-partition": -1, "fault-round": 0, "path": ""}
        config |= {"size": 10, "rate": 0.5, "examples": 100, "pause": 0.0}
        settings = {
            "bundle": APPS / app,
            "data_sets": {"rows": self.data},
            "scratch": self.scratch,
            "log": self.log,
            "client_app": f"{app}.client_app:app",
            "run_config": config,
            "sandbox": "none" if WITHOUT else "bubblewrap",
        }
        return WorkerSpec(**(settings | changes))

    @asynccontextmanager
    async def worker(self, app="faulty", **changes):
        worker = await Worker.start(self.spec(app, **changes))
        try:
            yield worker
        finally:
            await worker.close()

    async def train(self, worker, fault="none", timeout=20.0, **config):
        return await worker.train(self.model, self.out, {"server-round": 1, "fault": fault, **config}, timeout)

    def processes(self):
        """Every live process of this scene's workers: its folder is among their mounts, or is where they work."""
        mark = "/".join(self.scratch.parts[-3:])
        found = []
        for process in psutil.process_iter():
            place = Path("/proc", str(process.pid))
            try:
                shown = (place / "mountinfo").read_text() + str((place / "cwd").readlink())
                if mark in shown and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
            except (OSError, psutil.Error):
                continue
        return found

    def run(self, coroutine):
        return asyncio.run(coroutine)


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path)
