"""Counting: who has a vote is the roll's, how much is needed is its charter's. Everybody who needs a vote calls ``open_decision``.

What does not count: a vote for another proposal, of somebody without a vote, cast before it opened or after it closed, and the
votes of a member that say different things. It does not matter in which order votes come, or how often one comes. The time of a
vote is what the member signed: a member can date its own vote, and nobody else's.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from federation.errors import InvalidIdentity
from federation.governance.charter import Action, Quorum
from federation.governance.proposal import Proposal, Vote, open_proposal, open_vote
from federation.identity.envelope import canonical

if TYPE_CHECKING:
    from federation.identity.roll import Roll

MAX_DECISION: Final = 3 << 20
MAX_VOTES: Final = 1000


@dataclass(frozen=True, slots=True)
class Tally:
    choices: Mapping[str, str]
    """what each member said that counts, by id"""
    yes: int
    no: int
    abstain: int
    total: int
    """weight of all who have a vote"""
    ignored: tuple[str, ...]
    """one sentence for each vote that does not count, sorted"""

    def passes(self, quorum: Quorum) -> bool:
        return quorum.reached(self.yes, self.total)

    def lost(self, quorum: Quorum) -> bool:
        """Not even all who have not voted could carry it."""
        return not quorum.reached(self.total - self.no - self.abstain, self.total)


@dataclass(frozen=True, slots=True)
class Decision:
    """A proposal that passed, with the votes; ``data`` is the file that holds both, verbatim."""

    proposal: Proposal
    votes: tuple[Vote, ...]
    tally: Tally
    data: bytes


def tally(proposal: Proposal, votes: Sequence[Vote], roll: Roll) -> Tally:
    """``votes`` as ``open_vote`` gave them: their signatures are checked. Comments are passed over.

    Under another roll than the proposal's, nothing counts.
    """
    weights = roll.voters if (proposal.roll, proposal.federation) == (roll.digest, roll.federation) else {}
    named = {member.officer_key: member.id for member in roll.members}
    said: dict[str, set[str]] = {}
    ignored: set[str] = set()
    for vote in votes:
        if vote.choice == "comment":
            continue
        voter = named.get(vote.signer, "")
        if (why := _why_not(vote, proposal, voter, weights)) is not None:
            ignored.add(f"{voter or 'a stranger'}: {why}")
        else:
            said.setdefault(voter, set()).add(vote.choice)
    choices: dict[str, str] = {}
    for voter, own in said.items():
        if len(own) == 1:
            choices[voter] = next(iter(own))
        else:
            ignored.add(f"{voter}: it said two different things, and neither counts")
    weight = {choice: sum(weights[voter] for voter, said in choices.items() if said == choice) for choice in _COUNTED}
    return Tally(
        choices=dict(sorted(choices.items())),
        yes=weight["yes"],
        no=weight["no"],
        abstain=weight["abstain"],
        total=sum(weights.values()),
        ignored=tuple(sorted(ignored)),
    )


_COUNTED: Final = ("yes", "no", "abstain")


def _why_not(vote: Vote, proposal: Proposal, voter: str, weights: Mapping[str, int]) -> str | None:
    if vote.proposal != proposal.digest:
        return "the vote is for another proposal"
    if not weights:
        return "the proposal was made under another roll"
    if voter not in weights:
        return "it has no vote"
    if not proposal.opened <= vote.cast <= proposal.closes:
        return "the vote was not cast while the proposal was open"
    return None


def decision_bytes(proposal: bytes, votes: Collection[bytes]) -> bytes:
    """The one canonical file of a proposal's envelope and its votes' (comments are left out).

    Raises InvalidIdentity for bytes that are no such envelopes.
    """
    counted = {vote for vote in votes if open_vote(vote).choice != "comment"}
    return canonical({"proposal": json.loads(proposal), "votes": [json.loads(vote) for vote in sorted(counted)]})


def read_decision(data: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """(proposal, votes): the envelopes in a decision's file, of which nothing is believed yet. Raises InvalidIdentity."""
    if len(data) > MAX_DECISION:
        raise InvalidIdentity(f"The decision is larger than {MAX_DECISION} bytes.")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidIdentity("The decision is not JSON.") from error
    if not isinstance(document, dict) or set(document) != {"proposal", "votes"}:
        raise InvalidIdentity("This is not a decision.", hint="It is what `concord proposals decision` writes.")
    votes = document["votes"]
    if not isinstance(document["proposal"], dict) or not isinstance(votes, list) or len(votes) > MAX_VOTES:
        raise InvalidIdentity("The decision does not hold a proposal and its votes.")
    if not all(isinstance(vote, dict) for vote in votes):
        raise InvalidIdentity("The decision holds something that is no vote.")
    listed = tuple(canonical(vote) for vote in votes)
    if list(listed) != sorted(set(listed)) or canonical(document) != data:
        raise InvalidIdentity(
            "The decision is not in its one canonical encoding.", hint="Fetch the original bytes: it was re-formatted."
        )
    return canonical(document["proposal"]), listed


def open_decision(data: bytes, roll: Roll, action: Action, subject: bytes, also: Collection[Action] = ()) -> Decision:
    """The members' decision that ``subject`` (32 bytes) shall be, for ``action``, under ``roll`` and its charter.

    Raises InvalidIdentity for another question, another roll, a bad signature, or less than the quorum. ``also``: what else the
    subject does; the same votes must reach the quorum of each.
    """
    envelope, envelopes = read_decision(data)
    proposal = open_proposal(envelope, roll)
    if proposal.action != action:
        raise InvalidIdentity(f"The decision is about a {proposal.action}, and this takes one about a {action}.")
    if proposal.subject != subject:
        raise InvalidIdentity(
            f"The decision is about another subject ({proposal.subject.hex()[:16]}) than this ({subject.hex()[:16]}).",
            hint="What was voted on is not what you were given: compare the digests with the other members.",
        )
    votes = tuple(open_vote(vote) for vote in envelopes)
    counted = tally(proposal, votes, roll)
    for needed in sorted({action, *also}):
        quorum = roll.charter.quorums[needed]
        if not counted.passes(quorum):
            raise InvalidIdentity(
                f"The decision lacks its quorum for {needed}: {counted.yes} of {counted.total} by weight said yes, "
                f"{quorum} is needed.",
                hint="; ".join(counted.ignored) or "Have more members vote: concord proposals show.",
            )
    return Decision(proposal, votes, counted, data)
