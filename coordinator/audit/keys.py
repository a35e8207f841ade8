"""The log's own key: Ed25519, mode 0600, made once. A log that has shown heads is never signed with another."""

from __future__ import annotations

from coordinator.settings import Home, write_private
from coordinator.store.database import Database
from federation.audit.checkpoint import log_key
from federation.errors import InvalidUsage
from federation.identity.keys import SigningKey


def log_signer(home: Home, federation: str, database: Database) -> SigningKey:
    """Reads the key, or makes it for a log that nobody has seen. Raises InvalidUsage when it is missing, or others may read it."""
    if not home.key("log").exists():
        with database.transaction() as change:
            if change.log.shown():
                raise InvalidUsage(
                    f"The key of the public log, {home.key('log')}, is missing, and nodes have seen heads signed with it.",
                    hint="Restore it from a backup. With another key every node would stop, as it should.",
                )
        write_private(home.key("log"), SigningKey.generate().to_pem())
    key = SigningKey.from_pem(home.read_key("log"))
    write_private(home.log_key, f"{log_key(federation, key.public)}\n".encode(), replace=True)
    return key
