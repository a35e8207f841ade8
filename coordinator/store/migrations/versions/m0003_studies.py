"""The tables of studies. Only new ones: those of before stay as they are."""

import sqlalchemy as sa
from alembic import op

from coordinator.store.tables import metadata, studies, study_answers
from federation.errors import InvalidUsage

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    metadata.create_all(op.get_bind(), tables=[studies, study_answers], checkfirst=True)


def downgrade() -> None:
    """Drops the tables while nothing is in them. Raises InvalidUsage otherwise: members have answered, and the log has it."""
    connection = op.get_bind()
    present = studies.name in sa.inspect(connection).get_table_names()
    if present and connection.execute(sa.select(sa.literal(1)).select_from(studies).limit(1)).first():
        raise InvalidUsage(
            "The database cannot go back to version 2: studies hold what members have answered.",
            hint="Go on with this version.",
        )
    for table in (study_answers, studies):
        table.drop(connection, checkfirst=True)
