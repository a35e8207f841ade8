"""What is wrong is refused with what happened, why, and what to do; nothing of it stays; and the federation goes on."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from coordinator.client.channel import Endpoint, open_channel, spoken_errors
from coordinator.jobs.cases import REMARKS_KEPT
from coordinator.registry.authority import Authority
from coordinator.service import open_registry
from coordinator.settings import Home as CoordinatorHome
from coordinator.store.database import Database
from examples.local_federation import LEAD, Service
from federation.errors import (
    FederationError,
    InvalidIdentity,
    InvalidManifest,
    InvalidUsage,
    Unavailable,
    VerificationFailed,
)
from federation.identity.envelope import open_envelope, seal
from federation.identity.keys import SigningKey
from federation.identity.transport import Principal, TransportKey
from federation.route import Route
from federation.v1 import (
    blobs_pb2,
    blobs_pb2_grpc,
    enrolment_pb2,
    enrolment_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    rounds_pb2,
    rounds_pb2_grpc,
)
from node_agent.store.journal import Journal
from tests.e2e.commands import eventually, refused, said, says
from tests.e2e.runs import TINY, Runs, watch

SIGNED_IN = Principal("lead", name=LEAD)
NODE = Principal("node", "be", "be-1")
TOO_LONG = 5 << 20
"""more than a coordinator takes in one message"""


def authority(runs: Runs) -> Authority:
    """The coordinator's own CA: whoever holds it makes any connection, and still no member."""
    home = CoordinatorHome(runs.local.coordinator.home)
    return Authority.load(runs.local.name, home.key("ca").read_bytes(), home.ca_certificate.read_bytes())


def elsewhere(runs: Runs) -> Authority:
    """The CA of another federation that took the same name."""
    return Authority.create(runs.local.name, datetime.now(UTC))


def certificate(signer: Authority, principal: Principal, key: TransportKey, *, ended: bool = False) -> bytes:
    lifetime = timedelta(seconds=-5) if ended else timedelta(hours=1)
    return signer.issue_for(key.private.public_key(), principal, datetime.now(UTC), lifetime)


@contextmanager
def connected(runs: Runs, pem: bytes, key: TransportKey) -> Iterator[grpc.Channel]:
    """A channel of somebody's own, with its errors in words."""
    address = json.loads((runs.local.coordinator.home / "run.json").read_text())["address"]
    ca = (runs.local.lead_home / "ca.pem").read_bytes()
    channel, _ = open_channel(Endpoint(address, runs.local.name, ca, pem, key.to_pem()), {})
    with closing(channel), spoken_errors(Route(address)):
        yield channel


def describe(channel: grpc.Channel) -> Any:
    return jobs_pb2_grpc.JobsStub(channel).DescribeFederation(jobs_pb2.DescribeFederationRequest(), timeout=10)


def names(runs: Runs) -> set[str]:
    with runs.local.client() as client:
        return {job.digest.hex() for job in client.jobs()}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def home_of(runs: Runs, folder: Path, member: str = "be") -> Path:
    """A copy of a node's home that does not run."""
    copy = folder / f"node-{member}"
    shutil.copytree(
        runs.local.nodes[member].home,
        copy,
        ignore=shutil.ignore_patterns("run.json", "journal.db*", "lock", "jobs", "*.sock"),
    )
    (copy / "jobs").mkdir()
    return copy


def ticket(runs: Runs, out: Path, principal: Principal, hours: float = 1.0) -> Path:
    """From the operator's hand. ``hours`` below zero: one that has ended."""
    home = CoordinatorHome(runs.local.coordinator.home)
    settings = home.load()
    with closing(Database(home.database)) as database:
        data = open_registry(home, settings, database).ticket(principal, settings.listen, hours)
    out.write_bytes(data)
    out.chmod(0o600)
    return out


