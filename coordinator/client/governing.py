"""Deciding together, as the SDK has it: proposals, votes, rolls. What the coordinator says is counted again here, from the
envelopes, under the roll that this home trusts; a roll of the coordinator's is taken only where it continues that one."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from coordinator.client.channel import UNARY_SECONDS, spoken_errors
from coordinator.client.said import note
from coordinator.client.sdk import Federation
from federation.errors import InvalidIdentity, NotFound
from federation.governance.amendment import Change, changes_of, needed
from federation.governance.ballot import Tally, decision_bytes, tally
from federation.governance.charter import Action, Charter
from federation.governance.proposal import (
    NONCE_BYTES,
    Choice,
    Proposal,
    Vote,
    open_vote,
    read_proposal,
    seal_proposal,
    seal_vote,
)
from federation.identity.envelope import seal
from federation.identity.roll import RevokedNode, Roll, RollLead, RollMember, draft_roll, open_draft
from federation.identity.signer import Signer
from federation.v1 import governance_pb2, governance_pb2_grpc


@dataclass(frozen=True, slots=True)
class Asked:
    """A proposal, counted again."""

    proposal: Proposal
    changes: tuple[Change, ...]
    """what its roll would change; empty where it is about something else"""
    tally: Tally
    votes: tuple[Vote, ...]
    draft: bytes
    standing: str
    reason: str
    """both as the coordinator tells them"""

    @property
    def actions(self) -> tuple[Action, ...]:
        return tuple(sorted(needed(self.changes) | {self.proposal.action}))

    def decision(self) -> bytes:
        return decision_bytes(self.proposal.envelope, [vote.envelope for vote in self.votes])

    def as_document(self, roll: Roll) -> dict[str, Any]:
        return {
            "proposal": self.proposal.digest.hex(),
            "action": self.proposal.action,
            "title": self.proposal.title,
            "by": key_owner(self.proposal.signer, roll),
            "subject": self.proposal.subject.hex(),
            "closes": self.proposal.closes.isoformat(),
            "state": self.standing,
            "reason": self.reason,
            "changes": [change.what for change in self.changes],
            "quorums": {action: str(roll.charter.quorums[action]) for action in self.actions},
            "votes": [
                {"member": key_owner(vote.signer, roll), "choice": vote.choice, "reason": vote.reason}
                for vote in self.votes
            ],
            "yes": self.tally.yes,
            "no": self.tally.no,
            "abstain": self.tally.abstain,
            "total": self.tally.total,
            "ignored": list(self.tally.ignored),
        }


class Governing:
    """Over the session of ``federation``."""

    def __init__(self, federation: Federation) -> None:
        self._federation = federation
        self._stub = governance_pb2_grpc.GovernanceStub(federation.channel)

    def fetch_roll(self) -> Roll:
        """The newest roll, which this home trusts from now on. Raises InvalidUsage when it does not continue the one that the
        home trusts."""
        reply = self._call(self._stub.GetRoll, governance_pb2.RollQuery())
        home = self._federation.home
        roll = home.trust_roll(reply.history)
        home.settle_key(roll)
        return roll

    def proposals(self) -> list[Asked]:
        """Newest first."""
        roll = self.fetch_roll()
        reply = self._call(self._stub.List, governance_pb2.ListProposalsRequest())
        return [_asked(view, roll) for view in reply.proposals]

    def proposal(self, query: str) -> Asked:
        """By digest in hex, or a unique prefix of it. Raises NotFound."""
        roll = self.fetch_roll()
        return _asked(self._call(self._stub.Get, governance_pb2.ProposalQuery(proposal=query)), roll)

    def propose(self, envelope: bytes, draft: bytes = b"") -> Asked:
        view = self._call(self._stub.Propose, governance_pb2.ProposeRequest(proposal=envelope, draft=draft))
        roll = self.fetch_roll()
        note(self._federation.home.path, roll.federation, "proposal", envelope)
        return _asked(view, roll)

    def vote(self, envelope: bytes) -> Asked:
        view = self._call(self._stub.Vote, governance_pb2.VoteRequest(vote=envelope))
        roll = self.fetch_roll()
        if open_vote(envelope).choice != "comment":  # comments are for people, and not in the log
            note(self._federation.home.path, roll.federation, "vote", envelope)
        return _asked(view, roll)

    def amend(self, envelope: bytes, decision: bytes = b"") -> Roll:
        """A new roll that needs no vote, or comes with its decision."""
        self._call(self._stub.Amend, governance_pb2.AmendRequest(roll=envelope, decision=decision))
        return self.fetch_roll()

    def _call(self, method: Any, request: object) -> Any:
        with spoken_errors(self._federation.route):
            return method(request, timeout=UNARY_SECONDS)


def _asked(view: governance_pb2.ProposalView, roll: Roll) -> Asked:
    """Nothing of the coordinator's count is believed. Raises InvalidIdentity for documents that are not what they say."""
    proposal = read_proposal(view.proposal)
    under = next((each for each in (*roll.past, roll) if each.digest == proposal.roll), None)
    if under is None:
        raise InvalidIdentity(
            "A proposal was made under a roll that this home does not know.", hint="concord roll fetch"
        )
    changes: tuple[Change, ...] = ()
    if view.draft:
        draft, signers = open_draft(view.draft)
        if draft.digest != proposal.subject:
            raise InvalidIdentity("The coordinator shows another roll than the one that is proposed.")
        changes = changes_of(under, draft, signers)
    votes = tuple(open_vote(vote) for vote in view.votes)
    return Asked(proposal, changes, tally(proposal, votes, under), votes, view.draft, view.state, view.reason)


