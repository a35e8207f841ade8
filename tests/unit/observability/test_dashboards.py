"""Dashboards: each expression is PromQL over series and labels that there are, and Grafana can lay the panels out."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from federation.halt.levels import Level
from tests.unit.observability.known import chosen, dashboards, labels_of, named, promtool, rules, series, targets

BOARDS = dashboards()
STANDING = {"instance"}
"""labels that Prometheus gives each target"""


def test_the_six_are_there() -> None:
    assert set(BOARDS) == {"overview", "rounds", "members", "privacy", "audit", "infrastructure"}
    assert len({board["uid"] for board in BOARDS.values()}) == len(BOARDS)


def test_every_expression_is_promql(tmp_path: Path) -> None:
    group = [
        {"record": f"parsed:{name}:{number}", "expr": chosen(board, expression)}
        for name, board in BOARDS.items()
        for number, (_, expression) in enumerate(targets(board))
    ]
    assert len(group) > 80
    file = tmp_path / "expressions.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": group}]}))
    said = promtool("check", "rules", "--lint=none", file)
    assert said.returncode == 0, said.stderr
    group[0]["expr"] += ")"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": group}]}))
    assert promtool("check", "rules", "--lint=none", file).returncode != 0


@pytest.mark.parametrize("name", BOARDS)
def test_expressions_name_series_and_labels_that_there_are(name: str) -> None:
    known = series()
    for title, expression in targets(BOARDS[name]):
        names = named(expression)
        assert names, (title, expression)
        assert names <= set(known), (title, names - set(known))
        allowed = {label for each in names for label in known[each]} | STANDING
        assert labels_of(expression) <= allowed, (title, labels_of(expression) - allowed)


@pytest.mark.parametrize("name", BOARDS)
def test_panels_are_explained_and_do_not_lie_on_each_other(name: str) -> None:
    board = BOARDS[name]
    places: list[dict[str, int]] = [panel["gridPos"] for panel in board["panels"]]
    for panel in board["panels"]:
        assert panel["title"]
        assert panel["description"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${datasource}", "a dashboard works with whichever Prometheus is chosen"
    for one, other in combinations(places, 2):
        assert not overlap(one, other), (one, other)
    assert all(place["x"] + place["w"] <= 24 for place in places)
    assert len({panel["id"] for panel in board["panels"]}) == len(places)


@pytest.mark.parametrize("name", BOARDS)
def test_a_panel_without_data_says_why_and_figures_that_alarm_have_a_colour(name: str) -> None:
    """Grafana's own "No data" would leave people to guess between "all is well" and "nothing is scraped"."""
    for panel in BOARDS[name]["panels"]:
        defaults = panel["fieldConfig"]["defaults"]
        expressions = " ".join(target["expr"] for target in panel["targets"])
        assert defaults["noValue"].endswith("."), panel["title"]
        if "concord_member_" in expressions:
            assert "charter" in defaults["noValue"]
        if "halt_level" in expressions:
            words = {value["text"] for value in defaults["mappings"][0]["options"].values()}
            assert words == {level.name for level in Level}
        if panel["type"] == "stat":
            assert panel["options"]["colorMode"] == ("value" if "thresholds" in defaults else "none"), panel["title"]
        elif "thresholds" in defaults:
            assert defaults["custom"]["thresholdsStyle"]["mode"] == "line"
        steps = defaults.get("thresholds", {}).get("steps", [])
        assert [step["value"] for step in steps[1:]] == sorted(step["value"] for step in steps[1:])
        assert all(step["value"] is None for step in steps[:1])


def test_lines_in_panels_are_where_the_alerts_fire() -> None:
    drawn = {
        (name, panel["title"]): [step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1:]]
        for name, board in BOARDS.items()
        for panel in board["panels"]
        if "thresholds" in panel["fieldConfig"]["defaults"]
    }
    fires = {(rule["alert"], rule["labels"]["side"]): rule["expr"] for rule in rules("alerts.yaml")}
    for alert, side, panel, bound in (
        ("PrivacyBudgetNearlySpent", "node", ("privacy", "Budget spent"), 0.8),
        ("SpoolNearlyFull", "coordinator", ("infrastructure", "Disk that is free"), 0.1),
        ("CertificateExpiringSoon", "coordinator", ("infrastructure", "Certificates"), 0.2),
        ("NodeSilent", "coordinator", ("members", "Longest absence"), 900),
        ("AuditHeadStale", "node", ("audit", "Nodes: the log was checked"), 600),
    ):
        assert re.search(rf"[<>] {bound}\b", fires[alert, side]), (alert, side)
        assert drawn[panel][0] == bound


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return all(
        one[start] < other[start] + other[length] and other[start] < one[start] + one[length]
        for start, length in (("x", "w"), ("y", "h"))
    )


def test_variables_ask_for_labels_that_there_are() -> None:
    known = series()
    for board in BOARDS.values():
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                metric, label = asked(variable)
                assert label in known[metric]


def asked(variable: dict[str, Any]) -> tuple[str, str]:
    metric, label = variable["query"]["query"].removeprefix("label_values(").removesuffix(")").split(", ")
    return metric, label
