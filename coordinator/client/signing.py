"""Who signs for a person: the key in their home, which a passphrase may lock; or another machine, by files in and out.

A passphrase comes from the terminal, from the file that CONCORD_PASSPHRASE_FILE names (which nobody else may read), or from the
file descriptor in CONCORD_PASSPHRASE_FD: never from a command line, which other users of the machine can see.

Signing elsewhere: a command with ``--offline FILE`` writes the document without a signature. ``concord sign FILE`` shows it on
the machine that has the key, and adds the signature; ``concord send FILE`` hands it on. Keys in a PKCS #11 token would be one more
``Signer`` here.
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

from coordinator.client.files import PUBLIC_FILE, about, read_secret, write_new_file
from coordinator.client.terminal import say
from federation.errors import InvalidIdentity, InvalidUsage
from federation.identity.keys import SigningKey
from federation.identity.locked_key import NONCE_BYTES, SALT_BYTES, is_locked, lock, unlock

FROM_FILE: Final = "CONCORD_PASSPHRASE_FILE"
FROM_DESCRIPTOR: Final = "CONCORD_PASSPHRASE_FD"
LIMIT: Final = 4096


def opened_key(path: Path, data: bytes) -> SigningKey:
    """The key in a file, asked for its passphrase where it has one. Raises InvalidIdentity, InvalidUsage."""
    with about(path, hint="Restore it from a backup."):
        if not is_locked(data):
            return SigningKey.from_pem(data)
    with about(path):
        return _unlocked(data, path)


@lru_cache(maxsize=4)
def _unlocked(data: bytes, path: Path) -> SigningKey:
    """Once a command: people are not asked twice."""
    return unlock(data, passphrase(f"Passphrase of {path}: ", os.environ))


def locked_pem(key: SigningKey) -> bytes:
    """``key`` under a passphrase that is asked for twice on a terminal. Raises InvalidIdentity, InvalidUsage."""
    words = passphrase("New passphrase: ", os.environ)
    if not (os.environ.get(FROM_FILE) or os.environ.get(FROM_DESCRIPTOR)) and words != getpass.getpass("Again: "):
        raise InvalidIdentity("The two passphrases differ.", hint="Nothing was written. Try again.")
    return lock(key, words, os.urandom(SALT_BYTES), os.urandom(NONCE_BYTES))


def passphrase(prompt: str, environment: Mapping[str, str]) -> str:
    """Raises InvalidUsage where there is nobody to ask."""
    if named := environment.get(FROM_FILE):
        data = read_secret(Path(named), what="passphrase", hint=f"{FROM_FILE} names it.")
    elif descriptor := environment.get(FROM_DESCRIPTOR):
        data = _from_descriptor(descriptor)
    elif sys.stdin.isatty():
        return getpass.getpass(prompt)
    else:
        raise InvalidUsage(
            "The key is locked, and there is no terminal to ask for its passphrase.",
            hint=f"Name a file with it in {FROM_FILE}, or an open file descriptor in {FROM_DESCRIPTOR}.",
        )
    try:
        return data.decode().removesuffix("\n")
    except UnicodeDecodeError:
        raise InvalidUsage("The passphrase is not text in UTF-8.", hint="Write it again.") from None


def _from_descriptor(number: str) -> bytes:
    try:
        with os.fdopen(int(number), "rb", closefd=False) as stream:
            return stream.read(LIMIT)
    except (ValueError, OSError):
        raise InvalidUsage(f"{FROM_DESCRIPTOR}={number} is no open file.", hint="Such as 3, with 3< file.") from None


def to_be_signed(envelope: bytes, path: Path) -> None:
    """Writes what is to be signed on another machine."""
    write_new_file(path, envelope, PUBLIC_FILE, what="a file")
    say(f"wrote {path}: take it to the machine with the key, `concord sign {path.name}`, and back; then `concord send`")
