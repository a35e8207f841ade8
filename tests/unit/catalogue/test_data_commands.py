"""`concord-node data`, as a lab types it: nothing is published that was not shown, and everything can be taken back."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from federation.catalogue.entry import read_entry
from federation.catalogue.statement import LASTS, open_catalogue
from federation.errors import (
    FederationError,
    InvalidManifest,
    InvalidUsage,
    NotFound,
    PolicyDenied,
    VerificationFailed,
    exit_code,
)
from federation.identity.credential import NodeCredential
from federation.identity.keys import SigningKey
from node_agent.catalogue import publication
from node_agent.settings import Home
from tests.e2e.commands import Said, refused, said
from tests.unit.agent.homes import Site, joined_by_hand
from tests.unit.catalogue.described import COLUMNS, SPEC, description_text, schema_text

PUBLISHED = ["title", "schema", "columns", "size", "tags", "version"]
JOB: dict[str, Any] = {
    "apiVersion": "concord/v1",
    "kind": "TrainingJob",
    "metadata": {"name": "hearts"},
    "spec": {"app": "app", "dataSet": {"schema": "heart-disease/1", "columns": ["age", "sex"]}},
}


class Lab:
    """A home that has joined, a table, and the files that its people wrote."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.site = Site(path)
        self.credential: NodeCredential = joined_by_hand(self.site)
        self.home: Home = self.site.home
        self.table = path / "hearts.csv"
        self.table.write_text("age,chol,sex,seen\n63,233,1,1981-05-17\n41,,0,1982-01-01\n")
        self.write("schema.yaml", schema_text())
        self.write("description.yaml", description_text({**SPEC, "publish": PUBLISHED}))

    def write(self, name: str, text: str) -> Path:
        (self.path / name).write_text(text)
        return self.path / name

    def data(self, *words: str | Path) -> Said:
        return said("concord-node", "data", *words, "--home", self.home.root)

    def added(self) -> Lab:
        done = self.data(
            *("add", "szivek", "--path", self.table, "--examples", "2", "--tag", "ward"),
            *("--description", self.path / "description.yaml", "--schema", self.path / "schema.yaml"),
        )
        assert done.code == 0, done
        return self

    def signed(self, now: datetime | None = None) -> bytes | None:
        key = SigningKey.from_pem(self.home.read(self.home.identity_key))
        return publication.signed(self.home, key, self.credential, now or datetime.now(UTC))

    def shown(self, now: datetime | None = None) -> list[str]:
        """What a reader of this node's catalogue sees."""
        now = now or datetime.now(UTC)
        envelope = self.signed(now)
        return [] if envelope is None else [e.name for e in open_catalogue(envelope, self.credential, now).entries]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_a_description_is_copied_into_the_home_and_read_at_start(lab: Lab) -> None:
    lab.added()
    for name in ("description.yaml", "schema.yaml"):
        (lab.path / name).unlink()
    held = lab.home.settings().data_sets["szivek"]
    assert held.described.schema is not None
    entry = held.entry("szivek")
    assert entry.tags == ["cardiology", "ward"]
    assert entry.schema_reference is not None
    assert entry.schema_reference.name == "heart-disease/1"
    again = lab.data("add", "szivek", "--path", lab.table, "--examples", "3")
    assert again.code == 0
    assert lab.home.settings().data_sets["szivek"].described.description is not None, "it keeps the one that it has"


def test_old_settings_go_on_working(lab: Lab) -> None:
    assert lab.data("add", "old", "--path", lab.table, "--examples", "412", "--tag", "scans").code == 0
    assert "description" not in lab.home.settings_file.read_text()
    assert lab.home.settings().data_sets["old"].entry("old", "FR").document == {
        "name": "old",
        "size": 256,
        "tags": ["scans"],
        "jurisdiction": "FR",
    }


def test_all_is_shown_to_the_lab_and_nothing_leaves_before_it_is_published(lab: Lab) -> None:
    lab.added()
    shown = lab.data("describe", "szivek")
    assert json.loads(shown.out)["legalBasis"] == "public-task"
    assert "would be published: name, title, schema, columns, size, tags, version" in shown.err
    assert lab.signed() is None
    assert not lab.home.published.exists()


