"""The curves of a job as TensorBoard's event files: what `concord watch` leaves behind while it follows."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from coordinator.client.curves import file_name, points_of
from coordinator.client.views import Job
from federation.errors import InvalidUsage

PATTERN: Final = "events.out.tfevents.*"


class EventFiles:
    """One job's folder below ``root``. What an earlier watch left there of this job is written anew: a view tells every round."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._writer: Any = None
        self._told: set[int] = set()
        self.folder: Path | None = None

    def tell(self, job: Job) -> None:
        """Writes what is new. Raises InvalidUsage when the folder cannot be written."""
        fresh = [point for point in points_of(job) if point.round not in self._told]
        if not fresh:
            return
        try:
            if self._writer is None:
                self._open(job)
            for point in fresh:
                for name, value in point.scalars().items():
                    self._writer.add_scalar(name, value, point.round, walltime=point.moment or None)
                self._told.add(point.round)
            self._writer.flush()
        except OSError as error:
            raise InvalidUsage(
                f"The curves cannot be written to {self._root}: {error.strerror}.",
                hint="The job goes on. Name another folder with --events, or none with --no-events.",
            ) from None

    def _open(self, job: Job) -> None:
        from tensorboardX import SummaryWriter

        self.folder = self._root / file_name(job, exact=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        for old in self.folder.glob(PATTERN):
            old.unlink()
        self._writer = SummaryWriter(str(self.folder))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            with contextlib.suppress(OSError):  # said by ``tell``
                self._writer.close()
