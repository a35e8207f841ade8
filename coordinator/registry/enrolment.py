"""One-time tickets and the certificates that they buy."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from coordinator.registry.authority import Authority
from coordinator.store.database import Database, NodeRow, TicketRow
from federation.errors import InvalidIdentity, InvalidUsage, NotFound, ProtocolViolation
from federation.governance.history import succeeds
from federation.identity.credential import NodeCredential, verify_credential
from federation.identity.envelope import open_envelope
from federation.identity.fields import moment_text
from federation.identity.keys import public_of
from federation.identity.names import checked_label
from federation.identity.roll import Roll
from federation.identity.transport import Principal, TransportKey

REFUSED_STATES = frozenset({"suspended", "revoked"})


@dataclass(frozen=True, slots=True)
class Joined:
    certificate_pem: bytes
    roll: Roll


@dataclass(frozen=True, slots=True)
class Registry:
    """Nodes and their transport certificates. ``clock`` gives seconds since 1970."""

    database: Database
    authority: Authority
    lifetime: timedelta
    clock: Callable[[], float]

    def roll(self) -> Roll:
        """Raises NotFound when no roll was founded yet."""
        with self.database.transaction() as change:
            envelope = change.roll()
        if envelope is None:
            raise NotFound(
                "The federation is not founded yet: there is no membership roll.",
                hint="concord-coordinator found --home DIR --roll roll.json",
            )
        return _opened(envelope)

    def found(self, envelope: bytes) -> Roll:
        """Takes the members' signed roll, or its history, where the federation goes on under another coordinator.

        Raises InvalidIdentity, or InvalidUsage for an older or other roll, or one whose charter names another CA.
        """
        roll = Roll.open(envelope)
        if roll.federation != self.authority.federation:
            raise InvalidUsage(
                f"The roll is of {roll.federation}, this coordinator serves {self.authority.federation}."
            )
        named = roll.charter.coordinator.ca
        if named is not None and named != self.authority.fingerprint:
            raise InvalidUsage(
                f"The members' charter names another coordinator's CA ({named.hex()[:16]}) than this one's "
                f"({self.authority.fingerprint.hex()[:16]}).",
                hint="The members move the coordinator by vote: concord propose coordinator.",
            )
        with self.database.transaction() as change:
            present = change.roll()
            if present == envelope:
                return roll
            if present is not None:
                self._check_follows(Roll.open(present), roll)
            change.set_roll(envelope)
            kind = "founding" if present is None else "charter"
            change.audit(self.clock(), kind, f"federation={roll.federation} version={roll.version}", envelope)
        return roll

    @staticmethod
    def _check_follows(present: Roll, roll: Roll) -> None:
        try:
            newer = succeeds(present, roll)
        except (InvalidIdentity, ProtocolViolation) as error:
            raise InvalidUsage(
                f"This coordinator holds another roll: {error.message}", hint="Only the members can change the roll."
            ) from error
        if not newer:
            raise InvalidUsage("This coordinator holds this roll already.")

    def credential(self, member: str, node: str) -> NodeCredential:
        """Of an enrolled node, good under the roll and today. Raises NotFound, InvalidIdentity."""
        with self.database.transaction() as change:
            row = change.node(member, node)
        if row is None:
            raise NotFound("The node is not enrolled.")
        return verify_credential(row.credential, self.roll(), datetime.fromtimestamp(self.clock(), UTC))

    def ticket(self, principal: Principal, address: str, hours: float) -> bytes:
        """A one-time ticket (JSON): a token, and a certificate that opens Enrolment.Join and nothing else."""
        roll = self.roll()
        if principal.kind == "node":
            roll.require_node(principal.member)
        elif principal.kind == "lead":
            roll.require_lead(principal.name)
        elif principal.kind == "officer":
            roll.member(principal.name)
        identifier, token = secrets.token_hex(16), secrets.token_urlsafe(32)
        now = datetime.fromtimestamp(self.clock(), UTC)
        expires = now + timedelta(hours=hours)
        key = TransportKey.generate()
        certificate = self.authority.issue_for(
            key.private.public_key(), Principal("ticket", name=identifier), now, timedelta(hours=hours)
        )
        row = TicketRow(
            identifier, principal.kind, principal.member, principal.node, principal.name,
            _hash(token), expires.timestamp(), None,
        )  # fmt: skip
        with self.database.transaction() as change:
            change.add_ticket(row)
            change.audit(self.clock(), "ticket", f"{principal.kind} {principal.member}{principal.node}{principal.name}")
        subject = {"kind": principal.kind, "member": principal.member, "node": principal.node}
        if principal.kind != "node":
            subject = {"kind": principal.kind, principal.kind: principal.name}
        document = {
            "federation": self.authority.federation,
            "address": address,
            "caPem": self.authority.certificate_pem.decode(),
            "ticketId": identifier,
            "token": token,
            "certificatePem": certificate.decode(),
            "keyPem": key.to_pem().decode(),
            "expires": moment_text(expires),
            "subject": subject,
        }
        return json.dumps(document, indent=1).encode() + b"\n"

    def join(self, caller: Principal, ticket_id: str, token: str, csr_pem: bytes, credential: bytes) -> Joined:
        """Raises InvalidIdentity when the ticket is foreign, spent or expired, or the credential is not the member's."""
        roll = self.roll()
        now = self.clock()
        with self.database.transaction() as change:
            row = change.ticket(ticket_id)
            if row is None or caller.name != ticket_id or not hmac.compare_digest(row.token_hash, _hash(token)):
                raise InvalidIdentity(
                    "The ticket is not one of this coordinator.", hint="Ask its operator for a new one."
                )
            if row.expires < now:
                raise InvalidIdentity("The ticket has expired.", hint="Ask the coordinator's operator for a new one.")
            principal = Principal(row.kind, row.member, row.node, row.name)
            if row.kind == "node":
                self._check_credential(roll, credential, principal, now)
                known = change.node(row.member, row.node)
                if known is not None and known.state in REFUSED_STATES:
                    raise InvalidIdentity(
                        f"The node {row.node} of {row.member} is {known.state}.",
                        hint="Ask the coordinator's operator why.",
                    )
            certificate = self.authority.issue(csr_pem, principal, datetime.fromtimestamp(now, UTC), self.lifetime)
            if not change.use_ticket(ticket_id, now):
                raise InvalidIdentity(
                    "The ticket was used before; each is good for one enrolment.",
                    hint="Ask the coordinator's operator for a new one. If you did not use it, somebody else did: tell them.",
                )
            if row.kind == "node":
                change.put_node(NodeRow(row.member, row.node, credential, "enrolled", now))
            said = (
                f"node {row.member} {row.node}" if row.kind == "node" else row.kind
            )  # who else came is a person's name
            change.audit(now, "enrolment", said, credential if row.kind == "node" else b"")
        return Joined(certificate, roll)

    def renew(self, caller: Principal, csr_pem: bytes) -> bytes:
        """A fresh certificate in the caller's own name. Raises InvalidIdentity when the node is suspended or gone."""
        self.admit(caller)
        return self.authority.issue(csr_pem, caller, datetime.fromtimestamp(self.clock(), UTC), self.lifetime)

    def admit(self, caller: Principal) -> None:
        """Raises InvalidIdentity when this principal may not use the coordinator (any more)."""
        if caller.federation != self.authority.federation:
            raise InvalidIdentity(
                "The certificate is of another federation.", hint="Use the home that logged in to this federation."
            )
        roll = self.roll()
        if caller.kind == "lead":
            roll.require_lead(caller.name)
        elif caller.kind == "officer":
            roll.member(
                caller.name
            )  # also of a member that is suspended: it may read, and what it signs does not count
        elif caller.kind == "node":
            with self.database.transaction() as change:
                row = change.node(caller.member, caller.node)
            if row is None or row.state in REFUSED_STATES:
                raise InvalidIdentity(
                    f"The node {caller.node} of {caller.member} is not enrolled, or was suspended.",
                    hint="Ask the coordinator's operator; a node enrols with a ticket and `concord-node join`.",
                )
            self.roll().require_node(caller.member, identity_of(row.credential))

    @staticmethod
    def _check_credential(roll: Roll, credential: bytes, principal: Principal, now: float) -> None:
        verified = verify_credential(credential, roll, datetime.fromtimestamp(now, UTC))
        if (verified.member, verified.node) != (principal.member, principal.node):
            raise InvalidIdentity(
                f"The ticket is for node {principal.node} of {principal.member}, "
                f"the credential for {verified.node} of {verified.member}."
            )


