"""One running node: its link, its jobs, its journal. Each instruction goes to the room that it is about."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime
from typing import Any

import structlog

from federation.audit.named_key import log_key_of, log_keys_of
from federation.errors import FederationError, InvalidIdentity
from federation.identity.keys import SigningKey
from federation.identity.roll import Roll
from federation.identity.transport import fingerprint_of
from federation.manifest.manifest import open_manifest
from federation.product import product_version
from federation.route import Route, route_to
from federation.v1 import audit_pb2, rounds_pb2
from node_agent.belongings import Belongings
from node_agent.catalogue.bulletin import Bulletin
from node_agent.catalogue.inventories import Inventories
from node_agent.catalogue.publication import published
from node_agent.catalogue.versions import sealed_versions
from node_agent.certificate import Certificate
from node_agent.consent.account import keep_for
from node_agent.consent.answering import Answering
from node_agent.consent.asked import Asked
from node_agent.consent.decision import Situation
from node_agent.consent.inbox import Inbox
from node_agent.consent.lapses import Lapses
from node_agent.consent.leaving import Leaving
from node_agent.consent.packs import held_policy
from node_agent.consent.standing import Standing
from node_agent.consent.studies import Studies
from node_agent.consent.weighing import Weighing
from node_agent.enrolment import check_credential
from node_agent.halt.carrying_out import CarryingOut
from node_agent.halt.reach import halts_of
from node_agent.jobs import Jobs
from node_agent.link.audit import AuditLink
from node_agent.link.discretion import Discretion
from node_agent.link.halts import HaltLink
from node_agent.link.stream import Link
from node_agent.membership import Membership
from node_agent.rounds.disclosure import FigureBook
from node_agent.rounds.files import JobFiles
from node_agent.rounds.lab import Lab
from node_agent.rounds.outbox import event_of
from node_agent.runner.devices import local_offer
from node_agent.runner.runtime import missing_runtime
from node_agent.runner.sandbox import detect_sandbox
from node_agent.settings import Home, NodeSettings
from node_agent.store.data_version import DataVersions
from node_agent.store.evidence import EvidenceFolder
from node_agent.store.journal import Journal
from node_agent.store.revocations import Revocations
from node_agent.telemetry.lab import survey_of
from node_agent.telemetry.metrics import NodeMetrics
from node_agent.witness.notebook import Notebook
from node_agent.witness.watcher import HINT, NAME_IT, UNNAMED, Me, Witness

log = structlog.get_logger()


class NodeAgent:
    def __init__(self, home: Home, settings: NodeSettings, journal: Journal) -> None:
        self.home, self.settings, self.journal = home, settings, journal
        self.key = key = SigningKey.from_pem(home.read(home.identity_key))
        self.membership = Membership(home, settings, key)
        self.certificate = Certificate(home, settings, self.membership)
        # A node whose member is suspended dials all the same: it hears so when it is taken back.
        self.credential = check_credential(home, home.read(home.credential), self.roll, settings, standing=False)
        evidence = EvidenceFolder(home.evidence)
        self.policy = held_policy(home, str(home.policy_file), self.roll, evidence.keep)
        self.sandbox = detect_sandbox()
        self.offer = local_offer()
        self.versions = DataVersions()
        self.sealed = sealed_versions(home, self.versions)
        self.halts = halts_of(home, settings, key, lambda: self.roll)
        self.revocations = Revocations(home.revocations)
        self.lapses = Lapses(journal, self.credential, lambda: self.roll)
        self.weighing = Weighing(journal, self.credential, self.situation)
        self.metrics = NodeMetrics(product_version())
        route = route_to(self.membership.places[0], os.environ)
        self.link = Link(route, self.certificate.credentials, self._hello, self._hear, self._room)
        self.link.turn, self.link.count, self.link.sent = self._turn, self.metrics.count, self.metrics.sent
        self.link.took = self.metrics.called
        self.witness = Witness(
            Notebook(home.witness, log_keys_of(self.roll)),
            Me(settings.federation, settings.member, settings.node, key),
            lambda: self.roll,
            AuditLink(self.link),
            self.link.send,
            self._witness_stopped,
            time.time,
            settings.witness_seconds,
            self.metrics.count,
        )
        self.bulletin = Bulletin(
            home, key, self.credential, self.link.connected, self.link.send,
            lambda digest: self.witness.expect_document(digest, "catalogue"), self.witness.forget,
        )  # fmt: skip
        inventories = Inventories(lambda job: JobFiles(home.jobs / job.hex()).root, self.versions, self.sealed.seal)
        self.own = own = Belongings(
            home, settings, key, self.credential, self.membership, journal, self.revocations, self.lapses, self.halts,
            inventories, self.sealed, self.link, self.metrics, self.situation,
        )  # fmt: skip
        self.lab = Lab(
            journal,
            key,
            self.credential,
            lambda: self.membership.roll,
            self.policy.minimum_cohort,
            self.link,
            evidence,
            self.metrics.count,
            FigureBook.of(journal.figures()),
            Standing(journal, self.revocations, self.credential, self.sealed.seal, own.grew, self.weighing.check),
            Discretion.of(home.root, [held.path for held in settings.data_sets.values()], route),
            {name: held.budget for name, held in settings.data_sets.items() if held.budget is not None},
            over=lambda job, cause: self.leaving.over(job, cause),
            gate=self.halts,
            expect=self.witness.expect_document,
        )
        self.jobs = Jobs(own, self.lab, self.witness, self.versions, self.sandbox.kind)
        self.leaving = Leaving(own, self.jobs, self.weighing, self.witness)
        self.halt_link = HaltLink(
            lambda: self.link.route, self.certificate.credentials, self.halts, lambda: self.carrying_out.connected()
        )
        self.carrying_out = CarryingOut(own, self.jobs, self.halt_link, self.witness)
        self.asked = Asked(self.link, self.witness, own.tasks, self.lab.discreet, self._hear)
        self.inbox = Inbox(journal, lambda: datetime.now(UTC), lambda question: self.answering.decided(question))
        self.studies = Studies(own, self.asked, self.inbox, self.jobs, self.leaving, self.carrying_out)
        self.answering = Answering(
            own, self.asked, self.inbox, self.jobs, self.studies, self.leaving, self.carrying_out
        )
        survey_of(self).register(self.metrics.registry)

    @property
    def roll(self) -> Roll:
        return self.membership.roll

    def situation(self) -> Situation:
        """In which a job is decided on now: the policy is read anew. Raises FederationError where nobody can tell it."""
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
                await self._resume(record.job, record.manifest, record.reason)
            except FederationError as error:
                log.error("job.not-resumed", job=record.job.hex()[:12], detail=error.message)
        keep_for(self.journal, self.settings.verdict_days, datetime.now(UTC))
        self.inbox.amended(self.roll)
        self.inbox.resume()
        tasks = self.own.tasks
        work = [
            tasks.spawn(self.halt_link.run()),
            tasks.spawn(self.link.run()),
            tasks.spawn(self.certificate.keep_fresh(self.link)),
            tasks.spawn(self.bulletin.run()),
            tasks.spawn(self.witness.run()),
        ]
        await stop.wait()
        self.inbox.stop()
        for task in work:
            task.cancel()
        await tasks.stop()
        await self.jobs.stop()
        self.halts.stop()

    async def _resume(self, job: bytes, envelope: bytes, lapsed: str) -> None:
        """A job of the journal, where this lab's consent to it stands; ``lapsed``: why it was set aside before."""
        if self.revocations.revoked(job):
            await self.leaving.leave_behind(job)
            return
        if why := self.lapses.why(job):
            self.journal.lapse(job, why)
        if self.lapses.lapsed(job):
            log.warning("consent.lapsed", job=job.hex()[:12], detail=why or lapsed)
            return
        manifest = open_manifest(envelope, self.roll)
        self.roll.require_lead(manifest.lead.id)
        if self.leaving.weighed_away(manifest):
            await self.leaving.leave_behind(job)
            return
        await self.jobs.take_up(manifest, fetch=False)

    async def revoke(self, job: bytes, role: str, words: str) -> str:
        """A person takes a consent back, to a job or to a study with all that runs inside it. Raises NotFound."""
        await self.leaving.revoke(job, role, words)
        await self.studies.leave_runs(job, role or self.settings.deciders[0])
        return "revoked"

    def _turn(self) -> Route:
        """The next of the places that the charter names, after the one that was tried in vain."""
        places = self.membership.places
        here = self.link.route.address
        return route_to(places[(places.index(here) + 1) % len(places) if here in places else 0], os.environ)

    # ------------------------------------------------------------------------------------------------------ instructions

    def _hello(self) -> rounds_pb2.NodeEvent:
        offer = rounds_pb2.Offer(
            gpus=[
                rounds_pb2.Gpu(model=gpu.model, memory_bytes=gpu.memory_bytes, is_slice=gpu.is_slice)
                for gpu in self.offer.gpus
            ],
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
        body, job = getattr(instruction, kind, None), instruction.job
        if isinstance(body, rounds_pb2.Welcome):
            self._offered(body.roll)
            self.leaving.remind()
            self.bulletin.begin()
        elif isinstance(body, rounds_pb2.Roll):
            self._offered(body.history)
        elif isinstance(body, rounds_pb2.AskConsent) and body.manifest:
            self.asked.consider(job, body.manifest, self.answering.reply)
        elif isinstance(body, rounds_pb2.AskConsent):
            self.asked.consider(job, body.study, self.studies.reply)
        elif isinstance(body, audit_pb2.LogHead):
            self.witness.hint()
        elif isinstance(body, rounds_pb2.Ping):
            self.link.send(event_of(b"", rounds_pb2.Pong(nonce=body.nonce)))
        elif isinstance(body, rounds_pb2.CatalogueHeld):
            self.bulletin.answered(body)
        elif isinstance(body, rounds_pb2.ConsentNoted):
            self.leaving.noted(job, body.revocation)
        elif isinstance(body, rounds_pb2.Withdrawn | rounds_pb2.Finished | rounds_pb2.JobFailed):
            self.asked.hold_back(instruction)
            self._ends(job, body)
        elif (driver := self.jobs.get(job)) is not None and body is not None:
            driver.hear(body)

    def _ends(self, job: bytes, body: Any) -> None:
        """The coordinator says that a job has ended. A person who was still asked is asked no more."""
        if isinstance(body, rounds_pb2.Withdrawn):
            self.jobs.withdrawn(job, body.withdrawal)
            self.inbox.withdrawn(job, body.withdrawal, self.roll)
            return
        finished = isinstance(body, rounds_pb2.Finished)
        reason = "" if finished else body.reason[:1000]
        self.jobs.end(job, "finished" if finished else "failed", reason)
        why = "has finished" if finished else f"has ended: {reason or 'no reason given'}"
        self.inbox.end(job, f"the coordinator says that the job {why}")

    async def _room(self) -> None:
        """Returns when no job has more of the coordinator's messages waiting than memory is to hold."""
        for driver in list(self.jobs.values()):
            await driver.room()

    def _witness_stopped(self, why: str) -> None:
        """The log was rewritten, or cannot be verified: nothing more is sent for any job."""
        self.jobs.refuse_all(f"this node's witness of the public log stopped it: {why}")
        self.link.mute(why)

    # ------------------------------------------------------------------------------------------------------------- the roll

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
                self.jobs.end(job, "failed", error.message)
                continue
            if why := self.lapses.why(job) or self.membership.suspended:
                self.jobs.lapse(job, why)
            elif self.leaving.weighed_away(driver.manifest):
                self.own.tasks.spawn(self.leaving.leave_behind(job))
