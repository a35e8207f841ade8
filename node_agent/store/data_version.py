"""Which data a figure was computed on: a digest of what a data set holds, noticed anew when its files change.

Of content, where that is at most ``CONTENT_LIMIT`` bytes: a file that was touched, or copied, is the same data. Above that of
names, sizes and times of change alone, since nobody reads terabytes to take part in a job; there a touched file is new data, of
which the journal of figures knows nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from federation.identity.keys import transcript

CONTENT_LIMIT: Final = 4 << 30
"""a few seconds of reading"""
LABEL: Final = "concord/data/v1"


@dataclass(slots=True)
class DataVersions:
    """Remembers, for as long as the node runs, what it has read: files whose size and times are the same are not read again."""

    limit: int = CONTENT_LIMIT
    _known: dict[bytes, bytes] = field(default_factory=dict)

    def of(self, path: Path) -> bytes:
        """32 bytes. Raises OSError when the files cannot be read."""
        entries = sorted(_files(path, ""))
        stamp = hashlib.sha256(transcript(LABEL, "stamp", str(path)))
        for name, place in entries:
            seen = place.stat()
            words = f"{seen.st_size} {seen.st_mtime_ns} {seen.st_ctime_ns} {seen.st_ino}"
            stamp.update(transcript("file", os.fsencode(name), words))
        key = stamp.digest()
        if key not in self._known:
            self._known[key] = self._read(entries)
        return self._known[key]

    def _read(self, entries: list[tuple[str, Path]]) -> bytes:
        whole = sum(place.stat().st_size for _, place in entries) <= self.limit
        version = hashlib.sha256(transcript(LABEL, "content" if whole else "names", len(entries)))
        for name, place in entries:
            if whole:
                with place.open("rb") as stream:
                    digest = hashlib.file_digest(stream, "sha256").digest()
                version.update(transcript("file", os.fsencode(name), digest))
            else:
                seen = place.stat()
                version.update(transcript("file", os.fsencode(name), f"{seen.st_size} {seen.st_mtime_ns}"))
        return version.digest()


def _files(path: Path, name: str) -> Iterator[tuple[str, Path]]:
    """Names within the data set, and where their files are. Links are followed to files, and not into folders."""
    if not path.is_dir():
        yield name, path
        return
    with os.scandir(path) as found:
        for each in found:
            inner = f"{name}/{each.name}" if name else each.name
            if each.is_dir(follow_symlinks=False):
                yield from _files(Path(each.path), inner)
            elif each.is_file():
                yield inner, Path(each.path)
