"""Running jobs in a real federation: coordinator and nodes as processes, mutual TLS, the commands that people type."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import yaml
from safetensors.numpy import load_file

from coordinator.client.sdk import Federation
from coordinator.client.views import Job
from examples.local_federation import DataSet, LocalFederation, Member

APPS = Path(__file__).resolve().parents[1] / "apps"
TINY = APPS / "tiny"
FAULTY = APPS / "faulty"
DATA = "numbers"
LABELS = "labels"
EXAMPLES = 100
SCHEMA = "readings/1"
READINGS: dict[str, Any] = {
    "apiVersion": "concord/v1",
    "kind": "DataSchema",
    "spec": {
        "name": SCHEMA,
        "title": "What an instrument read, one reading a row",
        "columns": [
            {"name": "level", "type": "number", "unit": "mg/L", "minimum": 0},
            {"name": "state", "type": "category", "codes": {"0": "calm", "1": "alarm"}},
        ],
    },
}
JOB_SECONDS = 90.0


def members_of(
    folder: Path,
    *places: tuple[str, str],
    policy: dict[str, dict[str, object]] | None = None,
    budget: tuple[float, float, str] | None = None,
) -> list[Member]:
    """Members with three data sets each: a folder, a file, and a table that each calls by another name and describes by one
    schema. ``places``: (member id, jurisdiction); ``policy``: rules by member."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "schema.yaml").write_text(yaml.safe_dump(READINGS))
    made = []
    for name, code in places:
        data = folder / name
        data.mkdir(exist_ok=True)
        (data / "numbers.txt").write_text(f"{name} keeps this\n")
        labels = folder / f"{name}-labels" / "labels.csv"
        labels.parent.mkdir(exist_ok=True)
        labels.write_text("0\n1\n")
        table = described(folder, name, code)
        made.append(
            Member(
                name,
                f"Laboratory {name}",
                code,
                {
                    DATA: DataSet(data, EXAMPLES, ("numbers",), budget),
                    LABELS: DataSet(labels, EXAMPLES),
                    table_of(name): table,
                },
                (policy or {}).get(name, {}),
            )
        )
    return made


def table_of(member: str) -> str:
    """What a member calls its table."""
    return f"{member}-readings"


def described(folder: Path, name: str, code: str) -> DataSet:
    place = folder / f"{name}-table"
    place.mkdir(exist_ok=True)
    (place / "readings.csv").write_text("level,state\n1.5,0\n2.25,1\n")
    spec = {
        "title": f"Readings of {name}",
        "schema": SCHEMA,
        "files": {"file": "readings.csv"},
        "coverage": {"from": "2020", "to": "2024", "places": [code]},
        "updates": "appended",
        "publish": ["title", "schema", "columns", "size", "coverage", "version"],
    }
    document = {"apiVersion": "concord/v1", "kind": "DataSet", "metadata": {"name": table_of(name)}, "spec": spec}
    path = folder / f"{name}-readings.yaml"
    path.write_text(yaml.safe_dump(document))
    return DataSet(place, EXAMPLES, description=path, schemas=(folder / "schema.yaml",))


@dataclass
class Runs:
    """A running federation and the folder where its jobs are written."""

    local: LocalFederation
    folder: Path
    count: int = field(default=0)

    def document(self, name: str, *, app: Path = TINY, run_config: dict[str, Any] | None = None, **spec: Any) -> Path:
        """Writes a job document; a name never comes twice, nor does a first model: figures of one leave over one cohort."""
        self.count += 1
        body: dict[str, Any] = {"app": str(app), "dataSet": DATA, "rounds": 2, "model": {"seed": self.count}, **spec}
        if run_config:
            body["runConfig"] = run_config
        document = {
            "apiVersion": "concord/v1",
            "kind": "TrainingJob",
            "metadata": {"name": f"{name}-{self.count}"},
            "spec": body,
        }
        path = self.folder / f"{name}-{self.count}.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return path

    @contextmanager
    def submitted(self, path: Path) -> Iterator[tuple[Federation, str]]:
        with self.local.client() as client:
            yield client, client.submit(path).name

    def run(self, path: Path, *, each: Callable[[Job], object] = lambda _job: None) -> Job:
        """Submits and watches to the end; ``each`` sees every view."""
        with self.submitted(path) as (client, name):
            return watch(client, name, each=each)

    def release(self, name: str) -> Path:
        """Fetches and verifies a release; the folder."""
        out = self.folder / f"release-{name}"
        self.local.concord("release", "fetch", name, "--out", out)
        return out

    def model(self, name: str) -> dict[str, npt.NDArray[Any]]:
        return dict(load_file(self.release(name) / "model.safetensors"))


def watch(
    client: Federation,
    name: str,
    *,
    until: Callable[[Job], bool] = lambda job: job.ended,
    each: Callable[[Job], object] = lambda _job: None,
    seconds: float = JOB_SECONDS,
) -> Job:
    """The first view for which ``until`` holds. Fails after ``seconds``, or when the job ends before."""
    deadline = time.monotonic() + seconds
    last: Job | None = None
    for last in client.watch(name):
        each(last)
        if until(last):
            return last
        assert time.monotonic() < deadline, f"{name} took too long: {last.state} {last.reason} {last.current}"
    raise AssertionError(f"{name} ended as {last and last.state}: {last and last.reason}")


def workers(runs: Runs) -> list[int]:
    """The processes that the nodes have started and that still run."""
    found = []
    for service in runs.local.nodes.values():
        if service.process is not None:
            for child in psutil.Process(service.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):  # it ended while we looked
                    if child.status() != "zombie":
                        found.append(child.pid)
    return found


def plain_average(rounds: int, members: int, *, size: int = 10, rate: float = 0.5) -> npt.NDArray[np.float64]:
    """What the app ``tiny`` gives when everybody takes part in every round, computed plainly in float64."""
    vector = np.zeros(size)
    for round_number in range(1, rounds + 1):
        pulls = [(member + 1 - vector) * rate + round_number / 1024 for member in range(members)]
        vector = vector + sum(pulls) / members
    return vector
