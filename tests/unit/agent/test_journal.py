"""The lab's journal: what it answered and voted is on disk when the call returns, once, for one process, and erased for good."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.errors import NotFound, Unavailable
from node_agent.consent.listing import print_consents
from node_agent.settings import Home, NodeSettings
from node_agent.store import journal as module
from node_agent.store.journal import ConsentRecord, JobRecord, Journal
from tests.unit.agent import deaths
from tests.unit.agent.killed import alone

JOB = bytes(range(32))
OTHER = bytes(32)
MANIFEST = b"the manifest as its lead signed it"

PRELUDE = """
import os, sys
from pathlib import Path
from federation.errors import FederationError
from node_agent.store.journal import ConsentRecord, Journal
path, JOB = Path(sys.argv[1]), bytes(range(32))
"""


def record(job: bytes = JOB, *, granted: bool = True, **changes: object) -> ConsentRecord:
    fields: dict[str, object] = {
        "name": "digits",
        "lead": "ada",
        "reasons": ("lead ada is allowed", "data set digits is allowed"),
        "envelope": b"signed",
        "answered": "2027-01-15T08:00:00Z",
    }
    return ConsentRecord(job=job, granted=granted, **{**fields, **changes})  # type: ignore[arg-type]


def process(text: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Another process, with the journal's path."""
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + text, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[3],
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def everything(path: Path) -> tuple[object, ...]:
    with Journal(path, read_only=True) as journal:
        jobs = [job for state in ("active", "finished", "failed", "withdrawn") for job in journal.jobs(state)]
        return journal.consents(), jobs, {job.job: journal.records(job.job) for job in jobs}


# ---------------------------------------------------------------------------------------------------------------- durability


def test_what_was_said_survives_a_process_that_is_killed_as_soon_as_the_call_returns(path: Path) -> None:
    died = process(
        """
journal = Journal(path)
journal.answer(ConsentRecord(JOB, "digits", "ada", True, ("yes",), b"signed", "2027-01-15T08:00:00Z"), b"manifest")
journal.remember(JOB, {"ack/1/2/0": b"vote", "state": b"held", "gone": b"seed"})
journal.remember(JOB, {"state": b"later", "gone": None})
os._exit(9)
""",
        path,
    )
    assert died.returncode == 9, died.stderr
    with Journal(path) as journal:
        consent = journal.consent(JOB)
        assert consent is not None
        assert (consent.granted, consent.reasons, consent.envelope) == (True, ("yes",), b"signed")
        assert journal.jobs() == (JobRecord(JOB, b"manifest", "active", ""),)
        assert journal.records(JOB) == {"ack/1/2/0": b"vote", "state": b"later"}


def test_votes_of_one_call_are_all_there_or_none(path: Path) -> None:
    alone(deaths.torn_journal, path.parent)
    with Journal(path) as journal:
        assert journal.records(JOB) == {"state": b"old"}
        journal.remember(JOB, {"state": b"new"})
        assert journal.records(JOB) == {"state": b"new"}


def test_a_reader_of_a_journal_that_was_left_in_the_middle_is_told_what_to_do(path: Path) -> None:
    alone(deaths.torn_journal, path.parent)
    with Journal(path, read_only=True) as journal, pytest.raises(Unavailable) as said:
        journal.consents()
    assert "concord-node run" in said.value.hint
    with Journal(path):
        pass
    assert everything(path)[0] == ()


def test_a_journal_opened_again_says_the_same(path: Path) -> None:
    with Journal(path) as journal:
        journal.answer(record(), MANIFEST)
        journal.answer(record(OTHER, granted=False, answered="2027-01-14T08:00:00Z"), MANIFEST)
        journal.remember(JOB, {"upload/1/1/0": bytes(1000), "empty": b""})
    before = everything(path)
    for _ in range(2):
        with Journal(path) as journal:
            assert [consent.job for consent in journal.consents()] == [OTHER, JOB]
        assert everything(path) == before


WORDS = st.dictionaries(st.sampled_from("abcd"), st.none() | st.binary(max_size=40), max_size=4)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([JOB, OTHER]), WORDS), max_size=8), st.data())
def test_the_journal_holds_the_last_word_on_each_key(
    tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[bytes, dict[str, bytes | None]]], data: st.DataObject
) -> None:
    """Of any calls, however often it is closed between them."""
    path = tmp_path_factory.mktemp("words") / "journal.db"
    expected: dict[bytes, dict[str, bytes]] = {JOB: {}, OTHER: {}}
    journal = Journal(path)
    for job, records in calls:
        journal.remember(job, records)
        for key, value in records.items():
            expected[job].pop(key, None)
            if value is not None:
                expected[job][key] = value
        if data.draw(st.booleans()):
            journal.close()
            journal = Journal(path)
        assert {job: journal.records(job) for job in expected} == expected
    journal.close()


