"""Logging in: a one-time ticket becomes a short-lived transport certificate, renewed while it is valid.

The certificate carries a connection and nothing else. Whether a lead may submit is decided by the key on the members' roll.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from cryptography import x509

from coordinator.client.channel import UNARY_SECONDS, Endpoint, open_channel, spoken_errors
from coordinator.client.files import read_secret
from coordinator.client.home import Home, check_seat
from federation.errors import FederationError, InvalidIdentity, InvalidUsage
from federation.identity.fields import moment
from federation.identity.roll import Roll
from federation.identity.transport import Principal, TransportKey, make_csr, principal_of, principal_of_uri, uri_of
from federation.v1 import enrolment_pb2, enrolment_pb2_grpc


@dataclass(frozen=True, slots=True)
class Ticket:
    id: str
    token: str = field(repr=False)
    endpoint: Endpoint
    principal: Principal
    expires: datetime


@dataclass(frozen=True, slots=True)
class Login:
    principal: Principal
    federation: str
    address: str
    route: str
    roll: Roll
    expires: datetime
    warnings: tuple[str, ...]


def read_ticket(path: Path, now: datetime) -> Ticket:
    """Raises InvalidIdentity when it is no ticket or has expired, InvalidUsage when it is a node's."""
    data = read_secret(path, what="ticket", hint="Ask the operator for one.")
    try:
        document = json.loads(data)
        subject = document["subject"]
        kind = str(subject["kind"])
        federation = str(document["federation"])
        uri = f"spiffe://{federation}/{kind}/{subject[kind]}"
        principal = principal_of_uri(uri) if kind != "node" else None
        endpoint = Endpoint(
            address=str(document["address"]),
            federation=federation,
            ca_pem=str(document["caPem"]).encode(),
            certificate_pem=str(document["certificatePem"]).encode(),
            key_pem=str(document["keyPem"]).encode(),
        )
        ticket_id, token = str(document["ticketId"]), str(document["token"])
        expires = moment(document["expires"], "ticket's expiry")
    except (ValueError, KeyError, TypeError, InvalidIdentity):
        raise InvalidIdentity(f"{path} is not a ticket.", hint="Ask the operator for a new one.") from None
    if principal is None:
        raise InvalidUsage(f"{path} is a node's ticket.", hint="Use it with `concord-node join`.")
    if now >= expires:
        raise InvalidIdentity(
            f"The ticket {path} expired on {_shown(expires)}.", hint="Ask the operator for a new one."
        )
    return Ticket(ticket_id, token, endpoint, principal, expires)


def login(home: Home, ticket: Ticket, pinned_roll: bytes | None, environment: Mapping[str, str]) -> Login:
    """Uses up ``ticket``, but only after every check that needs no coordinator. ``pinned_roll``: the envelope that this person
    already trusts.

    Raises InvalidUsage when the home is somebody else's, InvalidIdentity when the reply does not fit the ticket or the roll.
    """
    check_home(home, ticket)
    if pinned_roll is not None:
        home.trust_roll(pinned_roll)
    key = home.transport_key()
    uri = uri_of(ticket.principal, ticket.endpoint.federation)
    channel, route = open_channel(ticket.endpoint, environment)
    with closing(channel), spoken_errors(route):
        reply = enrolment_pb2_grpc.EnrolmentStub(channel).Join(
            enrolment_pb2.JoinRequest(ticket_id=ticket.id, token=ticket.token, csr_pem=make_csr(key, uri)),
            timeout=UNARY_SECONDS,
        )
    if not _is_for(reply.certificate_pem, ticket.principal, key):
        raise InvalidIdentity("The coordinator issued a certificate for somebody else.", hint="Tell the operator.")
    if reply.ca_pem.strip() != ticket.endpoint.ca_pem.strip():
        raise InvalidIdentity("The coordinator answered with another CA than the ticket's.", hint="Tell the operator.")
    roll = home.trust_roll(reply.roll)
    check_seat(roll, ticket.endpoint.ca_pem, "`concord login`")
    if roll.federation != ticket.endpoint.federation:
        raise InvalidIdentity(
            f"The roll is that of {roll.federation}, the ticket of {ticket.endpoint.federation}.",
            hint="Tell the operator.",
        )
    about_log = home.trust_log_key(reply.log_key, roll) if reply.log_key else ""
    home.remember_connection(
        ticket.endpoint.address, ticket.endpoint.federation, ticket.endpoint.ca_pem, reply.certificate_pem
    )
    return Login(
        ticket.principal,
        roll.federation,
        ticket.endpoint.address,
        route.sentence,
        roll,
        _certificate(reply.certificate_pem).not_valid_after_utc,
        (*_warnings(home, ticket.principal, roll), *([about_log] if about_log else [])),
    )


