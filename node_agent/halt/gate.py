"""What a job asks before each step, and where its processes are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from federation.halt.levels import Step


class Gate(Protocol):
    def permits(self, job: bytes, step: Step) -> bool:
        """Now; what is said a moment later is asked again."""
        ...

    async def admit(self, job: bytes, step: Step) -> None:
        """Returns when the step is permitted. Raises Halted when it never will be."""
        ...

    def settled(self, job: bytes) -> None:
        """A round of the job has ended."""
        ...

    def listen(self, job: bytes, changed: Callable[[], None]) -> None:
        """``changed`` is called in the event loop whenever more or less may be permitted; until ``leave``."""
        ...

    def leave(self, job: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class _Open:
    """For a rehearsal, of which nothing leaves."""

    def permits(self, job: bytes, step: Step) -> bool:
        del job, step
        return True

    async def admit(self, job: bytes, step: Step) -> None:
        del job, step

    def settled(self, job: bytes) -> None:
        del job

    def listen(self, job: bytes, changed: Callable[[], None]) -> None:
        del job, changed

    def leave(self, job: bytes) -> None:
        del job


OPEN: Final = _Open()
