"""A job as people see it, put together from the store for each question and each change that somebody watches."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from coordinator.registry.enrolment import Registry
from coordinator.store.database import Database, JobRow
from federation.manifest.manifest import open_manifest
from federation.v1 import jobs_pb2

ROUNDS_SHOWN: Final = 2000
"""the newest; the release holds them all"""


@dataclass(frozen=True, slots=True)
class JobViews:
    database: Database
    registry: Registry
    _heads: dict[str, jobs_pb2.JobView] = field(default_factory=dict)
    """what never changes, by digest: reading a manifest checks signatures and schema"""

    def view(self, row: JobRow, *, brief: bool = False) -> jobs_pb2.JobView:
        """``brief``: without rounds and story."""
        with self.database.transaction() as change:
            consents = change.consents(row.digest)
            rounds = () if brief else change.rounds(row.digest, ROUNDS_SHOWN)
            lines = () if brief else change.lines(row.digest)
        view = jobs_pb2.JobView(
            state=row.state,
            reason=row.reason,
            rounds_closed=row.rounds_closed,
            consents=[
                jobs_pb2.ConsentView(
                    member=item.member, node=item.node, state=item.state, reasons=item.reasons, envelope=item.envelope
                )
                for item in consents
            ],
            rounds=[jobs_pb2.RoundView.FromString(data) for data in rounds],
            roster=row.roster,
            epoch=row.epoch,
            release=bytes.fromhex(row.release),
            lines=[f"{moment(line.time)} {line.member or 'coordinator'}: {line.text}" for line in lines],
        )
        view.MergeFrom(self._head(row))
        return view

    def _head(self, row: JobRow) -> jobs_pb2.JobView:
        head = self._heads.get(row.digest)
        if head is None:
            manifest = open_manifest(row.manifest, self.registry.roll())
            head = self._heads[row.digest] = jobs_pb2.JobView(
                job=manifest.digest,
                name=row.name,
                lead=manifest.lead.id,
                created=manifest.created,
                rounds_total=manifest.spec.rounds,
                manifest=row.manifest,
            )
        return head


def moment(seconds: float) -> str:
    """RFC 3339, UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
