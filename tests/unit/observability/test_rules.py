"""Alerts and recording rules: they fire when they should and not otherwise, name what there is, and each has its runbook."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import yaml

from tests.unit.observability.known import ROOT, RULES, RUNBOOKS, labels_of, named, promtool, rules, series

CASES = Path(__file__).parent / "alerts.test.yaml"
ALERTS = {
    *("RoundStalled", "QuorumAtRisk", "NodeSilent", "CertificateExpiringSoon", "AuditHeadStale"),
    *("AuditVerificationFailed", "ProtocolViolation", "PrivacyBudgetNearlySpent", "ConsentRevokedMidJob"),
    *("HaltActive", "SpoolNearlyFull"),
}
TARGET = "instance"
"""the label that Prometheus gives the series of each service"""
PARTS = ["Meaning", "Impact", "Diagnosis", "Action"]


def test_the_rules_are_well_formed() -> None:
    for file in ("recording.yaml", "alerts.yaml"):
        said = promtool("check", "rules", "--lint=all", "--lint-fatal", RULES / file)
        assert said.returncode == 0, said.stderr


def test_alerts_fire_and_do_not_fire_as_their_cases_say() -> None:
    said = promtool("test", "rules", CASES)
    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.parametrize(
    ("alert", "rule", "instead"),
    [
        ("HaltActive", "expr: concord_halt_orders > 0", "expr: concord_halt_orders > 5"),
        ("RoundStalled", "> 2 * concord_job_round_limit_seconds", "> 1 * concord_job_round_limit_seconds"),
        ("CertificateExpiringSoon", "< 30 * 86400", "< 300 * 86400"),
    ],
)
def test_the_cases_notice_another_threshold(tmp_path: Path, alert: str, rule: str, instead: str) -> None:
    text = (RULES / "alerts.yaml").read_text()
    assert rule in text
    (tmp_path / "alerts.yaml").write_text(text.replace(rule, instead))
    cases = yaml.safe_load(CASES.read_text())
    cases["tests"] = [case for case in cases["tests"] if case["name"].startswith(alert)]
    cases["rule_files"] = [str(tmp_path / "alerts.yaml"), str(RULES / "recording.yaml")]
    (tmp_path / "cases.yaml").write_text(yaml.safe_dump(cases))
    assert promtool("test", "rules", tmp_path / "cases.yaml").returncode != 0


def test_each_alert_is_tested_for_firing_and_for_not_firing_on_each_side() -> None:
    present = {(rule["alert"], rule["labels"]["side"]) for rule in rules("alerts.yaml")}
    assert {alert for alert, _ in present} == ALERTS
    fired: set[tuple[str, str]] = set()
    silent: set[str] = set()
    for case in yaml.safe_load(CASES.read_text())["tests"]:
        alert = case["name"].split(":")[0]
        samples = case["promql_expr_test"][0]["exp_samples"]
        for sample in samples:
            if match := re.match(r'\{alertname="(\w+)", side="(\w+)"\}', sample["labels"]):
                fired.add((match[1], match[2]))
        if not samples:
            silent.add(alert)
    assert fired == present
    assert silent == ALERTS


def test_rules_name_series_and_labels_that_there_are() -> None:
    known = series()
    for rule in (*rules("recording.yaml"), *rules("alerts.yaml")):
        names = named(rule["expr"])
        assert names, rule
        assert names <= set(known), f"{rule}: {names - set(known)}"
        allowed = {label for name in names for label in known[name]} | {TARGET}
        assert labels_of(rule["expr"]) <= allowed, rule


def test_annotations_use_labels_that_the_alert_has() -> None:
    known = series()
    for rule in rules("alerts.yaml"):
        used = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
        assert used <= {label for name in named(rule["expr"]) for label in known[name]}, rule


def test_each_alert_has_a_runbook_and_each_runbook_an_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md") if path.name != "README.md"} == ALERTS
    for rule in rules("alerts.yaml"):
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{rule['alert']}.md"
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]
        assert rule["labels"]["severity"] in {"warning", "critical"}


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_a_runbook_says_what_it_means_what_it_does_what_to_look_at_and_what_to_do(alert: str) -> None:
    text = (RUNBOOKS / f"{alert}.md").read_text()
    assert text.startswith(f"# {alert}\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == PARTS
    for part in text.split("\n## ")[1:]:
        assert len(part.split()) > 15, part


def test_commands_in_the_runbooks_exist() -> None:
    commands = set(runpy.run_path(str(ROOT / "docs" / "reference" / "generate.py"))["commands"]())
    groups = {command.rsplit(" ", 1)[0] for command in commands}
    seen = 0
    for path in RUNBOOKS.glob("*.md"):
        for line in re.findall(r"(?:`|^)(concord[a-z-]*(?: [a-z-]+)+)", path.read_text(), re.MULTILINE):
            words = line.split()
            whole = [" ".join(words[:end]) for end in range(2, len(words) + 1)]
            assert commands & set(whole), f"{path.name}: {line}"
            assert groups, "there are commands"
            seen += 1
    assert seen > 15


def test_metrics_in_the_runbooks_exist() -> None:
    known = series()
    for path in RUNBOOKS.glob("*.md"):
        for name in re.findall(r"`(concord_[a-z0-9_]+)", path.read_text()):
            assert name in known, f"{path.name}: {name}"


def test_log_lines_in_the_runbooks_are_written() -> None:
    sources = "".join(
        path.read_text() for room in ("coordinator", "node_agent") for path in (ROOT / room).rglob("*.py")
    )
    seen = 0
    for path in RUNBOOKS.glob("*.md"):
        for event in re.findall(r"`((?:log|node|member|link|witness|certificate|halt)\.[a-z-]+)`", path.read_text()):
            assert f'"{event}"' in sources, f"{path.name}: {event}"
            seen += 1
    assert seen >= 8
