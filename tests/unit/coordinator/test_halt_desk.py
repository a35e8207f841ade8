"""The coordinator's desk for halts: kept and logged before it is told, told whole on each stream, answered by nodes alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from coordinator.halts import desk as desk_room
from coordinator.halts.desk import Attendance, HaltDesk
from coordinator.halts.effects import UNDER_WAY, effect
from coordinator.jobs.lifecycle import ENDED, STEPS
from coordinator.registry.authority import Authority
from coordinator.registry.enrolment import Registry
from coordinator.store.database import Database, NodeRow
from coordinator.store.halts import HaltRows
from federation.errors import Halted, InvalidIdentity, NotFound, PolicyDenied
from federation.halt.acknowledgement import Acknowledgement, seal_acknowledgement
from federation.halt.levels import Level
from federation.halt.receipt import open_receipt
from federation.identity.keys import SigningKey
from federation.identity.roll import RevokedNode
from federation.v1 import halt_pb2
from tests.postgresql import opened as open_database
from tests.unit.halt.given import JOB, LEAD, MEMBERS, NOW, OTHER, Officers, member, node

OFFICERS = Officers()
KEY = SigningKey.generate()


@pytest.fixture
def database(place: str) -> Iterator[Database]:
    made = open_database(place)
    with made.transaction() as change:
        for name in MEMBERS:
            envelope = OFFICERS.parties.credential(name, OFFICERS.node_keys[name]).envelope
            change.put_node(NodeRow(name, f"{name}-1", envelope, "enrolled", 0.0))
    yield made
    made.close()


def opened(database: Database) -> HaltDesk:
    registry = Registry(database, Authority.create("health", NOW), timedelta(hours=24), NOW.timestamp)
    registry.found(OFFICERS.parties.roll.envelope)
    return HaltDesk(database, registry, KEY, NOW.timestamp)


def heard(attendance: Attendance) -> list[tuple[str, bytes]]:
    found = []
    while not attendance.queue.empty():
        notice = attendance.queue.get_nowait()
        assert notice is not None
        kind = notice.WhichOneof("notice") or ""
        found.append((kind, getattr(notice, kind)))
    return found


def logged(database: Database) -> list[tuple[str, str]]:
    """What was logged since the founding."""
    with database.transaction() as change:
        rows = change._connection.execute(sa.text("SELECT kind, subject FROM audit_entries ORDER BY sequence"))
        return [(row.kind, row.subject) for row in rows if row.kind != "founding"]


def test_an_order_is_kept_and_logged_with_no_persons_words_then_told_and_signed_for(database: Database) -> None:
    desk = opened(database)
    stream = desk.attend("fr", "fr-1")
    assert heard(stream) == [("receipt_key", KEY.public)]
    signed = OFFICERS.order(Level.stop, LEAD, scope="job", job=JOB, reason="Dr. Ana saw row 4711")
    digest, receipt = desk.give(signed.envelope)
    assert digest == signed.digest
    promise = open_receipt(receipt, signed.digest, KEY.public)
    assert (promise.told_by - promise.received).total_seconds() == desk.lease_seconds + 1
    assert heard(stream) == [("order", signed.envelope)]
    assert logged(database) == [("halt", f"scope=job level=stop job={JOB.hex()}")]
    assert desk.give(signed.envelope) == (digest, receipt)
    assert heard(stream) == []
    assert len(logged(database)) == 1
    assert opened(database).level(JOB, lead="lead") is Level.stop


def test_everything_is_told_again_on_each_stream_and_to_whom_it_reaches_alone(database: Database) -> None:
    desk = opened(database)
    whole, own, of_node, held = (
        OFFICERS.order(Level.hold, member("ch")),
        OFFICERS.order(Level.stop, member("ke"), scope="member", member="ke"),
        OFFICERS.order(Level.hold, node("fr"), scope="member", member="fr"),
        OFFICERS.order(Level.hold, member("fr"), scope="member", member="fr"),
    )
    for signed in (whole, own, of_node, held):
        desk.give(signed.envelope)
    lift = OFFICERS.lift(held)
    desk.give(b"", lift.envelope)
    for each in (desk, opened(database)):
        told = [kind_and for kind_and in heard(each.attend("fr", "fr-1")) if kind_and[0] != "receipt_key"]
        assert sorted(told) == sorted(
            [("order", whole.envelope), ("order", of_node.envelope), ("order", held.envelope), ("lift", lift.envelope)]
        )
        stream = each.attend("ke", "ke-1")
        heard(stream)
        each.heard(stream, halt_pb2.HaltReport(lease=7))
        ((kind, lease),) = heard(stream)
        assert (kind, lease.number, set(lease.standing)) == ("lease", 7, {whole.digest, own.digest})  # type: ignore[attr-defined]


def test_a_disk_that_fails_keeps_no_halt_from_the_nodes_and_signs_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = opened(database)
    stream = desk.attend("fr", "fr-1")
    heard(stream)
    signed = OFFICERS.order(Level.stop, LEAD, scope="job", job=JOB)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(HaltRows, "add", full)
        with pytest.raises(OSError, match="No space"):
            desk.give(signed.envelope)
    assert heard(stream) == [("order", signed.envelope)]
    assert desk.level(JOB, lead="lead") is Level.stop
    assert logged(database) == []
    _, receipt = desk.give(signed.envelope)
    assert receipt
    assert len(logged(database)) == 1


def test_only_who_may_orders_and_lifts(database: Database) -> None:
    desk = opened(database)
    with pytest.raises(InvalidIdentity):
        desk.give(OFFICERS.order(Level.stop, member("fr"), key=SigningKey.generate()).envelope)
    with pytest.raises(PolicyDenied):
        desk.give(OFFICERS.order(Level.stop, LEAD).envelope)
    stop = OFFICERS.order(Level.stop, LEAD, scope="job", job=JOB)
    desk.give(stop.envelope)
    with pytest.raises(Halted, match="final"):
        desk.give(b"", OFFICERS.lift(stop).envelope)
    whole = OFFICERS.order(Level.hold, member("fr"))
    with pytest.raises(InvalidIdentity, match="lifted by a vote"):
        desk.give(b"", OFFICERS.lift(whole).envelope)
    assert desk.level(OTHER) is Level.hold  # the lift was refused, the order in it was good
    with pytest.raises(NotFound):
        desk.view(b"\0" * 32)


def test_answers_count_under_the_nodes_own_signature(database: Database) -> None:
    desk = opened(database)
    took: list[float] = []
    desk.carried_out = took.append
    signed = OFFICERS.order(Level.stop, member("ch"))
    desk.give(signed.envelope)
    streams = {name: desk.attend(name, f"{name}-1") for name in MEMBERS}

    def say(name: str, key: SigningKey, who: str) -> None:
        said = Acknowledgement(signed.digest, who, f"{who}-1", Level.stop, NOW, 1, 1, 1)
        report = halt_pb2.HaltReport(acknowledgement=seal_acknowledgement(said, key))
        desk.heard(streams[name], report)

    say("fr", OFFICERS.node_keys["fr"], "fr")
    say("fr", OFFICERS.node_keys["fr"], "fr")
    say("ke", OFFICERS.node_keys["fr"], "ke")
    say("ke", OFFICERS.node_keys["ke"], "ch")
    say("ke", KEY, "ke")
    desk.heard(streams["ke"], halt_pb2.HaltReport(lease=1))
    view = desk.view(signed.digest)
    assert [(answer.member, answer.node) for answer in view.answers] == [("fr", "fr-1")]
    assert {(each.member, bool(each.lease_ends)) for each in view.awaited} == {("ch", False), ("ke", True)}
    assert took == [0.0], "what is said again counts once"


def test_no_change_between_a_view_and_the_waiting_for_the_next_is_missed(database: Database) -> None:
    desk = opened(database)
    signed = OFFICERS.order(Level.stop, member("ch"))

    async def story() -> None:
        desk.give(signed.envelope)
        change = desk.change(signed.digest)
        desk.view(signed.digest)
        desk._wake(signed.digest)
        await asyncio.wait_for(change.wait(), 1.0)

    asyncio.run(story())


def test_effects_follow_the_nodes_streams_which_have_their_turn_first(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = opened(database)
    seen: list[str] = []
    monkeypatch.setattr(desk_room.Attendance, "tell", lambda *_: seen.append("told"))
    desk.changed = lambda: seen.append("followed")

    async def story() -> None:
        desk.attend("fr", "fr-1")
        desk.give(OFFICERS.order(Level.stop, member("ch")).envelope)
        seen.append("answered")
        while "followed" not in seen:
            await asyncio.sleep(0.001)

    asyncio.run(story())
    assert seen == ["told", "told", "answered", "followed"]


def test_bad_reports_change_nothing_and_end_no_stream(database: Database) -> None:
    desk = opened(database)
    stream = desk.attend("fr", "fr-1")
    heard(stream)
    for report in (
        halt_pb2.HaltReport(),
        halt_pb2.HaltReport(order=b"{"),
        halt_pb2.HaltReport(lift=b"\0"),
        halt_pb2.HaltReport(acknowledgement=b"x" * 10_000),
    ):
        for _ in range(30):
            desk.heard(stream, report)
    assert heard(stream) == []
    assert list(desk.views()) == []


def test_a_halt_never_brings_an_ended_job_back_and_every_step_is_in_the_table() -> None:
    for state in STEPS:
        for level in Level:
            for phase in ("", "gathering", *sorted(UNDER_WAY)):
                to = effect(level, state, phase)
                if state not in ENDED and to:
                    assert to in STEPS[state], (state, level, phase)
                if state not in ENDED and level is Level.stop:
                    assert to == "stopped"
                if level is Level.drain and phase in UNDER_WAY:
                    assert to != "stopped"


@pytest.mark.parametrize("put_out", ["member", "tier", "node"])
def test_whoever_a_roll_puts_out_hears_no_more_and_the_others_do(database: Database, put_out: str) -> None:
    desk, roll = opened(database), OFFICERS.parties.roll
    out, stays = desk.attend("ke", "ke-1"), desk.attend("fr", "fr-1")
    changes: dict[str, dict[str, Any]] = {
        "member": {
            "members": tuple(replace(each, state="suspended") if each.id == "ke" else each for each in roll.members)
        },
        "tier": {
            "members": tuple(replace(each, tier="observer") if each.id == "ke" else each for each in roll.members)
        },
        "node": {"revoked": (RevokedNode("ke", "ke-1", OFFICERS.node_keys["ke"].public),)},
    }
    desk.amended(roll, replace(roll, **changes[put_out]))
    assert out.queue.get_nowait() is None
    assert out.queue.empty()
    assert [kind for kind, _ in heard(stays)] == ["receipt_key"]
    desk.give(OFFICERS.order(Level.hold, member("ch")).envelope)
    assert out.queue.empty()
    assert [kind for kind, _ in heard(stays)] == ["order"]
