"""`concord explain` and the reference pages say what the schema says."""

from pathlib import Path

import pytest

from federation.errors import NotFound
from federation.manifest import explain
from federation.policy import page

REFERENCE = Path(__file__).resolve().parents[3] / "docs" / "reference"


def test_the_reference_pages_are_those_of_the_schemas() -> None:
    assert (REFERENCE / "job.md").read_text() == explain.reference_page()
    assert (REFERENCE / "policy.md").read_text() == page.reference_page()


def test_every_field_has_a_meaning() -> None:
    assert [field.path for field in explain.fields() if not field.meaning] == []
    assert len({field.path for field in explain.fields()}) == len(explain.fields())


def test_a_field_is_explained_with_its_type_and_default() -> None:
    text = explain.explain("job.spec.rounds")
    assert text.startswith("job.spec.rounds (whole number, default 10)")
    assert explain.explain("spec.rounds") == text
    assert "job.spec.participants.minMembers" in explain.explain("job.spec.participants")
    assert "job.metadata.name (text, required)" in explain.explain("job")


def test_an_unknown_field_names_the_nearest() -> None:
    with pytest.raises(NotFound) as raised:
        explain.explain("job.spec.round")
    assert "job.spec.rounds" in raised.value.hint
