"""A PostgreSQL server of Debian's package for a test run: a folder and a socket of its own, ended by its process id.

Never as root, which PostgreSQL refuses: the user ``postgres`` or ``nobody`` runs it. Texts are sorted by the rules of a
language, as on a server that somebody set up without thinking of us.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Final, Self

from coordinator.store.database import Database
from coordinator.store.engines import ServerUrl

SECONDS: Final = 30.0
ROOM: Final = 256 << 20
MISSING: Final = "PostgreSQL is not installed, so these tests fail. Install it: sudo apt-get install postgresql"


def programs() -> Path:
    """The folder with initdb and postgres. Fails the test that needs it where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    first = found[-1] if found else Path(on_path or "").resolve()
    assert first.name == "initdb", MISSING
    return first.parent


def opened(place: str, **how: Any) -> Database:
    """The database of a path, or of a URL."""
    return Database(ServerUrl.parse(place) if "://" in place else Path(place), **how)


class PostgresServer:
    """``with PostgresServer() as server: server.database("name")`` is a URL."""

    def __init__(self) -> None:
        memory = Path("/dev/shm")  # what is synced there costs nothing
        roomy = memory.is_dir() and shutil.disk_usage(memory).free > ROOM
        self.root = Path(
            tempfile.mkdtemp(prefix="concord-pg-", dir=memory if roomy else None)
        )  # a socket's path is short
        self.password = secrets.token_urlsafe(24)
        self._bin = programs()
        self._process: subprocess.Popen[bytes] | None = None
        self._as: list[str] = []
        self._count = 0
        if os.geteuid() == 0:
            names = {entry.pw_name for entry in pwd.getpwall()}
            user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
            os.chown(self.root, user.pw_uid, user.pw_gid)
            self._as = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]

    def _run(self, program: str, *arguments: str) -> list[str]:
        """It ends with us, even when we are killed."""
        return ["setpriv", "--pdeathsig", "INT", *self._as, str(self._bin / program), *arguments]

    @property
    def log(self) -> Path:
        return self.root / "log"

    def __enter__(self) -> Self:
        word = self.root / "word"
        word.write_text(self.password)
        made = subprocess.run(
            self._run(
                "initdb", "-D", str(self.root / "data"), "-U", "concord", "-E", "UTF8", "--auth=scram-sha-256",
                f"--pwfile={word}", "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en", "--no-sync",
                "--wal-segsize=1",
            ),
            capture_output=True, timeout=SECONDS, check=False, cwd="/",
        )  # fmt: skip
        word.unlink()
        if made.returncode:
            self.__exit__()
            raise AssertionError(made.stderr.decode())
        self.start()
        return self

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._run(
                    "postgres", "-D", str(self.root / "data"), "-k", str(self.root), "-c", "listen_addresses=",
                    "-c", "max_connections=20", "-c", "shared_buffers=16MB",
                    "-c", "max_wal_size=32MB", "-c", "min_wal_size=2MB",
                ),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
            )  # fmt: skip
        deadline = time.monotonic() + SECONDS
        while not self._answers():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()

    def _answers(self) -> bool:
        asked = [str(self._bin / "pg_isready"), "-q", "-h", str(self.root), "-t", "1"]
        return subprocess.run(asked, check=False, timeout=SECONDS).returncode == 0

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: sessions are ended; SIGQUIT: as a crash would."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            try:
                self._process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGQUIT)
                self._process.wait(SECONDS)
        self._process = None

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.root, ignore_errors=True)

    def url(self, name: str, password: str | None = None) -> str:
        return f"postgresql://concord:{self.password if password is None else password}@/{name}?host={self.root}"

    def database(self, name: str, template: str = "template1") -> str:
        """A fresh one; its URL."""
        self.psql("postgres", f'create database "{name}" template "{template}"')
        return self.url(name)

    def migrated(self) -> str:
        """A fresh one with Concord's tables, copied from one in which the migrations ran; its URL."""
        if not self._count:
            opened(self.database("first")).close()
        self._count += 1
        return self.database(f"copy{self._count}", "first")

    def psql(self, database: str, statement: str) -> str:
        """What a person at the server would do beside Concord."""
        ended = subprocess.run(
            [str(self._bin / "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", str(self.root), "-U", "concord", "-d", database],
            input=statement.encode(), env={**os.environ, "PGPASSWORD": self.password}, capture_output=True, check=False,
            timeout=SECONDS,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr.decode()
        return ended.stdout.decode().strip()
