"""The wait for the log's witnesses before a release is made: its proofs take a head that a quorum of its roster has cosigned."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from coordinator.api.sessions import Sessions
from coordinator.audit.book import LogBook
from coordinator.releases.desk import ReleaseDesk
from federation.manifest.manifest import Manifest

QUIET_SECONDS: Final = 5.0
"""how long it waits before it says so"""


async def witnessed_head(
    releases: ReleaseDesk,
    book: LogBook,
    sessions: Sessions,
    manifest: Manifest,
    needed: Callable[[], bool],
    say: Callable[[str], None],
) -> int | None:
    """The size of a head that holds all of the job so far; None once it is not ``needed`` any more. Raises a FederationError."""
    keys, quorum = releases.witnesses(manifest)

    def waits() -> None:
        if needed():
            say(f"the release waits until {quorum} nodes of its roster have cosigned the public log")

    timer = asyncio.get_running_loop().call_later(QUIET_SECONDS, waits)
    try:
        return await book.witnessed(sessions, keys, quorum, needed)
    finally:
        timer.cancel()
