"""One running node: its link, its jobs, its journal. Each instruction goes to the job that it is about."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import logging
import os
import signal
import ssl
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import structlog
from cryptography import x509

from federation.audit.named_key import log_key_of, log_keys_of
from federation.errors import FederationError, Halted, InvalidIdentity, InvalidUsage, NotFound, PolicyDenied
from federation.exposure import check_exposure
from federation.halt.levels import Level
from federation.halt.order import SignedLift, SignedOrder
from federation.halt.powers import check_lift, check_order, lease_seconds
from federation.halt.powers import decide as decided
from federation.identity.consent import BY_RULE, Consent, open_consent, seal_consent
from federation.identity.credential import NodeCredential
from federation.identity.fields import moment_text
from federation.identity.keys import SigningKey
from federation.identity.names import checked_label
from federation.identity.revocation import (
    TAKEN_BACK,
    Cause,
    Revocation,
    consent_digest,
    open_revocation,
    sayable,
    seal_revocation,
)
from federation.identity.roll import Roll
from federation.identity.transport import Principal, TransportKey, fingerprint_of, make_csr, uri_of
from federation.identity.withdrawal import open_withdrawal
from federation.log_events import Lines, with_names, without_secrets
from federation.manifest.bundle import unpack
from federation.manifest.manifest import Manifest, check_may_submit, open_manifest
from federation.route import Route, route_to
from federation.v1 import audit_pb2, rounds_pb2
from node_agent.catalogue.bulletin import Bulletin
from node_agent.catalogue.inventories import Inventories
from node_agent.catalogue.places import check_places
from node_agent.catalogue.publication import published
from node_agent.catalogue.versions import sealed_versions
from node_agent.consent.account import keep_for
from node_agent.consent.deciding import handlers_of
from node_agent.consent.decision import Decision, Situation, chosen_data, denied, plans_of
from node_agent.consent.inbox import Inbox, given_by, why_denied
from node_agent.consent.lapses import Lapses
from node_agent.consent.packs import held_policy
from node_agent.consent.standing import Standing
from node_agent.consent.studies import Studies, Weighed
from node_agent.consent.weighing import Weighing
from node_agent.control import Control
from node_agent.enrolment import check_certificate, check_credential
from node_agent.halt.carrying_out import CarryingOut
from node_agent.halt.folder import HaltFolder
from node_agent.halt.halts import Halts
from node_agent.halt.own import OwnHand
from node_agent.link.audit import AuditLink
from node_agent.link.channel import Credentials
from node_agent.link.discretion import Discretion
from node_agent.link.enrolment import renew
from node_agent.link.halts import HaltLink
from node_agent.link.stream import Link
from node_agent.membership import Membership
from node_agent.rounds.disclosure import FigureBook
from node_agent.rounds.driver import JobDriver, event_of
from node_agent.rounds.files import JobFiles
from node_agent.rounds.lab import Lab
from node_agent.rounds.spec import data_paths, worker_spec
from node_agent.rounds.training import Trainer
from node_agent.runner.accelerators import Accelerators
from node_agent.runner.devices import local_offer
from node_agent.runner.runtime import missing_runtime
from node_agent.runner.sandbox import detect_sandbox
from node_agent.runner.worker import WorkerSpec
from node_agent.settings import Home, NodeSettings, refuse_unknown_variables
from node_agent.store.data_version import DataVersions
from node_agent.store.evidence import EvidenceFolder
from node_agent.store.files import write_whole
from node_agent.store.journal import ConsentRecord, Journal
from node_agent.store.questions import Question
from node_agent.store.revocations import Revocations
from node_agent.store.verdicts import KeptVerdict
from node_agent.telemetry.lab import survey_of
from node_agent.telemetry.metrics import NodeMetrics
from node_agent.telemetry.server import MetricsServer, tls_of
from node_agent.witness.notebook import Notebook
from node_agent.witness.watcher import CONSENT, HINT, NAME_IT, UNNAMED, Me, Witness

log = structlog.get_logger()

RENEW_SHARE = 2 / 3
BUNDLE_LIMIT = 128 << 20
Reply = rounds_pb2.ConsentReply | rounds_pb2.ConsentRevocation
Answer = Callable[[bytes, bytes], Coroutine[Any, Any, Reply]]
"""(digest, envelope) of what is asked about"""
ASKED_BYTES = 32 << 20
ASKED_JOBS = 256
"""manifests that are considered at once"""


class NodeAgent:
    def __init__(self, home: Home, settings: NodeSettings, journal: Journal) -> None:
        self.home, self.settings, self.journal = home, settings, journal
        self.key = SigningKey.from_pem(home.read(home.identity_key))
        self.transport = TransportKey.from_pem(home.read(home.transport_key))
        self.membership = Membership(home, settings, self.key)
        # A node whose member is suspended dials all the same: it hears so when it is taken back.
        self.credential: NodeCredential = check_credential(
            home, home.read(home.credential), self.roll, settings, standing=False
        )
        self.policy = held_policy(home, str(home.policy_file), self.roll, EvidenceFolder(home.evidence).keep)
        self.sandbox = detect_sandbox()
        self.offer = local_offer()
        self.jobs: dict[bytes, JobDriver] = {}
        self.accelerators = Accelerators()
        self.versions = DataVersions()
        self.sealed = sealed_versions(home, self.versions)
        self.inventories = Inventories(lambda job: self._files(job).root, self.versions, self.sealed.seal)
        self._tasks: set[asyncio.Task[None]] = set()
        self._asked: dict[bytes, tuple[asyncio.Task[None], int]] = {}
        """what is being considered, and how large its manifest is"""
        self._meanwhile: dict[bytes, rounds_pb2.Instruction] = {}
        """ends of jobs that came while they were considered"""
        self._answering = asyncio.Lock()
        self.halts = Halts(
            HaltFolder(home.halts),
            settings.member,
            settings.node,
            lambda: min(lease_seconds(self.roll), settings.lease_seconds or float("inf")),
            self._check_order,
            self._check_lift,
        )
        self.revocations = Revocations(home.revocations)
        self.lapses = Lapses(journal, self.credential, lambda: self.roll)
        self.inbox = Inbox(journal, _now, self._decided)
        self.studies = Studies(self)
        self.weighing = Weighing(journal, self.credential, self._situation)
        route = route_to(self.membership.places[0], os.environ)
        self.link = Link(route, self._credentials, self._hello, self._hear, self._room)
        self.link.turn = self._turn
        self.bulletin = Bulletin(
            home, self.key, self.credential, self.link.connected, self.link.send,
            lambda digest: self.witness.expect_document(digest, "catalogue"), lambda digest: self.witness.forget(digest),
        )  # fmt: skip
        self.carrying_out = CarryingOut(self)
        self.halt_link = HaltLink(lambda: self.link.route, self._credentials, self.halts, self.carrying_out.connected)
        self.metrics = NodeMetrics(product_version())
        self.link.count, self.link.sent = self.metrics.count, self.metrics.sent
        self.lab = Lab(
            journal,
            self.key,
            self.credential,
            lambda: self.membership.roll,
            self.policy.minimum_cohort,
            self.link,
            EvidenceFolder(home.evidence),
            self.metrics.count,
            FigureBook.of(journal.figures()),
            Standing(journal, self.revocations, self.credential, self.sealed.seal, self._grew, self.weighing.check),
            Discretion.of(home.root, [held.path for held in settings.data_sets.values()], route),
            {name: held.budget for name, held in settings.data_sets.items() if held.budget is not None},
            over=self._over,
            gate=self.halts,
            expect=lambda document, what, job: self.witness.expect_document(document, what, job),
        )
        self.witness = Witness(
            Notebook(home.witness, log_keys_of(self.roll)),
            Me(settings.federation, settings.member, settings.node, self.key),
            lambda: self.roll,
            AuditLink(self.link),
            self.link.send,
            self._witness_stopped,
            time.time,
            settings.witness_seconds,
            self.metrics.count,
        )
        survey_of(self).register(self.metrics.registry)

    @property
    def roll(self) -> Roll:
        return self.membership.roll

    # ---------------------------------------------------------------------------------------------------------- running

    async def run(self, stop: asyncio.Event) -> None:
        log.info("node.route", route=self.link.route.sentence)
        log.info("node.sandbox", sandbox=self.sandbox.kind, reason=self.sandbox.reason, hint=self.sandbox.hint)
        self._keep_log_key()
        self.halts.start()
        self.carrying_out.begin()
        if self.witness.stopped:
            log.error("witness.stopped", detail=self.witness.stopped, hint=HINT)
            self.link.mute(self.witness.stopped)
        await self.studies.settle()
        for record in (*self.journal.jobs(), *self.journal.jobs("suspended")):
            if self.carrying_out.ends(record.job, record.manifest):
                continue
            try:
                if self.revocations.revoked(record.job):
                    await self._leave_behind(record.job)
                    continue
                if why := self.lapses.why(record.job):
                    self.journal.lapse(record.job, why)
                if self.lapses.lapsed(record.job):
                    log.warning("consent.lapsed", job=record.job.hex()[:12], detail=why or record.reason)
                    continue
                manifest = open_manifest(record.manifest, self.roll)
                self.roll.require_lead(manifest.lead.id)
                if self._weighed_away(manifest):
                    await self._leave_behind(record.job)
                    continue
                await self._take_up(manifest, fetch=False)
            except FederationError as error:
                log.error("job.not-resumed", job=record.job.hex()[:12], detail=error.message)
        keep_for(self.journal, self.settings.verdict_days, _now())
        self.inbox.amended(self.roll)
        self.inbox.resume()
        work = [
            self._spawn(self.halt_link.run()),
            self._spawn(self.link.run()),
            self._spawn(self._renew()),
            self._spawn(self.bulletin.run()),
            self._spawn(self.witness.run()),
        ]
        await stop.wait()
        self.inbox.stop()
        for task in work:
            task.cancel()
        for task in list(self._tasks):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for driver in list(self.jobs.values()):
            await driver.stop()
        self.halts.stop()

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("node.failed", error=type(error).__name__, detail=str(error), exc_info=error)

    def _check_order(self, signed: SignedOrder) -> None:
        check_order(signed, self.roll, self._node_key)

    def _check_lift(self, signed: SignedLift) -> None:
        check_lift(signed, self.roll, decided, self._node_key)

    def _node_key(self, member: str, node: str) -> bytes | None:
        """This node knows its own alone: orders of other nodes do not bind it."""
        return self.key.public if (member, node) == (self.settings.member, self.settings.node) else None

    @property
    def own_hand(self) -> OwnHand:
        names = self.settings
        return OwnHand(names.federation, names.member, names.node, self.key, self.halts.folder)

    def _credentials(self) -> Credentials:
        """Raises InvalidIdentity when the certificate has ended: the coordinator would just hang up; and when the members have
        moved the coordinator to another CA: this one is theirs no more."""
        home = self.home
        self.membership.check_coordinator(fingerprint_of(home.read(home.ca)))
        certificate = home.read(home.transport_certificate)
        ends = x509.load_pem_x509_certificate(certificate).not_valid_after_utc
        if ends <= datetime.now(UTC):
            raise InvalidIdentity(
                f"This node's transport certificate ended on {ends:%Y-%m-%d %H:%M} UTC.",
                hint="Ask the coordinator's operator for a new ticket and run `concord-node join`; keys and credential stay.",
            )
        return Credentials(self.settings.federation, home.read(home.ca), certificate, home.read(home.transport_key))

    def _turn(self) -> Route:
        """The next of the places that the charter names, after the one that was tried in vain."""
        places = self.membership.places
        here = self.link.route.address
        return route_to(places[(places.index(here) + 1) % len(places) if here in places else 0], os.environ)

    async def _renew(self) -> None:
        """A fresh transport certificate after two thirds of the old one's time; tried again until it is there."""
        while True:
            certificate = x509.load_pem_x509_certificate(self.home.read(self.home.transport_certificate))
            begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
            due = begin + (end - begin) * RENEW_SHARE
            await asyncio.sleep(max(1.0, (due - datetime.now(UTC)).total_seconds()))
            principal = Principal("node", self.settings.member, self.settings.node)
            csr = make_csr(self.transport, uri_of(principal, self.settings.federation))
            try:
                fresh = await renew(self.link.route, self._credentials(), csr)
                check_certificate(fresh, self.transport, self.settings)
            except FederationError as error:
                log.warning("certificate.not-renewed", detail=error.message, ends=str(end))
                await asyncio.sleep(30.0)
                continue
            write_whole(self.home.transport_certificate, fresh)
            log.info("certificate.renewed")
            self.link.redial()

    # ------------------------------------------------------------------------------------------------------ instructions

    def _hello(self) -> rounds_pb2.NodeEvent:
        offer = rounds_pb2.Offer(
            gpus=[rounds_pb2.Gpu(model=gpu.model, memory_bytes=gpu.memory_bytes) for gpu in self.offer.gpus],
            cpus=self.offer.cpus,
            memory_bytes=self.offer.memory_bytes,
            hours=self.policy.hours,
            sandbox=self.offer.sandbox,
            python=self.offer.python,
            device=self.offer.device,
        )
        hello = rounds_pb2.Hello(
            member=self.settings.member,
            node=self.settings.node,
            offer=offer,
            positions=[*(driver.position for driver in self.jobs.values()), *self.lapses.positions()],
            version=product_version(),
            questions=self.inbox.waiting(),
        )
        return rounds_pb2.NodeEvent(hello=hello)

    def _hear(self, instruction: rounds_pb2.Instruction) -> None:
        kind = instruction.WhichOneof("instruction") or ""
        body = getattr(instruction, kind, None)
        if isinstance(body, rounds_pb2.Welcome):
            self._offered(body.roll)
            self._remind()
            self.bulletin.begin()
        elif isinstance(body, rounds_pb2.Roll):
            self._offered(body.history)
        elif isinstance(body, rounds_pb2.AskConsent):
            self._ask(instruction.job, body)
        elif isinstance(body, audit_pb2.LogHead):
            self.witness.hint()
        elif isinstance(body, rounds_pb2.Ping):
            self.link.send(event_of(b"", rounds_pb2.Pong(nonce=body.nonce)))
        elif isinstance(body, rounds_pb2.CatalogueHeld):
            self.bulletin.answered(body)
        elif isinstance(body, rounds_pb2.ConsentNoted):
            self._noted(instruction.job, body.revocation)
        elif isinstance(body, rounds_pb2.Withdrawn | rounds_pb2.Finished | rounds_pb2.JobFailed):
            if instruction.job in self._asked:
                self._meanwhile[instruction.job] = instruction
            self._ends(instruction.job, body)
        elif (driver := self.jobs.get(instruction.job)) is not None and body is not None:
            driver.hear(body)

    def _ends(self, job: bytes, body: Any) -> None:
        """The coordinator says that a job has ended. A person who was still asked is asked no more."""
        if isinstance(body, rounds_pb2.Withdrawn):
            self._withdrawn(job, body.withdrawal)
            self.inbox.withdrawn(job, body.withdrawal, self.roll)
            return
        finished = isinstance(body, rounds_pb2.Finished)
        reason = "" if finished else body.reason[:1000]
        self._end(job, "finished" if finished else "failed", reason)
        why = "has finished" if finished else f"has ended: {reason or 'no reason given'}"
        self.inbox.end(job, f"the coordinator says that the job {why}")

    async def _room(self) -> None:
        """Returns when no job has more of the coordinator's messages waiting than memory is to hold."""
        for driver in list(self.jobs.values()):
            await driver.room()

    def _ask(self, job: bytes, asked: rounds_pb2.AskConsent) -> None:
        if job in self._asked:
            return
        manifest, answer = (asked.manifest, self._reply) if asked.manifest else (asked.study, self.studies.reply)
        if (
            sum(size for _, size in self._asked.values()) + len(manifest) > ASKED_BYTES
            or len(self._asked) >= ASKED_JOBS
        ):
            log.warning(
                "consent.crowded", job=job.hex()[:12], detail="Too many jobs are asked about at once: left out."
            )
            return
        self._asked[job] = self._spawn(self._consider(job, manifest, answer)), len(manifest)

    def _remind(self) -> None:
        """The coordinator hears once more of each revocation that it has not confirmed."""
        for job, envelope in self.revocations.unnoted():
            self.link.send(event_of(job, rounds_pb2.ConsentRevocation(envelope=envelope)))

    def _offered(self, roll: bytes) -> None:
        """A roll from the coordinator, at each connect and when there is a new one: taken only as far as it proves itself."""
        adoption = self.membership.offer(roll, "coordinator")
        self.link.send(event_of(b"", rounds_pb2.RollHeld(statement=self.membership.statement())))
        if adoption is not None:
            self._amended()

    def _keep_log_key(self) -> None:
        """The log's key also signs the coordinator's receipts for halts."""
        named = log_key_of(self.roll)
        if named is None:
            log.warning("witness.key-unnamed", detail=UNNAMED, hint=NAME_IT)
        if (key := named or self.witness.notebook.key) is not None:
            self.halts.folder.keep_coordinator_key(key.public, known=True)

    def _amended(self) -> None:
        """A new roll is on disk: jobs that may not go on under it end here, whatever the coordinator says; and the node goes
        where the members have put the coordinator."""
        self._keep_log_key()
        seat = self.roll.charter.coordinator
        moved = seat.ca is not None and seat.ca != fingerprint_of(self.home.read(self.home.ca))
        if moved or self.link.route.address not in self.membership.places:
            self.link.route = self._turn()
            self.link.redial()
        self.inbox.amended(self.roll)
        for job, driver in list(self.jobs.items()):
            try:
                self.roll.require_lead(driver.manifest.lead.id)
            except InvalidIdentity as error:
                self._end(job, "failed", error.message)
                continue
            if why := self.lapses.why(job) or self.membership.suspended:
                self._lapse(job, why)
            elif self._weighed_away(driver.manifest):
                self._spawn(self._leave_behind(job))

    async def _consider(self, job: bytes, envelope: bytes, answer: Answer) -> None:
        """Decide once, keep the answer on disk, then say it."""
        try:
            self.witness.check()
            reply = await answer(job, envelope)
            self.link.send(event_of(job, reply))
            if isinstance(reply, rounds_pb2.ConsentReply) and reply.envelope:
                self.witness.expect(reply.envelope, CONSENT, job)
        except FederationError as error:
            log.error("consent.refused", job=job.hex()[:12], code=error.code, detail=error.message)
            text = self.lab.discreet(f"{error.message} {error.hint}")[:1000]
            self.link.send(event_of(job, rounds_pb2.Refusal(code=error.code, text=text)))
        finally:
            self._asked.pop(job, None)
            if (ended := self._meanwhile.pop(job, None)) is not None:
                self._hear(ended)

    def _check_not_halted(self, manifest: Manifest) -> None:
        """Nothing new is begun. Raises Halted; when it is lifted, the node dials again, and is asked again."""
        self.halts.know(manifest.digest, manifest.lead.id)
        if self.halts.level(manifest.digest):
            self.carrying_out.refused = True
            raise Halted(
                f"It is halted here: {self.halts.reason(manifest.digest)}.",
                hint="The node is asked again when that is lifted.",
            )

    async def _reply(self, job: bytes, envelope: bytes) -> Reply:
        if (over := self.revocations.of(job)) is not None:
            return rounds_pb2.ConsentRevocation(envelope=over)
        await self.carrying_out.closed(job)
        record, question = self.journal.consent(job), self.journal.question(job)
        if record is not None and record.granted and self.halts.level(job):
            raise Halted(f"It is halted here: {self.halts.reason(job)}.", hint="The node is asked again later.")
        if record is None or not (record.granted or (question is not None and question.state != "waiting")):
            self.membership.check_may_decide()
            manifest = open_manifest(envelope, self.roll)
            check_may_submit(manifest, self.roll)
            if manifest.digest != job:
                raise InvalidIdentity("The coordinator asks about another job than the manifest's.")
            self._check_not_halted(manifest)
            await self.studies.after_its_study(manifest)
            weighed = await asyncio.to_thread(self.studies.weigh, manifest)
            consent = weighed.decision.consent
            if consent.granted:
                await self._fetch_bundle(manifest)
                if question is None and weighed.asks:
                    question = await self.inbox.ask(self._question(manifest, envelope, weighed))
            if question is not None and question.state == "waiting":
                if consent.granted:
                    log.info("consent.asked", job=job.hex()[:12], name=manifest.name, deadline=question.deadline)
                    return rounds_pb2.ConsentReply(waits_until=question.deadline)
                question = None  # the rules deny by now, whatever a person would say
            record = await self._conclude(manifest, envelope, question, None if consent.granted else weighed.decision)
        return rounds_pb2.ConsentReply(envelope=record.envelope)

    def _question(self, manifest: Manifest, envelope: bytes, weighed: Weighed) -> Question:
        now, decision = _now(), weighed.decision
        ends = now + timedelta(seconds=manifest.spec.deadlines.consent_seconds)
        return Question(
            manifest.digest, "job", manifest.name, manifest.lead.id, envelope, weighed.study, moment_text(now),
            moment_text(ends), decision.asks or decision.consent.reasons, weighed.differences,
            deciders=self.settings.deciders if decision.deputies is None else decision.deputies,
        )  # fmt: skip

    async def _decided(self, question: Question) -> str:
        """What a person decided, or nobody in time: signed, on disk, and said. The lab's rules are asked once more."""
        if question.kind == "study":
            return await self.studies.decided(question)
        manifest = open_manifest(question.manifest, self.roll)
        if question.state == "granted":
            self.membership.check_may_decide()
            check_may_submit(manifest, self.roll)
        record = await self._conclude(manifest, question.manifest, question)
        self._say(manifest.digest, record.envelope)
        if question.state == "granted" and not record.granted:
            raise PolicyDenied(
                f"The lab's rules do not allow {question.name} any more: it is denied.",
                hint="Change policy.yaml, and ask the lead to submit it again.",
                reasons=record.reasons,
            )
        return f"{question.name}: {'granted' if record.granted else 'denied'}, signed and kept."

    def _say(self, job: bytes, answer: bytes) -> None:
        self.link.send(event_of(job, rounds_pb2.ConsentReply(envelope=answer)))
        self.witness.expect(answer, CONSENT, job)

    async def _conclude(
        self, manifest: Manifest, envelope: bytes, question: Question | None, denial: Decision | None = None
    ) -> ConsentRecord:
        async with self._answering:
            consent, record = await asyncio.to_thread(self._answer, manifest, envelope, question, denial)
        self.metrics.count("consents_granted" if consent.granted else "consents_denied")
        if not consent.granted:
            self.metrics.denied(consent.reasons)
        log.info(
            "consent.answered",
            job=manifest.digest.hex()[:12],
            name=manifest.name,
            granted=consent.granted,
            reasons=consent.reasons,
        )
        if consent.granted:
            moved = consent.binds is not None and consent.binds.roll != self.roll.digest  # while it was decided
            if moved and self._weighed_away(manifest):
                await self._leave_behind(manifest.digest)
            else:
                await self._take_up(manifest, fetch=False)
        return record

    def _answer(
        self, manifest: Manifest, envelope: bytes, question: Question | None, denial: Decision | None
    ) -> tuple[Consent, ConsentRecord]:
        """On disk when this returns; what it reserves of privacy budgets, too. One at a time, and decided here: another job may
        have reserved what this one needs. ``denial``: of the rules, which stays one."""
        given = BY_RULE if question is None else given_by(question)
        if denial is not None:
            consent, said = denial.answer(given), denial.verdict
        else:
            consent, said = self.studies.decide(manifest, question)
        if question is not None and question.state != "granted":
            consent = denied(consent, why_denied(question), given)
        if not consent.granted:
            self._files(manifest.digest).erase_work()
        elif manifest.spec.data_set.version_rule == "minor":
            self.inventories.keep(manifest.digest, data_paths(manifest, consent.data_set, self.settings))
        record = ConsentRecord(
            manifest.digest,
            manifest.name,
            manifest.lead.id,
            consent.granted,
            consent.reasons,
            seal_consent(consent, self.key),
            moment_text(consent.issued),
        )
        names = chosen_data(manifest, self.settings.data_sets)
        verdict = KeptVerdict(manifest.digest, "answered", record.answered, said.to_bytes())
        self.journal.answer(record, envelope, plans_of(manifest, names), verdict)
        keep_for(self.journal, self.settings.verdict_days, _now())
        if not consent.granted and self.lapses.lapsed(manifest.digest):  # taken back, asked anew, and it says no
            self.journal.end_job(manifest.digest, "denied", "; ".join(consent.reasons))
        return consent, record

    # -------------------------------------------------------------------------------------------------------- revocation

    async def revoke(self, job: bytes, role: str, words: str) -> str:
        """A person takes a consent back: written, then the job is left, then it is said. Any role may. Raises NotFound."""
        role = checked_label(role or self.settings.deciders[0], "role")
        self._leave(job, "person", role, words)
        await self._leave_behind(job)
        await self.studies.leave_runs(job, role)
        return "revoked"

    def _over(self, job: bytes, cause: Cause) -> None:
        """The driver found that the consent has ended."""
        if self._leave(job, cause, "policy", ""):
            self._spawn(self._leave_behind(job))

    def _weighed_away(self, manifest: Manifest) -> bool:
        """Whether the lab's rules, as they are by now, take its consent back: signed and on disk then."""
        over = self.weighing.again(manifest).outcome == "over"
        return over and self._leave(manifest.digest, "rules", "policy", "")

    def _leave(self, job: bytes, cause: Cause, by: str, words: str) -> bool:
        """On disk when this returns, and from then on nothing is said of the job. False: it was over before."""
        record = self.journal.consent(job)
        if record is None or not (record.granted or self.lapses.lapsed(job)):
            raise NotFound("This lab has not consented to such a job.", hint="See: concord-node consents")
        if self.revocations.revoked(job):
            return False
        reasons = self.weighing.reasons(job) if cause == "rules" else ()
        said = Revocation(
            job, consent_digest(record.envelope), self.settings.member, self.settings.node, cause, by, _now(),
            sayable(reasons),
        )  # fmt: skip
        envelope = self.revocations.put(job, seal_revocation(said, self.key), words or "; ".join(reasons))
        self.metrics.consent_ended(cause)
        log.warning("consent.over", job=job.hex()[:12], name=record.name, cause=cause, reasons=reasons)
        self.link.send(event_of(job, rounds_pb2.ConsentRevocation(envelope=envelope)))
        self.witness.expect(envelope, "revocation")
        return True

    async def _leave_behind(self, job: bytes) -> None:
        """The worker ends, the machine's records and keys are erased, and so is the job's folder."""
        driver = self.jobs.pop(job, None)
        if driver is not None:
            await driver.stop()
        record = self.journal.job(job)
        if record is not None and record.state in {"active", "suspended"}:
            envelope = self.revocations.of(job)
            assert envelope is not None
            over = open_revocation(envelope, self.credential)
            state = "revoked" if over.cause in TAKEN_BACK else "expired"
            await asyncio.to_thread(self.journal.end_job, job, state, over.sentence)
        await asyncio.to_thread(self._files(job).erase_work)

    def _noted(self, job: bytes, digest: bytes) -> None:
        envelope = self.revocations.of(job)
        if envelope is not None and hashlib.sha256(envelope).digest() == digest:
            self.revocations.note(job)

    def _grew(self, job: bytes, name: str, consented: bytes) -> bool:
        held = self.settings.data_sets.get(name)
        return held is not None and self.inventories.grew(job, name, Path(held.path), consented)

    def _situation(self) -> Situation:
        return Situation(
            policy=held_policy(self.home, self.home.policy_file.name, self.roll, self.lab.evidence.keep),
            roll=self.roll,
            member=self.settings.member,
            node=self.settings.node,
            data_sets=self.settings.data_sets,
            sandbox=self.sandbox.kind,
            missing=missing_runtime,
            now=datetime.now().astimezone(),
            ledger=self.journal.ledger,
            version_of=self.sealed.version_of,
            published=lambda: published(self.home),
        )

    def _files(self, job: bytes) -> JobFiles:
        return JobFiles(self.home.jobs / job.hex())

    async def _fetch_bundle(self, manifest: Manifest) -> None:
        files = self._files(manifest.digest)
        files.prepare()
        packed = files.root / "bundle.tar"
        await self.link.get_blob(manifest.bundle_digest, packed, min(manifest.bundle_size, BUNDLE_LIMIT))
        files.unpack(unpack(packed.read_bytes(), manifest.bundle_digest))

    async def _take_up(self, manifest: Manifest, *, fetch: bool) -> None:
        """Starts the driver of a job that this lab consented to. Raises NotFound when its consent is not on disk, or Halted."""
        self.witness.check()
        record = self.journal.consent(manifest.digest)
        if record is None or not record.granted or self.revocations.revoked(manifest.digest):
            raise NotFound("There is no consent to this job on this node's disk.")
        self.halts.know(manifest.digest, manifest.lead.id)
        files = self._files(manifest.digest)
        files.prepare()
        if fetch or not files.bundle.exists():
            await self._fetch_bundle(manifest)
        consent = open_consent(record.envelope, self.credential)
        paths = data_paths(manifest, consent.data_set, self.settings).values()
        driver = JobDriver(
            self.lab,
            manifest,
            consent,
            Trainer(
                manifest,
                manifest.terms(),
                files,
                self._spec(manifest, consent, files),
                self.accelerators,
                gate=self.halts,
                count=self.metrics.count,
                took=self.metrics.took,
            ),
            files,
            lambda: tuple(self.versions.of(path) for path in paths),
        )
        self.jobs[manifest.digest] = driver
        driver.start()

    def _spec(self, manifest: Manifest, consent: Consent, files: JobFiles) -> WorkerSpec:
        spec = worker_spec(manifest, consent.data_set, self.settings, files, self.roll, self.sandbox.kind)
        return replace(spec, started=lambda pid: self.halts.started(manifest.digest, pid))

    def _withdrawn(self, job: bytes, envelope: bytes) -> None:
        driver = self.jobs.get(job)
        if driver is None:
            return
        try:
            withdrawal = open_withdrawal(envelope, job, driver.manifest.lead.key)
        except FederationError as error:
            log.warning("withdrawal.refused", detail=error.message)
            return
        self._end(job, "withdrawn", withdrawal.reason)

    def _witness_stopped(self, why: str) -> None:
        """The log was rewritten, or cannot be verified: every task ends, and nothing more is sent for any job. Journals stay."""
        refusal = rounds_pb2.Refusal(
            code=Halted.code, text=f"this node's witness of the public log stopped it: {why}"[:1000]
        )
        for job, driver in list(self.jobs.items()):
            self.link.send(event_of(job, refusal))
            self._spawn(driver.stop())
        self.link.mute(why)
        self.jobs.clear()

    def _end(self, job: bytes, state: str, reason: str) -> None:
        driver = self.jobs.pop(job, None)
        if driver is None or not driver.position.epoch:  # on a roster, its consent came in time and is owed
            self.witness.settle(job)
        if driver is not None:
            if self.halts.level(job) is Level.stop:
                state, reason = "stopped", self.halts.reason(job)
            log.info("job.ended", job=job.hex()[:12], name=driver.manifest.name, state=state, reason=reason)
            self.carrying_out.closing(job, self._spawn(self._close(driver, job, state, reason)))
        elif self.lapses.lapsed(job):
            self.carrying_out.closing(job, self._spawn(self._close(None, job, state, reason)))

    def _lapse(self, job: bytes, why: str) -> None:
        """This lab is out, or was: its worker ends and it says nothing more of the job, until it is taken back and asked anew."""
        driver = self.jobs.pop(job)
        log.warning("consent.lapsed", job=job.hex()[:12], name=driver.manifest.name, detail=why)
        self.carrying_out.closing(job, self._spawn(self._set_aside(driver, job, why)))

    async def _set_aside(self, driver: JobDriver, job: bytes, why: str) -> None:
        await driver.stop()
        await asyncio.to_thread(self.journal.lapse, job, why)

    async def _close(self, driver: JobDriver | None, job: bytes, state: str, reason: str) -> None:
        if driver is not None:
            await driver.stop()
        await asyncio.to_thread(self.journal.end_job, job, state, reason)
        await asyncio.to_thread(self._files(job).erase_work)


