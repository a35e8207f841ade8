"""What README and the tutorial tell people to type works, word for word; only the ports are others, and the job is shorter."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.runs import Runs

ROOT = Path(__file__).resolve().parents[2]


def blocks(page: Path) -> str:
    """The shell blocks of a page, one after the other."""
    return "".join(re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.pages
@pytest.mark.timeout(240)
def test_a_federation_by_hand(tmp_path: Path) -> None:
    script = blocks(ROOT / "docs" / "tutorial.md")
    replaced = {
        ". .venv/bin/activate\n": "",
        "127.0.0.1:7443": f"127.0.0.1:{free_port()}",
        "127.0.0.1:9464": "127.0.0.1:0",
        "../../models": str(ROOT / "models"),
        "  dataSet: digits\n": "  dataSet: digits\n  rounds: 2\n",
        " &\n": " & echo $! >> pids\n",
        "kill $(jobs -p)\n": "kill $(jobs -p); wait\n",
    }
    for old, new in replaced.items():
        assert old in script, old
        script = script.replace(old, new)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CONCORD_")}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    try:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
    finally:
        pids = tmp_path / "runs" / "atlas" / "pids"
        left = [int(pid) for pid in pids.read_text().split()] if pids.exists() else []
        for pid in left:
            if Path(f"/proc/{pid}").exists():
                os.kill(pid, 9)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "finished" in done.stdout
    assert {"digits.png", "digits.svg"} <= {path.name for path in (tmp_path / "runs" / "atlas").iterdir()}
    assert "the job has 500 rounds, this lab allows 100" in done.stdout, done.stdout
    assert "Kenya would deny it" in done.stdout
    assert "release: 19 checks ok" in done.stdout + done.stderr
    assert len(left) == 4


def test_the_error_that_it_shows_is_the_one_that_people_get(three: Runs, tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text()
    shown = text.split("$ concord apply -f job.yaml\n")[1].split("```")[0].strip().splitlines()
    spec = "spec:\n  app: ./app\n  dataSet: digits\n  round: 10\n"
    (tmp_path / "job.yaml").write_text(f"apiVersion: concord/v1\nkind: TrainingJob\nmetadata: {{name: digits}}\n{spec}")
    command = [
        sys.executable,
        "-m",
        "coordinator.client.main",
        "apply",
        "-f",
        "job.yaml",
        "--home",
        str(three.local.lead_home),
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.stderr.strip().splitlines() == shown
    assert done.returncode == 5
