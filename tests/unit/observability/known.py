"""What rules and dashboards may name: the metrics of both services, as declared, and what the recording rules make of them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from coordinator.web import families as coordinators
from node_agent.telemetry import families as nodes

ROOT = Path(__file__).resolve().parents[3]
RULES = ROOT / "observability" / "rules"
DASHBOARDS = ROOT / "observability" / "dashboards"
RUNBOOKS = ROOT / "docs" / "runbooks"
NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
PROCESS = (
    *("virtual_memory_bytes", "resident_memory_bytes", "start_time_seconds", "cpu_seconds_total", "open_fds"),
    "max_fds",
)
Labels = dict[str, tuple[str, ...]]


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("promtool")
    assert program, "promtool is not installed: `make prometheus`, or sudo apt-get install prometheus"
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)


def rules(name: str) -> list[dict[str, Any]]:
    document = yaml.safe_load((RULES / name).read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def series() -> Labels:
    """Every name that a query may use, with its labels."""
    found: Labels = {}
    for family in (*coordinators.FAMILIES.values(), *nodes.FAMILIES.values()):
        if family.kind == "histogram":
            found |= {f"{family.name}_{part}": family.labels for part in ("sum", "count")}
            found[f"{family.name}_bucket"] = (*family.labels, "le")
        else:
            found[family.exposed] = family.labels
    for service in ("concord", "concord_node"):
        found |= {f"{service}_process_{name}": () for name in PROCESS}
    found |= {rule["record"]: ("outcome", "phase", "method", "job", "certificate") for rule in rules("recording.yaml")}
    found["ALERTS"] = ("alertname", "alertstate", "side", "severity")
    return found


def named(expression: str) -> set[str]:
    """The series that an expression names: words of the language, of its functions, and of labels do not begin like them."""
    return {
        name
        for name in NAME.findall(re.sub(r'"[^"]*"', '""', expression))
        if name.startswith(("concord", "ALERTS")) or name in {"up"}
    }


def labels_of(expression: str) -> set[str]:
    """The labels that its selectors, groupings and matchings name."""
    plain = re.sub(r'"[^"]*"', '""', expression)
    found = {name for body in re.findall(r"\{([^}]*)\}", plain) for name in re.findall(r"(\w+)\s*(?:=|!)", body)}
    for body in re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", plain):
        found |= {name.strip() for name in body.split(",") if name.strip()}
    return found


def dashboards() -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}


def targets(board: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(panel's title, expression)"""
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def chosen(board: dict[str, Any], expression: str) -> str:
    """The expression as Grafana asks it when All is chosen."""
    for variable in board["templating"]["list"]:
        expression = expression.replace(f"${variable['name']}", variable.get("allValue", ""))
    return expression
