"""Orders to halt as this SDK has them: made and signed here, given to a coordinator, and the nodes' answers checked.

Nothing that a coordinator says of a halt is believed: an answer counts when the node's own signature is under it, and the node's
credential is signed by its member's officer on the reader's roll.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import grpc

from coordinator.client.channel import UNARY_SECONDS, spoken_errors
from coordinator.client.files import make_private_folder, read_file, write_file
from coordinator.client.home import Home
from coordinator.client.said import note
from coordinator.client.sdk import Federation
from coordinator.client.terminal import plain
from federation.errors import FederationError, InvalidUsage, NotFound
from federation.halt.acknowledgement import Acknowledgement, open_acknowledgement
from federation.halt.levels import Level
from federation.halt.order import (
    NONCE_BYTES,
    HaltOrder,
    Scope,
    SignedLift,
    SignedOrder,
    Signer,
    read_lift,
    read_order,
    seal_lift,
    seal_order,
)
from federation.halt.receipt import open_receipt
from federation.identity.credential import verify_credential
from federation.identity.fields import moment_text
from federation.identity.roll import Roll
from federation.v1 import halt_pb2, halt_pb2_grpc

LOOK_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class Answer:
    member: str
    node: str
    heard: str
    """by the coordinator's clock"""
    said: Acknowledgement | None
    problem: str
    """why it does not count; empty when it does"""


@dataclass(frozen=True, slots=True)
class Awaited:
    member: str
    node: str
    attending: bool
    lease_ends: datetime | None
    """None: it has no lease, and trains nothing"""


@dataclass(frozen=True, slots=True)
class Halt:
    signed: SignedOrder
    lift: SignedLift | None
    received: str
    answers: tuple[Answer, ...]
    awaited: tuple[Awaited, ...]
    receipt: bytes = field(repr=False)

    @property
    def state(self) -> str:
        if self.signed.order.drill:
            return "drill"
        return "stands" if self.lift is None else "lifted"

    def as_document(self) -> dict[str, object]:
        order = self.signed.order
        return {
            "digest": self.signed.digest.hex(),
            "level": order.level.name,
            "scope": order.scope,
            "job": order.job.hex(),
            "member": order.member,
            "by": order.by.words,
            "number": order.number,
            "issued": moment_text(order.issued),
            "reason": plain(order.reason),
            "state": self.state,
            "received": self.received,
            "answers": [
                {
                    "member": each.member,
                    "node": each.node,
                    "heard": each.heard,
                    "problem": each.problem,
                    "seconds": None if each.said is None else each.said.took_microseconds / 1e6,
                    "processes": None if each.said is None else each.said.processes,
                    "jobs": None if each.said is None else each.said.jobs,
                }
                for each in self.answers
            ],
            "awaited": [
                {
                    "member": each.member,
                    "node": each.node,
                    "attending": each.attending,
                    "leaseEnds": None if each.lease_ends is None else moment_text(each.lease_ends),
                }
                for each in self.awaited
            ],
        }


def signer_of(home: Home) -> Signer:
    """Who orders from this home. Raises NotFound for one without an identity."""
    owner = home.owner()
    if owner is None:
        raise NotFound(
            f"{home.path} has no identity to sign with.",
            hint="Name the home of a member's officer or of a lead with --home, and how to reach the coordinator with --via.",
        )
    if owner.kind not in {"member", "lead", "operator"}:
        raise InvalidUsage(
            f"The home of a {owner.kind} gives no orders.", hint="Name a member's officer's, or a lead's."
        )
    kinds = {"member": Signer("member", owner.id), "lead": Signer("lead", owner.id), "operator": Signer("operator", "")}
    return kinds[owner.kind]


def make_order(
    home: Home, federation: str, level: Level, reason: str, *, job: bytes = b"", member: str = "", drill: bool = False
) -> SignedOrder:
    """Signed, and kept in the home, with the next number of this signer."""
    scope: Scope = "job" if job else "member" if member else "federation"
    order = HaltOrder(
        federation=federation,
        scope=scope,
        job=job,
        member=member,
        level=level,
        by=signer_of(home),
        number=_next_number(home),
        nonce=secrets.token_bytes(NONCE_BYTES),
        issued=datetime.now(UTC).replace(microsecond=0),
        reason=reason,
        drill=drill,
    )
    signed = read_order(seal_order(order, home.identity_key()))
    keep(home, f"{signed.digest.hex()}.order.json", signed.envelope)
    return signed


