"""What the chart writes as node.yaml and policy.yaml is what the node reads: its own readers take every case."""

from typing import Any

import pytest

from federation.policy.rules import load_policy
from node_agent.settings import parse_settings
from tests.helm.charts import BUDGET, CASES, manifests, of_kind


def written(case: str) -> dict[str, str]:
    return {
        name: text
        for item in of_kind(manifests("node-agent", case), "ConfigMap")
        for name, text in item["data"].items()
    }


@pytest.mark.parametrize("case", CASES["node-agent"])
def test_the_node_takes_its_settings(case: str) -> None:
    values: dict[str, Any] = CASES["node-agent"][case]
    text = f'{written(case)["node.yaml"]}metrics: "10.1.2.3:9464"\n'  # as prepare.sh adds it
    settings = parse_settings(text.encode(), "node.yaml")
    assert (settings.federation, settings.member, settings.node) == ("atlas", "br", "br-1")
    assert settings.address == values.get("coordinator", {}).get("address", "concord.example.org:7443")
    assert settings.consent == values.get("consent", "rule")
    assert set(settings.data_sets) == set(values.get("dataSets", ()))
    for name, held in settings.data_sets.items():
        given = values["dataSets"][name]
        assert held.path == f"/data/{name}"
        assert held.examples == given["examples"]
        budget = held.privacy_budget
        assert (budget.model_dump() if budget else None) == ({**BUDGET} if "privacyBudget" in given else None)


def test_the_policy_denies_all_unless_it_says_more() -> None:
    rules = load_policy(written("least")["policy.yaml"], "policy.yaml").rules
    assert set(rules.model_dump(exclude_unset=True)) == set(), "a rule that is left out denies"


@pytest.mark.parametrize("case", CASES["node-agent"])
def test_the_node_takes_its_policy(case: str) -> None:
    held = written(case)
    if "policyFrom" in CASES["node-agent"][case]:
        assert "policy.yaml" not in held
        return
    policy = load_policy(held["policy.yaml"], "policy.yaml")
    assert policy.sandbox_required is (case != "unsandboxed")
