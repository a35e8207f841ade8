"""What an order means for the jobs of this node, and the word to the coordinator when it has been carried out."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import structlog

from federation.errors import FederationError, Halted
from federation.halt.acknowledgement import Acknowledgement, seal_acknowledgement
from federation.halt.levels import Level
from federation.manifest.manifest import Manifest, open_manifest
from federation.v1 import halt_pb2
from node_agent.belongings import Belongings
from node_agent.halt.halts import Told
from node_agent.halt.own import OwnHand
from node_agent.halt.wards import rehearse
from node_agent.jobs import Jobs
from node_agent.link.halts import HaltLink
from node_agent.witness.watcher import Witness

log = structlog.get_logger()

LOOK_SECONDS: Final = 0.005


class CarryingOut:
    def __init__(self, own: Belongings, jobs: Jobs, link: HaltLink, witness: Witness) -> None:
        self._own, self._jobs, self._link, self._witness = own, jobs, link, witness
        names = own.settings
        self._hand = OwnHand(names.federation, names.member, names.node, own.key, own.halts.folder)
        self.refused = False
        """whether a job was refused for a halt: when less is halted, the coordinator is to ask again"""
        self._draining: dict[bytes, asyncio.TimerHandle] = {}
        self._answering: set[bytes] = set()
        self._answers: dict[bytes, bytes] = {}
        """acknowledgements that were made, told again on each new stream"""
        self._reached: dict[bytes, int] = {}
        self._passed: set[tuple[bytes, bool]] = set()

    def begin(self) -> None:
        """In the event loop, before any job is taken up."""
        halts = self._own.halts
        halts.obey, halts.distrust, halts.round_over = self.obey, self._distrust, self._round_over
        for record in self._own.journal.jobs("stopped"):
            halts.end_job(record.job)

    def ends(self, job: bytes, manifest: bytes) -> bool:
        """Whether a job of the journal is over before it is taken up: its stop came while the node was down."""
        own = self._own
        try:
            own.halts.know(job, open_manifest(manifest, own.roll).lead.id)
        except FederationError:  # then every lead counts
            log.warning("job.unreadable", job=job.hex()[:12])
        if own.halts.level(job) is not Level.stop:
            return False
        own.halts.end_job(job)
        own.journal.end_job(job, "stopped", own.halts.reason(job))
        own.files(job).erase_work()
        log.warning("job.stopped", job=job.hex()[:12], detail="It was stopped while it did not run here.")
        return True

    def check_not_halted(self, manifest: Manifest) -> None:
        """Nothing new is begun. Raises Halted; when it is lifted, the node dials again, and is asked again."""
        halts = self._own.halts
        halts.know(manifest.digest, manifest.lead.id)
        if halts.level(manifest.digest):
            self.refused = True
            raise Halted(
                f"It is halted here: {halts.reason(manifest.digest)}.",
                hint="The node is asked again when that is lifted.",
            )

    # ------------------------------------------------------------------------------------------------------------- obeying

    def obey(self) -> None:
        own, reached = self._own, 0
        for job in list(self._jobs):
            level = own.halts.level(job)
            if level is Level.stop:
                reached += 1
                self._stop(job)
            elif level is Level.drain and job not in self._draining:
                self._drain(job)
        for record in own.journal.jobs("suspended"):
            reached += self.ends(record.job, record.manifest)
        for told in own.halts.told():
            digest = told.signed.digest
            self._reached[digest] = self._reached.get(digest, 0) + reached
            if digest not in self._answering:
                self._answering.add(digest)
                own.tasks.spawn(self._answer(told))
        self._pass_on()
        if self.refused and not own.halts.level():
            self.refused = False
            own.link.redial()

    def _stop(self, job: bytes) -> None:
        own = self._own
        if (timer := self._draining.pop(job, None)) is not None:
            timer.cancel()
        reason = own.halts.reason(job)
        own.halts.end_job(job)
        self._jobs.end(job, "stopped", reason)

    def _drain(self, job: bytes) -> None:
        """The round that is under way may end, in the time that it has; then it is a stop."""
        driver = self._jobs[job]
        windows = driver.manifest.windows()
        seconds = windows.round + 3 * windows.phase if driver.contributing else 0.0
        self._draining[job] = asyncio.get_running_loop().call_later(seconds, self._drained, job)

    def _round_over(self, job: bytes) -> None:
        if job in self._draining:
            self._drained(job)

    def _drained(self, job: bytes) -> None:
        if (timer := self._draining.pop(job, None)) is not None:
            timer.cancel()
        if job in self._jobs and self._own.halts.level(job) >= Level.drain:
            self._stop(job)

    def _distrust(self, why: str) -> None:
        self._hand.halt(Level.stop, why)

    # ----------------------------------------------------------------------------------------------------------- answering

    async def _answer(self, told: Told) -> None:
        """When all that it stops here is over: no process, no file, no record is left."""
        own, signed = self._own, told.signed
        digest = signed.digest
        await self._jobs.all_closed()
        stopping = signed.order.level is Level.stop and not signed.order.drill
        if signed.order.drill and signed.order.level is Level.stop:
            told.processes = await asyncio.to_thread(rehearse)
        while stopping and (mine := own.halts.halted_workers()):
            log.info("halt.waits", workers=mine)
            await asyncio.sleep(LOOK_SECONDS)
        took = time.monotonic() - told.began
        own.metrics.halt_took(took)
        said = Acknowledgement(
            order=digest,
            member=own.settings.member,
            node=own.settings.node,
            level=signed.order.level,
            received=told.received.replace(microsecond=0),
            took_microseconds=int(took * 1e6),
            processes=told.processes,
            jobs=self._reached.pop(digest, 0) if stopping else self._jobs_of(told),
        )
        own.halts.folder.done(digest, {"seconds": took, "processes": said.processes, "jobs": said.jobs})
        self._answers[digest] = seal_acknowledgement(said, own.key)
        own.halts.answered(digest)
        self._pass_on()
        self._link.send(halt_pb2.HaltReport(acknowledgement=self._answers[digest]))

    def _jobs_of(self, told: Told) -> int:
        own = self._own
        return sum(own.halts.reaches(told.signed, job) for job in self._jobs)

    def connected(self) -> None:
        """A new stream for halts: all that this coordinator may have missed."""
        self._passed.clear()
        self._pass_on()
        for acknowledgement in self._answers.values():
            self._link.send(halt_pb2.HaltReport(acknowledgement=acknowledgement))

    def _pass_on(self) -> None:
        """Orders and lifts that this node got from elsewhere: whoever was not told by the coordinator may hear it from here."""
        halts, link = self._own.halts, self._link
        for signed in halts.orders():
            lift = halts.lift_of(signed.digest)
            if (signed.digest, lift is not None) not in self._passed:
                self._passed.add((signed.digest, lift is not None))
                link.send(halt_pb2.HaltReport(order=signed.envelope))
                if lift is not None:
                    link.send(halt_pb2.HaltReport(lift=lift.envelope))
                if signed.order.by == self._hand.by:  # this node's own word: the log must have it
                    self._witness.expect(signed.envelope, "halt")
                    if lift is not None:
                        self._witness.expect(lift.envelope, "lift")
