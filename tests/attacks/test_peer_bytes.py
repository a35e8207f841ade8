"""Attack 31, byte by byte: whatever a peer sends, each parser and both machines take it or give a named error, in bounded memory.

Two kinds of input: bytes of no form, and true messages of a job in which bytes, or whole fields, were changed.
"""

from __future__ import annotations

import asyncio
import hashlib
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from coordinator.api.sessions import Session, Sessions
from coordinator.audit.book import LogBook
from coordinator.jobs.case import Case
from coordinator.jobs.docket import Docket
from coordinator.registry.authority import Authority
from coordinator.registry.enrolment import Registry
from coordinator.web.metrics import Metrics
from federation.errors import FederationError, ProtocolViolation, VerificationFailed
from federation.identity.credential import node_request, open_node_request, sign_credential, verify_credential
from federation.identity.envelope import open_envelope
from federation.identity.envelope import seal as seal_document
from federation.identity.keys import SigningKey
from federation.identity.roll import Roll, RollLead, RollMember, draft_roll
from federation.identity.withdrawal import open_withdrawal, seal_withdrawal, withdrawn_job
from federation.manifest.bundle import pack, unpack
from federation.manifest.manifest import open_manifest
from federation.parsing import parsed, parser
from federation.sealing import KEY_BYTES, salt_of, seal, unseal
from federation.secagg import codec, events, transcripts, wire
from federation.secagg import messages as m
from federation.secagg.certificate import Ed25519Verifier
from federation.secagg.conviction import Conviction, Statement
from federation.secagg.encoding import encoding_of
from federation.secagg.events import CollectorEvent, From, Misconduct, Refuse
from federation.v1 import audit_pb2, blobs_pb2, catalogue_pb2, enrolment_pb2, jobs_pb2, rounds_pb2
from federation.weights.state import ModelState, read_state, write_state
from node_agent.store.evidence import MESSAGE_LIMIT, Piece
from tests.simulation.harness import JOB, World
from tests.unit.coordinator.labs import World as Labs
from tests.unit.secagg.test_protocol_wire import MESSAGES
from tests.whole import read_sum

KINDS: list[type[Message]] = [
    *(
        getattr(module, name)
        for module in (rounds_pb2, blobs_pb2, catalogue_pb2, enrolment_pb2, jobs_pb2)
        for name in sorted(module.DESCRIPTOR.message_types_by_name)
    )
]
PROTOCOL = [kind for kind in KINDS if kind.DESCRIPTOR.name in wire._KINDS]

few = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
some = settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def changed(draw: st.DrawFn, true: bytes) -> bytes:
    """``true`` with a few bytes changed, left out, put in, or said twice."""
    data = bytearray(true)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        how = draw(st.sampled_from(["flip", "cut", "drop", "insert", "repeat", "huge"]))
        if how == "flip" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "cut":
            del data[at:]
        elif how == "drop":
            del data[at : at + draw(st.integers(1, 40))]
        elif how == "insert":
            data[at:at] = draw(st.binary(max_size=12))
        elif how == "repeat":
            data[at:at] = data[max(0, at - draw(st.integers(1, 80))) : at]
        else:
            data[at:at] = b"\xff" * 9 + b"\x01"  # the largest number of a varint
    return bytes(data)


def taken(kind: type[Message], data: bytes) -> Any:
    """What a machine would be given; None for what was refused by name. Raises nothing else."""
    try:
        return wire.from_proto(parsed(parser(kind.FromString)(data)))
    except ProtocolViolation as refused:
        return named(refused)


def named(refused: ProtocolViolation) -> None:
    assert refused.check == "malformed-message"
    assert refused.hint


# ------------------------------------------------------------------------------------------------------------- the messages


@some
@given(kind=st.sampled_from(KINDS), data=st.binary(max_size=400))
def test_bytes_of_no_form_are_refused_by_name(kind: type[Message], data: bytes) -> None:
    value = taken(kind, data)
    assert value is None or wire.from_proto(wire.to_proto(value)) == value


@some
@given(data=st.data(), true=st.sampled_from(MESSAGES))
def test_changed_messages_are_refused_or_are_messages(data: st.DataObject, true: Any) -> None:
    proto = wire.to_proto(true)
    value = taken(type(proto), data.draw(changed(proto.SerializeToString())))
    assert value is None or wire.from_proto(wire.to_proto(value)) == value


