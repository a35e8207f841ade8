"""Files on a person's disk: bounded reads, atomic writes, keys that are never overwritten.

A key's file is 0600 and its folder 0700. A reader never follows a link unless it says so, never reads more than it was told to,
and never opens a device or a pipe.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from federation.errors import InvalidIdentity, InvalidUsage, NotFound

DOCUMENT_LIMIT: Final = 4 << 20
"""The largest signed document that any command reads, in bytes."""

PRIVATE_FOLDER: Final = 0o700
SECRET_FILE: Final = 0o600
PUBLIC_FILE: Final = 0o644


def make_private_folder(path: Path) -> Path:
    """Creates ``path`` with mode 0700; an existing folder keeps its mode."""
    path.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
    return path


def read_file(path: Path, limit: int = DOCUMENT_LIMIT, *, what: str = "The file") -> bytes:
    """The whole of a regular file. Raises NotFound, or InvalidUsage when it is no regular file or larger than ``limit``."""
    try:
        # Not blocking: a pipe that nobody writes to must not hold the command.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise InvalidUsage(f"{what} {path} is not a regular file.", hint="Name a file.")
            data = stream.read(limit + 1)
    except FileNotFoundError:
        raise NotFound(f"{what} {path} does not exist.", hint="Check the path.") from None
    except IsADirectoryError:
        raise InvalidUsage(f"{what} {path} is a folder.", hint="Name a file.") from None
    except OSError as error:
        raise InvalidUsage(f"{what} {path} cannot be read: {error.strerror}.", hint="Check who may read it.") from None
    if len(data) > limit:
        raise InvalidUsage(f"{what} {path} is larger than {limit:,} bytes.", hint="Is it the right file?")
    return data


def read_secret(path: Path, *, what: str, hint: str) -> bytes:
    """A key file. Raises NotFound with ``hint``, or InvalidIdentity when others may read it."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise NotFound(f"There is no {what} at {path}.", hint=hint) from None
    if mode & 0o077:
        raise InvalidIdentity(
            f"Other users of this machine may read the {what} at {path}.", hint=f"Close it first: chmod 600 {path}"
        )
    return read_file(path, 1 << 16, what=f"The {what}")


@contextmanager
def about(path: Path, *, hint: str = "") -> Iterator[None]:
    """What is wrong with a document inside names the file. ``hint``: better advice than the document's own."""
    try:
        yield
    except InvalidIdentity as error:
        raise InvalidIdentity(f"{path}: {error.message}", hint=hint or error.hint) from None


def write_file(path: Path, data: bytes, mode: int = PUBLIC_FILE) -> None:
    """Replaces ``path`` at once: a reader sees the old bytes or the new ones, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _written_beside(path, data, mode)
    try:
        part.replace(path)
    except OSError as error:
        part.unlink()
        raise InvalidUsage(f"{path} cannot be written: {error.strerror}.", hint="Name another file.") from None


def check_absent(path: Path, *, what: str, hint: str = "Name another file, or move this one away.") -> None:
    """Raises InvalidUsage when something is at ``path``: asked before anything is done that cannot be done twice."""
    if path.exists() or path.is_symlink():
        raise InvalidUsage(f"There is already {what} at {path}; it stays as it is.", hint=hint)


def write_new_file(
    path: Path, data: bytes, mode: int, *, what: str, hint: str = "Name another file, or move this one away."
) -> None:
    """Writes ``path`` at once, and only where nothing is. Raises InvalidUsage when something is there."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
    part = _written_beside(path, data, mode)
    try:
        os.link(part, path)
    except FileExistsError:
        raise InvalidUsage(f"There is already {what} at {path}; it stays as it is.", hint=hint) from None
    finally:
        part.unlink()


def _written_beside(path: Path, data: bytes, mode: int) -> Path:
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    except OSError as error:
        raise InvalidUsage(f"{path} cannot be written: {error.strerror}.", hint="Check the folder.") from None
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    return part
