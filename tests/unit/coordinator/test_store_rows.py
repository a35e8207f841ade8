"""Every kind of row, on both engines: what is written is what is read, in the order that is promised."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from coordinator.store.assembly import BallotRow, HolderRow, ProposalRow
from coordinator.store.database import LINES_SHOWN, Change, ConsentRow, Database, NodeRow, TicketRow
from coordinator.store.halts import AnswerRow, HaltRow
from coordinator.store.log import HEADS_KEPT, SignedHead
from coordinator.store.releases import ReleaseRow
from coordinator.store.studies import StudyAnswerRow, StudyRow
from tests.postgresql import opened

JOB, OTHER = "ab" * 32, "cd" * 32
BYTES = bytes(range(256))
FAR = (1 << 53) - 1
"""more than 32 bits hold"""


@pytest.fixture
def database(place: str) -> Iterator[Database]:
    made = opened(place)
    yield made
    made.close()


@pytest.fixture
def change(database: Database) -> Iterator[Change]:
    with database.transaction() as begun:
        begun.add_job(JOB, "digits", BYTES, 1.25)
        begun.add_job(OTHER, "digits", b"{}", 2.5)
        yield begun


def test_a_ticket_is_used_once(change: Change) -> None:
    ticket = TicketRow("t" * 32, "operator", "", "", "an operator " * 20, BYTES, 1e10 + 0.125, None)
    change.add_ticket(ticket)
    assert change.ticket(ticket.id) == ticket
    assert [change.use_ticket(ticket.id, 3.5), change.use_ticket(ticket.id, 4.0)] == [True, False]
    assert change.ticket(ticket.id) == replace(ticket, used=3.5)
    assert change.ticket("nothing\x00like it") is None


def test_nodes_and_catalogues_come_in_the_order_of_bytes(change: Change) -> None:
    """And not in that of a language, in which hyphens and capitals count for little."""
    names = ["b-1", "B", "a-1", "a1", "a-10", "é", "z"]
    for name in names:
        change.put_node(NodeRow("br", name, b"old", "enrolled", 0.5))
        change.put_node(NodeRow("br", name, BYTES, "enrolled", 1.5))
        change.put_catalogue("br", name, FAR, name.encode())
    in_order = sorted(names, key=str.encode)
    assert [row.node for row in change.nodes()] == in_order
    assert [row.node for row, _ in change.catalogues()] == in_order
    assert change.node("br", "a1") == NodeRow("br", "a1", BYTES, "enrolled", 1.5)
    assert change.catalogue("br", "z") == (FAR, b"z")
    change.see_node("br", "z", "active", 9.0)
    change.put_node(NodeRow("br", "B", BYTES, "revoked", 1.5))
    change.see_node("br", "B", "active", 9.0)
    assert [row.state for row in change.nodes() if row.node in {"B", "z"}] == ["revoked", "active"]


def test_jobs_are_found_by_name_and_by_digest(change: Change) -> None:
    change.update_job(
        JOB, state="running", roster=("fr", "br"), epoch=3, reason="it waits\x00for some", withdrawal=BYTES
    )
    job = change.job(JOB)
    assert job is not None
    assert (job.sequence, job.state, job.roster, job.epoch) == (1, "running", ("fr", "br"), 3)
    assert (job.reason, job.withdrawal, job.submitted, job.manifest) == ("it waits\ufffdfor some", BYTES, 1.25, BYTES)
    assert [row.digest for row in change.jobs()] == [JOB, OTHER]
    assert [row.digest for row in change.find_jobs("digits", "")] == [OTHER]
    assert [row.digest for row in change.find_jobs("nothing", "abab")] == [JOB]
    assert change.find_jobs("nothing", "ef") == ()
    assert change.find_jobs("no\x00thing", "") == ()


def test_what_nodes_say_of_a_job(change: Change) -> None:
    for state in ("granted", "revoked"):
        for member in ("ke", "br"):
            change.put_consent(JOB, ConsentRow(member, f"{member}-1", state, ("why\x00", "é"), BYTES))
    assert [(row.member, row.state, row.reasons) for row in change.consents(JOB)] == [
        ("br", "revoked", ("why\x00", "é")), ("ke", "revoked", ("why\x00", "é")),
    ]  # fmt: skip
    change.place(JOB, [("ke", "ke-1"), ("br", "br-1")])
    change.place(JOB, [("ke", "ke-2"), ("br", "br-1")])
    assert change.placement(JOB) == (("br", "br-1"), ("ke", "ke-2"))
    assert change.consents(OTHER) == change.placement(OTHER) == ()


def test_rounds_events_and_checkpoints(change: Change) -> None:
    for number in range(1, 12):
        change.put_round(JOB, number, 1, b"first")
        change.put_round(JOB, number, 1, b"%d" % number)
    change.put_round(JOB, 11, 2, b"again")
    assert change.rounds(JOB)[:2] == (b"1", b"2")
    assert len(change.rounds(JOB)) == 12
    assert change.rounds(JOB, 3) == (b"10", b"11", b"again")
    assert change.rounds(JOB, 0) == ()
    change.add_events(JOB, [(FAR, 1.5, BYTES), (1, 0.25, b"")])
    assert change.events(JOB) == ((1, 0.25, b""), (FAR, 1.5, BYTES))
    change.set_checkpoint(JOB, b"one")
    change.set_checkpoint(JOB, BYTES)
    assert (change.checkpoint(JOB), change.events(JOB), change.checkpoint(OTHER)) == (BYTES, (), None)


def test_updates_and_evidence(change: Change) -> None:
    for context in (BYTES[:32], BYTES[32:64]):
        change.put_update(JOB, context, "br", b"lost")
        change.put_update(JOB, context, "br", BYTES)
    change.drop_updates(JOB, BYTES[:32])
    assert change.updates(JOB) == {(BYTES[32:64], "br"): BYTES}
    for number in (2, 1, FAR):
        change.put_evidence(JOB, "header", number, b"%d" % number)
    assert change.pieces(JOB, "header") == (b"1", b"2", b"%d" % FAR)
    assert change.evidence(JOB)[("header", FAR)] == change.piece(JOB, "header", FAR)


def test_the_story_and_misconduct(change: Change) -> None:
    for number in range(LINES_SHOWN + 5):
        change.add_line(JOB, float(number), f"line {number}\x00" + "é" * 3000, "br")
    shown = change.lines(JOB)
    assert (len(shown), len(shown[-1].text)) == (LINES_SHOWN, 2000)
    assert [line.sequence for line in shown] == sorted(line.sequence for line in shown)
    assert change.lines(JOB, shown[-1].sequence) == ()
    assert shown[-1].text.startswith(f"line {LINES_SHOWN + 4}\ufffdé")
    change.audit(1.0, "misconduct", f"{JOB} br late-upload", BYTES)
    change.audit(2.0, "misconduct", f"{JOB} br late-upload")
    assert list(change.misconduct()) == [(1.0, f"{JOB} br late-upload", BYTES)]


def test_halts_and_answers_stay_as_they_were_first(change: Change) -> None:
    for number in (3, 1, 2):
        change.halts.add(HaltRow(b"%d" % number * 32, BYTES, None, None, float(number)))
    change.halts.lift(b"1" * 32, b"first")
    change.halts.lift(b"1" * 32, b"second")
    assert [(row.digest[:1], row.lift) for row in change.halts.all()] == [(b"3", None), (b"1", b"first"), (b"2", None)]
    answers = [AnswerRow(b"1" * 32, "br", "br-1", b"%f" % heard, heard) for heard in (1.0, 2.0)]
    assert [change.halts.answer(row) for row in answers] == [True, False]
    assert change.halts.answers(b"1" * 32) == (AnswerRow(b"1" * 32, "br", "br-1", b"%f" % 1.0, 1.0),)


def test_votes_and_who_holds_which_roll(change: Change) -> None:
    for digest in (BYTES[32:64], BYTES[:32]):
        change.assembly.propose(ProposalRow(digest, BYTES, b"draft", 1.0))
    change.assembly.put_draft(BYTES[:32], BYTES)
    assert [(row.digest, row.draft) for row in change.assembly.proposals()] == [
        (BYTES[32:64], b"draft"), (BYTES[:32], BYTES),
    ]  # fmt: skip
    for member, choice in (("ke", "yes"), ("br", "no")):
        change.assembly.vote(BallotRow(BYTES[:32], member, choice, BYTES))
    assert [row.member for row in change.assembly.ballots(BYTES[:32])] == ["ke", "br"]
    for version in (1, FAR):
        change.assembly.holds(HolderRow("br", "br-1", version, BYTES))
    assert change.assembly.holders() == (HolderRow("br", "br-1", FAR, BYTES),)


def test_releases_are_written_over_whole(change: Change) -> None:
    change.releases.put(ReleaseRow(JOB, BYTES, "proposed", "ab" * 32))
    last = ReleaseRow(JOB, BYTES, "published", "", b"decision", b"roll", BYTES)
    change.releases.put(last)
    change.releases.put(ReleaseRow(OTHER, b"", "withheld"))
    assert change.releases.of(JOB) == last
    assert [row.job for row in change.releases.all()] == [JOB, OTHER]


def test_heads_and_cosignatures(change: Change) -> None:
    for size in range(HEADS_KEPT + 3):
        change.log.put_head(SignedHead(size, b"r" * 32, b"old"))
        change.log.put_head(SignedHead(size, b"R" * 32, b"note"))
        if size in {0, HEADS_KEPT}:
            for witness in ("atlas/br/br-1", "w" * 190):
                change.log.put_cosignature(size, witness, b"old")
                change.log.put_cosignature(size, witness, b"%d" % size)
    assert change.log.head(2) is None, "old ones go"
    assert change.log.head(HEADS_KEPT) == SignedHead(HEADS_KEPT, b"R" * 32, b"note")
    assert change.log.cosignatures(0) == {}
    assert change.log.newest_cosignatures() == dict.fromkeys(
        ("atlas/br/br-1", "w" * 190), (HEADS_KEPT, b"%d" % HEADS_KEPT)
    )
    assert (change.log.cosigned_size(5), change.log.cosigned_size(HEADS_KEPT)) == (HEADS_KEPT, None)


def test_the_roll_is_one(change: Change) -> None:
    assert change.roll() is None
    change.set_roll(b"one")
    change.set_roll(BYTES)
    assert change.roll() == BYTES


def test_a_row_of_no_job_is_refused(database: Database) -> None:
    def writes() -> None:
        with database.transaction() as change:
            change.put_round("ef" * 32, 1, 1, b"")

    with pytest.raises(Exception, match=r"(?i)foreign key") as error:
        writes()
    assert "parameters hidden" in str(error.value) or "parameters" not in str(error.value)
    assert database.answers()


def test_studies_and_what_each_node_answered(change: Change) -> None:
    first, second = StudyRow(JOB, "search", BYTES, 1.25), StudyRow(OTHER, "search", b"{}", FAR + 0.0)
    change.studies.add(first)
    change.studies.add(second)
    assert change.studies.all() == (first, second)
    assert change.studies.of(JOB) == first
    assert change.studies.of("00" * 32) is None
    asked = StudyAnswerRow("br", "br-1", "asked", (), b"")
    granted = StudyAnswerRow("br", "br-1", "granted", ("one", "two"), BYTES)
    other = StudyAnswerRow("b-1", "B", "denied", ("no",), b"x")
    for row in (asked, granted, other):
        change.studies.put_answer(JOB, row)
    assert change.studies.answers(JOB) == (other, granted)
    assert change.studies.answers(OTHER) == ()
