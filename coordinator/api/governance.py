# mypy: disable-error-code="override"
"""Governance: what members propose and vote. Documents carry their signatures, so anybody who is admitted may bring them."""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from coordinator.api.calls import Context, admitted, unary
from coordinator.registry.assembly import Assembly, Question
from federation.v1 import governance_pb2, governance_pb2_grpc

LISTED = 200
READERS = ("node", "lead", "officer", "operator")


@dataclass(frozen=True, slots=True)
class GovernanceService(governance_pb2_grpc.GovernanceServicer):
    assembly: Assembly

    @unary
    async def Propose(self, request: governance_pb2.ProposeRequest, context: Context) -> governance_pb2.ProposalView:
        admitted(context, self.assembly.registry, *READERS)
        return _view(self.assembly.propose(request.proposal, request.draft))

    @unary
    async def Vote(self, request: governance_pb2.VoteRequest, context: Context) -> governance_pb2.ProposalView:
        admitted(context, self.assembly.registry, *READERS)
        return _view(self.assembly.vote(request.vote))

    @unary
    async def Get(self, request: governance_pb2.ProposalQuery, context: Context) -> governance_pb2.ProposalView:
        admitted(context, self.assembly.registry, *READERS)
        return _view(self.assembly.question(request.proposal))

    @unary
    async def List(
        self,
        request: governance_pb2.ListProposalsRequest,  # noqa: ARG002
        context: Context,
    ) -> governance_pb2.ListProposalsReply:
        admitted(context, self.assembly.registry, *READERS)
        return governance_pb2.ListProposalsReply(proposals=[_view(each) for each in self.assembly.questions()[:LISTED]])

    @unary
    async def Amend(self, request: governance_pb2.AmendRequest, context: Context) -> governance_pb2.RollReply:
        admitted(context, self.assembly.registry, *READERS)
        roll = self.assembly.amend(request.roll, request.decision or None)
        return governance_pb2.RollReply(history=roll.envelope)

    @unary
    async def GetRoll(
        self,
        request: governance_pb2.RollQuery,  # noqa: ARG002
        context: Context,
    ) -> governance_pb2.RollReply:
        admitted(context, self.assembly.registry, *READERS)
        return governance_pb2.RollReply(history=self.assembly.registry.roll().envelope)


def add_governance(server: grpc.aio.Server, assembly: Assembly) -> None:
    governance_pb2_grpc.add_GovernanceServicer_to_server(GovernanceService(assembly), server)


def _view(question: Question) -> governance_pb2.ProposalView:
    return governance_pb2.ProposalView(
        digest=question.proposal.digest,
        proposal=question.proposal.envelope,
        draft=question.draft,
        votes=question.votes,
        state=question.standing,
        reason=question.reason,
    )
