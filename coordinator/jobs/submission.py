"""What leads ask of the docket: that a job be done, or be done no more. Signed by the lead, whoever carries it."""

from __future__ import annotations

from collections.abc import Callable

from coordinator.halts.effects import Halting
from coordinator.jobs.case import Case
from coordinator.jobs.cases import Cases
from coordinator.jobs.lifecycle import ENDED, step
from coordinator.registry.enrolment import Registry
from coordinator.store.blobs import Blobs
from coordinator.store.database import Database
from federation.errors import Halted, InvalidManifest, NotFound, PolicyDenied
from federation.halt.levels import Level
from federation.identity.roll import Roll
from federation.identity.transport import Principal
from federation.identity.withdrawal import open_withdrawal, withdrawn_job
from federation.manifest.bundle import unpack
from federation.manifest.invitation import check_reachable
from federation.manifest.manifest import Manifest, check_may_submit, open_manifest
from federation.v1 import rounds_pb2


class Submissions:
    def __init__(
        self,
        cases: Cases,
        database: Database,
        blobs: Blobs,
        registry: Registry,
        halts: Halting,
        clock: Callable[[], float],
    ) -> None:
        self._cases, self._database, self._blobs = cases, database, blobs
        self._registry, self._halts, self._clock = registry, halts, clock
        self.check_run: Callable[[Manifest], None] = lambda _manifest: None
        """of a job that names a study; raises InvalidManifest"""

    def submit(self, caller: Principal, envelope: bytes) -> tuple[Manifest, Case | None]:
        """The job, and its case when it is new. Raises InvalidManifest, InvalidIdentity, PolicyDenied."""
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
                return manifest, None
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
        self._cases.add(case)
        return manifest, case

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
            row = self._cases.row(digest.hex())
            step(row.state, "withdrawn")
            raise NotFound("There is no such job.")
        withdrawal = open_withdrawal(envelope, digest, case.manifest.lead.key)
        if caller.kind == "lead" and caller.name != case.manifest.lead.id:
            raise PolicyDenied("Only the lead who submitted a job withdraws it.")
        self._cases.end(
            case,
            "withdrawn",
            f"withdrawn by {case.manifest.lead.id}: {withdrawal.reason or 'no reason given'}",
            envelope,
        )
        self._cases.tell(case, rounds_pb2.Withdrawn(withdrawal=envelope))
        return digest.hex()
