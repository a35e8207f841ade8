"""Reads a Flower app's folder as the files that will be signed and sent to every member.

Left out: hidden files, caches, environments, build products, and what ``.concordignore`` names (one shell pattern a line). Refused:
links that leave the folder or lead to folders, devices and pipes, private keys, and more than a bundle may hold.
"""

from __future__ import annotations

import os
import stat
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from federation.errors import InvalidManifest

BUNDLE_LIMIT: Final = 64 << 20
FILES_LIMIT: Final = 2000
IGNORE_FILE: Final = ".concordignore"

IGNORED: Final = (".*", "__pycache__", "*.pyc", "*.pyo", "*.egg-info", "venv", "node_modules", "build", "dist", "*~")
PRIVATE_KEY_MARK: Final = b"PRIVATE KEY-----"


def read_app_folder(folder: Path) -> dict[str, bytes]:
    """Paths with "/" to contents, sorted. Raises InvalidManifest (field spec.app) with the file that is in the way."""
    if not folder.is_dir():
        raise _refused(f"The app folder {folder} does not exist.", "It is relative to the job file.")
    patterns = IGNORED + _own_patterns(folder / IGNORE_FILE)
    files: dict[str, bytes] = {}
    room = BUNDLE_LIMIT
    for path in _paths(folder, folder, patterns):
        if len(files) == FILES_LIMIT:
            raise _refused(
                f"{folder} holds more than {FILES_LIMIT:,} files.", f"Name what is not code in {IGNORE_FILE}."
            )
        name = path.relative_to(folder).as_posix()
        content = _read(folder, path, name, room)
        room -= len(content)
        files[name] = content
    if not files:
        raise _refused(f"The app folder {folder} holds no files.", "It takes a pyproject.toml and the app's modules.")
    return dict(sorted(files.items()))


def _own_patterns(path: Path) -> tuple[str, ...]:
    if not path.is_file() or path.is_symlink():
        return ()
    lines = path.read_bytes()[: 1 << 16].decode("utf-8", "replace").splitlines()
    return tuple(line.strip().rstrip("/") for line in lines if line.strip() and not line.startswith("#"))


def _paths(root: Path, folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    found: list[Path] = []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = Path(entry.path)
        name = path.relative_to(root).as_posix()
        if any(fnmatchcase(entry.name, pattern) or fnmatchcase(name, pattern) for pattern in patterns):
            continue
        if entry.is_dir(follow_symlinks=False):
            found += _paths(root, path, patterns)
        else:
            found.append(path)
        if len(found) > FILES_LIMIT:
            break
    return found


def _read(root: Path, path: Path, name: str, room: int) -> bytes:
    if path.is_symlink():
        target = path.resolve()
        if not target.is_relative_to(root.resolve()):
            raise _refused(f"{name} is a link that leaves the app folder.", "Copy what it points to into the folder.")
        if target.is_dir():
            raise _refused(f"{name} is a link to a folder.", "Put a folder there, or name the link in .concordignore.")
        path = target
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise _refused(
            f"{name} cannot be read: {error.strerror}.", f"Name it in {IGNORE_FILE} if it is no code."
        ) from None
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _refused(f"{name} is not a regular file.", f"Name it in {IGNORE_FILE}.")
        content = stream.read(room + 1)
    if len(content) > room:
        raise _refused(
            f"The app folder holds more than {BUNDLE_LIMIT >> 20} MiB.",
            f"A bundle is code: name data and weights in {IGNORE_FILE}; data stays with the members.",
        )
    if b"-----BEGIN" in content and PRIVATE_KEY_MARK in content:
        raise _refused(
            f"{name} holds a private key, and every member would receive it.",
            f"Move it away, or name it in {IGNORE_FILE}.",
        )
    return content


def _refused(message: str, hint: str) -> InvalidManifest:
    return InvalidManifest(message, hint=hint, field="spec.app")