def check_home(home: Home, ticket: Ticket) -> None:
    """Whoever logs in from the wrong folder should not lose the ticket by it."""
    who = ticket.principal
    owner = home.owner()
    kind = {"lead": "lead", "officer": "member"}.get(who.kind)
    if owner is not None and kind is not None and (owner.kind, owner.id) != (kind, who.name):
        raise InvalidUsage(
            f"{home.path} is the home of the {owner.kind} {owner.id}, and the ticket is for the {who.kind} {who.name}.",
            hint="Name the right one with --home or CONCORD_HOME. The ticket was not used.",
        )
    known = home.roll()
    if known is not None and known.federation != ticket.endpoint.federation:
        raise InvalidUsage(
            f"{home.path} belongs to the federation {known.federation}, and the ticket is for {ticket.endpoint.federation}.",
            hint="Use another --home for another federation. The ticket was not used.",
        )


def _warnings(home: Home, principal: Principal, roll: Roll) -> list[str]:
    if principal.kind != "lead":
        return []
    try:
        listed = roll.lead(principal.name)
    except FederationError:
        return [f"the roll does not list the lead {principal.name}: jobs that you sign will be refused"]
    if not home.identity_key_path.exists():
        return [f"{home.path} has no lead's key: make one with `concord lead init`, or name the right --home"]
    if home.identity_key().public != listed.key:
        return [f"the roll lists another key for {principal.name} than this home's: jobs that you sign will be refused"]
    return []


def renewed(home: Home, endpoint: Endpoint, now: datetime, environment: Mapping[str, str]) -> Endpoint:
    """``endpoint`` with a fresh certificate when the old one is in its last third; else as it is.

    Raises InvalidIdentity when it has expired. A failed renewal is no error while the old certificate holds.
    """
    certificate = _certificate(endpoint.certificate_pem)
    _check_files(home, endpoint, certificate)
    end = certificate.not_valid_after_utc
    if now >= end:
        raise InvalidIdentity(
            f"Your transport certificate expired on {_shown(end)}.",
            hint="Ask the operator for a new ticket and run `concord login --ticket TICKET`; your own keys stay.",
        )
    if end - now > (end - certificate.not_valid_before_utc) / 3:
        return endpoint
    key, principal = home.transport_key(), principal_of(endpoint.certificate_pem)
    csr = make_csr(key, uri_of(principal, endpoint.federation))
    try:
        channel, route = open_channel(endpoint, environment)
        with closing(channel), spoken_errors(route):
            reply = enrolment_pb2_grpc.EnrolmentStub(channel).Renew(
                enrolment_pb2.RenewRequest(csr_pem=csr), timeout=UNARY_SECONDS
            )
        if not _is_for(reply.certificate_pem, principal, key):
            return endpoint
    except FederationError:
        return endpoint
    home.renew_certificate(reply.certificate_pem)
    return replace(endpoint, certificate_pem=reply.certificate_pem)


def _check_files(home: Home, endpoint: Endpoint, certificate: x509.Certificate) -> None:
    """TLS says nothing useful about files that do not fit together."""
    if certificate.public_key() != home.transport_key().private.public_key():
        raise InvalidIdentity(
            f"The transport certificate in {home.path} is not for the transport key that is there.",
            hint="Run `concord login` with a new ticket; your own keys stay.",
        )
    try:
        x509.load_pem_x509_certificates(endpoint.ca_pem)
    except ValueError:
        raise InvalidIdentity(
            f"The federation's CA certificate in {home.path} is damaged.", hint="Run `concord login` with a new ticket."
        ) from None


def _is_for(certificate_pem: bytes, principal: Principal, key: TransportKey) -> bool:
    fits = _certificate(certificate_pem).public_key() == key.private.public_key()
    return fits and principal_of(certificate_pem) == principal


def _shown(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"


def _certificate(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise InvalidIdentity(
            "The transport certificate is damaged.", hint="Run `concord login` with a new ticket."
        ) from None


__all__ = ["Login", "Ticket", "login", "read_ticket", "renewed"]
