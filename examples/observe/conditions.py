"""The alerts' conditions, asked without their bounds: whether each finds its series, and whether their labels fit each other.

A condition that no series meets is never met, and nobody notices. With ``bool`` a comparison answers 0 or 1 for whatever it
compares, so that each alternative of each condition has data in a federation that is well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import yaml

from examples.observe.prometheus import RULES, Prometheus

COMPARISON: Final = re.compile(r"(==|!=|>=|<=|>|<)")
ALTERNATIVE: Final = re.compile(r"\s+or\s+")


@dataclass(frozen=True, slots=True)
class Condition:
    alert: str
    side: str
    text: str
    """one alternative, without its bounds"""


def conditions() -> Iterator[Condition]:
    for group in yaml.safe_load((RULES / "alerts.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            for each in ALTERNATIVE.split(rule["expr"]):
                yield Condition(rule["alert"], rule["labels"]["side"], COMPARISON.sub(r"\1 bool", each))


def without_data(prometheus: Prometheus) -> tuple[Condition, ...]:
    """Those that find no series now."""
    return tuple(each for each in conditions() if not prometheus.query(each.text))
