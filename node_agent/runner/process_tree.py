"""The processes of one worker: how much memory they hold together, and the end of all of them."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Final

import psutil

PROC: Final = Path("/proc")
HELD: Final = ("RssAnon:", "RssShmem:")


def held_bytes(pid: int) -> int:
    """Memory that ``pid`` and its descendants hold and that is not a mapped file, which costs nobody anything."""
    if not (PROC / "self" / "task").is_dir():
        return _held_portably(pid)
    return sum(_held(one) for one in descendants(pid))


def descendants(pid: int) -> tuple[int, ...]:
    """``pid`` and all below it; processes that end meanwhile are left out."""
    found, ahead = [], [pid]
    while ahead:
        one = ahead.pop()
        found.append(one)
        with contextlib.suppress(OSError):
            for task in (PROC / str(one) / "task").iterdir():
                with contextlib.suppress(OSError):
                    ahead += [int(child) for child in (task / "children").read_text().split()]
    return tuple(found)


def _held(pid: int) -> int:
    try:
        lines = (PROC / str(pid) / "status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(HELD))


def _held_portably(pid: int) -> int:
    try:
        process = psutil.Process(pid)
        return sum(int(one.memory_info().rss) for one in (process, *process.children(recursive=True)))
    except psutil.Error:
        return 0


def signal_group(group: int, number: signal.Signals) -> None:
    """To every process of the group; none left is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
