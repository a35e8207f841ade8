# mypy: disable-error-code="override"
"""The Studies service: a lead submits one, and everybody sees who consented to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import grpc

from coordinator.api.calls import Context, admitted, unary
from coordinator.jobs.views import moment
from coordinator.registry.enrolment import Registry
from coordinator.studies.desk import StudyDesk
from federation.v1 import jobs_pb2, studies_pb2, studies_pb2_grpc

READERS: Final = ("node", "lead", "operator", "officer")
PEOPLE: Final = ("lead", "operator")
LISTED: Final = 500


@dataclass(frozen=True, slots=True)
class StudyService(studies_pb2_grpc.StudiesServicer):
    registry: Registry
    desk: StudyDesk

    @unary
    async def Submit(self, request: studies_pb2.SubmitStudyRequest, context: Context) -> studies_pb2.SubmitStudyReply:
        caller = admitted(context, self.registry, *PEOPLE)
        study, created = self.desk.submit(caller, request.study)
        return studies_pb2.SubmitStudyReply(study=study, created=created)

    @unary
    async def List(
        self,
        request: studies_pb2.ListStudiesRequest,  # noqa: ARG002
        context: Context,
    ) -> studies_pb2.ListStudiesReply:
        admitted(context, self.registry, *READERS)
        return studies_pb2.ListStudiesReply(
            studies=[
                studies_pb2.StudyView(
                    study=study.digest,
                    name=study.name,
                    lead=study.lead.id,
                    submitted=moment(row.submitted),
                    envelope=row.envelope,
                    consents=[
                        jobs_pb2.ConsentView(
                            member=each.member,
                            node=each.node,
                            state=each.state,
                            reasons=each.reasons,
                            envelope=each.envelope,
                        )
                        for each in answers
                    ],
                )
                for study, row, answers in self.desk.rows()[:LISTED]
            ]
        )


def add_studies(server: grpc.aio.Server, service: StudyService) -> None:
    studies_pb2_grpc.add_StudiesServicer_to_server(service, server)