def join(runs: Runs, home: Path, given: Path, roll: Path | None = None) -> Any:
    credential = runs.local.nodes["be"].home / "credential.json"
    roll = roll or runs.local.folder / "roll.json"
    return said("concord-node", "join", "--home", home, "--ticket", given, "--credential", credential, "--roll", roll)


def login(home: Path, given: Path, *more: str | Path) -> Any:
    return said("concord", "login", "--home", home, "--ticket", given, *more)


@pytest.fixture
def lead(three: Runs, tmp_path: Path) -> Path:
    """A copy of the lead's home."""
    return Path(shutil.copytree(three.local.lead_home, tmp_path / "lead"))


# ---------------------------------------------------------------------------------------------------------------- manifests


def test_a_manifest_that_its_lead_did_not_sign(three: Runs, lead: Path) -> None:
    before = names(three)
    path = three.document("forged")
    with three.local.client() as client:
        prepared = client.prepare(path)
        document = dict(open_envelope(prepared.envelope, "manifest").document)
        stub = jobs_pb2_grpc.JobsStub(client.channel)
        for keys in ((), (SigningKey.generate(),)):
            envelope = seal(document, "manifest", keys)
            with pytest.raises(FederationError) as caught, spoken_errors(client.route):
                stub.Submit(jobs_pb2.SubmitRequest(manifest=envelope), timeout=10)
            says(caught.value, InvalidIdentity, "The manifest is not signed by the lead lead on the membership roll")
    (lead / "keys" / "identity.key").write_bytes(SigningKey.generate().to_pem())
    shutil.rmtree(lead / "jobs", ignore_errors=True)
    answer = said("concord", "apply", "-f", path, "--home", lead)
    assert answer.code == 6
    assert "not signed by the lead lead" in answer.err or "lists another key" in answer.err
    assert names(three) == before
    for service in three.local.nodes.values():
        with closing(Journal(service.home / "journal.db", read_only=True)) as journal:
            assert journal.consent(prepared.digest) is None


def test_a_minimum_that_nobody_can_reach(three: Runs) -> None:
    before = names(three)
    path = three.document("many", participants={"minMembers": 4})
    refused(
        said("concord", "apply", "-f", path, "--home", three.local.lead_home),
        InvalidManifest,
        "The job needs 4 members, and the roll has 3 that it allows.",
        "Lower spec.participants.minMembers",
    )
    path = three.document("few", participants={"members": ["ar", "be"]})
    refused(
        said("concord", "apply", "-f", path, "--home", three.local.lead_home),
        InvalidManifest,
        f"{path}:",
        "names 2 members, but minMembers is 3: the minimum cannot be reached",
    )
    assert names(three) == before


def test_a_data_set_whose_folder_is_gone(three: Runs) -> None:
    folder = three.folder / "data" / "be"
    moved = folder.rename(folder.with_name("moved"))
    try:
        job = three.run(three.document("folder"))
    finally:
        moved.rename(folder)
    assert job.state == "failed"
    assert job.reason == (
        "2 members consented, and 3 are needed; denied by be: data set numbers: its path does not exist on this node"
    )
    assert str(three.folder) not in repr(job)  # where a lab keeps its data is its own business


def test_a_runtime_that_the_nodes_lack(three: Runs) -> None:
    packages = {"numpy": ">=1000", "no-such-package": ">=1"}
    job = three.run(three.document("lacks", runtime={"packages": packages}))
    assert job.state == "failed"
    for consent in job.consents:
        assert consent.state == "denied"
        assert any("lacks no-such-package" in reason for reason in consent.reasons)
        assert any("numpy" in reason and ">=1000" in reason for reason in consent.reasons)
    described = said("concord", "describe", job.name, "--home", three.local.lead_home).out
    assert "nothing is installed for a job" in described


# ------------------------------------------------------------------------------------------------------------------- tickets


