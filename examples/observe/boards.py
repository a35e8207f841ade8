"""The dashboards' expressions, as Grafana asks them, and which of them Prometheus has answered with data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from examples.observe.prometheus import Prometheus

FOLDER: Final = Path(__file__).resolve().parents[2] / "observability" / "dashboards"
GPU: Final = "concord_node_gpu_"


@dataclass(frozen=True, slots=True)
class Expression:
    board: str
    panel: str
    text: str

    @property
    def needs_gpu(self) -> bool:
        return GPU in self.text


def expressions() -> Iterator[Expression]:
    for path in sorted(FOLDER.glob("*.json")):
        board: dict[str, Any] = json.loads(path.read_text())
        for panel in board["panels"]:
            for target in panel["targets"]:
                text = target["expr"]
                for variable in board["templating"]["list"]:
                    text = text.replace(f"${variable['name']}", variable.get("allValue", ""))
                yield Expression(path.stem, panel["title"], text)


@dataclass(slots=True)
class Boards:
    """What still waits for data. An expression about a job under way is answered while there is one."""

    gpus: bool
    pending: list[Expression] = field(default_factory=list)
    answered: dict[str, int] = field(default_factory=dict)
    left_out: int = 0

    def __post_init__(self) -> None:
        for each in expressions():
            self.answered.setdefault(each.board, 0)
            if each.needs_gpu and not self.gpus:
                self.left_out += 1
            else:
                self.pending.append(each)

    def ask(self, prometheus: Prometheus) -> None:
        """Once, each that is pending."""
        for each in list(self.pending):
            if prometheus.query(each.text):
                self.pending.remove(each)
                self.answered[each.board] += 1
