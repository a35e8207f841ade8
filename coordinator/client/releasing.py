"""Releases, as the SDK has them: what there is, who decided it, and the members' word on it. Nothing that the coordinator says of a
release is voted on: whoever votes takes the job's evidence, checks it against the roll of this home, and computes the subject.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from coordinator.client.channel import UNARY_SECONDS, spoken_errors
from coordinator.client.governing import Asked, Governing, new_proposal, proposal_bytes, vote_bytes
from coordinator.client.sdk import Federation
from coordinator.client.terminal import plain
from federation.errors import FederationError, InvalidUsage, OutOfOrder, VerificationFailed
from federation.governance.ballot import open_decision
from federation.governance.charter import Action
from federation.identity.roll import Roll
from federation.releases.approval import approvers
from federation.releases.build import proposed
from federation.releases.listing import read_folder
from federation.releases.recall import read_recall
from federation.v1 import releases_pb2, releases_pb2_grpc

DAYS = 14.0


@dataclass(frozen=True, slots=True)
class Standing:
    """A release as the coordinator tells of it; decisions are counted again here."""

    job: bytes
    name: str
    state: str
    reason: str
    subject: bytes
    audience: str
    approved_by: tuple[str, ...]
    recalled: str
    """by whom and when; empty where it was not"""
    recall: bytes

    def as_document(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "job": self.job.hex(),
            "release": self.subject.hex(),
            "state": self.state,
            "reason": self.reason,
            "audience": self.audience,
            "approvedBy": list(self.approved_by),
            "recalled": self.recalled,
        }


class Releasing:
    """Over the session of ``federation``."""

    def __init__(self, federation: Federation) -> None:
        self._federation = federation
        self._governing = Governing(federation)
        self._stub = releases_pb2_grpc.ReleasesStub(federation.channel)

    def releases(self) -> list[Standing]:
        """Those that this home may have, or votes on; newest first."""
        roll = self._governing.fetch_roll()
        reply = self._call(self._stub.List, releases_pb2.ListReleasesRequest())
        return [_standing(view, roll) for view in reply.releases]

    def release(self, job: str) -> Standing:
        """Raises NotFound, and PolicyDenied for whom it is not for."""
        roll = self._governing.fetch_roll()
        return _standing(self._call(self._stub.Get, releases_pb2.ReleaseQuery(job=job)), roll)

    def check(self, job: str, standing: Standing) -> None:
        """Takes the evidence of a proposed release, and checks it. Raises VerificationFailed where it does not give the subject
        that the coordinator names, or a gate has failed."""
        with tempfile.TemporaryDirectory(prefix="concord-evidence-") as name:
            folder = Path(name)
            self._federation.fetch_evidence(job, folder)
            subject = proposed(read_folder(folder), self._federation.home.roll_envelope())
        if subject != standing.subject:
            raise VerificationFailed(
                f"The job's evidence is for the release {subject.hex()}, and the coordinator names {standing.subject.hex()}.",
                hint="Do not vote. Tell the other members.",
            )

    def approve(self, job: str, reason: str, now: datetime) -> Asked:
        """Votes yes on a proposed release, with the key of this home's officer; proposes it where nobody has."""
        standing = self.release(job)
        if standing.state != "proposed":
            raise OutOfOrder(f"The release of {standing.name} is {standing.state}, and needs no vote now.")
        self.check(job, standing)
        return self._decide("release", standing, f"release of {standing.name}", reason, now)

    def recall(self, job: str, title: str, now: datetime) -> Asked:
        """Votes for the recall of a release; proposes it where nobody has. ``title``: why, for everybody."""
        standing = self.release(job)
        if standing.state not in ("approved", "published"):
            raise OutOfOrder(f"The release of {standing.name} is {standing.state}, and cannot be recalled.")
        return self._decide("recall", standing, title, "", now)

    def _decide(self, action: Action, standing: Standing, title: str, reason: str, now: datetime) -> Asked:
        home = self._federation.home
        home.profile("member")
        roll, key = self._governing.fetch_roll(), home.identity_key()
        asked = next(
            (
                each
                for each in self._governing.proposals()
                if (each.proposal.action, each.proposal.subject, each.proposal.roll)
                == (action, standing.subject, roll.digest)
                and each.proposal.opened <= now <= each.proposal.closes
            ),
            None,
        )
        if asked is None:
            proposal = new_proposal(roll, action, standing.subject, title, now, DAYS)
            asked = self._governing.propose(proposal_bytes(proposal, key))
        return self._governing.vote(vote_bytes(asked.proposal.digest, "yes", reason, now, key))

    def _call(self, method: Any, request: object) -> Any:
        with spoken_errors(self._federation.route):
            return method(request, timeout=UNARY_SECONDS)


def _standing(view: releases_pb2.ReleaseStanding, roll: Roll) -> Standing:
    approved: tuple[str, ...] = ()
    if view.decision:
        approved = approvers(_counted(view, roll))
    recalled = ""
    if view.recall:
        recall = read_recall(view.recall, roll)
        if recall.subject != view.subject:
            raise VerificationFailed("The coordinator shows the recall of another release.", hint="Tell the members.")
        recalled = recall.words
    elif view.state == "recalled":
        raise VerificationFailed("The coordinator says that a release was recalled, and shows no decision.")
    return Standing(
        job=view.job,
        name=plain(view.name),
        state=plain(view.state),
        reason=plain(view.reason),
        subject=view.subject,
        audience=plain(view.audience),
        approved_by=approved,
        recalled=plain(recalled),
        recall=view.recall,
    )


def _counted(view: releases_pb2.ReleaseStanding, roll: Roll) -> Any:
    """Under the roll under which it was made: this one or one before it."""
    failure: FederationError | None = None
    for under in (roll, *reversed(roll.past)):
        try:
            return open_decision(view.decision, under, "release", view.subject)
        except FederationError as error:
            failure = failure or error
    raise failure or InvalidUsage("There is no roll.")
