"""The processes of one worker: how much memory they hold together, and the end of all of them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import psutil

PROC: Final = Path("/proc")
HELD: Final = ("RssAnon:", "RssShmem:")


def descendants(pid: int) -> tuple[int, ...]:
    """``pid`` and all below it; processes that end meanwhile are left out."""
    if not (PROC / "self" / "task").is_dir():
        return _descendants_portably(pid)
    found, ahead = [], [pid]
    while ahead:
        one = ahead.pop()
        found.append(one)
        with contextlib.suppress(OSError):
            for task in (PROC / str(one) / "task").iterdir():
                with contextlib.suppress(OSError):
                    ahead += [int(child) for child in (task / "children").read_text().split()]
    return tuple(found)


def _descendants_portably(pid: int) -> tuple[int, ...]:
    try:
        return (pid, *(int(child.pid) for child in psutil.Process(pid).children(recursive=True)))
    except psutil.Error:
        return (pid,)


def held_bytes(pids: Iterable[int]) -> int:
    """Memory that these processes hold, without mapped files, which cost nobody anything."""
    return sum(_held(pid) for pid in pids)


def runs(pid: int) -> bool:
    """False for one that is gone, or dead and not yet collected by a slow init."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _held(pid: int) -> int:
    try:
        lines = (PROC / str(pid) / "status").read_text().splitlines()
    except OSError:
        return _resident(pid)
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(HELD))


def _resident(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def members(group: int) -> tuple[int, ...]:
    """The processes of a group, orphans of a dead worker among them."""
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(OSError):
            if os.getpgid(pid) == group:
                found.append(pid)
    return tuple(found)


def signal_group(group: int, number: signal.Signals) -> None:
    """To every process of the group; none left is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
