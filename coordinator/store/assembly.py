"""Proposals, votes, and which roll each node holds, in the database. Votes are added to and never taken away."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from coordinator.store import tables
from coordinator.store.upserts import put


@dataclass(frozen=True, slots=True)
class ProposalRow:
    digest: bytes
    envelope: bytes
    draft: bytes
    received: float


@dataclass(frozen=True, slots=True)
class BallotRow:
    proposal: bytes
    member: str
    choice: str
    envelope: bytes


@dataclass(frozen=True, slots=True)
class HolderRow:
    member: str
    node: str
    version: int
    statement: bytes


class AssemblyRows:
    """Within one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def propose(self, row: ProposalRow) -> None:
        values = {name: getattr(row, name) for name in ProposalRow.__slots__}
        self._connection.execute(sa.insert(tables.proposals).values(values))

    def put_draft(self, digest: bytes, draft: bytes) -> None:
        """The same roll with more signatures."""
        table = tables.proposals
        self._connection.execute(sa.update(table).where(table.c.digest == digest).values(draft=draft))

    def proposals(self) -> tuple[ProposalRow, ...]:
        """Oldest first."""
        table = tables.proposals
        columns = [table.c[name] for name in ProposalRow.__slots__]
        return tuple(
            ProposalRow(*row) for row in self._connection.execute(sa.select(*columns).order_by(table.c.sequence))
        )

    def vote(self, row: BallotRow) -> None:
        values = {name: getattr(row, name) for name in BallotRow.__slots__}
        self._connection.execute(sa.insert(tables.ballots).values(values))

    def ballots(self, proposal: bytes) -> tuple[BallotRow, ...]:
        """In the order in which they came."""
        table = tables.ballots
        columns = [table.c[name] for name in BallotRow.__slots__]
        query = sa.select(*columns).where(table.c.proposal == proposal).order_by(table.c.sequence)
        return tuple(BallotRow(*row) for row in self._connection.execute(query))

    def holds(self, row: HolderRow) -> None:
        keys = {"member": row.member, "node": row.node}
        put(self._connection, tables.roll_holders, keys, {"version": row.version, "statement": row.statement})

    def holders(self) -> tuple[HolderRow, ...]:
        table = tables.roll_holders
        columns = [table.c[name] for name in HolderRow.__slots__]
        query = sa.select(*columns).order_by(table.c.member, table.c.node)
        return tuple(HolderRow(*row) for row in self._connection.execute(query))
