"""Members decide, over real processes: a suspension while a job runs, votes signed elsewhere, a lead that is put out, a new key.

One federation of five, one story: each test begins where the one before ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.client.governing import Governing
from coordinator.client.sdk import Federation
from coordinator.client.views import Job
from examples.local_federation import LocalFederation
from federation.errors import InvalidIdentity, OutOfOrder, Unavailable
from federation.identity.consent import read_consent
from federation.identity.envelope import open_envelope
from federation.identity.roll import Roll
from node_agent.settings import Home as NodeHome
from tests.e2e.commands import eventually, refused, said
from tests.e2e.runs import Runs, members_of, watch

PLACES = (("ar", "AR"), ("be", "BE"), ("ch", "CH"), ("dk", "DK"), ("eg", "EG"))
NAMES = tuple(name for name, _ in PLACES)
SPEC = {"deadlines": {"reconnectSeconds": 1, "readySeconds": 5, "phaseSeconds": 5}, "participants": {"minMembers": 3}}


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Five members whose officers are logged in; four of them are two thirds."""
    folder = tmp_path_factory.mktemp("assembly")
    with LocalFederation(folder / "federation", "assembly", members_of(folder / "data", *PLACES)) as local:
        for name in NAMES:
            ticket = local.folder / f"{name}-officer-ticket.json"
            told(
                said(
                    "concord-coordinator",
                    "ticket",
                    "--home",
                    local.coordinator.home,
                    "--officer",
                    name,
                    "--out",
                    ticket,
                )
            )
            officer(local, name, "login", "--ticket", ticket)
        yield Runs(local, folder)


def told(answer: object) -> str:
    assert answer.code == 0, answer  # type: ignore[attr-defined]
    return str(answer.out).strip()  # type: ignore[attr-defined]


def officer(local: LocalFederation, name: str, *words: str | Path) -> str:
    return told(said("concord", *words, "--home", local.officer_home(name)))


def node_roll(runs: Runs, name: str) -> Roll:
    return Roll.open(NodeHome(runs.local.nodes[name].home).roll.read_bytes())


def vote(runs: Runs, proposal: str, *names: str) -> None:
    for name in names:
        officer(runs.local, name, "vote", proposal[:12], "yes")


def nodes(runs: Runs) -> dict[str, dict[str, object]]:
    listed = json.loads(officer(runs.local, "ar", "get", "nodes", "-o", "json"))
    return {node["member"]: node for node in listed}


def log_of(runs: Runs, name: str) -> str:
    return runs.local.nodes[name].log.read_text()


def test_a_member_that_is_suspended_while_a_job_runs_is_out_and_the_job_goes_on(five: Runs) -> None:
    local = five.local
    decided: list[str] = []

    def decide(job: Job) -> None:
        if not decided and job.rounds_closed >= 1:
            decided.append(
                officer(local, "ar", "propose", "suspension", "--suspend", "eg", "--title", "It broke rule 4")
            )
            vote(five, decided[0], "ar", "be", "ch")
            assert nodes(five)["eg"]["state"] == "active", "three of five are no two thirds"
            vote(five, decided[0], "dk")
            assert nodes(five)["eg"]["state"] == "suspended"

    job = five.run(five.document("suspended", rounds=8, run_config={"pause": 0.3}, **SPEC), each=decide)
    assert job.state == "finished", job.reason
    last = [item.cohort for item in job.rounds if item.phase == "closed"][-1]
    assert set(last) == set(NAMES) - {"eg"}
    assert (set(job.roster), job.epoch) == (set(NAMES) - {"eg"}, 2), "the next epoch was formed without it"
    # Every node that may be told has the roll on its disk, and has said so under its own signature.
    for name in NAMES[:4]:
        eventually(lambda name=name: node_roll(five, name).version == 2)
        eventually(lambda name=name: nodes(five)[name]["roll"] == 2)
    # The node that was put out is refused at the door, and told why.
    eventually(lambda: "is suspended by the roll, version 2" in log_of(five, "eg"))
    assert not nodes(five)["eg"]["connected"]
    members = json.loads(officer(local, "ar", "get", "members", "-o", "json"))
    assert [member["state"] for member in members] == ["active"] * 4 + ["suspended"]
    shown = officer(local, "be", "proposals", decided[0][:12])
    assert "in-force" in shown
    assert "needs suspension: eg is suspended" in shown
    history = officer(local, "be", "roll", "history")
    assert "ar:yes be:yes ch:yes dk:yes" in history
    assert "founded" in history


