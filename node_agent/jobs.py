"""The jobs that run here, by digest: taken up from this lab's own disk, set aside, closed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import structlog

from federation.errors import FederationError, Halted, NotFound
from federation.halt.levels import Level
from federation.identity.consent import Consent, open_consent
from federation.identity.withdrawal import open_withdrawal
from federation.manifest.bundle import unpack
from federation.manifest.manifest import Manifest
from federation.v1 import rounds_pb2
from node_agent.belongings import Belongings
from node_agent.rounds.driver import JobDriver
from node_agent.rounds.files import JobFiles
from node_agent.rounds.lab import Lab
from node_agent.rounds.outbox import event_of
from node_agent.rounds.spec import data_paths, worker_spec
from node_agent.rounds.training import Trainer
from node_agent.runner.accelerators import Accelerators
from node_agent.runner.worker import WorkerSpec
from node_agent.store.data_version import DataVersions
from node_agent.witness.watcher import Witness

log = structlog.get_logger()

BUNDLE_LIMIT: Final = 128 << 20


class Jobs(Mapping[bytes, JobDriver]):
    def __init__(self, own: Belongings, lab: Lab, witness: Witness, versions: DataVersions, sandbox: str) -> None:
        self._own, self._lab, self._witness, self._versions, self._sandbox = own, lab, witness, versions, sandbox
        self._accelerators = Accelerators()
        self._running: dict[bytes, JobDriver] = {}
        self._closing: dict[bytes, asyncio.Task[None]] = {}

    def __getitem__(self, job: bytes) -> JobDriver:
        return self._running[job]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._running)

    def __len__(self) -> int:
        return len(self._running)

    # ---------------------------------------------------------------------------------------------------------- beginning

    async def fetch_bundle(self, manifest: Manifest) -> None:
        files = self._own.files(manifest.digest)
        files.prepare()
        packed = files.root / "bundle.tar"
        await self._own.link.get_blob(manifest.bundle_digest, packed, min(manifest.bundle_size, BUNDLE_LIMIT))
        files.unpack(unpack(packed.read_bytes(), manifest.bundle_digest))

    async def take_up(self, manifest: Manifest, *, fetch: bool) -> None:
        """Starts the driver of a job that this lab consented to. Raises NotFound when its consent is not on disk, or Halted."""
        own = self._own
        self._witness.check()
        record = own.journal.consent(manifest.digest)
        if record is None or not record.granted or own.revocations.revoked(manifest.digest):
            raise NotFound("There is no consent to this job on this node's disk.")
        own.halts.know(manifest.digest, manifest.lead.id)
        files = own.files(manifest.digest)
        files.prepare()
        if fetch or not files.bundle.exists():
            await self.fetch_bundle(manifest)
        consent = open_consent(record.envelope, own.credential)
        paths = data_paths(manifest, consent.data_set, own.settings).values()
        driver = JobDriver(
            self._lab,
            manifest,
            consent,
            Trainer(
                manifest,
                manifest.terms(),
                files,
                self.spec(manifest, consent, files),
                self._accelerators,
                gate=own.halts,
                count=own.metrics.count,
                took=own.metrics.took,
            ),
            files,
            lambda: tuple(self._versions.of(path) for path in paths),
        )
        self._running[manifest.digest] = driver
        driver.start()

    def spec(self, manifest: Manifest, consent: Consent, files: JobFiles) -> WorkerSpec:
        own = self._own
        spec = worker_spec(manifest, consent.data_set, own.settings, files, own.roll, self._sandbox)
        return replace(spec, started=lambda pid: own.halts.started(manifest.digest, pid))

    # -------------------------------------------------------------------------------------------------------------- ending

    def pop(self, job: bytes) -> JobDriver | None:
        """The job is the node's no more; whoever takes it stops it."""
        return self._running.pop(job, None)

    def end(self, job: bytes, state: str, reason: str) -> None:
        """The job has ended: what it had here is closed and erased."""
        own, driver = self._own, self.pop(job)
        if driver is None or not driver.position.epoch:  # on a roster, its consent came in time and is owed
            self._witness.settle(job)
        if driver is not None:
            if own.halts.level(job) is Level.stop:
                state, reason = "stopped", own.halts.reason(job)
            log.info("job.ended", **driver.names, state=state, reason=reason)
            self._close(job, self._closed(driver, job, state, reason))
        elif own.lapses.lapsed(job):
            self._close(job, self._closed(None, job, state, reason))

    def withdrawn(self, job: bytes, envelope: bytes) -> None:
        """Its own lead takes it back; anybody else's word is refused."""
        driver = self.get(job)
        if driver is None:
            return
        try:
            withdrawal = open_withdrawal(envelope, job, driver.manifest.lead.key)
        except FederationError as error:
            log.warning("withdrawal.refused", detail=error.message)
            return
        self.end(job, "withdrawn", withdrawal.reason)

    def lapse(self, job: bytes, why: str) -> None:
        """This lab is out, or was: its worker ends and it says nothing more of the job, until it is taken back and asked anew."""
        driver = self._running.pop(job)
        log.warning("consent.lapsed", **driver.names, detail=why)
        self._close(job, self._set_aside(driver, job, why))

    def refuse_all(self, why: str) -> None:
        """Every task ends; the coordinator hears why, for each job. Journals stay."""
        refusal = rounds_pb2.Refusal(code=Halted.code, text=why[:1000])
        for job, driver in list(self.items()):
            self._own.link.send(event_of(job, refusal))
            self._own.tasks.spawn(driver.stop())
        self._running.clear()

    async def stop(self) -> None:
        """The node stops, and takes its jobs up again when it starts."""
        for driver in list(self.values()):
            await driver.stop()

    async def closed(self, job: bytes) -> None:
        """Returns when what is being closed of the job is closed."""
        if (task := self._closing.get(job)) is not None:
            await asyncio.wait({task})

    async def all_closed(self) -> None:
        while self._closing:
            await asyncio.wait(list(self._closing.values()))

    def _close(self, job: bytes, work: Coroutine[Any, Any, None]) -> None:
        self._closing[job] = task = self._own.tasks.spawn(work)
        task.add_done_callback(lambda _task: self._closing.pop(job, None))

    async def _set_aside(self, driver: JobDriver, job: bytes, why: str) -> None:
        await driver.stop()
        await asyncio.to_thread(self._own.journal.lapse, job, why)

    async def _closed(self, driver: JobDriver | None, job: bytes, state: str, reason: str) -> None:
        if driver is not None:
            await driver.stop()
        await asyncio.to_thread(self._own.journal.end_job, job, state, reason)
        await asyncio.to_thread(self._own.files(job).erase_work)
