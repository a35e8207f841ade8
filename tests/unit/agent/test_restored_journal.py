"""A journal that was put back from a copy has forgotten what its lab said: it is noticed, and what it remembers is void."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from federation.errors import Unavailable
from node_agent.store import anchor
from node_agent.store.anchor import Anchor, Identity, Mark, why_not
from node_agent.store.journal import SCHEMA, VOID, ConsentRecord, Journal

JOB, ENDED, DENIED = bytes(range(32)), bytes(32), bytes([7]) * 32
NOW = "2027-03-01T10:00:00Z"
MANIFEST = b"the manifest as its lead signed it"


def consent(job: bytes, *, granted: bool = True) -> ConsentRecord:
    return ConsentRecord(
        job, "digits", "ada", granted, ("yes" if granted else "no",), b"signed", "2027-01-15T08:00:00Z"
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The journal of a lab that works on a job, has ended another, and denied a third."""
    place = tmp_path / "journal.db"
    with Journal(place, now=NOW) as journal:
        journal.answer(consent(JOB), MANIFEST)
        journal.answer(consent(ENDED), MANIFEST)
        journal.answer(consent(DENIED, granted=False), MANIFEST)
        journal.end_job(ENDED, "finished")
        journal.remember(JOB, {"state": b"first", "ack/1/1/0": b"vote", "seat/1": b"keys"})
    return place


def found(path: Path) -> str:
    """Why the journal is void; empty when it is not. What a void one must be is checked here."""
    with Journal(path, now=NOW) as journal:
        if not journal.restored:
            assert not journal.why_restored
            return ""
        assert journal.restored == NOW
        assert journal.jobs() == ()
        assert journal.records(JOB) == {}
        kept = journal.consent(JOB)
        assert kept is None or (kept.granted, kept.reasons) == (False, (VOID,))
        return journal.why_restored


def run_on(path: Path) -> None:
    with Journal(path, now=NOW) as journal:
        journal.remember(JOB, {"state": b"later", "reveal/1/1/0": b"said"})


def in_place(copy: Path, path: Path) -> None:
    before = path.stat().st_ino
    path.write_bytes(copy.read_bytes())
    assert path.stat().st_ino == before


def by_rename(copy: Path, path: Path) -> None:
    copy.rename(path)


PUT_BACK: dict[str, Callable[[Path, Path], None]] = {"in place": in_place, "by rename": by_rename}


@pytest.mark.parametrize("put_back", PUT_BACK.values(), ids=PUT_BACK)
def test_a_copy_that_is_put_back_is_void(path: Path, put_back: Callable[[Path, Path], None]) -> None:
    copy = path.with_name("copy")
    shutil.copyfile(path, copy)
    run_on(path)
    put_back(copy, path)
    assert found(path) == "it ends with transaction 5, and 6 were made"
    with Journal(path) as journal:
        assert journal.consent(ENDED) == consent(ENDED), "what was answered to other jobs stays"
        assert journal.consent(DENIED) == consent(DENIED, granted=False)
        assert journal.job(ENDED) is not None
    with sqlite3.connect(path) as database:
        aside = database.execute("SELECT found, job, key, value FROM set_aside ORDER BY key").fetchall()
    assert aside == [(NOW, JOB, "ack/1/1/0", b"vote"), (NOW, JOB, "seat/1", b"keys"), (NOW, JOB, "state", b"first")]


def test_a_copy_that_is_no_older_is_another_file(path: Path) -> None:
    """Whoever puts one back may have run the node from it elsewhere."""
    copy = path.with_name("copy")
    shutil.copy2(path, copy)
    copy.rename(path)
    assert found(path) == "it is another file than the one that was written"


@pytest.mark.parametrize("name", ["moved", "copied"])
def test_a_folder_that_is_copied_is_void_and_one_that_is_renamed_is_not(path: Path, name: str) -> None:
    other = path.parent.with_name(f"{path.parent.name}-{name}")
    if name == "moved":
        path.parent.rename(other)
        assert found(other / path.name) == ""
    else:
        shutil.copytree(path.parent, other)
        assert found(other / path.name) == "it is another file than the one that was written"
        assert found(path) == "", "the first is what it was"


def test_an_inode_that_is_used_again_is_another_file(path: Path) -> None:
    """By its generation; where the file system has none (tmpfs), an inode's number alone must do."""
    identity = Identity.of(path)
    again = Identity(identity.inode, identity.generation + 1)
    assert why_not(Mark(identity, 5), again, 5) == "it is another file than the one that was written"
    data, reused = path.read_bytes(), False
    for _ in range(1000):
        path.unlink()
        path.write_bytes(data)
        reused = path.stat().st_ino == identity.inode
        if reused:
            break
    told = identity.generation > 0 or not reused
    assert found(path) == ("it is another file than the one that was written" if told else "")


