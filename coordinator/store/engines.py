"""Which database, and how it is opened: SQLite in the home, or PostgreSQL by URL. Both give what ``Database`` promises.

SQLite: WAL, synchronous=FULL, and every transaction begins by waiting for the write lock.

PostgreSQL: every transaction begins by waiting for an advisory lock that all of Concord takes, so that they run one after the other
as SQLite's do, and none is ever rolled back for another's sake. A commit is on the server's disk before it returns
(``synchronous_commit``; a server with ``fsync`` off is refused). The coordinator that runs holds a second lock on the very
connection that its transactions use; when that connection is lost the lock may be another's, and nothing is written any more.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import sqlalchemy as sa

from federation.errors import InvalidUsage, Unavailable

BUSY_MILLISECONDS: Final = 5000
CONNECT_SECONDS: Final = 10
SOLE_SECONDS: Final = 3.0
"""for which a new coordinator waits for the connection of one that was killed to be cleared away"""
LOCKS: Final = 0x436F6E63
"""of the advisory locks: "Conc"; 1: a transaction, 2: the coordinator that runs"""
EXAMPLE: Final = "postgresql://concord@db.example.org/concord?sslmode=verify-full"
SCHEMES: Final = frozenset({"postgresql", "postgres", "postgresql+psycopg"})
SSL_MODES: Final = ("require", "verify-ca", "verify-full")
PARAMETERS: Final = frozenset(
    {"host", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "channel_binding", "passfile", "gssencmode"}
)
"""what a URL may say after the question mark; ``host`` names a folder with a socket"""
OLDEST: Final = 13
"""of PostgreSQL's versions; tested with 15"""
NO_TIMEOUTS: Final = (
    "SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN ('transaction_timeout', 'idle_session_timeout')"
)
"""what newer servers have beside those of ``SESSION``: each would break a coordinator that has done nothing wrong"""
SESSION: Final[Mapping[str, str]] = {
    "synchronous_commit": "on",
    "lock_timeout": str(BUSY_MILLISECONDS),
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "default_transaction_read_only": "off",
    "client_encoding": "UTF8",
    # A coordinator whose machine has lost its power holds its lock no longer than this.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """A PostgreSQL database, checked; the password is shown nowhere."""

    host: str
    """empty or a path: a socket of this machine"""
    port: int | None
    name: str
    user: str
    password: str = field(repr=False)
    parameters: tuple[tuple[str, str], ...] = ()

    @staticmethod
    def parse(url: str, password: str = "") -> ServerUrl:
        """Raises InvalidUsage, in which no part of the URL is repeated but its scheme."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
            user, inside = unquote(parts.username or ""), unquote(parts.password or "")
        except ValueError:
            raise _refused("is not a URL") from None
        if parts.scheme not in SCHEMES:
            raise _refused(f"begins with {parts.scheme[:20]!r}", "Leave it empty for SQLite in the home. ")
        name = unquote(parts.path.removeprefix("/"))
        if not name or "/" in name:
            raise _refused("names no database")
        if inside and password:
            raise _refused("has a password, and there is a file with another", "Leave one of them out. ")
        pairs = tuple(parse_qsl(parts.query, keep_blank_values=True))
        strange = sorted({key for key, _ in pairs} - PARAMETERS)
        if strange or len(dict(pairs)) != len(pairs) or parts.fragment:
            # What is no word may be a part of a password whose "?" was not percent-encoded.
            word = f" {strange[0]!r}" if strange and re.fullmatch(r"[a-z_]{2,32}", strange[0]) else ""
            what = f"has the parameter{word}, which is not taken" if strange else "has a parameter twice, or a #"
            raise _refused(what, f"It may have {', '.join(sorted(PARAMETERS))}. ")
        made = ServerUrl(host or dict(pairs).get("host", ""), port, name, user, inside or password, pairs)
        if not made.local and dict(pairs).get("sslmode") not in SSL_MODES:
            raise InvalidUsage(
                "The database is on another machine, and its URL does not ask for TLS.",
                hint="End it with ?sslmode=verify-full (and &sslrootcert=FILE for a CA of your own).",
            )
        return made

    @property
    def local(self) -> bool:
        """Whether what is said to it stays on this machine."""
        if not self.host or self.host.startswith("/") or self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        port = f":{self.port}" if self.port else ""
        return f"{self.name} on {self.host or 'this machine'}{port}"

    def engine_url(self) -> sa.URL:
        query = {key: value for key, value in self.parameters if key != "host"}
        host = self.host or None
        return sa.URL.create(
            "postgresql+psycopg", self.user or None, self.password or None, host, self.port, self.name, query
        )


def _refused(what: str, hint: str = "") -> InvalidUsage:
    return InvalidUsage(f"The database's URL {what}.", hint=f"{hint}It is like {EXAMPLE}.")


def engine_of(place: Path | ServerUrl) -> sa.Engine:
    """One connection, on which every transaction begins by taking the write lock. Nothing is opened yet.

    Errors show no values: they may be documents of members.
    """
    if isinstance(place, Path):
        place.touch(mode=0o600, exist_ok=True)
        engine = sa.create_engine(
            f"sqlite:///{place}",
            poolclass=sa.pool.StaticPool,
            connect_args={"check_same_thread": False},
            hide_parameters=True,
        )
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        return engine
    try:
        engine = sa.create_engine(
            place.engine_url(),
            poolclass=sa.pool.StaticPool,
            isolation_level="READ COMMITTED",
            hide_parameters=True,
            connect_args={
                "connect_timeout": CONNECT_SECONDS,
                "application_name": "concord-coordinator",
                "target_session_attrs": "read-write",
                "options": " ".join(f"-c {name}={value}" for name, value in SESSION.items()),
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "tcp_user_timeout": 30_000,
            },
        )
    except ModuleNotFoundError as error:
        raise InvalidUsage(
            f"For a PostgreSQL database the package {error.name} is needed.",
            hint='Install it: pip install "concord-federation[postgresql]"',
        ) from error
    sa.event.listen(engine, "connect", _prepare_postgresql)
    sa.event.listen(engine, "begin", Turns())
    return engine


class AnotherSession(Exception):
    """The connection is not the one with which we began, and holds none of our locks."""


class Turns:
    """Takes the write lock of PostgreSQL, always in the same session.

    A pooler between us and the server would put transactions into sessions as it likes, and locks would hold nothing.
    """

    def __init__(self) -> None:
        self._session: int | None = None

    def __call__(self, connection: sa.Connection) -> None:
        statement = f"SELECT pg_backend_pid(), pg_advisory_xact_lock({LOCKS}, 1)"
        session = int(connection.exec_driver_sql(statement).one()[0])
        if self._session is None:
            self._session = session
        elif session != self._session:
            raise AnotherSession


def check_server(connection: sa.Connection, place: ServerUrl) -> None:
    """Raises InvalidUsage for a server that is too old, and for a database that cannot hold every text."""
    said = "SELECT current_setting('server_version_num')::int, current_setting('server_encoding')"
    version, encoding = connection.exec_driver_sql(said).one()
    if version < OLDEST * 10_000:
        raise InvalidUsage(
            f"The server of {place} is PostgreSQL {version // 10_000}; Concord needs {OLDEST} or newer.",
            hint="Update it, or name another server.",
        )
    if encoding != "UTF8":
        raise InvalidUsage(
            f"The database {place} keeps texts as {encoding}, which cannot hold what members write.",
            hint="Make one that can: CREATE DATABASE concord OWNER concord ENCODING 'UTF8' TEMPLATE template0",
        )


def be_sole(engine: sa.Engine, place: ServerUrl) -> None:
    """For as long as this engine's connection lives no other coordinator runs on the database. Raises InvalidUsage when one does.

    It asks, and does not wait in the server: a transaction that waits holds the write lock, for which the coordinator that runs
    waits in turn, and the server would end one of the two. Also refuses a server that does not write what it has committed.
    """
    deadline = time.monotonic() + SOLE_SECONDS
    while True:
        with engine.begin() as connection:
            check_server(connection, place)
            if connection.exec_driver_sql("SHOW fsync").scalar_one() != "on":
                raise InvalidUsage(
                    f"The PostgreSQL server of {place} has fsync off: a power cut would undo what members were told.",
                    hint="Turn it on: ALTER SYSTEM SET fsync = on",
                )
            if connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({LOCKS}, 2)").scalar_one():
                return
        if time.monotonic() > deadline:
            raise InvalidUsage(
                f"Another coordinator runs on the database {place}.", hint="Stop it first, or name another database."
            )
        time.sleep(SOLE_SECONDS / 30)


def unopened(error: sa.exc.DBAPIError, place: Path | ServerUrl) -> InvalidUsage | Unavailable:
    """Why a database could not be opened."""
    said = " ".join(str(error.orig).split())
    if isinstance(place, Path):
        return InvalidUsage(
            f"{place} cannot be opened as a database: {said}.", hint="Restore it from a backup, or free the disk."
        )
    # Without a connection there is no SQLSTATE, only the server's words (which may be in its language) after "FATAL".
    state = getattr(error.orig, "sqlstate", None) or ""
    if state.startswith(("28", "3D", "42", "3F")) or "FATAL" in said:
        return InvalidUsage(
            f"The database {place} does not let the coordinator in: {said}.",
            hint="It needs a user with a password that owns the database; docs/how-to/postgresql.md says how to make both.",
        )
    return Unavailable(
        f"The database {place} cannot be reached: {said}.",
        hint="Is the server running, and are host, port, user and password right?",
    )


def _prepare_postgresql(connection: Any, _record: Any) -> None:
    connection.execute(NO_TIMEOUTS)
    connection.commit()


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_MILLISECONDS}"):
        connection.execute(f"PRAGMA {pragma}")
