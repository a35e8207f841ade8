"""What is known of each release: its subject, its state, the members' decisions about it."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from coordinator.store import tables
from coordinator.store.upserts import put


@dataclass(frozen=True, slots=True)
class ReleaseRow:
    job: str
    subject: bytes
    """what members vote on; empty where a release was withheld"""
    state: str
    """proposed | approved | published | recalled | withheld"""
    evidence: str = ""
    """the list of the evidence that there is before a model is given; a blob's digest in hex"""
    decision: bytes = b""
    """by which it was approved"""
    roll: bytes = b""
    """under which that was decided, with its history"""
    recall: bytes = b""
    """decision and roll, in one file"""


class ReleaseRows:
    """Within one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def put(self, row: ReleaseRow) -> None:
        values = {name: getattr(row, name) for name in ReleaseRow.__slots__ if name != "job"}
        put(self._connection, tables.releases, {"job": row.job}, values)

    def of(self, job: str) -> ReleaseRow | None:
        table = tables.releases
        row = self._connection.execute(sa.select(table).where(table.c.job == job)).one_or_none()
        return None if row is None else ReleaseRow(**row._mapping)

    def all(self) -> tuple[ReleaseRow, ...]:
        table = tables.releases
        rows = self._connection.execute(sa.select(table).order_by(table.c.job))
        return tuple(ReleaseRow(**row._mapping) for row in rows)
