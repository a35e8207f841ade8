"""What this lab answers to a job: by its rules, or by a person where they say so; decided once, on disk before it is said."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import structlog

from federation.errors import Halted, InvalidIdentity
from federation.identity.consent import BY_RULE, Consent, seal_consent
from federation.identity.fields import moment_text
from federation.manifest.manifest import Manifest, check_may_submit, open_manifest
from federation.v1 import rounds_pb2
from node_agent.belongings import Belongings
from node_agent.consent.account import keep_for
from node_agent.consent.asked import Asked, Reply
from node_agent.consent.decision import Decision, chosen_data, denied, plans_of
from node_agent.consent.inbox import Inbox, given_by, why_denied
from node_agent.consent.leaving import Leaving
from node_agent.consent.studies import Studies, Weighed
from node_agent.halt.carrying_out import CarryingOut
from node_agent.jobs import Jobs
from node_agent.rounds.spec import data_paths
from node_agent.store.journal import ConsentRecord
from node_agent.store.questions import Question
from node_agent.store.verdicts import KeptVerdict

log = structlog.get_logger()


class Answering:
    def __init__(
        self,
        own: Belongings,
        asked: Asked,
        inbox: Inbox,
        jobs: Jobs,
        studies: Studies,
        leaving: Leaving,
        carrying_out: CarryingOut,
    ) -> None:
        self._own, self._asked, self._inbox, self._jobs = own, asked, inbox, jobs
        self._studies, self._leaving, self._carrying_out = studies, leaving, carrying_out

    async def reply(self, job: bytes, envelope: bytes) -> Reply:
        """The answer, or until when a person decides. Raises a FederationError where this lab cannot answer now."""
        own = self._own
        if (over := own.revocations.of(job)) is not None:
            return rounds_pb2.ConsentRevocation(envelope=over)
        await self._jobs.closed(job)
        record, question = own.journal.consent(job), own.journal.question(job)
        if record is not None and record.granted and own.halts.level(job):
            raise Halted(f"It is halted here: {own.halts.reason(job)}.", hint="The node is asked again later.")
        if record is None or not (record.granted or (question is not None and question.state != "waiting")):
            own.membership.check_may_decide()
            manifest = open_manifest(envelope, own.roll)
            check_may_submit(manifest, own.roll)
            if manifest.digest != job:
                raise InvalidIdentity("The coordinator asks about another job than the manifest's.")
            self._carrying_out.check_not_halted(manifest)
            await self._studies.after_its_study(manifest)
            weighed = await asyncio.to_thread(self._studies.weigh, manifest)
            consent = weighed.decision.consent
            if consent.granted:
                await self._jobs.fetch_bundle(manifest)
                if question is None and weighed.asks:
                    question = await self._inbox.ask(self._question(manifest, envelope, weighed))
            if question is not None and question.state == "waiting":
                if consent.granted:
                    log.info("consent.asked", job=job.hex()[:12], name=manifest.name, deadline=question.deadline)
                    return rounds_pb2.ConsentReply(waits_until=question.deadline)
                question = None  # the rules deny by now, whatever a person would say
            record = await self._conclude(manifest, envelope, question, None if consent.granted else weighed.decision)
        return rounds_pb2.ConsentReply(envelope=record.envelope)

    def _question(self, manifest: Manifest, envelope: bytes, weighed: Weighed) -> Question:
        now, decision = datetime.now(UTC), weighed.decision
        ends = now + timedelta(seconds=manifest.spec.deadlines.consent_seconds)
        return Question(
            manifest.digest, "job", manifest.name, manifest.lead.id, envelope, weighed.study, moment_text(now),
            moment_text(ends), decision.asks or decision.consent.reasons, weighed.differences,
            deciders=self._own.settings.deciders if decision.deputies is None else decision.deputies,
        )  # fmt: skip

    async def decided(self, question: Question) -> str:
        """What a person decided, or nobody in time: signed, on disk, and said. The lab's rules are asked once more."""
        if question.kind == "study":
            return await self._studies.decided(question)
        manifest = open_manifest(question.manifest, self._own.roll)
        if question.state == "granted":
            self._own.membership.check_may_decide()
            check_may_submit(manifest, self._own.roll)
        record = await self._conclude(manifest, question.manifest, question)
        return self._asked.tell(question, record)

    async def _conclude(
        self, manifest: Manifest, envelope: bytes, question: Question | None, denial: Decision | None = None
    ) -> ConsentRecord:
        own = self._own
        async with self._asked.one_at_a_time:
            consent, record = await asyncio.to_thread(self._answer, manifest, envelope, question, denial)
        own.metrics.count("consents_granted" if consent.granted else "consents_denied")
        if not consent.granted:
            own.metrics.denied(consent.reasons)
        log.info(
            "consent.answered",
            job=manifest.digest.hex()[:12],
            name=manifest.name,
            granted=consent.granted,
            reasons=consent.reasons,
        )
        if consent.granted:
            moved = consent.binds is not None and consent.binds.roll != own.roll.digest  # while it was decided
            if moved and self._leaving.weighed_away(manifest):
                await self._leaving.leave_behind(manifest.digest)
            else:
                await self._jobs.take_up(manifest, fetch=False)
        return record

    def _answer(
        self, manifest: Manifest, envelope: bytes, question: Question | None, denial: Decision | None
    ) -> tuple[Consent, ConsentRecord]:
        """On disk when this returns; what it reserves of privacy budgets, too. One at a time, and decided here: another job may
        have reserved what this one needs. ``denial``: of the rules, which stays one."""
        own = self._own
        given = BY_RULE if question is None else given_by(question)
        if denial is not None:
            consent, said = denial.answer(given), denial.verdict
        else:
            consent, said = self._studies.decide(manifest, question)
        if question is not None and question.state != "granted":
            consent = denied(consent, why_denied(question), given)
        if not consent.granted:
            own.files(manifest.digest).erase_work()
        elif manifest.spec.data_set.version_rule == "minor":
            own.inventories.keep(manifest.digest, data_paths(manifest, consent.data_set, own.settings))
        record = ConsentRecord(
            manifest.digest,
            manifest.name,
            manifest.lead.id,
            consent.granted,
            consent.reasons,
            seal_consent(consent, own.key),
            moment_text(consent.issued),
        )
        names = chosen_data(manifest, own.settings.data_sets)
        verdict = KeptVerdict(manifest.digest, "answered", record.answered, said.to_bytes())
        own.journal.answer(record, envelope, plans_of(manifest, names), verdict)
        keep_for(own.journal, own.settings.verdict_days, datetime.now(UTC))
        if not consent.granted and own.lapses.lapsed(manifest.digest):  # taken back, asked anew, and it says no
            own.journal.end_job(manifest.digest, "denied", "; ".join(consent.reasons))
        return consent, record
