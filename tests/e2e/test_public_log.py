"""The public log of real processes: what a job leaves in it, who cosigns, what a stranger checks; coordinators that rewrite it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from coordinator.audit.keys import make_log_key
from coordinator.client import audit_source
from coordinator.client.sdk import Federation
from coordinator.settings import Home as CoordinatorHome
from coordinator.settings import write_private
from examples.local_federation import LocalFederation
from federation.audit.entry import SHAPES, open_entry
from federation.audit.tiles import Part, decode_bundle
from federation.errors import InvalidUsage
from federation.identity.consent import open_consent
from federation.identity.credential import verify_credential
from federation.identity.roll import Roll
from node_agent.witness.notebook import Notebook
from tests.e2e.commands import eventually, refused, said
from tests.e2e.conftest import PLACES
from tests.e2e.runs import DATA, Runs, members_of, watch, workers
from tests.e2e.test_watching import samples

ROOT = Path(__file__).resolve().parents[2]


def audit(runs: Runs, *words: str | Path) -> str:
    answer = said("concord", "audit", *words)
    assert answer.code == 0, answer.err
    return answer.out


def verified(runs: Runs, *words: str | Path) -> dict:
    return json.loads(audit(runs, "verify", "-o", "json", *words))


def test_a_job_stands_in_the_log_and_every_node_cosigns_it(three: Runs) -> None:
    job = three.run(three.document("logged"))
    assert job.state == "finished"
    home = three.local.lead_home
    everybody = {f"concord/three/{name}/{name}-1" for name, _ in PLACES}
    eventually(lambda: set(verified(three, "--home", home)["witnesses"]) == everybody, seconds=30)

    copy = three.folder / "log"
    said("concord", "audit", "fetch", copy, "--home", home)
    document = verified(three, "--folder", copy, "--roll", three.local.folder / "roll.json", "--home", home)
    assert {
        "founding",
        "enrolment",
        "submission",
        "consent",
        "roster",
        "round-closed",
        "certificate",
        "job-state",
    } <= set(document["kinds"])
    entries = walk(copy, document["size"])
    assert len(entries) == document["size"]
    digest = job.digest.hex()
    of_job = [entry for entry in entries if entry.fields.get("job") == digest]
    assert [e.fields["state"] for e in of_job if e.kind == "job-state"] == ["ready", "running", "finished"]
    closed = [e.fields["round"] for e in of_job if e.kind == "round-closed" and e.fields["outcome"] == "closed"]
    assert closed == ["1", "2", "3"], "the third is the last evaluation"
    assert {e.fields["member"] for e in of_job if e.kind == "consent"} == {name for name, _ in PLACES}

    # One consent, proved to somebody who has the proof, the key and the roll, and no network.
    consent = next(entry for entry in of_job if entry.kind == "consent")
    proof = three.folder / "consent.tlog-proof"
    audit(three, "prove", "--entry", consent.document.hex(), "--out", proof, "--home", home)
    told = audit(
        three, "check", proof, "--key", copy / "log.key", "--roll", three.local.folder / "roll.json", "--folder", copy
    )
    assert "consent" in told
    assert "concord/three/" in told, "cosigned"
    with Federation.connect(home) as federation:
        envelope = audit_source.document(federation, consent.document)
        credentials = audit_source.from_coordinator(federation).credentials()
    roll = Roll.open((three.local.folder / "roll.json").read_bytes())
    node = next(
        known for known in (verify_credential(each, roll, None) for each in credentials)
        if known.member == consent.fields["member"]
    )  # fmt: skip
    assert open_consent(envelope, node).job == job.digest

    page = three.folder / "log.html"
    audit(three, "report", "--html", page, "--folder", copy, "--key", copy / "log.key", "--job", digest[:12])
    assert page.read_text().count("granted job") == 2 * len(PLACES)


def walk(copy: Path, size: int) -> list:
    """Every entry that the federation has written, against the closed list; and nothing of anybody's words or data in them."""
    entries = []
    for number in range(-(-size // 256)):
        part = Part(None, number, min(256, size - number * 256))
        for data in decode_bundle((copy / part.path).read_bytes(), part.width):
            entry = open_entry(data)
            assert set(SHAPES[entry.kind].required) <= set(entry.fields) <= set(SHAPES[entry.kind].fields)
            entries.append(entry)
            for word in ("Research", "Laboratory", DATA, "loss", "/", "no reason"):
                assert word.encode() not in data, data
    return entries


def test_a_stranger_reads_it_over_http(three: Runs) -> None:
    run = json.loads((three.local.coordinator.home / "run.json").read_text())
    url = f"http://{run['metrics']}/log"
    key = three.local.coordinator.home / "log.key.pub"
    assert verified(three, "--url", url, "--key", key)["size"] > 5


def test_an_officer_needs_no_node_and_finds_its_own_word(three: Runs) -> None:
    """As an observer's officer does. What this home has signed is looked for: here the order of a drill."""
    three.local.login_officer("be")
    home = three.local.officer_home("be")
    document = verified(three, "--home", home)
    assert document["keyNamedByCharter"]
    assert not any("has signed" in sentence for sentence in document["checks"])
    three.local.officer("be", "drill")
    document = verified(three, "--home", home)
    assert any("all 1 that this home has signed" in sentence for sentence in document["checks"])


def test_a_node_shows_what_it_witnessed(three: Runs) -> None:
    for name, _ in PLACES:
        home = three.local.nodes[name].home
        others = {f"concord/three/{other}/{other}-1" for other, _ in PLACES if other != name}
        eventually(lambda home=home, others=others: others <= set(shown(home)["seen"]), seconds=30)
        document = shown(home)
        assert document["stopped"] is None
        assert not any(each["late"] for each in document["waitingFor"])
        assert (
            verified(three, "--since", home / "witness" / "head", "--home", three.local.lead_home)["continues"]
            <= document["size"] + 500
        )
    home = three.local.nodes["ar"].home
    refused(said("concord-node", "witness", "reset", "--home", home), InvalidUsage, "forget")
    refused(said("concord-node", "witness", "reset", "--yes", "--home", home), InvalidUsage, "Another node runs")


def shown(home: Path) -> dict:
    answer = said("concord-node", "witness", "show", "-o", "json", "--home", home)
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


# ------------------------------------------------------------------------------------------------------ rewritten histories


@pytest.fixture(scope="module")
def lying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    folder = tmp_path_factory.mktemp("lying")
    local = LocalFederation(folder / "federation", "lying", members_of(folder / "data", *PLACES))
    local.coordinator.module = "tests.e2e.hostile.log"
    local.coordinator.environment = {
        "CONCORD_TEST_LIE": str(folder / "lie"),
        "CONCORD_COORDINATOR_LOG_HEAD_SECONDS": "0.1",
        "PYTHONPATH": str(ROOT),
    }
    try:
        local.found()
        for member in local.members:
            local.enrol(member)
            settings = local.nodes[member.id].home / "node.yaml"
            settings.write_text(yaml.safe_dump({**yaml.safe_load(settings.read_text()), "witnessSeconds": 2}))
        local.login()
        local.start_nodes()
        seen(local)
        yield Runs(local, folder)
    finally:
        local.stop()


def seen(local: LocalFederation) -> None:
    """Each node has taken a first look: a history that it never saw, it cannot miss."""
    for service in local.nodes.values():
        eventually(lambda service=service: shown(service.home)["size"])


def tell(runs: Runs, lie: str) -> None:
    (runs.folder / "lie.new").write_text(lie)
    (runs.folder / "lie.new").rename(runs.folder / "lie")


def stop_of(runs: Runs, name: str):
    return Notebook(runs.local.nodes[name].home / "witness").state.stop


def stopped(runs: Runs, *names: str) -> bool:
    return all(stop_of(runs, name) is not None for name in names)


def grown(runs: Runs, name: str) -> None:
    """A job is submitted, so that the log grows and nodes look. Then they have stopped."""
    with runs.submitted(runs.document(name, rounds=1)) as (client, job):
        eventually(lambda: stopped(runs, "ar", "be", "ch"), seconds=60)
        if not client.job(job).ended:
            runs.local.concord("cancel", job)


def convicted(runs: Runs, findings: set[str]) -> None:
    """Each lab has evidence, which anybody checks."""
    key = runs.local.coordinator.home / "log.key.pub"
    for name, service in runs.local.nodes.items():
        stop = stop_of(runs, name)
        assert stop.finding in findings, (name, stop)
        told = said("concord", "audit", "fork", service.home / "witness" / stop.evidence, "--key", key)
        assert told.code == 0, told.err
        assert stop.finding in told.out
        assert "STOPPED" in said("concord-node", "witness", "show", "--home", service.home).out
        assert samples(service)["concord_node_log_stopped", ()] == 1, "what AuditVerificationFailed fires on"


def looked_at(runs: Runs) -> None:
    """The labs have looked, and let their nodes go on; which they do."""
    tell(runs, "")
    for service in runs.local.nodes.values():
        service.stop()
        assert said("concord-node", "witness", "reset", "--yes", "--home", service.home).code == 0
    runs.local.start_nodes()
    seen(runs.local)
    for service in runs.local.nodes.values():
        assert shown(service.home)["stopped"] is None


def test_log_fork_shown_to_two_nodes(lying: Runs) -> None:
    """Attack 49. One node is shown another history in the middle of a job; what it cosigned convicts the log before the others."""
    path = lying.document(
        "forked", rounds=5000, deadlines={"phaseSeconds": 2, "readySeconds": 2, "reconnectSeconds": 2}
    )
    with lying.submitted(path) as (client, name):
        watch(client, name, until=lambda job: job.rounds_closed >= 2)
        assert workers(lying)
        tell(lying, "fork ch")
        eventually(lambda: stopped(lying, "ar", "be"), seconds=60)
        assert not stopped(lying, "ch"), "it has seen one history only"
        assert stop_of(lying, "ar").finding in {"two-roots", "other-history"}
        tell(lying, "lie no more")
        eventually(lambda: stopped(lying, "ch"), seconds=60)  # now it has seen two
        eventually(lambda: not workers(lying), seconds=30)
        closed = client.job(name).rounds_closed
        asked = client.submit(lying.document("asked", rounds=1, deadlines={"consentSeconds": 2, "reconnectSeconds": 1}))
        unheard = watch(client, asked.name)
        assert unheard.state == "failed"
        assert "witness of the public log" in unheard.reason
        assert client.job(name).rounds_closed <= closed + 1
        if not client.job(name).ended:
            lying.local.concord("cancel", name)
    convicted(lying, {"two-roots", "other-history"})
    looked_at(lying)
    assert lying.run(lying.document("healed", rounds=1)).state == "finished"


def test_rollback_of_the_log(lying: Runs) -> None:
    """Attack 50: every node notices at its next look, and the log's own timestamps convict it."""
    tell(lying, "rollback")
    grown(lying, "rolled")
    convicted(lying, {"taken-back", "other-history"})  # the second where it has grown beyond the old head by then
    looked_at(lying)


def test_entry_removed(lying: Runs) -> None:
    """Attack 51: the founding is taken out of a log that goes on growing."""
    tell(lying, "removed")
    grown(lying, "removed")
    convicted(lying, {"other-history", "two-roots", "taken-back"})
    looked_at(lying)


def test_log_key_swapped_by_the_coordinator(lying: Runs) -> None:
    """Attack 56: the true entries under another key than the charter's. No node cosigns, and no reader believes it."""
    tell(lying, "swapped")
    grown(lying, "swapped")
    for name, _ in PLACES:
        stop = stop_of(lying, name)
        assert (stop.finding, "charter names that key" in stop.sentence) == ("unverifiable", True)
    looked_at(lying)
    assert (
        "named by the members' charter since version 1"
        in said("concord-node", "witness", "show", "--home", lying.local.nodes["ar"].home).out
    )


def test_a_vote_changes_the_key_and_every_node_goes_on_with_the_same_tree(lying: Runs) -> None:
    """Two of three members name another key; the coordinator starts again with it, on its database."""
    local, home = lying.local, CoordinatorHome(lying.local.coordinator.home)
    local.login_officer("ar")
    local.login_officer("be")
    next_home = CoordinatorHome(lying.folder / "next")
    key = make_log_key(next_home, "lying")
    before = shown(local.nodes["ch"].home)
    proposal = local.officer("ar", "propose", "coordinator", "--log-key", next_home.log_key).strip()
    for officer in ("ar", "be"):
        local.officer(officer, "vote", proposal[:12], "yes")
    eventually(lambda: all(shown(node.home)["charterKey"] == str(key) for node in local.nodes.values()))
    local.coordinator.stop()
    home.key("log").unlink()
    write_private(home.key("log"), next_home.read_key("log"))
    local.coordinator.start()
    local.coordinator.wait_ready()
    eventually(lambda: all(shown(node.home)["key"] == str(key) for node in local.nodes.values()), seconds=60)
    for node in local.nodes.values():
        document = shown(node.home)
        assert (document["stopped"], document["size"] >= before["size"]) == (None, True)
    assert lying.run(lying.document("rekeyed", rounds=1)).state == "finished"
    local.officer("ar", "roll", "fetch")
    document = verified(lying, "--home", local.officer_home("ar"))
    assert document["keyIs"] == "named by the members' charter since version 2 of the roll"
    assert any("has signed: votes" in sentence for sentence in document["checks"])
