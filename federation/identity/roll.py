"""The membership roll: who the members and leads are, and the charter that binds them. Nobody but the members can change it.

A federation is founded by a roll that every member on it has signed. Each later roll names the one before it (``previous``) and
holds only with what the charter of that one asks for (``federation.governance.amendment``). ``Roll.open`` takes a founding roll,
or a history: a founding roll and each change with its decision. It checks all of it, and gives the newest roll.

Members and leads are never taken off a roll: they are suspended. So what they once signed can be verified for ever.
A roll that was written before there were charters has none: ``Charter.standard()`` holds for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from federation.audit.checkpoint import origin_of
from federation.errors import InvalidIdentity
from federation.governance.charter import Charter, Tier, read_charter
from federation.identity.envelope import Opened, open_envelope, seal
from federation.identity.fields import exact, hexadecimal, whole
from federation.identity.keys import key_id, public_of
from federation.identity.names import checked_jurisdiction, checked_label, checked_title
from federation.identity.signer import Signer

MIN_MEMBERS: Final = 3
MAX_MEMBERS: Final = 1000
MAX_REVOKED: Final = 10_000
DIGEST_BYTES: Final = 32
HISTORY_BEGINS: Final = b'{"amendments":'
"""canonical JSON of a history; an envelope begins with its payload"""

State = Literal["active", "suspended"]


@dataclass(frozen=True, slots=True)
class RollMember:
    id: str
    name: str
    jurisdiction: str
    officer_key: bytes
    """Ed25519 public key of the member's officer, who signs its nodes and its votes"""
    tier: str = "member"
    state: State = "active"

    @property
    def active(self) -> bool:
        return self.state == "active"


@dataclass(frozen=True, slots=True)
class RollLead:
    id: str
    member: str
    name: str
    key: bytes
    state: State = "active"

    @property
    def active(self) -> bool:
        return self.state == "active"


@dataclass(frozen=True, slots=True, order=True)
class RevokedNode:
    """This identity key is no node of this member any more, whatever credential names it."""

    member: str
    node: str
    key: bytes


@dataclass(frozen=True, slots=True)
class Roll:
    federation: str
    version: int
    members: tuple[RollMember, ...]
    leads: tuple[RollLead, ...]
    digest: bytes
    """SHA-256 of the payload of this version"""
    envelope: bytes = field(repr=False)
    """what ``Roll.open`` read, verbatim: a founding roll, or a history up to this version. Of a past one: it alone"""
    charter: Charter = field(default_factory=Charter.standard, repr=False)
    previous: bytes = b""
    """digest of the roll that this one follows; empty for a founding roll"""
    revoked: tuple[RevokedNode, ...] = ()
    past: tuple[Roll, ...] = field(default=(), repr=False, compare=False)
    """the rolls before this one, oldest first"""

    @staticmethod
    def open(data: bytes) -> Roll:
        """The newest roll of a founding roll or a history. Raises InvalidIdentity unless every step of it is valid."""
        if data.startswith(HISTORY_BEGINS):
            from federation.governance.history import open_history  # it needs this module

            return open_history(data)
        return open_founding(data)

    def member(self, identifier: str) -> RollMember:
        """Whatever its state. Raises InvalidIdentity when there is no such member."""
        for member in self.members:
            if member.id == identifier:
                return member
        raise InvalidIdentity(
            f"{identifier!r} is not a member on the roll.", hint="Only the members can change the roll."
        )

    def lead(self, identifier: str) -> RollLead:
        """Whatever its state. Raises InvalidIdentity when there is no such lead."""
        for lead in self.leads:
            if lead.id == identifier:
                return lead
        raise InvalidIdentity(
            f"{identifier!r} is not a lead on the roll.", hint="Only the members can change the roll."
        )

    def lead_of_key(self, key: bytes) -> RollLead | None:
        return next((lead for lead in self.leads if lead.key == key), None)

    def tier_of(self, member: RollMember) -> Tier:
        return self.charter.tier(member.tier)

    @property
    def voters(self) -> Mapping[str, int]:
        """The weight of each member that has a vote now, by id."""
        votes = ((member, self.tier_of(member)) for member in self.members if member.active)
        return {member.id: tier.weight for member, tier in votes if tier.votes}

    def node_revoked(self, member: str, key: bytes) -> bool:
        return any((entry.member, entry.key) == (member, key) for entry in self.revoked)

    def require_node(self, member: str, key: bytes | None = None) -> RollMember:
        """The member, if it may have nodes now, and this node of it. Raises InvalidIdentity that says why not."""
        found = self.member(member)
        if not found.active:
            raise InvalidIdentity(
                f"The member {member} is suspended by the roll, version {self.version}.",
                hint="The members suspended it by vote, and by vote they take it back: concord roll show.",
            )
        if not self.tier_of(found).nodes:
            raise InvalidIdentity(
                f"The member {member} has no nodes: its tier is {found.tier}.",
                hint="The charter says which tiers have nodes: concord charter show.",
            )
        if key is not None and self.node_revoked(member, key):
            raise InvalidIdentity(
                f"This node of {member} is revoked by the roll, version {self.version}.",
                hint="Make a new key for the node, and have the member's officer sign it.",
            )
        return found

    def put_out_since(self, digest: bytes, member: str, key: bytes) -> str:
        """Why this node was no node of the federation under this roll, or under one since the roll of that digest; empty: it always
        was. Of a digest that is not in this line only this roll is asked."""
        line = (*self.past, self)
        since = next((place for place, roll in enumerate(line) if roll.digest == digest), len(line) - 1)
        for roll in line[since:]:
            try:
                roll.require_node(member, key)
            except InvalidIdentity as error:
                return error.message
        return ""

    def require_lead(self, identifier: str) -> RollLead:
        """The lead, if it may submit jobs now. Raises InvalidIdentity that says why not."""
        lead = self.lead(identifier)
        suspended = lead.id if not lead.active else lead.member if not self.member(lead.member).active else ""
        if suspended:
            who = f"the lead {lead.id}" if suspended == lead.id and not lead.active else f"{lead.member}, its member,"
            raise InvalidIdentity(
                f"The lead {lead.id} may submit no job: {who} is suspended by the roll, version {self.version}.",
                hint="The members suspended it, and by vote they take it back: concord roll show.",
            )
        return lead

    @property
    def line(self) -> Mapping[int, bytes]:
        """The digest of each version, this one included."""
        return {roll.version: roll.digest for roll in (*self.past, self)}

    def of_digest(self, digest: bytes) -> Roll:
        """This roll or one before it. Raises InvalidIdentity when there was none with this digest."""
        for roll in (self, *reversed(self.past)):
            if roll.digest == digest:
                return roll
        raise InvalidIdentity(
            f"No roll of {self.federation} up to version {self.version} has the digest {digest.hex()[:16]}.",
            hint="It may be newer than the roll that you hold, or of another federation.",
        )


