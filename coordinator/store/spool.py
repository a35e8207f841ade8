"""Masked updates on disk, one file for each member of an attempt, until the sum is made. Memory stays flat in members."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from federation.errors import InvalidUsage, NotFound


@dataclass(slots=True)
class Spooled:
    """One update in the spool, read where it is asked for: not mapped, so that a process holds nothing of what it has read."""

    size: int
    _descriptor: int

    def read(self, start: int, out: memoryview) -> None:
        """Fills ``out`` from byte ``start`` on. From any thread. Raises NotFound when the file is shorter than it was."""
        done = 0
        while done < len(out):
            count = os.preadv(self._descriptor, [out[done:]], start + done)
            if not count:
                raise NotFound("An update in the spool is shorter than it was.")
            done += count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes: of updates that wait, of the file system that they are on, and what is free of it."""

    held: int
    disk: int
    free: int


class Spool:
    def __init__(self, root: Path, max_bytes: int) -> None:
        self._root = root
        self._max = max_bytes
        root.mkdir(parents=True, exist_ok=True)

    def held(self, job: bytes, context: bytes, member: str) -> int:
        path = self._path(job, context, member)
        return path.stat().st_size if path.exists() else 0

    def append(self, job: bytes, context: bytes, member: str, size: int, offset: int, data: bytes) -> int:
        """Raises InvalidUsage for a gap or more than ``size``. Returns the bytes held."""
        if not 0 < size <= self._max:
            raise InvalidUsage(
                f"An update of {size} bytes is more than this coordinator takes.", hint="Raise max_update_bytes."
            )
        path = self._path(job, context, member)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as stream:
            held = stream.tell()
            if offset != held or held + len(data) > size:
                raise InvalidUsage(f"A part at {offset} does not continue the {held} bytes held of {size}.")
            stream.write(data)
            return held + len(data)

    def put(self, job: bytes, context: bytes, member: str, data: bytes) -> None:
        path = self._path(job, context, member)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def open(self, job: bytes, context: bytes, member: str) -> Spooled:
        """The update; to be closed. Raises NotFound."""
        path = self._path(job, context, member)
        if not path.exists() or path.stat().st_size == 0:
            raise NotFound(f"The update of {member} is not in the spool.")
        descriptor = os.open(path, os.O_RDONLY)
        return Spooled(os.fstat(descriptor).st_size, descriptor)

    def drop(self, job: bytes, context: bytes, member: str) -> None:
        """What was received is worthless: the member may send it again from the beginning."""
        self._path(job, context, member).unlink(missing_ok=True)

    def settle(self, job: bytes, context: bytes, member: str) -> None:
        """On disk before the machine hears of it: an update that is counted survives a power cut."""
        descriptor = os.open(self._path(job, context, member), os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def usage(self) -> Usage:
        """Files that go meanwhile are not counted."""
        held = 0
        for folder, _, names in os.walk(self._root):
            for name in names:
                with suppress(FileNotFoundError):
                    held += os.stat(os.path.join(folder, name)).st_size  # noqa: PTH116, PTH118 - one call for each file
        disk = shutil.disk_usage(self._root)
        return Usage(held, disk.total, disk.free)

    def discard(self, job: bytes, context: bytes) -> None:
        shutil.rmtree(self._root / job.hex() / context.hex(), ignore_errors=True)

    def discard_job(self, job: bytes) -> None:
        shutil.rmtree(self._root / job.hex(), ignore_errors=True)

    def _path(self, job: bytes, context: bytes, member: str) -> Path:
        if len(job) != 32 or len(context) != 32:
            raise InvalidUsage("A job and a context are named by 32 bytes.")
        return self._root / job.hex() / context.hex() / member
