"""`concord-node try`: what a lab learns before it consents, with its own data, policy and sandbox; nothing leaves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from federation.errors import PolicyDenied, TaskFailed, exit_code
from tests.e2e.runs import FAULTY, Runs

SECRET = "patient-4711"
HOOK = """
import sys
def hook(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo") and not isinstance(arguments[1], str):
        raise RuntimeError(f"a rehearsal reaches out: {event} {arguments[1:]}")
sys.addaudithook(hook)
"""


def attempt(runs: Runs, job: Path, hooks: Path) -> subprocess.CompletedProcess[str]:
    home = runs.local.nodes["ar"].home
    root = Path(__file__).resolve().parents[2]
    return subprocess.run(
        [sys.executable, "-m", "node_agent.main", "try", str(job), "--home", str(home)],
        env={**os.environ, "PYTHONPATH": f"{hooks}:{root}"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


@pytest.fixture
def hooks(tmp_path: Path) -> Path:
    """Makes the command's own Python fail as soon as it looks up or dials anybody."""
    (tmp_path / "sitecustomize.py").write_text(HOOK)
    return tmp_path


def test_a_rehearsal_tells_the_decision_the_bytes_and_the_figures_and_dials_nobody(three: Runs, hooks: Path) -> None:
    home = three.local.nodes["ar"].home
    before = {path.name for path in home.iterdir()} | {"rehearsal.log"}
    done = attempt(three, three.document("tried"), hooks)
    assert done.returncode == 0, done.stderr
    assert "granted" in done.stdout
    assert "bytes a round, masked (16 bits a number)" in done.stdout
    assert "train/train_loss = 1" in done.stdout
    assert {path.name for path in home.iterdir()} <= before
    with three.local.client() as client:
        assert not any(job.name.startswith("tried") for job in client.jobs())


def test_a_rehearsal_warns_of_a_figure_that_is_a_count(three: Runs, hooks: Path) -> None:
    """It leaves only where the lab's policy names it; even then the lab is told what it tells."""
    home = three.local.nodes["ar"].home
    kept = (home / "policy.yaml").read_text()
    job = three.document("counts", metrics={"train": ["train_loss", "rows"], "evaluate": []})
    denied = attempt(three, job, hooks)
    assert "rules.figures: the job lets train/rows leave as exact sums" in denied.stderr
    rules = yaml.safe_load(kept)
    rules["rules"]["figures"].append("rows")
    (home / "policy.yaml").write_text(yaml.safe_dump(rules))
    try:
        done = attempt(three, job, hooks)
    finally:
        (home / "policy.yaml").write_text(kept)
    assert done.returncode == 0, done.stderr
    lines = {line.split(" = ")[0].strip(): line for line in done.stdout.splitlines() if " = " in line}
    assert "WARNING: a whole number" in lines["train/rows"]
    assert "WARNING" not in lines["train/train_loss"]


def test_a_rehearsal_that_the_policy_denies_says_every_reason_and_runs_nothing(three: Runs, hooks: Path) -> None:
    log = three.local.nodes["ar"].home / "rehearsal.log"
    log.unlink(missing_ok=True)
    job = three.document("denied", dataSet="elsewhere", participants={"minMembers": 3})
    done = attempt(three, job, hooks)
    assert done.returncode == exit_code(PolicyDenied(""))
    assert "denied" in done.stdout
    assert "elsewhere" in done.stderr + done.stdout
    assert "what to do" in done.stderr
    assert not log.exists()


def test_a_task_that_raises_shows_the_lab_everything(three: Runs, hooks: Path) -> None:
    config = {"fault": "raise", "fault-partition": -1, "fault-round": 0, "path": ""}
    done = attempt(three, three.document("raises", app=FAULTY, run_config=config), hooks)
    assert done.returncode == exit_code(TaskFailed(""))
    assert "RowRefused" in done.stderr
    assert "client_app.py" in done.stderr
    assert SECRET not in done.stderr + done.stdout
    assert SECRET in (three.local.nodes["ar"].home / "rehearsal.log").read_text()


def test_the_hook_of_these_tests_notices_a_connection(hooks: Path) -> None:
    dials = "import socket; socket.create_connection(('127.0.0.1', 9))"
    done = subprocess.run(
        [sys.executable, "-c", dials],
        env={**os.environ, "PYTHONPATH": str(hooks)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "a rehearsal reaches out" in done.stderr
