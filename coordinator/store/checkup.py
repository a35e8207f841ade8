"""A look at the database without changing it: which engine, which schema, what is in it, and whether its log is in one piece."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from coordinator.store import tables
from coordinator.store.engines import ServerUrl, check_server, engine_of, unopened
from coordinator.store.log import LogRows
from coordinator.store.schema import check_schema, refuse_moved, versions
from federation.audit.tree import Frontier, leaf_hash
from federation.errors import InvalidUsage

LOOKED_AT = 1000
"""entries of the log, the newest, that are hashed again"""


@dataclass(frozen=True, slots=True)
class Vitals:
    engine: str
    schema: str
    newest: str
    jobs: int
    entries: int
    root: bytes
    head: bytes | None
    """the newest head that was signed and shown, as it was signed"""
    head_size: int
    head_root: bytes
    roll: bytes | None = None
    """as its members signed it; None before the founding"""


def look(place: Path | ServerUrl) -> Vitals | None:
    """None where nothing was made yet. Raises InvalidUsage for a database that is damaged, Unavailable for one out of reach."""
    if isinstance(place, Path) and not place.exists():
        return None
    engine = engine_of(place)
    try:
        with engine.begin() as connection:
            if isinstance(place, Path) and (said := connection.exec_driver_sql("PRAGMA quick_check").scalar()) != "ok":
                raise InvalidUsage(f"{place} is damaged: {said}.", hint="Restore it from a backup.")
            if isinstance(place, ServerUrl):
                check_server(connection, place)
            schema, newest = check_schema(connection, place), versions()[0]
            if schema is None:
                return None
            if schema != newest:
                return Vitals(engine.dialect.name, schema, newest, 0, 0, b"", None, 0, b"")
            refuse_moved(connection, place)
            return _inside(connection, engine.dialect.name, schema, newest)
    except (TypeError, ValueError) as error:  # a text where bytes belong, say: somebody wrote beside us
        raise InvalidUsage(
            f"The database {place} holds what no coordinator wrote: {error}.", hint="Restore it from a backup."
        ) from error
    except sa.exc.DBAPIError as error:
        raise unopened(error, place) from error
    finally:
        engine.dispose()


def _inside(connection: sa.Connection, name: str, schema: str, newest: str) -> Vitals:
    jobs = connection.execute(sa.select(sa.func.count()).select_from(tables.jobs)).scalar_one()
    rows = LogRows(connection)
    frontier = rows.frontier()
    size = frontier.size
    numbers = connection.execute(
        sa.select(sa.func.count(), sa.func.max(tables.log_entries.c.number)).select_from(tables.log_entries)
    ).one()
    if tuple(numbers) != (size, size - 1 if size else None):
        raise InvalidUsage(
            f"The public log says that it has {size} entries, and {numbers[0]} are there.", hint="Restore a backup."
        )
    if 0 < size <= LOOKED_AT and _root_of(rows, size) != frontier.root():
        raise InvalidUsage(
            "The entries of the public log are not those that it was signed over.", hint="Restore a backup."
        )
    table = tables.log_heads
    head = connection.execute(sa.select(table).order_by(table.c.size.desc()).limit(1)).one_or_none()
    shown, shown_size, shown_root = (None, 0, b"") if head is None else (head.note, head.size, head.root)
    roll: bytes | None = connection.execute(sa.select(tables.federation.c.roll)).scalar()
    return Vitals(name, schema, newest, jobs, size, frontier.root(), shown, shown_size, shown_root, roll)


def _root_of(rows: LogRows, size: int) -> bytes:
    grown = Frontier()
    for number in range(size):
        grown = grown.append(leaf_hash(rows.entry(number)))
    return grown.root()
