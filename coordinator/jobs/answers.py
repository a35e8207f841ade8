"""What nodes answer to a job: asked, granted, denied, left to a person, taken back. Each answer is its node's own, signed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from coordinator.api.sessions import Session
from coordinator.jobs import revocations
from coordinator.jobs.case import ANSWERED, UNABLE, UNDER_WAY, Case
from coordinator.jobs.cases import Cases
from coordinator.jobs.consultation import Consultation
from coordinator.jobs.seating import Seating
from coordinator.registry.enrolment import Registry
from coordinator.rounds.driver import instruction_bytes
from coordinator.store.database import ConsentRow, Database
from coordinator.web.metrics import Metrics
from federation.errors import InvalidIdentity, NotFound, ProtocolViolation
from federation.identity.consent import open_consent
from federation.identity.fields import moment, moment_text
from federation.identity.revocation import consent_digest, open_revocation
from federation.manifest.invitation import is_invited
from federation.v1 import rounds_pb2

MOST_ANSWERS: Final = 32
"""of one node to one job: it is asked anew after a restore, or when a roll has put it out"""


class Answers:
    def __init__(
        self,
        cases: Cases,
        database: Database,
        registry: Registry,
        seating: Seating,
        consultation: Consultation,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._cases, self._database, self._registry = cases, database, registry
        self._seating, self._consultation, self._metrics, self._clock = seating, consultation, metrics, clock

    def ask(self, case: Case, session: Session) -> None:
        """Where this node is invited and has not answered; once the job runs, where it may still come in."""
        roll = self._registry.roll()
        key = (session.member, session.node)
        if key in case.answers and case.answers[key].state in ANSWERED:
            return
        if case.state != "consulting" and not case.may_join(session.member) and not case.was_put_out(key):
            return
        if not is_invited(case.manifest.spec.participants, roll.member(session.member)):
            return
        if key not in case.answers:
            self.keep(case, ConsentRow(session.member, session.node, "asked", (), b""))
        session.send(question(case))

    def keep(self, case: Case, answer: ConsentRow) -> None:
        """The answer and, once it is one, its line and its entry, in one transaction."""
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
        self._cases.changed(case.digest)

    def consented(self, session: Session, envelope: bytes) -> None:
        """A node's signed answer. Raises InvalidIdentity when it is not its own."""
        consent = open_consent(envelope, self._registry.credential(session.member, session.node))
        case = self._cases.get(consent.job.hex())
        if case is None:
            self.tell_end(session, consent.job)
            return
        here = (session.member, session.node)
        if case.is_over_for(here):
            return  # what was taken back stays so
        if case.state != "consulting" and not case.may_join(session.member) and here not in case.placement:
            return
        if case.was_put_out(here):
            since = consent.binds.roll if consent.binds is not None else b""
            if why := self._registry.roll().put_out_since(
                since, session.member, self._registry.credential(session.member, session.node).identity_key
            ):
                raise InvalidIdentity(
                    f"The consent is of before the member was put out. {why}", hint="It is asked anew."
                )
        known = case.answers.get(here)
        if known is None or known.state not in ANSWERED or known.envelope != envelope:  # else it is nothing new
            self._check_few(case, here)
            state = "granted" if consent.granted else "denied"
            self.keep(case, ConsentRow(consent.member, consent.node, state, consent.reasons, envelope))
        if case.state == "consulting":
            self._consultation.consider(case)
        elif consent.granted and case.driver is not None:
            self._seating.join(case, case.driver, session)

    @staticmethod
    def _check_few(case: Case, node: tuple[str, str]) -> None:
        """Each answer is an entry of the public log, which does not grow with a peer's patience. Raises ProtocolViolation."""
        case.answered[node] += 1
        if case.answered[node] > MOST_ANSWERS:
            raise ProtocolViolation(
                f"{node[1]} has answered {MOST_ANSWERS} times, each time in other words.",
                check="consent-flood",
                hint="The answer before it stands.",
            )

    def waits(self, case: Case, session: Session, until: str) -> None:
        """A person at the lab decides; the job waits for that as long as for anybody."""
        answer = case.answers.get((session.member, session.node))
        if answer is not None and answer.state in ANSWERED:
            return
        if until != moment_text(moment(until, "deadline")):
            return
        words = (f"waits for a person until {until}",)
        if answer is None or answer.reasons != words:
            self.keep(case, ConsentRow(session.member, session.node, "asked", words, b""))
            self._cases.note(case.digest, session.member, words[0])

    def unable(self, case: Case, session: Session, why: str) -> None:
        """The node could not decide; it is not waited for."""
        answer = case.answers.get((session.member, session.node))
        if answer is not None and answer.state not in ANSWERED:
            self.keep(case, ConsentRow(session.member, session.node, UNABLE, (why,), b""))
            self._cases.note(case.digest, session.member, f"could not decide: {why}")
            self._consultation.consider(case)

    def revoked(self, session: Session, envelope: bytes) -> None:
        """A node's signed word that its consent is over. Raises InvalidIdentity, VerificationFailed, NotFound."""
        revocation = open_revocation(envelope, self._registry.credential(session.member, session.node))
        job = revocation.job.hex()
        self._cases.row(job)
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
        self._cases.changed(job)
        self.leave_out(case)
        if case.state == "ready":
            self._cases.become(case, "consulting", "a member has taken its consent back")
        if case.state == "consulting":
            self._consultation.schedule(case)

    def leave_out(self, case: Case) -> None:
        """Those that have taken their consent back, of a job that runs."""
        gone = [(member, node) for member, node in case.placement if case.is_over_for((member, node))]
        if case.state != "running" or case.driver is None or not gone:
            return
        for member, _node in gone:
            case.driver.leave_out(member)
        why = revocations.too_few(
            case.manifest, self._registry.roll(), case.placement, case.answers, case.driver
        )  # fmt: skip
        if why:
            said = "; ".join(f"{key[0]}: {case.answers[key].reasons[0]}" for key in gone)
            self._cases.fail(case, f"{why} ({said})")

    def tell_end(self, session: Session, job: bytes) -> None:
        """To a node that speaks of a job that is no case any more: how it ended."""
        try:
            row = self._cases.row(job.hex())
        except NotFound:
            session.send(instruction_bytes(job, rounds_pb2.JobFailed(reason="the coordinator does not know this job")))
            return
        if row.state == "finished":
            session.send(instruction_bytes(job, rounds_pb2.Finished(rounds=row.rounds_closed)))
        elif row.withdrawal is not None:
            session.send(instruction_bytes(job, rounds_pb2.Withdrawn(withdrawal=row.withdrawal)))
        else:
            session.send(instruction_bytes(job, rounds_pb2.JobFailed(reason=row.reason)))


def question(case: Case) -> bytes:
    return instruction_bytes(case.manifest.digest, rounds_pb2.AskConsent(manifest=case.manifest.envelope))
