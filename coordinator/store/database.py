"""Transactions: one writer, on disk when they are over, and an audit entry with every change.

The service has one connection. Its threads take turns (a release is built, and metrics are read, beside the event loop), and so
do processes (``concord-coordinator ticket`` beside ``run``): every transaction begins by waiting for the write lock. How SQLite and
PostgreSQL give that is in ``engines``.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from coordinator.store import tables
from coordinator.store.assembly import AssemblyRows
from coordinator.store.engines import AnotherSession, ServerUrl, be_sole, check_server, engine_of, unopened
from coordinator.store.halts import HaltRows
from coordinator.store.log import LogRows
from coordinator.store.releases import ReleaseRows
from coordinator.store.schema import check_schema, refuse_moved
from coordinator.store.studies import StudyRows
from coordinator.store.upserts import put
from federation.audit.entry import entry_of
from federation.errors import Unavailable

LINES_SHOWN = 200
UNLOGGED = frozenset({"ticket", "placement"})
"""what the coordinator keeps for itself: names of people, and what a job's roster says anyway"""
_AUDIT = sa.insert(tables.audit_entries)
_EVENT = sa.insert(tables.events)
_LINE = sa.insert(tables.lines)


@dataclass(frozen=True, slots=True)
class TicketRow:
    id: str
    kind: str
    member: str
    node: str
    name: str
    token_hash: bytes
    expires: float
    used: float | None


@dataclass(frozen=True, slots=True)
class NodeRow:
    member: str
    node: str
    credential: bytes
    state: str
    last_seen: float


@dataclass(frozen=True, slots=True)
class JobRow:
    digest: str
    sequence: int
    name: str
    state: str
    reason: str
    manifest: bytes
    submitted: float
    rounds_closed: int
    roster: tuple[str, ...]
    epoch: int
    withdrawal: bytes | None
    release: str


@dataclass(frozen=True, slots=True)
class ConsentRow:
    member: str
    node: str
    state: str
    reasons: tuple[str, ...]
    envelope: bytes


@dataclass(frozen=True, slots=True)
class LineRow:
    sequence: int
    time: float
    member: str
    text: str


def _job(row: Any) -> JobRow:
    return JobRow(**{**row._mapping, "roster": tuple(json.loads(row.roster))})


class Database:
    """``with database.transaction() as change:`` commits at the end, or rolls everything back."""

    def __init__(
        self, place: Path | ServerUrl, *, sole: bool = False, lost: Callable[[Unavailable], object] | None = None
    ) -> None:
        """Opens it, and brings its schema up to date.

        ``sole``: as the coordinator that runs; a database has one (a file is locked by its home). ``lost`` is told when the
        connection to a server is gone, in place of the error: what was being written may be there or not, so that whoever has
        memories of it must begin anew. Raises InvalidUsage, also for a database whose state went on elsewhere and for one that a
        newer version has made, or Unavailable for a server that does not answer.
        """
        self._turn = threading.RLock()
        self._place, self._lost = place, lost
        self._engine = engine_of(place)
        try:
            if sole and isinstance(place, ServerUrl):
                be_sole(self._engine, place)
            with self._engine.begin() as connection:
                if isinstance(place, ServerUrl):
                    check_server(connection, place)
                check_schema(connection, place)
                config = Config()
                config.set_main_option("script_location", "coordinator.store:migrations")
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                refuse_moved(connection, place)
        except sa.exc.DBAPIError as error:
            self.close()
            raise unopened(error, place) from error
        except BaseException:
            self.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator[Change]:
        """Not to be nested: what is needed inside is read inside. Raises Unavailable when the connection to a server is gone."""
        with self._turn:
            try:
                with self._engine.begin() as connection:
                    change = Change(connection)
                    yield change
                    change.log.settle()
            except (sa.exc.DBAPIError, AnotherSession) as error:
                if isinstance(error, sa.exc.DBAPIError) and not error.connection_invalidated:
                    raise
                gone = Unavailable(
                    f"The connection to the database {self._place} is gone.",
                    hint="Is the server running, and is it named itself, with no pooler between? Start the coordinator again; "
                    "what it has promised is kept.",
                )
                if self._lost is not None:
                    self._lost(gone)
                raise gone from error

    def answers(self) -> bool:
        """Whether the database can be read."""
        try:
            with self.transaction() as change:
                change.roll()
        except (sa.exc.SQLAlchemyError, Unavailable):
            return False
        return True

    def __str__(self) -> str:
        return str(self._place)

    def close(self) -> None:
        self._engine.dispose()


