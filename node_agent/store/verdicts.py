"""The verdicts part of the journal: what the lab's rules said when it answered, word for word, beside the answer that binds it.

A verdict (``federation.policy.verdict``) names every rule that spoke, and every pack that was in force by its digest. It is written
in one transaction with the answer, and it is erased by nothing but ``forget_verdicts`` and the lab's own time for keeping them.
"""

from __future__ import annotations

import hashlib
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Literal

VERDICTS_FORM: Final = 7
"""of the journal, from which on it has verdicts"""

TABLES: Final = """
-- Canonical documents (RFC 8785) of what the policy said to a job. The digest of the first is what the lab's answer binds.
-- occasion: answered | weighed (the consent was weighed again, and ended with that).
CREATE TABLE verdicts (
    job      BLOB NOT NULL CHECK (length(job) = 32),
    digest   BLOB NOT NULL CHECK (length(digest) = 32),
    occasion TEXT NOT NULL CHECK (occasion IN ('answered', 'weighed')),
    made     TEXT NOT NULL,               -- RFC 3339
    document BLOB NOT NULL,
    PRIMARY KEY (job, digest, occasion)
) STRICT, WITHOUT ROWID;
"""

Run = Callable[..., sqlite3.Cursor]
Occasion = Literal["answered", "weighed"]


@dataclass(frozen=True, slots=True)
class KeptVerdict:
    job: bytes
    occasion: Occasion
    made: str
    """RFC 3339"""
    document: bytes
    """canonical JSON"""

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.document).digest()


class Verdicts(ABC):
    """Every method raises what the journal raises."""

    @abstractmethod
    def _asking(self) -> AbstractContextManager[Run]: ...

    @abstractmethod
    def _change(self) -> AbstractContextManager[Run]: ...

    def keep_verdict(self, verdict: KeptVerdict) -> None:
        with self._change() as run:
            put(run, verdict)

    def verdicts(self, job: bytes) -> tuple[KeptVerdict, ...]:
        """Of one job, oldest first."""
        with self._asking() as run:
            if int(run("PRAGMA user_version").fetchone()[0]) < VERDICTS_FORM:
                return ()
            rows = run(
                "SELECT job, occasion, made, document FROM verdicts WHERE job=? ORDER BY made, occasion", (job,)
            ).fetchall()
        return tuple(KeptVerdict(*row) for row in rows)

    def forget_verdicts(self, job: bytes) -> int:
        """Overwrites what is kept of one job. How many there were."""
        with self._change() as run:
            return run("DELETE FROM verdicts WHERE job=?", (job,)).rowcount

    def forget_verdicts_before(self, made: str) -> int:
        """Those of jobs that this node does not work on any more. ``made``: RFC 3339."""
        with self._change() as run:
            return run(
                "DELETE FROM verdicts WHERE made<? AND job NOT IN (SELECT job FROM jobs WHERE state IN ('active', 'suspended'))",
                (made,),
            ).rowcount


def put(run: Run, verdict: KeptVerdict) -> None:
    """Within a transaction. An answer that replaces another (a denial that was asked anew) replaces its verdict."""
    if verdict.occasion == "answered":
        run("DELETE FROM verdicts WHERE job=? AND occasion='answered'", (verdict.job,))
    run(
        "INSERT INTO verdicts VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (verdict.job, verdict.digest, verdict.occasion, verdict.made, verdict.document),
    )
