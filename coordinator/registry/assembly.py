"""The members' proposals and votes, and the rolls that come of them. The coordinator keeps order here and decides nothing.

It may refuse what cannot count, and it may hide what it was given; it cannot make a vote, a decision or a member. A vote that
carries a proposal about the roll brings the new roll into force in the same transaction. One word a member: whoever votes again,
otherwise, is refused. A member's own change (a key, a lead) waits while a proposal about suspending that member is open: each roll
makes the votes under the one before it void, and nobody shall escape a vote by changing a key.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import structlog

from coordinator.registry.enrolment import Registry
from coordinator.store.assembly import BallotRow, HolderRow, ProposalRow
from coordinator.store.database import Change
from federation.errors import InvalidIdentity, InvalidUsage, NotFound, OutOfOrder
from federation.governance.amendment import changes_of, needed
from federation.governance.ballot import Tally, decision_bytes, tally
from federation.governance.charter import Action, Quorum
from federation.governance.history import extended
from federation.governance.holding import open_holding
from federation.governance.proposal import Proposal, open_proposal, open_vote, proposer_of, read_proposal
from federation.identity.envelope import add_signatures
from federation.identity.roll import Roll, open_draft

log = structlog.get_logger()

ABOUT_THE_ROLL: Final[frozenset[Action]] = frozenset({"admission", "suspension", "rules", "coordinator"})
CLOCKS_APART: Final = timedelta(minutes=5)
MOST_OPEN: Final = 20
"""proposals of one member or lead that are open at once"""
MOST_COMMENTS: Final = 20
"""of one member on one proposal"""
MIN_PREFIX: Final = 6
HEX: Final = frozenset("0123456789abcdef")

Standing = Literal["open", "passed", "lost", "closed", "in-force", "overtaken"]


@dataclass(frozen=True, slots=True)
class Question:
    """A proposal as it stands."""

    proposal: Proposal
    draft: bytes
    votes: tuple[bytes, ...]
    """and comments"""
    standing: Standing
    reason: str


@dataclass(slots=True)
class Assembly:
    """``amended``: who is told when a new roll is in force, with the one before it."""

    registry: Registry
    amended: list[Callable[[Roll, Roll], None]] = field(default_factory=list)
    decided: list[Callable[[Question], None]] = field(default_factory=list)
    """who is told when a proposal about something else than the roll has its quorum"""

    # ------------------------------------------------------------------------------------------------------- proposals

    def propose(self, envelope: bytes, draft: bytes) -> Question:
        """Raises InvalidIdentity for what nobody can decide, OutOfOrder for one that has closed."""
        roll, now = self.registry.roll(), self._now()
        proposal = open_proposal(envelope, roll)
        if not now < proposal.closes or proposal.opened > now + CLOCKS_APART:
            raise OutOfOrder("The proposal is not open now.", hint="Check this machine's clock, and propose it again.")
        self._check_draft(proposal, draft, roll)
        who = proposer_of(proposal, roll)
        with self.registry.database.transaction() as change:
            known = {row.digest: row for row in change.assembly.proposals()}
            if (row := known.get(proposal.digest)) is None:
                running = [read_proposal(row.envelope) for row in known.values()]
                mine = [each for each in running if each.signer == proposal.signer and now <= each.closes]
                if len([each for each in mine if each.roll == roll.digest]) >= MOST_OPEN:
                    raise OutOfOrder(f"{who} has {MOST_OPEN} open proposals.", hint="Wait until one is decided.")
                received = self.registry.clock()
                change.assembly.propose(ProposalRow(proposal.digest, envelope, draft, received))
                words = f"{proposal.digest.hex()} {proposal.action} {proposal.subject.hex()} {who}"
                change.audit(received, "proposal", words, envelope)
            elif draft and draft != row.draft:
                change.assembly.put_draft(proposal.digest, add_signatures(row.draft, "roll", draft))
        log.info("proposal.made", proposal=proposal.digest.hex()[:12], action=proposal.action, by=who)
        return self.question(proposal.digest.hex())

    @staticmethod
    def _check_draft(proposal: Proposal, draft: bytes, roll: Roll) -> None:
        if proposal.action not in ABOUT_THE_ROLL:
            if draft:
                raise InvalidUsage(f"A proposal about a {proposal.action} brings no roll.")
            return
        if not draft:
            raise InvalidUsage(
                f"A proposal about a {proposal.action} brings the roll that would come into force.",
                hint="concord propose drafts it.",
            )
        drafted, signers = open_draft(draft)
        if drafted.digest != proposal.subject:
            raise InvalidIdentity("The proposal is about another roll than the one that comes with it.")
        actions = needed(changes_of(roll, drafted, signers))
        if proposal.action not in actions:
            raise InvalidIdentity(
                f"The proposal is called a {proposal.action}, and the roll needs a vote on "
                f"{', '.join(sorted(actions)) or 'nothing'}.",
                hint="Members must see what they vote on. Propose it under its name.",
            )

    def vote(self, envelope: bytes) -> Question:
        """Raises InvalidIdentity for whoever has no vote, OutOfOrder when it comes too late or is a second, different one."""
        roll, now = self.registry.roll(), self._now()
        vote = open_vote(envelope)
        member = next((each for each in roll.members if each.officer_key == vote.signer), None)
        if member is None or not member.active:
            raise InvalidIdentity(
                "The vote is not signed by the officer of a member in good standing.",
                hint="`concord roll show` lists the members and their keys.",
            )
        held = self.question(vote.proposal.hex())
        if vote.choice != "comment":
            self._check_vote(held, member.id, vote.cast, roll, now)
        with self.registry.database.transaction() as change:
            before = [row for row in change.assembly.ballots(vote.proposal) if row.member == member.id]
            if envelope not in {row.envelope for row in before}:
                comments = [row for row in before if row.choice == "comment"]
                if vote.choice != "comment" and len(before) > len(comments):
                    raise OutOfOrder(
                        f"{member.id} has voted on this before.", hint="A vote is final: two would void each other."
                    )
                if vote.choice == "comment" and len(comments) >= MOST_COMMENTS:
                    raise OutOfOrder(f"{member.id} has said {MOST_COMMENTS} things on this proposal.")
                change.assembly.vote(BallotRow(vote.proposal, member.id, vote.choice, envelope))
                if vote.choice != "comment":
                    words = f"{vote.proposal.hex()} {member.id} {vote.choice}"
                    change.audit(self.registry.clock(), "vote", words, envelope)
        self._settle(vote.proposal)
        return self.question(vote.proposal.hex())

    @staticmethod
    def _check_vote(held: Question, member: str, cast: datetime, roll: Roll, now: datetime) -> None:
        if member not in roll.voters:
            raise InvalidIdentity(
                f"{member} has no vote: its tier is {roll.member(member).tier}.",
                hint="It may comment: concord vote --comment.",
            )
        if held.standing in ("in-force", "overtaken", "closed"):
            raise OutOfOrder(
                f"The proposal is {held.standing}: {held.reason}.", hint="concord proposals lists the open ones."
            )
        if not held.proposal.opened <= cast <= held.proposal.closes or cast > now + CLOCKS_APART:
            raise OutOfOrder("The vote was not cast while the proposal is open.", hint="Check this machine's clock.")

    def question(self, query: str) -> Question:
        """By digest in hex, or a unique prefix. Raises NotFound."""
        if len(query) < MIN_PREFIX or not set(query) <= HEX:
            raise NotFound(f"{query[:80]!r} names no proposal.", hint="Give its digest, or the first six digits of it.")
        found = [each for each in self.questions() if each.proposal.digest.hex().startswith(query)]
        if len(found) != 1:
            raise NotFound(
                f"{query[:80]} fits {len(found)} proposals.", hint="`concord proposals` lists them; give more digits."
            )
        return found[0]

    def questions(self) -> tuple[Question, ...]:
        """Newest first."""
        roll = self.registry.roll()
        with self.registry.database.transaction() as change:
            rows = change.assembly.proposals()
            ballots = {row.digest: change.assembly.ballots(row.digest) for row in rows}
        return tuple(self._question(row, ballots[row.digest], roll) for row in reversed(rows))

    def decision(self, query: str) -> bytes:
        """The file of a proposal that has passed (``federation.governance.ballot``). Raises NotFound, or OutOfOrder before."""
        question = self.question(query)
        if question.standing not in ("passed", "in-force"):
            raise OutOfOrder(f"The proposal is {question.standing}: {question.reason}.")
        return decision_bytes(question.proposal.envelope, question.votes)

    def _question(self, row: ProposalRow, ballots: Collection[BallotRow], roll: Roll) -> Question:
        proposal = read_proposal(row.envelope)
        votes = tuple(ballot.envelope for ballot in ballots)
        standing, reason = self._standing(proposal, row.draft, votes, roll)
        return Question(proposal, row.draft, votes, standing, reason)

    def _standing(self, proposal: Proposal, draft: bytes, votes: Collection[bytes], roll: Roll) -> tuple[Standing, str]:
        if proposal.subject in roll.line.values():
            return "in-force", f"version {roll.of_digest(proposal.subject).version} of the roll"
        if proposal.roll != roll.digest:
            if not draft and (counted := _under_its_roll(proposal, votes, roll)) is not None:
                return "passed", _shares(counted)
            return "overtaken", "the roll changed since; what was voted on must be proposed anew"
        counted = tally(proposal, [open_vote(vote) for vote in votes], roll)
        lacking = [
            action for action in self._actions(proposal, draft, roll) if not counted.passes(_quorum(roll, action))
        ]
        if not lacking:
            return "passed", _shares(counted)
        if any(counted.lost(_quorum(roll, action)) for action in lacking):
            return "lost", _shares(counted)
        if self._now() > proposal.closes:
            return "closed", f"{_shares(counted)} when it closed"
        wanted = ", ".join(f"{_quorum(roll, action)} for {action}" for action in lacking)
        return "open", f"{_shares(counted)}; needed: {wanted}"

    @staticmethod
    def _actions(proposal: Proposal, draft: bytes, roll: Roll) -> tuple[Action, ...]:
        if not draft:
            return (proposal.action,)
        drafted, signers = open_draft(draft)
        return tuple(sorted(needed(changes_of(roll, drafted, signers))))

    # ------------------------------------------------------------------------------------------------------------ rolls

    def amend(self, envelope: bytes, decision: bytes | None) -> Roll:
        """A new roll, with its decision, or by its signatures alone where no vote is needed.

        Raises InvalidIdentity unless it is valid, OutOfOrder for a member's own change while its suspension is voted on.
        """
        roll = self.registry.roll()
        if decision is None:
            self._check_no_escape(envelope, roll)
        return self._put_in_force(envelope, decision, roll)

    def _check_no_escape(self, envelope: bytes, roll: Roll) -> None:
        _draft, signers = open_draft(envelope)
        changing = {member.id for member in roll.members if member.officer_key in signers}
        changing |= {lead.member for lead in roll.leads if lead.key in signers}
        for question in self.questions():
            if question.standing == "open" and question.proposal.action == "suspension":
                after, _ = open_draft(question.draft)
                if about := _worse_off(roll, after) & changing:
                    raise OutOfOrder(
                        f"The suspension of {', '.join(sorted(about))} is voted on until "
                        f"{question.proposal.closes:%Y-%m-%d %H:%M} UTC, and its own changes wait until then.",
                        hint="A new roll would make the votes void.",
                    )

    def _settle(self, digest: bytes) -> None:
        question = self.question(digest.hex())
        if question.standing == "passed" and question.draft:
            decision = decision_bytes(question.proposal.envelope, question.votes)
            self._put_in_force(question.draft, decision, self.registry.roll())
        elif question.standing == "passed":
            for tell in self.decided:
                tell(question)

    def _put_in_force(self, envelope: bytes, decision: bytes | None, roll: Roll) -> Roll:
        newer = extended(roll, envelope, decision)
        with self.registry.database.transaction() as change:
            if change.roll() != roll.envelope:
                raise OutOfOrder("The roll changed in this moment.", hint="Draft it again from the newest.")
            change.set_roll(newer.envelope)
            _write_down(change, self.registry.clock(), roll, newer, envelope)
        log.info("roll.amended", version=newer.version, digest=newer.digest.hex()[:16])
        for tell in self.amended:
            tell(roll, newer)
        return newer

    # ---------------------------------------------------------------------------------------------------------- holders

    def held(self, member: str, node: str, statement: bytes) -> None:
        """What a node says of its roll. Raises InvalidIdentity when it is not that node's word."""
        credential = self.registry.credential(member, node)
        said = open_holding(statement, credential.identity_key)
        if (said.member, said.node, said.federation) != (member, node, credential.federation):
            raise InvalidIdentity("The node speaks of another node's roll.")
        with self.registry.database.transaction() as change:
            change.assembly.holds(HolderRow(member, node, said.version, statement))

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.registry.clock(), UTC)