def test_what_is_published_is_what_was_shown_and_is_signed(lab: Lab) -> None:
    lab.added()
    done = lab.data("publish", "szivek", "--yes")
    assert done.code == 0, done
    shown = json.loads(done.out)
    assert set(shown) == {"name", *PUBLISHED}
    assert "codes" not in done.out
    assert "minimum" not in done.out
    envelope = lab.signed()
    assert envelope is not None
    (entry,) = open_catalogue(envelope, lab.credential, datetime.now(UTC)).entries
    assert entry == read_entry(shown)
    listed = lab.data("list").out
    assert listed.startswith("szivek  heart-disease/1  version ")
    assert listed.endswith("  published\n")
    lab.table.write_text(lab.table.read_text() + "50,200,1,1983-01-01\n")
    assert lab.data("list").out.endswith("  published, and the data have changed since\n")
    assert lab.signed() == envelope, "what was not shown is not published"


def test_without_a_yes_nothing_is_published(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.added()
    for answer in (False, True):
        monkeypatch.setattr("typer.confirm", lambda *_words, answer=answer, **_more: answer)
        done = lab.data("publish", "szivek")
        assert json.loads(done.out)["name"] == "szivek", "it is shown before"
        assert lab.shown() == (["szivek"] if answer else [])
        assert done.code == (0 if answer else 1)


def test_a_withdrawn_entry_is_gone_and_the_next_catalogue_is_newer(lab: Lab) -> None:
    lab.added().data("publish", "szivek", "--yes")
    first = lab.signed()
    assert lab.data("withdraw", "szivek").code == 0
    second = lab.signed()
    assert first is not None
    assert second is not None
    now = datetime.now(UTC)
    old, new = (open_catalogue(envelope, lab.credential, now) for envelope in (first, second))
    assert new.entries == ()
    assert new.sequence > old.sequence
    refused(lab.data("withdraw", "szivek"), NotFound, "is not published")


def test_a_catalogue_is_signed_again_before_it_ends_and_never_with_a_lower_number(lab: Lab) -> None:
    lab.added().data("publish", "szivek", "--yes")
    now = datetime.now(UTC).replace(microsecond=0)
    first = lab.signed(now)
    assert lab.signed(now + timedelta(hours=1)) == first
    later = now + LASTS / 2
    renewed = lab.signed(later)
    assert renewed not in (None, first)
    assert lab.shown(later) == ["szivek"]
    (lab.home.published / publication.SIGNED).unlink()
    fresh = lab.signed(later + timedelta(seconds=2))
    assert renewed is not None
    assert fresh is not None
    assert (
        open_catalogue(fresh, lab.credential, later).sequence > open_catalogue(renewed, lab.credential, later).sequence
    )


def test_the_catalogue_has_a_digest_that_follows_what_is_published(lab: Lab) -> None:
    assert publication.catalogue_digest(lab.home) == publication.NONE
    lab.added().data("publish", "szivek", "--yes")
    first = publication.catalogue_digest(lab.home)
    lab.write("description.yaml", description_text({**SPEC, "publish": ["title"]}))
    lab.data("describe", "szivek", "--description", lab.path / "description.yaml")
    assert publication.catalogue_digest(lab.home) == first, "not before it is published"
    lab.data("publish", "szivek", "--yes")
    assert publication.catalogue_digest(lab.home) not in {first, publication.NONE}
    lab.data("withdraw", "szivek")
    assert publication.catalogue_digest(lab.home) == publication.NONE


def test_a_file_that_nobody_was_shown_is_not_signed(lab: Lab) -> None:
    lab.added().data("publish", "szivek", "--yes")
    path = lab.home.published / "szivek.entry"
    for text in (b"{}", b'{"name":"other"}', b'{"examples":2,"name":"szivek"}', b"\xff", b"[" * 5000):
        path.write_bytes(text)
        with pytest.raises(InvalidUsage):
            lab.signed()


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"spec": None}, InvalidManifest, "spec"),
        ({"metadata": {"name": "other"}}, InvalidManifest, "describes other, and the data set is szivek"),
        ({"spec": {**SPEC, "schema": "genome/1"}}, NotFound, "names the schema genome/1"),
        ({"spec": {**SPEC, "licence": "my own"}}, InvalidManifest, "spec.licence"),
    ],
    ids=["no spec", "another name", "unknown schema", "wrong field"],
)
def test_a_description_that_is_not_in_order_changes_nothing(
    lab: Lab, change: dict[str, Any], error: type[FederationError], told: str
) -> None:
    lab.added()
    before = lab.home.settings_file.read_bytes(), (lab.home.descriptions / "szivek.yaml").read_bytes()
    wrong = lab.write("wrong.yaml", yaml.safe_dump({**yaml.safe_load(description_text()), **change}))
    refused(lab.data("describe", "szivek", "--description", wrong), error, told)
    assert (lab.home.settings_file.read_bytes(), (lab.home.descriptions / "szivek.yaml").read_bytes()) == before


