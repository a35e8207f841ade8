"""Which job holds which of this node's accelerators: each is lent to one job at a time.

The coordinator counts what a node has left and names no device; which ones a job gets is decided here, when its worker starts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Final

from federation.errors import Unavailable
from node_agent.runner.devices import Gpu, detect_gpus

PATIENCE_SECONDS: Final = 30.0
"""a job before this one may still be ending its worker"""


def chosen(gpus: Sequence[Gpu], taken: Collection[int], count: int, memory_bytes: int) -> tuple[int, ...]:
    """The indices of the ``count`` smallest free ones with so much memory; none when there are too few.

    Slices of cards serve jobs that ask for one: CUDA shows a process no more than one of them (NVIDIA, MIG User Guide).
    """
    fitting = [gpu for gpu in gpus if gpu.memory_bytes >= memory_bytes and not (gpu.is_slice and count > 1)]
    free = [gpu for gpu in fitting if gpu.index not in taken]
    smallest = sorted(free, key=lambda gpu: (gpu.memory_bytes, gpu.index))[:count]
    return tuple(sorted(gpu.index for gpu in smallest)) if len(smallest) == count else ()


class Accelerators:
    """``detect`` is asked anew each time: a card may have gone."""

    def __init__(
        self, detect: Callable[[], Sequence[Gpu]] = detect_gpus, *, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self._detect = detect
        self._patience = patience_seconds
        self._held: dict[bytes, tuple[int, ...]] = {}
        self._given_back = asyncio.Event()

    async def lend(self, job: bytes, count: int, memory_bytes: int) -> tuple[int, ...]:
        """The indices that ``job`` holds until ``take_back``; asked again, the same. Raises Unavailable when they stay taken."""
        if count == 0 or job in self._held:
            return self._held.get(job, ())
        try:
            async with asyncio.timeout(self._patience):
                while not (free := chosen(self._detect(), self._taken(), count, memory_bytes)):
                    self._given_back.clear()
                    await self._given_back.wait()
        except TimeoutError:
            raise Unavailable(
                f"The {count} GPUs that the job was given are not free on this node.",
                hint="Look at nvidia-smi; restart the agent when a card is gone.",
            ) from None
        self._held[job] = free
        return free

    def take_back(self, job: bytes) -> None:
        if self._held.pop(job, None) is not None:
            self._given_back.set()

    def _taken(self) -> set[int]:
        return {index for indices in self._held.values() for index in indices}
