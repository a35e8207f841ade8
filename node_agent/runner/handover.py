"""Taking a file out of a folder that untrusted code can write: never through a link, never more than expected.

The worker may swap its file for a link to a key, a pipe that blocks, or a file that shrinks while it is read. So the
folder is opened without following links, the file is opened relative to it and must be plain, and its bytes are
copied before anybody maps them: nothing the worker does later changes what the agent works with.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from io import FileIO
from pathlib import Path
from typing import Final

from federation.errors import FederationError

PIECE: Final = 4 << 20


class BadHandover(FederationError):
    """``check`` is "reply-file" or "reply-size" of failure.CHECKS."""

    code = "task-failed"

    def __init__(self, check: str) -> None:
        super().__init__(check)
        self.check = check


def take_file(folder: Path, name: str, out: Path, limit: int) -> None:
    """Copies ``folder``/``name`` to ``out``, a new file (0600) in a folder of the agent's, and removes the original."""
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
        except OSError:
            raise BadHandover("reply-file") from None
        with open(source, "rb", buffering=0) as file:
            facts = os.fstat(source)
            if not stat.S_ISREG(facts.st_mode):
                raise BadHandover("reply-file")
            if facts.st_size > limit:
                raise BadHandover("reply-size")
            _copy(file, out, facts.st_size)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=place)
        os.close(place)


def _copy(source: FileIO, out: Path, size: int) -> None:
    out.unlink(missing_ok=True)
    target = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(target, "wb", buffering=0) as copy:
        left = size
        while left > 0:
            piece = source.read(min(left, PIECE))
            if not piece:
                raise BadHandover("reply-file")
            left -= len(piece)
            rest = memoryview(piece)
            while rest:  # a raw write may be short, as when the disk fills up
                rest = rest[copy.write(rest) :]


def fresh_folder(path: Path) -> None:
    """An empty folder of mode 0700, whatever lay there before; links in it are removed, never followed."""
    remove_tree(path)
    path.mkdir(mode=0o700, parents=True)


def remove_tree(path: Path) -> None:
    """Removes ``path`` with all below it, folders that the worker closed to others included."""
    if path.is_symlink():
        path.unlink()
        return
    if path.exists():
        for folder, _folders, _files, place in os.fwalk(path, follow_symlinks=False, onerror=_open_up):
            del folder
            os.fchmod(place, 0o700)
        shutil.rmtree(path, ignore_errors=True)


def _open_up(error: OSError) -> None:
    if error.filename is not None and not Path(error.filename).is_symlink():
        Path(error.filename).chmod(0o700)