@pytest.mark.parametrize("kind", PROTOCOL, ids=lambda kind: kind.DESCRIPTOR.name)
def test_a_list_of_a_million_entries_costs_no_more_than_its_bytes(kind: type[Message]) -> None:
    """Counts are looked at before anything is made of the entries."""
    repeated = [field for field in kind.DESCRIPTOR.fields if field.is_repeated]
    for field in repeated:
        message = kind()
        items = getattr(message, field.name)
        if field.message_type is not None:
            data = b"".join(bytes([field.number << 3 | 2, 0]) for _ in range(200_000))
            message = kind.FromString(data)
        elif field.type == field.TYPE_BYTES:
            items.extend([b"x"] * 200_000)
        else:
            items.extend([1] * 200_000)
        tracemalloc.start()
        with pytest.raises(ProtocolViolation):
            wire.from_proto(message)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 1 << 20


@some
@given(data=st.data(), parts=st.binary(max_size=200))
def test_what_an_audit_shows(data: st.DataObject, parts: bytes) -> None:
    true = rounds_pb2.AuditPart(index=1, data=b"chunk", path=[b"x" * 32])
    true.seeds.add(peer=0, seed=bytes(32))
    for given_bytes in (parts, data.draw(changed(true.SerializeToString()))):
        try:
            wire.unmasked_from_proto(parsed(parser(rounds_pb2.AuditPart.FromString)(given_bytes)))
        except ProtocolViolation as refused:
            named(refused)


# ------------------------------------------------------------------------------------------------------------- the machines


class Recording(World):
    """Keeps what goes through it: (member, message) told and said, in order."""

    def __init__(self, **changes: Any) -> None:
        self.told: list[tuple[str, Any]] = []
        super().__init__(4, rounds=2, stand_in=True, **changes)
        self.forge = self._forged  # type: ignore[method-assign, assignment]

    def _forged(self, member: str, message: Any) -> Any:
        self.told.append((member, message))
        return message


def played(phase: str) -> Recording:
    world = Recording()
    world.begin().run(until=lambda world: world.collector.phase == phase and world.collector.round == 2)
    assert world.collector.phase == phase
    return world


PHASES = ("collecting", "certifying", "revealing")


@few
@given(data=st.data(), phase=st.sampled_from(PHASES))
def test_a_member_takes_changed_messages_or_refuses_them_by_name(data: st.DataObject, phase: str) -> None:
    world = played(phase)
    for _ in range(30):
        member, true = data.draw(st.sampled_from(world.told))
        proto = wire.to_proto(true)
        message = taken(type(proto), data.draw(changed(proto.SerializeToString())))
        if message is None:
            continue
        machine = world.labs[member].machine
        for instruction in machine.handle(message, 0.0):  # raises nothing
            if isinstance(instruction, Refuse):
                assert instruction.violation.check
                assert instruction.violation.hint
        machine.validate()


def signed_again(world: Recording, member: str, message: Any) -> Any:
    """By ``member`` itself: a liar among the members signs what it likes."""
    bench = world.collector.bench
    assert bench is not None
    roster = bench.roster_hash
    text = {
        m.Ready: lambda: transcripts.ready_transcript(JOB, roster, message),
        m.Receipt: lambda: transcripts.receipt_transcript(JOB, roster, message),
        m.Abort: lambda: transcripts.abort_transcript(JOB, roster, message),
        m.Upload: lambda: transcripts.upload_transcript(
            message.context, message.index, message.root, transcripts.trailer_hash(message.trailer)
        ),
        m.Ack: lambda: transcripts.ack_transcript(message),
        m.Reveal: lambda: transcripts.reveal_transcript(message),
        m.RecoverReply: lambda: transcripts.recover_transcript(message),
    }.get(type(message))
    return message if text is None else replace(message, signature=world.labs[member].signer(text()))


@few
@given(data=st.data(), phase=st.sampled_from(PHASES))
def test_the_collector_takes_changed_messages_or_refuses_them_by_name(data: st.DataObject, phase: str) -> None:
    """Also when they are well signed: some of them are then proofs against the member."""
    world = played(phase)
    for _ in range(30):
        lab = data.draw(st.sampled_from(sorted(world.labs.values(), key=lambda lab: lab.name)))
        proto = wire.to_proto(data.draw(st.sampled_from(lab.sent)))
        message = taken(type(proto), data.draw(changed(proto.SerializeToString())))
        if message is None:
            continue
        message = signed_again(world, lab.name, message)
        for instruction in world.collector.handle(From(lab.name, message), world.now):  # raises nothing
            if isinstance(instruction, Misconduct):
                assert instruction.violation.check
        world.collector.validate()