def test_a_ticket_that_was_used(three: Runs, lead: Path, tmp_path: Path) -> None:
    given = ticket(three, tmp_path / "ticket.json", SIGNED_IN)
    assert login(lead, given).code == 0
    before = contents(lead)
    refused(
        login(lead, given), InvalidIdentity, "The ticket was used before", "If you did not use it, somebody else did"
    )
    assert contents(lead) == before
    node = home_of(three, tmp_path)
    before = contents(node)
    refused(join(three, node, three.local.folder / "be-1-ticket.json"), InvalidIdentity, "The ticket was used before")
    assert contents(node) == before


def test_a_ticket_that_has_expired(three: Runs, lead: Path, tmp_path: Path) -> None:
    given = ticket(three, tmp_path / "lead.json", SIGNED_IN, hours=-0.01)
    refused(login(lead, given), InvalidIdentity, "expired", "Ask the operator for a new one")
    given = ticket(three, tmp_path / "node.json", NODE, hours=-0.01)
    refused(join(three, home_of(three, tmp_path), given), InvalidIdentity, "expired", "Ask the coordinator's operator")
    document = json.loads(given.read_text())
    pem, key = document["certificatePem"].encode(), TransportKey.from_pem(document["keyPem"].encode())
    request = enrolment_pb2.JoinRequest(ticket_id=document["ticketId"], token=document["token"])
    with pytest.raises(FederationError) as caught, connected(three, pem, key) as channel:
        enrolment_pb2_grpc.EnrolmentStub(channel).Join(request, timeout=10)
    says(caught.value, Unavailable, "certificate")


# -------------------------------------------------------------------------------------------------------------- certificates


def test_a_certificate_that_has_expired(three: Runs, lead: Path) -> None:
    key = TransportKey.from_pem((lead / "keys" / "transport.key").read_bytes())
    pem = certificate(authority(three), SIGNED_IN, key, ended=True)
    (lead / "transport.pem").write_bytes(pem)
    refused(said("concord", "get", "jobs", "--home", lead), InvalidIdentity, "expired", "concord login")
    with pytest.raises(FederationError) as caught, connected(three, pem, key) as channel:
        describe(channel)
    says(caught.value, Unavailable, "certificate")


@pytest.mark.parametrize("principal", [SIGNED_IN, NODE], ids=["lead", "node"])
def test_a_certificate_of_another_ca(three: Runs, principal: Principal) -> None:
    key = TransportKey.generate()
    with (
        pytest.raises(FederationError) as caught,
        connected(three, certificate(elsewhere(three), principal, key), key) as channel,
    ):
        describe(channel)
    says(caught.value, Unavailable, "certificate")


def test_a_certificate_of_our_ca_for_somebody_that_the_roll_does_not_list(three: Runs) -> None:
    ours = authority(three)
    strangers = {
        "'eve' is not a lead on the roll": (ours, Principal("lead", name="eve")),
        "The node be-9 of be is not enrolled": (ours, Principal("node", "be", "be-9")),
        "of another federation": (Authority("other", ours.key, ours.certificate), SIGNED_IN),
    }
    for words, (signer, principal) in strangers.items():
        key = TransportKey.generate()
        with (
            pytest.raises(FederationError) as caught,
            connected(three, certificate(signer, principal, key), key) as channel,
        ):
            describe(channel)
        says(caught.value, InvalidIdentity, words)


@pytest.mark.parametrize("wrong", ["expired", "another CA's", "the coordinator's"])
def test_a_node_without_a_good_certificate_stays_outside_and_says_why(three: Runs, tmp_path: Path, wrong: str) -> None:
    home = home_of(three, tmp_path)
    key = TransportKey.from_pem((home / "keys" / "transport.key").read_bytes())
    if wrong == "the coordinator's":  # the node itself refuses a coordinator under another CA
        (home / "ca.pem").write_bytes(elsewhere(three).certificate_pem)
    else:
        signer = authority(three) if wrong == "expired" else elsewhere(three)
        (home / "transport.pem").write_bytes(certificate(signer, NODE, key, ended=wrong == "expired"))
    service = Service("stranger", "node_agent.main", home)
    service.start()
    try:
        eventually(lambda: b"link." in service.log.read_bytes(), 30)
        lines = [json.loads(line) for line in service.log.read_text().splitlines()]
        first = next(line for line in lines if line["event"].startswith("link."))
        assert first["event"] in {"link.broken", "link.refused"}
        assert "certificate" in first["detail"] + first["hint"]
        assert "concord-node join" in first["hint"]
        assert not (home / "run.json").exists()
    finally:
        service.stop()
    assert "Traceback" not in service.log.read_text()
    with three.local.client() as client:
        assert all(node.connected for node in client.describe().nodes)


