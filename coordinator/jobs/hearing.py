"""What nodes say on their streams. A bad event is noted against the node and changes nothing."""

from __future__ import annotations

import re
from typing import Final

import structlog

from coordinator.api.sessions import Session
from coordinator.audit.book import LogBook
from coordinator.jobs.answers import Answers
from coordinator.jobs.case import Case
from coordinator.jobs.cases import REMARKS_KEPT, Cases
from coordinator.jobs.seating import Seating
from coordinator.rounds.driver import JobDriver
from coordinator.web.metrics import Metrics
from federation.errors import FederationError, ProtocolViolation, plain
from federation.secagg import events, wire
from federation.v1 import rounds_pb2

log = structlog.get_logger()

REMARK_LETTERS: Final = 1000
"""of each remark"""
CONTRIBUTION_LOST: Final = "contribution-lost"
"""the check of a refusal that says no more than that"""
REFUSAL_CODE: Final = re.compile(r"[a-z0-9-]{1,40}(/[a-z0-9-]{1,40})?")
QUOTATION_MARKS: Final = str.maketrans("“”", "''")


class Hearing:
    def __init__(self, cases: Cases, answers: Answers, seating: Seating, book: LogBook, metrics: Metrics) -> None:
        self._cases, self._answers, self._seating = cases, answers, seating
        self._book, self._metrics = book, metrics

    def garbled(self, session: Session) -> None:
        """Bytes that are no event."""
        _log_refusal(session, "node.violation", check="malformed-message", detail="Bytes that are no message.")
        self._metrics.violation("malformed-message", session.member)

    def heard(self, session: Session, event: rounds_pb2.NodeEvent) -> None:
        kind = event.WhichOneof("event") or ""
        try:
            self._hear(session, event, kind)
        except ProtocolViolation as error:
            _log_refusal(
                session, "node.violation", **self._about(event), kind=kind, check=error.check, detail=error.message
            )
            self._metrics.violation(error.check, session.member)
            self._cases.note(event.job.hex(), session.member, f"refused {kind} ({error.check}): {error.message}")
        except FederationError as error:
            _log_refusal(
                session, "node.refused", **self._about(event), kind=kind, code=error.code, detail=error.message
            )
            self._cases.note(event.job.hex(), session.member, f"refused {kind} ({error.code}): {error.message}")

    def _about(self, event: rounds_pb2.NodeEvent) -> dict[str, object]:
        case = self._cases.get(event.job.hex())
        return case.names if case is not None else {"job": event.job[:6].hex()}

    async def room(self, session: Session) -> None:
        """Returns when no job of this node has more events waiting than memory is to hold."""
        for case in self._cases.all():
            if (driver := case.driver_of(session.member, session.node)) is not None:
                await driver.room()

    def _hear(self, session: Session, event: rounds_pb2.NodeEvent, kind: str) -> None:
        if kind == "offer":
            session.offer = event.offer
            self._seating.place_all()
        elif kind == "consent":
            case = self._cases.get(event.job.hex())
            if not event.consent.waits_until:
                self._answers.consented(session, event.consent.envelope)
            elif case is not None:
                self._answers.waits(case, session, event.consent.waits_until)
        elif kind == "consent_revocation":
            self._answers.revoked(session, event.consent_revocation.envelope)
        elif kind == "log_cosignature":
            self._book.cosigned(session, event.log_cosignature.size, event.log_cosignature.line)
        elif kind not in {"hello", "pong", ""}:
            case = self._cases.get(event.job.hex())
            if case is not None and case.state == "consulting" and kind == "refusal":
                self._answers.unable(case, session, event.refusal.text[:REMARK_LETTERS])
            if case is None or (driver := case.driver_of(session.member, session.node)) is None:
                return
            if case.is_over_for((session.member, session.node)):
                return  # nothing more comes from it
            self._hear_of_job(case, driver, session.member, event, kind)

    def _hear_of_job(self, case: Case, driver: JobDriver, member: str, event: rounds_pb2.NodeEvent, kind: str) -> None:
        if kind == "upload":
            driver.upload(member, event.upload)
        elif kind == "sealing":
            driver.sealing(member, event.sealing)
        elif kind == "state_stored":
            driver.state_stored(member, event.state_stored)
        elif kind == "state_refused":
            driver.state_refused(member, event.state_refused)
        elif kind == "task_failure":
            failure = event.task_failure
            place = f" at {failure.file}:{failure.line}" if failure.file else ""
            text = (
                f"round {failure.round}: the task failed in {failure.phase}: {failure.exception or 'contract'}{place}"
            )[:REMARK_LETTERS]
            self._cases.note(case.digest, member, text)
            driver.say(events.TaskBroke(member, text))
        elif kind == "refusal":
            text = f"{event.refusal.code}: {event.refusal.text}"[:REMARK_LETTERS]
            self._cases.note(case.digest, member, f"refuses: {text}")
            case.refused = f"{member} refused last: {_quoted(event.refusal)}"
            lost = event.refusal.code.rpartition("/")[2] == CONTRIBUTION_LOST
            driver.say(events.ContributionLost(member) if lost else events.TaskBroke(member, text, refused=True))
        elif kind != "progress":
            driver.say(events.From(member, wire.from_proto(getattr(event, kind))))


def _log_refusal(session: Session, event: str, **said: object) -> None:
    """A line of the log: of a stream the first, then those whose number is a power of two."""
    session.refusals += 1
    if session.refusals <= REMARKS_KEPT or not session.refusals & (session.refusals - 1):
        log.warning(event, member=session.member, node=session.node, refusals=session.refusals, **said)


def _quoted(refusal: rounds_pb2.Refusal) -> str:
    """On one line, in quotation marks that end where the member's words end, so that they pass for nobody else's."""
    code = f"{refusal.code}: " if REFUSAL_CODE.fullmatch(refusal.code) else ""
    return f"{code}“{plain(refusal.text[:REMARK_LETTERS]).translate(QUOTATION_MARKS)}”"
