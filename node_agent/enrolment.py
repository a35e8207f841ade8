"""Making a node's home, and entering the federation. Either everything is stored, or nothing."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from federation.errors import InvalidIdentity, InvalidUsage, ProtocolViolation
from federation.governance.history import succeeds
from federation.identity.credential import NodeCredential, node_request, verify_credential
from federation.identity.fields import moment
from federation.identity.keys import SigningKey, key_id
from federation.identity.names import checked_label
from federation.identity.roll import Roll
from federation.identity.transport import Principal, TransportKey, fingerprint_of, make_csr, principal_of, uri_of
from federation.route import route_to
from node_agent.link import enrolment as wire
from node_agent.link.channel import Credentials
from node_agent.membership import ROLL_LIMIT
from node_agent.settings import Home, NodeSettings, settings_bytes
from node_agent.store.files import private_folder, write_together
from node_agent.witness.notebook import checked_key, key_file

FILE_LIMIT = 1 << 20

POLICY = """\
# What this node may take part in. A rule that is left out denies; docs/reference/policy.md has the vocabulary.
apiVersion: concord/v1
kind: NodePolicy
rules: {}
#  leads: [alice]                  # research leads whose jobs may run here
#  jurisdictions: [FR, KE, BR]     # where the lead and all other members may come from
#  dataSets: [scans]               # data sets of this node that jobs may use
#  minimumCohort: 4                # no sum of fewer members
#  figures: [loss, accuracy]       # metrics that may leave as exact sums; no counts
sandbox: required                  # or optional: tasks may run without one where none is to be had
"""


@dataclass(frozen=True, slots=True)
class Ticket:
    federation: str
    subject: Principal
    address: str
    ca_pem: bytes
    id: str
    token: str = field(repr=False)
    certificate_pem: bytes
    key_pem: bytes = field(repr=False)


def initialise(home: Home, *, federation: str, member: str, node: str, out: Path) -> str:
    """Keys, settings, a policy that denies all, and the request for the officer; the identity key's id.

    Raises InvalidUsage when the home exists, or cannot be written.

    node.yaml comes last: where it is missing, a second call goes on with the keys and the policy that are there.
    """
    for value, what in ((federation, "federation"), (member, "member"), (node, "node")):
        checked_label(value, what)
    if home.settings_file.exists():
        raise InvalidUsage(f"{home.root} is a node's home already.", hint="Nothing was changed. Use another folder.")
    fresh = {
        home.identity_key: SigningKey.generate().to_pem(),
        home.transport_key: TransportKey.generate().to_pem(),
        home.policy_file: POLICY.encode(),
    }
    try:
        for folder in (home.root, home.identity_key.parent, home.jobs):
            private_folder(folder)
        write_together({path: data for path, data in fresh.items() if not path.exists()})
        identity = SigningKey.from_pem(home.read(home.identity_key))
        out.parent.mkdir(parents=True, exist_ok=True)
        write_together({out: node_request(federation, member, node, identity)}, mode=0o644)
        home.save(NodeSettings(member=member, node=node, federation=federation))
    except OSError as error:
        raise InvalidUsage(
            f"{error.filename2 or error.filename or home.root} cannot be written: {error.strerror}.",
            hint="Name a place that you may write, and run it again: keys that were made are kept.",
        ) from error
    return key_id(identity.public)


def join(home: Home, *, ticket_file: Path, credential_file: Path, roll_file: Path | None) -> str:
    """Enters the federation; returns the route that was taken. Raises InvalidIdentity when anything does not fit.

    All that needs no coordinator is checked before the ticket is used. node.yaml comes last: until it names the coordinator, the
    node has not joined.
    """
    settings = home.settings()
    ticket = read_ticket(ticket_file)
    if ticket.federation != settings.federation:
        raise InvalidIdentity(
            f"The ticket is for {ticket.federation}, and this node is of {settings.federation}.",
            hint="Use the ticket of this node's federation. The ticket was not used.",
        )
    credential = _read(credential_file, "credential")
    transport = TransportKey.from_pem(home.read(home.transport_key))
    principal = Principal("node", settings.member, settings.node)
    if ticket.subject != principal:
        raise InvalidIdentity(
            f"The ticket is not for node {settings.node} of {settings.member}.",
            hint="Ask the coordinator's operator for this node's own. The ticket was not used.",
        )
    route = route_to(ticket.address, os.environ)
    credentials = Credentials(ticket.federation, ticket.ca_pem, ticket.certificate_pem, ticket.key_pem)
    given = Roll.open(_read(roll_file, "roll", ROLL_LIMIT)) if roll_file is not None else None
    if given is not None:
        check_credential(home, credential, given, settings)
    csr = make_csr(transport, uri_of(principal, settings.federation))
    joined = asyncio.run(wire.join(route, credentials, ticket.id, ticket.token, csr, credential))
    roll = Roll.open(joined.roll)
    held = Roll.open(home.read(home.roll, ROLL_LIMIT)) if home.roll.exists() else None
    for known in (held, given):
        if known is not None:
            check_continues(known, roll)
    named = roll.charter.coordinator.ca
    if named is not None and named != fingerprint_of(ticket.ca_pem):
        raise InvalidIdentity(
            "The ticket is from another coordinator than the one that the members' charter names.",
            hint="Nothing was stored. Ask your member's officer where the members have put the coordinator.",
        )
    check_credential(home, credential, roll, settings)
    check_certificate(joined.certificate_pem, transport, settings)
    log_key = {}
    if joined.log_key:
        key = checked_key(home.witness, roll, joined.log_key)
        if not (home.witness / "head").exists():  # what a head is signed with changes with the next head
            log_key = {key_file(private_folder(home.witness)): f"{key}\n".encode()}
    write_together(
        {
            **log_key,
            home.credential: credential,
            home.roll: roll.envelope,
            home.ca: ticket.ca_pem,
            home.transport_certificate: joined.certificate_pem,
            home.settings_file: settings_bytes(settings.model_copy(update={"address": ticket.address})),
        }
    )
    return route.sentence


def check_credential(
    home: Home, envelope: bytes, roll: Roll, settings: NodeSettings, *, standing: bool = True
) -> NodeCredential:
    """The credential is this node's, by this member's officer on the roll, for this identity key. Raises InvalidIdentity."""
    if roll.federation != settings.federation:
        raise InvalidIdentity(
            f"The roll is of {roll.federation}, and this node is of {settings.federation}.",
            hint="Nothing was stored. Ask your member's officer for the roll of this node's federation.",
        )
    credential = verify_credential(envelope, roll, datetime.now(UTC), standing=standing)
    key = SigningKey.from_pem(home.read(home.identity_key))
    if (credential.member, credential.node, credential.identity_key) != (settings.member, settings.node, key.public):
        raise InvalidIdentity(
            f"The credential is for node {credential.node} of {credential.member}, not for this one.",
            hint="Have the officer sign this node's own request, the one that concord-node init wrote.",
        )
    return credential


def check_certificate(pem: bytes, key: TransportKey, settings: NodeSettings) -> None:
    """The transport certificate is for this node and its own transport key. Raises InvalidIdentity."""
    named = principal_of(pem)
    own = Principal("node", settings.member, settings.node, federation=settings.federation)
    try:
        fits = named == own and x509.load_pem_x509_certificate(pem).public_key() == key.private.public_key()
    except ValueError:
        fits = False
    if not fits:
        raise InvalidIdentity(
            "The coordinator issued a certificate for another node.", hint="Nothing was stored. Tell its operator."
        )


def check_continues(known: Roll, offered: Roll) -> None:
    """Raises InvalidIdentity unless ``offered`` is ``known`` or continues it: the chain of the members' decisions leads there."""
    try:
        succeeds(known, offered)
    except ProtocolViolation as error:
        raise InvalidIdentity(
            f"The coordinator has another membership roll than the one that you hold. {error.message}",
            hint="Nothing was stored. Ask your member's officer which roll is right; a coordinator cannot choose the members.",
        ) from error


