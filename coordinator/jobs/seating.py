"""Who runs a job: places for those that are ready, a seat for whoever comes later, and the driver of those that run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from coordinator.api.sessions import Session, Sessions
from coordinator.halts.effects import Halting
from coordinator.jobs.case import UNDER_WAY, Case
from coordinator.jobs.cases import Cases
from coordinator.jobs.placement import Capacity, Request, place
from coordinator.jobs.publication import Publication
from coordinator.registry.enrolment import Registry
from coordinator.rounds.driver import Desk, JobDriver
from coordinator.store.database import Database
from federation.halt.levels import Level
from federation.secagg import events

STATE_DIGEST: Final = 32


class Seating:
    def __init__(
        self,
        cases: Cases,
        database: Database,
        sessions: Sessions,
        registry: Registry,
        halts: Halting,
        publication: Publication,
        desk: Desk,
        clock: Callable[[], float],
    ) -> None:
        self._cases, self._database, self._sessions, self._registry = cases, database, sessions, registry
        self._halts, self._publication, self._desk, self._clock = halts, publication, desk, clock

    def place_all(self) -> None:
        """Every job that is ready and that nothing halts gets its places, or the sentence why it waits."""
        roll = self._registry.roll()
        running = [case for case in self._cases.all() if case.state in UNDER_WAY and not case.proposed]
        ready = [case for case in self._cases.all() if case.state == "ready"]
        held = [case for case in ready if self._cases.level(case)]
        for case in held:
            self._cases.become(case, "ready", f"waits: {self._cases.why_halted(case)}")
        waiting = [case for case in ready if case not in held]
        if not waiting:
            return
        sessions = [
            (session, roll.member(session.member).jurisdiction)
            for session in self._sessions.all()
            if self._halts.level(member=session.member, node=session.node) is Level.none
        ]
        idle = [_left(session, code, []) for session, code in sessions]
        nodes = [
            _left(session, code, [c for c in running if (session.member, session.node) in c.placement])
            for session, code in sessions
        ]
        with self._database.transaction() as change:
            order = {row.digest: row.sequence for case in waiting if (row := change.job(case.digest)) is not None}
        decision = place(nodes, [_request(case, order[case.digest]) for case in waiting], idle)
        for case in waiting:
            placed = decision.placements.get(case.digest)
            if placed is None:
                self._cases.become(case, "ready", decision.explanations[case.digest])
                continue
            case.placement = placed
            now = self._clock()
            with self._database.transaction() as change:
                change.place(case.digest, placed)
                change.audit(now, "placement", case.digest)
            self._cases.become(case, "running", decision.explanations[case.digest])
            self.drive(case, fresh=True)

    def drive(self, case: Case, *, fresh: bool) -> None:
        """Starts the job's driver: from its beginning when it is ``fresh``, or where its store says that it stood."""
        driver = JobDriver(self._desk, case.manifest, self._registry.roll(), case.placement)
        case.driver, case.progressed = driver, self._clock()
        driver.start()
        fresh = fresh or driver.machine.phase == "new"
        if fresh:
            for member, node in case.placement:
                if self._sessions.get(member, node) is not None:
                    driver.say(events.Connected(member))
            driver.say(events.Begin(case.placement))
        if driver.done:
            self._publication.rounds_over(case)

    def join(self, case: Case, driver: JobDriver, session: Session) -> None:
        """Its consent has come while the job runs: it takes part from the next epoch on."""
        here = (session.member, session.node)
        if here not in case.placement:
            busy = [other for other in self._cases.all() if here in other.placement]
            capacity = _left(session, self._registry.roll().member(session.member).jurisdiction, busy)
            request = replace(_request(case, 0), min_members=1, min_jurisdictions=1, consented=(here,))
            decision = place([capacity], [request])
            if case.digest not in decision.placements:
                self._cases.note(case.digest, session.member, f"does not join: {decision.explanations[case.digest]}")
                return
            case.placement = tuple(sorted((*case.placement, here)))
            now = self._clock()
            with self._database.transaction() as change:
                change.place(case.digest, case.placement)
                change.add_line(case.digest, now, "joins at the next epoch", session.member)
                change.audit(now, "placement", case.digest)
            driver.seat(*here)
        else:
            driver.say(events.Readmitted(session.member))
        driver.say(connection(session, case.manifest.digest))
        driver.say(events.Join(session.member))


def connection(session: Session, job: bytes) -> events.Connected:
    """With where its hello said that it stands."""
    position = session.held.get(job)
    if position is None or len(position.state_digest) != STATE_DIGEST:
        return events.Connected(session.member)
    return events.Connected(session.member, position.round, position.state_digest)


def _left(session: Session, jurisdiction: str, running: list[Case]) -> Capacity:
    """What the node offers, less what the jobs that run there take."""
    offer = session.offer
    left = Capacity(
        member=session.member,
        node=session.node,
        jurisdiction=jurisdiction,
        connected=True,
        gpus=tuple(gpu.memory_bytes for gpu in offer.gpus if not gpu.is_slice),
        cpus=offer.cpus,
        memory=offer.memory_bytes,
        slices=tuple(gpu.memory_bytes for gpu in offer.gpus if gpu.is_slice),
    )
    for case in running:
        wanted = case.manifest.spec.resources
        left = left.less(wanted.gpus, case.manifest.gpu_memory_bytes, wanted.cpus, case.manifest.memory_bytes)
    return left


def _request(case: Case, sequence: int) -> Request:
    spec, people = case.manifest.spec, case.manifest.spec.participants
    return Request(
        job=case.digest,
        priority=spec.priority,
        sequence=sequence,
        gpus=spec.resources.gpus,
        gpu_memory=case.manifest.gpu_memory_bytes,
        cpus=spec.resources.cpus,
        memory=case.manifest.memory_bytes,
        min_members=people.min_members,
        max_members=people.max_members,
        min_jurisdictions=people.min_jurisdictions,
        consented=tuple(sorted(key for key, answer in case.answers.items() if answer.state == "granted")),
    )