# -------------------------------------------------------------------------------------------------------- a node's one stream


@pytest.fixture(scope="module")
def labs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labs]:
    world = Labs(tmp_path_factory.mktemp("labs") / "w")
    yield world
    if world.database is not None:
        world.database.close()


def test_a_stream_of_strange_events_is_noted_and_ends_nothing(labs: Labs) -> None:
    """Each event of a node's stream: to the registry, the docket, the driver and the collector as they are."""
    job = labs.manifest.digest
    events_of = [
        *(wire.to_proto(message) for message in MESSAGES[:13]),
        rounds_pb2.Offer(cpus=1),
        rounds_pb2.ConsentReply(envelope=b"{}"),
        rounds_pb2.TaskFailure(round=1, exception="E", file="f", line=3, phase="train"),
        rounds_pb2.Refusal(code="x", text="y"),
        rounds_pb2.StateStored(state_digest=b"x", blob=b"y"),
        rounds_pb2.Progress(round=1),
        rounds_pb2.Pong(nonce=1),
        audit_pb2.LogCosignature(size=1, line="— concord/health/m1/m1-1 AAAA\n".encode()),
    ]

    def event_of(proto: Any) -> bytes:
        name = next(
            field.name
            for field in rounds_pb2.NodeEvent.DESCRIPTOR.fields
            if field.message_type is not None and field.message_type.name == type(proto).__name__
        )
        return rounds_pb2.NodeEvent(job=job, **{name: proto}).SerializeToString()

    async def story() -> None:
        labs.start()
        labs.stuck = lambda _job, reason: pytest.fail(reason)
        metrics = Metrics(CollectorRegistry(), "test")

        def clock() -> float:
            return labs.now

        registry = Registry(labs.database, Authority.create("health", datetime.now(UTC)), timedelta(hours=24), clock)
        registry.found(labs.roll.envelope)
        docket = Docket(
            labs.database,
            labs.desk.blobs,
            labs.desk.spool,
            Sessions(),
            registry,
            None,
            metrics,
            clock,
            LogBook(labs.database, "health", SigningKey.generate(), registry.roll, clock, 5.0),
        )
        placement = tuple((name, f"{name}-1") for name in labs.labs)
        case = Case(labs.manifest, "running", labs.now, placement=placement, driver=labs.driver)
        docket.open_cases.add(case)
        session = Session("m1", "m1-1", rounds_pb2.Offer())

        @some
        @given(data=st.data(), true=st.sampled_from([event_of(proto) for proto in events_of]))
        def hear(data: st.DataObject, true: bytes) -> None:
            event = parser(rounds_pb2.NodeEvent.FromString)(data.draw(changed(true)))
            if event is None:
                docket.garbled(session)
            else:
                docket.heard(session, event)

        hear()
        for _ in range(20):
            await asyncio.sleep(0)
        assert labs.driver._tasks, "it runs"
        await labs.driver.stop()

    asyncio.run(story())


# ------------------------------------------------------------------------------------------------- documents, files, records


KEY, OTHER, LEAD = SigningKey.generate(), SigningKey.generate(), SigningKey.generate()
OFFICERS = {name: OTHER if name == "fr" else SigningKey.generate() for name in ("de", "fr", "ke")}
OFFICIAL = draft_roll(
    "health",
    1,
    [RollMember(name, name, name.upper(), key.public) for name, key in OFFICERS.items()],
    [RollLead("ada", "fr", "Ada", LEAD.public)],
)
LABS_ROLL = Roll.open(seal_document(OFFICIAL, "roll", list(OFFICERS.values())))
NOW = datetime(2026, 1, 1, tzinfo=UTC)
REQUEST = node_request("health", "fr", "fr-1", KEY)
CREDENTIAL = sign_credential(REQUEST, "health", OTHER, "fr", NOW, NOW.replace(year=2027))
WITHDRAWAL = seal_withdrawal(bytes(32), "enough", KEY)
BUNDLE = pack({"pyproject.toml": b"[project]\n", "a/b.py": b"x = 1\n"}).data


def conviction() -> bytes:
    """Of a member that acknowledged two cohorts."""
    acks = [m.Ack(1, bytes(32), digest, b"") for digest in (bytes(32), b"\1" * 32)]
    said = [Statement(text, KEY.sign(text)) for text in map(transcripts.ack_transcript, acks)]
    return Conviction(KEY.public, said[0], said[1]).to_bytes()


def test_the_conviction_that_is_changed_below_convicts() -> None:
    Conviction.from_bytes(conviction()).check(Ed25519Verifier())


