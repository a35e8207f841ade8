"""A coordinator that hides a halt: what it still cannot do, and what shows it. (docs/decisions/0024)"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from coordinator.client.halting import HALTED_EXIT_CODE, _outcome
from coordinator.client.halts import Halt, halt_of
from federation.errors import InvalidIdentity
from federation.halt.acknowledgement import Acknowledgement, seal_acknowledgement
from federation.halt.book import HaltBook
from federation.halt.levels import Level, Step
from federation.halt.order import SignedOrder
from federation.halt.receipt import Receipt, seal_receipt
from federation.identity.keys import SigningKey
from federation.v1 import halt_pb2
from tests.unit.halt.given import JOB, LEAD, NOW, Officers, member
from tests.unit.halt.test_wards import OFFICERS, ROLL, Clock, halts_of

COORDINATOR = SigningKey.generate()
LEASE = 30.0


def receipt_of(signed: SignedOrder, ago: timedelta, key: SigningKey = COORDINATOR) -> bytes:
    """As the coordinator signed for it, so long ago."""
    then = datetime.now(UTC).replace(microsecond=0) - ago
    return seal_receipt(Receipt("health", signed.digest, then, then + timedelta(seconds=LEASE)), key)


def told(folder: Path, **changes: Any) -> tuple[Any, list[str]]:
    """A node that the coordinator answers, and what it says of the coordinator."""
    halts = halts_of(folder, LEASE, Clock(), **changes)
    halts.folder.keep_coordinator_key(COORDINATOR.public)
    said: list[str] = []
    halts.distrust = said.append
    return halts, said


@pytest.mark.parametrize("level", [Level.hold, Level.stop])
def test_an_order_that_the_coordinator_hides_halts_whoever_is_handed_the_file(tmp_path: Path, level: Level) -> None:
    """The coordinator goes on answering as if nothing were: the lease is good, and the file is obeyed."""
    halts, _ = told(tmp_path)
    hidden = OFFICERS.order(level, LEAD, scope="job", job=JOB)
    halts.granted(halts.ask(), [])
    assert halts.permits(JOB, Step.begin)
    halts.take(hidden.envelope)
    halts.granted(halts.ask(), [])
    assert not halts.permits(JOB, Step.begin)
    assert halts.permits(JOB, Step.finish) == (level is Level.hold)  # no UPLOAD, no ACK, no REVEAL after a stop
    again = halts_of(tmp_path, LEASE, Clock())
    assert again.level(JOB) is level


def test_order_and_receipt_without_a_word_of_it_stop_the_whole_node(tmp_path: Path) -> None:
    halts, said = told(tmp_path)
    hidden = OFFICERS.order(Level.hold, member("ch"))
    halts.take(hidden.envelope, receipt_of(hidden, timedelta(seconds=4 * LEASE)))
    halts.look()
    halts.granted(halts.ask(), [hidden.digest])
    assert said == []  # it tells of it: late, but it does
    halts.granted(halts.ask(), [])
    assert len(said) == 1
    assert "signed for the order" in said[0]


def test_without_its_receipt_in_time_or_after_a_lift_nobody_is_accused(tmp_path: Path) -> None:
    """What an honest coordinator looks like: it never got the order, or there was no time yet, or it was lifted since."""
    halts, said = told(tmp_path)
    unknown, fresh, lifted, others, drill = (
        OFFICERS.order(Level.hold, member("ch")),
        OFFICERS.order(Level.hold, member("ch")),
        OFFICERS.order(Level.hold, member("fr"), scope="member", member="fr"),
        OFFICERS.order(Level.stop, member("ke"), scope="member", member="ke"),
        OFFICERS.order(Level.stop, member("ch"), drill=True),
    )
    long_ago = timedelta(seconds=10 * LEASE)
    halts.take(unknown.envelope)
    halts.take(fresh.envelope, receipt_of(fresh, timedelta()))
    halts.take(lifted.envelope, receipt_of(lifted, long_ago))
    halts.take(others.envelope, receipt_of(others, long_ago))
    halts.take(drill.envelope, receipt_of(drill, long_ago))
    halts.take_lift(OFFICERS.lift(lifted).envelope)
    halts.look()
    halts.granted(halts.ask(), [])
    assert said == []
    forged = OFFICERS.order(Level.hold, member("ch"))
    with pytest.raises(InvalidIdentity, match="not signed by the coordinator"):
        halts.take(forged.envelope, receipt_of(forged, long_ago, SigningKey.generate()))


def test_a_coordinator_that_names_an_order_and_does_not_give_it_is_answered_by_no_lease(tmp_path: Path) -> None:
    halts, _ = told(tmp_path, leased=False)
    hidden = OFFICERS.order(Level.stop, member("ch"))
    for _ in range(3):
        halts.granted(halts.ask(), [hidden.digest])
    assert not halts.permits(JOB, Step.finish)


def test_answers_that_come_late_are_worth_no_more_than_when_they_were_asked_for(tmp_path: Path) -> None:
    """It keeps the answers back, and gives them one by one to a node that it has cut off from an order."""
    clock = Clock()
    halts = halts_of(tmp_path, LEASE, clock, leased=False)
    asked = [halts.ask() for _ in range(5)]
    clock.now += 29.0
    for number in asked:
        halts.granted(number, [])
        halts.granted(number, [])  # and again
    assert halts.permits(JOB, Step.finish)
    clock.now += 1.0
    assert not halts.permits(JOB, Step.finish)


def view_of(signed: SignedOrder, *, answered: bytes = b"", credential: bytes = b"", ends: datetime | None) -> Halt:
    view = halt_pb2.HaltView(digest=signed.digest, order=signed.envelope, received="2026-11-25T12:00:00.000Z")
    if answered:
        view.answers.add(member="fr", node="fr-1", acknowledgement=answered, credential=credential)
    if ends is not None:
        view.awaited.add(member="ke", node="ke-1", attending=True, lease_ends=ends.isoformat())
    return halt_of(view, ROLL)


def test_the_officers_command_names_who_has_not_answered_and_ends_with_its_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    signed = OFFICERS.order(Level.stop, member("ch"))
    assert _outcome(view_of(signed, ends=datetime.now(UTC) - timedelta(seconds=1))) == HALTED_EXIT_CODE == 7
    assert "ke/ke-1 did not answer; its lease ended by" in capsys.readouterr().err
    assert _outcome(view_of(signed, ends=None)) == 0


def test_the_coordinator_cannot_answer_in_a_nodes_name(capsys: pytest.CaptureFixture[str]) -> None:
    fresh = Officers(OFFICERS.parties)
    signed = fresh.order(Level.stop, member("ch"))
    said = Acknowledgement(signed.digest, "fr", "fr-1", Level.stop, NOW, 1, 1, 1)
    credential = fresh.parties.credential("fr", fresh.node_keys["fr"]).envelope
    own = seal_acknowledgement(said, fresh.node_keys["fr"])
    assert _outcome(view_of(signed, answered=own, credential=credential, ends=None)) == 0
    other = fresh.order(Level.stop, member("ch"))
    for forged in (
        view_of(signed, answered=seal_acknowledgement(said, COORDINATOR), credential=credential, ends=None),
        view_of(other, answered=own, credential=credential, ends=None),
        view_of(signed, answered=own, ends=None),
    ):
        assert [answer.said for answer in forged.answers] == [None]
        assert _outcome(forged) == HALTED_EXIT_CODE
    assert "not everywhere" in capsys.readouterr().err


def test_orders_that_were_kept_back_leave_a_gap_in_their_signers_numbers() -> None:
    fresh = Officers(OFFICERS.parties)
    given = [fresh.order(Level.hold, member("ch")) for _ in range(4)]
    book = HaltBook()
    for signed in (given[0], given[3]):
        book.take(signed)
    assert book.missing(member("ch")) == (2, 3)
