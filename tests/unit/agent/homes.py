"""A federation of today around one lab: officers, a lead, a scripted coordinator, and the lab's home before and after joining."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from coordinator.registry.authority import Authority
from federation.identity.credential import NodeCredential, node_request, sign_credential, verify_credential
from federation.identity.envelope import seal
from federation.identity.keys import SigningKey
from federation.identity.roll import Roll
from federation.identity.transport import Principal, TransportKey
from federation.manifest.manifest import Manifest, open_manifest, seal_manifest
from node_agent.enrolment import initialise, join
from node_agent.settings import Home
from tests.unit.client.scripted import Coordinator
from tests.unit.identity.parties import APP, CREATED, JOB, NONCE, Parties, prepared, roll_document, submitted

DAY = timedelta(days=1)
MEMBERS = ("ch", "fr", "ke")
OWN = Principal("node", "fr", "fr-1")


def federation_of(members: Iterable[str] = MEMBERS, name: str = "health") -> Parties:
    officers = {id: SigningKey.generate() for id in members}
    lead = SigningKey.generate()
    document = {**roll_document(officers, lead), "federation": name}
    return Parties(officers, lead, Roll.open(seal(document, "roll", tuple(officers.values()))))


def credential_of(parties: Parties, request: bytes, member: str, ends: timedelta = 365 * DAY) -> bytes:
    """As the member's officer signs a node's request."""
    now = datetime.now(UTC)
    return sign_credential(
        request, parties.roll.federation, parties.officers[member], member, now - 400 * DAY, now + ends
    )


def job_of(parties: Parties, text: str = JOB, lead: SigningKey | None = None, files: Any = APP) -> bytes:
    """The manifest as a lead submits it."""
    bundle, app = prepared(files)
    key = lead or parties.lead_key
    return seal_manifest(submitted(text), bundle, app, parties.roll.federation, "lead", key, CREATED, NONCE)


@dataclass
class Site:
    """One lab's machine: where its home is, and what it was given."""

    path: Path
    parties: Parties = field(default_factory=federation_of)
    server: Any = None
    """a coordinator that is started, if there is one"""

    @property
    def home(self) -> Home:
        return Home(self.path / "home")

    @property
    def request(self) -> Path:
        return self.path / "request.json"

    def init(self, home: Path | None = None, **changes: Any) -> None:
        names = {"federation": "health", "member": "fr", "node": "fr-1", "out": self.request, **changes}
        initialise(Home(home) if home else self.home, **names)

    def credential(self, member: str = "fr", **changes: Any) -> Path:
        return self.keep("credential.json", credential_of(self.parties, self.request.read_bytes(), member, **changes))

    def ticket(self, **changes: Any) -> Path:
        """As `concord-coordinator ticket` writes it."""
        key, now = TransportKey.generate(), datetime.now(UTC)
        authority = self.authority
        certificate = authority.issue_for(key.private.public_key(), Principal("ticket", name="t1"), now, DAY)
        document = {
            "federation": authority.federation,
            "address": self.server.address if self.server is not None else "127.0.0.1:7443",
            "caPem": authority.certificate_pem.decode(),
            "ticketId": "t1",
            "token": "secret-token",
            "certificatePem": certificate.decode(),
            "keyPem": key.to_pem().decode(),
            "expires": (now + DAY).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "subject": {"kind": "node", "member": "fr", "node": "fr-1"},
            **changes,
        }
        return self.keep("ticket.json", json.dumps(document).encode())

    @cached_property
    def own_authority(self) -> Authority:
        return Authority.create("health", datetime.now(UTC))

    @property
    def authority(self) -> Authority:
        return self.server.authority if self.server is not None else self.own_authority

    def join(self, roll: Path | None = None, ticket: Path | None = None, credential: Path | None = None) -> str:
        return join(
            self.home,
            ticket_file=ticket or self.ticket(),
            credential_file=credential or self.credential(),
            roll_file=roll,
        )

    def keep(self, name: str, data: bytes) -> Path:
        path = self.path / name
        path.write_bytes(data)
        path.chmod(0o600)
        return path

    def roll_file(self, parties: Parties | None = None) -> Path:
        return self.keep("roll.json", (parties or self.parties).roll.envelope)


def issuing(
    authority: Authority, principal: Principal = OWN, lifetime: timedelta = DAY
) -> Callable[[bytes, Principal], bytes]:
    """What the scripted coordinator answers to a request for a certificate."""
    return lambda csr, _principal: authority.issue(csr, principal, datetime.now(UTC), lifetime)


def serving(parties: Parties) -> Coordinator:
    server = Coordinator(parties, Authority.create(parties.roll.federation, datetime.now(UTC)))
    server.issued = issuing(server.authority)
    server.start()
    return server


def joined_by_hand(site: Site, policy: str = "", data: Path | None = None) -> NodeCredential:
    """A home that has joined, without a coordinator that was asked."""
    site.init()
    home, credential = site.home, site.credential().read_bytes()
    transport = TransportKey.from_pem(home.read(home.transport_key))
    certificate = site.authority.issue_for(transport.private.public_key(), OWN, datetime.now(UTC), DAY)
    for path, content in (
        (home.credential, credential),
        (home.roll, site.parties.roll.envelope),
        (home.ca, site.authority.certificate_pem),
        (home.transport_certificate, certificate),
    ):
        path.write_bytes(content)
    if policy:
        home.policy_file.write_text(policy)
    sets = {"digits": {"path": str(data), "examples": 1000}} if data is not None else {}
    settings = home.settings().model_copy(update={"address": "127.0.0.1:1"}).model_dump(by_alias=True)
    home.save(type(home.settings()).model_validate({**settings, "dataSets": sets}))
    return verify_credential(credential, site.parties.roll, datetime.now(UTC))


def manifest_of(parties: Parties, text: str = JOB, files: Any = APP) -> Manifest:
    return open_manifest(job_of(parties, text, files=files), parties.roll)


__all__ = [
    "DAY",
    "JOB",
    "MEMBERS",
    "OWN",
    "Site",
    "credential_of",
    "federation_of",
    "issuing",
    "job_of",
    "joined_by_hand",
    "manifest_of",
    "node_request",
    "serving",
]