def test_whoever_is_suspended_has_no_vote_no_node_and_no_ticket(five: Runs) -> None:
    local = five.local
    ticket = local.folder / "again.json"
    answer = said(
        *("concord-coordinator", "ticket", "--home", local.coordinator.home, "--member", "eg", "--node", "eg-2"),
        *("--out", ticket),
    )
    refused(answer, InvalidIdentity, "The member eg is suspended by the roll, version 2")
    proposal = officer(local, "ar", "propose", "admission", "--restore", "eg")
    refused(
        said("concord", "vote", proposal[:12], "yes", "--home", local.officer_home("eg")),
        InvalidIdentity,
        "not signed by the officer of a member in good standing",
    )
    refused(
        said("concord", "propose", "admission", "--restore", "eg", "--home", local.officer_home("eg")),
        InvalidIdentity,
        "not signed by the officer of a member that has a vote",
    )


def test_a_vote_is_signed_on_a_machine_without_a_network(five: Runs, tmp_path: Path) -> None:
    """ar's key is taken away from the machine that talks to the coordinator."""
    local = five.local
    proposal = json.loads(officer(local, "ar", "proposals", "-o", "json"))[0]["proposal"]
    vault = tmp_path / "vault"
    (vault / "keys").mkdir(parents=True, mode=0o700)
    key = local.officer_home("ar") / "keys" / "identity.key"
    key.rename(vault / "keys" / "identity.key")
    for name in ("profile.json", "card.json"):
        (vault / name).write_bytes((local.officer_home("ar") / name).read_bytes())
    request = tmp_path / "vote.json"
    officer(local, "ar", "vote", proposal[:12], "yes", "--offline", request)
    shown = said("concord", "sign", request, "--home", vault)
    assert shown.code == 0, shown
    assert "choice: 'yes'" in shown.err
    officer(local, "ar", "send", request)
    vote(five, proposal, "be", "ch")
    eventually(lambda: node_roll(five, "ar").member("eg").active)
    (vault / "keys" / "identity.key").rename(key)
    refused(said("concord", "vote", proposal[:12], "no", "--home", local.officer_home("dk")), OutOfOrder, "in-force")
    # The node of the member that was taken back comes in again by itself.
    eventually(lambda: nodes(five)["eg"]["connected"])
    eventually(lambda: node_roll(five, "eg").version == 3)
    assert five.run(five.document("restored", **SPEC)).state == "finished"


def test_a_lead_that_is_suspended_has_no_jobs_any_more(five: Runs) -> None:
    local = five.local
    path = five.document("of-a-suspended-lead", rounds=40, run_config={"pause": 0.3}, **SPEC)
    with five.submitted(path) as (client, name):
        watch(client, name, until=lambda job: job.rounds_closed >= 1)
        draft = local.folder / "without-the-lead.json"
        officer(local, "ar", "roll", "amend", "--suspend-lead", "lead", "--out", draft)
        officer(local, "ar", "roll", "sign", "--roll", draft)
        officer(local, "ar", "roll", "put", draft)
        with pytest.raises(InvalidIdentity, match="the lead lead is suspended"):
            client.jobs()
    with Federation.connect(local.officer_home("be")) as reader:
        job = reader.job(name)
        assert (job.state, "the lead lead is suspended" in job.reason) == ("failed", True)
    for name in NAMES:
        eventually(lambda name=name: "the lead lead is suspended by the roll, version 4" in log_of(five, name))