# ------------------------------------------------------------------------------------------------------------- one at a time


def test_a_second_process_is_refused_while_the_first_holds_it(path: Path) -> None:
    attempt = """
try:
    Journal(path).remember(JOB, {"vote": b"second"})
except FederationError as error:
    print(error.code, error.message, error.hint)
else:
    print("voted")
"""
    with Journal(path) as journal:
        journal.remember(JOB, {"vote": b"first"})
        refused = process(attempt, path)
        assert refused.stdout.startswith("unavailable"), refused.stderr
        assert "in use by another process" in refused.stdout
        assert "give this one its own home" in refused.stdout
        with pytest.raises(Unavailable):
            Journal(path)
        assert journal.records(JOB) == {"vote": b"first"}
    assert process(attempt, path).stdout == "voted\n"


def test_a_journal_that_was_refused_or_closed_gives_its_place_away(path: Path) -> None:
    first = Journal(path)
    with pytest.raises(Unavailable):
        Journal(path)
    first.close()
    first.close()
    Journal(path).close()


def test_others_may_read_while_it_is_held(path: Path) -> None:
    with Journal(path) as journal:
        journal.answer(record(), MANIFEST)
        read = process("print([c.name for c in Journal(path, read_only=True).consents()])", path)
        assert read.stdout == "['digits']\n", read.stderr
        written = process(
            "journal = Journal(path, read_only=True)\n"
            "try:\n    journal.remember(JOB, {'vote': b'x'})\nexcept Exception as error:\n    print(error)",
            path,
        )
        assert "readonly" in written.stdout
        assert journal.records(JOB) == {}


def test_reading_makes_no_file(path: Path) -> None:
    with pytest.raises(Unavailable):
        Journal(path, read_only=True)
    assert list(path.parent.iterdir()) == []


def test_a_write_that_a_reader_kept_out_changes_nothing_and_may_be_tried_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator's own sqlite3 left a transaction open; the node goes on when it is gone."""
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.05)
    with Journal(path) as journal:
        journal.answer(record(), MANIFEST)
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM records").fetchall()
        for write in (
            lambda: journal.remember(JOB, {"vote": b"1"}),
            lambda: journal.answer(record(OTHER), MANIFEST),
            lambda: journal.end_job(JOB, "failed"),
        ):
            with pytest.raises(Unavailable) as said:
                write()
            assert "journal.db" in said.value.message
            assert said.value.hint
        reader.close()
        assert journal.records(JOB) == {}
        journal.remember(JOB, {"vote": b"1"})
        journal.answer(record(OTHER), MANIFEST)
        journal.end_job(JOB, "failed", "why")
        assert [job.job for job in journal.jobs()] == [OTHER]


def test_an_answer_that_cannot_be_kept_leaves_the_journal_usable(path: Path) -> None:
    with Journal(path) as journal:
        with pytest.raises(sqlite3.IntegrityError):
            journal.answer(record(b"no digest"), MANIFEST)
        with pytest.raises(sqlite3.IntegrityError):
            journal.remember(b"no digest", {"vote": b"1"})
        journal.answer(record(), MANIFEST)
        assert journal.consents() == (record(),)


