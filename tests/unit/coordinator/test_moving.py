"""`concord-coordinator database move`: all of it arrives, the log is the same, and only one of the two can be gone on with."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from coordinator.main import app
from coordinator.settings import Home
from coordinator.store import moving, tables
from coordinator.store.checkup import look
from coordinator.store.database import ConsentRow, Database, NodeRow, TicketRow
from coordinator.store.engines import ServerUrl
from coordinator.store.halts import HaltRow
from coordinator.store.log import SignedHead
from coordinator.store.moving import account, move
from examples.local_federation import run_command
from federation.errors import InvalidUsage
from tests.postgresql import PostgresServer, opened

JOB = "ab" * 32
BYTES = bytes(range(256))
MANY = 600
"""entries of the log: two full tiles and a part"""
Places = dict[str, str]


def fill(database: Database) -> None:
    """Something in every kind of column: bytes, texts of many scripts, numbers of 64 bits, fractions, nothing."""
    with database.transaction() as change:
        change.set_roll(BYTES)
        change.add_ticket(TicketRow("t" * 32, "operator", "", "", "José — 李", BYTES, 1e10 + 0.125, None))
        for node in ("b-1", "a-1", "a1", "Z", "é"):
            change.put_node(NodeRow("br", node, BYTES * 9, "enrolled", 0.1))
            change.put_catalogue("br", node, (1 << 62) + 1, b"")
        change.add_job(JOB, "digits", BYTES, 1.25)
        change.put_consent(JOB, ConsentRow("br", "b-1", "granted", ('quotes " and \\', "two\nlines"), BYTES))
        change.put_evidence(JOB, "sum", 3, bytes(1 << 20))
        change.add_events(JOB, [(number, number / 3, BYTES[: number % 7]) for number in range(1200)])
        change.halts.add(HaltRow(b"h" * 32, BYTES, None, BYTES, 2.5))
        for number in range(5):
            change.add_line(JOB, number, "said\x00so")
    for start in range(0, MANY, 200):
        with database.transaction() as change:
            for number in range(start, start + 200):
                change.audit(number, "roster", f"{JOB} {number}", b"%d" % number)
    with database.transaction() as change:
        change.log.put_head(SignedHead(MANY, change.log.frontier().root(), b"note"))
        change.log.put_cosignature(MANY, "br", b"line")


@pytest.fixture
def places(tmp_path: Path, postgres: PostgresServer) -> Places:
    return {"sqlite": str(tmp_path / "one.db"), "postgresql": postgres.migrated(), "another": str(tmp_path / "two.db")}


@pytest.mark.parametrize(
    ("first", "second"), [("sqlite", "postgresql"), ("postgresql", "another"), ("sqlite", "another")]
)
def test_everything_arrives_and_goes_on(places: Places, first: str, second: str) -> None:
    with closing(opened(places[first], sole=True)) as source, closing(opened(places[second], sole=True)) as target:
        fill(source)
        with source.transaction() as change:
            before = account(change.connection)
        assert move(source, target, 1.0) == before
        assert before.entries == MANY
        assert all(
            held.rows for name, held in before.contents.items() if name in {"lines", "events", "log_tiles", "halts"}
        )
        with target.transaction() as change:
            assert account(change.connection) == before
            assert change.piece(JOB, "sum", 3) == bytes(1 << 20)
            assert [row.node for row in change.nodes()] == ["Z", "a-1", "a1", "b-1", "é"]
            root = change.log.frontier().root()
            change.add_line(JOB, 9.0, "goes on")
            change.halts.add(HaltRow(b"i" * 32, BYTES, None, None, 3.5))
            change.audit(700.0, "roster", f"{JOB} 600", b"x")
            assert [row.sequence for row in change.lines(JOB)] == [1, 2, 3, 4, 5, 6]
            assert [row.digest for row in change.halts.all()] == [b"h" * 32, b"i" * 32]
        with target.transaction() as change:
            assert change.log.frontier().size == MANY + 1
            assert root == before.root
        with source.transaction() as change:
            assert account(change.connection) == before, "the old one is as it was"
    with pytest.raises(InvalidUsage, match=r"no longer in .* it was moved to") as said:
        opened(places[first])
    assert "database" in said.value.hint
    with pytest.raises(InvalidUsage, match="it was moved to"):
        look(ServerUrl.parse(places[first]) if "://" in places[first] else Path(places[first]))
    opened(places[second], sole=True).close()


@pytest.mark.parametrize("engine", ["postgresql", "another"])
def test_a_target_that_holds_something_is_refused_and_left(places: Places, engine: str) -> None:
    with closing(opened(places["sqlite"], sole=True)) as source, closing(opened(places[engine], sole=True)) as target:
        fill(source)
        with target.transaction() as change:
            change.add_job(JOB, "another's", b"", 1.0)
        with pytest.raises(InvalidUsage, match="is not empty: jobs hold rows"):
            move(source, target, 1.0)
        with target.transaction() as change:
            assert [job.name for job in change.jobs()] == ["another's"]
    opened(places["sqlite"], sole=True).close()


@pytest.mark.parametrize("engine", ["postgresql", "another"])
@pytest.mark.parametrize("moment", ["in the copy", "before the mark"])
def test_one_that_is_cut_off_leaves_nothing_or_a_whole_copy(
    places: Places, engine: str, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error stands for a kill: what is not committed then is not there."""
    with closing(opened(places["sqlite"], sole=True)) as source, closing(opened(places[engine], sole=True)) as target:
        fill(source)
        with monkeypatch.context() as patched:
            if moment == "in the copy":
                whole: Callable[..., None] = moving._copy
                patched.setattr(
                    moving, "_copy", lambda *given: cut() if given[2] is tables.log_entries else whole(*given)
                )
            else:
                patched.setattr("coordinator.store.database.Change.mark_moved", cut)
            with pytest.raises(KeyboardInterrupt):
                move(source, target, 1.0)
        with target.transaction() as change:
            assert bool(change.jobs()) == (moment == "before the mark")
        said: list[str] = []
        move(source, target, 2.0, said.append)
        assert ("the copy is there already, whole" in said) == (moment == "before the mark")
    with pytest.raises(InvalidUsage, match="it was moved to"):
        opened(places["sqlite"])


