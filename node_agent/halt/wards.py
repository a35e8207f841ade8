"""The processes that train here, and their end: SIGTERM to the group, then SIGKILL to the group and to all that came from it.

Works from any thread, without the event loop. A process is known by its number and the time of its start, so that another
which has got the number is left alone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

import psutil

from node_agent.halt import gpus
from node_agent.runner.process_tree import descendants, members, runs, signal_group

TERM_SECONDS: Final = 0.25
"""for a worker to end by itself; the most that a stop waits before it kills"""
GONE_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 0.004
STUBBORN: Final = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"


@dataclass(frozen=True, slots=True)
class Ward:
    """A worker: its first process, which leads a process group."""

    job: bytes
    pid: int
    started: float
    """as the kernel has it"""

    @property
    def alive(self) -> bool:
        """Whether the group's first process still runs, or is gone and others of its group run. The dead that nobody has
        collected do not count."""
        try:
            if psutil.Process(self.pid).create_time() != self.started:
                return False
        except psutil.NoSuchProcess:
            pass
        return runs(self.pid) or any(runs(pid) for pid in members(self.pid))


@dataclass(slots=True)
class Wards:
    _wards: dict[int, Ward] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, job: bytes, pid: int) -> None:
        try:
            ward = Ward(job, pid, psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return
        self.of()
        with self._lock:
            self._wards[pid] = ward

    def jobs(self) -> frozenset[bytes]:
        """Those that have, or had, a worker: what is cheap to ask often."""
        with self._lock:
            return frozenset(ward.job for ward in self._wards.values())

    def of(self, jobs: Collection[bytes] | None = None) -> tuple[Ward, ...]:
        """Of these jobs, or all; those that have ended are forgotten."""
        with self._lock:
            wards = tuple(self._wards.values())
        gone = [ward for ward in wards if not ward.alive]
        with self._lock:
            for ward in gone:
                if self._wards.get(ward.pid) is ward:
                    del self._wards[ward.pid]
        return tuple(ward for ward in wards if ward not in gone and (jobs is None or ward.job in jobs))


def end(wards: Iterable[Ward], term_seconds: float = TERM_SECONDS) -> int:
    """Returns when no process of these is left, nor holds memory on a GPU: how many there were. Raises TimeoutError for what the
    kernel, or the driver, does not end."""
    living = [ward for ward in wards if ward.alive]
    tree = {pid for ward in living for pid in descendants(ward.pid)} | {p for w in living for p in members(w.pid)}
    for ward in living:
        signal_group(ward.pid, signal.SIGTERM)
    _wait(tree, term_seconds)
    for ward in living:
        tree |= set(members(ward.pid)) | (set(descendants(ward.pid)) if runs(ward.pid) else set())
        signal_group(ward.pid, signal.SIGKILL)
    left = {pid for pid in tree if runs(pid)}
    for pid in left:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    if left := _wait(left, GONE_SECONDS):
        raise TimeoutError(f"the kernel has not ended {len(left)} of {len(tree)} processes")
    deadline = time.monotonic() + GONE_SECONDS
    while held := gpus.holders() & tree:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the driver says that {len(held)} of {len(tree)} dead processes hold memory on a GPU")
        time.sleep(LOOK_SECONDS)
    return len(tree)


def rehearse(term_seconds: float = TERM_SECONDS) -> int:
    """Starts a process that ignores SIGTERM, and ends it as a worker is ended: how many were. For drills."""
    command = [sys.executable, "-S", "-c", STUBBORN]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True) as process:
        if process.stdout is not None:
            process.stdout.readline()
        wards = Wards()
        wards.add(b"", process.pid)
        return end(wards.of(), term_seconds)


def _wait(pids: Iterable[int], seconds: float) -> set[int]:
    """Those that still run after so long."""
    deadline = time.monotonic() + seconds
    left = {pid for pid in pids if runs(pid)}
    while left and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
        left = {pid for pid in left if runs(pid)}
    return left
