"""One contribution: evaluate and train in the warm worker, take the difference, clip, encode, mask, into one file.

From the difference on everything goes chunk by chunk over two memory-mapped files, on all cores that this process may use:
first the norm, then difference, levels, masks, hash and file at once. So memory does not grow with the model.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeVar

import structlog

from federation.errors import Unavailable
from federation.halt.levels import Step
from federation.manifest.manifest import Manifest
from federation.secagg.encoding import encoding_of, noises_of, pieces_of, settled_dither, update_size
from federation.secagg.events import Contribute
from federation.secagg.header import Header
from federation.secagg.levels import Source, clipped
from federation.secagg.parameters import Terms
from federation.weights.layout import Difference
from federation.weights.outer_step import initial_state, message_config
from federation.weights.state import ModelState
from federation.weights.tensors import read_arrays
from node_agent.halt.gate import OPEN, Gate
from node_agent.rounds.files import JobFiles
from node_agent.rounds.growing import GrowingUpdate
from node_agent.runner.accelerators import Accelerators
from node_agent.runner.worker import Reply, Worker, WorkerSpec

log = structlog.get_logger()

T = TypeVar("T")

STARTS: Final = 3
"""how often a worker that died is started again within one call"""
LANES: Final = min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
"""threads that encode"""


@dataclass(slots=True)
class Trainer:
    """Holds the job's one warm worker; calls do not overlap."""

    manifest: Manifest
    terms: Terms
    files: JobFiles
    spec: WorkerSpec
    accelerators: Accelerators = field(default_factory=Accelerators)
    """those of the node, which all its jobs share"""
    gate: Gate = OPEN
    """asked before each thing that the worker does"""
    count: Callable[[str], None] = lambda _name: None
    """metrics: one more of ..."""
    took: Callable[[str, float], None] = lambda _phase, _seconds: None
    """metrics: how long a part of a contribution took"""
    _worker: Worker | None = None
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    starts: int = 0

    async def close(self) -> None:
        await self._end_worker()
        self.accelerators.take_back(self.manifest.digest)

    async def _end_worker(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.close()

    async def worker(self) -> Worker:
        if self._worker is None or not self._worker.alive:
            if self._worker is not None:
                await self._worker.close()
            self._worker = None
            wanted = self.manifest.spec.resources.gpus
            gpus = await self.accelerators.lend(self.manifest.digest, wanted, self.manifest.gpu_memory_bytes)
            self._worker = await Worker.start(replace(self.spec, gpus=gpus) if gpus else self.spec)
            self.starts += 1
            self.count("worker_starts")
            if self.starts > 1:
                self.count("worker_restarts")
        return self._worker

    async def initial(self, snapshot: Path | None) -> ModelState:
        """state_1, from the manifest's factory and seed or from its snapshot. Raises TaskFailed, Unavailable."""
        out = self.files.scratch / "initial.safetensors"
        async with self._turn:
            if snapshot is not None:
                out = snapshot
            else:
                await self._surviving(lambda: self._make_initial(out))
        state = await asyncio.to_thread(initial_state, read_arrays(out), self.terms)
        await asyncio.to_thread(self.files.keep, state)
        return state

    async def contribute(
        self, task: Contribute, state: ModelState, begun: Callable[[GrowingUpdate], Awaitable[None]] | None = None
    ) -> bytes:
        """Writes the masked update of ``task.plan.context`` and returns its Merkle root; ``begun`` hears of its file when the
        first byte is about to be written, which waits for it. Raises TaskFailed, Unavailable."""
        out = self.files.updates / f"trained-{task.plan.context.hex()}.safetensors"
        try:
            async with self._turn:
                began = time.perf_counter()
                evaluated, trained = await self._surviving(lambda: self._replies(task, state, out))
            trained_at = time.perf_counter()
            root = await self._encoded(task, state, evaluated, trained, out, begun)
            self.took("task", trained_at - began)
            self.took("encode", time.perf_counter() - trained_at)
            out.unlink(missing_ok=True)
        except OSError as error:
            raise Unavailable(
                f"The update cannot be written or read: {error.strerror or type(error).__name__}.",
                hint="Is the disk full? Nothing was signed.",
            ) from error
        return root

    async def _encoded(
        self,
        task: Contribute,
        state: ModelState,
        evaluated: Reply | None,
        trained: Reply | None,
        out: Path,
        begun: Callable[[GrowingUpdate], Awaitable[None]] | None,
    ) -> bytes:
        encoding = encoding_of(self.terms, task.members, task.weight_unit)
        source: Source | None = None
        squared, plan = 0.0, task.plan
        if trained is not None:
            moved = await asyncio.to_thread(lambda: Difference(read_arrays(out), state.arrays))
            held, squared = await asyncio.to_thread(clipped, moved, self.terms.clip_norm, LANES)
            plan = await asyncio.to_thread(settled_dither, held, task.weight, plan, encoding, state.scales, LANES)
            source = held
        metrics = {**_named("evaluate", evaluated), **_named("train", trained)}
        header = Header.of(self.terms, task.weight, squared, metrics)
        size = 0 if source is None else source.size
        noise, figure_noise = noises_of(self.terms, encoding, task.plan, size)
        path = self.files.update(task.plan.context)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        update = GrowingUpdate.begun(path, update_size(self.terms, encoding, size))
        if begun is not None:
            await begun(update)
        pieces = pieces_of(source, header, plan, encoding, state.scales, noise, figure_noise, LANES)
        return await asyncio.to_thread(update.write, pieces)

    async def _surviving(self, work: Callable[[], Awaitable[T]]) -> T:
        """``work``, again with a new worker when the worker dies over it. Raises Unavailable when each of them died."""
        for start in range(1, STARTS):
            try:
                return await work()
            except Unavailable as error:
                log.warning("worker.died", detail=error.message, start=start)
                await self._end_worker()
        return await work()

    async def _make_initial(self, out: Path) -> None:
        await self.gate.admit(self.manifest.digest, Step.begin)
        out.unlink(missing_ok=True)
        worker = await self.worker()
        await worker.initial_model(self.manifest.factory or "", self.manifest.seed, out)

    async def _replies(self, task: Contribute, state: ModelState, out: Path) -> tuple[Reply | None, Reply | None]:
        await self.gate.admit(self.manifest.digest, Step.finish)
        worker = await self.worker()
        model = await asyncio.to_thread(self.files.show, state)
        for old in self.files.updates.glob("trained-*"):
            old.unlink(missing_ok=True)
        timeout = self.manifest.windows().round
        given = self.manifest.spec.messages
        evaluated = trained = None
        if self.manifest.spec.evaluate and worker.evaluates:
            evaluated = await worker.evaluate(model, {**given, "server-round": task.round}, timeout)
        if not task.header_only:
            config = {**given, **message_config(self.manifest.strategy, task.round)}
            if self.manifest.spec.local_steps is not None:
                config["local-steps"] = self.manifest.spec.local_steps
            if (privacy := self.terms.privacy) is not None and not privacy.distributed:
                config["privacy-noise-multiplier"] = privacy.noise_multiplier
                config["privacy-record-clip"] = privacy.record_clip
                config["privacy-sample-rate"] = privacy.sample_rate
            await self.gate.admit(self.manifest.digest, Step.finish)
            trained = await worker.train(model, out, config, timeout)
        return evaluated, trained


def _named(kind: str, reply: Reply | None) -> Mapping[str, float]:
    return {} if reply is None else {f"{kind}/{name}": value for name, value in reply.metrics.items()}
