"""A job that asks for data by what is true of it: the node's own descriptions decide; a denial tells no more than its catalogue."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from federation.catalogue.entry import published
from federation.identity.consent import Consent
from node_agent.catalogue.descriptions import Described
from node_agent.consent.decision import decide
from node_agent.settings import DataSet
from tests.unit.agent.homes import JOB, manifest_of
from tests.unit.agent.test_consent_decision import PARTIES, SITUATION, WIDE, policy
from tests.unit.catalogue.described import description, schema

HERE = Path(__file__).parent
HELD = DataSet(path=str(HERE), examples=1000, tags=("ward",)).with_description(Described(description().spec, schema()))
SECRET = DataSet(path=str(HERE), examples=50, tags=("genome",))
SETS = {"szivek": HELD, "ritka": SECRET}
ENTRY = published(HELD.entry("szivek"), ["schema", "columns"])


def answer(wanted: dict[str, Any], **changes: Any) -> Consent:
    document = yaml.safe_load(JOB)
    document["spec"]["dataSet"] = wanted
    at = dataclasses.replace(
        SITUATION,
        data_sets=SETS,
        policy=policy({**WIDE, "dataSets": ["szivek", "ritka"]}),
        published=lambda: (ENTRY,),
        **changes,
    )
    return decide(manifest_of(PARTIES, yaml.safe_dump(document)), at)


@pytest.mark.parametrize(
    "wanted",
    [
        {"schema": "heart-disease/1"},
        {"schema": "heart-disease/1", "columns": ["age", {"name": "chol", "unit": "mg/dL"}]},
        {"tags": ["cardiology"], "coverage": {"from": "1982", "places": ["HU"]}},
    ],
    ids=["schema", "columns", "coverage"],
)
def test_a_lab_finds_its_own_data_set_whatever_it_calls_it(wanted: dict[str, Any]) -> None:
    said = answer(wanted)
    assert said.granted, said.reasons
    assert (said.data_set, said.weight) == ("szivek", 512)


def test_the_policy_still_decides_which_data_sets_may_be_used() -> None:
    said = answer({"tags": ["genome"]})
    assert said.data_set == "ritka"
    at = dataclasses.replace(SITUATION, data_sets=SETS, policy=policy({**WIDE, "dataSets": ["other"]}))
    document = yaml.safe_load(JOB)
    document["spec"]["dataSet"] = {"schema": "heart-disease/1"}
    denied = decide(manifest_of(PARTIES, yaml.safe_dump(document)), at)
    assert denied.reasons == ("rules.dataSets: data set szivek is not allowed",)


def test_the_denial_names_what_does_not_fit() -> None:
    said = answer({"schema": "heart-disease/2", "columns": [{"name": "chol", "unit": "mmol/L"}, "thal"]})
    assert not said.granted
    assert said.reasons == (
        "rules.dataSets: this node has no data set that the job asks for "
        "(schema:heart-disease/2 column:chol column:thal)",
        "data set szivek: its schema is heart-disease/1, the job asks for heart-disease/2",
        "data set szivek: column chol is in mg/dL, the job reads mmol/L",
        "data set szivek: has no column thal",
    )


@pytest.mark.parametrize(
    "wanted",
    [
        {"tags": ["cardiology", "lung"]},
        {"tags": ["ward"], "coverage": {"places": ["FR"]}},
        {"name": "ritka", "schema": "heart-disease/1"},
        {"tags": ["genome"], "columns": ["age"]},
    ],
    ids=["tags", "coverage", "an unpublished set by name", "an unpublished set by tag"],
)
def test_a_denial_tells_nothing_that_is_not_published(wanted: dict[str, Any]) -> None:
    """Neither fields that stay in the lab, nor that it has another data set at all."""
    told = " ".join(answer(wanted).reasons[1:])
    for secret in ("genome", "ritka", "HU", "1981", "cardiology", "ward", "public-task"):
        assert secret not in told


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ({"neverTags": ["cardiology"]}, "carry a tag that this lab excludes"),
        ({"legalBasis": ["public-task"]}, "the job states no legal basis"),
        ({"dataTags": ["lung"]}, "carry none of the tags that this lab asks for"),
    ],
    ids=["a tag of the description", "legal basis", "no such tag"],
)
def test_policies_see_what_the_description_says(rules: dict[str, Any], told: str) -> None:
    at = dataclasses.replace(SITUATION, data_sets=SETS, policy=policy({**WIDE, "dataSets": ["szivek"], **rules}))
    document = yaml.safe_load(JOB)
    document["spec"]["dataSet"] = {"schema": "heart-disease/1"}
    denied = decide(manifest_of(PARTIES, yaml.safe_dump(document)), at)
    assert any(told in reason for reason in denied.reasons), denied.reasons
    assert "cardiology" not in " ".join(denied.reasons)


def test_a_data_set_on_another_legal_basis_than_the_policy_allows_is_not_used() -> None:
    at = dataclasses.replace(
        SITUATION, data_sets=SETS, policy=policy({**WIDE, "dataSets": ["szivek"], "legalBasis": ["consent"]})
    )
    document = yaml.safe_load(JOB)
    document["spec"] |= {"dataSet": {"schema": "heart-disease/1"}, "legalBasis": "consent"}
    (reason,) = decide(manifest_of(PARTIES, yaml.safe_dump(document)), at).reasons
    assert "held on a legal basis that is not allowed" in reason
    assert "public-task" not in reason