def test_an_officer_takes_a_new_key_and_signs_its_node_anew(five: Runs) -> None:
    local = five.local
    draft = local.folder / "new-key.json"
    officer(local, "be", "roll", "fetch")
    officer(local, "be", "member", "rotate", "--out", draft)
    before = Roll.open((local.officer_home("be") / "roll.json").read_bytes()).member("be").officer_key
    officer(local, "be", "roll", "put", draft)
    eventually(lambda: node_roll(five, "ar").version == 5)
    roll = node_roll(five, "ar")
    assert roll.member("be").officer_key != before
    assert officer(local, "be", "propose", "admission", "--restore-lead", "lead")  # it signs with the new one
    # What the old key signed holds no more: the node needs the new key's word.
    node = local.nodes["be"]
    node.stop()
    node.start()
    with pytest.raises(Unavailable, match="node-be did not start"):
        node.wait_ready()
    assert "not signed by the officer of be on the membership roll" in log_of(five, "be")
    request, credential, ticket = (
        local.folder / f"be-again-{what}.json" for what in ("request", "credential", "ticket")
    )
    request.write_bytes((local.folder / "be-1-request.json").read_bytes())
    officer(local, "be", "member", "sign-node", "--request", request, "--out", credential)
    told(
        said(
            *("concord-coordinator", "ticket", "--home", local.coordinator.home, "--member", "be", "--node", "be-1"),
            *("--out", ticket),
        )
    )
    told(said("concord-node", "join", "--home", node.home, "--ticket", ticket, "--credential", credential))
    node.start()
    node.wait_ready()


def test_the_coordinator_is_started_again_and_nothing_that_was_decided_is_lost(five: Runs) -> None:
    local = five.local
    local.coordinator.kill()
    local.start_coordinator()
    with Federation.connect(local.officer_home("ch")) as federation:
        governing = Governing(federation)
        assert governing.fetch_roll().version == 5
        listed = governing.proposals()
    assert [asked.standing for asked in listed] == ["open", "in-force", "in-force"]
    assert all(asked.tally.yes >= 3 for asked in listed[1:])


def test_a_member_that_is_taken_back_comes_into_the_job_that_runs_with_a_fresh_consent(five: Runs) -> None:
    """Suspended after the first round, out of the next epoch, taken back, asked anew, and in the sums again."""
    listed = json.loads(officer(five.local, "ar", "proposals", "-o", "json"))
    vote(five, next(each["proposal"] for each in listed if each["state"] == "open"), "ar", "be", "ch", "dk")
    path = five.document("put-out-and-back", rounds=60, run_config={"pause": 0.2}, **SPEC)
    with five.submitted(path) as (client, name):
        first = consent_of(watch(client, name, until=lambda job: job.rounds_closed >= 1), "eg")
        vote(five, officer(five.local, "ar", "propose", "suspension", "--suspend", "eg"), "ar", "be", "ch", "dk")
        without = watch(client, name, until=lambda job: job.epoch == 2 and "eg" not in job.rounds[-1].cohort)
        assert set(without.roster) == set(NAMES) - {"eg"}
        vote(five, officer(five.local, "ar", "propose", "admission", "--restore", "eg"), "ar", "be", "ch")
        again = watch(client, name, until=lambda job: "eg" in job.rounds[-1].cohort and job.epoch == 3)
        assert set(again.roster) == set(NAMES)
        second = consent_of(again, "eg")
        assert first != second, "it was asked anew"
        assert second == node_roll(five, "eg").digest
        client.withdraw(name, "seen")


def consent_of(job: Job, member: str) -> bytes:
    """The digest of the roll under which the member has consented."""
    said = next(each for each in job.consents if each.member == member)
    assert said.state == "granted"
    binds = read_consent(open_envelope(said.envelope, "consent")).binds
    assert binds is not None
    return binds.roll
