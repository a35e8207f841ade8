"""Attacks 30 and 31 on a real coordinator by a member that has a seat, its true keys, and no shame."""

from __future__ import annotations

import json
import queue
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from coordinator.client.channel import spoken_errors
from coordinator.client.views import Job
from federation.errors import FederationError, OutOfOrder, PolicyDenied
from federation.identity.keys import SigningKey
from federation.identity.transport import Principal, TransportKey
from federation.secagg import messages as m
from federation.secagg import transcripts, wire
from federation.v1 import blobs_pb2, blobs_pb2_grpc, rounds_pb2, rounds_pb2_grpc
from tests.e2e.commands import eventually, said, says
from tests.e2e.runs import Runs, watch
from tests.e2e.test_refusals import authority, certificate, connected

LIAR = Principal("node", "de", "de-1")
MODEST = 64 << 20
"""bytes by which the coordinator may grow while it is flooded"""
FLOOD = 6_000
END = object()


def peak(runs: Runs) -> int:
    process = runs.local.coordinator.process
    assert process is not None
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10


def violations(runs: Runs) -> dict[str, float]:
    address = json.loads((runs.local.coordinator.home / "run.json").read_text())["metrics"]
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as reply:
        lines = reply.read().decode().splitlines()
    counted = (line.split('"') for line in lines if line.startswith("concord_protocol_violations_total{"))
    return {check: float(value.strip("} ")) for _, check, value in counted}


@dataclass
class Stream:
    """The liar's own stream: bytes out, instructions in."""

    out: queue.Queue[Any]
    hear: Callable[[rounds_pb2.Instruction], None] = lambda _instruction: None

    def say(self, event: Any) -> None:
        self.out.put(event if isinstance(event, bytes) else event.SerializeToString())


@contextmanager
def stream(channel: grpc.Channel) -> Iterator[Stream]:
    """Opened with a true Hello; it writes what it likes."""
    out: queue.Queue[Any] = queue.Queue()
    mine = Stream(out)
    connect = channel.stream_stream(
        "/federation.v1.NodeLink/Connect",
        request_serializer=bytes,
        response_deserializer=rounds_pb2.Instruction.FromString,
    )
    mine.say(rounds_pb2.NodeEvent(hello=rounds_pb2.Hello(member="de", node="de-1")))
    call = connect(iter(out.get, END))

    def each() -> None:
        try:
            for instruction in call:
                mine.hear(instruction)
        except grpc.RpcError:
            pass  # the test has ended it

    reader = threading.Thread(target=each, daemon=True)
    reader.start()
    try:
        yield mine
    finally:
        out.put(END)
        call.cancel()
        reader.join(10)


@pytest.fixture
def seat(four: Runs) -> Iterator[tuple[Runs, grpc.Channel, Any, str]]:
    """A job in which ``de`` holds a seat; its node is stopped, and what comes in its name comes from here."""
    node = four.local.nodes["de"]
    deadlines = {"reconnectSeconds": 1, "readySeconds": 1, "phaseSeconds": 2, "roundSeconds": 3}
    path = four.document("liar", rounds=2_000, run_config={"pause": 0.1}, deadlines=deadlines, coordinatorView="sum")
    key = TransportKey.generate()
    with four.submitted(path) as (client, name):
        try:
            watch(client, name, until=lambda job: job.current is not None and job.current.round >= 2)
            node.stop()
            with connected(four, certificate(authority(four), LIAR, key), key) as channel:
                yield four, channel, client, name
        finally:
            if client.job(name).state == "running":
                client.withdraw(name)
            node.start()
            node.wait_ready()


def goes_on(client: Any, name: str) -> Job:
    """The rounds go on, with the others."""
    here = client.job(name).current.round
    job = watch(client, name, until=lambda job: job.current is not None and job.current.round >= here + 2)
    closed = [item.cohort for item in job.rounds if item.phase == "closed" and item.round > here]
    assert closed
    assert all(set(cohort) >= {"ar", "be", "ch"} for cohort in closed)
    return job