# --------------------------------------------------------------------------------------------------------------------- rolls


def test_a_roll_with_a_bad_signature(three: Runs, lead: Path, tmp_path: Path) -> None:
    good = three.local.folder / "roll.json"
    opened = open_envelope(good.read_bytes(), "roll")
    keys = [
        SigningKey.from_pem((three.local.officer_home(m) / "keys" / "identity.key").read_bytes()) for m in ("ar", "be")
    ]
    envelope = json.loads(good.read_text())
    first, second = envelope["signatures"][:2]
    first["sig"], second["sig"] = second["sig"], first["sig"]
    rolls = {
        "The membership roll is not signed by ch": seal(dict(opened.document), "roll", keys),
        "signature": json.dumps(envelope, separators=(",", ":"), sort_keys=True).encode(),
    }
    (lead / "roll.json").unlink()
    node = home_of(three, tmp_path)
    given, entry = ticket(three, tmp_path / "lead.json", SIGNED_IN), ticket(three, tmp_path / "node.json", NODE)
    before = contents(lead), contents(node)
    for number, (words, data) in enumerate(rolls.items()):
        bad = tmp_path / f"roll-{number}.json"
        bad.write_bytes(data)
        refused(login(lead, given, "--roll", bad), InvalidIdentity, words)
        refused(join(three, node, entry, bad), InvalidIdentity, words)
        refused(said("concord", "roll", "verify", bad), InvalidIdentity, words)
        home = three.local.coordinator.home
        refused(said("concord-coordinator", "found", "--home", home, "--roll", bad), InvalidIdentity, words)
    assert (contents(lead), contents(node)) == before
    assert login(lead, given, "--roll", good).code == 0  # the tickets were not used up
    assert join(three, node, entry).code == 0


# ------------------------------------------------------------------------------------------------------------- what is too big


def oversized(channel: grpc.Channel, service: str) -> Any:
    filler = b"x" * TOO_LONG
    if service == "Enrolment":
        return enrolment_pb2_grpc.EnrolmentStub(channel).Join(
            enrolment_pb2.JoinRequest(node_credential=filler), timeout=10
        )
    if service == "Jobs":
        return jobs_pb2_grpc.JobsStub(channel).Submit(jobs_pb2.SubmitRequest(manifest=filler), timeout=10)
    if service == "Blobs":
        part = blobs_pb2.BlobPart(digest=bytes(32), size=TOO_LONG, data=filler)
        return blobs_pb2_grpc.BlobsStub(channel).Put(iter([part]), timeout=10)
    link = rounds_pb2_grpc.NodeLinkStub(channel)
    if service == "PutUpdate":
        return link.PutUpdate(iter([rounds_pb2.UpdatePart(data=filler)]), timeout=10)
    hello = rounds_pb2.Hello(member="be", node="be-1", version="x" * TOO_LONG)
    return list(link.Connect(iter([rounds_pb2.NodeEvent(hello=hello)]), timeout=10))


@pytest.mark.parametrize("service", ["Enrolment", "Jobs", "Blobs", "PutUpdate", "Connect"])
def test_a_message_that_is_too_large(three: Runs, service: str) -> None:
    key = TransportKey.generate()
    principal = {"Enrolment": Principal("ticket", name="t"), "Jobs": SIGNED_IN, "Blobs": SIGNED_IN}.get(service, NODE)
    with (
        pytest.raises(FederationError) as caught,
        connected(three, certificate(authority(three), principal, key), key) as channel,
    ):
        oversized(channel, service)
    says(caught.value, InvalidUsage, "larger than")
    with three.local.client() as client:
        assert all(node.connected for node in client.describe().nodes)


