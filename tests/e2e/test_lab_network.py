"""A lab whose only way out is a proxy, in network namespaces of its own: `doctor --before-join`, joining, and long silence."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.lab_network import COORDINATOR, IDLE, PASSWORD

ROOT = Path(__file__).resolve().parents[2]
NAMESPACES = ("unshare", "--user", "--map-root-user", "--net")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("fenced")
    run = subprocess.run(
        [*NAMESPACES, sys.executable, "-m", "tests.e2e.lab_network", str(folder)],
        cwd=ROOT, capture_output=True, text=True, timeout=170, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    document: dict[str, Any] = json.loads(run.stdout)
    return document


def coordinator_of(answer: dict[str, Any]) -> dict[str, str]:
    (found,) = [each for each in json.loads(answer["out"])["findings"] if each["topic"] == "coordinator"]
    return dict(found)


@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    ("way", "code", "says"),
    [
        ("straight", 1, "cannot be reached"),
        ("open", 0, "answers, and is the coordinator of fenced; the ticket is still unused"),
        ("without credentials", 1, "answers HTTP 407"),
        ("with credentials", 0, "answers, and is the coordinator of fenced; the ticket is still unused"),
        ("closed", 1, "answers HTTP 403"),
    ],
)
def test_the_way_is_tested_before_a_node_joins(told: dict[str, Any], way: str, code: int, says: str) -> None:
    found = coordinator_of(told[way])
    assert told[way]["code"] == code, told[way]
    assert says in found["says"]
    assert found["state"] == ("wrong" if code else "ok")
    assert bool(found["todo"]) == bool(code)
    assert "unreachable" in found["todo"] or way != "straight"


def test_the_letter_says_host_port_direction_and_why(told: dict[str, Any]) -> None:
    host, _, port = COORDINATOR.rpartition(":")
    for text in (json.loads(told["straight"]["out"])["letter"], told["people"]):
        for words in (
            f"host       {host}\n",
            f"port       {port}, TCP",
            "outbound",
            "nothing comes in",
            "Why: ",
            "fenced",
        ):
            assert words in text, text
    assert "by CONNECT to" in told["people"]


def test_a_node_joins_and_runs_through_it_and_its_password_is_nowhere(told: dict[str, Any]) -> None:
    assert told["joined"][0] == 0, told["joined"]
    assert told["running"]["code"] == 0, told["running"]
    states = {each["topic"]: each["state"] for each in json.loads(told["running"]["out"])}
    assert "wrong" not in states.values()
    assert states["coordinator"] == states["credential"] == states["certificates"] == states["database"] == "ok"
    everything = json.dumps(told)
    assert PASSWORD not in everything
    assert PASSWORD.replace(" ", "%20") not in everything


def test_a_proxy_that_cuts_what_is_silent_for_a_minute_cuts_no_node(told: dict[str, Any]) -> None:
    """It cuts after half a minute here, and did cut a connection on which nobody said anything."""
    assert IDLE < 60
    opened, at_the_end, cut, cut_for_silence = told["links"]
    assert (cut, opened) == (0, at_the_end)
    assert cut_for_silence >= 1
    assert 15 < told["longest silence"] < IDLE