def principal_for(member: str, node: str, lead: str, operator: str, officer: str = "") -> Principal:
    """Who a ticket is for, from a command's options. Raises InvalidUsage unless it is exactly one."""
    if member and node and not (lead or operator or officer):
        return Principal("node", checked_label(member, "member"), checked_label(node, "node"))
    people = {"lead": lead, "operator": operator, "officer": officer}
    named = {kind: name for kind, name in people.items() if name}
    if len(named) == 1 and not (member or node):
        kind, name = next(iter(named.items()))
        return Principal(kind, name=checked_label(name, "member" if kind == "officer" else kind))
    raise InvalidUsage(
        "A ticket is for one node, lead, officer or operator.",
        hint="Give --member and --node, or --lead, or --officer, or --operator.",
    )


def state_of(row: NodeRow, roll: Roll) -> str:
    """enrolled | active | suspended | revoked: what the roll says comes first."""
    if roll.node_revoked(row.member, identity_of(row.credential)):
        return "revoked"
    member = roll.member(row.member)
    return row.state if member.active and roll.tier_of(member).nodes else "suspended"


@lru_cache(maxsize=4096)
def identity_of(credential: bytes) -> bytes:
    """The identity key in a credential that was verified when its node enrolled."""
    return public_of(open_envelope(credential, "node-credential").document["identityKey"])


@lru_cache(maxsize=4)
def _opened(envelope: bytes) -> Roll:
    """Checking every member's signature takes milliseconds, and the same bytes are the same roll."""
    return Roll.open(envelope)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
