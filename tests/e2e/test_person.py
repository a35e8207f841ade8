"""A person at a lab decides: grants one job, denies another, takes a consent back while the job runs. The others go on."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import yaml

from coordinator.client.sdk import Federation
from coordinator.client.views import Job
from federation.errors import InvalidUsage, NotFound, PolicyDenied
from federation.identity.credential import verify_credential
from federation.identity.revocation import open_revocation
from federation.identity.roll import Roll
from node_agent.store.revocations import Revocations
from tests.e2e.commands import Said, eventually, refused, said
from tests.e2e.runs import Runs, watch
from tests.e2e.test_consent import answer_of, answers, home, policy, recorded

PATIENT = {"consentSeconds": 60, "readySeconds": 5, "phaseSeconds": 5}


def node(runs: Runs, command: str, *words: str) -> Said:
    return said("concord-node", command, *words, "--home", home(runs, "de"))


@contextmanager
def asking_a_person(runs: Runs) -> Iterator[None]:
    """The lab changes its settings, and starts its node again."""
    path, service = home(runs, "de") / "node.yaml", runs.local.nodes["de"]
    before = path.read_text()
    path.write_text(yaml.safe_dump({**yaml.safe_load(before), "consent": "person", "deciders": ["officer", "deputy"]}))
    service.stop()
    service.start()
    service.wait_ready()
    try:
        yield
    finally:
        path.write_text(before)
        service.stop()
        service.start()
        service.wait_ready()


@pytest.fixture(scope="module")
def person(four: Runs) -> Iterator[Runs]:
    with asking_a_person(four):
        yield four


def waits(job: Job) -> bool:
    (shown,) = (consent for consent in job.consents if consent.member == "de")
    return (
        shown.state == "asked" and shown.reasons[0].startswith("waits for a person until ") if shown.reasons else False
    )


def test_a_person_grants_one_job_and_denies_another(person: Runs) -> None:
    one, other = person.document("granted", deadlines=PATIENT), person.document("refused", deadlines=PATIENT)
    with person.submitted(one) as (client, name), person.submitted(other) as (_, second):
        job = watch(client, name, until=lambda job: bool(job.consents) and len(job.consents) == 4 and waits(job))
        assert job.state == "consulting"
        watch(client, second, until=lambda job: len(job.consents) == 4 and waits(job))
        described = said("concord", "describe", name, "--home", person.local.lead_home).out
        assert "waits for a person until " in described
        listed = json.loads(node(person, "inbox", "-o", "json").out)["questions"]
        assert {item["name"] for item in listed} == {name, second}
        assert all(item["lead"] == "lead" and item["policy"] for item in listed)
        shown = node(person, "show", name).out
        assert "who asks   lead of ar" in shown
        assert "data       numbers" in shown
        assert stat.S_IMODE((home(person, "de") / "control.sock").stat().st_mode) == 0o600
        refused(
            node(person, "grant", name, "--as", "janitor"), PolicyDenied, "janitor does not decide", "officer, deputy"
        )
        refused(node(person, "grant", name, "--until", "2020-01-01"), InvalidUsage, "has passed")
        refused(node(person, "grant", "nothing"), NotFound, "concord-node inbox")
        assert recorded(person, "de", job) == (None, None)
        granted = node(person, "grant", name, "--until", "2027-01-01", "--as", "deputy")
        assert (granted.code, granted.err) == (0, f"{name}: granted, signed and kept.\n")
        denied = node(person, "deny", second, "--reason", "the board said no to Dr. Schmid")
        assert (denied.code, denied.err) == (0, f"{second}: denied, signed and kept.\n")
        refused(node(person, "grant", second), InvalidUsage, "decided already: denied")
        first, last = watch(client, name), watch(client, second)
    assert first.state == "finished", first.reason
    assert last.state == "finished", last.reason
    assert answers(first)["de"] == "granted"
    assert answers(last)["de"] == "denied"
    assert {item.cohort for item in first.rounds if item.phase == "closed"} == {("ar", "be", "ch", "de")}
    assert all("de" not in item.cohort for item in last.rounds)
    consent, denial = answer_of(person, "de", first), answer_of(person, "de", last)
    assert (consent.given.how, consent.given.by) == ("person", "deputy")  # type: ignore[union-attr]
    assert consent.expires.isoformat() == "2027-01-01T00:00:00+00:00"
    assert consent.binds is not None
    assert [name for name, _ in consent.binds.data] == ["numbers"]
    assert denial.reasons == ("consent: a person at the lab (officer) denied",)
    assert "Schmid" not in repr(last), "the words of a person stay at the lab"
    assert node(person, "inbox").out == "nothing waits for a person\n"


def test_a_decision_while_the_node_is_down_is_said_when_it_starts(person: Runs) -> None:
    with person.submitted(person.document("asleep", deadlines={**PATIENT, "reconnectSeconds": 60})) as (client, name):
        watch(client, name, until=lambda job: len(job.consents) == 4 and waits(job))
        service = person.local.nodes["de"]
        service.stop()
        told = node(person, "grant", name)
        assert (told.code, told.err) == (
            0,
            f"{name}: granted. The node does not run: it signs and says so when it starts.\n",
        )
        assert client.job(name).state == "consulting", "whom a person decides for is waited for"
        service.start()
        service.wait_ready()
        job = watch(client, name)
    assert job.state == "finished", job.reason
    assert answers(job)["de"] == "granted"
    assert "de" in job.rounds[-1].cohort


def test_a_question_is_over_when_its_lead_takes_the_job_back_also_while_the_node_is_down(person: Runs) -> None:
    patient = {**PATIENT, "reconnectSeconds": 60}
    with person.submitted(person.document("taken", deadlines=patient)) as (client, name):
        watch(client, name, until=lambda job: len(job.consents) == 4 and waits(job))
        assert said("concord", "cancel", name, "--reason", "no money", "--home", person.local.lead_home).code == 0
        eventually(lambda: node(person, "inbox").out == "nothing waits for a person\n")
        refused(
            node(person, "grant", name), InvalidUsage, "over since", "its lead has taken the job back: no money", "anew"
        )
    with person.submitted(person.document("asleep-too", deadlines=patient)) as (client, name):
        job = watch(client, name, until=lambda job: len(job.consents) == 4 and waits(job))
        service = person.local.nodes["de"]
        service.stop()
        assert said("concord", "cancel", name, "--reason", "no time", "--home", person.local.lead_home).code == 0
        assert name in node(person, "inbox").out, "nobody could tell it yet"
        service.start()
        service.wait_ready()
        eventually(lambda: node(person, "inbox").out == "nothing waits for a person\n")
        assert "undecided: its lead has taken the job back: no time" in node(person, "inbox", "--all").out
    assert recorded(person, "de", job) == (None, None), "what nobody decided is not signed"


def test_what_nobody_decides_in_time_is_denied(person: Runs) -> None:
    deadlines = {**PATIENT, "consentSeconds": 3}
    with person.submitted(person.document("late", deadlines=deadlines)) as (client, name):
        job = watch(client, name)
        assert job.state == "finished", job.reason
        digest = job.digest
        eventually(lambda: recorded(person, "de", job)[0] is not None)
    record, taken = recorded(person, "de", job)
    assert record is not None
    assert record.job == digest
    assert not record.granted
    assert record.reasons[0].startswith("consent: nobody at the lab decided until ")
    assert taken is None
    refused(node(person, "grant", name), InvalidUsage, "decided already: late")


def agreed(runs: Runs, client: Federation, name: str) -> None:
    watch(client, name, until=lambda job: len(job.consents) == 4 and waits(job))
    assert node(runs, "grant", name).code == 0


def test_a_member_that_takes_its_consent_back_is_out_and_the_others_finish(person: Runs) -> None:
    with person.submitted(person.document("revoked", rounds=8, run_config={"pause": 0.2})) as (client, name):
        agreed(person, client, name)
        job = watch(client, name, until=lambda job: job.rounds_closed >= 2)
        assert "de" in job.roster
        closed = job.rounds_closed
        told = node(person, "revoke", name, "--reason", "a patient withdrew")
        assert told.code == 0, told
        job = watch(client, name)
    assert job.state == "finished", job.reason
    assert answers(job)["de"] == "revoked"
    cohorts = {item.round: item.cohort for item in job.rounds if item.phase == "closed"}
    assert "de" in cohorts[1]
    assert all("de" not in cohort for number, cohort in cohorts.items() if number > closed + 2)
    assert job.roster == ("ar", "be", "ch")
    record, taken = recorded(person, "de", job)
    assert record is not None
    assert record.granted, "the consent is kept, beside what ends it"
    assert taken is not None
    assert taken.state == "revoked"
    revocations = Revocations(home(person, "de") / "revocations")
    eventually(lambda: revocations.noted(job.digest))
    envelope = revocations.of(job.digest)
    assert envelope is not None
    roll = Roll.open((person.local.folder / "roll.json").read_bytes())
    credential = verify_credential((home(person, "de") / "credential.json").read_bytes(), roll, None)
    assert open_revocation(envelope, credential).by == "officer"
    assert "patient" not in repr(job)
    listed = node(person, "consents").out
    assert f"{name}  {job.digest.hex()[:12]}  lead lead  revoked\n" in listed
    assert "    revoked: a patient withdrew\n" in listed
    refused(node(person, "revoke", "nothing", "--reason", "x"), NotFound, "concord-node consents")
    release = person.release(name)  # which verifies it
    assert (release / "revocations" / "de.json").read_bytes() == envelope
    assert re.search(
        r"ok +revocations .* these and no others took their consent back: de \(consent revoked by the lab \(officer\) at .*\) "
        r"before round [1-9] closed, and counts in none after it\.",
        said("concord", "verify", release, "--roll", person.local.folder / "roll.json").out,
    )


def test_a_revoked_consent_does_not_come_back_by_a_restart(person: Runs) -> None:
    with person.submitted(person.document("again", rounds=6, run_config={"pause": 0.3})) as (client, name):
        agreed(person, client, name)
        watch(client, name, until=lambda job: job.rounds_closed >= 1)
        service = person.local.nodes["de"]
        service.kill()
        assert node(person, "revoke", name, "--reason", "while nobody looks").code == 0
        service.start()
        service.wait_ready()
        job = watch(client, name, until=lambda job: answers(job)["de"] == "revoked")
        person.local.coordinator.kill()
        person.local.start_coordinator()
        job = watch(client, name)
    assert job.state == "finished", job.reason
    assert "de" not in job.rounds[-1].cohort
    assert answers(job)["de"] == "revoked"


def test_a_lab_that_starts_under_other_rules_is_out_with_their_reasons_and_the_others_finish(person: Runs) -> None:
    says = "rules.leads: lead lead is not allowed"
    with person.submitted(person.document("narrower", rounds=8, run_config={"pause": 0.2})) as (client, name):
        agreed(person, client, name)
        watch(client, name, until=lambda job: job.rounds_closed >= 1)
        service = person.local.nodes["de"]
        with policy(person, "de", leads=["somebody"]):
            service.stop()
            service.start()
            service.wait_ready()
            job = watch(client, name)
    assert job.state == "finished", job.reason
    (answer,) = (consent for consent in job.consents if consent.member == "de")
    assert answer.state == "revoked"
    assert answer.reasons[0].startswith("consent revoked by the lab's rules at ")
    assert answer.reasons[0].endswith(says)
    assert "de" not in job.rounds[-1].cohort
    shown = node(person, "explain", name).out
    assert "granted, by a person (officer)" in shown
    assert "weighed    again at " in shown
    assert says.removeprefix("rules.leads: ") in shown
    assert f"    revoked: {says}\n" in node(person, "consents").out


def test_too_few_members_that_are_left_end_the_job_with_who_went(person: Runs) -> None:
    path = person.document("few", rounds=50, run_config={"pause": 0.2}, participants={"minMembers": 4})
    with person.submitted(path) as (client, name):
        agreed(person, client, name)
        watch(client, name, until=lambda job: job.rounds_closed >= 1)
        assert node(person, "revoke", name, "--reason", "x").code == 0
        job = watch(client, name)
    assert job.state == "failed"
    assert job.reason.startswith("3 members are left, and 4 are needed (de: consent revoked by the lab (officer) at ")
