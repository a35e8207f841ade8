"""The charts bring the alerts, recording rules and dashboards of observability/: copies of them, each side its own rules."""

import json
import runpy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm.charts import LEAST, ROOT, WATCHED, manifests, of_kind, over, rendered

COPIES: dict[Path, Path] = runpy.run_path(str(ROOT / "helm" / "copies.py"))["copies"]()


def test_the_charts_hold_what_observability_holds_and_nothing_else() -> None:
    there = {
        path
        for chart in LEAST
        for path in (ROOT / "helm" / chart / "files" / "observability").rglob("*")
        if path.is_file()
    }
    assert there == set(COPIES), "run: python helm/copies.py"
    stale = [str(copy) for copy, source in COPIES.items() if copy.read_bytes() != source.read_bytes()]
    assert stale == [], "run: python helm/copies.py"
    assert len(COPIES) >= 2 * (2 + 6)


def rules(chart: str) -> list[dict[str, Any]]:
    (document,) = of_kind(manifests(chart, "watched"), "PrometheusRule")
    assert document["metadata"]["labels"]["release"] == "prometheus"
    return [rule for group in document["spec"]["groups"] for rule in group["rules"]]


def test_every_rule_is_in_the_chart_of_its_side_as_it_stands_in_the_source() -> None:
    written = [
        rule
        for path in (ROOT / "observability" / "rules").glob("*.yaml")
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]
    halves = [rule for chart in LEAST for rule in rules(chart)]
    assert Counter(map(_text, halves)) == Counter(map(_text, written))
    assert {rule["labels"]["side"] for rule in rules("coordinator") if "alert" in rule} == {"coordinator"}
    assert {rule["labels"]["side"] for rule in rules("node-agent") if "alert" in rule} == {"node"}
    for rule in rules("node-agent"):
        assert "concord_node_" in str(rule["expr"])


@pytest.mark.parametrize("chart", LEAST)
@pytest.mark.parametrize("place", ["https://docs.example.org/runbooks", "http://docs.example.org:8000/a/runbooks/"])
def test_alerts_link_to_the_runbooks_where_they_are_served(chart: str, place: str) -> None:
    """Each to a page that the site has: `make docs` makes a folder of every page."""
    watched = over(WATCHED, {"metrics": {"prometheusRule": {"runbooks": place}}})
    (document,) = of_kind(rendered(chart, watched), "PrometheusRule")
    linked = [rule for group in document["spec"]["groups"] for rule in group["rules"]]
    assert [rule.get("alert", rule.get("record")) for rule in linked] == [
        rule.get("alert", rule.get("record")) for rule in rules(chart)
    ]
    for rule, as_written in zip(linked, rules(chart), strict=True):
        if "alert" in rule:
            page = rule["annotations"].pop("runbook_url").removeprefix(place.rstrip("/"))
            assert as_written["annotations"].pop("runbook_url") == f"docs/runbooks{page.rstrip('/')}.md"
            assert page.endswith("/")
            assert (ROOT / f"docs/runbooks{page.rstrip('/')}.md").is_file()
        assert rule == as_written, "nothing else is changed"


def _text(rule: dict[str, Any]) -> str:
    return json.dumps(rule, sort_keys=True)


@pytest.mark.parametrize("chart", LEAST)
def test_every_dashboard_comes_as_grafana_takes_it(chart: str) -> None:
    (document,) = (
        item for item in of_kind(manifests(chart, "watched"), "ConfigMap") if "dashboards" in item["metadata"]["name"]
    )
    assert document["metadata"]["labels"]["grafana_dashboard"] == "1"
    sources = sorted((ROOT / "observability" / "dashboards").glob("*.json"))
    assert sorted(document["data"]) == [path.name for path in sources]
    for path in sources:
        assert json.loads(document["data"][path.name]) == json.loads(path.read_text())
    assert sum(map(len, document["data"].values())) < 1 << 20, "a ConfigMap holds no more"


@pytest.mark.parametrize("chart", LEAST)
def test_none_of_it_is_there_unless_it_is_asked_for(chart: str) -> None:
    kinds = Counter(document["kind"] for document in rendered(chart, {}))
    assert kinds["ServiceMonitor"] == kinds["PrometheusRule"] == 0
    assert kinds["ConfigMap"] == {"coordinator": 1, "node-agent": 2}[chart]
