"""What SQLite gives for nothing holds on PostgreSQL: one writer, isolation, durability; and what is secret stays so."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from coordinator.settings import Home, Settings
from coordinator.store.checkup import look
from coordinator.store.database import Database, NodeRow
from coordinator.store.engines import ServerUrl
from coordinator.store.place import place_of
from federation.errors import FederationError, InvalidUsage, Unavailable
from tests.postgresql import PostgresServer, opened

SECRET = "hunter2-ü"
REMOTE = "postgresql://concord@db.example.org/concord"


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.migrated()


@pytest.fixture
def running(url: str) -> Iterator[Database]:
    made = opened(url, sole=True)
    yield made
    made.close()


def test_a_second_coordinator_is_refused_and_commands_are_not(running: Database, url: str) -> None:
    with pytest.raises(InvalidUsage, match="Another coordinator runs on the database"):
        opened(url, sole=True)
    beside = opened(url)
    with beside.transaction() as change:
        change.set_roll(b"from beside")
    beside.close()
    with running.transaction() as change:
        assert change.roll() == b"from beside"


def test_the_lock_is_free_as_soon_as_its_holder_was_killed(url: str) -> None:
    code = (
        "import sys; from tests.postgresql import opened; held = opened(sys.argv[1], sole=True); print('held'); input()"
    )
    root = Path(__file__).resolve().parents[3]
    holder = subprocess.Popen(
        [sys.executable, "-uc", code, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    holder.stdin.close()
    holder.stdout.close()
    opened(url, sole=True).close()


def test_transactions_of_two_run_one_after_the_other(url: str) -> None:
    """Each reads, then writes what it has read and one more: none is lost, and none has to be tried again."""
    one, other = opened(url), opened(url)

    def count(database: Database) -> None:
        for _ in range(20):
            with database.transaction() as change:
                change.set_roll(b"%d" % (int(change.roll() or b"0") + 1))

    threads = [threading.Thread(target=count, args=(each,)) for each in (one, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with one.transaction() as change:
        assert change.roll() == b"40"
    one.close()
    other.close()


def test_a_commit_is_on_disk_whatever_the_database_says(postgres: PostgresServer, url: str) -> None:
    name = url.partition("?")[0].rpartition("/")[2]
    postgres.psql(name, f'alter database "{name}" set synchronous_commit = off')
    postgres.psql(name, f"alter database \"{name}\" set default_transaction_isolation = 'serializable'")
    database = opened(url, sole=True)
    with database._engine.begin() as connection:
        said = {what: connection.exec_driver_sql(f"SHOW {what}").scalar() for what in ("synchronous_commit", "fsync")}
        said["isolation"] = connection.exec_driver_sql("SHOW transaction_isolation").scalar()
    assert said == {"synchronous_commit": "on", "fsync": "on", "isolation": "read committed"}
    database.close()


def test_a_server_that_does_not_sync_is_refused(postgres: PostgresServer, url: str) -> None:
    for state, refused in (("off", True), ("on", False)):
        postgres.psql("postgres", f"alter system set fsync = {state}")
        postgres.psql("postgres", "select pg_reload_conf()")
        while postgres.psql("postgres", "show fsync") != state:
            pass
        if refused:
            with pytest.raises(InvalidUsage, match="fsync off"):
                opened(url, sole=True)
    opened(url, sole=True).close()


def test_timeouts_of_a_server_do_not_break_a_transaction(postgres: PostgresServer, url: str) -> None:
    """What a role or a database may be set to by people who think of other programs."""
    name = url.partition("?")[0].rpartition("/")[2]
    for setting in ("statement_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout"):
        postgres.psql(
            name, f"alter database \"{name}\" set {setting} = '{1 if setting != 'idle_session_timeout' else 10_000}'"
        )
    database = opened(url, sole=True)
    with database.transaction() as change:
        change.connection.exec_driver_sql("SELECT pg_sleep(0.02)")
        assert change.connection.exec_driver_sql("SHOW idle_session_timeout").scalar() == "0"
        change.set_roll(b"after a while")
    database.close()


def test_a_database_that_cannot_hold_every_text_is_refused(postgres: PostgresServer) -> None:
    postgres.psql("postgres", "create database latin encoding 'LATIN1' template template0 lc_collate 'C' lc_ctype 'C'")
    for look_at_it in (lambda: opened(postgres.url("latin")), lambda: look(ServerUrl.parse(postgres.url("latin")))):
        with pytest.raises(InvalidUsage, match="keeps texts as LATIN1") as error:
            look_at_it()
        assert "ENCODING 'UTF8'" in error.value.hint
    assert postgres.psql("latin", "select count(*) from pg_tables where schemaname = 'public'") == "0"


def test_a_server_that_is_too_old_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from coordinator.store import engines

    monkeypatch.setattr(engines, "OLDEST", 999)
    with pytest.raises(InvalidUsage, match="Concord needs 999 or newer") as error:
        opened(url)
    assert error.value.hint


def test_a_role_without_rights_is_refused_and_nothing_is_made(postgres: PostgresServer) -> None:
    url = postgres.database("guarded")
    postgres.psql("postgres", "create role guest login password 'guest'")
    postgres.psql("guarded", "revoke all on schema public from public")
    with pytest.raises(InvalidUsage, match="does not let the coordinator in") as error:
        opened(url.replace(f"concord:{postgres.password}@", "guest:guest@"))
    assert "owns the database" in error.value.hint


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("create table jobs (id integer)", "holds tables of something else: jobs"),
        (
            "create table alembic_version (version_num varchar(32) not null)",
            "was made by a newer version of Concord, or by something else",
        ),
    ],
)
def test_a_database_of_something_else_is_refused_and_left(
    postgres: PostgresServer, tmp_path: Path, engine: str, statement: str, words: str
) -> None:
    statements = [statement]
    if "alembic" in statement:
        statements.append("insert into alembic_version values ('9999')")
    if engine == "sqlite":
        place: Path | ServerUrl = tmp_path / "other.db"
        with closing(sqlite3.connect(tmp_path / "other.db")) as other:
            for each in statements:
                other.execute(each)
            other.commit()
    else:
        name = f"other{len(words)}"
        place = ServerUrl.parse(postgres.database(name))
        for each in statements:
            postgres.psql(name, each)
    for look_at_it in (Database, look):
        with pytest.raises(InvalidUsage, match=words) as error:
            look_at_it(place)
        assert error.value.hint
    if isinstance(place, ServerUrl):
        assert postgres.psql(place.name, "select count(*) from pg_tables where schemaname = 'public'") == "1"


def test_a_lost_connection_ends_it_before_another_can_write(postgres: PostgresServer, url: str) -> None:
    """The lock goes with the connection: a new connection of the same process writes nothing."""
    told: list[Unavailable] = []
    database = opened(url, sole=True, lost=told.append)
    name = url.partition("?")[0].rpartition("/")[2]
    postgres.psql("postgres", f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'")
    successor = opened(url, sole=True)

    def writes() -> None:
        with database.transaction() as change:
            change.put_node(NodeRow("br", "br-1", b"", "enrolled", 0))

    for _ in range(3):
        with pytest.raises(Unavailable, match="is gone"):
            writes()
    assert not database.answers()
    assert len(told) == 4
    with successor.transaction() as change:
        assert change.nodes() == ()
    database.close()
    successor.close()


def test_a_session_that_hangs_keeps_others_out_for_seconds_alone(
    url: str, monkeypatch: pytest.MonkeyPatch, postgres: PostgresServer
) -> None:
    from coordinator.store import engines

    monkeypatch.setattr(engines, "SESSION", {**engines.SESSION, "lock_timeout": "100"})
    hangs, waits = opened(url), opened(url)
    with hangs.transaction(), pytest.raises(sa.exc.OperationalError, match="lock timeout"), waits.transaction():
        pass
    assert waits.answers()
    hangs.close()
    waits.close()


def test_errors_and_logs_tell_no_password(postgres: PostgresServer, tmp_path: Path) -> None:
    for url in (postgres.url("nowhere"), postgres.url("postgres", SECRET), f"postgresql://a:{SECRET}@127.0.0.1:9/x"):
        with pytest.raises(FederationError) as error:
            opened(url)
        said = "".join(traceback.format_exception(error.value)) + str(error.value.hint)
        assert SECRET not in said
        assert postgres.password not in said
        assert SECRET not in repr(ServerUrl.parse(url)) + str(ServerUrl.parse(url))
    settings = Settings(federation="atlas", database=f"postgresql://a:{SECRET}@localhost/x")
    assert SECRET not in repr(settings) + str(settings) + settings.model_dump_json()


@pytest.mark.parametrize(
    ("url", "password", "words"),
    [
        ("mysql://a@localhost/b", "", "begins with 'mysql'"),
        ("sqlite:///x", "", "begins with 'sqlite'"),
        ("db.example.org", "", "begins with ''"),
        ("postgresql://[a/b", "", "is not a URL"),
        ("postgresql://a@localhost:99999/b", "", "is not a URL"),
        ("postgresql://a@localhost", "", "names no database"),
        ("postgresql://a@localhost/b/c", "", "names no database"),
        ("postgresql://a:b@localhost/c", "d", "another"),
        ("postgresql://a@localhost/b?password=c", "", "has the parameter 'password'"),
        ("postgresql://a@localhost/b?options=-cfsync", "", "has the parameter 'options'"),
        ("postgresql://a:1@localhost/b?Hunter-2@host/c", "", "has the parameter, which is not taken"),
        ("postgresql://a@localhost/b?host=/a&host=/b", "", "twice"),
        (REMOTE, "", "does not ask for TLS"),
        (f"{REMOTE}?sslmode=prefer", "", "does not ask for TLS"),
        (f"{REMOTE}?sslmode=disable", "", "does not ask for TLS"),
        ("postgresql:///concord?host=db.example.org", "", "does not ask for TLS"),
    ],
)
def test_a_url_that_is_none_or_dangerous_is_refused(url: str, password: str, words: str) -> None:
    with pytest.raises(InvalidUsage, match=words) as error:
        ServerUrl.parse(url, password)
    assert error.value.hint


@pytest.mark.parametrize(
    ("url", "local", "shown"),
    [
        ("postgresql://a:b@127.0.0.1:5433/c", True, "c on 127.0.0.1:5433"),
        ("postgres://a@[::1]/c", True, "c on ::1"),
        ("postgresql:///c?host=/run/postgresql", True, "c on /run/postgresql"),
        ("postgresql+psycopg://a:b@localhost/c", True, "c on localhost"),
        (
            "postgresql://a@one.example.org,two.example.org/c?sslmode=verify-full",
            False,
            "c on one.example.org,two.example.org",
        ),
        (f"{REMOTE}?sslmode=verify-full&sslrootcert=/etc/ca.pem", False, "concord on db.example.org"),
        (f"{REMOTE}?sslmode=require", False, "concord on db.example.org"),
    ],
)
def test_a_url_that_can_be_used(url: str, local: bool, shown: str) -> None:
    made = ServerUrl.parse(url)
    assert (made.local, str(made)) == (local, shown)


def home_with(tmp_path: Path, **lines: str) -> Home:
    text = "".join(f'{name}: "{value}"\n' for name, value in {"federation": "atlas", **lines}.items())
    (tmp_path / "coordinator.yaml").write_text(text)
    return Home(tmp_path)


def test_the_password_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    word = tmp_path / "word"
    word.write_text(f"{SECRET}\n")
    home = home_with(tmp_path, database="postgresql://a@localhost/c", database_password_file=str(word))
    word.chmod(0o640)
    with pytest.raises(InvalidUsage, match="can be read by others"):
        place_of(home, home.load())
    word.chmod(0o600)
    place = place_of(home, home.load())
    assert isinstance(place, ServerUrl)
    assert place.password == SECRET
    home = home_with(tmp_path, database="postgresql://a@localhost/c", database_password_file=f"{word}s")
    with pytest.raises(InvalidUsage, match="is missing"):
        place_of(home, home.load())
    home = home_with(tmp_path, database_password_file=str(word))
    with pytest.raises(InvalidUsage, match="no database to use it for"):
        place_of(home, home.load())
    home = home_with(tmp_path)
    assert place_of(home, home.load()) == home.database
    monkeypatch.setenv("CONCORD_COORDINATOR_DATABASE", f"postgresql://a:{SECRET}@localhost/d")
    place = place_of(home, home.load())
    assert isinstance(place, ServerUrl)
    assert (place.name, place.password) == ("d", SECRET)


@pytest.mark.parametrize(
    "url", [f"postgresql://a:{SECRET}@localhost/c", f"postgresql://a@localhost/c?password={SECRET}"]
)
def test_a_file_of_settings_is_no_place_for_a_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(InvalidUsage, match="no place for a password") as error:
        home_with(tmp_path, database=url).load()
    assert SECRET not in str(error.value) + error.value.hint
    assert "CONCORD_COORDINATOR_DATABASE" in error.value.hint