def open_founding(envelope: bytes) -> Roll:
    """Valid only with the signature of every member's officer that it lists, and no other. Raises InvalidIdentity."""
    roll, signers = open_draft(envelope)
    if roll.previous:
        raise InvalidIdentity(
            f"This is version {roll.version} of the roll alone, and it follows another.",
            hint="It is valid only with the rolls and decisions before it: take the whole history.",
        )
    for member in roll.members:
        if member.officer_key not in signers:
            raise InvalidIdentity(
                f"The membership roll is not signed by {member.id} ({member.name}).",
                hint="Every founding member signs it: concord roll sign --home OFFICER --roll roll.json.",
            )
    strangers = set(signers) - {member.officer_key for member in roll.members}
    if strangers:
        raise InvalidIdentity(f"The membership roll is signed by a stranger: {key_id(min(strangers))}.")
    states = [member.state for member in roll.members] + [lead.state for lead in roll.leads]
    if roll.revoked or "suspended" in states:
        raise InvalidIdentity("A federation is founded with members and leads in good standing, and no revoked nodes.")
    return roll


def open_draft(envelope: bytes) -> tuple[Roll, tuple[bytes, ...]]:
    """A roll that may still lack signatures or its decision, with the keys that signed it. Raises InvalidIdentity."""
    opened = open_envelope(envelope, "roll")
    roll = _read(opened, envelope) if "charter" in opened.document else _read_without_charter(opened, envelope)
    _check(roll)
    return roll, opened.signers


def _read(opened: Opened, envelope: bytes) -> Roll:
    document = exact(
        opened.document, "membership roll",
        "federation", "version", "previous", "members", "leads", "revoked", "charter",
    )  # fmt: skip
    previous = document["previous"]
    return Roll(
        federation=checked_label(document["federation"], "federation"),
        version=whole(document["version"], "roll's version", low=1),
        members=tuple(_member(item) for item in _list(document["members"], "members")),
        leads=tuple(_lead(item) for item in _list(document["leads"], "leads")),
        digest=opened.digest,
        envelope=envelope,
        charter=read_charter(document["charter"]),
        previous=b"" if previous is None else hexadecimal(previous, "roll's previous", DIGEST_BYTES),
        revoked=tuple(_revoked(item) for item in _list(document["revoked"], "revoked nodes", MAX_REVOKED)),
    )


def _read_without_charter(opened: Opened, envelope: bytes) -> Roll:
    document = exact(opened.document, "membership roll", "federation", "version", "members", "leads")
    return Roll(
        federation=checked_label(document["federation"], "federation"),
        version=whole(document["version"], "roll's version", low=1),
        members=tuple(_card_of_member(item) for item in _list(document["members"], "members")),
        leads=tuple(_card_of_lead(item) for item in _list(document["leads"], "leads")),
        digest=opened.digest,
        envelope=envelope,
    )