def _now() -> datetime:
    return datetime.now(UTC)


def product_version() -> str:
    try:
        return version("concord-federation")
    except PackageNotFoundError:
        return "source"


def serve(home: Home) -> None:
    """Runs the node until SIGTERM or SIGINT. Raises InvalidUsage, NotFound or InvalidIdentity when it cannot start."""
    settings = home.settings()
    if not settings.address:
        raise InvalidUsage("This node has not joined its federation yet.", hint="Run concord-node join with a ticket.")
    refuse_unknown_variables(os.environ)
    for path in (home.identity_key, home.transport_key, home.catalogue_key):
        if path.exists() and path.stat().st_mode & 0o077:
            raise InvalidUsage(f"The key {path} can be read by others.", hint=f"Run: chmod 600 {path}")
    check_places(settings.data_sets, home.root)
    _log_to_stderr({"member": settings.member, "node": settings.node})
    with locked(home), Journal(home.journal, now=moment_text(datetime.now(UTC))) as journal:
        _say_restored(journal)
        asyncio.run(_serve(home, settings, journal))


def _say_restored(journal: Journal) -> None:
    """At each start: who runs this node must know that it has forgotten what it said."""
    if journal.restored:
        log.error(
            "journal.restored",
            found=journal.restored,
            why=journal.why_restored,
            detail="This journal was put back from a copy, or moved. What it remembered of running jobs is void and set aside.",
            hint="Nothing to do for running jobs: the lab is asked anew, and takes part from their next epoch on. Do not put "
            "journals back; what left since the copy was made is not in it.",
        )


