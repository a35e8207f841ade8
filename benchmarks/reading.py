"""What a benchmark says: one JSON line, with the ratio to a peer measured in the same run on the same machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Reading:
    """``ours`` and ``peer`` in ``unit``: less is better, and ``ratio`` is peer / ours. ``detail``: further fields."""

    benchmark: str
    ours: float
    peer: float
    unit: str
    goal: str
    holds: bool
    detail: Mapping[str, object] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        return self.peer / self.ours

    def line(self) -> str:
        return json.dumps(
            {
                "benchmark": self.benchmark,
                "ours": round(self.ours, 4),
                "peer": round(self.peer, 4),
                "unit": self.unit,
                "ratio": round(self.ratio, 2),
                "goal": self.goal,
                "holds": self.holds,
                **self.detail,
            }
        )
