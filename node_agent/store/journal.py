"""The lab's record of what it promised: consents and the machines' votes, on disk before anything after them is done.

One SQLite file, readable by its owner alone. One process writes it, which holds a lock for as long as it is open; others may
read. Every write is fsynced before the call returns (``synchronous=FULL``); erased records are overwritten (``secure_delete``),
and no write-ahead log keeps a copy of a secret. A second process that opens the same journal to write is refused: a node that
runs twice would vote twice.

A journal that was put back from a copy has forgotten votes. Its anchor shows it (``node_agent.store.anchor``); what it remembers of
jobs that are under way is then void and set aside, and the lab is asked anew.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from federation.errors import Unavailable
from federation.privacy.accounting import Charge
from federation.secagg.cohorts import FigureEntry
from federation.secagg.events import RememberFigures
from node_agent.store import questions, studies, verdicts
from node_agent.store.anchor import Anchor, Identity, why_not
from node_agent.store.files import PRIVATE_FILE, sync_folder
from node_agent.store.ledger import TABLES, Ledger, plan
from node_agent.store.questions import Questions
from node_agent.store.studies import Studies, forget_studies
from node_agent.store.verdicts import KeptVerdict, Verdicts

VERSION: Final = 7

PATIENCE_SECONDS: Final = 30.0
"""how long a write waits for somebody who reads"""

SCHEMA: Final = """
-- What this node answered when it was asked to take part in a job. The envelope is its own signed consent or denial, verbatim.
CREATE TABLE consents (
    job      BLOB PRIMARY KEY CHECK (length(job) = 32),
    name     TEXT NOT NULL,
    lead     TEXT NOT NULL,
    granted  INTEGER NOT NULL CHECK (granted IN (0, 1)),
    reasons  TEXT NOT NULL,               -- one a line
    envelope BLOB NOT NULL,
    answered TEXT NOT NULL                -- RFC 3339
) STRICT;

-- A job that this node works on, by the manifest that its lead signed, verbatim.
-- state: active | suspended | finished | failed | withdrawn | superseded | revoked | expired | denied.
CREATE TABLE jobs (
    job      BLOB PRIMARY KEY CHECK (length(job) = 32),
    manifest BLOB NOT NULL,
    state    TEXT NOT NULL,
    reason   TEXT NOT NULL DEFAULT ''
) STRICT;

-- What a job's machine must not forget (federation.secagg.member): seeds, votes, bindings, position.
CREATE TABLE records (
    job   BLOB NOT NULL CHECK (length(job) = 32),
    key   TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (job, key)
) STRICT, WITHOUT ROWID;
"""

STEPS: Final = {
    1: """
-- One row. transactions: how many have changed this journal; its anchor knows the same number.
-- restored: when it was found to have been put back from a copy (RFC 3339), empty if never; why: what showed it.
-- From then on nothing in here is complete: not the votes, not the figures, not what was spent of a privacy budget.
CREATE TABLE life (
    one          INTEGER PRIMARY KEY CHECK (one = 1),
    transactions INTEGER NOT NULL,
    restored     TEXT NOT NULL,
    why          TEXT NOT NULL
) STRICT;
INSERT INTO life VALUES (1, 0, '', '');

-- Records of jobs that were under way when that was found; kept to be looked at, never used again, erased with the job.
CREATE TABLE set_aside (
    found TEXT NOT NULL,
    job   BLOB NOT NULL,
    key   TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (found, job, key)
) STRICT, WITHOUT ROWID;
""",
    2: """