def test_a_version_of_a_schema_never_changes(lab: Lab) -> None:
    lab.added()
    other = lab.write("other.yaml", schema_text(COLUMNS[:2]))
    refused(lab.data("describe", "szivek", "--schema", other), InvalidUsage, "already, with other columns")
    assert lab.data("describe", "szivek", "--schema", lab.path / "schema.yaml").code == 0


def test_a_node_does_not_start_with_a_description_that_was_damaged(lab: Lab) -> None:
    lab.added()
    (lab.home.descriptions / "szivek.yaml").write_text("kind: DataSet\n")
    with pytest.raises(InvalidManifest, match=r"szivek\.yaml"):
        lab.home.settings()
    (lab.home.descriptions / "schemas" / "heart-disease-1.yaml").unlink()
    assert lab.data("describe", "szivek", "--description", lab.path / "description.yaml").code == 3
    schema_and = ("--description", lab.path / "description.yaml", "--schema", lab.path / "schema.yaml")
    assert lab.data("describe", "szivek", *schema_and).code == 0, "a person can mend it"
    lab.home.settings()


def test_a_job_is_checked_on_the_columns_that_it_reads(lab: Lab) -> None:
    lab.added()
    job = lab.write("job.yaml", yaml.safe_dump(JOB))
    done = lab.data("check", job)
    assert done.code == 0, done
    assert "data set      szivek, csv, 2 rows" in done.out
    assert "columns       age, sex" in done.out
    lab.table.write_text("age,chol,sex,seen\n63,high,1,1981-05-17\n")
    assert lab.data("check", job).code == 0, "the job does not read chol"
    failed = lab.data("check", "--data-set", "szivek")
    assert failed.code == exit_code(VerificationFailed(""))
    assert "FAILS         column chol is no number in row 1" in failed.out
    assert "high" not in failed.out + failed.err, "cells are not shown"


def test_a_job_that_fits_nothing_here_is_told_why_in_the_lab(lab: Lab) -> None:
    lab.added()
    wanted = {"schema": "heart-disease/2", "columns": [{"name": "chol", "unit": "mmol/L"}]}
    job = lab.write("job.yaml", yaml.safe_dump({**JOB, "spec": {"app": "app", "dataSet": wanted}}))
    answer = lab.data("check", job)
    refused(answer, PolicyDenied, "schema:heart-disease/2 column:chol")
    assert "because: szivek: its schema is heart-disease/1, the job asks for heart-disease/2" in answer.err
    assert "because: szivek: column chol is in mg/dL, the job reads mmol/L" in answer.err


def test_there_is_an_error_for_what_cannot_be_done(lab: Lab) -> None:
    refused(lab.data("check"), InvalidUsage, "There is nothing to check")
    refused(lab.data("publish", "szivek"), NotFound, "no data set szivek")
    lab.data("add", "szivek", "--path", lab.table, "--examples", "2")
    refused(lab.data("publish", "szivek"), InvalidUsage, "has no description")
    lab.write("description.yaml", description_text(SPEC))
    assert lab.added().data("publish", "szivek").code == 2
    assert lab.shown() == []