def _under_its_roll(proposal: Proposal, votes: Collection[bytes], roll: Roll) -> Tally | None:
    """What passed before the roll changed stays decided."""
    before = next((each for each in roll.past if each.digest == proposal.roll), None)
    if before is None:
        return None
    counted = tally(proposal, [open_vote(vote) for vote in votes], before)
    return counted if counted.passes(_quorum(before, proposal.action)) else None


def _quorum(roll: Roll, action: Action) -> Quorum:
    return roll.charter.quorums[action]


def _shares(counted: Tally) -> str:
    return f"{counted.yes} of {counted.total} by weight yes, {counted.no} no, {counted.abstain} abstain"


def _worse_off(old: Roll, new: Roll) -> set[str]:
    """Members that a roll takes something from: themselves, a lead or a node of theirs."""
    before = {member.id: member for member in old.members}
    members = {each.id for each in new.members if each.id in before and before[each.id] != each}
    leads = {each.id: each for each in old.leads}
    members |= {each.member for each in new.leads if each.id in leads and leads[each.id] != each}
    return members | {entry.member for entry in new.revoked if entry not in old.revoked}


def _write_down(change: Change, now: float, old: Roll, new: Roll, envelope: bytes) -> None:
    """In the log: that there is a new roll, and for each member, lead and node what it means."""
    change.audit(now, "charter", f"federation={new.federation} version={new.version}", envelope)
    members, leads = {each.id: each for each in old.members}, {each.id: each for each in old.leads}
    for member in new.members:
        before = members.get(member.id)
        if before is None or (member.active and not before.active):
            change.audit(now, "admission", f"member={member.id} version={new.version}")
        elif before.active and not member.active:
            change.audit(now, "suspension", f"member={member.id} state=member version={new.version}")
    for lead in new.leads:
        held = leads.get(lead.id)
        if held is not None and held.active and not lead.active:
            change.audit(now, "suspension", f"member={lead.member} state=lead version={new.version}")
    for entry in new.revoked:
        if entry not in old.revoked:
            change.audit(now, "suspension", f"member={entry.member} node={entry.node} state=node version={new.version}")