def test_a_member_that_floods_and_garbles_is_noted_and_holds_up_nobody(
    seat: tuple[Runs, grpc.Channel, Any, str],
) -> None:
    runs, channel, client, name = seat
    digest, before, counted = client.job(name).digest, peak(runs), violations(runs)
    ack = m.Ack(4, bytes(32), bytes(32), bytes(64))
    upload = m.Upload(
        4,
        bytes(32),
        bytes(32),
        m.Trailer(
            tuple(m.Box(holder, bytes(60)) for holder in range(1, 200)), tuple(range(1, 200)), (bytes(32),) * 200, ()
        ),
        bytes(64),
    )
    good = rounds_pb2.NodeEvent(job=digest, ack=wire.to_proto(ack))
    heavy = rounds_pb2.NodeEvent(job=digest, receipt=wire.to_proto(receipt()))
    short = rounds_pb2.NodeEvent(job=digest, ack=rounds_pb2.Ack(index=4, context=b"x"))
    large = rounds_pb2.NodeEvent(job=digest, upload=wire.to_proto(upload))
    large.upload.inline_update = bytes(3 << 20)
    with stream(channel) as mine:
        for strange in (
            b"\xff" * 50,  # no message
            rounds_pb2.NodeEvent(job=digest).SerializeToString() + b"\x52\x02\xff\xff",  # a Reveal that is none
            rounds_pb2.NodeEvent(job=digest).SerializeToString() + b"\xfa\x7f\x03xyz",  # a field that nobody knows
            short,
            rounds_pb2.NodeEvent(job=b"y", ack=good.ack),  # no such job
            rounds_pb2.NodeEvent(job=digest, hello=rounds_pb2.Hello(member="ar", node="ar-1")),  # once more, as another
            rounds_pb2.NodeEvent(consent=rounds_pb2.ConsentReply(envelope=b"{}")),
            rounds_pb2.NodeEvent(job=digest, state_stored=rounds_pb2.StateStored(state_digest=b"x", blob=bytes(32))),
            rounds_pb2.NodeEvent(job=digest, sealing=rounds_pb2.Sealing(index=4)),
        ):
            mine.say(strange)
        for _ in range(10):
            mine.say(large)
        data, more = good.SerializeToString(), heavy.SerializeToString()
        for _ in range(FLOOD // 2):
            mine.say(data)
            mine.say(more)
        mine.say(short)
        eventually(lambda: violations(runs).get("malformed-message", 0) - counted.get("malformed-message", 0) >= 5, 40)
        job = goes_on(client, name)
    assert peak(runs) - before < MODEST
    story = [line for line in job.lines if " de: " in line]
    assert any("malformed-message" in line for line in story)
    # 21: the connection is in the name of de, by the coordinator's own authority; what it says is not signed by de's node.
    assert any("de: refused (signature): A receipt is not signed by de." in line for line in story)
    assert any("refused consent (invalid-identity)" in line or "malformed" in line for line in story)
    assert len(story) < 250
    log = [json.loads(line) for line in runs.local.coordinator.log.read_text().splitlines()]
    assert not [line for line in log if line["event"] in {"call.failed", "driver.failed"}]
    assert any(line["event"] == "node.violation" and line["check"] == "malformed-message" for line in log)


def receipt() -> m.Receipt:
    return m.Receipt(4, 1, 1, bytes(32), bytes(32), bytes(32), (), bytes(64))


def test_a_member_that_acknowledges_two_cohorts_is_convicted_and_the_proof_is_kept(
    seat: tuple[Runs, grpc.Channel, Any, str], tmp_path: Path
) -> None:
    """30: both signatures are its own. The operator reads the proof, and anybody can check it."""
    runs, channel, client, name = seat
    digest = client.job(name).digest
    key = SigningKey.from_pem((runs.local.nodes["de"].home / "keys" / "identity.key").read_bytes())
    with stream(channel) as mine:

        def lie(instruction: rounds_pb2.Instruction) -> None:
            """Signs twice for each cohort that it is shown, at once: a moment later the round is closed."""
            if instruction.WhichOneof("instruction") != "survivors":
                return
            shown = instruction.survivors
            for each in (transcripts.survivors_digest(wire.from_proto(shown)), bytes(32)):
                ack = m.Ack(4, shown.context, each, b"")
                signature = key.sign(transcripts.ack_transcript(ack))
                proto = rounds_pb2.Ack(index=4, context=shown.context, survivors_digest=each, signature=signature)
                mine.say(rounds_pb2.NodeEvent(job=digest, ack=proto))

        mine.hear = lie
        eventually(lambda: any("refused (two-acks)" in line for line in client.job(name).lines), 30)
        mine.hear = lambda _instruction: None
        goes_on(client, name)
    folder = tmp_path / "evidence"
    listed = said("concord-coordinator", "evidence", "--home", runs.local.coordinator.home, "--out", folder)
    assert listed.code == 0
    rows = [line.split() for line in listed.out.splitlines() if digest.hex()[:12] in line]
    assert ["de", "two-acks", "convicts"] in [row[-3:] for row in rows]
    proof = next(row[0] for row in rows if row[-1] == "convicts")
    files = list(folder.glob(f"{proof}*.json"))
    assert len(files) == 1
    assert files[0].stat().st_mode & 0o077 == 0


def test_updates_and_blobs_that_nobody_awaits_or_that_never_end(seat: tuple[Runs, grpc.Channel, Any, str]) -> None:
    runs, channel, client, name = seat
    digest, before = client.job(name).digest, peak(runs)
    query = rounds_pb2.UpdateQuery(job=digest, context=bytes(32))
    link = rounds_pb2_grpc.NodeLinkStub(channel)
    part, first = rounds_pb2.UpdatePart, rounds_pb2.UpdatePart(update=query, size=1 << 20, data=b"x")
    for parts, kind, words in (
        ([first], OutOfOrder, "Nothing is collected for this context now"),
        (
            [part(update=rounds_pb2.UpdateQuery(job=bytes(32)), size=1, data=b"x")],
            FederationError,
            "no seat in such a job",
        ),
    ):
        with pytest.raises(FederationError) as caught, spoken_errors(client.route):
            link.PutUpdate(iter(parts), timeout=10)
        assert isinstance(caught.value, kind)
        assert words in caught.value.message
    put = channel.stream_unary(
        "/federation.v1.NodeLink/PutUpdate",
        request_serializer=bytes,
        response_deserializer=rounds_pb2.UpdateReceipt.FromString,
    )
    with pytest.raises(FederationError) as caught, spoken_errors(client.route):
        put(iter([b"\xff" * 20]), timeout=10)
    assert "no message of the protocol" in caught.value.message
    blobs = blobs_pb2_grpc.BlobsStub(channel)
    with pytest.raises(FederationError) as caught, spoken_errors(client.route):
        blobs.Put(iter([blobs_pb2.BlobPart(digest=bytes(32), size=1 << 40, data=b"x")]), timeout=10)
    says(caught.value, PolicyDenied, "asked for no blob")
    goes_on(client, name)
    assert peak(runs) - before < MODEST
    assert not list((runs.local.coordinator.home / "spool").rglob("de"))