def new_proposal(roll: Roll, action: Action, subject: bytes, title: str, now: datetime, days: float) -> Proposal:
    return Proposal(
        roll.federation, action, subject, roll.digest, title, now, now + timedelta(days=days),
        secrets.token_bytes(NONCE_BYTES),
    )  # fmt: skip


def proposal_bytes(proposal: Proposal, signer: Signer | None) -> bytes:
    return seal_proposal(proposal, signer)


def vote_bytes(proposal: bytes, choice: Choice, reason: str, now: datetime, signer: Signer | None) -> bytes:
    return seal_vote(Vote(proposal, choice, reason, now), signer)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a next roll is to change; what is empty stays."""

    admit: tuple[RollMember, ...] = ()
    leads: tuple[RollLead, ...] = ()
    """new ones; or a new key or name for one of the same id"""
    keys: tuple[RollMember, ...] = ()
    """cards with a new key of members on the roll"""
    tiers: tuple[tuple[str, str], ...] = ()
    suspend: tuple[str, ...] = ()
    restore: tuple[str, ...] = ()
    suspend_leads: tuple[str, ...] = ()
    restore_leads: tuple[str, ...] = ()
    revoke: tuple[RevokedNode, ...] = ()
    unrevoke: tuple[str, ...] = ()
    """MEMBER/NODE"""
    charter: Charter | None = None


def next_roll(roll: Roll, wanted: Wanted) -> bytes:
    """The next roll's envelope, unsigned. Raises NotFound for whom the roll does not list, InvalidIdentity for what cannot be."""
    members = {member.id: member for member in roll.members}
    for card in wanted.admit:
        if card.id in members:
            raise InvalidIdentity(f"{card.id} is a member already.", hint="Its new key goes with --key.")
        members[card.id] = card
    for card in wanted.keys:
        members[card.id] = replace(_of(members, card.id), officer_key=card.officer_key)
    for name, tier in wanted.tiers:
        members[name] = replace(_of(members, name), tier=tier)
    for name in wanted.suspend:
        members[name] = replace(_of(members, name), state="suspended")
    for name in wanted.restore:
        members[name] = replace(_of(members, name), state="active")
    leads = {lead.id: lead for lead in roll.leads}
    for each in wanted.leads:
        leads[each.id] = replace(each, state=leads[each.id].state if each.id in leads else "active")
    for name in wanted.suspend_leads:
        leads[name] = replace(_of(leads, name), state="suspended")
    for name in wanted.restore_leads:
        leads[name] = replace(_of(leads, name), state="active")
    revoked = {(entry.member, entry.node, entry.key): entry for entry in (*roll.revoked, *wanted.revoke)}
    for name in wanted.unrevoke:
        revoked = {key: entry for key, entry in revoked.items() if f"{entry.member}/{entry.node}" != name}
    document = draft_roll(
        roll.federation,
        roll.version + 1,
        list(members.values()),
        list(leads.values()),
        wanted.charter or roll.charter,
        roll.digest,
        list(revoked.values()),
    )
    return seal(document, "roll", ())


def _of(entries: dict[str, Any], name: str) -> Any:
    if name not in entries:
        raise NotFound(f"The roll does not list {name}.", hint=f"It lists: {', '.join(sorted(entries)[:20])}.")
    return entries[name]


def key_owner(key: bytes, roll: Roll) -> str:
    """Whose key it is or was; ``?`` for nobody's."""
    for version in (roll, *reversed(roll.past)):
        for member in version.members:
            if member.officer_key == key:
                return member.id
        lead = version.lead_of_key(key)
        if lead is not None:
            return lead.id
    return "?"
