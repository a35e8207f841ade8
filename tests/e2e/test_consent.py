"""A lab takes part in what its own policy allows and in nothing else; what it denies it denies on its own disk, and signs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from coordinator.client.views import Job
from federation.identity.consent import Consent, open_consent
from federation.identity.credential import verify_credential
from federation.identity.roll import Roll
from node_agent.enrolment import POLICY
from node_agent.store.journal import ConsentRecord, JobRecord, Journal
from tests.e2e.commands import eventually, said
from tests.e2e.runs import Runs, watch

ALL = ("ar", "be", "ch", "de")


def home(runs: Runs, member: str) -> Path:
    return runs.local.nodes[member].home


@contextmanager
def policy(runs: Runs, member: str, text: str = "", **rules: Any) -> Iterator[None]:
    """The lab edits its policy file, and afterwards takes the old one back; a running node reads it for each job."""
    path = home(runs, member) / "policy.yaml"
    before = path.read_text()
    document = yaml.safe_load(before)
    document["rules"] |= rules
    path.write_text(text or yaml.safe_dump(document))
    try:
        yield
    finally:
        path.write_text(before)


def recorded(runs: Runs, member: str, job: Job) -> tuple[ConsentRecord | None, JobRecord | None]:
    """What the lab's own journal holds: its answer, and the job if it took part."""
    with closing(Journal(home(runs, member) / "journal.db", read_only=True)) as journal:
        return journal.consent(job.digest), journal.job(job.digest)


def answers(job: Job) -> dict[str, str]:
    return {consent.member: consent.state for consent in job.consents}


def answer_of(runs: Runs, member: str, job: Job) -> Consent:
    """The answer that the coordinator shows, as the node signed it."""
    (shown,) = (consent for consent in job.consents if consent.member == member)
    roll = Roll.open((runs.local.folder / "roll.json").read_bytes())
    credential = verify_credential((home(runs, member) / "credential.json").read_bytes(), roll, datetime.now(UTC))
    signed = open_consent(shown.envelope, credential)
    assert signed.job == job.digest
    assert signed.reasons == shown.reasons
    return signed


def never_trained(runs: Runs, member: str, job: Job) -> None:
    answer, taken = recorded(runs, member, job)
    assert answer is not None
    assert not answer.granted
    assert taken is None
    assert not (home(runs, member) / "jobs" / job.digest.hex()).exists()
    assert all(member not in item.ready + item.cohort for item in job.rounds)
    assert member not in job.roster


def test_a_new_node_denies_everything_and_the_others_go_on(four: Runs) -> None:
    with policy(four, "de", POLICY):
        job = four.run(four.document("new"))
    assert job.state == "finished", job.reason
    assert answers(job) == {"ar": "granted", "be": "granted", "ch": "granted", "de": "denied"}
    assert {item.cohort for item in job.rounds} == {("ar", "be", "ch")}
    never_trained(four, "de", job)
    signed = answer_of(four, "de", job)
    assert not signed.granted
    for rule in ("leads", "jurisdictions", "dataSets", "minimumCohort"):
        assert any(reason.startswith(f"rules.{rule}: ") for reason in signed.reasons), rule
    record, _ = recorded(four, "de", job)
    assert record is not None
    assert record.envelope == next(consent.envelope for consent in job.consents if consent.member == "de")
    described = said("concord", "describe", job.name, "--home", four.local.lead_home).out
    listed = said("concord-node", "consents", "--home", home(four, "de")).out
    (shown,) = [line for line in described.splitlines() if line.startswith("  de/de-1 ")]
    assert shown.split()[1] == "denied"
    assert f"  {job.name}  {job.digest.hex()[:12]}  lead lead  denied\n" in listed
    for reason in signed.reasons:
        assert reason in shown
        assert f"    {reason}\n" in listed


def test_too_few_consents_end_the_job_with_every_reason_and_nobody_trains(four: Runs) -> None:
    with (
        policy(four, "ar", leads=["somebody"]),
        policy(four, "be", dataSets=["other"]),
        policy(four, "ch", minimumCohort=4),
    ):
        job = four.run(four.document("denied"))
    assert (job.state, job.rounds) == ("failed", ())
    assert job.reason == (
        "1 members consented, and 3 are needed; denied by "
        "ar: rules.leads: lead lead is not allowed | "
        "be: rules.dataSets: data set numbers is not allowed | "
        "ch: rules.minimumCohort: the job may run with 3 members, this lab asks for at least 4"
    )
    for member in ("ar", "be", "ch"):
        never_trained(four, member, job)
    assert said("concord", "watch", job.name, "--home", four.local.lead_home).code == 1

    def ended() -> bool:
        _, taken = recorded(four, "de", job)
        return taken is not None and taken.state == "failed"

    eventually(ended)  # it had consented, and is told that nothing comes of it
    folder = home(four, "de") / "jobs" / job.digest.hex()
    eventually(lambda: not folder.exists())
    listed = said("concord-node", "consents", "--home", home(four, "de")).out
    assert f"  {job.digest.hex()[:12]}  lead lead  granted\n" in listed


