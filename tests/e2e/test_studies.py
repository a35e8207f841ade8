"""A study in a real federation: a person at one member grants it once, two runs inside go without a question, one outside asks."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from coordinator.client.studies import StudyState
from examples.local_federation import LocalFederation
from federation.audit.entry import open_entry
from federation.errors import InvalidManifest
from federation.identity.revocation import consent_digest
from tests.e2e.commands import eventually, refused, said
from tests.e2e.conftest import FOURTH, PLACES
from tests.e2e.runs import DATA, TINY, Runs, members_of, watch
from tests.e2e.test_consent import answer_of, answers, policy
from tests.e2e.test_person import PATIENT, asking_a_person, node, waits

ROOM = {"study": {"maxRuns": 5, "maxDays": 90}}


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Of its own: a node whose journal was put back, as other tests do, lets no study in that was made within minutes of it."""
    folder = tmp_path_factory.mktemp("studied")
    members = members_of(folder / "data", *PLACES, FOURTH)
    with contextlib.ExitStack() as stack:
        runs = Runs(stack.enter_context(LocalFederation(folder / "federation", "studied", members)), folder)
        for member, _ in (*PLACES, FOURTH):
            stack.enter_context(policy(runs, member, **ROOM))
        stack.enter_context(asking_a_person(runs))
        yield runs


def study_document(runs: Runs, name: str, **bounds: Any) -> Path:
    job = {"app": str(TINY), "dataSet": DATA, "rounds": 2, "deadlines": PATIENT}
    spec = {
        "job": job, "vary": {"rate": {"least": 0.1, "most": 1}}, "runs": 2, "rounds": 10, "bytes": "10Mi",
        "expires": "2027-01-15T00:00:00Z", **bounds,
    }  # fmt: skip
    document = {"apiVersion": "concord/v1", "kind": "Study", "metadata": {"name": name}, "spec": spec}
    path = runs.folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def run_document(runs: Runs, study: str, name: str, **settings: Any) -> Path:
    spec = {"app": str(TINY), "dataSet": DATA, "rounds": 2, "deadlines": PATIENT, "runConfig": settings}
    document = {
        "apiVersion": "concord/v1", "kind": "TrainingJob", "metadata": {"name": name, "study": study}, "spec": spec,
    }  # fmt: skip
    path = runs.folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def listed(runs: Runs, name: str) -> StudyState:
    with runs.local.client() as client:
        return next(study for study in client.studies() if study.name == name)


def states(runs: Runs, name: str) -> dict[str, str]:
    return {each.member: each.state for each in listed(runs, name).consents}


def test_a_person_grants_a_study_once_and_is_asked_again_only_for_what_lies_outside(studied: Runs) -> None:
    lead = studied.local.lead_home
    applied = said("concord", "apply", "-f", study_document(studied, "search"), "--home", lead, "-o", "json")
    assert applied.code == 0, applied
    digest = json.loads(applied.out)["digest"]
    eventually(lambda: states(studied, "search") == {"ar": "granted", "be": "granted", "ch": "granted", "de": "asked"})
    (waiting,) = json.loads(node(studied, "inbox", "-o", "json").out)["questions"]
    assert (waiting["kind"], waiting["name"], waiting["job"]) == ("study", "search", digest)
    assert waiting["deadline"] > waiting["asked"]
    shown = node(studied, "show", "search").out
    assert "study      2 runs, 10 rounds, 10Mi uploaded, until 2027-01-15T00:00:00Z\n" in shown
    assert "study      varies: rate 0.1 to 1, and the seed of the first model\n" in shown
    assert node(studied, "grant", "search", "--as", "deputy").code == 0
    eventually(lambda: states(studied, "search")["de"] == "granted")
    table = said("concord", "get", "studies", "--home", lead).out
    assert "de:granted" in table

    jobs = [studied.run(run_document(studied, "search", f"inside-{n}", rate=0.25 * (n + 1))) for n in range(2)]
    (consent,) = (each.envelope for each in listed(studied, "search").consents if each.member == "de")
    for job in jobs:
        assert job.state == "finished", job.reason
        assert answers(job)["de"] == "granted"
        assert "de" in job.rounds[-1].cohort
        given = answer_of(studied, "de", job)
        assert given.given is not None
        assert given.binds is not None
        assert (given.given.how, given.given.by) == ("study", "deputy")
        assert given.binds.study == consent_digest(consent)
    assert node(studied, "inbox").out == "nothing waits for a person\n"

    beyond = said("concord", "apply", "-f", run_document(studied, "search", "beyond", rate=1.5), "--home", lead)
    assert beyond.code == 0, beyond
    assert "note: outside the study search: spec.runConfig.rate: 1.5 is not from 0.1 to 1\n" in beyond.err
    with studied.local.client() as client:
        job = watch(client, "beyond", until=lambda job: len(job.consents) == 4 and waits(job))
        shown = node(studied, "show", "beyond").out
        assert "differs from the study that was consented to, and in nothing else:\n" in shown
        differs = shown.split("nothing else:\n")[1].split("policy ")[0]
        assert differs.splitlines() == [
            "    spec.runConfig.rate: 1.5 is not from 0.1 to 1",
            "    runs: the study has 2, and this would be run 3",
        ]
        assert node(studied, "deny", "beyond", "--reason", "not that far").code == 0
        job = watch(client, "beyond")
    assert job.state == "failed"
    assert answers(job) == dict.fromkeys(("ar", "be", "ch", "de"), "denied")
    assert "study: spec.runConfig.rate: 1.5 is not from 0.1 to 1" in job.reason

    kinds = [
        (entry.kind, entry.fields["state"] if entry.kind == "consent" else "") for entry in logged(studied, digest)
    ]
    assert kinds[0] == ("submission", "")
    assert kinds.count(("consent", "granted")) == 4


