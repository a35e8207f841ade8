"""Messages survive the wire and the journal; malformed ones are refused before a machine sees them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest

from federation.errors import ProtocolViolation, VerificationFailed
from federation.secagg import codec, events, wire
from federation.secagg import messages as m
from federation.secagg.collector import CollectorMachine
from federation.secagg.events import Windows
from federation.secagg.ledger import Ledger
from federation.v1 import rounds_pb2
from tests.simulation.harness import terms_of

H = bytes(range(32))
S = bytes(range(64))
TRAILER = m.Trailer((m.Box(2, b"x" * 115), m.Box(3, b"y" * 115)), (2, 3), (H, H, H), (H,) * 6)
UPLOAD = m.Upload(1, H, H, TRAILER, S)
READY = m.Ready(1, 1, 2, 0, H, 3, S)
RECEIPT = m.Receipt(1, 1, 1, H, H, H, (-5, 1 << 32), S)
ABORT = m.Abort(2, 1, 1, 0, S)
SURVIVORS = m.Survivors(H, (m.SurvivorEntry(1, H, H, S), m.SurvivorEntry(2, H, H, S)))
CERTIFICATE = m.Certificate(SURVIVORS, (m.Ack(1, H, H, S), m.Ack(3, H, H, S)))
KEY = m.KeyMessage(2, 0, H, b"credential", H, bytes(1184), H, H, 4, S)
ENCAPSULATION = m.Encapsulation(1, H, (H, H), (), S)
OPENING = m.Opening(1, H, H, (m.Box(2, b"x" * 48),), S)
CONFIRMATION = m.Confirmation(1, H, H, H, S)
ROSTER = events.Roster(1, 0, (KEY, KEY), (ENCAPSULATION, replace(ENCAPSULATION, index=2)), (bytes(1088),))
VOID = m.Void(1, (1, 2, 3), CERTIFICATE)

MESSAGES: list[Any] = [
    KEY,
    m.RosterSignature(1, H, S),
    READY,
    UPLOAD,
    m.Ack(1, H, H, S),
    m.Reveal(1, H, H, ((2, H),), S),
    m.RecoverReply(1, H, 2, ((0, bytes(33)), (3, bytes(33))), S),
    ABORT,
    RECEIPT,
    replace(ENCAPSULATION, ciphertexts=(bytes(1088), bytes(1088))),
    OPENING,
    CONFIRMATION,
    m.Sealing(1, 1, H, H, (bytes(1168), bytes(1168)), S),
    events.Form(1, 2, bytes(32)),
    events.Candidates(1, 0, (KEY, KEY)),
    ROSTER,
    events.Openings(1, H, (OPENING, replace(OPENING, index=2, boxes=()))),
    events.Confirmations(1, H, (CONFIRMATION, replace(CONFIRMATION, index=2))),
    events.Lineage(replace(ROSTER, ciphertexts=()), events.Confirmations(1, H, (CONFIRMATION,))),
    events.Reopen(1, 2, VOID),
    events.ProvideState(1, 2, H),
    events.RosterCertificate(1, H, (m.RosterSignature(1, H, S), m.RosterSignature(2, H, S))),
    m.Announcement(1, 2, 1, (READY,), (RECEIPT,), (ABORT,), None),
    m.Announcement(1, 2, 2, (READY,), (RECEIPT,), (), VOID),
    SURVIVORS,
    CERTIFICATE,
    m.Recover(CERTIFICATE, 1, (2, 3), b"x" * 115),
    events.AbortRequest(1, 1, 0),
    m.Close(1, H, H, H, 40, CERTIFICATE),
    events.CatchUp(1, 2, H, H, (RECEIPT,)),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_every_message_survives_the_wire(message: Any) -> None:
    proto = wire.to_proto(message)
    assert wire.from_proto(type(proto).FromString(proto.SerializeToString())) == message


EVENTS: list[Any] = [
    events.Begin((("a", "n"), ("b", "n"))),
    *(events.From("a", message) for message in MESSAGES[:12]),
    events.Connected("a", 3, H),
    events.Lost("a"),
    events.TaskBroke("a", "why"),
    events.StateStored(H, H, 2),
    events.SumReady(H, H, 12),
    events.Join("a"),
    events.SumFailed(H, "why"),
    events.Tick(),
    events.Left("a"),
    events.Readmitted("a"),
    events.StateGiven("a", H, H, 2),
    events.StateRefused("a", H, H),
    events.ContributionLost("a"),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_collector_event_survives_the_journal(event: Any) -> None:
    data = wire.event_to_bytes(event)
    assert wire.event_from_bytes(data) == event
    for damaged in (data[:-1], data + b"\x00", b"\xff" + data[1:]):
        with pytest.raises(VerificationFailed):
            wire.event_from_bytes(damaged)
    assert {type(each) for each in EVENTS} == set(get_args(events.CollectorEvent))


def test_an_empty_ledger_survives() -> None:
    assert codec.decode(codec.encode(Ledger(), Ledger), Ledger) == Ledger()


def test_checkpoints_of_earlier_versions_are_read_and_cut_ones_are_not() -> None:
    data = codec.encode(Ledger(phase="gathering", asked="a"), Ledger)
    terms, windows = terms_of(), Windows(1, 1, 1, 1, 1, 1, 1)
    for stored in (data, data[:-32], data[:-48], data[:-56]):
        machine = CollectorMachine.from_checkpoint(terms, windows, lambda _: pytest.fail("asked"), stored)
        assert (machine.phase, machine.left) == ("gathering", frozenset())
        assert machine.checkpoint() == data
    for cut in (1, 8, 9, 16, 24, 31, 33, 40, 47, 49, 57):
        with pytest.raises(VerificationFailed):
            CollectorMachine.from_checkpoint(terms, windows, lambda _: pytest.fail("asked"), data[:-cut])


def malformed() -> list[tuple[str, Any]]:
    upload = wire.to_proto(UPLOAD)
    cases: list[tuple[str, Any]] = []

    def case(name: str, proto: Any, change: Any) -> None:
        copy = type(proto)()
        copy.CopyFrom(proto)
        change(copy)
        cases.append((name, copy))

    case("short signature", upload, lambda p: setattr(p, "signature", b"x" * 63))
    case("long context", upload, lambda p: setattr(p, "context", b"x" * 33))
    case("index zero", upload, lambda p: setattr(p, "index", 0))
    case("index beyond the largest roster", upload, lambda p: setattr(p, "index", 201))
    case("edges not sorted", upload, lambda p: p.edges.extend([1]))
    case("too many hashes", upload, lambda p: p.secret_hashes.extend([H] * 200))
    case("short hash", upload, lambda p: p.share_hashes.append(b"x"))
    case("huge box", upload, lambda p: setattr(p.boxes[0], "ciphertext", bytes(1 << 20)))
    case("box twice", upload, lambda p: p.boxes.append(p.boxes[1]))
    case("huge credential", wire.to_proto(KEY), lambda p: setattr(p, "credential", bytes(1 << 17)))
    case("weight zero", wire.to_proto(KEY), lambda p: setattr(p, "weight", 0))
    case("survivors twice", wire.to_proto(SURVIVORS), lambda p: p.entries.append(p.entries[0]))
    case("no certificate", wire.to_proto(m.Close(1, H, H, H, 40, CERTIFICATE)), lambda p: p.ClearField("certificate"))
    case("round zero", wire.to_proto(READY), lambda p: setattr(p, "round", 0))
    case("short share", wire.to_proto(MESSAGES[6]), lambda p: setattr(p.shares[0], "value", b"x"))
    case("shares twice", wire.to_proto(MESSAGES[6]), lambda p: setattr(p.shares[1], "peer", 0))
    case("short encapsulation key", wire.to_proto(KEY), lambda p: setattr(p, "kem_key", bytes(1183)))
    case("short ciphertext", wire.to_proto(ROSTER), lambda p: p.ciphertexts.append(bytes(1087)))
    case("encapsulations twice", wire.to_proto(ROSTER), lambda p: p.encapsulations.append(p.encapsulations[1]))
    case("figure beyond the header's range", wire.to_proto(RECEIPT), lambda p: p.figures.append(1 << 62 | 1))
    case("void of a place beyond the roster", wire.to_proto(VOID), lambda p: p.ready.append(201))
    case("void without a certificate", wire.to_proto(VOID), lambda p: p.ClearField("certificate"))
    cases.append(("not of the protocol", rounds_pb2.Ping()))
    cases.append(("empty", rounds_pb2.Ready()))
    return cases


@pytest.mark.parametrize(("name", "proto"), malformed(), ids=lambda value: value if isinstance(value, str) else "")
def test_malformed_messages_are_refused(name: str, proto: Any) -> None:
    with pytest.raises(ProtocolViolation) as refused:
        wire.from_proto(proto)
    assert refused.value.check == "malformed-message"