def test_an_answer_is_on_disk_before_it_is_sent(four: Runs) -> None:
    """While the lab's disk takes no writes its node prepares the job, and says nothing."""
    path = four.document("disk")
    with closing(sqlite3.connect(home(four, "de") / "journal.db", isolation_level=None)) as disk:
        disk.execute("BEGIN IMMEDIATE")
        with four.submitted(path) as (client, name):
            others = {"ar": "granted", "be": "granted", "ch": "granted"}
            job = watch(client, name, until=lambda job: others.items() <= answers(job).items())
            eventually((home(four, "de") / "jobs" / job.digest.hex() / "bundle").exists)
            for _ in range(20):  # nothing is left to do but to write the answer down
                assert answers(client.job(name)) == {**others, "de": "asked"}
            assert recorded(four, "de", job) == (None, None)
            disk.execute("ROLLBACK")
            job = watch(client, name)
    assert job.state == "finished", job.reason
    assert answers(job) == {**others, "de": "granted"}
    record, _ = recorded(four, "de", job)
    assert record is not None
    assert record.granted
    assert answer_of(four, "de", job).granted


def test_a_node_whose_consent_is_gone_from_its_own_disk_stops_training(four: Runs) -> None:
    """Whatever the coordinator has kept: what counts is what the lab holds."""
    with four.submitted(four.document("gone", rounds=4, run_config={"pause": 0.2})) as (client, name):
        job = watch(client, name, until=lambda job: job.rounds_closed >= 1)
        assert job.rounds_closed < 3
        with closing(sqlite3.connect(home(four, "de") / "journal.db", timeout=10)) as disk, disk:
            disk.execute("DELETE FROM consents WHERE job=?", (job.digest,))
        job = watch(client, name)
    assert job.state == "finished", job.reason
    last = [item.cohort for item in job.rounds if item.phase == "closed"][-2:]
    assert last == [("ar", "be", "ch")] * 2
    assert any("de: refuses: policy-denied: This lab has not consented to the job." in line for line in job.lines)


def test_a_policy_file_that_cannot_be_read_denies_and_the_lead_is_told(four: Runs) -> None:
    with policy(four, "be", "apiVersion: concord/v1\nkind: NodePolicy\nrules:\n  lead: [lead]\n"):
        job = four.run(four.document("unread"))
    assert job.state == "finished", job.reason
    assert answers(job) == {"ar": "granted", "be": "refused", "ch": "granted", "de": "granted"}
    (reason,) = next(consent.reasons for consent in job.consents if consent.member == "be")
    assert "policy.yaml" in reason
    assert "rules.lead: unknown field. Did you mean leads?" in reason
    assert str(home(four, "be")) not in repr(job)  # where a lab keeps its files is its own business
    assert recorded(four, "be", job) == (None, None)
    assert not (home(four, "be") / "jobs" / job.digest.hex()).exists()


def test_figures_of_one_model_leave_over_one_cohort_in_all_jobs(four: Runs) -> None:
    """The second job evaluates the same first model, and asks one member less; its own would be the difference."""
    model = {"seed": 4711}
    assert four.run(four.document("whole", model=model)).state == "finished"
    asked = {"members": ["ar", "be", "ch"]}
    deadlines = {"attempts": 2, "readySeconds": 5, "phaseSeconds": 5}
    less = four.run(four.document("less", model=model, participants=asked, deadlines=deadlines))
    assert less.state == "failed"
    assert all(item.phase != "closed" for item in less.rounds)
    lines = said("concord", "logs", less.name, "--home", four.local.lead_home).out
    assert "figure-cohort" in lines
    assert "of this model left this lab in job" in lines
    assert "spec.model.seed" in lines
    assert " refused last: protocol-violation/figure-cohort: " in less.reason
    assert "spec.model.seed" in less.reason, "whoever describes the job reads what to do"
    other = four.run(four.document("other", model={"seed": 4712}, participants=asked))
    assert other.state == "finished", other.reason


def test_with_the_old_policies_all_take_part_again(four: Runs) -> None:
    job = four.run(four.document("again", participants={"minMembers": 4}))
    assert job.state == "finished", job.reason
    assert {item.cohort for item in job.rounds} == {ALL}
