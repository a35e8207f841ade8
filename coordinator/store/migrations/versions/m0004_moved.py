"""The mark of a database whose state went on elsewhere. Only a new table: those of before stay as they are."""

import sqlalchemy as sa
from alembic import op

from coordinator.store.tables import metadata, moved
from federation.errors import InvalidUsage

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    metadata.create_all(op.get_bind(), tables=[moved], checkfirst=True)


def downgrade() -> None:
    """The empty table does no harm, and stays. Raises InvalidUsage for a database that is marked: the older version would start."""
    if op.get_bind().execute(sa.select(sa.literal(1)).select_from(moved).limit(1)).first():
        raise InvalidUsage(
            "The database cannot go back to version 3: its state went on elsewhere.", hint="Go on with the other one."
        )
