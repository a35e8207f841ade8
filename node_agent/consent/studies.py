"""What this lab says to a study, and to the runs that say they lie inside one: proved here, against its own disk.

A study is weighed as the job of its runs, with its bounds, and is put before a person where such a job would be. A run that lies
inside is granted without a question, under the study's consent; its place is on disk before that is signed. A run that does not is
refused; where a person granted the study, that person is asked again, and shown only what differs. What is granted so is no run of
the study.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from federation.errors import BudgetExhausted, FederationError, InvalidIdentity, PolicyDenied
from federation.identity.consent import BY_RULE, Consent, Given, open_consent, seal_consent
from federation.identity.fields import moment, moment_text
from federation.identity.revocation import consent_digest
from federation.manifest.binding import budget_of
from federation.manifest.manifest import Manifest
from federation.manifest.study import Difference, Study, Used, check_may_ask, exceeded, open_study, outside
from federation.policy.question import StudyAsked
from federation.policy.verdict import Verdict
from federation.privacy.accounting import Charge
from federation.privacy.budget import check_consent
from federation.v1 import rounds_pb2
from node_agent.belongings import Belongings
from node_agent.consent.asked import Asked, Reply
from node_agent.consent.decision import Decision, Situation, chosen_data, denied, plans_of, weigh
from node_agent.consent.inbox import Inbox, given_by, why_denied
from node_agent.consent.leaving import Leaving
from node_agent.halt.carrying_out import CarryingOut
from node_agent.jobs import Jobs
from node_agent.rounds.spec import data_paths
from node_agent.store.journal import ConsentRecord
from node_agent.store.questions import Question

log = structlog.get_logger()

SKEW: Final = timedelta(minutes=5)
"""between the clocks of a lead and of this node"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run stands that names a study."""

    study: Study | None
    """None: this lab has no consent to such a study"""
    consent: Consent | None
    named: bytes
    """SHA-256 of the envelope of the study's consent"""
    refused: str
    """why no question is asked about it either"""
    differences: tuple[Difference, ...]
    seen: tuple[str, ...]
    """what the person who granted the study was told of the policy"""

    @property
    def inside(self) -> bool:
        return not self.refused and not self.differences

    @property
    def by_person(self) -> bool:
        return self.consent is not None and self.consent.given is not None and self.consent.given.how == "person"

    @property
    def reasons(self) -> tuple[str, ...]:
        return (self.refused,) if self.refused else tuple(f"study: {each.text}" for each in self.differences)


@dataclass(frozen=True, slots=True)
class Weighed:
    """What the rules say to a job, and whether a person is to be asked."""

    decision: Decision
    asks: bool
    differences: tuple[str, ...] = ()
    study: bytes = b""
    """envelope of the study from which it differs"""