class Change:
    """Reads and writes of one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = self.connection = connection
        self.log = LogRows(connection)
        self.halts = HaltRows(connection)
        self.assembly = AssemblyRows(connection)
        self.releases = ReleaseRows(connection)
        self.studies = StudyRows(connection)

    def audit(self, now: float, kind: str, subject: str, data: bytes = b"", *, digest: bytes = b"") -> None:
        """Writes down what this transaction does: for the coordinator with its document, and in the public log by its digest.

        ``digest`` in place of ``data``: of a document that is not kept here, since it may be withdrawn.

        ``kind`` and ``subject`` as ``federation.audit.entry`` has them; raises InvalidUsage for others.
        """
        named = digest or hashlib.sha256(data).digest()
        values = {"time": now, "kind": kind, "subject": subject, "digest": named, "payload": data}
        self._connection.execute(_AUDIT, values)
        if kind not in UNLOGGED:
            self.log.append(entry_of(kind, subject, named if data or digest else None, now))

    def document(self, digest: bytes) -> tuple[str, bytes] | None:
        """(kind, bytes) of a document that the log names."""
        table = tables.audit_entries
        row = self._connection.execute(sa.select(table).where(table.c.digest == digest).limit(1)).one_or_none()
        return None if row is None or not row.payload else (row.kind, row.payload)

    def mark_moved(self, place: str, now: float) -> None:
        """From now on no coordinator starts on this database: its state goes on in ``place``."""
        self._upsert(tables.moved, {"id": 1}, {"place": place, "time": now})

    # ------------------------------------------------------------------------------------------ federation and nodes

    def roll(self) -> bytes | None:
        return self._connection.execute(sa.select(tables.federation.c.roll)).scalar()

    def set_roll(self, roll: bytes) -> None:
        self._upsert(tables.federation, {"id": 1}, {"roll": roll})

    def add_ticket(self, ticket: TicketRow) -> None:
        values = {name: getattr(ticket, name) for name in TicketRow.__slots__}
        self._connection.execute(sa.insert(tables.tickets).values(values))

    def ticket(self, identifier: str) -> TicketRow | None:
        row = self._connection.execute(sa.select(tables.tickets).where(tables.tickets.c.id == identifier)).one_or_none()
        return TicketRow(**row._mapping) if row else None

    def use_ticket(self, identifier: str, now: float) -> bool:
        """Whether this call used it up: false when it was used before."""
        table = tables.tickets
        result = self._connection.execute(
            sa.update(table).where(table.c.id == identifier, table.c.used.is_(None)).values(used=now)
        )
        return result.rowcount == 1

    def put_node(self, node: NodeRow) -> None:
        self._upsert(
            tables.nodes,
            {"member": node.member, "node": node.node},
            {"credential": node.credential, "state": node.state, "last_seen": node.last_seen},
        )

    def node(self, member: str, node: str) -> NodeRow | None:
        table = tables.nodes
        query = sa.select(table).where(table.c.member == member, table.c.node == node)
        row = self._connection.execute(query).one_or_none()
        return NodeRow(**row._mapping) if row else None

    def see_node(self, member: str, node: str, state: str, now: float) -> None:
        """Its stream opened (active) or ended (enrolled). What was suspended or revoked stays so."""
        table = tables.nodes
        standing = sa.case((table.c.state.in_(("enrolled", "active")), state), else_=table.c.state)
        where = (table.c.member == member, table.c.node == node)
        self._connection.execute(sa.update(table).where(*where).values(state=standing, last_seen=now))

    def nodes(self) -> tuple[NodeRow, ...]:
        query = sa.select(tables.nodes).order_by(tables.nodes.c.member, tables.nodes.c.node)
        return tuple(NodeRow(**row._mapping) for row in self._connection.execute(query))

    def put_catalogue(self, member: str, node: str, sequence: int, envelope: bytes) -> None:
        self._upsert(tables.catalogues, {"member": member, "node": node}, {"sequence": sequence, "envelope": envelope})

    def catalogue(self, member: str, node: str) -> tuple[int, bytes] | None:
        """Its sequence, and its envelope."""
        table = tables.catalogues
        query = sa.select(table.c.sequence, table.c.envelope).where(table.c.member == member, table.c.node == node)
        row = self._connection.execute(query).one_or_none()
        return (row.sequence, row.envelope) if row else None

    def catalogues(self) -> tuple[tuple[NodeRow, bytes], ...]:
        """Each enrolled node that has published something, with its catalogue's envelope; by member and node."""
        held, nodes = tables.catalogues, tables.nodes
        joined = sa.join(held, nodes, (held.c.member == nodes.c.member) & (held.c.node == nodes.c.node))
        query = sa.select(nodes, held.c.envelope).select_from(joined).order_by(nodes.c.member, nodes.c.node)
        return tuple(
            (NodeRow(row.member, row.node, row.credential, row.state, row.last_seen), row.envelope)
            for row in self._connection.execute(query)
        )

    # ----------------------------------------------------------------------------------------------------------- jobs

    def add_job(self, digest: str, name: str, manifest: bytes, now: float) -> None:
        count = self._connection.execute(sa.select(sa.func.count()).select_from(tables.jobs)).scalar_one()
        self._connection.execute(
            sa.insert(tables.jobs).values(
                digest=digest, sequence=count + 1, name=name, state="submitted", reason="", manifest=manifest, submitted=now,
                rounds_closed=0, roster="[]", epoch=0, withdrawal=None, release="",
            )
        )  # fmt: skip

    def update_job(self, digest: str, **values: Any) -> None:
        if "roster" in values:
            values["roster"] = json.dumps(list(values["roster"]))
        self._connection.execute(sa.update(tables.jobs).where(tables.jobs.c.digest == digest).values(**values))

    def jobs(self) -> tuple[JobRow, ...]:
        rows = self._connection.execute(sa.select(tables.jobs).order_by(tables.jobs.c.sequence))
        return tuple(_job(row) for row in rows)

    def job(self, digest: str) -> JobRow | None:
        row = self._connection.execute(sa.select(tables.jobs).where(tables.jobs.c.digest == digest)).one_or_none()
        return _job(row) if row else None

    def find_jobs(self, name: str, prefix: str) -> tuple[JobRow, ...]:
        """The newest job of that name; else those whose digest begins with ``prefix`` (hex digits), if there is one."""
        table = tables.jobs
        named = sa.select(table).where(table.c.name == name).order_by(table.c.sequence.desc()).limit(1)
        found = self._connection.execute(named).all()
        if not found and prefix:
            found = self._connection.execute(sa.select(table).where(table.c.digest.startswith(prefix))).all()
        return tuple(_job(row) for row in found)

    def put_consent(self, job: str, consent: ConsentRow) -> None:
        self._upsert(
            tables.consents,
            {"job": job, "member": consent.member, "node": consent.node},
            {"state": consent.state, "reasons": json.dumps(list(consent.reasons)), "envelope": consent.envelope},
        )

    def consents(self, job: str) -> tuple[ConsentRow, ...]:
        table = tables.consents
        rows = self._connection.execute(
            sa.select(table).where(table.c.job == job).order_by(table.c.member, table.c.node)
        )
        return tuple(
            ConsentRow(row.member, row.node, row.state, tuple(json.loads(row.reasons)), row.envelope) for row in rows
        )

    def place(self, job: str, nodes: Sequence[tuple[str, str]]) -> None:
        """In place of whatever was decided before."""
        table = tables.placements
        self._connection.execute(sa.delete(table).where(table.c.job == job))
        for member, node in nodes:
            self._connection.execute(sa.insert(table).values(job=job, member=member, node=node))

    def placement(self, job: str) -> tuple[tuple[str, str], ...]:
        table = tables.placements
        rows = self._connection.execute(sa.select(table).where(table.c.job == job).order_by(table.c.member))
        return tuple((row.member, row.node) for row in rows)

    # --------------------------------------------------------------------------------------------------------- rounds

    def put_round(self, job: str, number: int, attempt: int, view: bytes) -> None:
        self._upsert(tables.rounds, {"job": job, "round": number, "attempt": attempt}, {"view": view})

    def rounds(self, job: str, newest: int = -1) -> tuple[bytes, ...]:
        """The views of a job's attempts, in order; the ``newest`` so many, or all."""
        table = tables.rounds
        order = (table.c.round.desc(), table.c.attempt.desc())
        query = sa.select(table.c.view).where(table.c.job == job).order_by(*order).limit(None if newest < 0 else newest)
        return tuple(self._connection.execute(query).scalars())[::-1]

    def put_evidence(self, job: str, kind: str, number: int, data: bytes) -> None:
        self._upsert(tables.evidence, {"job": job, "kind": kind, "number": number}, {"data": data})

    def evidence(self, job: str) -> Mapping[tuple[str, int], bytes]:
        rows = self._connection.execute(sa.select(tables.evidence).where(tables.evidence.c.job == job))
        return {(row.kind, row.number): row.data for row in rows}

    def pieces(self, job: str, kind: str) -> tuple[bytes, ...]:
        """All pieces of one kind of evidence, in order."""
        table = tables.evidence
        query = sa.select(table.c.data).where(table.c.job == job, table.c.kind == kind).order_by(table.c.number)
        return tuple(self._connection.execute(query).scalars())

    def piece(self, job: str, kind: str, number: int) -> bytes | None:
        """One piece of evidence."""
        table = tables.evidence
        where = (table.c.job == job, table.c.kind == kind, table.c.number == number)
        return self._connection.execute(sa.select(table.c.data).where(*where)).scalar()

    def add_events(self, job: str, rows: Sequence[tuple[int, float, bytes]]) -> None:
        """(sequence, time, event)"""
        if rows:
            values = [{"job": job, "sequence": number, "time": time, "data": data} for number, time, data in rows]
            self._connection.execute(_EVENT, values)

    def events(self, job: str) -> tuple[tuple[int, float, bytes], ...]:
        table = tables.events
        rows = self._connection.execute(sa.select(table).where(table.c.job == job).order_by(table.c.sequence))
        return tuple((row.sequence, row.time, row.data) for row in rows)

    def set_checkpoint(self, job: str, data: bytes) -> None:
        """The events so far are in it and are dropped."""
        self._upsert(tables.checkpoints, {"job": job}, {"data": data})
        self._connection.execute(sa.delete(tables.events).where(tables.events.c.job == job))

    def put_update(self, job: str, context: bytes, member: str, data: bytes) -> None:
        """A small masked update, until its attempt is over."""
        self._upsert(tables.updates, {"job": job, "context": context, "member": member}, {"data": data})

    def updates(self, job: str) -> dict[tuple[bytes, str], bytes]:
        table = tables.updates
        rows = self._connection.execute(sa.select(table).where(table.c.job == job))
        return {(row.context, row.member): row.data for row in rows}

    def drop_updates(self, job: str, context: bytes) -> None:
        table = tables.updates
        self._connection.execute(sa.delete(table).where(table.c.job == job, table.c.context == context))

    def checkpoint(self, job: str) -> bytes | None:
        table = tables.checkpoints
        return self._connection.execute(sa.select(table.c.data).where(table.c.job == job)).scalar()

    # ------------------------------------------------------------------------------------------------------- misconduct

    def misconduct(self) -> Iterator[tuple[float, str, bytes]]:
        """(time, "job member check", signed bytes) of each refusal that has evidence, oldest first."""
        table = tables.audit_entries
        query = sa.select(table).where(table.c.kind == "misconduct", sa.func.length(table.c.payload) > 0)
        for row in self._connection.execute(query.order_by(table.c.sequence)):
            yield row.time, row.subject, row.payload

    # ---------------------------------------------------------------------------------------------------------- story

    def add_line(self, job: str, now: float, text: str, member: str = "") -> None:
        self._connection.execute(_LINE, {"job": job, "time": now, "member": member, "text": text[:2000]})

    def lines(self, job: str, after: int = 0) -> tuple[LineRow, ...]:
        table = tables.lines
        query = sa.select(table).where(table.c.job == job, table.c.sequence > after).order_by(table.c.sequence.desc())
        rows = self._connection.execute(query.limit(LINES_SHOWN)).all()
        return tuple(LineRow(row.sequence, row.time, row.member, row.text) for row in reversed(rows))

    def _upsert(self, table: sa.Table, keys: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        put(self._connection, table, keys, values)
