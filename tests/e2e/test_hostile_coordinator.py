"""Attacks on real nodes by a coordinator that lies on purpose (tests/e2e/hostile). What is read is what people can see: a node's
log, its evidence and its metrics, the story of the job, and the model that comes out."""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import stat
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from coordinator.client.views import Job
from coordinator.registry.authority import Authority
from examples.local_federation import LocalFederation, Service
from federation.errors import NotFound
from federation.secagg.votes import vote
from node_agent.store.evidence import PIECES
from node_agent.store.journal import Journal
from tests.e2e.commands import eventually, refused, said
from tests.e2e.runs import Runs, members_of, watch

ROOT = Path(__file__).resolve().parents[2]
PLACES = (("ar", "AR"), ("be", "BE"), ("ch", "CH"), ("de", "DE"))
NAMES = tuple(name for name, _ in PLACES)
SHORT = {"reconnectSeconds": 2, "readySeconds": 1, "phaseSeconds": 1, "formationSeconds": 3, "formationAttempts": 20}
MODEST = 64 << 20
"""bytes by which a process may grow while it is flooded"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    folder = tmp_path_factory.mktemp("hostile")
    local = LocalFederation(folder / "federation", "hostile", members_of(folder / "data", *PLACES))
    local.coordinator.module = "tests.e2e.hostile.coordinator"
    local.coordinator.environment = {"CONCORD_TEST_COLLUDER": str(local.nodes["ar"].home), "PYTHONPATH": str(ROOT)}
    with local:
        yield Runs(local, folder)


def document(runs: Runs, lie: str, rounds: int = 3, **spec: Any) -> Path:
    wanted = {
        "deadlines": SHORT,
        "participants": {"minMembers": 4},
        "secureAggregation": {"ringBits": 32},  # so that a wrong sum is not mistaken for rounding
        "coordinatorView": "sum",
        "finalEvaluation": False,
        **spec,
    }
    return runs.document(lie, rounds=rounds, **wanted)


def lines(runs: Runs, member: str, job: Job, event: str) -> list[dict[str, Any]]:
    read = [json.loads(line) for line in runs.local.nodes[member].log.read_text().splitlines()]
    return [line for line in read if line["event"] == event and line.get("job") == job.digest.hex()[:12]]


def checks(runs: Runs, member: str, job: Job) -> set[str]:
    """Which checks refused something of this job; each line says what happened, and what an operator can do."""
    found = lines(runs, member, job, "protocol.refused")
    assert all(line["detail"] and line["hint"] for line in found)
    return {line["check"] for line in found}


def metric(runs: Runs, member: str, name: str) -> float:
    address = json.loads((runs.local.nodes[member].home / "run.json").read_text())["metrics"]
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as reply:
        text = reply.read().decode()
    found = re.search(rf"^concord_node_{name}_total ([0-9.e+]+)$", text, re.MULTILINE)
    assert found is not None
    return float(found[1])


def peak(runs: Runs, member: str) -> int:
    """The most memory that a node has had, in bytes."""
    process = runs.local.nodes[member].process
    assert process is not None
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10


def model_of(cohorts: Sequence[Sequence[str]], rate: float = 0.5) -> np.ndarray:
    """What the app ``tiny`` gives when round r is trained by ``cohorts[r-1]`` alone, in float64."""
    vector = np.zeros(10)
    for number, cohort in enumerate(cohorts, 1):
        pulls = [(NAMES.index(name) + 1 - vector) * rate + number / 1024 for name in cohort]
        vector = vector + sum(pulls) / len(cohort)
    return vector


def unharmed(runs: Runs, job: Job, *expected: Sequence[str]) -> None:
    """The job has ended well, with these cohorts (else: with any), and with the very model that its cohorts make."""
    assert job.state == "finished", job.reason
    cohorts = [item.cohort for item in job.rounds if item.phase == "closed"]
    assert not expected or cohorts == [tuple(cohort) for cohort in expected]
    assert all(len(cohort) >= 3 for cohort in cohorts)
    np.testing.assert_allclose(runs.model(job.name)["vector"], model_of(cohorts), atol=1e-4)


def outside(runs: Runs, member: str, event: str) -> list[dict[str, Any]]:
    """Lines of a node's log that are about no job of its own. Every line is one event: no trace of an exception stands between."""
    read = [json.loads(line) for line in runs.local.nodes[member].log.read_text().splitlines()]
    return [line for line in read if line["event"] == event]


