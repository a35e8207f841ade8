"""Makes a release: files among the blobs, and a list of them by which they are fetched."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from coordinator.jobs.revocations import EVIDENCE
from coordinator.rounds.views import RoundViews
from coordinator.store.blobs import Blobs
from coordinator.store.database import Database, JobRow
from federation.audit.checkpoint import VerifierKey
from federation.audit.entry import open_entry
from federation.audit.excerpt import Excerpt
from federation.errors import NotFound
from federation.identity.credential import once_verified
from federation.identity.fields import moment_text
from federation.identity.keys import SigningKey
from federation.identity.revocation import consent_digest, read_revocation
from federation.identity.roll import Roll
from federation.manifest.manifest import Manifest
from federation.releases.approval import subject_of
from federation.releases.build import Evidence, RoundRecord, build_release, evidence_files, proposed
from federation.releases.gates import judge, withheld
from federation.releases.listing import Content
from federation.releases.logged import only_by, witnesses_of
from federation.secagg import codec, events
from federation.secagg.messages import Announcement, Certificate, Receipt, Sealing
from federation.secagg.parameters import Quorums


@dataclass(frozen=True, slots=True)
class Publisher:
    database: Database
    blobs: Blobs
    key: SigningKey
    clock: Callable[[], float]
    excerpt: Callable[[bytes, int], Excerpt]
    """(SHA-256 of a document, size of a head) -> the public log from the first entry about it on"""

    def withheld(self, manifest: Manifest) -> str:
        """Why a job whose rounds are over has no release, by its gates and its members' receipts; empty when it may have one."""
        last = self._last_receipt(manifest)
        return "" if last is None else withheld(judge(manifest.spec.gates, last.figures, manifest.terms()))

    def subject(self, manifest: Manifest) -> bytes:
        """Of the job's release; empty before its rounds are over."""
        last = self._last_receipt(manifest)
        if last is None:
            return b""
        return subject_of(manifest.federation, manifest.digest, last.state_digest, last.figures)

    def _last_receipt(self, manifest: Manifest) -> Receipt | None:
        with self.database.transaction() as change:
            data = change.piece(manifest.digest.hex(), "receipts", manifest.terms().last_round)
        if data is None:
            return None
        receipts: tuple[Receipt, ...] = codec.decode(data, tuple[Receipt, ...])
        return receipts[0]

    def publish(
        self,
        manifest: Manifest,
        roll: Roll,
        consents: Mapping[str, bytes],
        head: int,
        state: bytes,
        sealings: Sequence[Sealing] = (),
        decision: bytes | None = None,
    ) -> str:
        """Returns the release's identity: the digest (hex) of the list of its files, which is a blob as well.

        ``head``: size of the log's head under which its proofs are, and which its witnesses have cosigned.
        """
        held = self._held(manifest, roll, consents)
        log = self.excerpt(hashlib.sha256(manifest.envelope).digest(), head)
        log = replace(log, note=only_by(log.note, log.key, self.witnesses(manifest, roll)[0]))
        files = build_release(
            roll=held.roll,
            manifest=held.manifest,
            bundle=held.bundle,
            consents=held.consents,
            rosters=held.rosters,
            rounds=held.rounds,
            log=log.encode(),
            revocations=_under(log, held.revocations),
            decision=decision,
            state_file=self.blobs.path(state),
            release_key=self.key,
            sealings=sealings,
            created=moment_text(datetime.fromtimestamp(self.clock(), UTC)),
        )
        return self._put(files)

    def evidence(self, manifest: Manifest, roll: Roll, consents: Mapping[str, bytes]) -> tuple[str, bytes]:
        """What members look at before they vote: the list of its files, and the subject of their vote."""
        files = evidence_files(self._held(manifest, roll, consents))
        return self._put(files), proposed(files)

    def _held(self, manifest: Manifest, roll: Roll, consents: Mapping[str, bytes]) -> Evidence:
        job = manifest.digest.hex()
        with self.database.transaction() as change:
            evidence = change.evidence(job)
            views = RoundViews(change.rounds(job))
        return Evidence(
            roll=roll.envelope,
            manifest=manifest.envelope,
            bundle=self.blobs.path(manifest.bundle_digest).read_bytes(),
            consents=consents,
            rosters=[
                (
                    codec.decode(evidence["roster", epoch], events.Roster),
                    codec.decode(evidence["roster-certificate", epoch], events.RosterCertificate),
                )
                for kind, epoch in sorted(evidence)
                if kind == "roster"
            ],
            rounds=[_record(evidence, views, number) for kind, number in sorted(evidence) if kind == "certificate"],
            revocations=_ending(consents, (data for (kind, _), data in evidence.items() if kind == EVIDENCE)),
        )

    def witnesses(self, manifest: Manifest, roll: Roll) -> tuple[tuple[VerifierKey, ...], int]:
        """Nodes of the last roster as witnesses of the log, and how many of them a release's proofs take."""
        with self.database.transaction() as change:
            evidence = change.evidence(manifest.digest.hex())
        last = max(epoch for kind, epoch in evidence if kind == "roster")
        roster: events.Roster = codec.decode(evidence["roster", last], events.Roster)
        credentials = [once_verified(each.credential, roll) for each in roster.keys]
        keys = witnesses_of(manifest.federation, credentials)
        return tuple(keys.values()), Quorums.of(len(roster.keys)).q

    def _put(self, files: Mapping[str, Content]) -> str:
        listed = []
        for path, content in sorted(files.items()):
            data = content.read_bytes() if isinstance(content, Path) else content
            digest = self.blobs.put(data)
            listed.append([path, digest.hex(), len(data)])
        return self.blobs.put(json.dumps(listed).encode()).hex()

    def files(self, job: JobRow) -> list[tuple[str, bytes, int]]:
        """(path, digest, bytes) of each file. Raises NotFound when there is no release."""
        if not job.release:
            why = f" It is {job.state}: {job.reason}" if job.reason else ""
            raise NotFound(f"The job has no release.{why}", hint="A release is published when the job has finished.")
        return self.listed(job.release)

    def listed(self, listing: str) -> list[tuple[str, bytes, int]]:
        """The same of a list by its digest in hex."""
        listed = json.loads(self.blobs.path(bytes.fromhex(listing)).read_bytes())
        return [(path, bytes.fromhex(digest), size) for path, digest, size in listed]


def _ending(consents: Mapping[str, bytes], revocations: Iterable[bytes]) -> dict[str, bytes]:
    """Those that end one of ``consents``, by member."""
    member_of = {consent_digest(envelope): member for member, envelope in consents.items()}
    ended = ((read_revocation(envelope).consent, envelope) for envelope in revocations)
    return {member_of[consent]: envelope for consent, envelope in ended if consent in member_of}


def _under(log: Excerpt, revocations: Mapping[str, bytes]) -> dict[str, bytes]:
    """Those of which the excerpt has an entry: one that came after its head comes after the release."""
    logged = {open_entry(entry).document for entry in log.entries}
    return {member: data for member, data in revocations.items() if hashlib.sha256(data).digest() in logged}


def _record(evidence: Mapping[tuple[str, int], bytes], views: RoundViews, number: int) -> RoundRecord:
    announcement: Announcement = codec.decode(evidence["announcement", number], Announcement)
    certificate: Certificate = codec.decode(evidence["certificate", number], Certificate)
    receipts: tuple[Receipt, ...] = codec.decode(evidence["receipts", number], tuple[Receipt, ...])
    view = views.views[number, announcement.attempt]
    return RoundRecord(number, announcement.attempt, announcement, certificate, receipts, tuple(view.cohort))
