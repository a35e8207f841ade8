"""Studies in the database, and what each node answered."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from coordinator.store import tables
from coordinator.store.upserts import put


@dataclass(frozen=True, slots=True)
class StudyRow:
    digest: str
    name: str
    envelope: bytes
    submitted: float


@dataclass(frozen=True, slots=True)
class StudyAnswerRow:
    member: str
    node: str
    state: str
    """asked | granted | denied | refused | revoked | expired"""
    reasons: tuple[str, ...]
    envelope: bytes


class StudyRows:
    """Within one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def add(self, row: StudyRow) -> None:
        values = {name: getattr(row, name) for name in StudyRow.__slots__}
        self._connection.execute(sa.insert(tables.studies).values(values))

    def of(self, digest: str) -> StudyRow | None:
        table = tables.studies
        columns = [table.c[name] for name in StudyRow.__slots__]
        row = self._connection.execute(sa.select(*columns).where(table.c.digest == digest)).one_or_none()
        return None if row is None else StudyRow(*row)

    def all(self) -> tuple[StudyRow, ...]:
        """Oldest first."""
        table = tables.studies
        columns = [table.c[name] for name in StudyRow.__slots__]
        rows = self._connection.execute(sa.select(*columns).order_by(table.c.sequence))
        return tuple(StudyRow(*row) for row in rows)

    def put_answer(self, study: str, answer: StudyAnswerRow) -> None:
        keys = {"study": study, "member": answer.member, "node": answer.node}
        values = {"state": answer.state, "reasons": "\n".join(answer.reasons), "envelope": answer.envelope}
        put(self._connection, tables.study_answers, keys, values)

    def answers(self, study: str) -> tuple[StudyAnswerRow, ...]:
        """By member and node."""
        table = tables.study_answers
        rows = self._connection.execute(sa.select(table).where(table.c.study == study))
        found = [
            StudyAnswerRow(row.member, row.node, row.state, tuple(filter(None, row.reasons.split("\n"))), row.envelope)
            for row in rows
        ]
        return tuple(sorted(found, key=lambda row: (row.member, row.node)))
