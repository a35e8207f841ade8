"""The states of one job on this node: the one in hand, those that come from other members, and those that go to them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from federation.errors import FederationError, VerificationFailed
from federation.secagg import events
from federation.secagg.member import Place
from federation.weights.layout import Layout
from federation.weights.state import MAX_FILE, ModelState, file_limit, read_state
from node_agent.rounds.files import JobFiles
from node_agent.rounds.lab import Way


class States:
    """``place``: which state the machine holds. What is promised by digest is compared before it is used, or sent."""

    def __init__(self, way: Way, files: JobFiles, place: Callable[[], Place], log: Any) -> None:
        self._way, self._files, self._place, self._log = way, files, place, log
        self._held: ModelState | None = None
        self.coming = asyncio.Lock()
        """one file comes at a time: however often it is offered, two never write to one place"""

    def hold(self, state: ModelState) -> None:
        self._held = state

    def held(self) -> ModelState:
        """The state that the machine holds. Raises VerificationFailed when the disk does not."""
        place = self._place()
        if self._held is None or self._held.digest() != place.state_digest:
            self._held = self._files.load(place.round, place.state_digest)
        return self._held

    def _limit(self) -> int:
        """Bytes of a state's file, as far as the model that is here tells."""
        try:
            return file_limit(Layout.of(self.held().arrays).size)
        except VerificationFailed:  # none is here
            return MAX_FILE

    async def fetch(self, wanted: events.FetchState) -> ModelState | None:
        """The certified state, kept on disk. None: it did not come, and is offered again on the next stream, or a later one is.
        Raises VerificationFailed when what came is not that state: whoever gave it has given something else."""
        path = self._files.root / "fetched.safetensors"
        try:
            async with self.coming:
                await self._way.get_blob(wanted.state_blob, path, await asyncio.to_thread(self._limit))
                if wanted.key:
                    path = await asyncio.to_thread(self._files.unsealed, path, wanted.key)
                state = await asyncio.to_thread(read_state, path)
                if state.round != wanted.round or await asyncio.to_thread(state.digest) != wanted.state_digest:
                    raise VerificationFailed("The state that came is not the one that the members certified.")
                await asyncio.to_thread(self._files.keep, state)
        except FederationError as error:
            hint = (
                error.hint or "It, or a later one, is offered again. If it stays so, tell the coordinator's operator."
            )
            self._log.error("state.not-fetched", round=wanted.round, detail=error.message, hint=hint)
            if isinstance(error, VerificationFailed):
                raise
            return None
        self.hold(state)
        return state

    async def put(self, digest: bytes, key: bytes) -> bytes:
        """SHA-256 of the state's file among the coordinator's blobs; empty when it is not here, or could not be put.

        ``key``: seals it for the other members, or the release's recipients, alone; empty: in clear.
        """
        path = await asyncio.to_thread(self._files.find, digest)
        if path is None:
            return b""
        try:
            if key:
                path = await asyncio.to_thread(self._files.sealed, path, key)
            blob = await asyncio.to_thread(_digest_of, path)
            await self._way.put_blob(blob, path)
        except (FederationError, FileNotFoundError) as error:
            self._log.warning("state.not-provided", detail=str(error))
            return b""
        return blob


def _digest_of(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