def logged(runs: Runs, digest: str) -> list[Any]:
    """What the public log says of a study, or a job."""
    import sqlite3

    with contextlib.closing(sqlite3.connect(runs.local.coordinator.home / "coordinator.db")) as disk:
        rows = disk.execute("SELECT entry FROM log_entries ORDER BY number").fetchall()
    return [entry for (row,) in rows if (entry := open_entry(row)).fields.get("job") == digest]


def test_revoking_a_study_takes_the_member_out_of_its_run_and_refuses_the_next(studied: Runs) -> None:
    path = study_document(studied, "taken", job={**job_spec(), "rounds": 8, "runConfig": {"pause": 0.2}}, rounds=40)
    with studied.local.client() as client:
        client.submit_study(path)
        assert client.submit_study(path).name == "taken", "the same study again changes nothing"
        eventually(lambda: states(studied, "taken").get("de") == "asked")
        eventually(lambda: "taken" in node(studied, "inbox").out)
        assert node(studied, "grant", "taken").code == 0
        eventually(lambda: set(states(studied, "taken").values()) == {"granted"})
        first = run_document(studied, "taken", "taken-1", pause=0.2, rate=0.5)
        rewrite(first, rounds=8)
        name = client.submit(first).name
        job = watch(client, name, until=lambda job: job.rounds_closed >= 1)
        assert "de" in job.roster
        assert node(studied, "revoke", "taken", "--reason", "the board").code == 0
        job = watch(client, name)
        assert job.state == "finished", job.reason
        assert answers(job)["de"] == "revoked"
        assert "de" not in job.rounds[-1].cohort
        eventually(lambda: states(studied, "taken")["de"] == "revoked")
        second = run_document(studied, "taken", "taken-2", pause=0.2, rate=0.75)
        rewrite(second, rounds=8)
        name = client.submit(second).name
        job = watch(client, name, until=lambda job: answers(job).get("de") == "denied")
        (reason,) = next(each.reasons for each in job.consents if each.member == "de")
        assert reason == "study: this lab has revoked its consent to it"
        client.withdraw(name)


def job_spec() -> dict[str, Any]:
    return {"app": str(TINY), "dataSet": DATA, "rounds": 2, "deadlines": PATIENT}


def rewrite(path: Path, **spec: Any) -> None:
    document = yaml.safe_load(path.read_text())
    document["spec"] |= spec
    path.write_text(yaml.safe_dump(document, sort_keys=False))


def test_a_run_of_a_study_that_nobody_knows_is_refused_at_once(studied: Runs) -> None:
    lead = studied.local.lead_home
    path = run_document(studied, "00" * 32, "unknown", rate=0.5)
    refused(said("concord", "apply", "-f", path, "--home", lead), InvalidManifest, "a study that was not submitted")
