"""Under which other names a folder is seen on this machine: Linux's bind mounts, as /proc/self/mountinfo lists them (proc(5))."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MOUNTS: Final = Path("/proc/self/mountinfo")
OCTAL: Final = re.compile(r"\\([0-7]{3})")
"""how that file writes blanks and backslashes"""


@dataclass(frozen=True, slots=True)
class Mount:
    device: str
    root: Path
    """which folder of the file system is seen here"""
    at: Path


def mounts_in(text: str) -> tuple[Mount, ...]:
    """In the order of mounting: of two at one place the later one is seen."""
    lines = (line.split(" ") for line in text.splitlines())
    return tuple(Mount(each[2], _path(each[3]), _path(each[4])) for each in lines if len(each) > 5)


def other_names(place: Path, mounts: tuple[Mount, ...]) -> Iterator[Path]:
    """Of ``place``, which is absolute and without links: each other path that leads to the same files."""
    over = max(
        (each for each in enumerate(mounts) if place.is_relative_to(each[1].at)),
        key=lambda each: (len(each[1].at.parts), each[0]),
        default=None,
    )
    if over is None:
        return
    here = over[1]
    inside = here.root / place.relative_to(here.at)
    for each in mounts:
        if each.device == here.device and inside.is_relative_to(each.root):
            name = each.at / inside.relative_to(each.root)
            if name != place:
                yield name


def _path(text: str) -> Path:
    return Path(OCTAL.sub(lambda found: chr(int(found[1], 8)), text))
