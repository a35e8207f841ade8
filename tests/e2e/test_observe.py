"""`make observe` as its users see it: a real Prometheus, every target up, every rule well, every dashboard with data, one alert
that fires when it should. With three members, so that it is quick."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from examples.observe.__main__ import FEW_ROUNDS
from examples.observe.boards import expressions
from examples.observe.prometheus import RULES
from tests.unit.observability.known import rules

ROOT = Path(__file__).resolve().parents[2]
MEMBERS = 3


@pytest.mark.pages
def test_prometheus_sees_a_federation_train(tmp_path: Path) -> None:
    assert shutil.which("prometheus"), "Prometheus is not installed: `make prometheus`"
    done = subprocess.run(
        [sys.executable, "-m", "examples.observe", "--folder", tmp_path / "observe", "--members", str(MEMBERS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["targets"] == MEMBERS + 1
    assert result["rules"] == sum(len(rules(path.name)) for path in RULES.glob("*.yaml"))
    assert result["rules_ill"] == {}
    assert result["conditions"] > len(rules("alerts.yaml"))
    assert result["conditions_without_series"] == []
    assert result["rounds_closed"] >= FEW_ROUNDS
    wanted = list(expressions())
    assert sum(result["expressions_with_data"].values()) + result["expressions_without_gpu"] == len(wanted) > 80
    assert result["expressions_without_gpu"] in {0, sum(each.needs_gpu for each in wanted)}
    assert set(result["alerts_while_training"]) <= {"SpoolNearlyFull"}, (
        "nothing is wrong, but perhaps this machine's disk"
    )
    assert "HaltActive" in result["alerts_after_the_halt"]