def test_a_journal_that_was_removed_is_noticed(path: Path) -> None:
    path.unlink()
    assert found(path) == "the journal was removed"


@pytest.mark.parametrize("damage", [Path.unlink, lambda anchor: anchor.write_bytes(b"concord-anchor-1 x y z")])
def test_a_journal_whose_anchor_is_gone_or_damaged_is_not_trusted(path: Path, damage: Callable[[Path], object]) -> None:
    damage(path.with_name("journal.db.anchor"))
    assert found(path) == "its anchor is missing"


@pytest.mark.parametrize("behind", [1, 4])
def test_an_anchor_that_is_behind_is_what_a_crash_leaves(path: Path, behind: int) -> None:
    """A process that dies after a commit leaves it one behind; a power cut may lose more, since it is not synced."""
    place = path.with_name("journal.db.anchor")
    mark = Mark.of(place.read_bytes())
    assert mark is not None
    assert mark.transactions == 5
    place.write_bytes(Mark(mark.identity, mark.transactions - behind).to_bytes())
    assert found(path) == ""
    assert Mark.of(place.read_bytes()) == mark
    with Journal(path) as journal:
        assert journal.records(JOB)["ack/1/1/0"] == b"vote"


def test_a_new_journal_and_one_of_the_first_form_are_what_they_are(tmp_path: Path) -> None:
    assert found(tmp_path / "new.db") == ""
    assert found(tmp_path / "new.db") == ""
    old = tmp_path / "old.db"
    with sqlite3.connect(old) as database:
        for statement in SCHEMA.split(";\n"):
            database.execute(statement)
        database.execute("INSERT INTO jobs VALUES (?, ?, 'active', '')", (JOB, MANIFEST))
        database.execute("INSERT INTO records VALUES (?, 'state', ?)", (JOB, b"held"))
        database.execute("PRAGMA user_version=1")
    database.close()
    with Journal(old) as journal:
        assert journal.restored == ""
        assert journal.records(JOB) == {"state": b"held"}
        journal.remember(JOB, {"state": b"later"})
    assert found(old) == ""


def test_a_node_that_dies_while_it_sets_aside_finds_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = path.with_name("copy")
    shutil.copyfile(path, copy)
    run_on(path)
    copy.rename(path)

    class Death(BaseException):
        pass

    def die(_anchor: Anchor, _transactions: int) -> Anchor:
        raise Death

    with monkeypatch.context() as patch:
        patch.setattr(Anchor, "begin", die)
        with pytest.raises(Death):
            Journal(path, now="2027-02-28T09:00:00Z")
    assert found(path)
    with sqlite3.connect(path) as database:
        assert len(database.execute("SELECT * FROM set_aside").fetchall()) == 3


def test_the_lab_is_asked_anew_and_the_end_of_the_job_erases_what_was_set_aside(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copyfile(path, copy)
    run_on(path)
    copy.rename(path)
    with Journal(path, now=NOW) as journal:
        journal.answer(consent(JOB), MANIFEST)
        assert [job.job for job in journal.jobs()] == [JOB]
        journal.remember(JOB, {"state": b"anew"})
        journal.end_job(JOB, "finished")
        assert journal.restored == NOW, "a privacy budget is not complete for ever"
    assert b"vote" not in path.read_bytes()
    with Journal(path, now="2027-03-02T10:00:00Z") as journal:
        assert journal.restored == NOW


def test_a_reader_changes_nothing(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copyfile(path, copy)
    run_on(path)
    copy.rename(path)
    before = path.read_bytes()
    with Journal(path, read_only=True) as journal:
        assert len(journal.consents()) == 3
    assert path.read_bytes() == before
    assert found(path)


def test_the_anchor_cannot_be_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call is refused, what it kept is on disk, and it may be made again."""
    with Journal(path) as journal:

        def full(_descriptor: int, _data: bytes, _offset: int) -> int:
            raise OSError(5, os.strerror(5))

        with monkeypatch.context() as patch:
            patch.setattr(anchor.os, "pwrite", full)
            with pytest.raises(Unavailable, match="anchor"):
                journal.remember(JOB, {"state": b"kept"})
        journal.remember(JOB, {"state": b"kept"})
        assert journal.records(JOB)["state"] == b"kept"
    assert found(path) == ""