def draft_roll(
    federation: str,
    version: int,
    members: Sequence[RollMember],
    leads: Sequence[RollLead],
    charter: Charter | None = None,
    previous: bytes = b"",
    revoked: Sequence[RevokedNode] = (),
) -> dict[str, Any]:
    """The document to sign, sorted. No ``charter``: the standard one is written into it.

    Raises InvalidIdentity for duplicates, strangers, fewer than three members, or nobody who has a vote.
    """
    document = {
        "federation": federation,
        "version": version,
        "previous": previous.hex() or None,
        "members": [
            {**_member_entry(member), "tier": member.tier, "state": member.state}
            for member in sorted(members, key=lambda member: member.id)
        ],
        "leads": [{**_lead_entry(lead), "state": lead.state} for lead in sorted(leads, key=lambda lead: lead.id)],
        "revoked": [
            {"member": entry.member, "node": entry.node, "key": key_id(entry.key)} for entry in sorted(revoked)
        ],
        "charter": (charter or Charter.standard()).as_document(),
    }
    open_draft(seal(document, "roll", ()))
    return document


def member_card(member: RollMember, officer: Signer) -> bytes:
    """What a member hands to whoever drafts the roll: its entry, signed by its officer."""
    return seal(_member_entry(member), "member-card", (officer,))


def open_member_card(envelope: bytes) -> RollMember:
    """Raises InvalidIdentity unless the card is signed by the key that it names."""
    opened = open_envelope(envelope, "member-card", 1 << 16)
    member = _card_of_member(opened.document)
    opened.require(member.officer_key, f"the officer of {member.id}")
    return member


def lead_card(lead: RollLead, key: Signer) -> bytes:
    """What a lead hands to whoever drafts the roll: its entry, signed with its key."""
    return seal(_lead_entry(lead), "lead-card", (key,))


def open_lead_card(envelope: bytes) -> RollLead:
    """Raises InvalidIdentity unless the card is signed by the key that it names."""
    opened = open_envelope(envelope, "lead-card", 1 << 16)
    lead = _card_of_lead(opened.document)
    opened.require(lead.key, f"the lead {lead.id}")
    return lead


def _list(value: object, what: str, most: int = MAX_MEMBERS) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise InvalidIdentity(f"The roll's {what} are not a list of at most {most}.")
    return value


def _member_entry(member: RollMember) -> dict[str, Any]:
    return {
        "id": member.id,
        "name": member.name,
        "jurisdiction": member.jurisdiction,
        "officerKey": key_id(member.officer_key),
    }


def _lead_entry(lead: RollLead) -> dict[str, Any]:
    return {"id": lead.id, "member": lead.member, "name": lead.name, "key": key_id(lead.key)}


def _card_of_member(item: object) -> RollMember:
    return _member_of(exact(item, "member's entry", "id", "name", "jurisdiction", "officerKey"))


def _member(item: object) -> RollMember:
    entry = exact(item, "member's entry", "id", "name", "jurisdiction", "officerKey", "tier", "state")
    return _member_of(entry, checked_label(entry["tier"], "tier"), _state(entry["state"]))


def _member_of(entry: Mapping[str, Any], tier: str = "member", state: State = "active") -> RollMember:
    return RollMember(
        id=checked_label(entry["id"], "member"),
        name=checked_title(entry["name"], "member's name"),
        jurisdiction=checked_jurisdiction(entry["jurisdiction"]),
        officer_key=public_of(entry["officerKey"]),
        tier=tier,
        state=state,
    )


def _card_of_lead(item: object) -> RollLead:
    return _lead_of(exact(item, "lead's entry", "id", "member", "name", "key"))


def _lead(item: object) -> RollLead:
    entry = exact(item, "lead's entry", "id", "member", "name", "key", "state")
    return _lead_of(entry, _state(entry["state"]))


def _lead_of(entry: Mapping[str, Any], state: State = "active") -> RollLead:
    return RollLead(
        id=checked_label(entry["id"], "lead"),
        member=checked_label(entry["member"], "member"),
        name=checked_title(entry["name"], "lead's name"),
        key=public_of(entry["key"]),
        state=state,
    )


def _state(value: object) -> State:
    if value == "active":
        return "active"
    if value == "suspended":
        return "suspended"
    raise InvalidIdentity("The roll's state of a member or lead is neither active nor suspended.")


def _revoked(item: object) -> RevokedNode:
    entry = exact(item, "revoked node's entry", "member", "node", "key")
    return RevokedNode(
        checked_label(entry["member"], "member"), checked_label(entry["node"], "node"), public_of(entry["key"])
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
    if list(roll.revoked) != sorted(set(roll.revoked)):
        raise InvalidIdentity("The membership roll's revoked nodes are not sorted, or one is there twice.")
    for entry in roll.revoked:
        if entry.member not in identifiers:
            raise InvalidIdentity(f"The revoked node {entry.node} belongs to {entry.member}, which is not on the roll.")
    for member in roll.members:
        roll.tier_of(member)
    log = roll.charter.coordinator.log
    if log is not None and log.name != origin_of(roll.federation):
        raise InvalidIdentity(
            f"The charter names the public log {log.name}, and that of {roll.federation} is {origin_of(roll.federation)}.",
            hint="Take the line from log.key.pub of this federation's coordinator.",
        )
    if not roll.voters:
        raise InvalidIdentity(
            "Nobody on the membership roll has a vote: it could never be changed.",
            hint="The charter says which tiers vote; at least one member in good standing is of such a tier.",
        )
