"""A small file beside the journal that knows which journal it belongs to, and how far that journal has come.

It is written after each commit and not synced: behind the journal is what a crash leaves, ahead of it shows that the journal
was put back from a copy. It names the journal's file by inode, and by the inode's generation where the file system has one, so
that a copy under the same name is noticed even when it is not older. Not noticed is what puts back journal and anchor together
in place, such as a snapshot of the whole machine. (docs/decisions/0016-a-restored-journal-is-void.md.)
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from node_agent.store.files import PRIVATE_FILE, sync_folder

MAGIC: Final = "concord-anchor-1"
SIZE: Final = 96
_GENERATION_OF: Final = 0x80087601
"""FS_IOC_GETVERSION of Linux: a number that is drawn when an inode is made, so that one which is used again is another"""


@dataclass(frozen=True, slots=True)
class Identity:
    """Of a file on this disk. ``generation``: 0 where the file system has none."""

    inode: int
    generation: int

    @staticmethod
    def of(path: Path) -> Identity:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            word = bytearray(8)
            with contextlib.suppress(OSError):  # tmpfs and network file systems have none
                fcntl.ioctl(descriptor, _GENERATION_OF, word)
            return Identity(os.fstat(descriptor).st_ino, int.from_bytes(word[:4], "little"))
        finally:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Mark:
    """What the anchor says: the journal's file, and the number of its last transaction."""

    identity: Identity
    transactions: int

    def to_bytes(self) -> bytes:
        """Of one size, so that a write in place needs no room on a full disk and is never half a file."""
        words = f"{MAGIC} {self.transactions} {self.identity.inode} {self.identity.generation}"
        return words.ljust(SIZE - 1).encode() + b"\n"

    @staticmethod
    def of(data: bytes) -> Mark | None:
        """None for anything else."""
        words = data.decode(errors="replace").split()
        if len(data) != SIZE or len(words) != 4 or words[0] != MAGIC or not all(map(str.isdecimal, words[1:])):
            return None
        transactions, inode, generation = map(int, words[1:])
        return Mark(Identity(inode, generation), transactions)


class Anchor:
    """Open for as long as the journal is held."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._path = journal.with_name(journal.name + ".anchor")
        self._descriptor: int | None = None
        self._identity = Identity(0, 0)

    def read(self) -> Mark | None:
        """What it says; None where there is none, or one that cannot be read as one."""
        try:
            return Mark.of(self._path.read_bytes())
        except FileNotFoundError:
            return None

    def begin(self, transactions: int) -> Self:
        """From now on it belongs to the journal that lies there now. Synced once, so that it is there after a power cut."""
        self._identity = Identity.of(self._journal)
        made = not self._path.exists()
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        os.ftruncate(self._descriptor, SIZE)
        self.write(transactions)
        os.fsync(self._descriptor)
        if made:
            sync_folder(self._path.parent)
        return self

    def write(self, transactions: int) -> None:
        """After the commit with this number."""
        if self._descriptor is not None:
            os.pwrite(self._descriptor, Mark(self._identity, transactions).to_bytes(), 0)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def why_not(mark: Mark | None, identity: Identity, transactions: int) -> str:
    """Why a journal with these is not the one that was written last; empty when it is, or was left behind by a crash."""
    if mark is None:
        return "its anchor is missing" if transactions else ""
    if mark.transactions > transactions:
        return f"it ends with transaction {transactions}, and {mark.transactions} were made"
    if mark.identity != identity:
        return "it is another file than the one that was written"
    return ""
