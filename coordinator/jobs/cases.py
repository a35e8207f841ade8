"""The jobs that have not ended: what becomes of each, its story, and who watches. State, story and log entry in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog

from coordinator.api.sessions import Sessions
from coordinator.halts.effects import Halting
from coordinator.jobs.case import Case
from coordinator.jobs.lifecycle import step
from coordinator.rounds.driver import instruction_bytes
from coordinator.store.database import Database, JobRow
from coordinator.store.spool import Spool
from coordinator.web.metrics import Metrics
from federation.errors import NotFound
from federation.halt.levels import Level
from federation.v1 import rounds_pb2

log = structlog.get_logger()

REMARKS_KEPT: Final = 100
"""of each member in a job's story, which does not grow with a peer's patience"""
MIN_PREFIX: Final = 6
DIGEST_DIGITS: Final = 64
HEX: Final = frozenset("0123456789abcdef")

End = rounds_pb2.Withdrawn | rounds_pb2.JobFailed | rounds_pb2.Finished


class Cases:
    def __init__(
        self,
        database: Database,
        spool: Spool,
        sessions: Sessions,
        metrics: Metrics,
        clock: Callable[[], float],
        halts: Halting,
    ) -> None:
        self._database, self._spool, self._sessions = database, spool, sessions
        self._metrics, self._clock, self._halts = metrics, clock, halts
        self._open: dict[str, Case] = {}
        self._watchers: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.freed: Callable[[], None] = lambda: None
        """is called when a job has given its room back"""

    # ------------------------------------------------------------------------------------------------------- which there are

    def add(self, case: Case) -> None:
        self._open[case.digest] = case

    def get(self, job: str) -> Case | None:
        return self._open.get(job)

    def all(self) -> tuple[Case, ...]:
        """As they are now; the jobs may end while it is gone through. From any thread."""
        return tuple(self._open.values())

    def row(self, query: str) -> JobRow:
        """Any job, also one that has ended: by name (the newest), digest, or unique prefix. Raises NotFound."""
        with self._database.transaction() as change:
            if len(query) == DIGEST_DIGITS and (row := change.job(query)) is not None:
                return row
            matching = change.find_jobs(query, query if len(query) >= MIN_PREFIX and set(query) <= HEX else "")
        if len(matching) == 1:
            return matching[0]
        if matching:
            raise NotFound(f"{query} fits {len(matching)} jobs.", hint="Give more digits.")
        raise NotFound(f"There is no job {query[:80]!r}.", hint="See: concord get jobs")

    # --------------------------------------------------------------------------------------------------- what becomes of one

    def become(self, case: Case, state: str, reason: str) -> None:
        """Raises OutOfOrder for a step that the life of a job does not have; the same state again changes the reason."""
        if state != case.state:
            step(case.state, state)
        now = self._clock()
        with self._database.transaction() as change:
            change.update_job(case.digest, state=state, reason=reason)
            if state != case.state:
                change.add_line(case.digest, now, f"{state}: {reason}")
                change.audit(now, "job-state", f"{case.digest} {state}")
        if state == "running" != case.state:
            case.progressed = now
        case.state = state
        self.changed(case.digest)

    def end(self, case: Case, state: str, reason: str, withdrawal: bytes | None = None, release: str = "") -> None:
        step(case.state, state)
        now = self._clock()
        with self._database.transaction() as change:
            change.update_job(case.digest, state=state, reason=reason, withdrawal=withdrawal, release=release)
            if case.driver is not None:
                case.driver.leave(change, reason)
            change.add_line(case.digest, now, f"{state}: {reason}")
            change.audit(now, "job-state", f"{case.digest} {state}", withdrawal or b"")
        case.state = state
        self._open.pop(case.digest, None)
        if case.timer is not None:
            case.timer.cancel()
        if case.driver is not None:
            self.spawn(case.driver.stop())
        self._spool.discard_job(case.manifest.digest)
        self._metrics.job_ended(state)
        log.info("job.ended", **case.names, state=state, reason=reason)
        self.changed(case.digest)
        asyncio.get_running_loop().call_soon(self.freed)

    def fail(self, case: Case, reason: str) -> None:
        self.end(case, "failed", reason)
        self.tell(case, rounds_pb2.JobFailed(reason=reason))

    def tell(self, case: Case, end: End) -> None:
        """To every node that was asked: one that consented and got no place has made its preparations too."""
        data = instruction_bytes(case.manifest.digest, end)
        for member, node in sorted(set(case.placement) | set(case.answers)):
            self._sessions.post(member, node, data)

    # ------------------------------------------------------------------------------------------------------------ halted ones

    def level(self, case: Case) -> Level:
        return self._halts.level(case.manifest.digest, lead=case.manifest.lead.id)

    def why_halted(self, case: Case) -> str:
        return self._halts.reason(case.manifest.digest, lead=case.manifest.lead.id)

    # ----------------------------------------------------------------------------------------------------- story and watchers

    def note(self, job: str, member: str, text: str) -> None:
        case = self.get(job)
        if case is None or case.remarks[member] > REMARKS_KEPT:
            return
        case.remarks[member] += 1
        if case.remarks[member] > REMARKS_KEPT:
            text = "said more than a story holds; the rest is left out"
        with self._database.transaction() as change:
            change.add_line(job, self._clock(), text, member)
        self.changed(job)

    def changed(self, job: str) -> None:
        self._watchers.pop(job, asyncio.Event()).set()

    def next_change(self, job: str) -> asyncio.Event:
        """Is set at the next change. To be asked for before the view is: what changes between the two would be missed."""
        return self._watchers.setdefault(job, asyncio.Event())

    # ---------------------------------------------------------------------------------------------------------------- running

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        for case in self.all():
            if case.timer is not None:
                case.timer.cancel()
            if case.driver is not None:
                await case.driver.stop()
        for task in list(self._tasks):
            task.cancel()
