"""Whether a data set is what a job asks for: each field that the job names must fit, every reason is told, in any order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.catalogue.entry import EVERYTHING, Facts, entry_of, published
from federation.catalogue.matching import answer_of, asked, choose, misses
from tests.unit.catalogue.described import COLUMNS, entry, schema, wanted

FULL = entry()
FITS: dict[str, dict[str, Any]] = {
    "by name": {"name": "szivek"},
    "by schema": {"schema": "heart-disease/1"},
    "by the schema's digest": {"schema": "heart-disease/1", "schemaDigest": schema().digest.hex()},
    "by a tag of the description": {"tags": ["cardiology"]},
    "by a tag of the node's settings": {"tags": ["ward", "cardiology"]},
    "columns by name": {"schema": "heart-disease/1", "columns": ["age", "seen"]},
    "a column in the same unit": {"tags": ["ward"], "columns": [{"name": "chol", "type": "number", "unit": "mg/dL"}]},
    "of the same country": {"tags": ["ward"], "coverage": {"places": ["HU", "CH"]}},
    "of a part of the time": {"tags": ["ward"], "coverage": {"from": "1981-05-01", "to": "1987-12-31"}},
}
MISSES: dict[str, tuple[dict[str, Any], str, str]] = {
    "another name": ({"name": "hearts"}, "name", "the job asks for hearts"),
    "a tag more": ({"tags": ["cardiology", "genome"]}, "tags", "has no tag genome"),
    "another version of the schema": ({"schema": "heart-disease/2"}, "schema", "is heart-disease/1, the job asks for"),
    "other columns under one name": (
        {"schema": "heart-disease/1", "schemaDigest": "ab" * 32},
        "schema",
        f"has the digest {schema().digest.hex()[:12]}, the job's abababababab",
    ),
    "no such column": ({"tags": ["ward"], "columns": ["thal"]}, "columns", "has no column thal"),
    "another type": (
        {"tags": ["ward"], "columns": [{"name": "age", "type": "number"}]},
        "columns",
        "column age is of type integer, the job reads number",
    ),
    "another unit": (
        {"tags": ["ward"], "columns": [{"name": "chol", "unit": "mmol/L"}]},
        "columns",
        "column chol is in mg/dL, the job reads mmol/L",
    ),
    "earlier data": (
        {"tags": ["ward"], "coverage": {"from": "1981-04"}},
        "coverage",
        "begins on 1981-05, the job asks",
    ),
    "later data": ({"tags": ["ward"], "coverage": {"to": "1988-01"}}, "coverage", "ends on 1987, the job asks"),
    "another country": ({"tags": ["ward"], "coverage": {"places": ["CH", "H"]}}, "coverage", ""),
}
MISSES["another country"] = (
    {"tags": ["ward"], "coverage": {"places": ["CH"]}},
    "coverage",
    "is of HU, the job asks for CH",
)


@pytest.mark.parametrize("words", FITS.values(), ids=FITS)
def test_what_is_asked_for_fits(words: dict[str, Any]) -> None:
    assert misses(wanted(**words), FULL) == ()


@pytest.mark.parametrize(("words", "field", "sentence"), MISSES.values(), ids=MISSES)
def test_what_does_not_fit_is_named(words: dict[str, Any], field: str, sentence: str) -> None:
    (miss,) = misses(wanted(**words), FULL)
    assert miss.field == field
    assert sentence in miss.sentence
    assert miss.told
    assert answer_of((miss,)) == "no"


def test_every_reason_is_told_and_not_the_first_alone() -> None:
    job = wanted(name="x", tags=["y"], schema="z/1", columns=["q"], coverage={"places": ["FR"]})
    assert [miss.field for miss in misses(job, FULL)] == ["name", "tags", "schema", "columns", "coverage"]
    assert asked(job) == "x tag:y schema:z/1 column:q of FR"


def test_a_data_set_without_a_description_fits_no_job_that_asks_for_one() -> None:
    """What old settings hold, a name and tags, goes on matching jobs that ask for a name and tags."""
    bare = entry_of(Facts("szivek", 10, ("ward",), "HU"), None, None)
    assert misses(wanted(name="szivek", tags=["ward"]), bare) == ()
    for words in ({"schema": "heart-disease/1"}, {"columns": ["age"]}, {"coverage": {"from": "1990"}}):
        found = misses(wanted(tags=["ward"], **words), bare)
        assert [miss.told for miss in found] == [False]
        assert answer_of(found) == "perhaps"


def test_a_place_lies_in_its_country_and_not_the_country_in_the_place() -> None:
    ohio = entry(coverage={"places": ["US-OH"]})
    assert misses(wanted(tags=["ward"], coverage={"places": ["US"]}), ohio) == ()
    states = entry(coverage={"places": ["US"]})
    assert misses(wanted(tags=["ward"], coverage={"places": ["US-OH"]}), states) != ()


COLUMN_NAMES = [column["name"] for column in COLUMNS]
JOBS = st.fixed_dictionaries(
    {"tags": st.lists(st.sampled_from(["ward", "cardiology", "genome"]), unique=True)},
    optional={
        "name": st.sampled_from(["a", "b", "c"]),
        "schema": st.sampled_from(["heart-disease/1", "heart-disease/2"]),
        "columns": st.lists(st.sampled_from([*COLUMN_NAMES, "thal"]), unique=True),
        "coverage": st.fixed_dictionaries(
            {}, optional={"from": st.sampled_from(["1981", "1982"]), "places": st.just(["HU"])}
        ),
    },
)
HELD = st.lists(
    st.builds(
        lambda name, tags, version, words: published(
            entry(name, tags=tags, schema=f"heart-disease/{version}"), ["schema", "tags", *words]
        ),
        st.sampled_from(["a", "b", "c"]),
        st.lists(st.sampled_from(["cardiology", "genome"]), unique=True),
        st.sampled_from([1, 2]),
        st.lists(st.sampled_from(["columns", "coverage"])),
    ),
    max_size=3,
    unique_by=lambda held: held.name,
)


@settings(max_examples=80, deadline=None)
@given(job=JOBS, held=HELD, data=st.data())
def test_the_choice_does_not_depend_on_any_order(job: dict[str, Any], held: list[Any], data: st.DataObject) -> None:
    first = choose(wanted(**job), held)
    turned = {
        key: list(data.draw(st.permutations(value))) if isinstance(value, list) else value for key, value in job.items()
    }
    second = choose(wanted(**turned), data.draw(st.permutations(held)))
    assert first.name == second.name
    assert {name: {(miss.field, miss.told) for miss in why} for name, why in first.misses.items()} == {
        name: {(miss.field, miss.told) for miss in why} for name, why in second.misses.items()
    }
    if first.name:
        assert first.name == min(entry.name for entry in held if not misses(wanted(**job), entry))


@settings(max_examples=80, deadline=None)
@given(job=JOBS, words=st.sets(st.sampled_from(EVERYTHING)), more=st.sets(st.sampled_from(EVERYTHING)))
def test_what_is_published_never_contradicts_what_the_lab_knows(
    job: dict[str, Any], words: set[str], more: set[str]
) -> None:
    """A reader of the catalogue may not know; where it knows, the node says the same. Publishing more only settles doubts."""
    at_node = misses(wanted(**job), FULL)
    little = answer_of(misses(wanted(**job), published(FULL, words)))
    much = answer_of(misses(wanted(**job), published(FULL, words | more)))
    assert little in {"perhaps", "no" if at_node else "yes"}
    assert much in {"perhaps", "no" if at_node else "yes"}
    assert little == "perhaps" or much == little
