"""All jobs of the coordinator, from their submission to their end. One event loop, no locks.

The docket says what follows from what: a start, a node that comes or goes, a halt, a new roll, what a driver reports. What is done
then has rooms of its own: ``submission``, ``answers`` and ``consultation``, ``seating``, ``hearing``, ``publication``; all work on
the ``cases``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import structlog

from coordinator.api.sessions import Session, Sessions
from coordinator.audit.book import LogBook
from coordinator.halts.effects import NOTHING_HALTED, Halting, effect
from coordinator.jobs import revocations
from coordinator.jobs.answers import Answers, question
from coordinator.jobs.case import UNABLE, UNDER_WAY, Case
from coordinator.jobs.cases import DIGEST_DIGITS, Cases
from coordinator.jobs.consultation import Consultation
from coordinator.jobs.hearing import Hearing
from coordinator.jobs.lifecycle import ENDED
from coordinator.jobs.publication import Publication
from coordinator.jobs.seating import Seating, connection
from coordinator.jobs.submission import Submissions
from coordinator.registry.enrolment import REFUSED_STATES, Registry, state_of
from coordinator.releases.desk import ReleaseDesk
from coordinator.rounds.driver import Desk, JobDriver, instruction_bytes
from coordinator.store.blobs import Blobs
from coordinator.store.database import Database, JobRow
from coordinator.store.spool import Spool
from coordinator.web.metrics import Metrics
from federation.errors import FederationError, NotFound
from federation.halt.levels import Level
from federation.identity.roll import Roll
from federation.identity.transport import Principal
from federation.manifest.manifest import open_manifest
from federation.secagg import events
from federation.secagg.messages import Sealing
from federation.v1 import rounds_pb2

log = structlog.get_logger()

MOST_QUESTIONS: Final = 256
"""that wait for a person at one node, and of which it hears whether they have ended"""


class Docket:
    """Implements ``rounds.driver.Ear``."""

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        spool: Spool,
        sessions: Sessions,
        registry: Registry,
        releases: ReleaseDesk,
        metrics: Metrics,
        clock: Callable[[], float],
        book: LogBook,
        halts: Halting = NOTHING_HALTED,
    ) -> None:
        self._database, self._sessions, self._registry = database, sessions, registry
        self._metrics, self._clock, self._halts = metrics, clock, halts
        self._out: frozenset[tuple[str, str]] = frozenset()
        """nodes that a roll has put out since the start; what they had open is refused, too"""
        self.open_cases = Cases(database, spool, sessions, metrics, clock, halts)
        self.submissions = Submissions(self.open_cases, database, blobs, registry, halts, clock)
        self.publication = Publication(self.open_cases, releases, book, sessions)
        desk = Desk(database, blobs, spool, sessions.post, clock, self)
        self._seating = Seating(self.open_cases, database, sessions, registry, halts, self.publication, desk, clock)
        self.open_cases.freed = self._seating.place_all
        self._consultation = Consultation(self.open_cases, database, sessions, registry, self._seating, clock)
        self._answers = Answers(self.open_cases, database, registry, self._seating, self._consultation, metrics, clock)
        self.hearing = Hearing(self.open_cases, self._answers, self._seating, book, metrics)

    # ----------------------------------------------------------------------------------------------------------- running

    def resume(self) -> None:
        """After a start: every job that has not ended goes on from the store."""
        with self._database.transaction() as change:
            rows = [row for row in change.jobs() if row.state not in ENDED]
            answers = {row.digest: change.consents(row.digest) for row in rows}
            placements = {row.digest: change.placement(row.digest) for row in rows}
        for row in rows:
            manifest = open_manifest(row.manifest, self._registry.roll())
            case = Case(manifest, row.state, row.submitted, placement=placements[row.digest])
            case.rounds_closed = row.rounds_closed
            case.answers = {(answer.member, answer.node): answer for answer in answers[row.digest]}
            self.open_cases.add(case)
            if self.open_cases.level(case) is Level.stop:  # the order was kept, and its effect was cut off
                self._obey(case)
            elif row.state in UNDER_WAY:
                self._seating.drive(case, fresh=False)
                self._obey(case)
                self._answers.leave_out(case)
            else:
                self._consultation.schedule(case)
        if rows:  # what a roll puts out may have come while nobody was here
            roll = self._registry.roll()
            self.amended(roll, roll)

    async def stop(self) -> None:
        await self.open_cases.stop()

    # -------------------------------------------------------------------------------------------------------------- leads

    def submit(self, caller: Principal, envelope: bytes) -> tuple[bytes, bool]:
        """Returns the job's digest and whether it is new. Raises InvalidManifest, InvalidIdentity, PolicyDenied."""
        manifest, case = self.submissions.submit(caller, envelope)
        if case is None:
            return manifest.digest, False
        for session in self._sessions.all():
            self._answers.ask(case, session)
        self._consultation.schedule(case)
        self.changed(case.digest)
        return manifest.digest, True

    def withdraw(self, caller: Principal, envelope: bytes) -> str:
        """Raises InvalidIdentity for anybody but the lead, OutOfOrder for a job that has ended."""
        return self.submissions.withdraw(caller, envelope)

    # -------------------------------------------------------------------------------------------------------------- nodes

    def connected(self, session: Session, hello: rounds_pb2.Hello) -> None:
        self._seen(session, "active")
        session.held = held = {position.job: position for position in hello.positions}
        for case in self.open_cases.all():
            if self._stopped_part(case, session.member, session.node):
                continue
            self._answers.ask(case, session)
            here = (session.member, session.node)
            if case.is_over_for(here) or case.was_put_out(here):
                continue
            if (driver := case.driver_of(*here)) is not None:
                if case.manifest.digest not in held and driver.takes_members:
                    session.send(question(case))  # its journal knows nothing of the job: it comes in anew
                driver.say(connection(session, case.manifest.digest))
                if driver.done:
                    self.publication.rounds_over(case)
        questions = (job for job in hello.questions[:MOST_QUESTIONS] if len(job) == DIGEST_DIGITS // 2)
        for job in {*held, *questions}:
            if self.open_cases.get(job.hex()) is None:
                self._answers.tell_end(session, job)
        self._seating.place_all()

    def disconnected(self, session: Session) -> None:
        self._seen(session, "enrolled")
        for case in self.open_cases.all():
            if (driver := case.driver_of(session.member, session.node)) is not None:
                driver.say(events.Lost(session.member))

    def _seen(self, session: Session, state: str) -> None:
        with self._database.transaction() as change:
            change.see_node(session.member, session.node, state, self._clock())

    def garbled(self, session: Session) -> None:
        """Bytes that are no event."""
        self.hearing.garbled(session)

    def heard(self, session: Session, event: rounds_pb2.NodeEvent) -> None:
        """One event from a node's stream. A bad one is noted against the node and changes nothing."""
        self.hearing.heard(session, event)

    async def room(self, session: Session) -> None:
        """Returns when no job of this node has more events waiting than memory is to hold."""
        await self.hearing.room(session)

    def driver(self, job: bytes, member: str, node: str) -> JobDriver:
        """The driver of a job in which this node holds a seat. Raises NotFound, also at once for a node that was put out."""
        case = self.open_cases.get(job.hex())
        driver = case.driver_of(member, node) if case is not None and (member, node) not in self._out else None
        if driver is None:
            raise NotFound("This node has no seat in such a job.", hint="The job may have ended.")
        return driver

    def state_limit(self, member: str, node: str) -> int:
        """Bytes of the largest state that some job has asked this node for; 0: none has."""
        drivers = (case.driver_of(member, node) for case in self.open_cases.all())
        return max((driver.state_limit(member) for driver in drivers if driver is not None), default=0)

    def gave_state(self, member: str, node: str) -> None:
        """This node has put a blob."""
        for case in self.open_cases.all():
            driver = case.driver_of(member, node)
            if driver is not None and driver.state_limit(member):
                driver.gave_state(member)
                return

    # -------------------------------------------------------------------------------------------------------------- halts

    def halted(self) -> None:
        """An order or a lift has come."""
        for case in self.open_cases.all():
            self._obey(case)
        self._seating.place_all()

    def _obey(self, case: Case) -> None:
        reason = self.open_cases.why_halted(case)
        phase = case.driver.machine.phase if case.driver is not None else ""
        to = effect(self.open_cases.level(case), case.state, phase)
        if to == "stopped":
            self.open_cases.end(case, to, reason)
            self.open_cases.tell(case, rounds_pb2.JobFailed(reason=f"stopped: {reason}"))
        elif to:
            self.open_cases.become(case, to, reason or "the halt is lifted")
            if case.driver is not None and case.driver.done:
                self.publication.rounds_over(case)
        if case.driver is not None and to != "stopped":
            for member, node in case.placement:
                if self._stopped_part(case, member, node):
                    case.driver.say(events.Lost(member))

    def _stopped_part(self, case: Case, member: str, node: str) -> bool:
        level = self._halts.level(case.manifest.digest, member, node, case.manifest.lead.id)
        return level is Level.stop

    # ---------------------------------------------------------------------------------------------------------- a new roll

    def amended(self, _old: Roll, roll: Roll) -> None:
        """A new roll is in force: every node is told, and whoever may not take part any more is out at once."""
        news = instruction_bytes(b"", rounds_pb2.Roll(history=roll.envelope))
        for session in self._sessions.all():
            session.send(news)
        with self._database.transaction() as change:
            nodes = change.nodes()
        out = {(row.member, row.node): state for row in nodes if (state := state_of(row, roll)) in REFUSED_STATES}
        for session in self._sessions.all():
            if (session.member, session.node) in out:
                log.warning(
                    "node.put-out", member=session.member, node=session.node, state=out[session.member, session.node]
                )
                session.close()
        self._out = frozenset(out)
        for case in self.open_cases.all():
            self._put_out(case, roll, out)

    def _put_out(self, case: Case, roll: Roll, out: Mapping[tuple[str, str], str]) -> None:
        try:
            roll.require_lead(case.manifest.lead.id)
        except FederationError as error:
            self.open_cases.fail(case, error.message)
            return
        for key, answer in list(case.answers.items()):
            if key in out and answer.state not in {UNABLE} | revocations.OVER:
                why = f"{out[key]} by the members' roll, version {roll.version}"
                self._answers.keep(case, replace(answer, state=UNABLE, reasons=(why,)))
                self.note(case.digest, key[0], why)
        if case.driver is not None:
            case.driver.amended(roll)
            for member, node in list(case.driver.members.items()):
                if (member, node) in out:
                    case.driver.leave_out(member)
        if case.state == "consulting":
            self._consultation.consider(case)

    # -------------------------------------------------------------------------------------------------------- driver's ear

    def closed(self, job: str, outcome: str, cohort: tuple[str, ...], phases: dict[str, float], received: int) -> None:
        case = self.open_cases.get(job)
        if case is not None and outcome == "closed":
            case.refused = ""  # it stopped nothing
            case.progressed, case.rounds_closed = self._clock(), case.rounds_closed + 1
        if case is not None and self.open_cases.level(case) is Level.drain:
            asyncio.get_running_loop().call_soon(self.halted)
        self._metrics.round_over(outcome, cohort, phases, received)

    def misconduct(self, job: str, member: str, check: str) -> None:
        self._metrics.violation(check, member)
        case = self.open_cases.get(job)
        log.warning("member.misconduct", **(case.names if case else {"job": job[:12]}), member=member, check=check)

    def stuck(self, job: str, reason: str) -> None:
        case = self.open_cases.get(job)
        if case is not None:
            self.open_cases.fail(case, f"{reason} {case.refused}".rstrip())

    def rounds_over(self, job: str) -> None:
        """Members give their final model, once they may: when the job's gates have passed, and with the vote that it takes."""
        self.publication.rounds_over(self.open_cases.get(job))

    def final_state(self, job: str, blob: bytes, sealings: tuple[Sealing, ...]) -> None:
        self.publication.final_state(self.open_cases.get(job), blob, sealings)

    # ------------------------------------------------------------------------------------------------------------ watching

    def changed(self, job: str) -> None:
        self.open_cases.changed(job)

    def next_change(self, job: str) -> asyncio.Event:
        """Is set at the next change. To be asked for before the view is: what changes between the two would be missed."""
        return self.open_cases.next_change(job)

    def note(self, job: str, member: str, text: str) -> None:
        self.open_cases.note(job, member, text)

    def row(self, query: str) -> JobRow:
        """By name (the newest), digest, or unique prefix. Raises NotFound."""
        return self.open_cases.row(query)

    def cases(self) -> tuple[Case, ...]:
        """Jobs that have not ended. From any thread."""
        return self.open_cases.all()
