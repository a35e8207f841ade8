"""Members that decide, in memory: their officers' keys, the roll that they founded, and what each signs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from federation.governance.amendment import changes_of, needed
from federation.governance.ballot import decision_bytes
from federation.governance.charter import Action, Charter
from federation.governance.history import extended
from federation.governance.proposal import Choice, Proposal, Vote, open_proposal, seal_proposal, seal_vote
from federation.identity.envelope import open_envelope, seal
from federation.identity.keys import SigningKey
from federation.identity.roll import RevokedNode, Roll, RollLead, RollMember, draft_roll, open_draft

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WEEK = timedelta(days=7)


def key(name: str) -> SigningKey:
    """The same one for the same name, so that a failed example can be run again."""
    return _KEYS.setdefault(name, SigningKey.generate())


_KEYS: dict[str, SigningKey] = {}


@dataclass(frozen=True)
class Federation:
    roll: Roll
    keys: Mapping[str, SigningKey] = field(repr=False)
    """of officers and leads, by id"""

    def draft(self, **changes: object) -> dict[str, object]:
        """The next roll, with these fields of ``draft_roll`` instead of what stands now."""
        old = self.roll
        fields = {
            "members": old.members, "leads": old.leads, "charter": old.charter, "revoked": old.revoked,
            "previous": old.digest, "version": old.version + 1, "federation": old.federation, **changes,
        }  # fmt: skip
        return draft_roll(**fields)  # type: ignore[arg-type]

    def signed(self, *by: SigningKey, **changes: object) -> bytes:
        return seal(self.draft(**changes), "roll", by)

    def actions(self, envelope: bytes) -> frozenset[Action]:
        draft, signers = open_draft(envelope)
        return needed(changes_of(self.roll, draft, signers))

    def proposed(self, action: Action, subject: bytes, by: str = "br", title: str = "A question") -> bytes:
        proposal = Proposal(
            self.roll.federation, action, subject, self.roll.digest, title, NOON, NOON + WEEK, bytes(16)
        )
        return seal_proposal(proposal, self.keys[by])

    def cast(self, proposal: bytes, who: str, choice: Choice = "yes", when: datetime = NOON) -> bytes:
        return seal_vote(Vote(open_envelope(proposal, "proposal").digest, choice, "", when), self.keys[who])

    def decided(self, action: Action, subject: bytes, yes: Iterable[str], by: str = "br") -> bytes:
        proposal = self.proposed(action, subject, by)
        return decision_bytes(proposal, [self.cast(proposal, who) for who in yes])

    def amended(self, yes: Sequence[str], action: Action, *by: SigningKey, **changes: object) -> Federation:
        envelope = self.signed(*by, **changes)
        decision = self.decided(action, open_envelope(envelope, "roll").digest, yes) if yes else None
        return replace(self, roll=extended(self.roll, envelope, decision))

    def open(self, proposal: bytes) -> Proposal:
        return open_proposal(proposal, self.roll)

    def member(self, identifier: str, **changes: object) -> tuple[RollMember, ...]:
        """All members, this one changed."""
        return tuple(
            replace(each, **changes) if each.id == identifier else each  # type: ignore[arg-type]
            for each in self.roll.members
        )

    def lead(self, identifier: str, **changes: object) -> tuple[RollLead, ...]:
        return tuple(
            replace(each, **changes) if each.id == identifier else each  # type: ignore[arg-type]
            for each in self.roll.leads
        )


def founded(
    *members: str, charter: Charter | None = None, tiers: Mapping[str, str] | None = None, version: int = 1
) -> Federation:
    ids = members or ("br", "fr", "in", "jp", "ke")
    keys = {who: key(who) for who in (*ids, "ana")}
    listed = [entry(who, (tiers or {}).get(who, "member")) for who in ids]
    document = draft_roll("atlas", version, listed, [RollLead("ana", ids[0], "Ana", keys["ana"].public)], charter)
    return Federation(Roll.open(seal(document, "roll", [keys[who] for who in ids])), keys)


def entry(who: str, tier: str = "member") -> RollMember:
    return RollMember(who, f"Laboratory {who}", who[:2].upper(), key(who).public, tier)


def revoked(member: str, node: str = "1") -> RevokedNode:
    return RevokedNode(member, f"{member}-{node}", key(f"node {member}-{node}").public)
