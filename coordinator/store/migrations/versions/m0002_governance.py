"""The tables of version 2: the public log, and what governance keeps. Only new ones, so those of version 1 stay as they are.

A log begins empty: what a coordinator of version 1 did is in its own ``audit_entries``, and was never witnessed.
"""

import sqlalchemy as sa
from alembic import op

from coordinator.store.tables import metadata
from federation.errors import InvalidUsage

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

VERSION_1 = frozenset({
    "federation", "tickets", "nodes", "jobs", "consents", "placements", "rounds", "evidence", "events", "updates", "checkpoints",
    "lines", "audit_entries",
})  # fmt: skip


def upgrade() -> None:
    connection = op.get_bind()
    metadata.create_all(connection, checkfirst=True)
    for table in metadata.sorted_tables:
        present = {index["name"] for index in sa.inspect(connection).get_indexes(table.name)}
        for index in table.indexes:
            if index.name not in present:
                index.create(connection)


def downgrade() -> None:
    """Drops the tables of version 2 while nothing is in them; the index on a table of version 1 does no harm there, and stays.

    Raises InvalidUsage otherwise: nodes have cosigned the log, and votes, halts and releases stand in it. None of it is taken back.
    """
    connection = op.get_bind()
    own = [table for table in metadata.sorted_tables if table.name not in VERSION_1]
    present = set(sa.inspect(connection).get_table_names())
    filled = [
        table.name
        for table in own
        if table.name in present and connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first()
    ]
    if filled:
        raise InvalidUsage(
            f"The database cannot go back to version 1: {', '.join(filled)} hold what nodes have witnessed.",
            hint="Go on with this version. A copy of the database from before the update is a log that took entries back: every "
            "node that has seen the log would stop.",
        )
    for table in reversed(own):
        table.drop(connection, checkfirst=True)
