"""The membership roll: who the members and leads are, signed by every founding member. Nobody else can add one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from federation.errors import InvalidIdentity
from federation.identity.envelope import open_envelope, seal
from federation.identity.fields import exact, whole
from federation.identity.keys import SigningKey, key_id, public_of
from federation.identity.names import checked_jurisdiction, checked_label, checked_title

MIN_MEMBERS: Final = 3
MAX_MEMBERS: Final = 1000


@dataclass(frozen=True, slots=True)
class RollMember:
    id: str
    name: str
    jurisdiction: str
    officer_key: bytes
    """Ed25519 public key of the member's officer, who signs its nodes"""


@dataclass(frozen=True, slots=True)
class RollLead:
    id: str
    member: str
    name: str
    key: bytes


@dataclass(frozen=True, slots=True)
class Roll:
    federation: str
    version: int
    members: tuple[RollMember, ...]
    leads: tuple[RollLead, ...]
    digest: bytes
    envelope: bytes = field(repr=False)

    @staticmethod
    def open(envelope: bytes) -> Roll:
        """Valid only with the signature of every member's officer that it lists, and no other. Raises InvalidIdentity."""
        roll, signers = open_draft(envelope)
        for member in roll.members:
            if member.officer_key not in signers:
                raise InvalidIdentity(
                    f"The membership roll is not signed by {member.id} ({member.name}).",
                    hint="Every founding member signs it: concord roll sign --home OFFICER --roll roll.json.",
                )
        strangers = set(signers) - {member.officer_key for member in roll.members}
        if strangers:
            raise InvalidIdentity(f"The membership roll is signed by a stranger: {key_id(min(strangers))}.")
        return roll

    def member(self, identifier: str) -> RollMember:
        """Raises InvalidIdentity when there is no such member."""
        for member in self.members:
            if member.id == identifier:
                return member
        raise InvalidIdentity(
            f"{identifier!r} is not a member on the roll.", hint="Only the members can change the roll."
        )

    def lead(self, identifier: str) -> RollLead:
        """Raises InvalidIdentity when there is no such lead."""
        for lead in self.leads:
            if lead.id == identifier:
                return lead
        raise InvalidIdentity(
            f"{identifier!r} is not a lead on the roll.", hint="Only the members can change the roll."
        )

    def lead_of_key(self, key: bytes) -> RollLead | None:
        return next((lead for lead in self.leads if lead.key == key), None)


def open_draft(envelope: bytes) -> tuple[Roll, tuple[bytes, ...]]:
    """A roll that may still lack signatures, with the keys that signed it. Raises InvalidIdentity."""
    opened = open_envelope(envelope, "roll")
    document = exact(opened.document, "membership roll", "federation", "version", "members", "leads")
    roll = Roll(
        federation=checked_label(document["federation"], "federation"),
        version=whole(document["version"], "roll's version", low=1),
        members=tuple(_member(item) for item in _list(document["members"], "members")),
        leads=tuple(_lead(item) for item in _list(document["leads"], "leads")),
        digest=opened.digest,
        envelope=envelope,
    )
    _check(roll)
    return roll, opened.signers


def draft_roll(
    federation: str, version: int, members: Sequence[RollMember], leads: Sequence[RollLead]
) -> dict[str, Any]:
    """The document to sign, sorted by id. Raises InvalidIdentity for duplicates, strangers, or fewer than three members."""
    ordered = sorted(members, key=lambda member: member.id)
    document = {
        "federation": federation,
        "version": version,
        "members": [
            {"id": m.id, "name": m.name, "jurisdiction": m.jurisdiction, "officerKey": key_id(m.officer_key)}
            for m in ordered
        ],
        "leads": [
            {"id": lead.id, "member": lead.member, "name": lead.name, "key": key_id(lead.key)}
            for lead in sorted(leads, key=lambda lead: lead.id)
        ],
    }
    open_draft(seal(document, "roll", ()))
    return document


def member_card(member: RollMember, officer: SigningKey) -> bytes:
    """What a member hands to whoever drafts the roll: its entry, signed by its officer."""
    document = {
        "id": member.id,
        "name": member.name,
        "jurisdiction": member.jurisdiction,
        "officerKey": key_id(member.officer_key),
    }
    return seal(document, "member-card", (officer,))


def open_member_card(envelope: bytes) -> RollMember:
    """Raises InvalidIdentity unless the card is signed by the key that it names."""
    opened = open_envelope(envelope, "member-card", 1 << 16)
    member = _member(opened.document)
    opened.require(member.officer_key, f"the officer of {member.id}")
    return member


def lead_card(lead: RollLead, key: SigningKey) -> bytes:
    """What a lead hands to whoever drafts the roll: its entry, signed with its key."""
    return seal({"id": lead.id, "member": lead.member, "name": lead.name, "key": key_id(lead.key)}, "lead-card", (key,))


def open_lead_card(envelope: bytes) -> RollLead:
    """Raises InvalidIdentity unless the card is signed by the key that it names."""
    opened = open_envelope(envelope, "lead-card", 1 << 16)
    lead = _lead(opened.document)
    opened.require(lead.key, f"the lead {lead.id}")
    return lead


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > MAX_MEMBERS:
        raise InvalidIdentity(f"The roll's {what} are not a list of at most {MAX_MEMBERS}.")
    return value


def _member(item: object) -> RollMember:
    entry = exact(item, "member's entry", "id", "name", "jurisdiction", "officerKey")
    return RollMember(
        id=checked_label(entry["id"], "member"),
        name=checked_title(entry["name"], "member's name"),
        jurisdiction=checked_jurisdiction(entry["jurisdiction"]),
        officer_key=public_of(entry["officerKey"]),
    )


def _lead(item: object) -> RollLead:
    entry = exact(item, "lead's entry", "id", "member", "name", "key")
    return RollLead(
        id=checked_label(entry["id"], "lead"),
        member=checked_label(entry["member"], "member"),
        name=checked_title(entry["name"], "lead's name"),
        key=public_of(entry["key"]),
    )


def _check(roll: Roll) -> None:
    if len(roll.members) < MIN_MEMBERS:
        raise InvalidIdentity(
            f"A federation needs at least {MIN_MEMBERS} members; the roll lists {len(roll.members)}.",
            hint="With fewer, a sum would show a member's own update to another.",
        )
    identifiers = [member.id for member in roll.members]
    leads = [lead.id for lead in roll.leads]
    keys = [member.officer_key for member in roll.members] + [lead.key for lead in roll.leads]
    for values, what in ((identifiers, "member"), (leads, "lead"), (keys, "key")):
        if len(set(values)) != len(values):
            raise InvalidIdentity(f"The membership roll lists a {what} twice.")
    if identifiers != sorted(identifiers) or leads != sorted(leads):
        raise InvalidIdentity("The membership roll is not sorted by id.")
    for lead in roll.leads:
        if lead.member not in identifiers:
            raise InvalidIdentity(f"The lead {lead.id} belongs to {lead.member}, which is not on the roll.")