def test_a_part_that_is_too_large_and_a_blob_that_is_too_large(three: Runs) -> None:
    for part in (
        blobs_pb2.BlobPart(digest=bytes(32), size=2 << 20, data=b"x" * (2 << 20)),
        blobs_pb2.BlobPart(digest=bytes(32), size=1 << 40, data=b"x"),
    ):
        with three.local.client() as client:
            stub = blobs_pb2_grpc.BlobsStub(client.channel)
            with pytest.raises(FederationError) as caught, spoken_errors(client.route):
                stub.Put(iter([part]), timeout=10)
            says(caught.value, InvalidUsage, "large")
            assert stub.Held(blobs_pb2.BlobRequest(digest=bytes(32)), timeout=10).held == 0


def test_a_node_that_never_stops_talking_does_not_fill_the_story(three: Runs) -> None:
    node, key, over = three.local.nodes["be"], TransportKey.generate(), threading.Event()
    pem, remarks = certificate(authority(three), NODE, key), REMARKS_KEPT + 50
    node.stop()

    def talk(digest: bytes) -> Iterator[rounds_pb2.NodeEvent]:
        yield rounds_pb2.NodeEvent(hello=rounds_pb2.Hello(member="be", node="be-1"))
        for number in range(remarks):
            yield rounds_pb2.NodeEvent(
                job=digest, refusal=rounds_pb2.Refusal(code="x", text=f"{number} " + "x" * 10_000)
            )
        over.wait()

    try:
        with three.submitted(three.document("story")) as (client, name), connected(three, pem, key) as channel:
            stream = rounds_pb2_grpc.NodeLinkStub(channel).Connect(talk(client.job(name).digest), timeout=60)
            try:
                job = watch(
                    client, name, until=lambda job: any("more than a story holds" in line for line in job.lines)
                )
            finally:
                stream.cancel()
                over.set()
            about = [line for line in job.lines if " be: " in line]
            assert len(about) == REMARKS_KEPT + 1
            assert max(map(len, about)) < 1100
            client.withdraw(name)
    finally:
        node.start()
        node.wait_ready()


# ---------------------------------------------------------------------------------------------------------------- corruption


def test_a_chunk_that_was_corrupted_is_thrown_away_and_the_job_runs_after_all(three: Runs, tmp_path: Path) -> None:
    app = shutil.copytree(TINY, tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    (app / "notes.md").write_text("This bundle is another one.\n")
    path = three.document("corrupted", app=app)
    with three.local.client() as client:
        bundle = client.prepare(path).bundle
        broken = bytes(byte ^ 1 for byte in bundle.data[:100])
        stub = blobs_pb2_grpc.BlobsStub(client.channel)
        part = blobs_pb2.BlobPart(digest=bundle.digest, size=len(bundle.data), data=broken)
        assert not stub.Put(iter([part]), timeout=10).complete
        before = names(three)
        refused(
            said("concord", "apply", "-f", path, "--home", three.local.lead_home),
            VerificationFailed,
            "The uploaded bytes have another digest; they were thrown away",
            "Upload again",
        )
        assert names(three) == before
        assert stub.Held(blobs_pb2.BlobRequest(digest=bundle.digest), timeout=10).held == 0
    job = three.run(path)
    assert job.state == "finished", job.reason


def test_afterwards_the_federation_goes_on_and_nobody_left_a_trace(three: Runs) -> None:
    job = three.run(three.document("good"))
    assert job.state == "finished", job.reason
    assert all(item.cohort == ("ar", "be", "ch") for item in job.rounds)
    for service in (three.local.coordinator, *three.local.nodes.values()):
        text = service.log.read_text()
        assert "Traceback" not in text
        assert '"event": "call.failed"' not in text
