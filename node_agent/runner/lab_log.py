"""The lab's log of one job's tasks: what they print, and tracebacks. Bounded; it never leaves the node.

A task that prints without end neither fills the disk nor keeps the agent busy: beyond the limit its output is read
slowly and thrown away, which slows the task and nothing else.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

LIMIT_BYTES: Final = 16 << 20
PIECE: Final = 64 << 10
PAUSE_SECONDS: Final = 0.02
FULL: Final = b"\n[concord] the log is full; what follows is thrown away\n"


class LabLog:
    """Writes one pipe to the end of ``path`` (mode 0600), from the event loop, without a thread."""

    def __init__(self, path: Path, *, limit: int = LIMIT_BYTES) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._file = open(descriptor, "wb", buffering=0)  # noqa: SIM115 - closed with the object
        self._left = limit - os.fstat(descriptor).st_size
        self._source, self.sink = os.pipe()
        os.set_blocking(self._source, False)
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._loop.add_reader(self._source, self._take)

    def close_sink(self) -> None:
        """The agent's own copy of the writing end, once the worker has its."""
        if self.sink >= 0:
            os.close(self.sink)
            self.sink = -1

    def close(self) -> None:
        """Takes what is still in the pipe and ends; idempotent."""
        if self._file.closed:
            return
        self.close_sink()
        for _ in range(32):  # a pipe holds 1 MiB at most; a task that has ended writes no more
            if not self._read():
                break
        self._stop_reading()
        os.close(self._source)
        self._file.close()

    def _take(self) -> None:
        if not self._read():
            self._stop_reading()
        elif self._left <= 0:
            self._stop_reading()
            self._pause = self._loop.call_later(PAUSE_SECONDS, self._resume)

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._source, self._take)

    def _stop_reading(self) -> None:
        self._loop.remove_reader(self._source)
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    def _read(self) -> bool:
        try:
            data = os.read(self._source, PIECE)
        except BlockingIOError:
            return True
        if self._left > 0 and data:
            self._write(data)
        return bool(data)

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data[: self._left])
            self._left -= len(data)
            if self._left <= 0:
                self._file.write(FULL)
        except OSError:  # the disk is full: a log must not end the job
            self._left = 0
