"""Nobody is told that Concord runs, or what: no telemetry, no update check, no usage report.

A process is watched from within by Python's audit hooks, with none of the switches set from outside.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from node_agent.runner.environment import worker_environment

ROOT = Path(__file__).resolve().parents[3]
SWITCHES = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "RAY_USAGE_STATS_ENABLED": "0"}

WATCH = """
import importlib, sys, threading
calls = []
watched = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request"}
def hook(event, arguments):
    if event in watched:
        calls.append(event)
        raise PermissionError(event)
sys.addaudithook(hook)
"""

OUTER_STEP = """
import numpy as np
from federation.manifest.strategy import DEFAULTS, StrategySpec
from federation.weights.outer_step import message_config, next_parts
from federation.weights.state import ModelState
for name, parameters in DEFAULTS.items():
    spec = StrategySpec(name, parameters)
    message_config(spec, 1)
    state = ModelState(1, {"w": np.zeros(4, np.float32)}, {}, np.zeros(1, np.int8))
    list(next_parts(spec, state, [np.ones(4)]))
print("stepped", "flwr" in sys.modules)
"""

IMPORTS = """
for name in ("coordinator.main", "coordinator.client.main", "node_agent.main", "node_agent.runner.flower_app"):
    importlib.import_module(name)
"""

REPORT = """
for thread in threading.enumerate():
    if thread is not threading.current_thread():
        thread.join(10)
print(*calls)
"""


def watched(code: str, home: Path) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if name not in SWITCHES}
    environment |= {"HOME": str(home), "FLWR_HOME": str(home)}
    result = subprocess.run(
        [sys.executable, "-c", WATCH + code + REPORT],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def test_the_outer_step_calls_nobody_and_loads_no_flower(tmp_path: Path) -> None:
    assert watched(OUTER_STEP, tmp_path) == ["stepped", "False"]


def test_loading_every_command_and_flowers_client_calls_nobody(tmp_path: Path) -> None:
    assert watched(IMPORTS, tmp_path) == []


def test_the_watch_has_teeth(tmp_path: Path) -> None:
    """Flower's own event, with its telemetry left on, is seen and stopped."""
    code = "import flwr.supercore.telemetry as telemetry\ntelemetry.event(telemetry.EventType.PING).exception(10)\n"
    assert watched(code, tmp_path) == ["urllib.Request"]


def test_a_worker_is_told_to_be_silent() -> None:
    environment = worker_environment(
        home="/scratch", temporary="/tmp", library="/library", cpus=1, sandbox="bubblewrap", devices={}
    )
    assert environment.items() >= SWITCHES.items()


@pytest.mark.parametrize("switch", sorted(SWITCHES))
def test_every_make_target_is_told_to_be_silent(switch: str) -> None:
    assert re.search(rf"^export {switch} := {SWITCHES[switch]}$", (ROOT / "Makefile").read_text(), re.MULTILINE)
