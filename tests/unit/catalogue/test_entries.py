"""What is published of a data set: the fields that the lab named and nothing else, signed by its node, bounded, and no count."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.catalogue.entry import EVERYTHING, Entry, Facts, entry_of, published, read_entry
from federation.catalogue.statement import LASTS, MOST_ENTRIES, digest_of, open_catalogue, seal_catalogue, statement_of
from federation.catalogue.words import size_class
from federation.errors import InvalidIdentity
from federation.identity.credential import NodeCredential, node_request, sign_credential, verify_credential
from federation.identity.envelope import seal
from federation.identity.keys import SigningKey
from federation.privacy.budget import Budget
from tests.unit.agent.homes import federation_of
from tests.unit.catalogue.described import SPEC, description, entry, schema

NOW = datetime(2027, 1, 15, 12, 0, tzinfo=UTC)
FULL = entry_of(
    Facts("szivek", 1000, ("ward",), "HU", Budget(4.0, 1e-6, "record"), bytes(range(32))), description().spec, schema()
)
ALLOWED = {
    *("name", "title", "description", "schema", "columns", "size", "licence", "legalBasis", "tags", "jurisdiction"),
    *("coverage", "budget", "version", "updates"),
}
COLUMN_FIELDS = {"name", "type", "unit", "meaning", "nullable", "codes", "minimum", "maximum", "shape"}


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in [key, *leaves(inner)]]
    if isinstance(value, list):
        return [leaf for inner in value for leaf in leaves(inner)]
    return [value]


@settings(max_examples=100, deadline=None)
@given(st.sets(st.sampled_from(EVERYTHING)), st.sets(st.sampled_from(EVERYTHING)))
def test_fewer_words_never_reveal_more(fewer: set[str], more: set[str]) -> None:
    little, much = published(FULL, fewer), published(FULL, fewer | more)
    document = little.document
    assert set(document) <= {"name"} | fewer
    assert set(document) <= set(much.document)
    assert set(document) <= ALLOWED
    assert all(set(column) <= COLUMN_FIELDS for column in document.get("columns", []))
    hidden = [] if "codes" in fewer else ["codes", "female"]
    hidden += [] if "ranges" in fewer else ["minimum", "maximum"]
    hidden += [] if "description" in fewer else [SPEC["description"]]
    assert not set(hidden) & set(map(str, leaves(document)))
    known = [str(leaf) for leaf in leaves(much.document)]
    assert all(str(leaf) in known for leaf in leaves(document))
    assert read_entry(json.loads(little.canonical)) == little


def test_no_word_gives_the_name_alone_and_no_entry_holds_a_count() -> None:
    assert published(FULL, []).document == {"name": "szivek"}
    assert FULL.document["size"] == 512
    assert "1000" not in FULL.canonical.decode()
    assert [size_class(count) for count in (1, 2, 3, 1023, 1024)] == [1, 2, 2, 512, 1024]


def test_a_data_set_without_a_description_has_an_entry_of_what_the_settings_say() -> None:
    bare = entry_of(Facts("digits", 412, ("scans",), "FR"), None, None)
    assert bare.document == {"name": "digits", "size": 256, "tags": ["scans"], "jurisdiction": "FR"}


NO_ENTRIES: dict[str, Any] = {
    "no object": [],
    "no name": {"title": "x"},
    "a count": {"name": "a", "examples": 1000},
    "a path": {"name": "a", "path": "/srv/hearts"},
    "a size that is no class": {"name": "a", "size": 1000},
    "a size that is true": {"name": "a", "size": True},
    "another legal basis": {"name": "a", "legalBasis": "because"},
    "another unit": {"name": "a", "columns": [{"name": "b", "type": "number", "unit": "stone"}]},
    "a formula for a name": {"name": "a", "columns": [{"name": "=cmd()", "type": "text"}]},
    "an escape sequence": {"name": "a", "title": "\x1b[2J"},
    "columns out of order": {
        "name": "a",
        "columns": [{"name": name, "type": "text", "meaning": "", "nullable": False} for name in "zy"],
    },
    "a column twice": {
        "name": "a",
        "columns": [{"name": "z", "type": "text", "meaning": "", "nullable": False} for _ in range(2)],
    },
    "a column of two minds": {
        "name": "a",
        "columns": [
            {"name": "z", "type": "integer", "minimum": 2, "maximum": 1, "meaning": "", "nullable": False},
        ],
    },
    "a time that ends before it begins": {"name": "a", "coverage": {"from": "1990", "to": "1989", "places": []}},
    "fields left to defaults": {"name": "a", "columns": [{"name": "z", "type": "text"}]},
    "too many columns": {
        "name": "a",
        "columns": [{"name": f"c{n:03}", "type": "text", "meaning": "", "nullable": False} for n in range(513)],
    },
    "too many codes": {
        "name": "a",
        "columns": [
            {
                "name": "z",
                "type": "category",
                "codes": {str(n): "x" for n in range(513)},
                "meaning": "",
                "nullable": False,
            }
        ],
    },
    "too large": {
        "name": "a",
        "columns": [{"name": f"c{n:03}", "type": "text", "meaning": "m" * 300, "nullable": False} for n in range(512)],
    },
    "too deep": {"name": "a", "coverage": {"places": [[[[]]]]}},
}


@pytest.mark.parametrize("document", NO_ENTRIES.values(), ids=NO_ENTRIES)
def test_what_a_peer_sends_is_an_entry_or_refused(document: Any) -> None:
    with pytest.raises(InvalidIdentity):
        read_entry(document)


# ------------------------------------------------------------------------------------------------------ the signed whole

PARTIES = federation_of(("ch", "fr", "ke"), "hearts")


def node_of(member: str) -> tuple[SigningKey, NodeCredential]:
    key = SigningKey.generate()
    request = node_request("hearts", member, f"{member}-1", key)
    officer = PARTIES.officers[member]
    signed = sign_credential(request, "hearts", officer, member, NOW, NOW + timedelta(days=90))
    return key, verify_credential(signed, PARTIES.roll, NOW)


KEY, CREDENTIAL = node_of("ch")


def sealed(*entries: Entry, sequence: int = 1) -> bytes:
    return seal_catalogue(statement_of(CREDENTIAL, sequence, NOW, entries), KEY)


def test_a_catalogue_reads_back_as_it_was_signed_and_ends() -> None:
    envelope = sealed(FULL, published(entry("vizsgalat"), ["title"]))
    read = open_catalogue(envelope, CREDENTIAL, NOW)
    assert [held.name for held in read.entries] == ["szivek", "vizsgalat"]
    assert read.entries[0] == FULL
    assert len(digest_of(envelope)) == 32
    open_catalogue(envelope, CREDENTIAL, NOW + LASTS)
    with pytest.raises(InvalidIdentity, match="ended on"):
        open_catalogue(envelope, CREDENTIAL, NOW + LASTS + timedelta(seconds=1))


def test_nobody_but_the_node_makes_its_catalogue() -> None:
    """Not the coordinator, not another node, not with one byte altered."""
    stranger, other = node_of("ke")
    statement = statement_of(CREDENTIAL, 1, NOW, [FULL])
    with pytest.raises(InvalidIdentity, match="not signed by the node ch-1 of ch"):
        open_catalogue(seal_catalogue(statement, stranger), CREDENTIAL, NOW)
    with pytest.raises(InvalidIdentity, match="speaks for another node"):
        open_catalogue(seal_catalogue(statement, stranger), other, NOW)
    envelope = sealed(FULL)
    for place in range(0, len(envelope), 97):
        altered = bytearray(envelope)
        altered[place] ^= 1
        with pytest.raises(InvalidIdentity):
            open_catalogue(bytes(altered), CREDENTIAL, NOW)


DOCUMENT: dict[str, Any] = {
    "federation": "hearts",
    "member": "ch",
    "node": "ch-1",
    "sequence": 1,
    "issued": "2027-01-15T12:00:00Z",
    "expires": "2027-01-20T12:00:00Z",
    "entries": [],
}
NO_CATALOGUES: dict[str, dict[str, Any]] = {
    "unknown field": {"count": 7},
    "sequence zero": {"sequence": 0},
    "ends before it begins": {"expires": "2027-01-15T11:00:00Z"},
    "lasts too long": {"expires": "2029-01-15T12:00:00Z"},
    "of another federation": {"federation": "digits"},
    "entries twice": {"entries": [{"name": "a"}, {"name": "a"}]},
    "entries out of order": {"entries": [{"name": "b"}, {"name": "a"}]},
    "too many entries": {"entries": [{"name": f"d{n:03}"} for n in range(MOST_ENTRIES + 1)]},
    "entries that are none": {"entries": ["a"]},
}


@pytest.mark.parametrize("change", NO_CATALOGUES.values(), ids=NO_CATALOGUES)
def test_a_signed_catalogue_that_is_none_is_refused(change: dict[str, Any]) -> None:
    open_catalogue(seal(DOCUMENT, "catalogue", (KEY,)), CREDENTIAL, NOW)
    with pytest.raises(InvalidIdentity):
        open_catalogue(seal({**DOCUMENT, **change}, "catalogue", (KEY,)), CREDENTIAL, NOW)


def test_a_catalogue_is_bounded_where_it_is_made() -> None:
    with pytest.raises(InvalidIdentity, match="at most 64 data sets"):
        statement_of(CREDENTIAL, 1, NOW, [published(entry(f"d{n}"), []) for n in range(65)])
    wide = schema([{"name": f"c{n:03}", "type": "text", "meaning": "m" * 150} for n in range(512)])
    large = [entry_of(Facts(f"d{n:02}", 1, (), "HU"), description(f"d{n:02}").spec, wide) for n in range(16)]
    with pytest.raises(InvalidIdentity, match="larger than 1024 KiB"):
        seal_catalogue(statement_of(CREDENTIAL, 1, NOW, large), KEY)
