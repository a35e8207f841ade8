"""The version of a data set, as it leaves this lab: in a consent, and in the catalogue.

Bound to the bytes of the data and to a key that stays in the node's home. A bare digest would confirm a guess: who holds all rows
of a table but one could try what the last one is. Under the key it tells nobody anything, and is one value for one content.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from federation.errors import InvalidUsage, PolicyDenied
from federation.identity.keys import transcript
from node_agent.settings import DataSet, Home
from node_agent.store.data_version import DataVersions
from node_agent.store.files import private_folder, write_whole

LABEL: Final = "concord/data-set-version/v1"
KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class SealedVersions:
    """``version_of(DataSet) -> bytes``: what a consent binds. Files that stayed are not read again."""

    key: bytes = field(repr=False)
    versions: DataVersions = field(default_factory=DataVersions)

    def version_of(self, held: DataSet) -> bytes:
        """32 bytes. Raises PolicyDenied when the data cannot be read: what cannot be told cannot be consented to."""
        path = Path(held.path)
        try:
            return self.seal(self.versions.of(path))
        except OSError as error:
            raise unreadable(error) from None

    def seal(self, version: bytes) -> bytes:
        """``version``: of ``node_agent.store.data_version``, which stays here."""
        return hmac.digest(self.key, transcript(LABEL, version), hashlib.sha256)


def unreadable(error: OSError) -> PolicyDenied:
    return PolicyDenied(
        f"The data cannot be read: {error.strerror or type(error).__name__}.",
        hint="See that its files are there, and that the node may read them.",
    )


def sealed_versions(home: Home, versions: DataVersions | None = None) -> SealedVersions:
    """With the key of the home, made when there is none: a new key makes every version new, and consents are asked anew.

    Raises InvalidUsage when the key's file is not one.
    """
    path = home.catalogue_key
    if not path.exists():
        private_folder(path.parent)
        write_whole(path, os.urandom(KEY_BYTES))
    key = home.read(path, KEY_BYTES)
    if len(key) != KEY_BYTES:
        raise InvalidUsage(
            f"{path} is not a key of {KEY_BYTES} bytes.", hint="Put back the file that was there before."
        )
    return SealedVersions(key, versions if versions is not None else DataVersions())
