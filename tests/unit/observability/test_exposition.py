"""promtool reads what each service exports, with every family in it, and has nothing to say."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from federation.governance.charter import MEMBER_METRICS
from node_agent.telemetry.gpus import Reading
from tests.unit.agent.test_node_metrics import Node
from tests.unit.coordinator.test_metrics import Coordinator


def check(registry: CollectorRegistry) -> None:
    program = shutil.which("promtool")
    assert program, "promtool is not installed: `make prometheus`, or sudo apt-get install prometheus"
    said = subprocess.run(
        [program, "check", "metrics"], input=generate_latest(registry), capture_output=True, check=False
    )
    assert (said.returncode, said.stdout, said.stderr) == (0, b"", b"")


def test_the_coordinator_s(tmp_path: Path) -> None:
    coordinator = Coordinator(tmp_path)
    coordinator.case("digits")
    coordinator.registry.words, coordinator.sessions.members = MEMBER_METRICS, {"br"}
    coordinator.metrics.consents("denied", "br", ["rules.maxRounds: too many"])
    coordinator.metrics.call("Jobs/Get", 0.1)
    coordinator.metrics.call_failed("Jobs/Get", "not_found")
    check(coordinator.metrics.registry)
    coordinator.database.close()


def test_a_node_s(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.gpus = (Reading("0", 0.5, 80 << 30, 8 << 30, 41.0),)
    node.metrics.denied(["rules.maxRounds: too many"])
    node.metrics.called("Blobs/Get", "ok", 0.1)
    check(node.metrics.registry)
