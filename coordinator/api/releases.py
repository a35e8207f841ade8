# mypy: disable-error-code="override"
"""Releases: what there is, and how members decided about it. Nobody is shown more than charter and job allow."""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from coordinator.api.calls import Context, admitted, unary
from coordinator.jobs.docket import Docket
from coordinator.releases.desk import ReleaseDesk
from coordinator.store.database import JobRow
from federation.errors import NotFound
from federation.manifest.manifest import open_manifest
from federation.v1 import releases_pb2, releases_pb2_grpc

READERS = ("node", "lead", "officer", "operator")
LISTED = 500


@dataclass(frozen=True, slots=True)
class ReleaseService(releases_pb2_grpc.ReleasesServicer):
    releases: ReleaseDesk
    docket: Docket

    @unary
    async def List(
        self,
        request: releases_pb2.ListReleasesRequest,  # noqa: ARG002
        context: Context,
    ) -> releases_pb2.ListReleasesReply:
        caller = admitted(context, self.releases.registry, *READERS)
        with self.releases.database.transaction() as change:
            jobs = [job for row in change.releases.all() if (job := change.job(row.job)) is not None]
        shown = [job for job in sorted(jobs, key=lambda job: -job.sequence) if self.releases.shown(caller, job)]
        return releases_pb2.ListReleasesReply(releases=[self._standing(job) for job in shown[:LISTED]])

    @unary
    async def Get(self, request: releases_pb2.ReleaseQuery, context: Context) -> releases_pb2.ReleaseStanding:
        caller = admitted(context, self.releases.registry, *READERS)
        job = self.docket.row(request.job)
        row = self.releases.row(job.digest)
        if row is None:
            raise NotFound(
                f"There is no release of {job.name}. It is {job.state}: {job.reason}",
                hint="A release is proposed when a job's rounds are over.",
            )
        if row.state == "published":
            self.releases.check_audience(caller, job)
        return self._standing(job)

    def _standing(self, job: JobRow) -> releases_pb2.ReleaseStanding:
        row = self.releases.row(job.digest)
        assert row is not None
        manifest = open_manifest(job.manifest, self.releases.registry.roll())
        return releases_pb2.ReleaseStanding(
            job=bytes.fromhex(job.digest),
            name=job.name,
            state=row.state,
            reason=job.reason,
            subject=row.subject,
            audience=self.releases.audience(manifest),
            decision=row.decision,
            recall=row.recall,
        )


def add_releases(server: grpc.aio.Server, releases: ReleaseDesk, docket: Docket) -> None:
    releases_pb2_grpc.add_ReleasesServicer_to_server(ReleaseService(releases, docket), server)
