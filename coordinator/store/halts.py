"""Orders, lifts and acknowledgements in the database: rows that are added to and never taken away."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from coordinator.store import tables
from coordinator.store.upserts import put_first


@dataclass(frozen=True, slots=True)
class HaltRow:
    digest: bytes
    order: bytes
    lift: bytes | None
    receipt: bytes | None
    received: float


@dataclass(frozen=True, slots=True)
class AnswerRow:
    halt: bytes
    member: str
    node: str
    acknowledgement: bytes
    heard: float


class HaltRows:
    """Halts within one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def add(self, row: HaltRow) -> None:
        values = {name: getattr(row, name) for name in HaltRow.__slots__}
        self._connection.execute(sa.insert(tables.halts).values(values))

    def lift(self, digest: bytes, lift: bytes) -> None:
        """The first lift stays."""
        table = tables.halts
        where = (table.c.digest == digest, table.c.lift.is_(None))
        self._connection.execute(sa.update(table).where(*where).values(lift=lift))

    def all(self) -> tuple[HaltRow, ...]:
        """Oldest first."""
        table = tables.halts
        columns = [table.c[name] for name in HaltRow.__slots__]
        rows = self._connection.execute(sa.select(*columns).order_by(table.c.sequence))
        return tuple(HaltRow(*row) for row in rows)

    def answer(self, row: AnswerRow) -> bool:
        """Whether it is the first acknowledgement of this node, which stays."""
        keys = {"halt": row.halt, "member": row.member, "node": row.node}
        said = {"acknowledgement": row.acknowledgement, "heard": row.heard}
        return put_first(self._connection, tables.halt_answers, keys, said)

    def answers(self, halt: bytes) -> tuple[AnswerRow, ...]:
        table = tables.halt_answers
        columns = [table.c[name] for name in AnswerRow.__slots__]
        query = sa.select(*columns).where(table.c.halt == halt).order_by(table.c.heard)
        return tuple(AnswerRow(*row) for row in self._connection.execute(query))
