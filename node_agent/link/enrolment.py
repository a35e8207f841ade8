"""Exchanging a ticket, or a certificate that ends soon, for a transport certificate."""

from __future__ import annotations

from dataclasses import dataclass

from federation.parsing import parsed
from federation.route import Route
from federation.v1 import enrolment_pb2, enrolment_pb2_grpc
from node_agent.link.channel import CALL_SECONDS, Credentials, open_channel, parsing, spoken
from node_agent.link.timing import Took, timed, unnoticed


@dataclass(frozen=True, slots=True)
class Joined:
    certificate_pem: bytes
    ca_pem: bytes
    roll: bytes
    log_key: str = ""
    """of the public log; empty from a coordinator that has none"""


async def join(
    route: Route, credentials: Credentials, ticket_id: str, token: str, csr_pem: bytes, credential: bytes
) -> Joined:
    """Raises InvalidIdentity when the ticket or credential is refused, Unavailable when nobody answers."""
    request = enrolment_pb2.JoinRequest(ticket_id=ticket_id, token=token, csr_pem=csr_pem, node_credential=credential)
    async with open_channel(route, credentials) as channel:
        with spoken(route):
            reply = parsed(await enrolment_pb2_grpc.EnrolmentStub(parsing(channel)).Join(request, timeout=CALL_SECONDS))
    return Joined(reply.certificate_pem, reply.ca_pem, reply.roll, reply.log_key)


async def renew(route: Route, credentials: Credentials, csr_pem: bytes, took: Took = unnoticed) -> bytes:
    """A fresh certificate (PEM). Raises as ``join`` does."""
    async with open_channel(route, credentials) as channel:
        with spoken(route):
            stub = enrolment_pb2_grpc.EnrolmentStub(parsing(timed(channel, took)))
            reply = parsed(await stub.Renew(enrolment_pb2.RenewRequest(csr_pem=csr_pem), timeout=CALL_SECONDS))
    return bytes(reply.certificate_pem)
