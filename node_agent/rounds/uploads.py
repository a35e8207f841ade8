"""The masked updates of one job on their way to the coordinator: large ones leave while they are made, each is signed for last."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, Final

from federation.errors import FederationError, Unavailable
from federation.halt.levels import Step
from federation.secagg import wire
from federation.secagg.messages import Upload
from node_agent.rounds.files import JobFiles
from node_agent.rounds.growing import GrowingUpdate
from node_agent.rounds.lab import Lab

INLINE_UPDATE: Final = 512 << 10
SEND_TRIES: Final = 4

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class Uploads:
    """``spawn``: runs beside the machine, until the job stops."""

    def __init__(self, lab: Lab, job: bytes, files: JobFiles, spawn: Spawn, log: Any) -> None:
        self._lab, self._job, self._files, self._spawn, self._log = lab, job, files, spawn, log
        self._ahead: dict[bytes, asyncio.Task[None]] = {}

    def begin(self, context: bytes, update: GrowingUpdate) -> None:
        """The bytes of a large one leave from here on; a small one goes with its trailer."""
        if update.size > INLINE_UPDATE:
            self._ahead[context] = self._spawn(self._send_ahead(context, update))

    async def _send_ahead(self, context: bytes, update: GrowingUpdate) -> None:
        """The bytes while they are made. What does not arrive goes again, and with a word to the log, before the trailer."""
        with contextlib.suppress(FederationError, FileNotFoundError):
            await self._lab.gate.admit(self._job, Step.finish)
            await self._lab.way.put_update(self._job, context, update)

    def leave(self, context: bytes) -> None:
        """Nothing more of it leaves."""
        if (task := self._ahead.pop(context, None)) is not None:
            task.cancel()

    def erase(self, context: bytes) -> None:
        self.leave(context)
        self._files.update(context).unlink(missing_ok=True)

    async def deliver(self, upload: Upload) -> Any | None:
        """The bytes, the same however often; the signed trailer as a message to send after them (or with them, when they are
        few). None: they did not arrive, and the attempt goes on without this lab."""
        path = self._files.update(upload.context)
        if (ahead := self._ahead.get(upload.context)) is not None:
            await asyncio.wait((ahead,))
        proto = wire.to_proto(upload)
        await self._lab.gate.admit(self._job, Step.finish)
        for attempt in range(SEND_TRIES):
            try:
                size = path.stat().st_size
                if size <= INLINE_UPDATE:
                    proto.inline_update = path.read_bytes()  # type: ignore[attr-defined]
                else:
                    await self._lab.way.put_update(self._job, upload.context, GrowingUpdate.whole(path))
            except FileNotFoundError:
                self._log.info("update.gone", detail="the masked update was erased; this attempt goes on without it")
                return None
            except Unavailable as error:
                self._log.warning("update.interrupted", detail=error.message)
                self._lab.count("transfers_retried")
                if attempt < SEND_TRIES - 1:
                    await asyncio.sleep(0.2 * 2**attempt)
            except FederationError as error:
                self._log.info("update.refused", detail=error.message)
                return None
            else:
                return proto
        return None
