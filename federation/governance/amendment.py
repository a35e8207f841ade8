"""One roll follows another: what differs, and what each difference needs. Every node works this out for itself.

needs the votes of     what changes
admission              a new member (who signs the roll, too); a member taken back; a tier that gives more; a name, a jurisdiction;
                       a new key for a member that lost its own; a lead taken back; a revoked node taken back
suspension             a member or lead suspended, a node revoked (unless its own officer does it); a tier that takes something away
rules                  the charter, all but
coordinator            where the coordinator is, and the key of its public log

needs no vote          a member's new key, signed with its old and its new one; a lead's new key, likewise; a lead added, renamed,
                       suspended or given a new key by the officer of its member, in good standing (new leads and their new
                       keys: as far as the charter leaves that to members); a node of its own that a member revokes

Votes are counted under the charter and the roll that were in force before. One decision answers for all that a roll changes: its
votes must reach every quorum that is needed. Nothing else can change: nobody is taken off, no lead moves to another member.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from federation.errors import InvalidIdentity
from federation.governance.ballot import Decision, open_decision, read_decision
from federation.governance.charter import Action, Seat, Tier
from federation.governance.proposal import read_proposal
from federation.identity.keys import key_id

if TYPE_CHECKING:
    from federation.identity.roll import Roll, RollLead, RollMember


@dataclass(frozen=True, slots=True)
class Change:
    what: str
    """one sentence for people, without a full stop"""
    action: Action | None
    """whose quorum it needs; None: the signatures that the roll bears are enough"""


@dataclass(frozen=True, slots=True)
class Amendment:
    """A step from one roll to the next that is valid."""

    roll: Roll
    changes: tuple[Change, ...]
    decision: Decision | None
    """None when no change needed a vote"""


def changes_of(old: Roll, new: Roll, signers: Collection[bytes]) -> tuple[Change, ...]:
    """What ``new`` changes. ``signers``: the keys that signed it (checked by ``open_draft``).

    Raises InvalidIdentity for what nobody can decide, and where a signature is missing that no vote stands in for.
    """
    if new.federation != old.federation:
        raise InvalidIdentity(f"The roll is of {new.federation}, and follows one of {old.federation}.")
    if new.previous != old.digest or new.version != old.version + 1:
        raise InvalidIdentity(
            f"The roll, version {new.version}, does not follow version {old.version} ({old.digest.hex()[:16]}).",
            hint="The roll changed since it was drafted. Draft it again from the newest: `concord roll fetch` takes it.",
        )
    step = _Step(old, new, frozenset(signers))
    step.members()
    step.leads()
    step.nodes()
    step.charter()
    if not step.found:
        raise InvalidIdentity(f"The roll, version {new.version}, changes nothing.")
    step.strangers()
    return tuple(step.found)


def needed(changes: Collection[Change]) -> frozenset[Action]:
    return frozenset(change.action for change in changes if change.action is not None)


def check_amendment(old: Roll, new: Roll, signers: Collection[bytes], decision: bytes | None) -> Amendment:
    """Raises InvalidIdentity unless ``new`` may follow ``old``: all signatures, and the quorum for all that it changes."""
    changes = changes_of(old, new, signers)
    actions = needed(changes)
    if not actions:
        if decision is not None:
            raise InvalidIdentity("The roll needs no decision, and one comes with it.")
        return Amendment(new, changes, None)
    if decision is None:
        listed = "; ".join(change.what for change in changes if change.action is not None)
        raise InvalidIdentity(
            f"The roll, version {new.version}, has no decision of the members, and needs one: {listed}.",
            hint="Propose it: concord propose. Nobody but the members can change the roll.",
        )
    asked = read_proposal(read_decision(decision)[0]).action
    if asked not in actions:
        raise InvalidIdentity(
            f"The decision is about a {asked}, and the roll changes {', '.join(sorted(actions))}.",
            hint="Members voted on something else than what this roll does.",
        )
    return Amendment(new, changes, open_decision(decision, old, asked, new.digest, also=actions))


MORE: Final[Action] = "admission"
LESS: Final[Action] = "suspension"


@dataclass(frozen=True, slots=True)
class _Step:
    old: Roll
    new: Roll
    signers: frozenset[bytes]
    found: list[Change]

    def __init__(self, old: Roll, new: Roll, signers: frozenset[bytes]) -> None:
        for name, value in (("old", old), ("new", new), ("signers", signers), ("found", [])):
            object.__setattr__(self, name, value)

    def _add(self, what: str, action: Action | None) -> None:
        self.found.append(Change(what, action))

    def _officer_signed(self, member: str) -> bool:
        """The officer of a member in good standing, with the key that was in force before."""
        before = next((each for each in self.old.members if each.id == member), None)
        return before is not None and before.active and before.officer_key in self.signers

    def members(self) -> None:
        before = {member.id: member for member in self.old.members}
        after = {member.id: member for member in self.new.members}
        for identifier in sorted(set(before) - set(after)):
            raise InvalidIdentity(
                f"The roll leaves out the member {identifier}.", hint="Members are suspended, never taken off."
            )
        for identifier, member in after.items():
            if identifier not in before:
                self._admitted(member)
            elif before[identifier] != member:
                self._member(before[identifier], member)

    def _admitted(self, member: RollMember) -> None:
        if member.officer_key not in self.signers:
            raise InvalidIdentity(
                f"The new member {member.id} has not signed the roll that it would enter.",
                hint="Nobody is made a member of what they have not signed: concord roll sign --home OFFICER.",
            )
        if not member.active:
            raise InvalidIdentity(f"The new member {member.id} is suspended from the start.")
        self._add(f"{member.id} ({member.name}, {member.jurisdiction}) becomes a member, as {member.tier}", MORE)

    def _member(self, before: RollMember, after: RollMember) -> None:
        who = before.id
        if before.officer_key != after.officer_key:
            if after.officer_key not in self.signers:
                raise InvalidIdentity(
                    f"The new key of {who} has not signed the roll.", hint="It proves that somebody holds it."
                )
            own = self._officer_signed(who)
            how = "signed with the old one" if own else "without the old one"
            self._add(f"{who} has a new key, {key_id(after.officer_key)}, {how}", None if own else MORE)
        if before.state != after.state:
            taken = not after.active
            self._add(f"{who} is {'suspended' if taken else 'taken back'}", LESS if taken else MORE)
        if (before.name, before.jurisdiction) != (after.name, after.jurisdiction):
            self._add(f"{who} is now {after.name}, {after.jurisdiction}", MORE)
        if before.tier != after.tier:
            for action in _tier_actions(self.old.tier_of(before), self.new.tier_of(after)):
                self._add(f"{who} goes from {before.tier} to {after.tier}", action)

    def leads(self) -> None:
        before = {lead.id: lead for lead in self.old.leads}
        after = {lead.id: lead for lead in self.new.leads}
        for identifier in sorted(set(before) - set(after)):
            raise InvalidIdentity(
                f"The roll leaves out the lead {identifier}.", hint="Leads are suspended, never taken off."
            )
        for identifier, lead in after.items():
            if identifier not in before:
                self._officers_word(lead)
                if not lead.active:
                    raise InvalidIdentity(f"The new lead {lead.id} is suspended from the start.")
                self._add(f"{lead.id} ({lead.name}) becomes a lead of {lead.member}", self._lead_vote)
            elif before[identifier] != lead:
                self._lead(before[identifier], lead)

    @property
    def _lead_vote(self) -> Action | None:
        return MORE if self.old.charter.leads_by == "vote" else None

    def _officers_word(self, lead: RollLead) -> None:
        """A new member's officer signs the roll that it enters by, and may bring leads along."""
        if self._officer_signed(lead.member):
            return
        entering = lead.member not in {member.id for member in self.old.members}
        if not entering or self.new.member(lead.member).officer_key not in self.signers:
            raise InvalidIdentity(
                f"The officer of {lead.member} has not signed for its lead {lead.id}.",
                hint="A lead is vouched for by its own member, in good standing: concord roll sign --home OFFICER.",
            )

    def _lead(self, before: RollLead, after: RollLead) -> None:
        who = before.id
        if before.member != after.member:
            raise InvalidIdentity(
                f"The lead {who} moves from {before.member} to {after.member}.",
                hint="Suspend the lead, and admit the person under another id.",
            )
        if before.key != after.key:
            rotated = before.active and {before.key, after.key} <= self.signers
            if not rotated:
                self._officers_word(after)
            how = "signed with the old one" if rotated else f"by the officer of {before.member}"
            self._add(f"the lead {who} has a new key, {key_id(after.key)}, {how}", None if rotated else self._lead_vote)
        if before.name != after.name:
            self._officers_word(after)
            self._add(f"the lead {who} is now {after.name}", None)
        if before.state != after.state:
            taken = not after.active
            own = taken and self._officer_signed(before.member)
            by = f" by the officer of {before.member}" if own else ""
            self._add(
                f"the lead {who} is {'suspended' if taken else 'taken back'}{by}",
                None if own else LESS if taken else MORE,
            )

    def nodes(self) -> None:
        for entry in self.new.revoked:
            if entry not in self.old.revoked:
                own = self._officer_signed(entry.member)
                by = f" by the officer of {entry.member}" if own else ""
                self._add(f"the node {entry.node} of {entry.member} is revoked{by}", None if own else LESS)
        for entry in self.old.revoked:
            if entry not in self.new.revoked:
                self._add(f"the node {entry.node} of {entry.member} is taken back", MORE)

    def charter(self) -> None:
        before, after = self.old.charter, self.new.charter
        self._seat(before.coordinator, after.coordinator)
        if before != replace(after, coordinator=before.coordinator):
            words = [
                name
                for name in (
                    "tiers",
                    "quorums",
                    "halt",
                    "lease_seconds",
                    "base_policy",
                    "audience",
                    "leads_by",
                    "member_metrics",
                )
                if getattr(before, name) != getattr(after, name)
            ]
            self._add(f"the charter changes its {', '.join(words)}", "rules")

    def _seat(self, before: Seat, after: Seat) -> None:
        if before.log is not None and after.log is None:
            raise InvalidIdentity(
                "The charter does not name the key of the public log any more.",
                hint="It can be changed and never taken away: whoever reads the log would believe any key. Name one.",
            )
        if before.log != after.log and after.log is not None:
            again = " from now on; the log itself goes on" if before.log is not None else ""
            self._add(f"the public log is signed with the key {after.log}{again}", "coordinator")
        if before != replace(after, log=before.log):
            self._add(f"the coordinator is now {_place(after)}", "coordinator")

    def strangers(self) -> None:
        known = {member.officer_key for roll in (self.old, self.new) for member in roll.members}
        known |= {lead.key for roll in (self.old, self.new) for lead in roll.leads}
        if unknown := self.signers - known:
            raise InvalidIdentity(f"The roll is signed by a stranger: {key_id(min(unknown))}.")


def _tier_actions(before: Tier, after: Tier) -> tuple[Action, ...]:
    """What is gained is an admission, what is lost a suspension: of either kind there may be some."""
    gains = after.votes > before.votes or after.nodes > before.nodes or after.weight > before.weight
    losses = after.votes < before.votes or after.nodes < before.nodes or after.weight < before.weight
    return ((MORE,) if gains or not losses else ()) + ((LESS,) if losses else ())


def _place(seat: Seat) -> str:
    where = ", ".join(seat.addresses) or "wherever each node's ticket said"
    return f"{where}, CA {seat.ca.hex()[:16]}" if seat.ca is not None else where
