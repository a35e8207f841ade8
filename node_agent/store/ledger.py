"""The privacy ledger's part of the journal: what jobs may charge, what each upload charged, and whether anybody can tell.

Plans are written with the consent, a charge in one transaction with its checks, before its upload's first byte leaves. Neither
is ever erased. A journal that was lost or put back from a copy (``node_agent.store.anchor``) has forgotten charges: then nothing
is charged until a person at the lab has said that the budgets allow for it (``accept_loss``).
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Final

from federation.errors import BudgetExhausted
from federation.privacy.accounting import Charge
from federation.privacy.budget import Budget, Entry, check_charge

LEDGER_FORM: Final = 4
"""of the journal, from which on it has a ledger"""
LOST_HINT: Final = (
    "What it spent is spent all the same. Lower the data sets' budgets by what it may have been, then run "
    "`concord-node budget --accept-loss`; until then no job with privacy runs here."
)

TABLES: Final = """
-- The privacy ledger. What a job as a whole may charge a data set, as it was consented to.
CREATE TABLE plans (
    job      BLOB NOT NULL CHECK (length(job) = 32),
    data_set TEXT NOT NULL,
    name     TEXT NOT NULL,               -- the job's, for people
    charge   TEXT NOT NULL,               -- federation.privacy.accounting.Charge
    times    INTEGER NOT NULL CHECK (times > 0),
    PRIMARY KEY (job, data_set, charge)
) STRICT, WITHOUT ROWID;

-- One row for each upload. forgone: 1 when nothing of it can ever be opened.
CREATE TABLE charges (
    job      BLOB NOT NULL CHECK (length(job) = 32),
    context  BLOB NOT NULL,
    data_set TEXT NOT NULL,
    round    INTEGER NOT NULL,
    attempt  INTEGER NOT NULL,
    charge   TEXT NOT NULL,
    forgone  INTEGER NOT NULL DEFAULT 0 CHECK (forgone IN (0, 1)),
    PRIMARY KEY (job, context, data_set)
) STRICT, WITHOUT ROWID;

-- Losses of the journal (life.restored) that a person at the lab has allowed for.
CREATE TABLE accepted (restored TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
INSERT INTO accepted SELECT restored FROM life;
"""

Run = Callable[..., sqlite3.Cursor]


class Ledger(ABC):
    """Every method raises what the journal raises; and BudgetExhausted, having charged nothing."""

    @abstractmethod
    def _asking(self) -> AbstractContextManager[Run]: ...

    @abstractmethod
    def _change(self) -> AbstractContextManager[Run]: ...

    def ledger(self, data_set: str) -> tuple[Entry, ...]:
        """What every job planned and charged. Raises VerificationFailed for an entry that cannot be read, BudgetExhausted when
        nobody can say what was spent."""
        with self._asking() as run:
            _check_whole(run)
            return _entries(run, data_set)

    def charged_data_sets(self) -> tuple[str, ...]:
        """Those of which the ledger knows."""
        with self._asking() as run:
            if _form(run) < LEDGER_FORM:
                return ()
            return tuple(name for (name,) in run("SELECT DISTINCT data_set FROM plans ORDER BY data_set").fetchall())

    def affords(self, job: bytes, charge: Charge, budgets: Mapping[str, Budget]) -> None:
        """Raises BudgetExhausted when ``charge`` would be refused now: asked before a round is trained."""
        with self._asking() as run:
            _afford(run, job, charge, budgets)

    def charge(
        self, job: bytes, context: bytes, place: tuple[int, int], charge: Charge, budgets: Mapping[str, Budget]
    ) -> None:
        """Before the upload of an attempt; on disk when this returns, once however often it is asked. ``place``: round and
        attempt. Raises BudgetExhausted when a data set's budget, or what the job was consented to, would be exceeded."""
        with self._change() as run:
            known = run("SELECT forgone FROM charges WHERE job=? AND context=?", (job, context)).fetchall()
            if any(forgone for (forgone,) in known):
                raise BudgetExhausted("This attempt was given up: nothing of it may leave any more.")
            if known:
                return
            for data_set in _afford(run, job, charge, budgets):
                run(
                    "INSERT INTO charges VALUES (?, ?, ?, ?, ?, ?, 0)",
                    (job, context, data_set, *place, charge.text()),
                )

    def forgo(self, job: bytes, context: bytes) -> None:
        """Nothing of the attempt can be opened: what was charged for it is free again, and it can be charged no more."""
        with self._change() as run:
            run("UPDATE charges SET forgone=1 WHERE job=? AND context=?", (job, context))

    def accept_loss(self) -> None:
        """A person at the lab has lowered the budgets by what was forgotten."""
        with self._change() as run:
            run("INSERT OR IGNORE INTO accepted SELECT restored FROM life")


def plan(run: Run, job: bytes, name: str, plans: Mapping[str, Mapping[Charge, int]]) -> None:
    """Within the transaction of a consent."""
    for data_set, planned in plans.items():
        for charge, times in planned.items():
            run(
                "INSERT INTO plans VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (job, data_set, name, charge.text(), times),
            )


def _form(run: Run) -> int:
    return int(run("PRAGMA user_version").fetchone()[0])


def _check_whole(run: Run) -> None:
    if _form(run) < LEDGER_FORM:
        return
    row = run("SELECT restored, why FROM life WHERE restored NOT IN (SELECT restored FROM accepted)").fetchone()
    if row is not None:
        raise BudgetExhausted(
            f"Nobody can say what was spent: the journal is not what it was ({row[1]}; found {row[0]}).", hint=LOST_HINT
        )


def _afford(run: Run, job: bytes, charge: Charge, budgets: Mapping[str, Budget]) -> tuple[str, ...]:
    _check_whole(run)
    rows = run("SELECT DISTINCT data_set FROM plans WHERE job=? ORDER BY data_set", (job,)).fetchall()
    names = tuple(name for (name,) in rows)
    if not names:
        raise BudgetExhausted(
            "This lab has not consented to spend any privacy on the job.", hint="Nothing was uploaded."
        )
    for name in names:
        check_charge(_entries(run, name), job, charge, budgets.get(name), name)
    return names


def _entries(run: Run, data_set: str) -> tuple[Entry, ...]:
    if _form(run) < LEDGER_FORM:
        return ()
    planned: dict[bytes, dict[Charge, int]] = {}
    charged: dict[bytes, dict[Charge, int]] = {}
    names: dict[bytes, str] = {}
    plans = run("SELECT job, name, charge, times FROM plans WHERE data_set=?", (data_set,)).fetchall()
    for job, name, text, times in plans:
        planned.setdefault(job, {})[Charge.read(text)] = times
        names[job] = name
    counts = run(
        "SELECT job, charge, count(*) FROM charges WHERE data_set=? AND forgone=0 GROUP BY job, charge", (data_set,)
    ).fetchall()
    for job, text, times in counts:
        charged.setdefault(job, {})[Charge.read(text)] = times
    active = {job for (job,) in run("SELECT job FROM jobs WHERE state='active'").fetchall()}
    return tuple(
        Entry(job, names.get(job, job.hex()[:12]), charged.get(job, {}), planned.get(job, {}), job in active)
        for job in sorted({*planned, *charged})
    )
