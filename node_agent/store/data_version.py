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
LISTED: Final = 50_000
"""files of which an inventory keeps the list"""
REMEMBERED: Final = 64
"""inventories that are kept in memory: one for each data set, and those of before it changed"""
PIECE: Final = 1 << 20
LABEL: Final = "concord/data/v1"


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a data set held when it was looked at."""

    version: bytes
    whole: bool
    """the digests are of contents; else of sizes and times of change"""
    files: tuple[tuple[str, int, bytes], ...] | None = field(repr=False)
    """name, size and digest of each; None: too many to keep"""


@dataclass(slots=True)
class DataVersions:
    """Remembers, for as long as the node runs, what it has read: files whose size and times are the same are not read again."""

    limit: int = CONTENT_LIMIT
    _known: dict[bytes, Inventory] = field(default_factory=dict)

    def of(self, path: Path) -> bytes:
        """32 bytes. Raises OSError when the files cannot be read."""
        return self.inventory(path).version

    def inventory(self, path: Path) -> Inventory:
        """Raises OSError when the files cannot be read."""
        entries = sorted(_files(path, ""))
        stamp = hashlib.sha256(transcript(LABEL, "stamp", str(path)))
        for name, place in entries:
            seen = place.stat()
            words = f"{seen.st_size} {seen.st_mtime_ns} {seen.st_ctime_ns} {seen.st_ino}"
            stamp.update(transcript("file", os.fsencode(name), words))
        key = stamp.digest()
        if key not in self._known:
            while len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[key] = self._read(entries)
        return self._known[key]

    def _read(self, entries: list[tuple[str, Path]]) -> Inventory:
        whole = sum(place.stat().st_size for _, place in entries) <= self.limit
        version = hashlib.sha256(transcript(LABEL, "content" if whole else "names", len(entries)))
        listed: list[tuple[str, int, bytes]] = []
        for name, place in entries:
            seen = place.stat()
            if whole:
                with place.open("rb") as stream:
                    digest = hashlib.file_digest(stream, "sha256").digest()
                version.update(transcript("file", os.fsencode(name), digest))
            else:
                words = f"{seen.st_size} {seen.st_mtime_ns}"
                digest = hashlib.sha256(words.encode()).digest()
                version.update(transcript("file", os.fsencode(name), words))
            if len(entries) <= LISTED:
                listed.append((name, seen.st_size, digest))
        return Inventory(version.digest(), whole, tuple(listed) if len(entries) <= LISTED else None)


def only_grew(before: Inventory, now: Inventory, path: Path) -> bool:
    """Whether all that was there is there, unchanged: files may have come, and lines been added at the end of files.

    False where it cannot be told: among too many files, or where contents were not read then or are not now and a file changed.
    Raises OSError.
    """
    if now.version == before.version:
        return True
    if before.files is None or now.files is None or before.whole != now.whole:
        return False
    present = {name: (size, digest) for name, size, digest in now.files}
    for name, size, digest in before.files:
        if present.get(name) == (size, digest):
            continue
        grew = before.whole and name in present and present[name][0] > size
        if not grew or not _begins(path / name if name else path, size, digest):
            return False
    return True


def _begins(path: Path, size: int, digest: bytes) -> bool:
    """Whether the file's first ``size`` bytes are those of ``digest``, and end a line: else what follows changed the last one."""
    begun, left, last = hashlib.sha256(), size, b"\n"
    with path.open("rb") as stream:
        while left and (piece := stream.read(min(left, PIECE))):
            begun.update(piece)
            left, last = left - len(piece), piece[-1:]
    return not left and last == b"\n" and begun.digest() == digest


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
