"""The questions part of the journal: what waits for a person at the lab, and what that person decided.

A question is on disk before anybody is told that it waits, its deadline never moves, and a decision is on disk before the answer is
signed: whoever was killed in between signs it at the next start. The words of a person stay here. A question that became idle
before anybody had decided (its job ended, the rules deny it by now) is over, with why; that is final as a decision is.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Literal

QUESTIONS_FORM: Final = 5
"""of the journal, from which on it has questions"""

TABLES: Final = """
-- Questions that a person at the lab decides: about a job, or about a study. One row for each manifest, for ever.
-- state: waiting | granted | denied | late (nobody decided in time). study: envelope of the study inside which a job says it lies.
CREATE TABLE questions (
    job         BLOB PRIMARY KEY CHECK (length(job) = 32),
    kind        TEXT NOT NULL CHECK (kind IN ('job', 'study')),
    name        TEXT NOT NULL,
    lead        TEXT NOT NULL,
    manifest    BLOB NOT NULL,
    study       BLOB NOT NULL,
    asked       TEXT NOT NULL,               -- RFC 3339
    deadline    TEXT NOT NULL,               -- RFC 3339
    reasons     TEXT NOT NULL,               -- what the policy says, one a line
    differences TEXT NOT NULL,               -- from the study that was consented to, one a line
    deciders    TEXT NOT NULL,               -- roles that may decide, one a line
    state       TEXT NOT NULL CHECK (state IN ('waiting', 'granted', 'denied', 'late')),
    role        TEXT NOT NULL DEFAULT '',    -- who decided, never a name
    until       TEXT NOT NULL DEFAULT '',    -- when a consent ends, if the person said so
    words       TEXT NOT NULL DEFAULT '',    -- why
    told        INTEGER NOT NULL DEFAULT 0,  -- 1: the words may leave
    decided     TEXT NOT NULL DEFAULT ''
) STRICT;
"""

ENDING: Final = """
ALTER TABLE questions RENAME TO questions_of_form_5;
-- state: also over: it became idle before anybody had decided; words: why.
CREATE TABLE questions (
    job         BLOB PRIMARY KEY CHECK (length(job) = 32),
    kind        TEXT NOT NULL CHECK (kind IN ('job', 'study')),
    name        TEXT NOT NULL,
    lead        TEXT NOT NULL,
    manifest    BLOB NOT NULL,
    study       BLOB NOT NULL,
    asked       TEXT NOT NULL,
    deadline    TEXT NOT NULL,
    reasons     TEXT NOT NULL,
    differences TEXT NOT NULL,
    deciders    TEXT NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('waiting', 'granted', 'denied', 'late', 'over')),
    role        TEXT NOT NULL DEFAULT '',
    until       TEXT NOT NULL DEFAULT '',
    words       TEXT NOT NULL DEFAULT '',
    told        INTEGER NOT NULL DEFAULT 0,
    decided     TEXT NOT NULL DEFAULT ''
) STRICT;
INSERT INTO questions SELECT * FROM questions_of_form_5;
DROP TABLE questions_of_form_5;
"""
"""what form 7 makes of the table of forms 5 and 6"""

Run = Callable[..., sqlite3.Cursor]
State = Literal["waiting", "granted", "denied", "late", "over"]
_COLUMNS: Final = (
    "job, kind, name, lead, manifest, study, asked, deadline, reasons, differences, deciders, "
    "state, role, until, words, told, decided"
)
_LISTS: Final = (8, 9, 10)


@dataclass(frozen=True, slots=True)
class Question:
    job: bytes
    """digest of the manifest, or of the study"""
    kind: str
    """job | study"""
    name: str
    lead: str
    manifest: bytes
    study: bytes
    asked: str
    deadline: str
    reasons: tuple[str, ...]
    differences: tuple[str, ...] = ()
    deciders: tuple[str, ...] = ()
    """roles that may decide, the first by default"""
    state: str = "waiting"
    role: str = ""
    until: str = ""
    words: str = ""
    told: bool = False
    decided: str = ""


class Questions(ABC):
    """Every method raises what the journal raises."""

    @abstractmethod
    def _asking(self) -> AbstractContextManager[Run]: ...

    @abstractmethod
    def _change(self) -> AbstractContextManager[Run]: ...

    def ask(self, question: Question) -> Question:
        """The question as it stands: asked twice, it keeps its first deadline, and its answer."""
        with self._change() as run:
            run(
                f"INSERT INTO questions ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'waiting', '', '', '', 0, '')"  # noqa: S608
                " ON CONFLICT (job) DO NOTHING",
                (
                    question.job,
                    question.kind,
                    question.name,
                    question.lead,
                    question.manifest,
                    question.study,
                    question.asked,
                    question.deadline,
                    "\n".join(question.reasons),
                    "\n".join(question.differences),
                    "\n".join(question.deciders),
                ),
            )
            row = run(f"SELECT {_COLUMNS} FROM questions WHERE job=?", (question.job,)).fetchone()  # noqa: S608
        return _question_of(row)

    def question(self, job: bytes) -> Question | None:
        with self._asking() as run:
            row = run(f"SELECT {_COLUMNS} FROM questions WHERE job=?", (job,)).fetchone()  # noqa: S608
        return None if row is None else _question_of(row)

    def questions(self) -> tuple[Question, ...]:
        """All, the one that ends first first."""
        with self._asking() as run:
            if int(run("PRAGMA user_version").fetchone()[0]) < QUESTIONS_FORM:
                return ()
            rows = run(f"SELECT {_COLUMNS} FROM questions ORDER BY deadline, job").fetchall()  # noqa: S608
        return tuple(map(_question_of, rows))

    def settle(
        self,
        job: bytes,
        state: State,
        decided: str,
        *,
        role: str = "",
        until: str = "",
        words: str = "",
        told: bool = False,
    ) -> bool:
        """Whether this decided it: false when it was decided before. The first decision stands."""
        with self._change() as run:
            cursor = run(
                "UPDATE questions SET state=?, decided=?, role=?, until=?, words=?, told=? WHERE job=? AND state='waiting'",
                (state, decided, role, until, words, int(told), job),
            )
            return cursor.rowcount == 1


def _question_of(row: tuple[object, ...]) -> Question:
    values = list(row)
    values[8], values[9], values[10] = (tuple(filter(None, str(row[at]).split("\n"))) for at in _LISTS)
    values[15] = bool(row[15])
    return Question(*values)  # type: ignore[arg-type]
