"""The registry of releases: proposed, approved, published, recalled; and to whom each is shown and served.

The coordinator decides nothing here. A job's gates follow from its manifest and its members' receipts, an approval and a recall are
the members' votes. It serves nobody whom charter or job leave out, and nobody at all what the members have recalled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import structlog

from coordinator.registry.assembly import Assembly, Question
from coordinator.registry.enrolment import Registry
from coordinator.releases.publisher import Publisher
from coordinator.store.database import Database, JobRow
from coordinator.store.releases import ReleaseRow
from federation.audit.checkpoint import VerifierKey
from federation.errors import FederationError, PolicyDenied
from federation.governance.ballot import decision_bytes
from federation.governance.charter import AUDIENCES
from federation.identity.roll import Roll
from federation.identity.transport import Principal
from federation.manifest.manifest import Manifest, open_manifest
from federation.releases.approval import approvers, check_approval, vote_needed
from federation.releases.listing import LARGE
from federation.releases.recall import encode_recall, read_recall
from federation.secagg.messages import Sealing

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Step:
    """What comes after the last round."""

    withheld: str = ""
    """why there is no release"""
    waits: str = ""
    """for whose vote"""
    decision: bytes = b""


@dataclass(slots=True)
class ReleaseDesk:
    """``decided``: who is told that a job's release was approved."""

    database: Database
    registry: Registry
    publisher: Publisher
    decided: Callable[[str], None] = lambda _job: None
    _files: dict[bytes, set[str]] = field(default_factory=dict)
    """which published releases hold a large file of this digest"""

    # ------------------------------------------------------------------------------------------------ before it is made

    def after_rounds(self, manifest: Manifest, consents: Mapping[str, bytes]) -> Step:
        """The job's rounds are over. Raises a FederationError where nothing of it could be released."""
        job, roll = manifest.digest.hex(), self.registry.roll()
        now = self.registry.clock()
        if reason := self.publisher.withheld(manifest):
            with self.database.transaction() as change:
                change.releases.put(ReleaseRow(job, b"", "withheld"))
                change.audit(now, "release", f"job={job} state=withheld")
            return Step(withheld=reason)
        with self.database.transaction() as change:
            row = change.releases.of(job)
        if row is not None and row.state == "approved":
            return Step(decision=row.decision)
        if not vote_needed(manifest, roll):
            check_approval(manifest, roll, (), b"", None)
            return Step()
        if row is None:
            evidence, subject = self.publisher.evidence(manifest, roll, consents)
            row = ReleaseRow(job, subject, "proposed", evidence)
            with self.database.transaction() as change:
                change.releases.put(row)
                change.audit(now, "release", f"job={job} release={subject.hex()} state=proposed")
        if (decision := self._vote_on(manifest, row)) is not None:
            return Step(decision=decision)
        return Step(
            waits=f"the release {row.subject.hex()} is proposed, and waits for the members' vote: concord release approve "
            f"{manifest.name}"
        )

    def _vote_on(self, manifest: Manifest, row: ReleaseRow) -> bytes | None:
        """A vote that was carried while nobody listened."""
        for question in Assembly(self.registry).questions():
            if (question.proposal.action, question.proposal.subject) == ("release", row.subject):
                decision = decision_bytes(question.proposal.envelope, question.votes)
                if self._approved(manifest, row, decision):
                    return decision
        return None

    def heard(self, question: Question) -> None:
        """A proposal that is not about the roll has its quorum."""
        action, subject = question.proposal.action, question.proposal.subject
        if action not in ("release", "recall"):
            return
        with self.database.transaction() as change:
            row = next((row for row in change.releases.all() if row.subject == subject and row.subject), None)
            job = change.job(row.job) if row is not None else None
        if row is None or job is None:
            return
        decision = decision_bytes(question.proposal.envelope, question.votes)
        if action == "recall":
            self._recall(row, decision)
        elif row.state == "proposed" and self._approved(
            open_manifest(job.manifest, self.registry.roll()), row, decision
        ):
            self.decided(row.job)

    def _approved(self, manifest: Manifest, row: ReleaseRow, decision: bytes) -> bool:
        roll = self.registry.roll()
        with self.database.transaction() as change:
            members = [member for member, _node in change.placement(row.job)]
        try:
            found = check_approval(manifest, roll, members, row.subject, decision)
        except FederationError as error:
            log.info("release.not-approved", job=row.job[:12], detail=error.message)
            return False
        now = self.registry.clock()
        with self.database.transaction() as change:
            change.releases.put(replace(row, state="approved", decision=decision, roll=roll.envelope))
            change.audit(now, "release", f"job={row.job} release={row.subject.hex()} state=approved", decision)
            for member in approvers(found) if found is not None else ():
                change.audit(now, "approval", f"member={member} job={row.job} release={row.subject.hex()} choice=yes")
        return True

    def _recall(self, row: ReleaseRow, decision: bytes) -> None:
        roll = self.registry.roll()
        data = encode_recall(decision, roll)
        recall = read_recall(data, roll)
        now = self.registry.clock()
        with self.database.transaction() as change:
            change.releases.put(replace(row, state="recalled", recall=data))
            change.audit(now, "recall", f"job={row.job} release={row.subject.hex()}", decision)
            change.add_line(row.job, now, f"the release was {recall.words}")
        log.warning("release.recalled", job=row.job[:12], members=list(recall.members))

    # --------------------------------------------------------------------------------------------------------- publishing

    def publish(
        self, manifest: Manifest, consents: Mapping[str, bytes], head: int, state: bytes, sealings: Sequence[Sealing]
    ) -> str:
        """Makes the files, with the vote and under the roll of the vote where there was one; the digest of their list, in hex.

        ``head``: size of the log's head that ``witnesses`` have cosigned.
        """
        roll, decision = self._voted(manifest)
        return self.publisher.publish(manifest, roll, consents, head, state, sealings, decision)

    def witnesses(self, manifest: Manifest) -> tuple[tuple[VerifierKey, ...], int]:
        """Whose cosignatures the proofs in this release take, and how many of them."""
        return self.publisher.witnesses(manifest, self._voted(manifest)[0])

    def _voted(self, manifest: Manifest) -> tuple[Roll, bytes | None]:
        row = self.row(manifest.digest.hex())
        if row is None or not row.decision:
            return self.registry.roll(), None
        return Roll.open(row.roll), row.decision

    def published(self, manifest: Manifest, release: str) -> None:
        """Its files are among the blobs."""
        subject = self.publisher.subject(manifest)
        job, now = manifest.digest.hex(), self.registry.clock()
        with self.database.transaction() as change:
            row = change.releases.of(job) or ReleaseRow(job, subject, "proposed")
            change.releases.put(replace(row, subject=subject, state="published"))
            change.audit(now, "release", f"job={job} release={subject.hex()} state=published", bytes.fromhex(release))
        self._shelve(job, release)

    def resume(self) -> None:
        with self.database.transaction() as change:
            jobs = [(row.digest, row.release) for row in change.jobs() if row.release]
        for job, release in jobs:
            self._shelve(job, release)
            row = self.row(job)
            if row is None or row.state in ("proposed", "approved"):  # the process ended between the two
                with self.database.transaction() as change:
                    found = change.job(job)
                if found is not None:
                    self.published(open_manifest(found.manifest, self.registry.roll()), release)

    def _shelve(self, job: str, release: str) -> None:
        for path, digest, _size in self.publisher.listed(release):
            if path in LARGE:
                self._files.setdefault(digest, set()).add(job)

    # ------------------------------------------------------------------------------------------------------------ serving

    def row(self, job: str) -> ReleaseRow | None:
        with self.database.transaction() as change:
            return change.releases.of(job)

    def rows(self) -> tuple[ReleaseRow, ...]:
        with self.database.transaction() as change:
            return change.releases.all()

    def audience(self, manifest: Manifest) -> str:
        """The stricter of what the charter allows and what the job asks for."""
        named = manifest.spec.release.audience
        allowed = self.registry.roll().charter.audience
        return min((allowed, named or allowed), key=AUDIENCES.index)

    def check_audience(self, caller: Principal, job: JobRow) -> None:
        """Raises PolicyDenied for whom neither charter nor job let have it."""
        manifest = open_manifest(job.manifest, self.registry.roll())
        audience = self.audience(manifest)
        if caller.kind == "lead" and caller.name == manifest.lead.id:
            return
        with self.database.transaction() as change:
            taking_part = {member for member, _node in change.placement(job.digest)}
        member = self._member_of(caller)
        allowed = {
            "participants": member in taking_part,
            "members": member is not None,
            "public": True,
        }[audience]
        if not allowed:
            raise PolicyDenied(
                f"The release of {manifest.name} is for {audience} alone, by the charter and the job.",
                hint="Ask its lead, or a member that took part.",
            )

    def _member_of(self, caller: Principal) -> str | None:
        if caller.kind == "node":
            return caller.member
        if caller.kind == "officer":
            return caller.name
        return self.registry.roll().lead(caller.name).member if caller.kind == "lead" else None

    def files(self, caller: Principal, job: JobRow) -> list[tuple[str, bytes, int]]:
        """(path, digest, bytes) of each file; of a release that is only proposed its evidence.

        Raises NotFound where there is none, PolicyDenied for whom it is not for, and for everybody once it is recalled.
        """
        row = self.row(job.digest)
        self._check_stands(row)
        if row is not None and row.state == "proposed" and not job.release:
            self._check_votes_on(caller)
            return self.publisher.listed(row.evidence)
        if job.release:
            self.check_audience(caller, job)
        return self.publisher.files(job)

    def _check_votes_on(self, caller: Principal) -> None:
        """Evidence is for those who decide: members, their leads and nodes."""
        if self._member_of(caller) is None:
            raise PolicyDenied("The evidence of a proposed release is for the members who vote on it.")

    @staticmethod
    def _check_stands(row: ReleaseRow | None) -> None:
        if row is not None and row.state == "recalled":
            raise PolicyDenied(
                f"The release {row.subject.hex()} was recalled by the members, and is served to nobody.",
                hint="See who and when: concord release show.",
            )

    def shown(self, caller: Principal, job: JobRow) -> bool:
        """Whether a list for this caller names the release: of whom it is for, and of whoever votes on it."""
        row = self.row(job.digest)
        if row is None:
            return False
        if row.state != "published":
            return self._member_of(caller) is not None
        try:
            self.check_audience(caller, job)
        except PolicyDenied:
            return False
        return True

    def check_blob(self, caller: Principal, digest: bytes) -> None:
        """Raises PolicyDenied for the model of releases that this caller may not have, however it learned the digest."""
        jobs = self._files.get(digest)
        if not jobs:
            return
        refused: PolicyDenied | None = None
        for name in sorted(jobs):
            with self.database.transaction() as change:
                job = change.job(name)
            if job is None:
                continue
            try:
                self._check_stands(self.row(name))
                self.check_audience(caller, job)
            except PolicyDenied as error:
                refused = error
            else:
                return
        if refused is not None:
            raise refused