def test_threads_of_one_process_take_turns(path: Path) -> None:
    with Journal(path) as journal:
        threads = [
            threading.Thread(target=lambda n=n: journal.remember(JOB, {f"{n}/{i}": b"" for i in range(3)}))
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(journal.records(JOB)) == 24


def test_a_journal_of_another_form_is_left_alone(path: Path) -> None:
    Journal(path).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version=8")
    database.close()
    with pytest.raises(Unavailable, match="form 8; this program reads form 7") as said:
        Journal(path)
    assert "Run the version of concord-node that wrote it" in said.value.hint
    with pytest.raises(Unavailable, match="form 8"):  # and the refusal left no lock behind
        Journal(path)


# --------------------------------------------------------------------------------------------------------- answers and jobs


def test_a_consent_is_given_once(path: Path) -> None:
    with Journal(path) as journal:
        journal.answer(record(granted=False, envelope=b"denied"), MANIFEST)
        assert journal.jobs() == ()
        journal.answer(record(granted=False, envelope=b"denied again", reasons=("no",)), MANIFEST)
        journal.answer(record(envelope=b"granted"), MANIFEST)
        journal.answer(record(envelope=b"granted again"), b"another manifest")
        journal.answer(record(granted=False, envelope=b"denied at last"), MANIFEST)
        consent = journal.consent(JOB)
        assert consent is not None
        assert (consent.granted, consent.envelope) == (True, b"granted")
        assert journal.jobs() == (JobRecord(JOB, MANIFEST, "active", ""),)


def test_a_job_that_ended_is_not_opened_by_asking_again(path: Path) -> None:
    with Journal(path) as journal:
        journal.answer(record(), MANIFEST)
        journal.end_job(JOB, "withdrawn", "the lead said so")
        journal.answer(record(envelope=b"again"), MANIFEST)
        assert journal.jobs() == ()
        assert journal.job(JOB) == JobRecord(JOB, MANIFEST, "withdrawn", "the lead said so")
        assert journal.job(OTHER) is None
        assert journal.consent(OTHER) is None


# ------------------------------------------------------------------------------------------------------------------- secrets


def bytes_of(path: Path) -> bytes:
    """All that lies in the journal's folder."""
    return b"".join(file.read_bytes() for file in sorted(path.parent.iterdir()))


def secret(number: int, size: int) -> bytes:
    return f"<secret {number:05}>".encode() * (size // 14 + 1)


@pytest.mark.parametrize("size", [32, 900, 20_000])
def test_erased_secrets_are_gone_from_the_file(path: Path, size: int) -> None:
    with Journal(path) as journal:
        journal.answer(record(), MANIFEST)
        journal.answer(record(OTHER), MANIFEST)
        for number in range(40):
            journal.remember(JOB, {f"seed/{number}": secret(number, size)})
        journal.remember(OTHER, {"seed": secret(99, size)})
        assert b"<secret 00007>" in bytes_of(path)
        journal.remember(JOB, {"seed/7": None, "seed/8": b"", "seed/9": b"a later word"})
        for number in (7, 8, 9):
            assert b"<secret %05d>" % number not in bytes_of(path)
        journal.end_job(JOB, "finished")
        left = bytes_of(path)
        assert not [number for number in range(40) if b"<secret %05d>" % number in left]
        assert b"<secret 00099>" in left
        assert journal.records(JOB) == {}


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.sampled_from([0, 14, 300, 1500, 5000])), max_size=60))
def test_no_order_of_writes_leaves_a_secret_behind(
    tmp_path_factory: pytest.TempPathFactory, writes: list[tuple[int, int]]
) -> None:
    """Pages split and merge as records come and go; what is not current is nowhere. Size 0 erases."""
    path = tmp_path_factory.mktemp("secrets") / "journal.db"
    current: dict[int, int] = {}
    with Journal(path) as journal:
        for number, (place, size) in enumerate(writes):
            journal.remember(JOB, {f"key/{place}": secret(number, size) if size else None})
            current.pop(place, None)
            if size:
                current[place] = number
        found = bytes_of(path)
    for number in range(len(writes)):
        assert (b"<secret %05d>" % number in found) == (number in current.values()), number


def test_only_the_owner_may_read_it(path: Path) -> None:
    before = os.umask(0)
    try:
        with Journal(path) as journal:
            journal.answer(record(), MANIFEST)
            files = [file for file in path.parent.iterdir() if file.name.startswith("journal.db")]
            assert len(files) >= 2
            assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    finally:
        os.umask(before)
    path.chmod(0o644)
    Journal(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


# ------------------------------------------------------------------------------------------------------------------- listing


def test_the_list_of_answers_says_what_and_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = Home(tmp_path)
    with pytest.raises(NotFound, match=r"node\.yaml is missing"):
        print_consents(home)
    home.save(NodeSettings(member="fr", node="fr-1", federation="health"))
    print_consents(home)
    assert capsys.readouterr().out == "nothing was asked yet\n"
    home.journal.touch()  # a node that was killed before its journal had a form
    print_consents(home)
    assert capsys.readouterr().out == "nothing was asked yet\n"
    with Journal(home.journal) as journal:
        print_consents(home)
        assert capsys.readouterr().out == "nothing was asked yet\n"
        journal.answer(record(), MANIFEST)
        no = ("rules.leads: lead eve is not allowed", "sandbox: none")
        journal.answer(record(OTHER, granted=False, lead="eve", reasons=no, answered="2027-01-16T08:00:00Z"), MANIFEST)
        print_consents(home)  # while the node runs
    assert capsys.readouterr().out.splitlines() == [
        "2027-01-15T08:00:00Z  digits  000102030405  lead ada  granted",
        "    lead ada is allowed",
        "    data set digits is allowed",
        "2027-01-16T08:00:00Z  digits  000000000000  lead eve  denied",
        "    rules.leads: lead eve is not allowed",
        "    sandbox: none",
    ]
