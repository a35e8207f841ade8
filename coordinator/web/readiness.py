"""Whether the coordinator can serve, asked from the web server's thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable

ANSWER_SECONDS = 2.0


class Readiness:
    """Ready: it listens, its event loop takes turns, and its database answers within ``ANSWER_SECONDS``.

    ``answers``: whether the database does; called in the loop's own thread, like all else that uses the database.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, answers: Callable[[], bool]) -> None:
        self._loop, self._answers = loop, answers
        self.serving = False

    def __call__(self) -> bool:
        """From any thread but the loop's."""
        if not self.serving:
            return False
        try:
            return asyncio.run_coroutine_threadsafe(self._ask(), self._loop).result(ANSWER_SECONDS)
        except (concurrent.futures.TimeoutError, concurrent.futures.CancelledError, RuntimeError):
            return False

    async def _ask(self) -> bool:
        return self._answers()
