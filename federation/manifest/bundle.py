"""The task bundle: a Flower app folder as one canonical archive, so that its digest names the code that members consent to.

The archive is an uncompressed ustar (POSIX.1-1988, so that `tar` reads it) with sorted paths and fixed metadata, written here byte
by byte: its digest must not depend on the version of a library. Unpacking reads names and sizes only, packs again, and compares:
links, devices, sparse or oversized entries and all that packing would not write are refused without being interpreted.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

from federation.errors import InvalidManifest
from federation.manifest.schema import LARGEST_WHOLE, REFERENCE

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
BLOCK: Final = 512
RECORD: Final = 20 * BLOCK
LONGEST_NAME: Final = 100
LONGEST_PREFIX: Final = 155


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
        path in {"", "."}
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
    paths = [checked_path(path) for path in sorted(files)]
    folders = {str(folder) for path in paths for folder in PurePosixPath(path).parents}
    for path in paths:
        if path in folders:
            raise InvalidManifest(f"{path!r} is both a file and a folder.", field="spec.app")
    parts = [part for path in paths for part in (_header(path, len(files[path])), files[path], _padding(files[path]))]
    parts.append(bytes(2 * BLOCK))
    length = sum(len(part) for part in parts)
    data = b"".join([*parts, bytes(-length % RECORD)])
    listed = tuple((path, hashlib.sha256(files[path]).hexdigest(), len(files[path])) for path in paths)
    return Bundle(data, hashlib.sha256(data).digest(), len(data), listed)


def unpack(data: bytes, digest: bytes) -> dict[str, bytes]:
    """The files of a bundle. Raises InvalidManifest unless ``data`` has this digest and is exactly what ``pack`` writes."""
    if len(data) > MAX_BYTES + (MAX_FILES + 20) * 2 * BLOCK:
        raise InvalidManifest("The bundle is too large.", field="spec.bundle")
    if hashlib.sha256(data).digest() != digest:
        raise InvalidManifest(
            "The bundle is not the one that was signed: its digest differs.",
            hint="Fetch it again.",
            field="spec.bundle",
        )
    files = dict(_entries(data))
    if not files or pack(files).data != data:
        raise InvalidManifest(
            "The bundle is not in its one canonical encoding.", hint="Pack it with concord apply.", field="spec.bundle"
        )
    return files


def _entries(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Names and contents as the headers have them; whether the headers are good is for the caller to compare."""
    position = 0
    while position + BLOCK <= len(data) and data[position]:
        header = data[position : position + BLOCK]
        digits = header[124:135]
        name, prefix = header[:LONGEST_NAME].rstrip(b"\0"), header[345 : 345 + LONGEST_PREFIX].rstrip(b"\0")
        if not all(digit in b"01234567" for digit in digits) or not (prefix + name).isascii():
            raise InvalidManifest("The bundle is not a readable archive.", field="spec.bundle")
        size = int(digits, 8)
        begin, end = position + BLOCK, position + BLOCK + size
        yield (prefix + b"/" + name if prefix else name).decode("ascii"), data[begin:end]
        position = end + -size % BLOCK


def _header(path: str, size: int) -> bytes:
    name, prefix = path, ""
    if len(path) > LONGEST_NAME:
        cuts = [index for index, letter in enumerate(path) if letter == "/"]
        fitting = [cut for cut in cuts if cut <= LONGEST_PREFIX and len(path) - cut - 1 <= LONGEST_NAME]
        if not fitting:
            raise InvalidManifest(
                f"The path {path[:80]!r} is too long for an archive.",
                hint=f"A file's own name has at most {LONGEST_NAME} characters.",
                field="spec.app",
            )
        prefix, name = path[: fitting[0]], path[fitting[0] + 1 :]
    before = b"".join(
        (
            name.encode().ljust(100, b"\0"),
            b"0000644\0" + b"0000000\0" * 2,  # mode, owner, group
            b"%011o\0" % size,
            b"%011o\0" % 0,  # time
        )
    )
    after = b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + bytes(16) + prefix.encode().ljust(155, b"\0") + bytes(12)
    checksum = sum(before) + 8 * ord(" ") + sum(after)
    return before + b"%06o\0 " % checksum + after


def _padding(content: bytes) -> bytes:
    return bytes(-len(content) % BLOCK)


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
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, UnicodeDecodeError, numbers with too many digits
        raise InvalidManifest(
            f"The app's pyproject.toml cannot be read: {str(error)[:200]}.",
            hint="It is a TOML file in UTF-8.",
            field="spec.app",
        ) from error
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
        elif isinstance(value, (str, bool)) or (isinstance(value, (int, float)) and abs(value) <= LARGEST_WHOLE):
            result[prefix + key] = value
        else:
            raise InvalidManifest(
                f"[tool.flwr.app.config] {prefix}{key} is not a text, a number of reasonable size, or a boolean.",
                hint="Other values cannot be part of a signed document.",
                field="spec.app",
            )
    return result