def told_the_lead(job: Job, member: str, check: str) -> bool:
    return any(f" {member}: refuses: protocol-violation/{check}: " in line for line in job.lines)


# ---------------------------------------------------------------------------------------------------------------- the setup


def test_swapped_keys_sybils_and_two_rosters_stop_each_setup_and_the_true_one_stands(hostile: Runs) -> None:
    """1, 2, 3, 41: one lie in each of ten formations; the eleventh is true."""
    job = hostile.run(document(hostile, "setup", rounds=1))
    everybody = {"key-signature", "credential", "roster-size", "roster-signatures", "group-part"}
    for name in NAMES:
        found = checks(hostile, name, job)
        assert found >= everybody
        assert ("own-entry" if name == "de" else "duplicate") in found  # the entry of de stood there twice
        assert not lines(hostile, name, job, "driver.failed")
    for name in NAMES[1:]:  # who has a lower place is sent its ciphertext
        assert "ciphertext" in checks(hostile, name, job)
    for name in NAMES[2:]:  # who was shown the partner's second key, and then its first
        assert "two-rosters" in checks(hostile, name, job)
    assert told_the_lead(job, "be", "key-signature")
    unharmed(hostile, job, NAMES)


def test_parameters_that_the_lead_did_not_sign_are_refused(hostile: Runs) -> None:
    """4: the same job with another clipping norm, signed by a member."""
    job = hostile.run(document(hostile, "other-terms", rounds=1))
    for name in NAMES:
        refused = [line for line in outside(hostile, name, "consent.refused") if line["job"] == "01" * 6]
        assert [line["code"] for line in refused] == ["invalid-identity"]
        assert "not signed by the lead" in refused[0]["detail"]
    unharmed(hostile, job, NAMES)


# --------------------------------------------------------------------------------------------------------------- consent

FOUR_OR_THREE = {"participants": {"minMembers": 3}, "deadlines": {**SHORT, "roundSeconds": 5}}


def without(job: Job, member: str, after: int) -> bool:
    return all(member not in item.cohort for item in job.rounds if item.phase == "closed" and item.round > after)


def test_a_revocation_that_it_hides_is_one_all_the_same(hostile: Runs) -> None:
    """46: the node is silent from that second on, and says that nobody has confirmed what it said."""
    path = document(hostile, "hidden-revocation", rounds=5, run_config={"pause": 0.2}, **FOUR_OR_THREE)
    home = hostile.local.nodes["de"].home
    with hostile.submitted(path) as (client, name):
        job = watch(client, name, until=lambda job: job.rounds_closed >= 2)
        assert said("concord-node", "revoke", name, "--reason", "x", "--home", home).code == 0
        job = watch(client, name)
    assert next(each.state for each in job.consents if each.member == "de") == "granted", "so the liar says"
    assert without(job, "de", 3)
    assert len([line for line in lines(hostile, "de", job, "consent.over") if line.get("cause") == "person"]) == 1
    listed = said("concord-node", "consents", "--home", home).out
    assert f"{name}  {job.digest.hex()[:12]}  lead lead  revoked, and the coordinator has not confirmed it\n" in listed
    unharmed(hostile, job)


def test_a_member_that_denied_is_not_made_to_take_part_by_a_consent_of_another_job(hostile: Runs) -> None:
    """47: it is in the placement, is sent every message of the setup, and says nothing."""
    policy = hostile.local.nodes["de"].home / "policy.yaml"
    before = policy.read_text()
    policy.write_text(before.replace("numbers", "other"))
    try:
        path = document(hostile, "borrowed-consent", rounds=2, **FOUR_OR_THREE)
        job = hostile.run(path)
    finally:
        policy.write_text(before)
    assert next(each.state for each in job.consents if each.member == "de") == "granted", "so the liar says"
    assert "de" not in job.roster
    assert without(job, "de", 0)
    with closing(Journal(hostile.local.nodes["de"].home / "journal.db", read_only=True)) as journal:
        assert journal.job(job.digest) is None
    assert not (hostile.local.nodes["de"].home / "jobs" / job.digest.hex()).exists()
    unharmed(hostile, job, NAMES[:3], NAMES[:3])


