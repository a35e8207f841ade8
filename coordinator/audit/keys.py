"""The log's own key: Ed25519, mode 0600, made once with the home. The members' charter names it, and only they name another.

A log that has shown heads under one key is signed with another only when the charter names that one: the coordinator has moved, its
database came along, and the tree goes on.
"""

from __future__ import annotations

import structlog

from coordinator.settings import Home, write_private
from coordinator.store.database import Change, Database
from coordinator.store.log import SignedHead
from federation.audit.checkpoint import (
    Checkpoint,
    Signer,
    VerifierKey,
    dated,
    log_key,
    open_head,
    origin_of,
    sign_head,
)
from federation.errors import InvalidUsage, VerificationFailed
from federation.identity.keys import SigningKey

log = structlog.get_logger()


def make_log_key(home: Home, federation: str) -> VerifierKey:
    """For a new home, so that the founding members can name the key before there is a roll; writes `log.key.pub`, too."""
    write_private(home.key("log"), SigningKey.generate().to_pem())
    return _published(home, federation, SigningKey.from_pem(home.read_key("log")))


def log_signer(home: Home, federation: str, database: Database, named: VerifierKey | None = None) -> SigningKey:
    """Reads the key, or makes it for a log that nobody has seen and nobody has named. ``named``: by the members' charter.

    Raises InvalidUsage when it is missing or readable by others, is not the one that is named, or is none under which this log may
    go on.
    """
    if not home.key("log").exists():
        with database.transaction() as change:
            if change.log.shown():
                raise InvalidUsage(
                    f"The key of the public log, {home.key('log')}, is missing, and nodes have seen heads signed with it.",
                    hint="Restore it from a backup. With another key every node would stop, as it should.",
                )
        if named is not None:
            raise InvalidUsage(
                f"The key of the public log, {home.key('log')}, is missing, and the members' charter names it: {named}.",
                hint="Restore it from a backup. If it is lost, the members name another by vote: concord propose coordinator.",
            )
        make_log_key(home, federation)
    key = SigningKey.from_pem(home.read_key("log"))
    check_named(_published(home, federation, key), named)
    with database.transaction() as change:
        _go_on(change, key, federation, named)
    return key


def check_named(key: VerifierKey, named: VerifierKey | None) -> None:
    """Raises InvalidUsage when the members' charter names another key than this coordinator's."""
    if named is not None and named != key:
        raise InvalidUsage(
            f"The members' charter names another key for the public log ({named}) than this coordinator's ({key}).",
            hint="No node would believe what it signs. Put the named key in place, or have the members name this one by vote: "
            "concord propose coordinator --log-key log.key.pub.",
        )


def _published(home: Home, federation: str, key: SigningKey) -> VerifierKey:
    public = log_key(federation, key.public)
    write_private(home.log_key, f"{public}\n".encode(), replace=True)
    return public


def _go_on(change: Change, key: Signer, federation: str, named: VerifierKey | None) -> None:
    """Signs the heads that are kept again where another key has signed them, each with the time that it had."""
    own = log_key(federation, key.public)
    foreign = [head for head in change.log.heads() if not _signed_by(head.note, own)]
    if foreign and named is None:
        raise InvalidUsage(
            f"The database holds heads of the public log that another key than this coordinator's ({own}) has signed.",
            hint="Restore keys/log.key from a backup; or have the members name this key by vote, and every node goes on with it.",
        )
    for head in foreign:
        checkpoint = Checkpoint(origin_of(federation), head.size, head.root)
        again = sign_head(checkpoint, key, dated(head.note, checkpoint.origin))
        change.log.put_head(SignedHead(head.size, head.root, again))
    if foreign:
        log.warning("log.key-changed", key=str(own), heads=len(foreign), detail="The members' charter names it.")


def _signed_by(note: bytes, key: VerifierKey) -> bool:
    try:
        open_head(note, key)
    except VerificationFailed:
        return False
    return True
