"""Alembic migrations of the coordinator's database, run at start."""
