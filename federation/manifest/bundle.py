"""The task bundle: a Flower app folder as one canonical archive, so that its digest names the code that members consent to.

The archive is an uncompressed ustar with sorted paths and fixed metadata. Unpacking refuses whatever packing would not write.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

from federation.errors import InvalidManifest

MAX_BYTES: Final = 64 << 20
MAX_FILES: Final = 2000
MAX_PATH: Final = 200
IGNORED_NAMES: Final = frozenset(
    {
        "__pycache__",
        ".git",
        ".venv",
        "venv",
        ".mypy_cache",
        ".ruff_cache",
        ".pytest_cache",
        ".ipynb_checkpoints",
        ".DS_Store",
    }
)
IGNORED_SUFFIXES: Final = (".pyc", ".pyo", ".egg-info")
REFERENCE: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class Bundle:
    data: bytes = field(repr=False)
    digest: bytes
    size: int
    files: tuple[tuple[str, str, int], ...]
    """(path, SHA-256 in hex, bytes), sorted by path"""


@dataclass(frozen=True, slots=True)
class AppInfo:
    """What the app's pyproject.toml says (Flower's [tool.flwr.app], and our [tool.concord])."""

    client_app: str
    server_app: str | None
    config: Mapping[str, str | int | float | bool]
    dependencies: tuple[str, ...]
    initial_model: str | None


def is_ignored(path: str) -> bool:
    """Whether a file of an app folder stays out of the bundle: caches, version control, virtual environments."""
    parts = PurePosixPath(path).parts
    return any(part in IGNORED_NAMES or part.endswith(IGNORED_SUFFIXES) for part in parts)


def checked_path(path: str) -> str:
    """Raises InvalidManifest for what is absolute, climbs out, or cannot be a file's name everywhere."""
    pure = PurePosixPath(path)
    bad = (
        not path
        or len(path.encode(errors="replace")) > MAX_PATH
        or pure.is_absolute()
        or str(pure) != path
        or any(part in {"..", "."} for part in pure.parts)
        or not path.isprintable()
        or "\\" in path
        or not path.isascii()
    )
    if bad:
        raise InvalidManifest(
            f"The bundle holds a path that is not allowed: {path[:80]!r}.",
            hint=f"Paths are relative, printable ASCII, at most {MAX_PATH} characters, without '..'.",
            field="spec.app",
        )
    return path


def pack(files: Mapping[str, bytes]) -> Bundle:
    """Packs {relative path: content}. Raises InvalidManifest when a path is bad or the whole is too large."""
    if not files or len(files) > MAX_FILES or sum(len(data) for data in files.values()) > MAX_BYTES:
        raise InvalidManifest(
            f"The app folder has {len(files)} files and {sum(len(data) for data in files.values())} bytes.",
            hint=f"A bundle holds 1 to {MAX_FILES} files and at most {MAX_BYTES >> 20} MiB; keep data out of it.",
            field="spec.app",
        )
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(files):
            info = tarfile.TarInfo(checked_path(path))
            info.size, info.mode, info.mtime = len(files[path]), 0o644, 0
            try:
                archive.addfile(info, io.BytesIO(files[path]))
            except ValueError as error:
                raise InvalidManifest(
                    f"The path {path[:80]!r} is too long for an archive.", field="spec.app"
                ) from error
    data = stream.getvalue()
    listed = tuple((path, hashlib.sha256(files[path]).hexdigest(), len(files[path])) for path in sorted(files))
    return Bundle(data, hashlib.sha256(data).digest(), len(data), listed)


def unpack(data: bytes, digest: bytes) -> dict[str, bytes]:
    """The files of a bundle. Raises InvalidManifest unless ``data`` has this digest and is exactly what ``pack`` writes."""
    if len(data) > MAX_BYTES + (MAX_FILES + 20) * 1024:
        raise InvalidManifest("The bundle is too large.", field="spec.bundle")
    if hashlib.sha256(data).digest() != digest:
        raise InvalidManifest(
            "The bundle is not the one that was signed: its digest differs.",
            hint="Fetch it again.",
            field="spec.bundle",
        )
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for info in archive:
                stream = archive.extractfile(info) if info.isreg() and len(files) < MAX_FILES else None
                if stream is None or info.name in files:
                    raise InvalidManifest("The bundle holds something other than files.", field="spec.bundle")
                files[checked_path(info.name)] = stream.read()
    except (tarfile.TarError, ValueError, EOFError, OverflowError) as error:
        raise InvalidManifest("The bundle is not a readable archive.", field="spec.bundle") from error
    if pack(files).data != data:
        raise InvalidManifest(
            "The bundle is not in its one canonical encoding.", hint="Pack it with concord apply.", field="spec.bundle"
        )
    return files


def app_info(files: Mapping[str, bytes]) -> AppInfo:
    """Reads the app's pyproject.toml. Raises InvalidManifest when it is no Flower app."""
    text = files.get("pyproject.toml")
    if text is None:
        raise InvalidManifest(
            "The app folder has no pyproject.toml.",
            hint="spec.app names a Flower app: a folder with pyproject.toml and [tool.flwr.app.components].",
            field="spec.app",
        )
    try:
        document = tomllib.loads(text.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidManifest(f"The app's pyproject.toml cannot be read: {error}.", field="spec.app") from error
    flower = _table(_table(_table(document, "tool"), "flwr"), "app")
    components = _table(flower, "components")
    client = components.get("clientapp")
    if not isinstance(client, str) or not REFERENCE.fullmatch(client):
        raise InvalidManifest(
            "The app's pyproject.toml names no ClientApp.",
            hint='Add [tool.flwr.app.components] with clientapp = "package.client_app:app".',
            field="spec.app",
        )
    server = components.get("serverapp")
    dependencies = _table(document, "project").get("dependencies", [])
    initial = _table(_table(document, "tool"), "concord").get("initial-model")
    if not isinstance(dependencies, list) or not all(isinstance(item, str) for item in dependencies):
        raise InvalidManifest("The app's dependencies are not a list of texts.", field="spec.app")
    if initial is not None and (not isinstance(initial, str) or not REFERENCE.fullmatch(initial)):
        raise InvalidManifest('[tool.concord] initial-model is not "package.module:name".', field="spec.model.factory")
    return AppInfo(
        client_app=client,
        server_app=server if isinstance(server, str) else None,
        config=_flat(_table(flower, "config")),
        dependencies=tuple(dependencies),
        initial_model=initial,
    )


def _table(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = document.get(name, {})
    if not isinstance(value, dict):
        raise InvalidManifest(f"[{name}] in the app's pyproject.toml is not a table.", field="spec.app")
    return value


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, str | int | float | bool]:
    """Flower flattens nested tables of its config with dots."""
    result: dict[str, str | int | float | bool] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            result.update(_flat(value, f"{prefix}{key}."))
        elif isinstance(value, (str, int, float, bool)):
            result[prefix + key] = value
        else:
            raise InvalidManifest(
                f"[tool.flwr.app.config] {prefix}{key} is not a text, number or boolean.", field="spec.app"
            )
    return result