def test_a_consent_whose_time_has_passed_is_none_though_it_goes_on_asking(hostile: Runs) -> None:
    """48: the node's own clock, in the middle of a job. The coordinator hides that it said so."""
    service = hostile.local.nodes["de"]
    settings = service.home / "node.yaml"
    before = settings.read_text()
    settings.write_text(yaml.safe_dump({**yaml.safe_load(before), "consent": "person"}))
    service.stop()
    service.start()
    service.wait_ready()
    try:
        path = document(hostile, "expired-consent", rounds=8, run_config={"pause": 0.5}, **FOUR_OR_THREE)
        with hostile.submitted(path) as (client, name):
            watch(client, name, until=lambda job: any("person" in str(each.reasons) for each in job.consents))
            ends = (datetime.now(UTC) + timedelta(seconds=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
            assert said("concord-node", "grant", name, "--until", ends, "--home", service.home).code == 0
            job = watch(client, name)
    finally:
        settings.write_text(before)
        service.stop()
        service.start()
        service.wait_ready()
    (over,) = [line for line in lines(hostile, "de", job, "consent.over") if line.get("cause")]
    assert over["cause"] == "expired"
    closed = [item.cohort for item in job.rounds if item.phase == "closed"]
    assert "de" in closed[0]
    assert "de" not in closed[-1]
    unharmed(hostile, job)


# --------------------------------------------------------------------------------------------------------------- the rounds


def test_forged_replayed_and_second_messages_change_nothing(hostile: Runs) -> None:
    """4, 6, 7, 8, 12, 13, 14: beside each true message what an attacker would like to be believed; all that was said before, in
    this job and in others, is said again."""
    before = {name: (metric(hostile, name, "refusals"), metric(hostile, name, "evidence")) for name in NAMES}
    job = hostile.run(document(hostile, "forger"))
    expected = {
        *("signature", "receipts", "epoch", "cohort-small", "stranger", "acks", "malformed-message"),
        *("two-survivor-sets", "bound-cohort", "stale-round", "formation"),
    }
    for name in NAMES:
        found = checks(hostile, name, job)
        assert found >= expected
        assert ("second-announcement" in found) == (name != "de")
        assert ("recover-owner" if name == "de" else "recover-edges") in found
        assert told_the_lead(job, name, "two-survivor-sets")
        refusals, evidence = before[name]
        assert metric(hostile, name, "refusals") - refusals >= 30
        assert metric(hostile, name, "evidence") - evidence >= 10
    unharmed(hostile, job, NAMES, NAMES, NAMES)


def test_of_two_survivor_sets_none_is_certified(hostile: Runs) -> None:
    """5: two to two, and what the coordinator makes up as a certificate."""
    job = hostile.run(document(hostile, "halves", rounds=1))
    for name in NAMES:
        assert checks(hostile, name, job) >= {"two-survivor-sets", "acks", "signature"}
    aborted = [item for item in job.rounds if item.phase == "aborted"]
    assert [item.attempt for item in aborted] == [0]
    assert "only 2 members acknowledged the cohort" in aborted[0].reason
    unharmed(hostile, job, NAMES)


def test_an_upload_that_is_withheld_and_then_released_stays_unreadable(hostile: Runs) -> None:
    """9: its edges are out; nobody gives a share of its own seed, and nobody counts it in."""
    job = hostile.run(document(hostile, "withheld-upload"))
    for name in NAMES:
        assert checks(hostile, name, job) >= {"two-survivor-sets", "acks"}
    for name in NAMES[:3]:
        assert "recover-owner" in checks(hostile, name, job)
    unharmed(hostile, job, NAMES, NAMES[:3], NAMES)


def test_after_the_reveals_no_cohort_with_one_member_less(hostile: Runs) -> None:
    """10: by ABORT, and by the certificate that opens an attempt anew."""
    job = hostile.run(document(hostile, "retry"))
    for name in NAMES:
        refused = [line["detail"] for line in lines(hostile, name, job, "protocol.refused")]
        assert any("can only be closed, not aborted" in each for each in refused)
        assert any("opened for other members than those it binds" in each for each in refused)
    unharmed(hostile, job, NAMES, NAMES, NAMES)


def test_a_certificate_beside_aborts_gives_no_sum(hostile: Runs) -> None:
    """11, 37: three have signed the ABORT, and say nothing more; who has revealed does not sign it. The next attempt is made."""
    job = hostile.run(document(hostile, "abort-beside-certificate"))
    for name in NAMES[1:]:
        refused = [line for line in lines(hostile, name, job, "protocol.refused") if line["check"] == "aborted"]
        assert {line["message"] for line in refused} >= {"Certificate", "Recover"}
    assert "bound-cohort" in checks(hostile, "ar", job)
    assert [(item.round, item.attempt) for item in job.rounds if item.phase == "aborted"] == [(2, 0)]
    unharmed(hostile, job)


def test_a_model_of_the_coordinators_own_is_not_taken(hostile: Runs) -> None:
    """14, 15: kept from a sum, the victim is offered crafted weights under the digest that the others signed."""
    job = hostile.run(document(hostile, "crafted-model", rounds=6))
    refused = lines(hostile, "de", job, "state.not-fetched")
    assert len(refused) == 1
    assert "not the one that the members certified" in refused[0]["detail"]
    assert refused[0]["hint"]
    assert job.rounds[-1].cohort == NAMES  # it has the true one
    unharmed(hostile, job)


@pytest.mark.parametrize("lie", ["altered-sum", "doubled-sum", "wrapped-sum"])
def test_altered_sums_fail_their_mac_and_are_kept(hostile: Runs, lie: str) -> None:
    """16, 39: one element more, all doubled, 2^31 - 1 added in a ring of 32 bits; the true sum, told after it, counts.

    One round each: a member that says that it refuses a sum may be left out of the next.
    """
    job = hostile.run(document(hostile, lie, rounds=1))
    refused = lines(hostile, "de", job, "sum.refused")
    assert [(line["round"], line["check"]) for line in refused] == [(1, "sum-mac")]
    home = hostile.local.nodes["de"].home
    for line in refused:
        path = Path(line["evidence"])
        assert path.parent == home / "evidence"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.name[:12] in line["to_do"]
        shown = said("concord-node", "evidence", "show", path.name[:12], "--home", home)
        assert shown.code == 0
        for words in (job.name, job.digest.hex(), "check sum-mac", "Close", "inline_sum"):
            assert words in shown.out
    unharmed(hostile, job, NAMES)


def test_an_audit_finds_a_tampered_chunk(hostile: Runs) -> None:
    """17: one member is shown a chunk that is not what was signed: it signs nothing, and takes the others' state."""
    job = hostile.run(document(hostile, "tampered-chunk"))
    refused = [line for name in NAMES for line in lines(hostile, name, job, "sum.refused")]
    assert [line["check"] for line in refused] == ["audit-chunk"]
    assert Path(refused[0]["evidence"]).exists()
    unharmed(hostile, job)


def test_a_member_killed_after_its_ack_acknowledges_no_other_cohort(hostile: Runs) -> None:
    """22: what it has said is on its disk."""
    path = document(hostile, "restarted", deadlines={**SHORT, "reconnectSeconds": 20, "phaseSeconds": 20})
    node, acknowledged = hostile.local.nodes["de"], vote("ack", 1, 2, 0)

    def reached(job: Job) -> bool:
        return job.current is not None and (job.current.round, job.current.phase) == (2, "revealing")

    with hostile.submitted(path) as (client, name):
        job = watch(client, name, until=reached)

        def has_said() -> bool:
            with closing(Journal(node.home / "journal.db", read_only=True)) as journal:
                return acknowledged in journal.records(job.digest)

        eventually(has_said)
        node.kill()
        node.start()
        job = watch(client, name)
    assert "two-survivor-sets" in checks(hostile, "de", job)
    unharmed(hostile, job, NAMES, NAMES, NAMES)


# ------------------------------------------------------------------------------------------------------------- bad input: 31


def test_a_flood_and_bytes_that_are_no_message_cost_little_and_end_nothing(hostile: Runs) -> None:
    """52 MB of messages in valid form, messages of strange form, and four that break the stream."""
    node = hostile.local.nodes["de"]
    before, count = peak(hostile, "de"), metric(hostile, "de", "refusals")
    job = hostile.run(document(hostile, "flood"))
    assert peak(hostile, "de") - before < MODEST
    assert metric(hostile, "de", "refusals") - count >= 2_000
    assert len(lines(hostile, "de", job, "protocol.refused")) < 120  # the log does not grow with the peer's patience
    assert node.alive
    broken = outside(hostile, "de", "link.broken")
    assert any("more than 16 MiB" in line["detail"] for line in broken)
    refused = outside(hostile, "de", "link.refused")
    assert [line["code"] for line in refused] == ["protocol-violation"] * 3
    assert all("no message of the protocol" in line["detail"] and line["hint"] for line in refused)
    assert not outside(hostile, "de", "link.failed")
    assert outside(hostile, "de", "withdrawal.refused")
    assert outside(hostile, "de", "roll.refused")
    unharmed(hostile, job, NAMES, NAMES, NAMES)


def test_a_bundle_that_never_ends_is_thrown_away(hostile: Runs) -> None:
    before = peak(hostile, "de")
    job = hostile.run(document(hostile, "endless-bundle", rounds=1))
    assert peak(hostile, "de") - before < MODEST
    for name in NAMES:
        again = outside(hostile, name, "transfer.again")
        assert any("more than" in line["detail"] and line["hint"] for line in again)
        assert not list(hostile.local.nodes[name].home.rglob("*.part"))
    unharmed(hostile, job, NAMES)


# ------------------------------------------------------------------------------------------------------------ in the middle


class Middle:
    """TLS with a certificate of its own authority for the coordinator's name, between a node and the coordinator."""

    def __init__(self, federation: str, folder: Path) -> None:
        authority = Authority.create(federation, datetime.now(UTC))
        certificate, key = authority.server("127.0.0.1", datetime.now(UTC), timedelta(hours=1))
        (folder / "middle.pem").write_bytes(certificate + key)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(folder / "middle.pem")
        self._tls.set_alpn_protocols(["h2"])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.met = threading.Semaphore(0)
        self.read = b""
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            try:
                with raw, self._tls.wrap_socket(raw, server_side=True) as connection:
                    connection.settimeout(5)
                    self.read += connection.recv(1 << 16)
            except OSError:  # what a node does when it is shown another authority's certificate
                pass
            finally:
                self.met.release()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def test_an_authority_of_its_own_in_the_middle_reads_nothing(hostile: Runs, tmp_path: Path) -> None:
    """21: the node ends the handshake, and says what to do."""
    home = tmp_path / "node-be"
    left = shutil.ignore_patterns("run.json", "journal.db*", "lock", "jobs", "evidence", "*.sock")
    shutil.copytree(hostile.local.nodes["be"].home, home, ignore=left)
    middle = Middle(hostile.local.name, tmp_path)
    settings = (home / "node.yaml").read_text()
    true = json.loads((hostile.local.coordinator.home / "run.json").read_text())["address"]
    assert true in settings
    (home / "node.yaml").write_text(settings.replace(true, middle.address))
    service = Service("middled", "node_agent.main", home)
    service.start()
    try:
        assert middle.met.acquire(timeout=30)
        eventually(lambda: b"link.broken" in service.log.read_bytes(), 30)
    finally:
        service.stop()
        middle.close()
    broken = [line for line in map(json.loads, service.log.read_text().splitlines()) if line["event"] == "link.broken"]
    assert "does not show a certificate of this federation's coordinator" in broken[0]["detail"]
    assert "ask the operator" in broken[0]["hint"]
    assert middle.read == b""
    assert not (home / "run.json").exists()


# ----------------------------------------------------------------------------------------------------------------- at the end


def test_afterwards_the_evidence_is_listed_and_an_honest_job_runs(hostile: Runs) -> None:
    home = hostile.local.nodes["ch"].home
    listed = said("concord-node", "evidence", "list", "--home", home)
    assert listed.code == 0
    assert " two-survivor-sets  Survivors  " in listed.out
    assert stat.S_IMODE((home / "evidence").stat().st_mode) == 0o700
    assert len(listed.out.splitlines()) == len(list((home / "evidence").glob("*.json"))) <= PIECES
    assert " stale-round " not in listed.out  # which an honest coordinator's late message gives too
    refused(said("concord-node", "evidence", "show", "000000", "--home", home), NotFound, "begin with '000000'")
    job = hostile.run(document(hostile, "honest", rounds=2))
    unharmed(hostile, job, NAMES, NAMES)
    for name in NAMES:
        assert not lines(hostile, name, job, "protocol.refused")
        assert hostile.local.nodes[name].alive
        assert "Traceback" not in hostile.local.nodes[name].log.read_text()
