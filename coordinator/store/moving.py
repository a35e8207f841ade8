"""All of a coordinator's state from one database to another, of either engine: copied in one transaction, read back, compared.

The order is what a crash at any moment relies on. The copy is committed only when every table of it has as many rows and the same
digest as the original, and its log the same root, hashed anew from the entries. Then the original is marked as moved, and no
coordinator starts on it any more; nothing else of it is changed. A run that was cut off between the two finds a whole copy, and
marks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from coordinator.store import tables
from coordinator.store.database import Database
from federation.audit.tree import Frontier, leaf_hash
from federation.errors import InvalidUsage

ROWS: Final = 500
ROOM: Final = 8 << 20
"""bytes of rows that are in memory at once, and the largest single row beside"""
STATE: Final[tuple[sa.Table, ...]] = tuple(
    table for table in tables.metadata.sorted_tables if table.name != tables.moved.name
)
"""in the order in which foreign keys let them be filled"""


@dataclass(frozen=True, slots=True)
class Content:
    rows: int
    digest: bytes
    """SHA-256 over the rows by primary key: the same on both engines"""


@dataclass(frozen=True, slots=True)
class Account:
    """What a database holds."""

    contents: dict[str, Content]
    entries: int
    root: bytes
    """of the public log, hashed anew"""
    federation_has_roll: bool


def move(source: Database, target: Database, now: float, say: Callable[[str], None] = lambda _line: None) -> Account:
    """Copies ``source`` into ``target``, which holds nothing, and marks ``source``. Both are opened ``sole``.

    Raises InvalidUsage when there is nothing to move, when ``target`` holds anything but a whole copy, when the log of ``source``
    is damaged, or when the copy is not the original: then nothing is left in ``target``.
    """
    with source.transaction() as reading:
        before = account(reading.connection)
        if not before.federation_has_roll:
            raise InvalidUsage(
                "There is nothing to move: this database holds no roll.", hint="Name the new one at once."
            )
        with target.transaction() as writing:
            held = _filled(writing.connection)
            if held:
                if account(writing.connection) != before:
                    raise InvalidUsage(
                        f"The new database is not empty: {', '.join(held[:5])} hold rows.",
                        hint="Name one that was just made. Nothing was changed.",
                    )
                say("the copy is there already, whole")
            else:
                for table in STATE:
                    _copy(reading.connection, writing.connection, table)
                    if before.contents[table.name].rows:
                        say(f"{table.name}: {before.contents[table.name].rows} rows")
                if account(writing.connection) != before:
                    raise InvalidUsage(
                        "What was written into the new database is not what was read: it was taken back.",
                        hint="Is something else writing there? Nothing was changed; try again with a database of its own.",
                    )
    with source.transaction() as marking:
        marking.mark_moved(str(target), now)
    return before


def account(connection: sa.Connection) -> Account:
    """Raises InvalidUsage where the log's state is not that of its entries."""
    contents = {table.name: _content(connection, table) for table in STATE}
    grown = Frontier()
    for (entry,) in _rows(connection, sa.select(tables.log_entries.c.entry).order_by(tables.log_entries.c.number)):
        grown = grown.append(leaf_hash(entry))
    state = connection.execute(sa.select(tables.log_state)).one_or_none()
    kept = Frontier() if state is None else Frontier.decode(state.size, state.peaks)
    head = connection.execute(
        sa.select(tables.log_heads).order_by(tables.log_heads.c.size.desc()).limit(1)
    ).one_or_none()
    if (kept.size, kept.root()) != (grown.size, grown.root()) or (head is not None and head.size > grown.size):
        raise InvalidUsage(
            f"The public log says that it has {max(kept.size, 0 if head is None else head.size)} entries, and the "
            f"{grown.size} that are there are not those.",
            hint="Nothing was changed. Restore the newest backup first: concord-coordinator doctor says more.",
        )
    return Account(contents, grown.size, grown.root(), contents[tables.federation.name].rows > 0)


def _filled(connection: sa.Connection) -> list[str]:
    return [
        table.name
        for table in STATE
        if connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first()
    ]


def _ordered(table: sa.Table) -> sa.Select[Any]:
    return sa.select(table).order_by(*table.primary_key.columns)


def _rows(connection: sa.Connection, query: sa.Select[Any]) -> Iterator[Sequence[Any]]:
    """One after the other, a few in memory."""
    few = {"stream_results": True, "max_row_buffer": ROWS}
    with connection.execute(query, execution_options=few) as result:
        yield from result


def _content(connection: sa.Connection, table: sa.Table) -> Content:
    count, hasher = 0, hashlib.sha256()
    for row in _rows(connection, _ordered(table)):
        count += 1
        for value in row:
            kind, data = _plainly(value)
            hasher.update(kind + len(data).to_bytes(8) + data)
    return Content(count, hasher.digest())


def _plainly(value: Any) -> tuple[bytes, bytes]:
    """One spelling of a value, whichever engine it came from."""
    match value:
        case None:
            return b"n", b""
        case bytes() | memoryview():
            return b"b", bytes(value)
        case str():
            return b"s", value.encode()
        case float():
            return b"f", value.hex().encode()
        case int():
            return b"i", str(value).encode()
    raise InvalidUsage(
        f"The database holds what no coordinator wrote: a {type(value).__name__}.", hint="Restore it from a backup."
    )


def _copy(source: sa.Connection, target: sa.Connection, table: sa.Table) -> None:
    batch: list[dict[str, Any]] = []
    held = 0
    for row in _rows(source, _ordered(table)):
        batch.append(dict(zip(table.columns.keys(), row, strict=True)))
        held += sum(len(value) for value in row if isinstance(value, bytes | str))
        if len(batch) >= ROWS or held >= ROOM:
            target.execute(sa.insert(table), batch)
            batch, held = [], 0
    if batch:
        target.execute(sa.insert(table), batch)
    counter = table.autoincrement_column
    if target.dialect.name == "postgresql" and counter is not None:
        # Rows that bring their numbers leave the server's counter where it was: at the first.
        newest = target.execute(sa.select(sa.func.max(counter))).scalar()
        sequence = target.execute(sa.select(sa.func.pg_get_serial_sequence(table.name, counter.name))).scalar()
        if newest is not None and sequence is not None:
            target.execute(sa.select(sa.func.setval(sequence, newest)))
