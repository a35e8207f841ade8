"""Takes orders and lifts, keeps them, tells them to every node that they reach, and grants leases.

An order is stored and logged in one transaction before anything is said of it. It is put on the streams of the nodes next, and
whatever else it changes here (``changed``) comes after. What stands is told again whole on each new stream. Nothing here decides
whether a node halts: it checks the same signatures itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from coordinator.registry.enrolment import REFUSED_STATES, Registry, state_of
from coordinator.store.database import Database
from coordinator.store.halts import AnswerRow, HaltRow
from federation.errors import FederationError, InvalidIdentity, NotFound
from federation.halt.acknowledgement import open_acknowledgement
from federation.halt.book import HaltBook, Part
from federation.halt.levels import Level
from federation.halt.order import HaltOrder, SignedLift, SignedOrder, read_lift, read_order
from federation.halt.powers import check_lift, check_order, decide, lease_seconds
from federation.halt.receipt import Receipt, seal_receipt
from federation.identity.credential import NodeCredential, verify_credential
from federation.identity.keys import SigningKey
from federation.identity.roll import Roll
from federation.v1 import halt_pb2

log = structlog.get_logger()

QUEUE_LIMIT: Final = 8192
REFUSALS_LOGGED: Final = 20


@dataclass(slots=True, eq=False)
class Attendance:
    """A node's stream for halts."""

    member: str
    node: str
    queue: asyncio.Queue[halt_pb2.HaltNotice | None] = field(default_factory=lambda: asyncio.Queue(QUEUE_LIMIT))
    refusals: int = 0

    def tell(self, notice: halt_pb2.HaltNotice) -> None:
        try:
            self.queue.put_nowait(notice)
        except asyncio.QueueFull:
            self.close()

    def close(self) -> None:
        """The stream ends at the next step; all is told again on the next one."""
        while not self.queue.empty():
            self.queue.get_nowait()
        self.queue.put_nowait(None)


