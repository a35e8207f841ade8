"""Files that are whole or absent, and private from the first byte.

A reader never sees half a file, and a crash leaves either the old or the new content: bytes go to a new file beside the target,
are fsynced, and take its name in one rename; the folder is fsynced after it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700


def private_folder(path: Path) -> Path:
    """Make the folder (and its parents) if needed; only its owner may enter it."""
    path.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
    path.chmod(PRIVATE_FOLDER)
    return path


def write_whole(path: Path, data: bytes, *, mode: int = PRIVATE_FILE) -> None:
    """Replace ``path`` by ``data``, durably."""
    write_together({path: data}, mode=mode)


def write_together(files: Mapping[Path, bytes], *, mode: int = PRIVATE_FILE) -> None:
    """Replace several files of one folder or more: all are on disk before the first takes its name, in the order given.

    A caller that must tell "all" from "some" puts the file that its readers look for last.
    """
    staged: list[tuple[Path, Path]] = []
    try:
        for path, data in files.items():
            fresh = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
            staged.append((fresh, path))
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        for fresh, path in staged:
            fresh.replace(path)
    finally:
        for fresh, _ in staged:
            fresh.unlink(missing_ok=True)
    for folder in {path.parent for path in files}:
        sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make renames within ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
