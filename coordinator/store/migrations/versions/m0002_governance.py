"""The tables of version 2: the public log, and what governance keeps. Only new ones, so those of version 1 stay as they are.

A log begins empty: what a coordinator of version 1 did is in its own ``audit_entries``, and was never witnessed.
"""

import sqlalchemy as sa
from alembic import op

from coordinator.store.tables import metadata

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    metadata.create_all(connection, checkfirst=True)
    for table in metadata.sorted_tables:
        present = {index["name"] for index in sa.inspect(connection).get_indexes(table.name)}
        for index in table.indexes:
            if index.name not in present:
                index.create(connection)


def downgrade() -> None:
    raise NotImplementedError("A log that nodes have witnessed is not taken back.")
