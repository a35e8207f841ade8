"""Makes a release: files among the blobs, and a list of them by which they are fetched."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from coordinator.rounds.views import RoundViews
from coordinator.store.blobs import Blobs
from coordinator.store.database import Database, JobRow
from federation.errors import NotFound
from federation.identity.fields import moment_text
from federation.identity.keys import SigningKey
from federation.identity.roll import Roll
from federation.manifest.manifest import Manifest
from federation.releases.build import RoundRecord, build_release
from federation.releases.gates import judge, withheld
from federation.secagg import codec, events
from federation.secagg.messages import Announcement, Certificate, Receipt, Sealing


@dataclass(frozen=True, slots=True)
class Publisher:
    database: Database
    blobs: Blobs
    key: SigningKey
    clock: Callable[[], float]

    def withheld(self, manifest: Manifest) -> str:
        """Why a job whose rounds are over has no release, by its gates and its members' receipts; empty when it may have one."""
        terms = manifest.terms()
        with self.database.transaction() as change:
            data = change.piece(manifest.digest.hex(), "receipts", terms.last_round)
        if data is None:
            return ""
        receipts: tuple[Receipt, ...] = codec.decode(data, tuple[Receipt, ...])
        return withheld(judge(manifest.spec.gates, receipts[0].figures, terms))

    def publish(
        self,
        manifest: Manifest,
        roll: Roll,
        consents: Mapping[str, bytes],
        state: bytes,
        sealings: Sequence[Sealing] = (),
    ) -> str:
        """Returns the release's identity: the digest (hex) of the list of its files, which is a blob as well."""
        job = manifest.digest.hex()
        with self.database.transaction() as change:
            evidence = change.evidence(job)
            views = RoundViews(change.rounds(job))
        records = [_record(evidence, views, number) for kind, number in sorted(evidence) if kind == "certificate"]
        files = build_release(
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
            rounds=records,
            state_file=self.blobs.path(state),
            release_key=self.key,
            sealings=sealings,
            created=moment_text(datetime.fromtimestamp(self.clock(), UTC)),
        )
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
        listed = json.loads(self.blobs.path(bytes.fromhex(job.release)).read_bytes())
        return [(path, bytes.fromhex(digest), size) for path, digest, size in listed]


def _record(evidence: Mapping[tuple[str, int], bytes], views: RoundViews, number: int) -> RoundRecord:
    announcement: Announcement = codec.decode(evidence["announcement", number], Announcement)
    certificate: Certificate = codec.decode(evidence["certificate", number], Certificate)
    receipts: tuple[Receipt, ...] = codec.decode(evidence["receipts", number], tuple[Receipt, ...])
    view = views.views[number, announcement.attempt]
    return RoundRecord(number, announcement.attempt, announcement, certificate, receipts, tuple(view.cohort))
