"""What SQLite gives for nothing holds on PostgreSQL: one writer, isolation, durability; and what is secret stays so."""

import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from coordinator.settings import Home, Settings
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
