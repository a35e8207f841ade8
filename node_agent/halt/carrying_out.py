"""What an order means for the jobs of this node, and the word to the coordinator when it has been carried out."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import structlog

from federation.errors import FederationError
from federation.halt.acknowledgement import Acknowledgement, seal_acknowledgement
from federation.halt.levels import Level
from federation.manifest.manifest import open_manifest
from federation.v1 import halt_pb2
from node_agent.halt.halts import Told
from node_agent.halt.wards import rehearse

if TYPE_CHECKING:
    from node_agent.service import NodeAgent

log = structlog.get_logger()

LOOK_SECONDS: Final = 0.005


class CarryingOut:
    def __init__(self, agent: NodeAgent) -> None:
        self._agent = agent
        self.refused = False
        """whether a job was refused for a halt: when less is halted, the coordinator is to ask again"""
        self._closing: dict[bytes, asyncio.Task[None]] = {}
        self._draining: dict[bytes, asyncio.TimerHandle] = {}
        self._answering: set[bytes] = set()
        self._answers: dict[bytes, bytes] = {}
        """acknowledgements that were made, told again on each new stream"""
        self._reached: dict[bytes, int] = {}
        self._passed: set[tuple[bytes, bool]] = set()

    def begin(self) -> None:
        """In the event loop, before any job is taken up."""
        halts = self._agent.halts
        halts.obey, halts.distrust, halts.round_over = self.obey, self._distrust, self._round_over
        for record in self._agent.journal.jobs("stopped"):
            halts.end_job(record.job)

    def ends(self, job: bytes, manifest: bytes) -> bool:
        """Whether a job of the journal is over before it is taken up: its stop came while the node was down."""
        agent = self._agent
        try:
            agent.halts.know(job, open_manifest(manifest, agent.roll).lead.id)
        except FederationError:  # then every lead counts
            log.warning("job.unreadable", job=job.hex()[:12])
        if agent.halts.level(job) is not Level.stop:
            return False
        agent.halts.end_job(job)
        agent.journal.end_job(job, "stopped", agent.halts.reason(job))
        agent._files(job).erase_work()
        log.warning("job.stopped", job=job.hex()[:12], detail="It was stopped while it did not run here.")
        return True

    def closing(self, job: bytes, task: asyncio.Task[None]) -> None:
        self._closing[job] = task
        task.add_done_callback(lambda _task: self._closing.pop(job, None))

    async def closed(self, job: bytes) -> None:
        """Returns when what is being closed of the job is closed."""
        if (task := self._closing.get(job)) is not None:
            await asyncio.wait({task})

    # ------------------------------------------------------------------------------------------------------------- obeying

    def obey(self) -> None:
        agent, reached = self._agent, 0
        for job in list(agent.jobs):
            level = agent.halts.level(job)
            if level is Level.stop:
                reached += 1
                self._stop(job)
            elif level is Level.drain and job not in self._draining:
                self._drain(job)
        for record in agent.journal.jobs("suspended"):
            reached += self.ends(record.job, record.manifest)
        for told in agent.halts.told():
            digest = told.signed.digest
            self._reached[digest] = self._reached.get(digest, 0) + reached
            if digest not in self._answering:
                self._answering.add(digest)
                agent._spawn(self._answer(told))
        self._pass_on()
        if self.refused and not agent.halts.level():
            self.refused = False
            agent.link.redial()

    def _stop(self, job: bytes) -> None:
        agent = self._agent
        if (timer := self._draining.pop(job, None)) is not None:
            timer.cancel()
        reason = agent.halts.reason(job)
        agent.halts.end_job(job)
        agent._end(job, "stopped", reason)

    def _drain(self, job: bytes) -> None:
        """The round that is under way may end, in the time that it has; then it is a stop."""
        driver = self._agent.jobs[job]
        windows = driver.manifest.windows()
        seconds = windows.round + 3 * windows.phase if driver.contributing else 0.0
        self._draining[job] = asyncio.get_running_loop().call_later(seconds, self._drained, job)

    def _round_over(self, job: bytes) -> None:
        if job in self._draining:
            self._drained(job)

    def _drained(self, job: bytes) -> None:
        if (timer := self._draining.pop(job, None)) is not None:
            timer.cancel()
        if job in self._agent.jobs and self._agent.halts.level(job) >= Level.drain:
            self._stop(job)

    def _distrust(self, why: str) -> None:
        self._agent.own_hand.halt(Level.stop, why)

    # ----------------------------------------------------------------------------------------------------------- answering

    async def _answer(self, told: Told) -> None:
        """When all that it stops here is over: no process, no file, no record is left."""
        agent, signed = self._agent, told.signed
        digest = signed.digest
        while self._closing:
            await asyncio.wait(list(self._closing.values()))
        stopping = signed.order.level is Level.stop and not signed.order.drill
        if signed.order.drill and signed.order.level is Level.stop:
            told.processes = await asyncio.to_thread(rehearse)
        while stopping and (mine := agent.halts.halted_workers()):
            log.info("halt.waits", workers=mine)
            await asyncio.sleep(LOOK_SECONDS)
        took = time.monotonic() - told.began
        agent.metrics.halt_took(took)
        said = Acknowledgement(
            order=digest,
            member=agent.settings.member,
            node=agent.settings.node,
            level=signed.order.level,
            received=told.received.replace(microsecond=0),
            took_microseconds=int(took * 1e6),
            processes=told.processes,
            jobs=self._reached.pop(digest, 0) if stopping else self._jobs_of(told),
        )
        agent.halts.folder.done(digest, {"seconds": took, "processes": said.processes, "jobs": said.jobs})
        self._answers[digest] = seal_acknowledgement(said, agent.key)
        agent.halts.answered(digest)
        self._pass_on()
        agent.halt_link.send(halt_pb2.HaltReport(acknowledgement=self._answers[digest]))

    def _jobs_of(self, told: Told) -> int:
        agent = self._agent
        return sum(agent.halts.reaches(told.signed, job) for job in agent.jobs)

    def connected(self) -> None:
        """A new stream for halts: all that this coordinator may have missed."""
        self._passed.clear()
        self._pass_on()
        for acknowledgement in self._answers.values():
            self._agent.halt_link.send(halt_pb2.HaltReport(acknowledgement=acknowledgement))

    def _pass_on(self) -> None:
        """Orders and lifts that this node got from elsewhere: whoever was not told by the coordinator may hear it from here."""
        halts, link = self._agent.halts, self._agent.halt_link
        for signed in halts.orders():
            lift = halts.lift_of(signed.digest)
            if (signed.digest, lift is not None) not in self._passed:
                self._passed.add((signed.digest, lift is not None))
                link.send(halt_pb2.HaltReport(order=signed.envelope))
                if lift is not None:
                    link.send(halt_pb2.HaltReport(lift=lift.envelope))
                if signed.order.by == self._agent.own_hand.by:  # this node's own word: the log must have it
                    self._agent.witness.expect(signed.envelope, "halt")
                    if lift is not None:
                        self._agent.witness.expect(lift.envelope, "lift")
