"""The log in the database: it is what RFC 6962 and tlog-tiles say of its entries, and commits with the state or not at all."""

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from coordinator.store.database import Database, NodeRow
from federation.audit.tiles import parts_of
from federation.audit.tree import Frontier, leaf_hash
from federation.errors import InvalidUsage, NotFound
from tests.plain import log as plain
from tests.postgresql import opened

JOB = "ab" * 32


@pytest.fixture
def database(place):
    database = opened(place)
    yield database
    database.close()


def grow(database, count, together=50):
    for start in range(0, count, together):
        with database.transaction() as change:
            for number in range(start, min(start + together, count)):
                change.audit(number, "roster", f"{JOB} {number}", b"%d" % number)


def everything(database):
    """(entries, files) as they would be served."""
    with database.transaction() as change:
        size = change.log.frontier().size
        entries = [change.log.entry(number) for number in range(size)]
        files = {}
        for part in parts_of(size):
            read = change.log.entries if part.level is None else None
            files[part.path] = (
                read(part.number, part.width) if read else change.log.tile(part.level, part.number, part.width)
            )
        return entries, files, change.log.frontier()


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 700])
def test_tiles_are_those_of_the_definition(database, count):
    grow(database, count)
    entries, files, frontier = everything(database)
    assert len(entries) == count
    assert files == plain.folder(entries)
    assert frontier.root() == plain.root(entries)


def test_tiles_above_the_first_level(database, monkeypatch):
    """65,536 entries would take a while: the rows are written as they are, and only the last entry is appended."""
    hashes = [leaf_hash(b"%d" % number) for number in range(65_536)]
    with database.transaction() as change:
        grown = Frontier()
        for number, leaf in enumerate(hashes[:-1]):
            grown = grown.append(leaf)
            change.log._state = grown
            if (number + 1) % 256 == 0:
                monkeypatch.setattr(change.log, "_entries", lambda low, high: [b"%d" % n for n in range(low, high)])
                change.log._finish_tiles(number + 1)
        change.log.append(_Raw(b"65535"))
        monkeypatch.undo()
        assert change.log.tile(2, 0, 1) == change.log.frontier().root()
        assert change.log.tile(1, 0, 256)[-32:] == change.log.node(8, 255)
        assert change.log.node(16, 0) == change.log.frontier().root()


class _Raw:
    document = None

    def __init__(self, data):
        self.data = data

    def encode(self):
        return self.data


def test_a_change_that_fails_leaves_no_entry(database):
    grow(database, 3)

    def fails():
        with database.transaction() as change:
            change.audit(1, "submission", JOB)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    entries, _, frontier = everything(database)
    assert (len(entries), frontier.size) == (3, 3)
    grow(database, 2)
    assert everything(database)[2].root() == plain.root(everything(database)[0])


def test_an_entry_that_may_not_be_logged_takes_its_change_with_it(database):

    def writes():
        with database.transaction() as change:
            change.put_node(NodeRow("br", "br-1", b"", "enrolled", 0))
            change.audit(1, "enrolment", "node BR br-1")

    with pytest.raises(InvalidUsage):
        writes()
    with database.transaction() as change:
        assert change.nodes() == ()
        assert change.log.frontier().size == 0


KILLED = """
import os, signal, sys
from coordinator.store.database import NodeRow
from tests.postgresql import opened
database = opened(sys.argv[1])
print("ready", flush=True)
number = 0
while True:
    with database.transaction() as change:
        change.put_node(NodeRow("br", f"n{number}", b"", "enrolled", number))
        change.audit(number, "enrolment", f"node br n{number}", b"%d" % number)
        if number == int(sys.argv[2]):
            change.audit(number, "enrolment", f"node br half{number}")
            os.kill(os.getpid(), signal.SIGKILL)
    number += 1
"""


@pytest.mark.parametrize("at", [0, 5, 255, 256])
def test_a_killed_process_leaves_state_and_entries_alike(place, at):
    run = subprocess.run([sys.executable, "-c", KILLED, place, str(at)], capture_output=True)
    assert run.returncode == -signal.SIGKILL, run.stderr.decode()
    _alike(place, at)


def test_killed_from_outside_at_any_point(place):
    run = subprocess.Popen([sys.executable, "-c", KILLED, place, "-1"], stdout=subprocess.PIPE)
    run.stdout.readline()
    watching = opened(place)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and _count(watching) < 40:
        pass
    watching.close()
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    run.stdout.close()
    _alike(place)


