"""What this lab's machine says of itself, for `doctor`: clock, disk, packages, files. Nothing of it leaves."""

from __future__ import annotations

import ctypes
import platform
import shutil
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

from federation.findings import GIB, Finding, disk, versions
from federation.product import PRODUCT

TIMEX_BYTES: Final = 512
"""more than any kernel's struct timex has"""
NOT_SYNCHRONISED: Final = 5


def clock_kept() -> bool | None:
    """Whether the kernel says that something keeps its clock right (adjtimex(2), changing nothing); None: it does not say."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(TIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else bool(state != NOT_SYNCHRONISED)


def disk_of(place: Path, wanted: int = GIB) -> Finding:
    usage = shutil.disk_usage(place)
    return disk(str(place), usage.free, usage.total, wanted)


def versions_here() -> Finding:
    try:
        product, needed = version(PRODUCT), requires(PRODUCT) or []
    except PackageNotFoundError:
        product, needed = "source", []
    needed = [line for line in needed if "extra ==" not in line]
    return versions(product, platform.python_version(), needed, {name: _version(name) for name in _names(needed)})


def modes_of(paths: Iterable[Path]) -> dict[str, int | None]:
    return {str(path): path.stat().st_mode if path.exists() else None for path in paths}


def _names(needed: Iterable[str]) -> set[str]:
    return {Requirement(line).name for line in needed}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
