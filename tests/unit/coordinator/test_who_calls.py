"""Only certificates of this authority get through, each kind only where it may, and errors leave without their insides."""

import asyncio
from datetime import UTC, datetime, timedelta

import grpc
import pytest

from coordinator.api.calls import admitted, unary
from coordinator.registry.authority import Authority
from coordinator.registry.enrolment import Registry
from coordinator.store.database import Database, NodeRow
from federation.errors import ERRORS, TABLE, ProtocolViolation
from federation.identity.credential import node_request, sign_credential
from federation.identity.envelope import seal
from federation.identity.keys import SigningKey
from federation.identity.roll import RollLead, RollMember, draft_roll
from federation.identity.transport import Principal, TransportKey
from federation.v1 import enrolment_pb2, enrolment_pb2_grpc

NODE = Principal("node", "fr", "fr-1")
LEAD = Principal("lead", name="ada")
TICKET = Principal("ticket", name="t1")


class Service(enrolment_pb2_grpc.EnrolmentServicer):
    def __init__(self, registry, error=None):
        self.registry = registry
        self.error = error

    @unary
    async def Join(self, request, context):
        admitted(context, self.registry, "ticket")
        return enrolment_pb2.JoinReply(federation="health")

    @unary
    async def Renew(self, request, context):
        admitted(context, self.registry, "node", "lead")
        if self.error is not None:
            raise self.error
        return enrolment_pb2.RenewReply()


class Place:
    """A registry with one enrolled node, a server, and callers with whatever certificate they bring."""

    def __init__(self, folder):
        self.now = datetime.now(UTC)
        self.authority = Authority.create("health", self.now)
        self.registry = Registry(
            Database(folder / "coordinator.db"), self.authority, timedelta(hours=1), lambda: self.now.timestamp()
        )
        officers = [SigningKey.generate() for _ in range(3)]
        request = node_request("health", "fr", "fr-1", SigningKey.generate())
        day = timedelta(days=1)
        self.credential = sign_credential(request, "health", officers[1], "fr", self.now - day, self.now + day)
        members = [
            RollMember(name, name, "FR", key.public) for name, key in zip(("de", "fr", "ke"), officers, strict=True)
        ]
        leads = [RollLead("ada", "fr", "Ada", SigningKey.generate().public)]
        self.registry.found(seal(draft_roll("health", 1, members, leads), "roll", officers))
        self.node_is("active")

    def node_is(self, state):
        with self.registry.database.transaction() as change:
            change.put_node(NodeRow("fr", "fr-1", self.credential, state, 0.0))

    def call(self, method, principal, *, authority=None, since=None, error=None, certificate=True):
        """The reply, or the RpcError."""
        return asyncio.run(
            self._call(method, principal, authority or self.authority, since or self.now, error, certificate)
        )

    async def _call(self, method, principal, authority, since, error, certificate):
        server = grpc.aio.server()
        enrolment_pb2_grpc.add_EnrolmentServicer_to_server(Service(self.registry, error), server)
        server_pem, server_key = self.authority.server("127.0.0.1", self.now, timedelta(hours=1))
        port = server.add_secure_port(
            "127.0.0.1:0",
            grpc.ssl_server_credentials(
                [(server_key, server_pem)], self.authority.certificate_pem, require_client_auth=True
            ),
        )
        await server.start()
        key = TransportKey.generate()
        pem = authority.issue_for(key.private.public_key(), principal, since, timedelta(minutes=30))
        credentials = grpc.ssl_channel_credentials(
            self.authority.certificate_pem, *((key.to_pem(), pem) if certificate else (None, None))
        )
        options = [("grpc.ssl_target_name_override", "coordinator.health"), ("grpc.enable_http_proxy", 0)]
        try:
            async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
                stub = enrolment_pb2_grpc.EnrolmentStub(channel)
                request = enrolment_pb2.JoinRequest() if method == "Join" else enrolment_pb2.RenewRequest()
                try:
                    return await getattr(stub, method)(request, timeout=10)
                except grpc.aio.AioRpcError as refused:
                    return refused
        finally:
            await server.stop(None)


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    yield place
    place.registry.database.close()


def trailers_of(error):
    return {key: value for key, value in error.trailing_metadata() if key.startswith("concord-")}


def test_each_kind_of_caller_reaches_only_its_own_methods(place):
    assert place.call("Join", TICKET).federation == "health"
    for principal in (NODE, LEAD):
        assert isinstance(place.call("Renew", principal), enrolment_pb2.RenewReply)
        assert place.call("Join", principal).code() is grpc.StatusCode.PERMISSION_DENIED
    assert place.call("Renew", TICKET).code() is grpc.StatusCode.PERMISSION_DENIED
    assert place.call("Renew", Principal("operator", name="op")).code() is grpc.StatusCode.PERMISSION_DENIED


def test_a_foreign_an_expired_and_no_certificate_do_not_get_through_the_handshake(place):
    foreign = Authority.create("health", place.now)
    assert place.call("Renew", NODE, authority=foreign).code() is grpc.StatusCode.UNAVAILABLE
    assert place.call("Renew", NODE, since=place.now - timedelta(days=2)).code() is grpc.StatusCode.UNAVAILABLE
    assert place.call("Renew", NODE, certificate=False).code() is grpc.StatusCode.UNAVAILABLE


def test_a_certificate_that_names_another_federation_is_refused(place):
    other = Authority("elsewhere", place.authority.key, place.authority.certificate)
    assert place.call("Renew", NODE, authority=other).code() is grpc.StatusCode.UNAUTHENTICATED


def test_strangers_and_suspended_nodes_are_refused_although_their_certificate_is_good(place):
    assert place.call("Renew", Principal("node", "fr", "fr-2")).code() is grpc.StatusCode.UNAUTHENTICATED
    assert place.call("Renew", Principal("lead", name="eve")).code() is grpc.StatusCode.UNAUTHENTICATED
    for state in ("suspended", "revoked"):
        place.node_is(state)
        assert place.call("Renew", NODE).code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("code", sorted(set(TABLE) - {"internal", "protocol-violation"}))
def test_every_error_travels_with_its_code_words_and_hint(place, code):
    error = place.call("Renew", NODE, error=ERRORS[code]("Ünd zwar so.", hint="Tun Sie das."))
    assert error.code() is getattr(grpc.StatusCode, TABLE[code].grpc_status)
    assert trailers_of(error) == {
        "concord-code": code,
        "concord-message-bin": "Ünd zwar so.".encode(),
        "concord-hint-bin": b"Tun Sie das.",
    }


def test_a_violation_travels_without_its_evidence(place):
    secret = b"signed bytes"
    error = place.call("Renew", NODE, error=ProtocolViolation("Wrong.", check="some-check", evidence=secret))
    assert trailers_of(error)["concord-code"] == "protocol-violation"
    assert secret not in repr(error.trailing_metadata()).encode()


def test_an_unexpected_error_shows_nothing_of_itself(place):
    error = place.call("Renew", NODE, error=ZeroDivisionError("/home/someone/secret.key"))
    assert error.code() is grpc.StatusCode.INTERNAL
    shown = repr(error.trailing_metadata()) + error.details() + str(error.debug_error_string())
    assert trailers_of(error)["concord-code"] == "internal"
    assert "secret.key" not in shown
    assert "ZeroDivision" not in shown
