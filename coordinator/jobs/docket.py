"""All jobs of the coordinator: submission, asking for consent, placing, starting drivers, ending. One event loop, no locks."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

import structlog

from coordinator.api.sessions import Session, Sessions
from coordinator.audit.book import LogBook
from coordinator.halts.effects import NOTHING_HALTED, Halting, effect
from coordinator.jobs import revocations
from coordinator.jobs.lifecycle import ENDED, step
from coordinator.jobs.placement import Capacity, Request, place
from coordinator.registry.enrolment import REFUSED_STATES, Registry, state_of
from coordinator.releases.desk import ReleaseDesk
from coordinator.releases.witnessing import witnessed_head
from coordinator.rounds.driver import Desk, JobDriver, instruction_bytes
from coordinator.store.blobs import Blobs
from coordinator.store.database import ConsentRow, Database, JobRow
from coordinator.store.spool import Spool
from coordinator.web.metrics import Metrics
from federation.errors import (
    FederationError,
    Halted,
    InvalidIdentity,
    InvalidManifest,
    NotFound,
    PolicyDenied,
    ProtocolViolation,
    plain,
)
from federation.halt.levels import Level
from federation.identity.consent import open_consent
from federation.identity.credential import NodeCredential, verify_credential
from federation.identity.fields import moment, moment_text
from federation.identity.revocation import consent_digest, open_revocation
from federation.identity.roll import Roll
from federation.identity.transport import Principal
from federation.identity.withdrawal import open_withdrawal, withdrawn_job
from federation.manifest.bundle import unpack
from federation.manifest.invitation import check_reachable, invited, is_invited
from federation.manifest.manifest import Manifest, check_may_submit, open_manifest
from federation.secagg import events, wire
from federation.secagg.messages import Sealing
from federation.v1 import rounds_pb2

log = structlog.get_logger()
ANSWERED: Final = frozenset({"granted", "denied"}) | revocations.OVER
UNABLE: Final = "refused"
"""The node could not decide, for instance since its policy file is not in order. It is asked again when it connects again."""
UNDER_WAY: Final = frozenset({"running", "held"})
MOST_QUESTIONS: Final = 256
"""that wait for a person at one node, and of which it hears whether they have ended"""
REMARKS_KEPT: Final = 100
"""of each member in a job's story, which does not grow with a peer's patience"""
REMARK_LETTERS: Final = 1000
"""of each remark"""
REFUSAL_CODE: Final = re.compile(r"[a-z0-9-]{1,40}(/[a-z0-9-]{1,40})?")
QUOTATION_MARKS: Final = str.maketrans("“”", "''")
MIN_PREFIX: Final = 6
DIGEST_DIGITS: Final = 64
STATE_DIGEST: Final = 32
HEX: Final = frozenset("0123456789abcdef")


@dataclass(slots=True, eq=False)
class Case:
    """A job that has not ended."""

    manifest: Manifest
    state: str
    submitted: float
    answers: dict[tuple[str, str], ConsentRow] = field(default_factory=dict)
    placement: tuple[tuple[str, str], ...] = ()
    driver: JobDriver | None = None
    timer: asyncio.TimerHandle | None = None
    publishing: bool = False
    progressed: float = 0.0
    """when it began to run, closed a round, or went on after a halt"""
    rounds_closed: int = 0
    proposed: bool = False
    """its rounds are over, and its release waits for a vote: it takes no room"""
    remarks: Counter[str] = field(default_factory=Counter)
    """lines of the story, by member"""
    refused: str = ""
    """who refused last, and why, in that member's own words"""

    @property
    def digest(self) -> str:
        return self.manifest.digest.hex()


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
        self._database, self._blobs, self._spool, self._sessions = database, blobs, spool, sessions
        self._halts = halts
        self._registry, self._releases, self._metrics, self._clock = registry, releases, metrics, clock
        self._book = book
        self._cases: dict[str, Case] = {}
        self._watchers: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._out: frozenset[tuple[str, str]] = frozenset()
        """nodes that a roll has put out since the start; what they had open is refused, too"""
        self.check_run: Callable[[Manifest], None] = lambda _manifest: None
        """of a job that names a study; raises InvalidManifest"""
        self._desk = Desk(database, blobs, spool, sessions.post, clock, self)

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
            self._cases[row.digest] = case
            if self._level(case) is Level.stop:  # the order was kept, and its effect was cut off
                self._obey(case)
            elif row.state in UNDER_WAY:
                self._drive(case, fresh=False)
                self._obey(case)
                self._leave_out(case)
            else:
                self._schedule(case)
        if rows:  # what a roll puts out may have come while nobody was here
            roll = self._registry.roll()
            self.amended(roll, roll)

    async def stop(self) -> None:
        for case in self._cases.values():
            if case.timer is not None:
                case.timer.cancel()
            if case.driver is not None:
                await case.driver.stop()
        for task in list(self._tasks):
            task.cancel()

    # -------------------------------------------------------------------------------------------------------- submission

    def submit(self, caller: Principal, envelope: bytes) -> tuple[bytes, bool]:
        """Returns the job's digest and whether it is new. Raises InvalidManifest, InvalidIdentity, PolicyDenied."""
        roll = self._registry.roll()
        manifest = open_manifest(envelope, roll)
        if caller.kind == "lead" and caller.name != manifest.lead.id:
            raise PolicyDenied(f"The manifest is signed by {manifest.lead.id}, and the connection is {caller.name}'s.")
        digest = manifest.digest.hex()
        check_may_submit(manifest, roll)
        self.check_run(manifest)
        self._check(manifest, roll)
        with self._database.transaction() as change:
            if change.job(digest) is not None:
                return manifest.digest, False
            if self._halts.level(manifest.digest, lead=manifest.lead.id) >= Level.drain:
                raise Halted(
                    f"It is halted: {self._halts.reason(manifest.digest, lead=manifest.lead.id)}.",
                    hint="Nothing was submitted. See `concord get halts`; submit it when the halt is lifted.",
                )
            for row in change.find_jobs(manifest.name, ""):
                if row.state not in ENDED:
                    raise InvalidManifest(
                        f"A job named {manifest.name} is {row.state} already.",
                        hint="Cancel it, wait for its end, or choose another metadata.name.",
                        field="metadata.name",
                    )
            now = self._clock()
            change.add_job(digest, manifest.name, envelope, now)
            change.update_job(digest, state=step("submitted", "consulting"), reason="asking the members for consent")
            change.add_line(digest, now, f"submitted by {manifest.lead.id}")
            change.audit(now, "submission", digest, envelope)
        case = Case(manifest, "consulting", now)
        self._cases[digest] = case
        for session in self._sessions.all():
            self._ask(case, session)
        self._schedule(case)
        self.changed(digest)
        return manifest.digest, True

    def _check(self, manifest: Manifest, roll: Roll) -> None:
        try:
            data = self._blobs.path(manifest.bundle_digest).read_bytes()
        except NotFound as error:
            raise InvalidManifest(
                "The bundle that the manifest names was not uploaded.",
                hint="Submit with concord apply.",
                field="spec.bundle",
            ) from error
        if (snapshot := manifest.snapshot) is not None:
            try:
                self._blobs.path(snapshot)
            except NotFound as error:
                raise InvalidManifest(
                    f"The coordinator has no snapshot sha256:{snapshot.hex()}.",
                    hint="Name the file itself once, as spec.model.snapshotFile: it is uploaded, and its digest is enough later.",
                    field="spec.model.snapshot",
                ) from error
        unpack(data, manifest.bundle_digest)
        check_reachable(manifest.spec.participants, roll)

    def withdraw(self, caller: Principal, envelope: bytes) -> str:
        """Raises InvalidIdentity for anybody but the lead, OutOfOrder for a job that has ended."""
        digest = withdrawn_job(envelope)
        case = self._cases.get(digest.hex())
        if case is None:
            row = self.row(digest.hex())
            step(row.state, "withdrawn")
            raise NotFound("There is no such job.")
        withdrawal = open_withdrawal(envelope, digest, case.manifest.lead.key)
        if caller.kind == "lead" and caller.name != case.manifest.lead.id:
            raise PolicyDenied("Only the lead who submitted a job withdraws it.")
        self._end(
            case,
            "withdrawn",
            f"withdrawn by {case.manifest.lead.id}: {withdrawal.reason or 'no reason given'}",
            envelope,
        )
        self._tell(case, rounds_pb2.Withdrawn(withdrawal=envelope))
        return digest.hex()

    # ----------------------------------------------------------------------------------------------------------- consent

    def _ask(self, case: Case, session: Session) -> None:
        roll = self._registry.roll()
        key = (session.member, session.node)
        if key in case.answers and case.answers[key].state in ANSWERED:
            return
        if case.state != "consulting" and not self._may_join(case, session.member) and not self._put_out_of(case, key):
            return
        if not is_invited(case.manifest.spec.participants, roll.member(session.member)):
            return
        if key not in case.answers:
            self._answer(case, ConsentRow(session.member, session.node, "asked", (), b""))
        session.send(self._question(case))

    @staticmethod
    def _question(case: Case) -> bytes:
        return instruction_bytes(case.manifest.digest, rounds_pb2.AskConsent(manifest=case.manifest.envelope))

    @staticmethod
    def _may_join(case: Case, member: str) -> bool:
        """Whether a job that is under way takes another member in."""
        placed = {name for name, _ in case.placement}
        return (
            case.state == "running"
            and case.driver is not None
            and case.driver.takes_members
            and member not in placed
            and len(placed) < case.manifest.spec.participants.max_members
        )

    @staticmethod
    def _put_out_of(case: Case, key: tuple[str, str]) -> bool:
        """Whether this node was in the job when a roll put it out, and has not consented anew. Its answer was made void then."""
        answer = case.answers.get(key)
        return case.state in UNDER_WAY and key in case.placement and answer is not None and answer.state == UNABLE

    def _answer(self, case: Case, answer: ConsentRow) -> None:
        now = self._clock()
        with self._database.transaction() as change:
            change.put_consent(case.digest, answer)
            if answer.state in ANSWERED:
                change.add_line(
                    case.digest, now, f"{answer.state}: {'; '.join(answer.reasons) or 'no reason given'}", answer.member
                )
                said = f"{case.digest} {answer.member} {answer.node} {answer.state}"
                change.audit(now, "consent", said, answer.envelope)
        case.answers[answer.member, answer.node] = answer
        self._metrics.consents(answer.state, answer.member, answer.reasons)
        self.changed(case.digest)

    def _credential(self, session: Session) -> NodeCredential:
        with self._database.transaction() as change:
            row = change.node(session.member, session.node)
        if row is None:
            raise NotFound("The node is not enrolled.")
        return verify_credential(row.credential, self._registry.roll(), datetime.fromtimestamp(self._clock(), UTC))

    def consented(self, session: Session, envelope: bytes) -> None:
        """A node's signed answer. Raises InvalidIdentity when it is not its own."""
        consent = open_consent(envelope, self._credential(session))
        case = self._cases.get(consent.job.hex())
        if case is None:
            self._tell_end(session, consent.job)
        if case is None:
            return
        here = (session.member, session.node)
        if revocations.over(case.answers.get(here)):
            return  # what was taken back stays so
        if case.state != "consulting" and not self._may_join(case, session.member) and here not in case.placement:
            return
        if self._put_out_of(case, here):
            since = consent.binds.roll if consent.binds is not None else b""
            if why := self._registry.roll().put_out_since(
                since, session.member, self._credential(session).identity_key
            ):
                raise InvalidIdentity(
                    f"The consent is of before the member was put out. {why}", hint="It is asked anew."
                )
        state = "granted" if consent.granted else "denied"
        self._answer(case, ConsentRow(consent.member, consent.node, state, consent.reasons, envelope))
        if case.state == "consulting":
            self._consider(case)
        elif consent.granted and case.driver is not None:
            self._join(case, case.driver, session)

    def waits(self, case: Case, session: Session, until: str) -> None:
        """A person at the lab decides; the job waits for that as long as for anybody."""
        answer = case.answers.get((session.member, session.node))
        if answer is not None and answer.state in ANSWERED:
            return
        if until != moment_text(moment(until, "deadline")):
            return
        words = (f"waits for a person until {until}",)
        if answer is None or answer.reasons != words:
            self._answer(case, ConsentRow(session.member, session.node, "asked", words, b""))
            self.note(case.digest, session.member, words[0])

    def revoked(self, session: Session, envelope: bytes) -> None:
        """A node's signed word that its consent is over. Raises InvalidIdentity, VerificationFailed, NotFound."""
        revocation = open_revocation(envelope, self._credential(session))
        job = revocation.job.hex()
        self.row(job)
        with self._database.transaction() as change:
            known = {(row.member, row.node): row for row in change.consents(job)}
            taken = revocations.answer_of(revocation, known.get((session.member, session.node)))
            if taken.new:
                revocations.keep(change, self._clock(), job, taken.answer, envelope)
        noted = rounds_pb2.ConsentNoted(revocation=consent_digest(envelope))
        session.send(instruction_bytes(revocation.job, noted))
        case = self._cases.get(job)
        if case is None or not taken.new:
            return
        case.answers[session.member, session.node] = taken.answer
        self._metrics.consents(taken.answer.state, session.member)
        if case.state in UNDER_WAY:
            self._metrics.consent_ended(taken.answer.state)
        self.changed(job)
        self._leave_out(case)
        if case.state == "ready":
            self._become(case, "consulting", "a member has taken its consent back")
        if case.state == "consulting":
            self._schedule(case)

    def _leave_out(self, case: Case) -> None:
        """Those that have taken their consent back, of a job that runs."""
        gone = [member for member, node in case.placement if revocations.over(case.answers.get((member, node)))]
        if case.state != "running" or case.driver is None or not gone:
            return
        for member in gone:
            case.driver.leave_out(member)
        why = revocations.too_few(
            case.manifest, self._registry.roll(), case.placement, case.answers, case.driver
        )  # fmt: skip
        if why:
            said = "; ".join(f"{member}: {self._last_word(case, member)}" for member in gone)
            self._fail(case, f"{why} ({said})")

    @staticmethod
    def _last_word(case: Case, member: str) -> str:
        node = dict(case.placement)[member]
        return case.answers[member, node].reasons[0]

    def _join(self, case: Case, driver: JobDriver, session: Session) -> None:
        """Its consent has come while the job runs: it takes part from the next epoch on."""
        here = (session.member, session.node)
        if here not in case.placement:
            busy = [other for other in self._cases.values() if here in other.placement]
            capacity = _left(session, self._registry.roll().member(session.member).jurisdiction, busy)
            request = replace(_request(case, 0), min_members=1, min_jurisdictions=1, consented=(here,))
            decision = place([capacity], [request])
            if case.digest not in decision.placements:
                self.note(case.digest, session.member, f"does not join: {decision.explanations[case.digest]}")
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
        driver.say(self._connection(session, case.manifest.digest))
        driver.say(events.Join(session.member))

    def _unable(self, case: Case, session: Session, why: str) -> None:
        answer = case.answers.get((session.member, session.node))
        if answer is not None and answer.state not in ANSWERED:
            self._answer(case, ConsentRow(session.member, session.node, UNABLE, (why,), b""))
            self.note(case.digest, session.member, f"could not decide: {why}")
            self._consider(case)

    def _schedule(self, case: Case) -> None:
        """Consider again now and when the windows end: offline nodes are waited for shortly, connected ones longer."""
        limits = case.manifest.spec.deadlines
        self._consider(case)
        if case.state == "consulting":
            passed = self._clock() - case.submitted
            waits = [limit - passed for limit in (limits.reconnect_seconds, limits.consent_seconds) if limit > passed]
            if waits:
                case.timer = asyncio.get_running_loop().call_later(min(waits) + 0.01, self._schedule, case)

    def _consider(self, case: Case) -> None:
        if case.state != "consulting":
            self._place_all()
            return
        limits, people = case.manifest.spec.deadlines, case.manifest.spec.participants
        roll = self._registry.roll()
        granted = {member for (member, _node), answer in case.answers.items() if answer.state == "granted"}
        places = {roll.member(member).jurisdiction for member in granted}
        enough = len(granted) >= people.min_members and len(places) >= people.min_jurisdictions
        over = self._clock() - case.submitted >= limits.consent_seconds
        if not over and (not enough or self._still_asked(case)):
            if not self._still_asked(case) and not self._may_still_come(case):
                self._fail(case, self._refused(case, granted))
            return
        if not enough:
            self._fail(case, self._refused(case, granted))
            return
        self._become(case, "ready", "the members have consented; waiting for a place")
        self._place_all()

    def _still_asked(self, case: Case) -> bool:
        """Whether an enrolled node that is invited has not answered and is worth waiting for."""
        limits = case.manifest.spec.deadlines
        waited = self._clock() - case.submitted
        roll = self._registry.roll()
        with self._database.transaction() as change:
            nodes = change.nodes()
        for node in nodes:
            if not is_invited(case.manifest.spec.participants, roll.member(node.member)):
                continue
            if state_of(node, roll) in REFUSED_STATES:
                continue
            answer = case.answers.get((node.member, node.node))
            if answer is not None and answer.state in ANSWERED | {UNABLE}:
                continue
            if answer is not None and answer.reasons and waited < limits.consent_seconds:
                return True  # a person decides, whether the node is connected or not
            connected = self._sessions.get(node.member, node.node) is not None
            if waited < (limits.consent_seconds if connected else limits.reconnect_seconds):
                return True
        return False

    def _may_still_come(self, case: Case) -> bool:
        """Whether members that have not denied could still make up the minimum."""
        roll = self._registry.roll()
        gone = revocations.OVER | {"denied"}
        denied = {member for (member, _node), answer in case.answers.items() if answer.state in gone}
        people = case.manifest.spec.participants
        left = [member for member in invited(people, roll) if member.id not in denied]
        return (
            len(left) >= people.min_members
            and len({member.jurisdiction for member in left}) >= people.min_jurisdictions
        )

    def _refused(self, case: Case, granted: set[str]) -> str:
        said: dict[str, list[str]] = {"denied": [], "revoked": [], UNABLE: [], "asked": []}
        for answer in sorted(case.answers.values(), key=lambda answer: (answer.member, answer.node)):
            if answer.state in said:
                said[answer.state].append(": ".join(filter(None, (answer.member, "; ".join(answer.reasons)))))
        parts = [f"{len(granted)} members consented, and {case.manifest.spec.participants.min_members} are needed"]
        titles = {
            "denied": "denied by",
            "revoked": "taken back by",
            UNABLE: "could not be decided by",
            "asked": "no answer from",
        }
        parts += [f"{title} {' | '.join(said[state])}" for state, title in titles.items() if said[state]]
        return "; ".join(parts)

    # ---------------------------------------------------------------------------------------------------------- placement

    def _place_all(self) -> None:
        roll = self._registry.roll()
        running = [case for case in self._cases.values() if case.state in UNDER_WAY and not case.proposed]
        ready = [case for case in self._cases.values() if case.state == "ready"]
        held = [case for case in ready if self._level(case)]
        for case in held:
            self._become(
                case, "ready", f"waits: {self._halts.reason(case.manifest.digest, lead=case.manifest.lead.id)}"
            )
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
                self._become(case, "ready", decision.explanations[case.digest])
                continue
            case.placement = placed
            now = self._clock()
            with self._database.transaction() as change:
                change.place(case.digest, placed)
                change.audit(now, "placement", case.digest)
            self._become(case, "running", decision.explanations[case.digest])
            self._drive(case, fresh=True)

    def _drive(self, case: Case, *, fresh: bool) -> None:
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
            self.rounds_over(case.digest)

    # ------------------------------------------------------------------------------------------------------------- halts

    def halted(self) -> None:
        """An order or a lift has come."""
        for case in list(self._cases.values()):
            self._obey(case)
        self._place_all()

    def _level(self, case: Case) -> Level:
        return self._halts.level(case.manifest.digest, lead=case.manifest.lead.id)

    def _obey(self, case: Case) -> None:
        reason = self._halts.reason(case.manifest.digest, lead=case.manifest.lead.id)
        phase = case.driver.machine.phase if case.driver is not None else ""
        to = effect(self._level(case), case.state, phase)
        if to == "stopped":
            self._end(case, to, reason)
            self._tell(case, rounds_pb2.JobFailed(reason=f"stopped: {reason}"))
        elif to:
            self._become(case, to, reason or "the halt is lifted")
            if case.driver is not None and case.driver.done:
                self.rounds_over(case.digest)
        if case.driver is not None and to != "stopped":
            for member, node in case.placement:
                if self._stopped_part(case, member, node):
                    case.driver.say(events.Lost(member))

    def _stopped_part(self, case: Case, member: str, node: str) -> bool:
        level = self._halts.level(case.manifest.digest, member, node, case.manifest.lead.id)
        return level is Level.stop

    # ------------------------------------------------------------------------------------------------------------- nodes

    def connected(self, session: Session, hello: rounds_pb2.Hello) -> None:
        self._seen(session, "active")
        session.held = held = {position.job: position for position in hello.positions}
        for case in list(self._cases.values()):
            if self._stopped_part(case, session.member, session.node):
                continue
            self._ask(case, session)
            here = (session.member, session.node)
            if revocations.over(case.answers.get(here)) or self._put_out_of(case, here):
                continue
            if case.driver is not None and case.driver.members.get(session.member) == session.node:
                if case.manifest.digest not in held and case.driver.takes_members:
                    session.send(self._question(case))  # its journal knows nothing of the job: it comes in anew
                case.driver.say(self._connection(session, case.manifest.digest))
                if case.driver.done:
                    self.rounds_over(case.digest)
        questions = (job for job in hello.questions[:MOST_QUESTIONS] if len(job) == DIGEST_DIGITS // 2)
        for job in {*held, *questions}:
            if job.hex() not in self._cases:
                self._tell_end(session, job)
        self._place_all()

    @staticmethod
    def _connection(session: Session, job: bytes) -> events.Connected:
        """With where its hello said that it stands."""
        position = session.held.get(job)
        if position is None or len(position.state_digest) != STATE_DIGEST:
            return events.Connected(session.member)
        return events.Connected(session.member, position.round, position.state_digest)

    def _tell_end(self, session: Session, job: bytes) -> None:
        try:
            row = self.row(job.hex())
        except NotFound:
            session.send(instruction_bytes(job, rounds_pb2.JobFailed(reason="the coordinator does not know this job")))
            return
        if row.state == "finished":
            session.send(instruction_bytes(job, rounds_pb2.Finished(rounds=row.rounds_closed)))
        elif row.withdrawal is not None:
            session.send(instruction_bytes(job, rounds_pb2.Withdrawn(withdrawal=row.withdrawal)))
        else:
            session.send(instruction_bytes(job, rounds_pb2.JobFailed(reason=row.reason)))

    def disconnected(self, session: Session) -> None:
        self._seen(session, "enrolled")
        for case in self._cases.values():
            if case.driver is not None and case.driver.members.get(session.member) == session.node:
                case.driver.say(events.Lost(session.member))

    def _seen(self, session: Session, state: str) -> None:
        with self._database.transaction() as change:
            change.see_node(session.member, session.node, state, self._clock())

    def garbled(self, session: Session) -> None:
        """Bytes that are no event."""
        self._log_refusal(session, "node.violation", check="malformed-message", detail="Bytes that are no message.")
        self._metrics.violation("malformed-message", session.member)

    def heard(self, session: Session, event: rounds_pb2.NodeEvent) -> None:
        """One event from a node's stream. A bad one is noted against the node and changes nothing."""
        kind = event.WhichOneof("event") or ""
        try:
            self._hear(session, event, kind)
        except ProtocolViolation as error:
            self._log_refusal(session, "node.violation", kind=kind, check=error.check, detail=error.message)
            self._metrics.violation(error.check, session.member)
            self.note(event.job.hex(), session.member, f"refused {kind} ({error.check}): {error.message}")
        except FederationError as error:
            self._log_refusal(session, "node.refused", kind=kind, code=error.code, detail=error.message)
            self.note(event.job.hex(), session.member, f"refused {kind} ({error.code}): {error.message}")

    @staticmethod
    def _log_refusal(session: Session, event: str, **said: str) -> None:
        """A line of the log: of a stream the first, then those whose number is a power of two."""
        session.refusals += 1
        if session.refusals <= REMARKS_KEPT or not session.refusals & (session.refusals - 1):
            log.warning(event, member=session.member, node=session.node, refusals=session.refusals, **said)

    async def room(self, session: Session) -> None:
        """Returns when no job of this node has more events waiting than memory is to hold."""
        for case in list(self._cases.values()):
            if case.driver is not None and case.driver.members.get(session.member) == session.node:
                await case.driver.room()

    def _hear(self, session: Session, event: rounds_pb2.NodeEvent, kind: str) -> None:
        if kind == "offer":
            session.offer = event.offer
            self._place_all()
        elif kind == "consent":
            case = self._cases.get(event.job.hex())
            if not event.consent.waits_until:
                self.consented(session, event.consent.envelope)
            elif case is not None:
                self.waits(case, session, event.consent.waits_until)
        elif kind == "consent_revocation":
            self.revoked(session, event.consent_revocation.envelope)
        elif kind == "log_cosignature":
            self._book.cosigned(session, event.log_cosignature.size, event.log_cosignature.line)
        elif kind not in {"hello", "pong", ""}:
            case = self._cases.get(event.job.hex())
            if case is not None and case.state == "consulting" and kind == "refusal":
                self._unable(case, session, event.refusal.text[:REMARK_LETTERS])
            if case is None or case.driver is None or case.driver.members.get(session.member) != session.node:
                return
            if revocations.over(case.answers.get((session.member, session.node))):
                return  # nothing more comes from it
            self._hear_of_job(case, case.driver, session, event, kind)

    def _hear_of_job(
        self, case: Case, driver: JobDriver, session: Session, event: rounds_pb2.NodeEvent, kind: str
    ) -> None:
        member = session.member
        if kind == "upload":
            driver.upload(member, event.upload)
        elif kind == "sealing":
            driver.sealing(member, event.sealing)
        elif kind == "state_stored":
            driver.state_stored(member, event.state_stored)
        elif kind == "task_failure":
            failure = event.task_failure
            place = f" at {failure.file}:{failure.line}" if failure.file else ""
            text = (
                f"round {failure.round}: the task failed in {failure.phase}: {failure.exception or 'contract'}{place}"
            )[:REMARK_LETTERS]
            self.note(case.digest, member, text)
            driver.say(events.TaskBroke(member, text))
        elif kind == "refusal":
            text = f"{event.refusal.code}: {event.refusal.text}"[:REMARK_LETTERS]
            self.note(case.digest, member, f"refuses: {text}")
            case.refused = f"{member} refused last: {_quoted(event.refusal)}"
            driver.say(events.TaskBroke(member, text, refused=True))
        elif kind != "progress":
            driver.say(events.From(member, wire.from_proto(getattr(event, kind))))

    # --------------------------------------------------------------------------------------------------------------- ends

    def _become(self, case: Case, state: str, reason: str) -> None:
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

    def _end(self, case: Case, state: str, reason: str, withdrawal: bytes | None = None, release: str = "") -> None:
        step(case.state, state)
        now = self._clock()
        with self._database.transaction() as change:
            change.update_job(case.digest, state=state, reason=reason, withdrawal=withdrawal, release=release)
            if case.driver is not None:
                case.driver.leave(change, reason)
            change.add_line(case.digest, now, f"{state}: {reason}")
            change.audit(now, "job-state", f"{case.digest} {state}", withdrawal or b"")
        case.state = state
        self._cases.pop(case.digest, None)
        if case.timer is not None:
            case.timer.cancel()
        if case.driver is not None:
            self._spawn(case.driver.stop())
        self._spool.discard_job(case.manifest.digest)
        self._metrics.job_ended(state)
        log.info("job.ended", job=case.digest[:12], name=case.manifest.name, state=state, reason=reason)
        self.changed(case.digest)
        asyncio.get_running_loop().call_soon(self._place_all)

    def _fail(self, case: Case, reason: str) -> None:
        self._end(case, "failed", reason)
        self._tell(case, rounds_pb2.JobFailed(reason=reason))

    def _tell(self, case: Case, end: rounds_pb2.Withdrawn | rounds_pb2.JobFailed | rounds_pb2.Finished) -> None:
        """To every node that was asked: one that consented and got no place has made its preparations too."""
        data = instruction_bytes(case.manifest.digest, end)
        for member, node in sorted(set(case.placement) | set(case.answers)):
            self._sessions.post(member, node, data)

    def _spawn(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ------------------------------------------------------------------------------------------------------- driver's ear

    def closed(self, job: str, outcome: str, cohort: tuple[str, ...], phases: dict[str, float], received: int) -> None:
        case = self._cases.get(job)
        if case is not None and outcome == "closed":
            case.refused = ""  # it stopped nothing
            case.progressed, case.rounds_closed = self._clock(), case.rounds_closed + 1
        if case is not None and self._level(case) is Level.drain:
            asyncio.get_running_loop().call_soon(self.halted)
        self._metrics.round_over(outcome, cohort, phases, received)

    def misconduct(self, job: str, member: str, check: str) -> None:
        self._metrics.violation(check, member)
        log.warning("member.misconduct", job=job[:12], member=member, check=check)

    def stuck(self, job: str, reason: str) -> None:
        case = self._cases.get(job)
        if case is not None:
            self._fail(case, f"{reason} {case.refused}".rstrip())

    def rounds_over(self, job: str) -> None:
        """Members give their final model, once they may: when the job's gates have passed, and with the vote that it takes."""
        case = self._cases.get(job)
        if case is None or case.driver is None or self._level(case):
            return  # while it is held nothing of it is released
        try:
            step = self._releases.after_rounds(case.manifest, self._consents_of(case))
        except FederationError as error:
            self._fail(case, f"The release could not be proposed: {error.message}")
            return
        case.proposed = bool(step.waits)
        if step.withheld:
            self._end(case, "finished", step.withheld)
            self._tell(case, rounds_pb2.Finished(rounds=case.manifest.spec.rounds))
        elif step.waits:
            self._become(case, case.state, step.waits)
            self._place_all()
        else:
            case.driver.want_release(step.decision)

    @staticmethod
    def _consents_of(case: Case) -> dict[str, bytes]:
        return {
            answer.member: answer.envelope
            for answer in case.answers.values()
            if (answer.member, answer.node) in case.placement
        }

    def final_state(self, job: str, blob: bytes, sealings: tuple[Sealing, ...]) -> None:
        case = self._cases.get(job)
        if case is not None and not case.publishing and not self._level(case):
            case.publishing = True
            self._spawn(self._publish(case, blob, sealings))

    async def _publish(self, case: Case, blob: bytes, sealings: tuple[Sealing, ...]) -> None:
        try:
            head = await witnessed_head(
                self._releases,
                self._book,
                self._sessions,
                case.manifest,
                needed=lambda: case.digest in self._cases and not self._level(case),
                say=lambda why: self._become(case, case.state, why),
            )
            if head is None:
                case.publishing = (
                    False  # it has ended, or is held: members give their model again when the halt is lifted
                )
                return
            release = await asyncio.to_thread(
                self._releases.publish, case.manifest, self._consents_of(case), head, blob, sealings
            )
        except FederationError as error:
            log.error("release.failed", job=case.digest[:12], detail=error.message)
            self.stuck(case.digest, f"The release could not be made: {error.message}")
            return
        if case.digest not in self._cases:
            return  # it was stopped or withdrawn while its release was made: nothing of it is published
        self._end(case, "finished", "the release is published", release=release)
        self._releases.published(case.manifest, release)
        self._tell(case, rounds_pb2.Finished(rounds=case.manifest.spec.rounds))

    # --------------------------------------------------------------------------------------------------------- a new roll

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
        for case in list(self._cases.values()):
            self._put_out(case, roll, out)

    def _put_out(self, case: Case, roll: Roll, out: Mapping[tuple[str, str], str]) -> None:
        try:
            roll.require_lead(case.manifest.lead.id)
        except FederationError as error:
            self._fail(case, error.message)
            return
        for key, answer in list(case.answers.items()):
            if key in out and answer.state not in {UNABLE} | revocations.OVER:
                why = f"{out[key]} by the members' roll, version {roll.version}"
                self._answer(case, replace(answer, state=UNABLE, reasons=(why,)))
                self.note(case.digest, key[0], why)
        if case.driver is not None:
            case.driver.amended(roll)
            for member, node in list(case.driver.members.items()):
                if (member, node) in out:
                    case.driver.leave_out(member)
        if case.state == "consulting":
            self._consider(case)

    def driver(self, job: bytes, member: str, node: str) -> JobDriver:
        """The driver of a job in which this node holds a seat. Raises NotFound, also at once for a node that was put out."""
        case = self._cases.get(job.hex())
        if (
            case is None
            or case.driver is None
            or case.driver.members.get(member) != node
            or (member, node) in self._out
        ):
            raise NotFound("This node has no seat in such a job.", hint="The job may have ended.")
        return case.driver

    # ------------------------------------------------------------------------------------------------------------ watching

    def changed(self, job: str) -> None:
        self._watchers.pop(job, asyncio.Event()).set()

    def next_change(self, job: str) -> asyncio.Event:
        """Is set at the next change. To be asked for before the view is: what changes between the two would be missed."""
        return self._watchers.setdefault(job, asyncio.Event())

    def state_limit(self, member: str, node: str) -> int:
        """Bytes of the largest state that some job has asked this node for; 0: none has."""
        drivers = (case.driver for case in self._cases.values() if case.driver is not None)
        asking = (driver.state_limit(member) for driver in drivers if driver.members.get(member) == node)
        return max(asking, default=0)

    def gave_state(self, member: str, node: str) -> None:
        """This node has put a blob."""
        for case in self._cases.values():
            if case.driver is not None and case.driver.members.get(member) == node and case.driver.state_limit(member):
                case.driver.gave_state(member)
                return

    def note(self, job: str, member: str, text: str) -> None:
        case = self._cases.get(job)
        if case is None or case.remarks[member] > REMARKS_KEPT:
            return
        case.remarks[member] += 1
        if case.remarks[member] > REMARKS_KEPT:
            text = "said more than a story holds; the rest is left out"
        with self._database.transaction() as change:
            change.add_line(job, self._clock(), text, member)
        self.changed(job)

    def row(self, query: str) -> JobRow:
        """By name (the newest), digest, or unique prefix. Raises NotFound."""
        with self._database.transaction() as change:
            if len(query) == DIGEST_DIGITS and (row := change.job(query)) is not None:
                return row
            matching = change.find_jobs(query, query if len(query) >= MIN_PREFIX and set(query) <= HEX else "")
        if len(matching) == 1:
            return matching[0]
        if matching:
            raise NotFound(f"{query} fits {len(matching)} jobs.", hint="Give more digits.")
        raise NotFound(f"There is no job {query[:80]!r}.", hint="See: concord get jobs")

    def cases(self) -> tuple[Case, ...]:
        """Jobs that have not ended. From any thread."""
        return tuple(self._cases.values())


def _quoted(refusal: rounds_pb2.Refusal) -> str:
    """On one line, in quotation marks that end where the member's words end, so that they pass for nobody else's."""
    code = f"{refusal.code}: " if REFUSAL_CODE.fullmatch(refusal.code) else ""
    return f"{code}“{plain(refusal.text[:REMARK_LETTERS]).translate(QUOTATION_MARKS)}”"


def _left(session: Session, jurisdiction: str, running: list[Case]) -> Capacity:
    """What the node offers, less what the jobs that run there take."""
    gpus = sorted(gpu.memory_bytes for gpu in session.offer.gpus)
    cpus, memory = session.offer.cpus, session.offer.memory_bytes
    for case in running:
        wanted = case.manifest.spec.resources
        for _ in range(wanted.gpus):
            fitting = next((size for size in gpus if size >= case.manifest.gpu_memory_bytes), None)
            if fitting is not None:
                gpus.remove(fitting)
        cpus, memory = cpus - wanted.cpus, memory - case.manifest.memory_bytes
    return Capacity(session.member, session.node, jurisdiction, True, tuple(gpus), cpus, memory)


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
