"""Laboratories whose data have other names and one schema: they are found by what is true of them, and no row moves."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from coordinator.client.views import Job
from federation.errors import InvalidUsage, NotFound, VerificationFailed, exit_code
from tests.e2e.commands import eventually, refused, said
from tests.e2e.runs import SCHEMA, Runs, plain_average, table_of, watch
from tests.e2e.test_consent import answer_of, answers

ALL = ("ar", "be", "ch", "de")
WANTED: dict[str, Any] = {
    "schema": SCHEMA,
    "columns": [{"name": "level", "unit": "mg/L"}, "state"],
    "coverage": {"from": "2021", "to": "2022"},
}


def asked(runs: Runs, *words: str | Path) -> Any:
    answer = said("concord", *words, "--home", runs.local.lead_home, "-o", "json")
    assert answer.code == 0, answer
    return json.loads(answer.out)


def published(runs: Runs) -> list[str]:
    return [held["entry"]["name"] for held in asked(runs, "get", "datasets")]


def test_labs_with_other_names_for_their_data_train_one_job_by_its_schema(four: Runs) -> None:
    eventually(lambda: published(four) == [table_of(member) for member in ALL])
    path = four.document("schema", dataSet=WANTED, rounds=3)
    fits = asked(four, "get", "datasets", "--for", path)
    assert [(held["member"], held["fits"]) for held in fits] == [(member, "yes") for member in ALL]
    job = four.run(path)
    assert job.state == "finished", job.reason
    assert set(answers(job).values()) == {"granted"}
    for member in ALL:
        assert answer_of(four, member, job).data_set == table_of(member)
    found = four.model(job.name)["vector"]
    assert abs(found - plain_average(3, 4)).max() < 3 * 2.0**-11
    release = four.folder / f"release-{job.name}"
    config = json.loads((release / "config.json").read_text())
    shown = {each["member"]: each["entry"] for each in asked(four, "get", "datasets")}
    assert {name: member["described"] for name, member in config["members"].items()} == {
        name: [shown[name]] for name in ALL
    }
    assert "schema readings/1; " in (release / "README.md").read_text()


def test_who_does_not_fit_says_what_did_not_fit_and_no_more(four: Runs) -> None:
    path = four.document(
        "unfit", dataSet={**WANTED, "columns": [{"name": "level", "unit": "g/L"}], "coverage": {"places": ["AR"]}}
    )
    fits = {held["member"]: held["whyNot"] for held in asked(four, "get", "datasets", "--for", path)}
    assert fits["ar"] == "column level is in mg/L, the job reads g/L"
    assert fits["be"] == "column level is in mg/L, the job reads g/L; is of BE, the job asks for AR"
    job = four.run(path)
    assert job.state == "failed"
    reasons = {consent.member: consent.reasons for consent in job.consents}
    assert reasons["be"][1:] == (
        "data set be-readings: column level is in mg/L, the job reads g/L",
        "data set be-readings: is of BE, the job asks for AR",
    )
    assert "numbers" not in repr(reasons), "what is not published is not named"
    shown = said("concord", "describe", job.name, "--home", four.local.lead_home).out
    (line,) = [line for line in shown.splitlines() if line.startswith("  be/be-1") and " be-readings " in line]
    assert line.split(maxsplit=3)[2] == "no"
    assert line.endswith("column level is in mg/L, the job reads g/L; is of BE, the job asks for AR")


def test_what_a_lab_withdraws_disappears_and_what_it_publishes_comes_back(four: Runs) -> None:
    eventually(lambda: published(four) == [table_of(member) for member in ALL])
    home = four.local.nodes["be"].home
    described = asked(four, "describe", "dataset", "be-readings")
    assert described["member"] == "be"
    assert described["entry"]["size"] == 64
    assert "examples" not in json.dumps(described)
    assert said("concord-node", "data", "withdraw", "be-readings", "--home", home).code == 0
    eventually(lambda: published(four) == ["ar-readings", "ch-readings", "de-readings"])
    lost = said("concord", "describe", "dataset", "be-readings", "--home", four.local.lead_home)
    refused(lost, NotFound, "No data set be-readings is published")
    assert said("concord-node", "data", "publish", "be-readings", "--yes", "--home", home).code == 0
    eventually(lambda: published(four) == [table_of(member) for member in ALL])


def test_filters_are_for_data_sets(four: Runs) -> None:
    assert asked(four, "get", "datasets", "--tag", "genome") == []
    found = asked(four, "get", "datasets", "--schema", "readings", "--jurisdiction", "CH")
    assert [held["entry"]["name"] for held in found] == ["ch-readings"]
    wrong = said("concord", "get", "jobs", "--tag", "genome", "--home", four.local.lead_home)
    refused(wrong, InvalidUsage, "jobs have no schema, tag or jurisdiction")


def test_a_lab_checks_the_columns_that_a_job_reads_on_its_own_rows(four: Runs) -> None:
    job, home = four.document("check", dataSet=WANTED), four.local.nodes["ch"].home
    done = said("concord-node", "data", "check", job, "--home", home)
    assert (done.code, "holds what its schema says" in done.out) == (0, True), done
    with table_of_lab(four, "ch") as table:
        table.write_text(table.read_text() + "-1,2\n")
        failed = said("concord-node", "data", "check", job, "--home", home)
    assert failed.code == exit_code(VerificationFailed(""))
    assert "FAILS         column level is below 0 in row 3" in failed.out
    assert "FAILS         column state is none of the codes in row 3" in failed.out


@contextlib.contextmanager
def table_of_lab(runs: Runs, member: str) -> Iterator[Path]:
    """The lab's table, and afterwards as it was."""
    settings = yaml.safe_load((runs.local.nodes[member].home / "node.yaml").read_text())
    table = Path(settings["dataSets"][table_of(member)]["path"]) / "readings.csv"
    before = table.read_text()
    try:
        yield table
    finally:
        table.write_text(before)


def cohorts(job: Job) -> list[tuple[str, ...]]:
    return [item.cohort for item in job.rounds if item.phase == "closed"]


def changed_after_a_round(runs: Runs, rule: str, name: str, change: Callable[[Path], object]) -> Job:
    """A job of four rounds, during the second of which the table of ``de`` is changed."""
    wanted = {**WANTED, "versionRule": rule}
    path = runs.document(name, dataSet=wanted, rounds=4, run_config={"pause": 0.2})
    with table_of_lab(runs, "de") as table, runs.submitted(path) as (client, job_name):
        watch(client, job_name, until=lambda job: job.rounds_closed >= 1)
        change(table)
        return watch(client, job_name)


def appended(table: Path) -> None:
    with table.open("a") as stream:
        stream.write("3.5,0\n")


def test_data_that_changed_after_the_consent_are_not_trained_on(four: Runs) -> None:
    job = changed_after_a_round(four, "exact", "changed", appended)
    assert job.state == "finished", job.reason
    assert cohorts(job)[0] == ALL
    assert cohorts(job)[-2:] == [("ar", "be", "ch")] * 2


def test_rows_that_came_are_trained_on_where_the_job_lets_them_come_and_no_row_may_change(four: Runs) -> None:
    job = changed_after_a_round(four, "minor", "grew", appended)
    assert job.state == "finished", job.reason
    assert set(cohorts(job)) == {ALL}
    job = changed_after_a_round(
        four, "minor", "corrected", lambda table: table.write_text("level,state\n1.75,0\n2.25,1\n")
    )
    assert job.state == "finished", job.reason
    assert cohorts(job)[-2:] == [("ar", "be", "ch")] * 2