class Studies:
    def __init__(
        self, own: Belongings, asked: Asked, inbox: Inbox, jobs: Jobs, leaving: Leaving, carrying_out: CarryingOut
    ) -> None:
        self._own, self._asked, self._inbox, self._jobs = own, asked, inbox, jobs
        self._leaving, self._carrying_out = leaving, carrying_out

    # ------------------------------------------------------------------------------------------------------- a study

    async def reply(self, digest: bytes, envelope: bytes) -> Reply:
        """The answer to a study, decided once, on disk before it is said. Raises what a job's does."""
        own = self._own
        if (over := own.revocations.of(digest)) is not None:
            return rounds_pb2.ConsentRevocation(envelope=over)
        record, question = own.journal.consent(digest), own.journal.question(digest)
        if record is not None and (record.granted or (question is not None and question.state != "waiting")):
            return rounds_pb2.ConsentReply(envelope=record.envelope)
        study = self._opened(envelope)
        if study.digest != digest:
            raise InvalidIdentity("The coordinator asks about another study than the document's.")
        self._carrying_out.check_not_halted(study.template)
        decision = await asyncio.to_thread(self._weigh_study, study)
        consent = decision.consent
        if consent.granted and question is None and (decision.asks or own.settings.consent == "person"):
            await self._jobs.fetch_bundle(study.template)
            question = await self._inbox.ask(self._question(study, decision))
        if consent.granted and question is not None and question.state == "waiting":
            log.info("study.asked", study=digest.hex()[:12], name=study.name, deadline=question.deadline)
            return rounds_pb2.ConsentReply(waits_until=question.deadline)
        if question is not None and question.state == "waiting":
            question = None  # the rules deny by now, whatever a person would say
        record = await self._conclude(study, question)
        return rounds_pb2.ConsentReply(envelope=record.envelope)

    async def decided(self, question: Question) -> str:
        """What a person decided, or nobody in time. Raises PolicyDenied when the rules allow it no more."""
        study = open_study(question.manifest, self._own.roll)
        if question.state == "granted":
            self._opened(question.manifest)
        record = await self._conclude(study, question)
        return self._asked.tell(question, record)

    def _opened(self, envelope: bytes) -> Study:
        self._own.membership.check_may_decide()
        study = open_study(envelope, self._own.roll)
        check_may_ask(study, self._own.roll)
        return study

    def _question(self, study: Study, decision: Decision) -> Question:
        now, own = _now(), self._own
        ends = min(now + timedelta(seconds=study.template.spec.deadlines.consent_seconds), study.expires)
        return Question(
            study.digest, "study", study.name, study.lead.id, study.envelope, b"", moment_text(now), moment_text(ends),
            decision.asks or decision.consent.reasons,
            deciders=own.settings.deciders if decision.deputies is None else decision.deputies,
        )  # fmt: skip

    async def _conclude(self, study: Study, question: Question | None) -> ConsentRecord:
        own = self._own
        async with self._asked.one_at_a_time:
            consent, record = await asyncio.to_thread(self._answer_study, study, question)
        own.metrics.count("consents_granted" if consent.granted else "consents_denied")
        if not consent.granted:
            own.metrics.denied(consent.reasons)
        log.info(
            "study.answered",
            study=study.digest.hex()[:12],
            name=study.name,
            granted=consent.granted,
            reasons=consent.reasons,
        )
        return record

    def _answer_study(self, study: Study, question: Question | None) -> tuple[Consent, ConsentRecord]:
        """On disk when this returns."""
        own = self._own
        given = BY_RULE if question is None else given_by(question)
        until = moment(question.until, "until") if question is not None and question.until else study.expires
        decision = self._weigh_study(study, given, min(until, study.expires))
        consent = decision.consent
        if question is not None and question.state != "granted":
            consent = denied(consent, why_denied(question), given)
        elif given.how == "rule" and (decision.asks or own.settings.consent == "person"):
            consent = replace(denied(consent, "", given), reasons=decision.asks or consent.reasons)
        files = own.files(study.digest)
        files.erase_work()
        if consent.granted and study.template.spec.data_set.version_rule == "minor":
            files.prepare()
            own.inventories.keep(study.digest, data_paths(study.template, consent.data_set, own.settings))
        record = ConsentRecord(
            study.digest, study.name, study.lead.id, consent.granted, consent.reasons,
            seal_consent(consent, own.key), moment_text(consent.issued),
        )  # fmt: skip
        own.journal.answer_study(record, study.envelope)
        return consent, record

    def _weigh_study(self, study: Study, given: Given = BY_RULE, until: datetime | None = None) -> Decision:
        """As the job of its runs, all of them together. Its budget is their sum, and reserves nothing: each run does."""
        at = self._situation(study)
        decision = weigh(study.template, at, given, until or study.expires)
        consent = decision.consent
        if not consent.granted:
            return decision
        names = chosen_data(study.template, at.data_sets)
        plans = {name: _times(plan, study.bounds.runs) for name, plan in plans_of(study.template, names).items()}
        problems = self._too_late(study) + _beyond_budgets(plans, at)
        if problems:
            refusal = replace(denied(consent, problems[0], given), reasons=problems)
            return replace(decision, consent=refusal, asks=())
        assert consent.binds is not None
        return replace(decision, consent=replace(consent, binds=replace(consent.binds, budget=budget_of(plans))))

    def _too_late(self, study: Study) -> tuple[str, ...]:
        """A study whose runs this node may have counted, and forgotten, is not asked about again."""
        now, found = _now(), self._own.journal.restored
        if study.expires <= now:
            return (f"study: it ended at {moment_text(study.expires)}",)
        if study.created > now + SKEW:
            return (f"study: it was made at {moment_text(study.created)}, and here it is {moment_text(now)}",)
        if found:
            try:
                forgotten = study.created <= moment(found, "time") + SKEW
            except InvalidIdentity:
                forgotten = True
            if forgotten:
                return (
                    "study: this node's journal was put back from a copy since the study was made, and nobody can count its runs; "
                    "submit it anew",
                )
        return ()

    def _situation(self, study: Study) -> Situation:
        """The rules see the study's bounds in its runs, too: a lab that narrows them afterwards is heard."""
        bounds = study.bounds
        at = self._own.situation()
        asked = StudyAsked(bounds.runs, bounds.rounds, bounds.epsilon, study.bytes, study.days(at.now))
        return replace(at, study=asked)

    # ---------------------------------------------------------------------------------------------------------- runs

    async def after_its_study(self, manifest: Manifest) -> None:
        """Returns when this node considers the study of a run no more: both may have come at once."""
        study = manifest.job.metadata.study
        if study is not None:
            await self._asked.considered(bytes.fromhex(study))

    def weigh(self, manifest: Manifest) -> Weighed:
        """A job, and whether a person is asked: about what differs from its study, where it names one."""
        by_people = self._own.settings.consent == "person"
        place = self._place(manifest)
        if place is None:
            decision = weigh(manifest, self._own.situation())
            return Weighed(decision, bool(decision.asks) or by_people)
        decision = weigh(manifest, self._situation(place.study) if place.study is not None else self._own.situation())
        if not decision.consent.granted:
            return Weighed(decision, False)
        if place.inside:
            return Weighed(decision, self._unseen(place, decision))
        if place.refused or not place.by_person:
            refusal = replace(denied(decision.consent, "", BY_RULE), reasons=place.reasons)
            return Weighed(replace(decision, consent=refusal, asks=()), False)
        envelope = place.study.envelope if place.study is not None else b""
        return Weighed(decision, True, tuple(each.text for each in place.differences), envelope)

    def _unseen(self, place: Place, decision: Decision) -> bool:
        """Whether the rules, or the lab, want a person by now for something that none has seen of the study."""
        if place.by_person:
            return bool(set(decision.asks) - set(place.seen))
        return bool(decision.asks) or self._own.settings.consent == "person"

    def decide(self, manifest: Manifest, question: Question | None) -> tuple[Consent, Verdict]:
        """Of a job that no question was asked about: inside its study, where it names one, its place is on disk when this returns.
        What a person granted is granted by itself. With it, what the rules said, word for word."""
        given = BY_RULE if question is None else given_by(question)
        until = moment(question.until, "until") if question is not None and question.until else None
        place = None if question is not None else self._place(manifest)
        if place is None:
            alone = weigh(manifest, self._own.situation(), given, until)
            return alone.answer(given), alone.verdict
        at = self._situation(place.study) if place.study is not None else self._own.situation()
        decision = weigh(manifest, at)
        if not decision.consent.granted:
            return decision.consent, decision.verdict
        if not place.inside or place.study is None or place.consent is None:
            return replace(denied(decision.consent, "", BY_RULE), reasons=place.reasons), decision.verdict
        if self._unseen(place, decision):
            reasons = decision.asks or decision.consent.reasons
            return replace(denied(decision.consent, "", BY_RULE), reasons=reasons), decision.verdict
        role = place.consent.given.by if place.consent.given is not None else BY_RULE.by
        ends = min(decision.consent.expires, place.consent.expires)
        inside = weigh(manifest, at, Given("study", role), ends, place.named)
        consent = inside.answer(Given("study", role))
        if consent.granted and (problems := self._take(place.study, manifest)):
            return replace(denied(consent, "", BY_RULE), reasons=problems), inside.verdict
        return consent, inside.verdict

    def _take(self, study: Study, manifest: Manifest) -> tuple[str, ...]:
        now = _now()

        def fits(used: Used) -> tuple[str, ...]:
            return tuple(f"study: {each.text}" for each in exceeded(study, used, manifest, now))

        rounds = manifest.terms().last_round
        return self._own.journal.take_run(study.digest, manifest.digest, rounds, moment_text(now), fits)

    def _place(self, manifest: Manifest) -> Place | None:
        """None: the job names no study."""
        named = manifest.job.metadata.study
        if named is None:
            return None
        own, digest = self._own, bytes.fromhex(named)
        record, envelope = own.journal.consent(digest), own.journal.study(digest)
        if own.revocations.revoked(digest):
            return _refused("study: this lab has revoked its consent to it")
        if record is None or not record.granted or envelope is None:
            question = own.journal.question(digest)
            waits = question is not None and question.state == "waiting"
            why = "its consent to it waits for a person" if waits else "it has not consented to it"
            return _refused(f"study: this lab lets nothing run inside this study: {why}")
        try:
            study = open_study(envelope, own.roll)
            check_may_ask(study, own.roll)
            consent = open_consent(record.envelope, own.credential)
        except FederationError as error:
            return _refused(f"study: it is good no more: {error.message}")
        if why := own.lapses.why(digest):
            return _refused(f"study: this lab's consent to it has lapsed: {why}")
        now = _now()
        if not consent.granted or consent.job != digest or now > min(study.expires, consent.expires):
            return _refused(
                f"study: this lab's consent to it ended at {moment_text(min(study.expires, consent.expires))}"
            )
        differences = (*outside(study, manifest), *self._other_data(study, consent, manifest))
        if own.journal.study_of(manifest.digest) != digest:
            differences += exceeded(study, own.journal.study_used(digest), manifest, now)
        question = own.journal.question(digest)
        seen = question.reasons if question is not None else ()
        return Place(study, consent, consent_digest(record.envelope), "", differences, seen)

    def _other_data(self, study: Study, consent: Consent, manifest: Manifest) -> tuple[Difference, ...]:
        """The data that the run would use here, where it is not what the study's consent binds."""
        own = self._own
        names = chosen_data(manifest, own.settings.data_sets)
        consented = dict(consent.binds.data) if consent.binds is not None else {}
        if set(names) != set(consented):
            return (Difference("data", "the run would use other data sets here than the study"),)
        try:
            changed = [
                name
                for name in names
                if own.sealed.version_of(own.settings.data_sets[name]) != consented[name]
                and not own.grew(study.digest, name, consented[name])
            ]
        except (OSError, PolicyDenied):
            return (Difference("data", "nobody can tell whether it is what the study's consent is for"),)
        return tuple(
            Difference("data", f"{name} is in another version than the study's consent is for") for name in changed
        )

    # ---------------------------------------------------------------------------------------------------- revocation

    async def leave_runs(self, study: bytes, role: str) -> None:
        """The study's consent was taken back: so is that to each run that is under way."""
        own = self._own
        for job in own.journal.runs_of(study):
            record = own.journal.job(job)
            if record is not None and record.state in {"active", "suspended"}:
                self._leaving.take_back(job, "person", role, "")
                await self._leaving.leave_behind(job)

    async def settle(self) -> None:
        """At a start: what was taken back while no node ran."""
        own = self._own
        for record in (*own.journal.jobs(), *own.journal.jobs("suspended")):
            study = own.journal.study_of(record.job)
            if study is not None and own.revocations.revoked(study):
                await self.leave_runs(study, own.settings.deciders[0])


def _refused(why: str) -> Place:
    return Place(None, None, b"", why, (), ())


def _times(plan: Mapping[Charge, int], runs: int) -> dict[Charge, int]:
    return {charge: times * runs for charge, times in plan.items()}


def _beyond_budgets(plans: Mapping[str, Mapping[Charge, int]], at: Situation) -> tuple[str, ...]:
    problems: tuple[str, ...] = ()
    for name, planned in plans.items():
        budget = at.data_sets[name].budget
        try:
            if budget is not None:
                check_consent(at.ledger(name), planned, budget, name)
        except BudgetExhausted as error:
            problems += (f"budget: of all runs together: {error.message}",)
    return problems


def _now() -> datetime:
    return datetime.now(UTC)


__all__ = ["Place", "Studies", "Weighed"]
