"""The studies part of the journal: which studies this lab consented to, and what their runs have taken, counted here alone.

A run is written down, once and for ever, in the transaction that finds room for it, before this lab's consent to it is signed; and
the bytes of an upload before the first of them leaves. Whatever a coordinator forgets, repeats or says, the counts only grow.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final

from federation.manifest.study import Used

if TYPE_CHECKING:
    from node_agent.store.journal import ConsentRecord

STUDIES_FORM: Final = 6
"""of the journal, from which on it has studies"""

TABLES: Final = """
-- Studies that this lab consented to, by the document that the lead signed, verbatim. The consent stands among the consents.
CREATE TABLE studies (
    study    BLOB PRIMARY KEY CHECK (length(study) = 32),
    envelope BLOB NOT NULL
) STRICT;

-- Runs that took their place in a study. One row for each manifest, for ever, whatever becomes of the run.
CREATE TABLE study_runs (
    job    BLOB PRIMARY KEY CHECK (length(job) = 32),
    study  BLOB NOT NULL CHECK (length(study) = 32),
    rounds INTEGER NOT NULL,              -- that it may take, the final evaluation included
    taken  TEXT NOT NULL                  -- RFC 3339
) STRICT, WITHOUT ROWID;

-- Masked updates of runs: bytes of each attempt, however often it was sent.
CREATE TABLE study_uploads (
    job     BLOB NOT NULL CHECK (length(job) = 32),
    context BLOB NOT NULL,
    bytes   INTEGER NOT NULL,
    PRIMARY KEY (job, context)
) STRICT, WITHOUT ROWID;
"""

VOID: Final = "the journal was put back from a copy: nobody can count the runs of this study, and its consent is void"

Run = Callable[..., sqlite3.Cursor]


class Studies(ABC):
    """Every method raises what the journal raises."""

    @abstractmethod
    def _asking(self) -> AbstractContextManager[Run]: ...

    @abstractmethod
    def _change(self) -> AbstractContextManager[Run]: ...

    def answer_study(self, consent: ConsentRecord, study: bytes) -> None:
        """Keeps an answer to a study; a granted one stays. ``study``: its envelope."""
        with self._change() as run:
            run(
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
            )
            if consent.granted:
                run("INSERT INTO studies VALUES (?, ?) ON CONFLICT (study) DO NOTHING", (consent.job, study))

    def study(self, study: bytes) -> bytes | None:
        """The envelope of a study that this lab consented to."""
        with self._asking() as run:
            if int(run("PRAGMA user_version").fetchone()[0]) < STUDIES_FORM:
                return None
            row = run("SELECT envelope FROM studies WHERE study=?", (study,)).fetchone()
        return None if row is None else bytes(row[0])

    def study_used(self, study: bytes, but: bytes = b"") -> Used:
        """``but``: a run that is left out of the count of runs and rounds: it has its place already, or asks for it."""
        with self._asking() as run:
            return _used(run, study, but)

    def study_of(self, job: bytes) -> bytes | None:
        """In which study the run has its place."""
        with self._asking() as run:
            row = run("SELECT study FROM study_runs WHERE job=?", (job,)).fetchone()
        return None if row is None else bytes(row[0])

    def runs_of(self, study: bytes) -> tuple[bytes, ...]:
        with self._asking() as run:
            rows = run("SELECT job FROM study_runs WHERE study=? ORDER BY taken, job", (study,)).fetchall()
        return tuple(bytes(row[0]) for row in rows)

    def take_run(
        self, study: bytes, job: bytes, rounds: int, taken: str, fits: Callable[[Used], tuple[str, ...]]
    ) -> tuple[str, ...]:
        """Why the run has no place in the study; empty when it has, and then that is on disk. A run that has its place keeps it.

        ``fits``: why a run does not fit, after what the others have taken.
        """
        with self._change() as run:
            held = run("SELECT study FROM study_runs WHERE job=?", (job,)).fetchone()
            if held is not None:
                return () if bytes(held[0]) == study else ("the run has its place in another study",)
            problems = fits(_used(run, study, job))
            if not problems:
                run("INSERT INTO study_runs VALUES (?, ?, ?, ?)", (job, study, rounds, taken))
        return problems

    def upload(self, job: bytes, context: bytes, size: int, most: int) -> bool:
        """Whether the run's study has room for an upload of ``size`` bytes, of ``most`` in all; then that is on disk.

        ``context``: of the attempt, whose update is counted once. True for a job that has no place in a study.
        """
        study = self.study_of(job)
        if study is None:
            return True
        with self._change() as run:
            known = run("SELECT bytes FROM study_uploads WHERE job=? AND context=?", (job, context)).fetchone()
            before = int(known[0]) if known is not None else 0
            if size <= before:
                return True
            if _used(run, study, b"").bytes - before + size > most:
                return False
            run(
                "INSERT INTO study_uploads VALUES (?, ?, ?) ON CONFLICT (job, context) DO UPDATE SET bytes=excluded.bytes",
                (job, context, size),
            )
        return True


def forget_studies(run: Run) -> None:
    """Of a journal that was put back from a copy: what it has counted may be less than what was."""
    run("UPDATE consents SET granted=0, reasons=? WHERE granted=1 AND job IN (SELECT study FROM studies)", (VOID,))
    run("DELETE FROM questions WHERE kind='study' AND state='waiting'")
    run("DELETE FROM studies")


def _used(run: Run, study: bytes, but: bytes) -> Used:
    runs, rounds = run(
        "SELECT count(*), coalesce(sum(rounds), 0) FROM study_runs WHERE study=? AND job<>?", (study, but)
    ).fetchone()
    (sent,) = run(
        "SELECT coalesce(sum(bytes), 0) FROM study_uploads WHERE job IN (SELECT job FROM study_runs WHERE study=?)",
        (study,),
    ).fetchone()
    return Used(int(runs), int(rounds), int(sent))
