"""What this lab publishes of its data sets: one file each in the home's ``catalogue/``, and the whole, signed, beside them.

A person saw each of these files before it was written (``concord-node data publish``); the node signs and sends what is there and
nothing else. What a lab takes out is gone from the next catalogue. A running node notices either within seconds.
"""

from __future__ import annotations

import hashlib
import json
import os
from datetime import datetime
from pathlib import Path
from typing import Final

from federation.catalogue.entry import MAX_ENTRY, Entry, read_entry
from federation.catalogue.statement import LASTS, MAX_ENVELOPE, Catalogue, open_catalogue, seal_catalogue, statement_of
from federation.errors import InvalidIdentity, InvalidUsage, NotFound
from federation.identity.credential import NodeCredential
from federation.identity.keys import SigningKey
from node_agent.settings import Home
from node_agent.store.files import private_folder, sync_folder, write_whole

SIGNED: Final = "signed.json"
RENEW_AFTER: Final = LASTS / 3
NONE: Final = hashlib.sha256(b"concord/catalogue/none").digest()


def published(home: Home) -> tuple[Entry, ...]:
    """By name. Raises InvalidUsage for a file that is not one that ``publish`` wrote."""
    return tuple(_read(home, path) for path in sorted(_folder(home).glob("*.entry")))


def entry_published(home: Home, name: str) -> Entry | None:
    path = _file(home, name)
    return _read(home, path) if path.exists() else None


def publish(home: Home, entry: Entry) -> None:
    """From now on everybody in the federation may see ``entry``, which a person has seen."""
    private_folder(_folder(home))
    write_whole(_file(home, entry.name), entry.canonical)


def withdraw(home: Home, name: str) -> None:
    """Raises NotFound when it is not published."""
    try:
        _file(home, name).unlink()
    except FileNotFoundError:
        raise NotFound(f"{name} is not published.", hint="concord-node data list shows what is.") from None
    sync_folder(_folder(home))


def signed(
    home: Home, key: SigningKey, credential: NodeCredential, now: datetime, *, again: bool = False
) -> bytes | None:
    """The catalogue's envelope as it is to be shown now, signed anew where it must be; None when there never was one.

    Raises InvalidUsage or InvalidIdentity when what is there cannot be published.
    """
    path = _folder(home) / SIGNED
    entries = published(home)
    last, envelope = _last(home, path, credential, now)
    if last is None and not entries:
        return None
    if not again and last is not None and last.entries == entries and now - last.issued < RENEW_AFTER:
        return envelope
    # The time in seconds goes on where a lost file would begin anew.
    sequence = max(last.sequence + 1 if last is not None else 1, int(now.timestamp()))
    fresh = seal_catalogue(statement_of(credential, sequence, now, entries), key)
    private_folder(path.parent)
    write_whole(path, fresh)
    return fresh


def stamp(home: Home) -> tuple[tuple[str, int, int], ...]:
    """Changes when a file of the folder does: to look costs nothing, to sign does."""
    try:
        with os.scandir(_folder(home)) as found:
            seen = [(each.name, each.stat()) for each in found]
    except FileNotFoundError:
        return ()
    return tuple(sorted((name, status.st_mtime_ns, status.st_size) for name, status in seen))


def catalogue_digest(home: Home) -> bytes:
    """Of what this lab publishes now, 32 bytes; ``NONE`` when it publishes nothing."""
    entries = published(home)
    if not entries:
        return NONE
    return hashlib.sha256(b"".join(entry.digest for entry in entries)).digest()


def _last(home: Home, path: Path, credential: NodeCredential, now: datetime) -> tuple[Catalogue | None, bytes]:
    """The last one that still counts: not one of another credential, nor one that has ended."""
    if not path.exists():
        return None, b""
    envelope = home.read(path, MAX_ENVELOPE)
    try:
        return open_catalogue(envelope, credential, now), envelope
    except InvalidIdentity:
        return None, b""


def _read(home: Home, path: Path) -> Entry:
    try:
        entry = read_entry(json.loads(home.read(path, MAX_ENTRY)))
    except (InvalidIdentity, ValueError, RecursionError):
        raise InvalidUsage(
            f"{path} is not what `concord-node data publish` wrote.",
            hint="Delete the file, and publish the data set again.",
        ) from None
    if _file(home, entry.name) != path:
        raise InvalidUsage(f"{path} holds the entry of {entry.name}.", hint="Delete the file, and publish it again.")
    return entry


def _folder(home: Home) -> Path:
    return home.published


def _file(home: Home, name: str) -> Path:
    return _folder(home) / f"{name}.entry"