-- What left exactly, over which cohort, in any job (federation.secagg.cohorts). It outlives the jobs.
-- weights: digest of the model; data: of this lab's data set; cohort, figures: names, one a line.
-- opened: 1 when this node released for it or saw its sum, 0 when it has acknowledged it.
CREATE TABLE figures (
    weights BLOB NOT NULL CHECK (length(weights) = 32),
    data    BLOB NOT NULL CHECK (length(data) = 32),
    job     BLOB NOT NULL CHECK (length(job) = 32),
    epoch   INTEGER NOT NULL,
    round   INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    cohort  TEXT NOT NULL,
    figures TEXT NOT NULL,
    opened  INTEGER NOT NULL CHECK (opened IN (0, 1)),
    PRIMARY KEY (weights, data, job, epoch, round, attempt)
) STRICT, WITHOUT ROWID;
""",
    3: TABLES,
    4: questions.TABLES,
    5: studies.TABLES,
    6: questions.ENDING + verdicts.TABLES,
}
"""what each further form adds to the one before"""

VOID: Final = "the journal was put back from a copy: this consent is void, and the lab is asked anew"


@dataclass(frozen=True, slots=True)
class ConsentRecord:
    job: bytes
    name: str
    lead: str
    granted: bool
    reasons: tuple[str, ...]
    envelope: bytes
    answered: str


@dataclass(frozen=True, slots=True)
class JobRecord:
    job: bytes
    manifest: bytes
    state: str
    reason: str


Run = Callable[..., sqlite3.Cursor]


class Journal(Ledger, Questions, Studies, Verdicts):
    """Open it once per process; safe to use from several threads, one write at a time.

    Every method raises Unavailable when the file cannot be read or written; a write that failed has changed nothing, and may be
    made again in any case.
    """

    def __init__(self, path: Path, *, read_only: bool = False, now: str = "") -> None:
        """Raises Unavailable when another process holds the journal. ``read_only`` takes no lock and makes no file.

        ``now``: RFC 3339; when what a restored journal remembered was set aside.
        """
        self._path = path
        self._guard = threading.Lock()
        self._lock: int | None = None
        self._anchor = Anchor(path)
        lost = False
        if not read_only:
            self._lock = self._locked(path)
            made = not path.exists()
            lost = made and self._anchor.read() is not None
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE_FILE))
            path.chmod(PRIVATE_FILE)
            if made:
                sync_folder(path.parent)
        mode = "ro" if read_only else "rw"
        with _spoken(path):
            self._database = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=PATIENCE_SECONDS,
            )
        if not read_only:
            try:
                with _spoken(path):
                    self._prepare("the journal was removed" if lost else "", now)
            except BaseException:
                self.close()
                raise

    @staticmethod
    def _locked(path: Path) -> int:
        """A lock on a file beside the journal: SQLite's own would keep readers out."""
        lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise Unavailable(
                f"{path} is in use by another process.",
                hint="One home runs one node. Stop the other node, or give this one its own home.",
            ) from None
        return lock

    def _prepare(self, lost: str, now: str) -> None:
        run = self._database.execute
        run("PRAGMA journal_mode=TRUNCATE")
        run("PRAGMA synchronous=FULL")
        run("PRAGMA secure_delete=ON")
        run("BEGIN EXCLUSIVE")
        (version,) = run("PRAGMA user_version").fetchone()
        if version > VERSION:
            run("ROLLBACK")
            raise Unavailable(
                f"{self._path} has form {version}; this program reads form {VERSION}.",
                hint="Run the version of concord-node that wrote it.",
            )
        if version == 0:
            self._run_all(SCHEMA)
        for step in range(max(version, 1), VERSION):
            self._run_all(STEPS[step])
        run(f"PRAGMA user_version={VERSION}")
        (transactions,) = run("SELECT transactions FROM life").fetchone()
        why = lost or why_not(self._anchor.read(), Identity.of(self._path), transactions)
        if why:
            transactions = self._void(why, now)
        run("COMMIT")
        self._anchor.begin(transactions)

    def _run_all(self, statements: str) -> None:
        for statement in statements.split(";\n"):
            if statement.strip():
                self._database.execute(statement)

    def _void(self, why: str, now: str) -> int:
        """Within the first transaction of a restored journal: what it remembers binds nobody, and may have been contradicted."""
        run = self._database.execute
        run("INSERT OR REPLACE INTO set_aside SELECT ?, job, key, value FROM records", (now,))
        run("DELETE FROM records")
        run(
            "UPDATE consents SET granted=0, reasons=? WHERE job IN (SELECT job FROM jobs WHERE state='active')", (VOID,)
        )
        run("DELETE FROM questions WHERE job IN (SELECT job FROM jobs WHERE state='active')")
        run("DELETE FROM jobs WHERE state='active'")
        forget_studies(run)
        run("UPDATE life SET transactions=transactions+1, restored=?, why=?", (now or "at an unknown time", why))
        (transactions,) = run("SELECT transactions FROM life").fetchone()
        return int(transactions)

    def close(self) -> None:
        with self._guard:
            self._database.close()
            self._anchor.close()
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _asking(self) -> Iterator[Run]:
        with self._guard, _spoken(self._path):
            yield self._database.execute

    @contextmanager
    def _change(self) -> Iterator[Run]:
        """One transaction; it is on disk when this ends, or nothing of it is."""
        with self._asking() as run:
            run("BEGIN IMMEDIATE")
            try:
                yield run
                (transactions,) = run("UPDATE life SET transactions=transactions+1 RETURNING transactions").fetchall()[
                    0
                ]
                run("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    run("ROLLBACK")
                raise
            try:
                self._anchor.write(transactions)
            except OSError as error:
                raise Unavailable(
                    f"The anchor of the journal {self._path.name} cannot be written: {error.strerror}.",
                    hint="What was to be kept is on disk; make the call again when the disk is in order.",
                ) from error

    @property
    def restored(self) -> str:
        """When this journal was found to have been put back from a copy; empty if never. Nothing in it is complete then."""
        return self._life()[0]

    @property
    def why_restored(self) -> str:
        return self._life()[1]

    def _life(self) -> tuple[str, str]:
        with self._asking() as run:
            restored, why = run("SELECT restored, why FROM life").fetchone()
        return restored, why

    # ------------------------------------------------------------------------------------------------------ consents

    def answer(
        self,
        consent: ConsentRecord,
        manifest: bytes,
        plans: Mapping[str, Mapping[Charge, int]] | None = None,
        verdict: KeptVerdict | None = None,
    ) -> None:
        """Keeps an answer; a granted one opens the job and stays, a denial may be answered anew. ``plans``: what the job as
        a whole may charge each data set, reserved in the same transaction. ``verdict``: what the rules said, kept in it too,
        where the answer was taken."""
        with self._change() as run:
            taken = run(
                "INSERT INTO consents VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (job) DO UPDATE SET granted=excluded.granted,"
                " reasons=excluded.reasons, envelope=excluded.envelope, answered=excluded.answered WHERE granted=0",
                (
                    consent.job,
                    consent.name,
                    consent.lead,
                    int(consent.granted),
                    "\n".join(consent.reasons),
                    consent.envelope,
                    consent.answered,
                ),
            ).rowcount
            if taken and verdict is not None:
                verdicts.put(run, verdict)
            if consent.granted:
                run(
                    "INSERT INTO jobs VALUES (?, ?, 'active', '') ON CONFLICT (job) DO UPDATE SET state='active', reason=''"
                    " WHERE state='suspended'",
                    (consent.job, manifest),
                )
                plan(run, consent.job, consent.name, plans or {})

    def consent(self, job: bytes) -> ConsentRecord | None:
        with self._asking() as run:
            row = run(
                "SELECT job, name, lead, granted, reasons, envelope, answered FROM consents WHERE job=?", (job,)
            ).fetchone()
        return None if row is None else _consent_of(row)

    def consents(self) -> tuple[ConsentRecord, ...]:
        """All answers, oldest first."""
        with self._asking() as run:
            rows = run(
                "SELECT job, name, lead, granted, reasons, envelope, answered FROM consents ORDER BY answered, job"
            ).fetchall()
        return tuple(map(_consent_of, rows))

    # ---------------------------------------------------------------------------------------------------------- jobs

    def jobs(self, state: str = "active") -> tuple[JobRecord, ...]:
        with self._asking() as run:
            rows = run("SELECT job, manifest, state, reason FROM jobs WHERE state=? ORDER BY job", (state,)).fetchall()
        return tuple(JobRecord(*row) for row in rows)

    def job(self, job: bytes) -> JobRecord | None:
        with self._asking() as run:
            row = run("SELECT job, manifest, state, reason FROM jobs WHERE job=?", (job,)).fetchone()
        return None if row is None else JobRecord(*row)

    def lapse(self, job: bytes, reason: str) -> None:
        """The consent holds no more, and the lab is to be asked anew. What the job's machine remembers stays: it has voted, and is
        held to it if it comes back."""
        with self._change() as run:
            run("UPDATE consents SET granted=0, reasons=? WHERE job=?", (reason, job))
            run("DELETE FROM questions WHERE job=?", (job,))
            run("UPDATE jobs SET state='suspended', reason=? WHERE job=? AND state='active'", (reason, job))

    def end_job(self, job: bytes, state: str, reason: str = "") -> None:
        """The job takes its last state, and everything that its machine remembered is erased."""
        with self._change() as run:
            run("UPDATE jobs SET state=?, reason=? WHERE job=?", (state, reason, job))
            run("DELETE FROM records WHERE job=?", (job,))
            run("DELETE FROM set_aside WHERE job=?", (job,))

    # ------------------------------------------------------------------------------------------------------- records

    def remember(
        self, job: bytes, records: Mapping[str, bytes | None], figures: Sequence[RememberFigures] = ()
    ) -> None:
        """Writes (or, with None, erases) several records in one transaction: one fsync, all or nothing."""
        if not records and not figures:
            return
        with self._change() as run:
            for change in figures:
                for entry in change.erase:
                    run(
                        "DELETE FROM figures WHERE weights=? AND data=? AND job=? AND epoch=? AND round=? AND attempt=?",
                        (entry.weights, entry.data, job, entry.epoch, entry.round, entry.attempt),
                    )
                for entry in change.put:
                    run(
                        "INSERT OR REPLACE INTO figures VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                        (
                            entry.weights,
                            entry.data,
                            job,
                            entry.epoch,
                            entry.round,
                            entry.attempt,
                            "\n".join(entry.cohort),
                            "\n".join(entry.figures),
                            int(entry.opened),
                        ),
                    )
            for key, value in records.items():
                if value is None:
                    run("DELETE FROM records WHERE job=? AND key=?", (job, key))
                else:
                    run(
                        "INSERT INTO records VALUES (?, ?, ?) ON CONFLICT (job, key) DO UPDATE SET value=excluded.value",
                        (job, key, value),
                    )

    def figures(self) -> tuple[tuple[bytes, FigureEntry], ...]:
        """(job, entry) of all jobs: what may not leave over another cohort."""
        with self._asking() as run:
            rows = run(
                "SELECT job, weights, data, epoch, round, attempt, cohort, figures, opened FROM figures ORDER BY job, round"
            ).fetchall()
        return tuple(
            (
                job,
                FigureEntry(
                    weights,
                    data,
                    epoch,
                    number,
                    attempt,
                    tuple(cohort.split("\n")),
                    tuple(figures.split("\n")),
                    bool(opened),
                ),
            )
            for job, weights, data, epoch, number, attempt, cohort, figures, opened in rows
        )

    def records(self, job: bytes) -> dict[str, bytes]:
        """What ``MemberMachine.restore`` needs."""
        with self._asking() as run:
            rows = run("SELECT key, value FROM records WHERE job=?", (job,)).fetchall()
        return dict(rows)


def _consent_of(row: tuple[bytes, str, str, int, str, bytes, str]) -> ConsentRecord:
    job, name, lead, granted, reasons, envelope, answered = row
    return ConsentRecord(job, name, lead, bool(granted), tuple(filter(None, reasons.split("\n"))), envelope, answered)


@contextmanager
def _spoken(path: Path) -> Iterator[None]:
    """What SQLite says of the file becomes Unavailable; what it says of the caller stays."""
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise
    except sqlite3.DatabaseError as error:
        raise Unavailable(
            f"The journal {path.name} cannot be used now: {error}.",
            hint="Is the disk full, or does another program hold the file? What a killed node left there "
            "`concord-node run` puts in order.",
        ) from error