@some
@given(data=st.data(), raw=st.binary(max_size=300))
def test_convictions_and_evidence(data: st.DataObject, raw: bytes) -> None:
    true = conviction()
    refused = ProtocolViolation("It is wrong.", check="signature", hint="Tell them.", evidence=b"signed")
    piece = Piece.of(bytes(32), "job", "2026-01-01T00:00:00Z", refused, "Ack", [b"message", b"more"]).to_bytes()
    for given_bytes in (raw, data.draw(changed(true))):
        if given_bytes != true:
            with pytest.raises(VerificationFailed):
                Conviction.from_bytes(given_bytes).check(Ed25519Verifier())
    for given_bytes in (raw, data.draw(changed(piece))):
        try:
            found = Piece.from_bytes(given_bytes)
        except VerificationFailed:
            continue
        assert found.to_bytes() == given_bytes


@some
@given(data=st.data(), raw=st.binary(max_size=300))
def test_signed_documents(data: st.DataObject, raw: bytes) -> None:
    for kind, true in (("node-request", REQUEST), ("node-credential", CREDENTIAL), ("withdrawal", WITHDRAWAL)):
        for given_bytes in (raw, data.draw(changed(true))):
            for read in (
                lambda each, kind=kind: open_envelope(each, kind),
                open_node_request,
                withdrawn_job,
                lambda each: open_withdrawal(each, bytes(32), KEY.public),
                Roll.open,
                lambda each: open_manifest(each, LABS_ROLL),
                lambda each: verify_credential(each, LABS_ROLL, NOW),
            ):
                if given_bytes != true:
                    with pytest.raises(FederationError):
                        read(given_bytes)


@some
@given(data=st.data(), raw=st.binary(max_size=300))
def test_sealed_files_and_bundles(data: st.DataObject, raw: bytes) -> None:
    key = bytes(range(KEY_BYTES))
    content = hashlib.sha256(b"x").digest() * 20
    true = b"".join(seal(key, salt_of(key, hashlib.sha256(content).digest()), [content]))
    for given_bytes in (raw, data.draw(changed(true))):
        if given_bytes != true:
            with pytest.raises(VerificationFailed):
                list(unseal(key, [given_bytes]))
    for given_bytes in (raw, data.draw(changed(BUNDLE))):
        digest = hashlib.sha256(given_bytes).digest()  # the liar names the digest, too
        try:
            unpack(given_bytes, digest)
        except FederationError:
            continue


@some
@given(data=st.data(), raw=st.binary(max_size=300))
def test_states_and_sums(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, raw: bytes) -> None:
    folder = tmp_path_factory.getbasetemp()
    path = folder / "state.safetensors"
    write_state(path, ModelState(2, {"w": np.zeros(4, np.float32)}, {}, np.zeros(1, np.int8)))
    true = path.read_bytes()
    for given_bytes in (raw, data.draw(changed(true))):
        path.write_bytes(given_bytes)
        try:
            read_state(path).digest()
        except VerificationFailed:
            continue
    terms = World(4).terms
    with pytest.raises(ProtocolViolation):
        read_sum(raw, terms, encoding_of(terms, 4, 4), 4, 7, 20)


@some
@given(data=st.data(), raw=st.binary(max_size=300))
def test_records_of_the_protocol(data: st.DataObject, raw: bytes) -> None:
    true = codec.encode(MESSAGES[3], type(MESSAGES[3]))
    event = wire.event_to_bytes(From("a", MESSAGES[3]))
    for given_bytes, kind in (
        (raw, CollectorEvent),
        (raw, events.Roster),
        (data.draw(changed(true)), type(MESSAGES[3])),
        (data.draw(changed(event)), CollectorEvent),
    ):
        try:
            codec.decode(given_bytes, kind)
        except VerificationFailed:
            continue


def test_of_a_huge_message_the_beginning_is_kept_as_evidence() -> None:
    refused = ProtocolViolation("It is wrong. " * 1000, check="x", hint="y" * 9000, evidence=bytes(1 << 20))
    kept = Piece.of(bytes(32), "job", "2026-01-01T00:00:00Z", refused, "Ack", [bytes(5 << 20), bytes(1 << 20)])
    assert kept.message_size == 6 << 20
    assert len(kept.message) == MESSAGE_LIMIT
    assert kept.message_digest == hashlib.sha256(bytes(6 << 20)).digest()
    assert len(kept.to_bytes()) < 1 << 20
    assert Piece.from_bytes(kept.to_bytes()) == kept