def _count(database):
    with database.transaction() as change:
        return len(change.nodes())


def _alike(place, expected=None):
    database = opened(place)
    try:
        with database.transaction() as change:
            nodes = {row.node for row in change.nodes()}
        entries, files, frontier = everything(database)
        assert len(nodes) == len(entries) == frontier.size
        assert expected is None or len(nodes) == expected
        assert files == plain.folder(entries)
        assert all(f'"n{number}"'.encode() in entry for number, entry in enumerate(entries))
    finally:
        database.close()


def test_two_processes_append_to_one_log(place):
    """`concord-coordinator ticket` and `found` write beside a running coordinator."""
    one, other = opened(place), opened(place)
    for number in range(12):
        grow((one, other)[number % 2], 1)
    entries, files, _ = everything(one)
    assert len(entries) == 12
    assert files == plain.folder(entries)
    one.close()
    other.close()


def test_tiles_that_are_not_there_yet(database):
    grow(database, 300)
    with database.transaction() as change:
        for level, number, width in ((0, 1, 45), (0, 2, 1), (1, 0, 2), (0, 0, 0), (0, 0, 257), (3, 0, 1)):
            with pytest.raises(NotFound):
                change.log.tile(level, number, width)
        for number, width in ((1, 45), (2, 1), (0, 257)):
            with pytest.raises(NotFound):
                change.log.entries(number, width)


def test_documents_are_found_by_their_digest(database):
    grow(database, 5)
    with database.transaction() as change:
        digest = hashlib.sha256(b"3").digest()
        assert change.document(digest) == ("roster", b"3")
        assert change.log.numbers_of(digest, 5) == (3,)
        assert change.log.numbers_of(digest, 3) == ()
        assert change.document(bytes(32)) is None


def test_a_document_that_is_not_kept_is_logged_by_its_digest(database):
    digest = hashlib.sha256(b"a catalogue that will be withdrawn").digest()
    with database.transaction() as change:
        change.audit(1, "catalogue", "br br-1", digest=digest)
        assert change.log.numbers_of(digest, 1) == (0,)
        assert change.document(digest) is None


def test_a_database_of_version_1_gets_the_tables(tmp_path):
    """Made as version 1 made it: its own tables, none of the log's."""
    from coordinator.store.tables import metadata

    path = tmp_path / "coordinator.db"
    Database(path).close()
    connection = sqlite3.connect(path)
    for table in metadata.tables:
        if table.startswith("log_"):
            connection.execute(f"drop table {table}")
    connection.execute("drop index audit_entries_by_digest")
    connection.execute("update alembic_version set version_num = '0001'")
    connection.execute(
        "insert into audit_entries (time, kind, subject, digest, payload) values (1, 'job-finished', 'x', x'00', x'')"
    )
    connection.commit()
    connection.close()
    database = Database(path)
    grow(database, 3)
    assert len(everything(database)[0]) == 3
    database.close()
    connection = sqlite3.connect(path)
    assert connection.execute(
        "select count(*) from sqlite_master where name = 'audit_entries_by_digest'"
    ).fetchone() == (1,)
    connection.close()


def downgraded(path):
    """As an operator would with alembic, on the file of a coordinator that does not run."""
    engine = sa.create_engine(f"sqlite:///{path}")
    try:
        with engine.begin() as connection:
            config = Config()
            config.set_main_option("script_location", "coordinator.store:migrations")
            config.attributes["connection"] = connection
            command.downgrade(config, "0001")
    finally:
        engine.dispose()


def test_a_database_goes_back_to_version_1_only_while_nothing_was_witnessed(tmp_path):
    path = tmp_path / "coordinator.db"
    Database(path).close()
    downgraded(path)
    connection = sqlite3.connect(path)
    names = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
    connection.close()
    assert {"jobs", "audit_entries"} <= names
    assert not names & {"log_entries", "log_heads", "halts", "ballots", "releases", "catalogues"}
    database = Database(path)
    grow(database, 3)
    before = everything(database)
    database.close()
    with pytest.raises(InvalidUsage, match="log_entries, log_state hold what nodes have witnessed") as refused:
        downgraded(path)
    assert "every node" in refused.value.hint
    database = Database(path)
    assert everything(database) == before, "nothing was changed"
    database.close()
