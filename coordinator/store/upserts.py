"""Rows that are written over: INSERT ... ON CONFLICT, which both engines have and SQLAlchemy spells for each."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

Insert = sqlite.Insert | postgresql.Insert


def put(connection: sa.Connection, table: sa.Table, keys: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Writes the row, over the one with these ``keys`` if there is one."""
    statement = _statement(connection.dialect.name, table, tuple(keys), tuple(values))
    connection.execute(statement, {**keys, **values})


def put_first(connection: sa.Connection, table: sa.Table, keys: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Writes the row unless there is one with these ``keys``; whether it was written."""
    statement = _statement(connection.dialect.name, table, tuple(keys), ())
    # Of an INSERT the count is dropped unless it is asked for.
    done = connection.execute(statement, {**keys, **values}, execution_options={"preserve_rowcount": True})
    return done.rowcount == 1


@lru_cache(maxsize=128)
def _statement(dialect: str, table: sa.Table, keys: tuple[str, ...], values: tuple[str, ...]) -> Insert:
    """Made once: SQLAlchemy takes longer to build a statement than SQLite to run it."""
    statement: Insert = postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
    if not values:
        return statement.on_conflict_do_nothing(index_elements=list(keys))
    return statement.on_conflict_do_update(
        index_elements=list(keys), set_={name: statement.excluded[name] for name in values}
    )
