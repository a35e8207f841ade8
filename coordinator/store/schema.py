"""Which schema a database has, and whether it is one of ours at all."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from coordinator.store import tables
from coordinator.store.engines import ServerUrl
from federation.errors import InvalidUsage


@cache
def versions() -> tuple[str, ...]:
    """Those that this version knows, the newest first."""
    config = Config()
    config.set_main_option("script_location", "coordinator.store:migrations")
    return tuple(each.revision for each in ScriptDirectory.from_config(config).walk_revisions())


def check_schema(connection: sa.Connection, place: Path | ServerUrl) -> str | None:
    """The schema's version; None for a database in which nothing is. Raises InvalidUsage for one that is not ours, or too new."""
    held = MigrationContext.configure(connection).get_current_heads()
    if len(held) > 1 or (held and held[0] not in versions()):
        raise InvalidUsage(
            f"The database {place} was made by a newer version of Concord, or by something else: its schema is {', '.join(held)}.",
            hint=f"Start the version that made it (this one knows {versions()[0]}), or name a database of Concord's own.",
        )
    if not held:
        present = set(sa.inspect(connection).get_table_names()) & set(tables.metadata.tables)
        if present:
            raise InvalidUsage(
                f"The database {place} holds tables of something else: {', '.join(sorted(present)[:5])}.",
                hint="Name a database of Concord's own.",
            )
    return held[0] if held else None


def refuse_moved(connection: sa.Connection, place: Path | ServerUrl) -> None:
    """Raises InvalidUsage for a database whose state went on elsewhere. Its schema is the newest."""
    moved = connection.execute(sa.select(tables.moved)).one_or_none()
    if moved is not None:
        when = datetime.fromtimestamp(moved.time, UTC)
        raise InvalidUsage(
            f"The coordinator's state is no longer in {place}: on {when:%Y-%m-%d %H:%M} UTC it was moved to {moved.place}.",
            hint="Name that one in the settings (database), or move it from there into an empty one: concord-coordinator database "
            "move. What was signed since is not here, and nodes would take it for a rollback.",
        )