async def _serve(home: Home, settings: NodeSettings, journal: Journal) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    tls = metrics_tls(home, settings)
    agent = NodeAgent(home, settings, journal)
    server = (
        MetricsServer(settings.metrics, agent.metrics.registry, agent.link.connected.is_set, tls)
        if settings.metrics
        else None
    )
    control = Control(home.control, handlers_of(agent))
    await control.start()
    running = loop.create_task(agent.run(stop))
    waiting = loop.create_task(_say_ready(home, agent, server))
    try:
        await running
    finally:
        waiting.cancel()
        await control.close()
        home.run_file.unlink(missing_ok=True)
        if server is not None:
            server.close()


def metrics_tls(home: Home, settings: NodeSettings) -> ssl.SSLContext | None:
    """Raises InvalidUsage for settings that would show this lab's figures to the public."""
    named = [name is not None for name in (settings.metrics_certificate, settings.metrics_key)]
    if any(named) and not all(named):
        raise InvalidUsage(
            "Of metricsCertificate and metricsKey only one is set.", hint="Set both for TLS, or neither."
        )
    check_exposure(
        settings.metrics,
        tls=all(named),
        setting="metrics:",
        hint="Set metricsCertificate and metricsKey, or listen on 127.0.0.1 or a private address; empty exports nothing.",
    )
    if settings.metrics_certificate is None or settings.metrics_key is None:
        return None
    return tls_of(home.root / settings.metrics_certificate, home.root / settings.metrics_key)


async def _say_ready(home: Home, agent: NodeAgent, server: MetricsServer | None) -> None:
    """run.json appears when the coordinator has answered."""
    await agent.link.connected.wait()
    document = {"pid": os.getpid(), "address": agent.settings.address, "metrics": server.address if server else ""}
    write_whole(home.run_file, json.dumps(document).encode())


@contextlib.contextmanager
def locked(home: Home) -> Iterator[None]:
    descriptor = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise InvalidUsage(
            f"Another node runs on {home.root}.", hint="Stop it first; one home runs one node."
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)  # for `concord-node halt`, should this process hang
    try:
        yield
    finally:
        os.close(descriptor)


def _log_to_stderr(names: Mapping[str, str]) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines(names))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            with_names(names),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            without_secrets,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
