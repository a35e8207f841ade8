"""The schema. A change of state and its audit entry are always written in one transaction.

One schema for both engines: whole numbers have 64 bits and texts any length, as SQLite has them whatever is declared; texts are
compared and sorted byte by byte.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, Float, ForeignKey, Index, LargeBinary, MetaData, Table
from sqlalchemy.types import TypeEngine

metadata = MetaData()

Integer = sa.Integer().with_variant(BigInteger(), "postgresql")


class String(sa.types.TypeDecorator[str]):
    """A text. PostgreSQL knows no NUL in one: U+FFFD stands in its place, so that what a peer wrote is no error of ours."""

    impl = sa.String
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(sa.Text(collation="C") if dialect.name == "postgresql" else self.impl_instance)

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        return value if value is None else value.replace("\x00", "\ufffd")


class Text(String):
    impl = sa.Text
    cache_ok = True


federation = Table(
    "federation",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("roll", LargeBinary, nullable=False),
)

tickets = Table(
    "tickets",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("member", String(63), nullable=False),
    Column("node", String(63), nullable=False),
    Column("name", String(63), nullable=False),
    Column("token_hash", LargeBinary, nullable=False),
    Column("expires", Float, nullable=False),
    Column("used", Float),
)

nodes = Table(
    "nodes",
    metadata,
    Column("member", String(63), primary_key=True),
    Column("node", String(63), primary_key=True),
    Column("credential", LargeBinary, nullable=False),
    Column("state", String(16), nullable=False),
    Column("last_seen", Float, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("sequence", Integer, nullable=False),
    Column("name", String(63), nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("manifest", LargeBinary, nullable=False),
    Column("submitted", Float, nullable=False),
    Column("rounds_closed", Integer, nullable=False),
    Column("roster", Text, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("withdrawal", LargeBinary),
    Column("release", Text, nullable=False),
)

consents = Table(
    "consents",
    metadata,
    Column("job", ForeignKey("jobs.digest"), primary_key=True),
    Column("member", String(63), primary_key=True),
    Column("node", String(63), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("reasons", Text, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
)

placements = Table(
    "placements",
    metadata,
    Column("job", ForeignKey("jobs.digest"), primary_key=True),
    Column("member", String(63), primary_key=True),
    Column("node", String(63), nullable=False),
)

rounds = Table(
    "rounds",
    metadata,
    Column("job", ForeignKey("jobs.digest"), primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("view", LargeBinary, nullable=False),
)

evidence = Table(
    "evidence",
    metadata,
    Column("job", ForeignKey("jobs.digest"), primary_key=True),
    Column("kind", String(24), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("job", ForeignKey("jobs.digest"), primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("time", Float, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

updates = Table(
    "updates",
    metadata,
    Column("job", ForeignKey("jobs.digest"), primary_key=True),
    Column("context", LargeBinary, primary_key=True),
    Column("member", String(63), primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("job", ForeignKey("jobs.digest"), primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

lines = Table(
    "lines",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("job", String(64), nullable=False, index=True),
    Column("time", Float, nullable=False),
    Column("member", String(63), nullable=False),
    Column("text", Text, nullable=False),
)

audit_entries = Table(
    "audit_entries",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("time", Float, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("subject", String(200), nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("payload", LargeBinary, nullable=False),
)

Index("audit_entries_by_digest", audit_entries.c.digest)

log_entries = Table(
    "log_entries",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("entry", LargeBinary, nullable=False),
    Column("document", LargeBinary, index=True),
)
"""the public log (federation.audit): one row for each leaf, never changed"""

log_state = Table(
    "log_state",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("peaks", LargeBinary, nullable=False),
)
"""what is needed to append"""

log_tiles = Table(
    "log_tiles",
    metadata,
    Column("level", Integer, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("hashes", LargeBinary, nullable=False),
    Column("root", LargeBinary, nullable=False),
)
"""full tiles alone: written once"""

log_heads = Table(
    "log_heads",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("root", LargeBinary, nullable=False),
    Column("note", LargeBinary, nullable=False),
)
"""heads that were signed and shown, the newest some hundred"""

log_cosignatures = Table(
    "log_cosignatures",
    metadata,
    Column("size", BigInteger, primary_key=True),
    Column("witness", String(127), primary_key=True),
    Column("line", LargeBinary, nullable=False),
)

catalogues = Table(
    "catalogues",
    metadata,
    Column("member", String(63), primary_key=True),
    Column("node", String(63), primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
)
"""the newest catalogue of each node; what it no longer holds is not kept"""

halts = Table(
    "halts",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("order", LargeBinary, nullable=False),
    Column("lift", LargeBinary),
    Column("receipt", LargeBinary),
    Column("received", Float, nullable=False),
)

halt_answers = Table(
    "halt_answers",
    metadata,
    Column("halt", LargeBinary, primary_key=True),
    Column("member", String(63), primary_key=True),
    Column("node", String(63), primary_key=True),
    Column("acknowledgement", LargeBinary, nullable=False),
    Column("heard", Float, nullable=False),
)

proposals = Table(
    "proposals",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("envelope", LargeBinary, nullable=False),
    Column("draft", LargeBinary, nullable=False),
    Column("received", Float, nullable=False),
)
"""what members decide on; ``draft``: the roll that would come into force, where it is about one"""

ballots = Table(
    "ballots",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("proposal", LargeBinary, nullable=False, index=True),
    Column("member", String(63), nullable=False),
    Column("choice", String(16), nullable=False),
    Column("envelope", LargeBinary, nullable=False),
)

roll_holders = Table(
    "roll_holders",
    metadata,
    Column("member", String(63), primary_key=True),
    Column("node", String(63), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("statement", LargeBinary, nullable=False),
)
"""which roll each node has said, signed, that it holds"""

releases = Table(
    "releases",
    metadata,
    Column("job", ForeignKey("jobs.digest"), primary_key=True),
    Column("subject", LargeBinary, nullable=False, index=True),
    Column("state", String(16), nullable=False),
    Column("evidence", String(64), nullable=False),
    Column("decision", LargeBinary, nullable=False),
    Column("roll", LargeBinary, nullable=False),
    Column("recall", LargeBinary, nullable=False),
)

studies = Table(
    "studies",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("name", String(63), nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("submitted", Float, nullable=False),
)

study_answers = Table(
    "study_answers",
    metadata,
    Column("study", ForeignKey("studies.digest"), primary_key=True),
    Column("member", String(63), primary_key=True),
    Column("node", String(63), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("reasons", Text, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
)

moved = Table(
    "moved",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("place", Text, nullable=False),
    Column("time", Float, nullable=False),
)
"""one row where the state goes on in another database: no coordinator starts on this one any more"""
