"""Descriptions and schemas that people write: whoever errs is told the file, the line, the field, and what to do."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.catalogue.coverage import Coverage, first_day, last_day
from federation.catalogue.description import load_description
from federation.catalogue.entry import Facts, entry_of, published, read_entry
from federation.catalogue.schema import load_schema
from federation.errors import InvalidManifest
from federation.manifest.document import load_job
from tests.unit.catalogue.described import COLUMNS, SPEC, description_text, schema, schema_text

HEART = Path(__file__).resolve().parents[3] / "models" / "heart_disease"


def test_the_order_of_columns_and_the_layout_of_the_file_are_no_part_of_a_schema() -> None:
    assert schema(COLUMNS[::-1]).digest == schema().digest
    assert load_schema(f"# a remark\n{schema_text()}\n\n", "x").digest == schema().digest


def test_a_schemas_digest_is_what_the_page_says() -> None:
    """Computed from docs/protocol/catalogue.md alone."""
    columns = [
        {"meaning": "", "nullable": False, **column} for column in sorted(COLUMNS, key=lambda item: item["name"])
    ]
    spec = {"name": "heart-disease/1", "title": "Patients", "source": "", "columns": columns}
    plain = json.dumps(spec, sort_keys=True, separators=(",", ":")).encode()
    assert schema().digest == hashlib.sha256(plain).digest()


@pytest.mark.parametrize("index", range(len(COLUMNS)))
def test_every_field_of_a_column_is_part_of_a_schema(index: int) -> None:
    changes: list[dict[str, Any]] = [
        {"name": "other"},
        {"meaning": "another"},
        {"nullable": not COLUMNS[index].get("nullable")},
    ]
    column = COLUMNS[index]
    changes += [{"unit": "mo"}, {"minimum": -1}, {"maximum": 1000}] if column["type"] in {"integer", "number"} else []
    changes += [{"codes": {"0": "female", "1": "man"}}] if "codes" in column else []
    digests = {schema().digest, schema(name="heart-disease/2").digest}
    for change in changes:
        digests.add(
            schema([{**item, **change} if place == index else item for place, item in enumerate(COLUMNS)]).digest
        )
    assert len(digests) == 2 + len(changes)


def column(**fields: Any) -> str:
    return schema_text([{"name": "age", "type": "integer", **fields}])


WRONG_SCHEMAS: dict[str, tuple[str, str, str]] = {
    "no mapping": ("- a", "", "a schema is a mapping"),
    "unknown field": (column(units="a"), "spec.columns[0].units", "Did you mean unit?"),
    "no columns": (schema_text([]), "spec.columns", "at least 1 item"),
    "no version": (schema_text(name="heart-disease"), "spec.name", "a schema's name and version"),
    "unit of everyday": (column(unit="years"), "spec.columns[0].unit", "is not one of the units"),
    "type of a database": (column(type="varchar"), "spec.columns[0].type", "'integer', 'number', 'boolean'"),
    "unit of a text": (column(type="text", unit="a"), "spec.columns[0].unit", "not of a text"),
    "range upside down": (column(minimum=3, maximum=2), "spec.columns[0].minimum", "is above maximum"),
    "category without codes": (column(type="category"), "spec.columns[0].codes", "a category is one of its codes"),
    "codes of a number": (column(type="number", codes={"1": "x"}), "spec.columns[0].codes", "not of a number"),
    "codes that are no integers": (column(codes={"a": "x"}), "spec.columns[0].codes", "no whole number"),
    "shape of an integer": (column(shape=[28]), "spec.columns[0].shape", "of an image"),
    "a column twice": (schema_text([COLUMNS[0], dict(COLUMNS[0])]), "spec.columns[1].name", "second column age"),
    "formula": (column(name="=1+1"), "spec.columns[0].name", "should begin with a letter"),
    "spaces around": (column(name=" age"), "spec.columns[0].name", "should begin with a letter"),
    "line break": (column(name="a\nb"), "spec.columns[0].name", "nothing that cannot be shown"),
    "infinity": (column(minimum=float("inf")), "spec.columns[0].minimum", "not a finite number"),
    "too many columns": (
        schema_text([{"name": f"c{n}", "type": "text"} for n in range(513)]),
        "spec.columns",
        "at most 512",
    ),
}


@pytest.mark.parametrize(("text", "field", "told"), WRONG_SCHEMAS.values(), ids=WRONG_SCHEMAS)
def test_a_wrong_schema_names_line_field_and_remedy(text: str, field: str, told: str) -> None:
    with pytest.raises(InvalidManifest) as said:
        load_schema(text, "schema.yaml")
    assert said.value.message.startswith("schema.yaml:")
    assert said.value.field == field
    assert said.value.line >= 1
    assert told in f"{said.value.message} {said.value.hint}"


WRONG_DESCRIPTIONS: dict[str, tuple[dict[str, Any], str, str]] = {
    "unknown field": ({"licenze": "x"}, "spec.licenze", "Did you mean licence?"),
    "a count": ({"examples": 5}, "spec.examples", "unknown field"),
    "published twice": ({"publish": ["title", "title"]}, "spec.publish", "names title twice"),
    "publishes what no entry holds": ({"publish": ["path"]}, "spec.publish[0]", "'title', 'description'"),
    "codes without columns": ({"publish": ["codes"]}, "spec.publish", "without columns"),
    "columns without a schema": ({"schema": None, "publish": ["columns"]}, "spec.publish", "has no schema"),
    "jurisdiction": ({"jurisdiction": "hungary"}, "spec.jurisdiction", "an ISO 3166 code"),
    "basis": ({"legalBasis": "because"}, "spec.legalBasis", "'consent', 'contract'"),
    "licence": ({"licence": "free for all"}, "spec.licence", "SPDX"),
    "time": ({"coverage": {"from": "spring"}}, "spec.coverage.from", 'is not a year, month or day such as "1981"'),
    "a number for a year": ({"coverage": {"from": 1981}}, "spec.coverage.from", "valid string"),
    "time upside down": ({"coverage": {"from": "1988", "to": "1987-12"}}, "spec.coverage", "after its end"),
    "header twice": ({"files": {"header": ["a", "a"]}}, "spec.files.header", "names a column twice"),
    "delimiter": ({"files": {"delimiter": "::"}}, "spec.files.delimiter", "','"),
    "too many tags": ({"tags": [f"t{n}" for n in range(33)]}, "spec.tags", "at most 32"),
}


@pytest.mark.parametrize(("change", "field", "told"), WRONG_DESCRIPTIONS.values(), ids=WRONG_DESCRIPTIONS)
def test_a_wrong_description_names_line_field_and_remedy(change: dict[str, Any], field: str, told: str) -> None:
    with pytest.raises(InvalidManifest) as said:
        load_description(description_text({**SPEC, **change}), "szivek.yaml")
    assert said.value.message.startswith("szivek.yaml:")
    assert said.value.field == field
    assert said.value.line > 1
    assert told in f"{said.value.message} {said.value.hint}"


YAML = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["spec", "name", *SPEC, "columns"]), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(YAML)
def test_whatever_stands_there_is_a_document_or_an_error_in_words(value: Any) -> None:
    for load in (load_schema, load_description):
        with pytest.raises(InvalidManifest):
            load(yaml.safe_dump(value), "x.yaml")


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("1981", "1981-01-01", "1981-12-31"),
        ("1984-02", "1984-02-01", "1984-02-29"),
        ("1984-02-03", "1984-02-03", "1984-02-03"),
    ],
)
def test_a_year_and_a_month_are_all_their_days(text: str, first: str, last: str) -> None:
    assert (str(first_day(text)), str(last_day(text))) == (first, last)


@pytest.mark.parametrize(
    "text", ["", "81", "1981-13", "1981-02-30", "1981-00", "1981-01-00", "0000", "1981-1", "1981-1-01"]
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="year"):
        Coverage.model_validate({"from": text})


WRONG_JOBS: dict[str, tuple[str, str, str]] = {
    "nothing named": ("{columns: [age]}", "spec.dataSet", "a name, a schema, or tags"),
    "a digest of nothing": (
        f"{{tags: [a], schemaDigest: {'ab' * 32}}}",
        "spec.dataSet.schemaDigest",
        "Name the schema",
    ),
    "a column twice": ("{tags: [a], columns: [age, {name: age}]}", "spec.dataSet.columns", "names a column twice"),
    "time upside down": ('{tags: [a], coverage: {from: "1990", to: "1989"}}', "spec.dataSet.coverage", "after its end"),
    "rule": ("{tags: [a], versionRule: any}", "spec.dataSet.versionRule", "'exact' or 'minor'"),
    "schema": ("{schema: hearts}", "spec.dataSet.schema", "a schema's name and version"),
    "unit": ("{tags: [a], columns: [{name: b, unit: stones}]}", "spec.dataSet.columns[0].unit", "not one of the units"),
}


@pytest.mark.parametrize(("data_set", "field", "told"), WRONG_JOBS.values(), ids=WRONG_JOBS)
def test_a_job_that_asks_for_data_wrongly_is_told_where(data_set: str, field: str, told: str) -> None:
    text = f"apiVersion: concord/v1\nkind: TrainingJob\nmetadata: {{name: a}}\nspec:\n  app: x\n  dataSet: {data_set}\n"
    with pytest.raises(InvalidManifest) as said:
        load_job(text, "job.yaml")
    assert said.value.field == field
    assert said.value.line == 6
    assert told in f"{said.value.message} {said.value.hint}"


def test_the_heart_task_has_a_schema_and_a_description_that_publish() -> None:
    held = load_schema((HEART / "schema.yaml").read_text(), "schema.yaml")
    about = load_description((HEART / "description.yaml").read_text(), "description.yaml")
    assert about.spec.schema_name == held.name
    assert set(about.spec.files.header or ()) == set(held.columns)
    entry = published(entry_of(Facts("cleveland", 303, (), "US"), about.spec, held), about.spec.publish)
    assert read_entry(entry.document) == entry