def make_lift(home: Home, order: bytes, reason: str, decision: bytes = b"") -> SignedLift:
    moment = datetime.now(UTC).replace(microsecond=0)
    envelope = seal_lift(order, moment, secrets.token_bytes(NONCE_BYTES), reason, home.identity_key(), decision)
    return read_lift(envelope)


def keep(home: Home, name: str, data: bytes) -> str:
    """In the home's folder of halts: order and receipt are evidence. Returns the path."""
    path = make_private_folder(home.path / "halts") / name
    write_file(path, data)
    return str(path)


def _next_number(home: Home) -> int:
    path = make_private_folder(home.path / "halts") / "number"
    last = int(read_file(path, what="The number of your last order")) if path.exists() else 0
    write_file(path, str(last + 1).encode())
    return last + 1


class HaltCalls:
    """What a session asks of the coordinator about halts."""

    def __init__(self, federation: Federation) -> None:
        self._federation = federation
        self._stub = halt_pb2_grpc.HaltsStub(federation.channel)
        self._roll = federation.home.required_roll()

    def give(self, order: SignedOrder) -> bytes:
        """The receipt. Raises what the coordinator says, or InvalidIdentity for a receipt of another order."""
        with spoken_errors(self._federation.route):
            taken = self._stub.Give(halt_pb2.GiveHalt(order=order.envelope), timeout=UNARY_SECONDS)
        open_receipt(taken.receipt, order.digest, self._log_key())
        note(self._federation.home.path, self._roll.federation, "halt", order.envelope)
        return bytes(taken.receipt)

    def _log_key(self) -> bytes | None:
        """Under which receipts are signed, too; None in a home that logged in before there was a log."""
        key = self._federation.home.log_key()
        return None if key is None else key.public

    def lift(self, lift: SignedLift) -> None:
        with spoken_errors(self._federation.route):
            self._stub.Give(halt_pb2.GiveHalt(lift=lift.envelope), timeout=UNARY_SECONDS)

    def list(self) -> list[Halt]:
        with spoken_errors(self._federation.route):
            reply = self._stub.List(halt_pb2.ListHalts(), timeout=UNARY_SECONDS)
        return [halt_of(view, self._roll) for view in reply.halts]

    def find(self, digits: str) -> Halt:
        """By the first digits of its digest. Raises NotFound."""
        found = [halt for halt in self.list() if digits and halt.signed.digest.hex().startswith(digits)]
        if len(found) != 1:
            raise NotFound(f"{len(found) or 'No'} orders begin with {digits[:70]!r}.", hint="See: concord get halts")
        return found[0]

    def follow(self, digest: bytes, seconds: float) -> Iterator[Halt]:
        """The halt now and after each answer, for at most ``seconds``."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            call: Any = self._stub.Watch(halt_pb2.WatchHalt(digest=digest), timeout=min(left, 60.0))
            try:
                for view in call:
                    yield halt_of(view, self._roll)
            except grpc.RpcError as error:
                if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    continue
                with spoken_errors(self._federation.route):
                    raise
            finally:
                call.cancel()


def halt_of(view: halt_pb2.HaltView, roll: Roll) -> Halt:
    """Raises InvalidIdentity for an order or a lift that nobody signed."""
    signed = read_order(view.order)
    lift = read_lift(view.lift) if view.lift else None
    return Halt(
        signed,
        lift if lift is not None and lift.lifted.digest == signed.digest else None,
        plain(view.received),
        tuple(_answer(each, signed, roll) for each in view.answers),
        tuple(
            Awaited(plain(each.member), plain(each.node), each.attending, _moment(each.lease_ends))
            for each in view.awaited
        ),
        view.receipt,
    )


def _answer(given: halt_pb2.HaltAnswer, signed: SignedOrder, roll: Roll) -> Answer:
    member, node, heard = plain(given.member), plain(given.node), plain(given.heard)
    try:
        credential = verify_credential(given.credential, roll, None)
        said = open_acknowledgement(given.acknowledgement, credential.identity_key)
        if (said.order, said.member, said.node) != (signed.digest, credential.member, credential.node) or (
            (member, node) != (credential.member, credential.node)
        ):
            return Answer(member, node, heard, None, "it is for another order, or of another node")
    except FederationError as error:
        return Answer(member, node, heard, None, error.message)
    return Answer(member, node, heard, said, "")


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
