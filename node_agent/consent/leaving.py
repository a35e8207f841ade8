"""The end of a consent: taken back by a person or the lab's rules, or found over. Signed and on disk, then the job is left."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime

import structlog

from federation.errors import NotFound
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
from federation.manifest.manifest import Manifest
from federation.v1 import rounds_pb2
from node_agent.belongings import Belongings
from node_agent.consent.weighing import Weighing
from node_agent.jobs import Jobs
from node_agent.rounds.outbox import event_of
from node_agent.witness.watcher import Witness

log = structlog.get_logger()


class Leaving:
    def __init__(self, own: Belongings, jobs: Jobs, weighing: Weighing, witness: Witness) -> None:
        self._own, self._jobs, self._weighing, self._witness = own, jobs, weighing, witness

    async def revoke(self, job: bytes, role: str, words: str) -> None:
        """A person takes a consent back: written, then the job is left, then it is said. Any role may. Raises NotFound."""
        role = checked_label(role or self._own.settings.deciders[0], "role")
        self.take_back(job, "person", role, words)
        await self.leave_behind(job)

    def over(self, job: bytes, cause: Cause) -> None:
        """The driver found that the consent has ended."""
        if self.take_back(job, cause, "policy", ""):
            self._own.tasks.spawn(self.leave_behind(job))

    def weighed_away(self, manifest: Manifest) -> bool:
        """Whether the lab's rules, as they are by now, take its consent back: signed and on disk then."""
        over = self._weighing.again(manifest).outcome == "over"
        return over and self.take_back(manifest.digest, "rules", "policy", "")

    def take_back(self, job: bytes, cause: Cause, by: str, words: str) -> bool:
        """On disk when this returns, and from then on nothing is said of the job. False: it was over before."""
        own = self._own
        record = own.journal.consent(job)
        if record is None or not (record.granted or own.lapses.lapsed(job)):
            raise NotFound("This lab has not consented to such a job.", hint="See: concord-node consents")
        if own.revocations.revoked(job):
            return False
        reasons = self._weighing.reasons(job) if cause == "rules" else ()
        said = Revocation(
            job, consent_digest(record.envelope), own.settings.member, own.settings.node, cause, by, datetime.now(UTC),
            sayable(reasons),
        )  # fmt: skip
        envelope = own.revocations.put(job, seal_revocation(said, own.key), words or "; ".join(reasons))
        own.metrics.consent_ended(cause)
        log.warning("consent.over", job=job.hex()[:12], name=record.name, cause=cause, reasons=reasons)
        own.link.send(event_of(job, rounds_pb2.ConsentRevocation(envelope=envelope)))
        self._witness.expect(envelope, "revocation")
        return True

    async def leave_behind(self, job: bytes) -> None:
        """The worker ends, the machine's records and keys are erased, and so is the job's folder."""
        own, driver = self._own, self._jobs.pop(job)
        if driver is not None:
            await driver.stop()
        record = own.journal.job(job)
        if record is not None and record.state in {"active", "suspended"}:
            envelope = own.revocations.of(job)
            assert envelope is not None
            over = open_revocation(envelope, own.credential)
            state = "revoked" if over.cause in TAKEN_BACK else "expired"
            await asyncio.to_thread(own.journal.end_job, job, state, over.sentence)
        await asyncio.to_thread(own.files(job).erase_work)

    def remind(self) -> None:
        """The coordinator hears once more of each revocation that it has not confirmed."""
        for job, envelope in self._own.revocations.unnoted():
            self._own.link.send(event_of(job, rounds_pb2.ConsentRevocation(envelope=envelope)))

    def noted(self, job: bytes, digest: bytes) -> None:
        """``digest``: of the revocation that the coordinator says it has."""
        envelope = self._own.revocations.of(job)
        if envelope is not None and hashlib.sha256(envelope).digest() == digest:
            self._own.revocations.note(job)
