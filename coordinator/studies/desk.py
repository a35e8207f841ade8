"""Studies that were submitted: each invited node is asked, and its answer is kept, shown and logged. Nothing is decided here.

Whether a run lies inside a study each node proves for itself; what this desk says of it binds nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog

from coordinator.api.sessions import Session, Sessions
from coordinator.halts.effects import NOTHING_HALTED, Halting
from coordinator.jobs.revocations import OVER, answer_of
from coordinator.registry.enrolment import Registry
from coordinator.rounds.driver import instruction_bytes
from coordinator.store.blobs import Blobs
from coordinator.store.database import Change, ConsentRow, Database
from coordinator.store.studies import StudyAnswerRow, StudyRow
from federation.errors import FederationError, Halted, InvalidManifest, NotFound, PolicyDenied, plain
from federation.halt.levels import Level
from federation.identity.consent import open_consent
from federation.identity.fields import moment, moment_text
from federation.identity.revocation import consent_digest, open_revocation
from federation.identity.transport import Principal
from federation.manifest.bundle import unpack
from federation.manifest.invitation import check_reachable, is_invited
from federation.manifest.manifest import Manifest
from federation.manifest.study import Study, check_may_ask, open_study
from federation.v1 import rounds_pb2

log = structlog.get_logger()

ANSWERED: Final = frozenset({"granted", "denied"}) | OVER
UNABLE: Final = "refused"
"""The node could not decide; it is asked again when it connects again."""
REASON_LETTERS: Final = 1000
KINDS: Final = frozenset({"consent", "consent_revocation", "refusal"})


class StudyDesk:
    """``clock`` gives seconds since 1970."""

    def __init__(
        self,
        database: Database,
        sessions: Sessions,
        registry: Registry,
        blobs: Blobs,
        clock: Callable[[], float],
        halts: Halting = NOTHING_HALTED,
    ) -> None:
        self._database, self._sessions, self._registry = database, sessions, registry
        self._blobs, self._clock, self._halts = blobs, clock, halts
        self._open: dict[str, Study] = {}
        """those that were opened, by digest: reading one checks signatures and schema"""

    def submit(self, caller: Principal, envelope: bytes) -> tuple[bytes, bool]:
        """(digest, whether it is new). Raises InvalidManifest, InvalidIdentity, PolicyDenied, Halted."""
        roll, now = self._registry.roll(), self._clock()
        study = open_study(envelope, roll)
        if caller.kind == "lead" and caller.name != study.lead.id:
            raise PolicyDenied(f"The study is signed by {study.lead.id}, and the connection is {caller.name}'s.")
        check_may_ask(study, roll)
        digest = study.digest.hex()
        with self._database.transaction() as change:
            if change.studies.of(digest) is not None:
                return study.digest, False
        self._check(study)
        with self._database.transaction() as change:
            for row in change.studies.all():
                if row.name == study.name and self._goes_on(self._opened(row), now):
                    raise InvalidManifest(
                        f"A study named {study.name} goes on already.",
                        hint="Choose another metadata.name.",
                        field="metadata.name",
                    )
            change.studies.add(StudyRow(digest, study.name, envelope, now))
            change.audit(now, "submission", digest, envelope)
        self._open[digest] = study
        for session in self._sessions.all():
            self._ask(study, session)
        return study.digest, True

    def _check(self, study: Study) -> None:
        if self._halts.level(lead=study.lead.id) >= Level.drain:
            raise Halted(
                f"It is halted: {self._halts.reason(study.digest, lead=study.lead.id)}.",
                hint="Nothing was submitted. See `concord get halts`; submit it when the halt is lifted.",
            )
        try:
            data = self._blobs.path(study.template.bundle_digest).read_bytes()
        except NotFound as error:
            raise InvalidManifest(
                "The bundle that the study names was not uploaded.", hint="Submit with concord apply.", field="spec.job"
            ) from error
        unpack(data, study.template.bundle_digest)
        check_reachable(study.template.spec.participants, self._registry.roll())

    def check_run(self, manifest: Manifest) -> None:
        """Raises InvalidManifest for a run of a study that nobody was asked about: every node would refuse it."""
        named = manifest.job.metadata.study
        if named is None:
            return
        with self._database.transaction() as change:
            known = change.studies.of(named) is not None
        if not known:
            raise InvalidManifest(
                "The job names a study that was not submitted here.",
                hint="Submit the study first, or leave metadata.study out.",
                field="metadata.study",
            )

    def rows(self) -> tuple[tuple[Study, StudyRow, tuple[StudyAnswerRow, ...]], ...]:
        """The newest first."""
        with self._database.transaction() as change:
            found = [(row, change.studies.answers(row.digest)) for row in change.studies.all()]
        return tuple((self._opened(row), row, answers) for row, answers in reversed(found))

    # --------------------------------------------------------------------------------------------------------- nodes

    def connected(self, session: Session) -> None:
        """It is asked about every study that goes on and that it has not answered."""
        now = self._clock()
        with self._database.transaction() as change:
            rows = change.studies.all()
        for row in rows:
            try:
                study = self._opened(row)
            except FederationError as error:  # its lead is on the roll no more
                log.warning("study.not-asked", study=row.digest[:12], detail=error.message)
                continue
            if self._goes_on(study, now):
                self._ask(study, session)

    def hears(self, session: Session, event: rounds_pb2.NodeEvent) -> bool:
        """Whether the event is about a study: then it is dealt with. A bad one changes nothing."""
        kind = event.WhichOneof("event") or ""
        if kind not in KINDS or (study := self._known(event.job.hex())) is None:
            return False
        try:
            if kind == "refusal":
                self._refused(study, session, event.refusal)
            elif kind == "consent_revocation":
                self._revoked(study, session, event.consent_revocation.envelope)
            elif event.consent.waits_until:
                self._waits(study, session, event.consent.waits_until)
            else:
                self._consented(study, session, event.consent.envelope)
        except FederationError as error:
            log.warning(
                "node.refused",
                member=session.member,
                node=session.node,
                kind=kind,
                code=error.code,
                detail=error.message,
            )
        return True

    def _ask(self, study: Study, session: Session) -> None:
        if not is_invited(study.template.spec.participants, self._registry.roll().member(session.member)):
            return
        answer = self._answer_of(study, session)
        if answer is not None and answer.state in ANSWERED:
            return
        if answer is None:
            self._keep(study, StudyAnswerRow(session.member, session.node, "asked", (), b""))
        session.send(instruction_bytes(study.digest, rounds_pb2.AskConsent(study=study.envelope)))

    def _consented(self, study: Study, session: Session, envelope: bytes) -> None:
        consent = open_consent(envelope, self._registry.credential(session.member, session.node))
        known = self._answer_of(study, session)
        if consent.job != study.digest or (known is not None and known.state in OVER):
            return
        state = "granted" if consent.granted else "denied"
        self._keep(study, StudyAnswerRow(consent.member, consent.node, state, consent.reasons, envelope))

    def _waits(self, study: Study, session: Session, until: str) -> None:
        known = self._answer_of(study, session)
        if known is not None and known.state in ANSWERED:
            return
        words = (f"waits for a person until {moment_text(moment(until, 'deadline'))}",)
        self._keep(study, StudyAnswerRow(session.member, session.node, "asked", words, b""))

    def _refused(self, study: Study, session: Session, refusal: rounds_pb2.Refusal) -> None:
        known = self._answer_of(study, session)
        if known is None or known.state not in ANSWERED:
            words = (plain(refusal.text[:REASON_LETTERS]),)
            self._keep(study, StudyAnswerRow(session.member, session.node, UNABLE, words, b""))

    def _revoked(self, study: Study, session: Session, envelope: bytes) -> None:
        revocation = open_revocation(envelope, self._registry.credential(session.member, session.node))
        if revocation.job != study.digest:
            return
        known = self._answer_of(study, session)
        held = ConsentRow(known.member, known.node, known.state, known.reasons, known.envelope) if known else None
        taken = answer_of(revocation, held)
        if taken.new:
            row = taken.answer
            with self._database.transaction() as change:
                change.studies.put_answer(
                    study.digest.hex(), StudyAnswerRow(row.member, row.node, row.state, row.reasons, row.envelope)
                )
                said = f"{study.digest.hex()} {row.member} {row.node}"
                change.audit(self._clock(), "revocation", said, envelope)
        noted = rounds_pb2.ConsentNoted(revocation=consent_digest(envelope))
        session.send(instruction_bytes(study.digest, noted))

    # ------------------------------------------------------------------------------------------------------- plumbing

    def _keep(self, study: Study, answer: StudyAnswerRow) -> None:
        digest = study.digest.hex()
        with self._database.transaction() as change:
            before = _of(change, digest, answer.member, answer.node)
            if before == answer:
                return
            change.studies.put_answer(digest, answer)
            if answer.state in ANSWERED:
                said = f"{digest} {answer.member} {answer.node} {answer.state}"
                change.audit(self._clock(), "consent", said, answer.envelope)

    def _answer_of(self, study: Study, session: Session) -> StudyAnswerRow | None:
        with self._database.transaction() as change:
            return _of(change, study.digest.hex(), session.member, session.node)

    def _known(self, digest: str) -> Study | None:
        if digest not in self._open:
            with self._database.transaction() as change:
                row = change.studies.of(digest)
            if row is None:
                return None
            self._opened(row)
        return self._open[digest]

    def _opened(self, row: StudyRow) -> Study:
        if row.digest not in self._open:
            self._open[row.digest] = open_study(row.envelope, self._registry.roll())
        return self._open[row.digest]

    @staticmethod
    def _goes_on(study: Study, now: float) -> bool:
        return study.expires.timestamp() > now


def _of(change: Change, digest: str, member: str, node: str) -> StudyAnswerRow | None:
    return next((row for row in change.studies.answers(digest) if (row.member, row.node) == (member, node)), None)