def cut(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_copy_that_is_not_the_original_is_taken_back(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    whole: Callable[..., None] = moving._copy

    def bent(source: sa.Connection, target: sa.Connection, table: sa.Table) -> None:
        whole(source, target, table)
        if table is tables.evidence:
            target.execute(sa.update(table).values(data=b"other"))

    monkeypatch.setattr(moving, "_copy", bent)
    with (
        closing(opened(places["sqlite"], sole=True)) as source,
        closing(opened(places["postgresql"], sole=True)) as target,
    ):
        fill(source)
        with pytest.raises(InvalidUsage, match="it was taken back"):
            move(source, target, 1.0)
        with target.transaction() as change:
            assert change.jobs() == ()
    opened(places["sqlite"]).close()


@pytest.mark.parametrize("column", ["entry", "number"])
def test_a_log_that_is_damaged_is_not_moved(places: Places, column: str) -> None:
    with (
        closing(opened(places["sqlite"], sole=True)) as source,
        closing(opened(places["postgresql"], sole=True)) as target,
    ):
        fill(source)
        with source.transaction() as change:
            value = {"entry": b"{}"} if column == "entry" else {"number": MANY + 5}
            change.connection.execute(
                sa.update(tables.log_entries).where(tables.log_entries.c.number == 599).values(value)
            )
            if column == "number":
                change.connection.execute(sa.update(tables.log_heads).values(size=MANY + 1))
        with pytest.raises(InvalidUsage, match="that are there are not those"):
            move(source, target, 1.0)


# --------------------------------------------------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("homes") / "coordinator"
    run_command(app, "init", "--home", home, "--federation", "atlas", "--listen", "127.0.0.1:0", "--metrics", "")
    with closing(Database(Home(home).database)) as database:
        fill(database)
    return home


@pytest.fixture
def home(founded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(founded, tmp_path / "home"))


def moved(home: Path, to: str, *more: str | Path) -> None:
    run_command(app, "database", "move", "--home", home, "--to", to, *more)


def test_there_and_back_by_the_command(home: Path, postgres: PostgresServer, tmp_path: Path) -> None:
    word = tmp_path / "word"
    word.write_text(postgres.password)
    word.chmod(0o600)
    url = postgres.database("there-and-back").replace(f":{postgres.password}@", "@")
    moved(home, url, "--password-file", word)
    settings = home / "coordinator.yaml"
    before = settings.read_text()
    settings.write_text(f"{before}database: {url}\ndatabase_password_file: {word}\n")
    with pytest.raises(InvalidUsage, match=r"no longer in .*coordinator\.db") as said:
        moved(home, "sqlite")
    assert "mv" in said.value.hint
    (home / "coordinator.db").rename(home / "before.db")
    moved(home, "sqlite")
    settings.write_text(before)
    with closing(Database(Home(home).database, sole=True)) as back, back.transaction() as change:
        assert change.log.frontier().size == MANY
    assert look(Path(home / "coordinator.db"))


@pytest.mark.parametrize(
    ("to", "more", "words"),
    [
        ("postgresql://a:hunter2@localhost/b", (), "no place for a password"),
        ("postgresql://a@localhost/b?password=hunter2", (), "no place for a password"),
        ("mysql://a@localhost/b", (), "begins with 'mysql'"),
        ("sqlite", (), "is in .* already"),
        ("sqlite", ("--password-file", "x"), "A file has no password"),
        ("postgresql://a@localhost/b", ("--password-file", "/nowhere/x"), "is missing"),
        ("postgresql://a@db.example.org/b", (), "does not ask for TLS"),
    ],
)
def test_what_cannot_be_meant_is_refused(home: Path, to: str, more: tuple[str, ...], words: str) -> None:
    before = (home / "coordinator.db").read_bytes()
    with pytest.raises(InvalidUsage, match=words) as said:
        moved(home, to, *more)
    assert "hunter2" not in f"{said.value} {said.value.hint}"
    assert (home / "coordinator.db").read_bytes() == before


def test_a_coordinator_that_runs_is_not_moved(home: Path, postgres: PostgresServer, tmp_path: Path) -> None:
    url = postgres.migrated()
    plain, word = url.replace(f":{postgres.password}@", "@"), tmp_path / "word"
    word.write_text(postgres.password)
    word.chmod(0o600)
    with Home(home).locked(), pytest.raises(InvalidUsage, match="Another coordinator runs on"):
        moved(home, plain, "--password-file", word)
    with closing(opened(url, sole=True)), pytest.raises(InvalidUsage, match="Another coordinator runs on the database"):
        moved(home, plain, "--password-file", word)


def test_nothing_is_left_of_a_move_that_failed(home: Path, postgres: PostgresServer, tmp_path: Path) -> None:
    """A database that was never used, from which nothing can be moved."""
    url = postgres.migrated()
    (home / "coordinator.db").unlink()
    settings = home / "coordinator.yaml"
    word = tmp_path / "word"
    word.write_text(postgres.password)
    word.chmod(0o600)
    settings.write_text(
        settings.read_text()
        + f"database: {url.replace(f':{postgres.password}@', '@')}\ndatabase_password_file: {word}\n"
    )
    with pytest.raises(InvalidUsage, match="There is nothing to move"):
        moved(home, "sqlite")
    assert not list(home.glob("coordinator.db*"))
