"""A ticket buys one certificate, in the name that it was made for, for the key of whoever joins; and never a membership."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from coordinator.registry.authority import Authority
from coordinator.registry.enrolment import Registry, principal_for
from coordinator.store.database import NodeRow
from federation.errors import InvalidIdentity, InvalidUsage
from federation.identity.credential import node_request, sign_credential
from federation.identity.envelope import seal
from federation.identity.keys import SigningKey
from federation.identity.roll import RollLead, RollMember, draft_roll
from federation.identity.transport import Principal, TransportKey, make_csr, principal_of
from tests.postgresql import opened

START = 1_800_000_000.0
OFFICERS = {name: SigningKey.generate() for name in ("de", "fr", "ke")}
LEAD = SigningKey.generate()
ROLL = seal(
    draft_roll(
        "health",
        1,
        [RollMember(name, name.upper(), name.upper(), key.public) for name, key in OFFICERS.items()],
        [RollLead("ada", "fr", "Ada", LEAD.public)],
    ),
    "roll",
    list(OFFICERS.values()),
)


class Clock:
    def __init__(self):
        self.now = START

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def registry(place, clock):
    database = opened(place)
    authority = Authority.create("health", datetime.fromtimestamp(START, UTC))
    registry = Registry(database, authority, timedelta(hours=24), clock)
    registry.found(ROLL)
    yield registry
    database.close()


def ticket_for(registry, principal, hours=1.0):
    return json.loads(registry.ticket(principal, "127.0.0.1:1", hours))


def credential_of(member, node, officer=None):
    now = datetime.fromtimestamp(START, UTC)
    request = node_request("health", member, node, SigningKey.generate())
    return sign_credential(request, "health", officer or OFFICERS[member], member, now, now + timedelta(days=30))


def join(registry, ticket, credential=b"", *, token=None, key=None, asked="spiffe://health/operator/root"):
    caller = principal_of(ticket["certificatePem"].encode())
    csr = make_csr(key or TransportKey.generate(), asked)
    return registry.join(caller, ticket["ticketId"], token or ticket["token"], csr, credential)


NODE = Principal("node", "fr", "fr-1")


def test_the_certificate_bears_the_ticket_s_name_whatever_the_request_asks_for(registry):
    key = TransportKey.generate()
    joined = join(registry, ticket_for(registry, NODE), credential_of("fr", "fr-1"), key=key)
    named = principal_of(joined.certificate_pem)
    assert (named.kind, named.member, named.node) == ("node", "fr", "fr-1")
    certificate = x509.load_pem_x509_certificate(joined.certificate_pem)
    assert certificate.public_key() == key.private.public_key()
    assert certificate.not_valid_after_utc <= datetime.fromtimestamp(START, UTC) + timedelta(hours=24)
    certificate.verify_directly_issued_by(registry.authority.certificate)


def test_a_token_works_once(registry):
    ticket = ticket_for(registry, NODE)
    join(registry, ticket, credential_of("fr", "fr-1"))
    with pytest.raises(InvalidIdentity, match="used before"):
        join(registry, ticket, credential_of("fr", "fr-1"))


def test_a_refused_attempt_does_not_use_the_token_up(registry):
    ticket = ticket_for(registry, NODE)
    with pytest.raises(InvalidIdentity):
        join(registry, ticket, credential_of("de", "fr-1"))
    join(registry, ticket, credential_of("fr", "fr-1"))


def test_a_wrong_token_and_another_ticket_s_certificate_are_refused(registry):
    ticket, other = ticket_for(registry, NODE), ticket_for(registry, Principal("lead", name="ada"))
    with pytest.raises(InvalidIdentity):
        join(registry, ticket, credential_of("fr", "fr-1"), token=other["token"])
    with pytest.raises(InvalidIdentity):
        join(registry, ticket | {"certificatePem": other["certificatePem"]}, credential_of("fr", "fr-1"))


def test_an_expired_ticket_is_refused(registry, clock):
    ticket = ticket_for(registry, NODE, hours=1)
    clock.now += 3601
    with pytest.raises(InvalidIdentity, match="expired"):
        join(registry, ticket, credential_of("fr", "fr-1"))


@pytest.mark.parametrize(
    "credential",
    [
        b"",
        credential_of("de", "fr-1"),
        credential_of("fr", "fr-2"),
        credential_of("fr", "fr-1", officer=SigningKey.generate()),
        credential_of("fr", "fr-1", officer=OFFICERS["de"]),
    ],
    ids=["none", "another member's", "another node's", "a stranger's", "another officer's"],
)
def test_a_credential_that_is_not_this_node_s_is_refused(registry, credential):
    with pytest.raises(InvalidIdentity):
        join(registry, ticket_for(registry, NODE), credential)


def test_the_token_is_nowhere_in_the_database(registry, tmp_path):
    token = ticket_for(registry, NODE)["token"].encode()
    for path in tmp_path.iterdir():
        assert token not in path.read_bytes()


def test_tickets_are_for_those_on_the_roll(registry):
    for stranger in (Principal("node", "us", "us-1"), Principal("lead", name="eve")):
        with pytest.raises(InvalidIdentity):
            registry.ticket(stranger, "127.0.0.1:1", 1.0)
    with pytest.raises(InvalidUsage):
        principal_for("fr", "", "ada", "")


def test_a_suspended_node_is_not_admitted_and_gets_no_new_certificate(registry):
    joined = join(registry, ticket_for(registry, NODE), credential := credential_of("fr", "fr-1"))
    caller = principal_of(joined.certificate_pem)
    registry.admit(caller)
    with registry.database.transaction() as change:
        change.put_node(NodeRow("fr", "fr-1", credential, "suspended", START))
    csr = make_csr(TransportKey.generate(), "spiffe://health/member/fr/node/fr-1")
    with pytest.raises(InvalidIdentity):
        registry.admit(caller)
    with pytest.raises(InvalidIdentity):
        registry.renew(caller, csr)


def test_a_node_that_never_joined_is_not_admitted(registry):
    with pytest.raises(InvalidIdentity):
        registry.admit(replace(NODE, node="fr-9", federation="health"))


def test_a_request_with_a_broken_signature_buys_nothing(registry):
    ticket = ticket_for(registry, NODE)
    caller = principal_of(ticket["certificatePem"].encode())
    for csr in (b"", b"-----BEGIN", b"x" * (1 << 15)):
        with pytest.raises(InvalidIdentity):
            registry.join(caller, ticket["ticketId"], ticket["token"], csr, credential_of("fr", "fr-1"))


def test_another_authority_s_certificates_do_not_check(registry):
    foreign = Authority.create("health", datetime.fromtimestamp(START, UTC))
    pem = foreign.issue_for(
        TransportKey.generate().private.public_key(), NODE, datetime.fromtimestamp(START, UTC), timedelta(hours=1)
    )
    with pytest.raises((InvalidSignature, ValueError)):
        x509.load_pem_x509_certificate(pem).verify_directly_issued_by(registry.authority.certificate)


def test_an_older_or_foreign_roll_is_refused(registry):
    with pytest.raises(InvalidUsage):
        registry.found(
            seal(
                draft_roll(
                    "health",
                    1,
                    [RollMember(name, "Other", name.upper(), key.public) for name, key in OFFICERS.items()],
                    [],
                ),
                "roll",
                list(OFFICERS.values()),
            )
        )