def read_ticket(path: Path) -> Ticket:
    """Raises InvalidIdentity when it is no ticket, has expired, or may be read by others."""
    if path.exists() and path.stat().st_mode & 0o077:
        raise InvalidIdentity(
            f"Other users of this machine may read the ticket {path}.",
            hint=f"Run chmod 600 {path}; when others may have read it, ask the operator for a new one.",
        )
    try:
        document: Any = json.loads(_read(path, "ticket"))
        expires = moment(document["expires"], "ticket's expiry")
        subject = document["subject"]
        ticket = Ticket(
            federation=checked_label(document["federation"], "federation"),
            subject=Principal(str(subject["kind"]), str(subject.get("member", "")), str(subject.get("node", ""))),
            address=str(document["address"]),
            ca_pem=document["caPem"].encode(),
            id=str(document["ticketId"]),
            token=str(document["token"]),
            certificate_pem=document["certificatePem"].encode(),
            key_pem=document["keyPem"].encode(),
        )
    except (ValueError, KeyError, TypeError, AttributeError, InvalidIdentity) as error:
        raise InvalidIdentity(f"{path} is not a ticket.", hint="Ask the coordinator's operator for one.") from error
    if datetime.now(UTC) >= expires:
        raise InvalidIdentity(
            f"The ticket {path} expired on {expires:%Y-%m-%d %H:%M} UTC.",
            hint="Ask the coordinator's operator for a new one.",
        )
    return ticket


def _read(path: Path, what: str, limit: int = FILE_LIMIT) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise InvalidUsage(f"The {what} {path} cannot be read: {error.strerror}.", hint="Check the path.") from error
    if len(data) > limit:
        raise InvalidUsage(f"The {what} {path} is larger than {limit} bytes.")
    return data