class HaltDesk:
    """``key``: the log's, under which receipts are signed, too; ``clock``: seconds since 1970; ``changed`` is called when the nodes
    have been told."""

    def __init__(self, database: Database, registry: Registry, key: SigningKey, clock: Callable[[], float]) -> None:
        self._database, self._registry, self._key, self._clock = database, registry, key, clock
        self.changed: Callable[[], None] = lambda: None
        self.carried_out: Callable[[float], None] = lambda _seconds: None
        """hears how long after its order each node had said that it is carried out"""
        self._attending: dict[tuple[str, str], Attendance] = {}
        self._leases: dict[tuple[str, str], float] = {}
        """when the newest lease of each node was granted: it ends no later than one lease after that"""
        self._watchers: dict[bytes, asyncio.Event] = {}
        self._receipts: dict[bytes, tuple[bytes, float]] = {}
        """(receipt, when it came) of each order that is on disk"""
        self.book = HaltBook()
        with database.transaction() as change:
            rows = change.halts.all()
        for row in rows:  # they were checked when they came; a roll that has changed since takes no halt away
            self.book.take(read_order(row.order))
            if row.lift is not None:
                self.book.lift(read_lift(row.lift))
            self._receipts[row.digest] = (row.receipt or b"", row.received)

    # ------------------------------------------------------------------------------------------------------------ taking

    def level(self, job: bytes = b"", member: str = "", node: str = "", lead: str = "") -> Level:
        return self.book.level(Part(job, member, node, lead))

    def reason(self, job: bytes, member: str = "", lead: str = "") -> str:
        """Why it is halted, for people; empty when it is not."""
        found = self.book.halting(Part(job, member, "", lead))
        if not found:
            return ""
        order = found[0].order
        return f"{order.level.name} of {order.words} by {order.by.words}: {order.reason or 'no reason given'}"

    def give(self, order: bytes, lift: bytes = b"") -> tuple[bytes, bytes]:
        """(digest of the order, receipt); empty receipt for a lift. Raises InvalidIdentity, PolicyDenied, Halted, InvalidUsage."""
        if lift:
            signed_lift = read_lift(lift)
            self._take(signed_lift.lifted)
            self._lift(signed_lift)
            return signed_lift.lifted.digest, b""
        signed = read_order(order)
        self._take(signed)
        return signed.digest, self._receipts[signed.digest][0]

    def _take(self, signed: SignedOrder) -> None:
        """Stored, logged and told when this returns."""
        if signed.digest in self._receipts:
            return
        check_order(signed, self._registry.roll(), self._node_key)
        self.book.take(signed)  # from here on nothing is begun that it forbids, whatever becomes of the disk
        now = self._clock()
        received = datetime.fromtimestamp(now, UTC).replace(microsecond=0)
        told_by = received + timedelta(seconds=self.lease_seconds + 1)
        receipt = seal_receipt(Receipt(signed.order.federation, signed.digest, received, told_by), self._key)
        try:
            with self._database.transaction() as change:
                change.halts.add(HaltRow(signed.digest, signed.envelope, None, receipt, now))
                change.audit(now, "halt", _subject(signed.order, f"level={signed.order.level.name}"), signed.envelope)
            self._receipts[signed.digest] = (receipt, now)
        finally:
            self._tell(signed.order, halt_pb2.HaltNotice(order=signed.envelope))
        log.warning("halt.ordered", scope=signed.order.scope, level=signed.order.level.name, drill=signed.order.drill)
        self._follow()

    def _lift(self, signed: SignedLift) -> None:
        if self.book.lift_of(signed.lifted.digest) is not None:
            return
        check_lift(signed, self._registry.roll(), decide, self._node_key)
        now, order = self._clock(), signed.lifted.order
        with self._database.transaction() as change:
            change.halts.lift(signed.lifted.digest, signed.envelope)
            change.audit(now, "lift", _subject(order), signed.envelope)
        self.book.lift(signed)
        self._tell(order, halt_pb2.HaltNotice(lift=signed.envelope))
        log.warning("halt.lifted", scope=order.scope, level=order.level.name)
        self._wake(signed.lifted.digest)
        self._follow()

    def _follow(self) -> None:
        """What an order changes here comes after the nodes' streams have had their turn."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.changed()
            return
        loop.call_later(0.005, lambda: self.changed())

    def _tell(self, order: HaltOrder, notice: halt_pb2.HaltNotice) -> None:
        for attendance in list(self._attending.values()):
            if _is_for(order, attendance.member, attendance.node):
                attendance.tell(notice)

    @property
    def lease_seconds(self) -> float:
        return lease_seconds(self._registry.roll())

    # --------------------------------------------------------------------------------------------------------- attending

    def attend(self, member: str, node: str) -> Attendance:
        """Every order and lift that reaches the node is on the stream when this returns."""
        attendance = Attendance(member, node)
        attendance.tell(halt_pb2.HaltNotice(receipt_key=self._key.public))
        for signed in self.book.orders():
            if _is_for(signed.order, member, node):
                attendance.tell(halt_pb2.HaltNotice(order=signed.envelope))
                lift = self.book.lift_of(signed.digest)
                if lift is not None:
                    attendance.tell(halt_pb2.HaltNotice(lift=lift.envelope))
        older = self._attending.get((member, node))
        self._attending[member, node] = attendance
        if older is not None:
            older.close()
        return attendance

    def amended(self, _old: Roll, roll: Roll) -> None:
        """A new roll is in force: whoever it puts out hears and says nothing here any more, and its lease is its last."""
        with self._database.transaction() as change:
            rows = change.nodes()
        for row in rows:
            attendance = self._attending.get((row.member, row.node))
            if attendance is not None and state_of(row, roll) in REFUSED_STATES:
                attendance.close()
                self.leave(attendance)

    def leave(self, attendance: Attendance) -> None:
        key = (attendance.member, attendance.node)
        if self._attending.get(key) is attendance:
            del self._attending[key]

    def heard(self, attendance: Attendance, report: halt_pb2.HaltReport) -> None:
        """What a node says on its stream; what is wrong with it is logged, and changes nothing."""
        kind = report.WhichOneof("report")
        try:
            if kind == "lease":
                self._grant(attendance, report.lease)
            elif kind == "acknowledgement":
                self._acknowledged(attendance, report.acknowledgement)
            elif kind in {"order", "lift"}:
                self.give(report.order, report.lift)
        except FederationError as error:
            attendance.refusals += 1
            if attendance.refusals <= REFUSALS_LOGGED:
                log.warning(
                    "halt.refused", member=attendance.member, node=attendance.node, kind=kind, detail=error.message
                )

    def _grant(self, attendance: Attendance, number: int) -> None:
        standing = [
            signed.digest
            for signed in self.book.standing()
            if _is_for(signed.order, attendance.member, attendance.node)
        ]
        self._leases[attendance.member, attendance.node] = self._clock()
        attendance.tell(halt_pb2.HaltNotice(lease=halt_pb2.HaltLease(number=number, standing=standing)))

    def _acknowledged(self, attendance: Attendance, envelope: bytes) -> None:
        credential = self._credential(attendance.member, attendance.node)
        if credential is None:
            raise InvalidIdentity("The node is not enrolled.")
        said = open_acknowledgement(envelope, credential.identity_key)
        if (said.member, said.node) != (attendance.member, attendance.node) or self.book.order(said.order) is None:
            raise InvalidIdentity("The acknowledgement is for another node, or for an order that there is not.")
        now = self._clock()
        with self._database.transaction() as change:
            first = change.halts.answer(AnswerRow(said.order, said.member, said.node, envelope, now))
        if first and said.order in self._receipts:
            self.carried_out(now - self._receipts[said.order][1])
        self._wake(said.order)

    def _credential(self, member: str, node: str) -> NodeCredential | None:
        with self._database.transaction() as change:
            row = change.node(member, node)
        try:
            return None if row is None else verify_credential(row.credential, self._registry.roll(), None)
        except InvalidIdentity:
            return None

    def _node_key(self, member: str, node: str) -> bytes | None:
        credential = self._credential(member, node)
        return None if credential is None else credential.identity_key

    # ----------------------------------------------------------------------------------------------------------- showing

    def standing(self) -> tuple[tuple[HaltOrder, float], ...]:
        """Orders that nobody has lifted, with when they came. From any thread: what the book and the receipts hold is only ever
        added to."""
        lifted = {lift.lifted.digest for lift in self.book.lifts()}
        orders = [each for each in self.book.orders() if each.digest not in lifted and not each.order.drill]
        return tuple((each.order, self._receipts.get(each.digest, (b"", self._clock()))[1]) for each in orders)

    def _wake(self, digest: bytes) -> None:
        self._watchers.pop(digest, asyncio.Event()).set()

    def change(self, digest: bytes) -> asyncio.Event:
        """Is set at the next change. To be asked for before the view is: what changes between the two would be missed."""
        return self._watchers.setdefault(digest, asyncio.Event())

    def views(self) -> Iterator[halt_pb2.HaltView]:
        """Newest first."""
        for signed in reversed(self.book.orders()):
            yield self.view(signed.digest)

    def view(self, digest: bytes) -> halt_pb2.HaltView:
        """Raises NotFound."""
        signed = self.book.order(digest)
        if signed is None:
            raise NotFound("There is no such order.", hint="See: concord get halts")
        lift = self.book.lift_of(digest)
        receipt, received = self._receipts[digest]
        with self._database.transaction() as change:
            answers, nodes = change.halts.answers(digest), change.nodes()
            places = change.placement(signed.order.job.hex()) if signed.order.job else ()
            asked = change.consents(signed.order.job.hex()) if signed.order.job else ()
        said = {(row.member, row.node) for row in answers}
        part_in = {*places, *((row.member, row.node) for row in asked)}
        view = halt_pb2.HaltView(
            digest=digest,
            order=signed.envelope,
            lift=b"" if lift is None else lift.envelope,
            receipt=receipt,
            received=_moment(received),
        )
        credentials = {(row.member, row.node): row.credential for row in nodes}
        for row in answers:
            view.answers.add(
                member=row.member,
                node=row.node,
                acknowledgement=row.acknowledgement,
                credential=credentials.get((row.member, row.node), b""),
                heard=_moment(row.heard),
            )
        for member, node in sorted(set(credentials) - said):
            if _is_for(signed.order, member, node) and (not part_in or (member, node) in part_in):
                granted = self._leases.get((member, node))
                ends = "" if granted is None else _moment(granted + self.lease_seconds)
                attending = (member, node) in self._attending
                view.awaited.add(member=member, node=node, attending=attending, lease_ends=ends)
        return view


def _is_for(order: HaltOrder, member: str, node: str) -> bool:
    """Whether a node must hear it: what halts another member alone it need not, and could not check where a node signed it."""
    if order.by.kind == "node":
        return (order.by.id, order.by.node) == (member, node)
    return order.member in {"", member}


def _subject(order: HaltOrder, *words: str) -> str:
    """For the log: names and digests, never the reason."""
    named = [f"scope={order.scope}", *words]
    if order.job:
        named.append(f"job={order.job.hex()}")
    if order.member:
        named.append(f"member={order.member}")
    if order.by.node:
        named.append(f"node={order.by.node}")
    return " ".join(named)


def _moment(seconds: float) -> str:
    """RFC 3339, UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
