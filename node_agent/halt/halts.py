"""Whether this node may go on: the orders on its disk, and its lease.

Two things stop a worker: an order that says stop, and a lease that has ended. Both are looked after by a thread of their own,
which needs neither the event loop nor the network: it reads what commands write into the home, and it ends processes. The clock is
the one that goes on while the machine sleeps, so that a node that wakes has no lease left over.

A stop is final for every job that it reaches here. The end of a lease is not: the worker ends, nothing is said or begun, and when
the coordinator answers again the job goes on.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from federation.errors import Halted, InvalidIdentity, Unavailable
from federation.halt.book import HaltBook, Part
from federation.halt.lease import Lease
from federation.halt.levels import Level, Step, permits
from federation.halt.order import SignedLift, SignedOrder, read_lift, read_order
from federation.halt.receipt import open_receipt
from node_agent.halt.folder import LIFT, ORDER, HaltFolder
from node_agent.halt.wards import Wards, end

log = structlog.get_logger()

LOOK_SECONDS: Final = 0.05
"""how often the home is looked at, and the lease"""
STRIKES: Final = 3

Check = Callable[[SignedOrder], None]
"""raises a FederationError for an order that does not bind this node"""
CheckLift = Callable[[SignedLift], None]


def asleep_too() -> float:
    """Seconds of a clock that only grows, also while the machine sleeps."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


@dataclass(slots=True)
class Told:
    """An order that is to be acknowledged."""

    signed: SignedOrder
    received: datetime
    began: float
    processes: int = 0


class Halts:
    """Implements ``gate.Gate``. Safe to use from several threads."""

    def __init__(
        self,
        folder: HaltFolder,
        member: str,
        node: str,
        lease_seconds: Callable[[], float],
        check: Check,
        check_lift: CheckLift,
        clock: Callable[[], float] = asleep_too,
    ) -> None:
        """``lease_seconds``: asked each time, as another roll may bring another charter."""
        self._seconds = lease_seconds
        self.folder, self._member, self._node, self._clock = folder, member, node, clock
        self._check, self._check_lift = check, check_lift
        self._lock = threading.RLock()
        self._book, self._lease, self._wards = HaltBook(), Lease(lease_seconds()), Wards()
        self._leads: dict[bytes, str] = {}
        self._files: set[str] = set()
        self._unreadable: tuple[str, ...] = ()
        self._stamp = -1
        self._told: dict[bytes, Told] = {}
        self._receipts: dict[bytes, datetime] = {}
        self._listeners: dict[bytes, Callable[[], None]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pulse = asyncio.Event()
        self._wake, self._ended = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._leased = False
        self.obey: Callable[[], None] = lambda: None
        """called in the event loop after each change"""
        self.distrust: Callable[[str], None] = lambda _why: None
        """called in the event loop when the coordinator is caught hiding an order"""
        self.round_over: Callable[[bytes], None] = lambda _job: None
        folder.prepare()
        self._look_into_the_home()

    # ----------------------------------------------------------------------------------------------------------- running

    def start(self) -> None:
        """In the event loop that is told of changes."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._watch, name="halts", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(10.0)

    def _watch(self) -> None:
        while not self._ended.is_set():
            try:
                self.look()
            except Exception as error:
                log.exception("halts.failed", error=type(error).__name__)
            self._wake.wait(LOOK_SECONDS)
            self._wake.clear()

    def look(self) -> None:
        """Once: what lies in the home, what has run out, and the end of what may not go on."""
        changed = self._look_into_the_home()
        with self._lock:
            leased = self._lease.holds(self._clock())
            changed = changed or leased != self._leased
            if self._leased and not leased:
                log.warning("lease.ended", hint="The coordinator has not answered. The node goes on when it does.")
            self._leased = leased
        self._end_what_may_not_run()
        if changed:
            self._tell()

    def _end_what_may_not_run(self) -> None:
        with self._lock:
            jobs = {job for job in self._wards.jobs() if not self._may_run(job)}
            doomed = self._wards.of(jobs) if jobs else ()
            stopping = [told for told in self._told.values() if told.signed.order.level is Level.stop]
        if doomed:
            count = end(doomed)
            log.warning("workers.ended", workers=len(doomed), processes=count, leased=self._leased)
            for told in stopping:
                told.processes += count

    def _may_run(self, job: bytes) -> bool:
        return self._lease.holds(self._clock()) and permits(self.level(job), Step.finish)

    def _tell(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._changed)

    def _changed(self) -> None:
        pulse, self._pulse = self._pulse, asyncio.Event()
        pulse.set()
        for listener in list(self._listeners.values()):
            listener()
        self.obey()

    # -------------------------------------------------------------------------------------------------------------- asked

    def level(self, job: bytes = b"", member: str = "") -> Level:
        """Of this member's part in a job, or of the member itself. The lease is another question."""
        with self._lock:
            if self._unreadable:
                return Level.stop
            return self._book.level(Part(job, member or self._member, self._node, self._leads.get(job, "")))

    def reason(self, job: bytes = b"") -> str:
        with self._lock:
            if self._unreadable:
                return f"the order {self._unreadable[0]} in {self.folder.root} cannot be read"
            found = self._book.halting(Part(job, self._member, self._node, self._leads.get(job, "")))
        if not found:
            return ""
        order = found[0].order
        return f"{order.level.name} of {order.words} by {order.by.words}: {order.reason or 'no reason given'}"

    def permits(self, job: bytes, step: Step) -> bool:
        with self._lock:
            return self._lease.holds(self._clock()) and permits(self.level(job), step)

    async def admit(self, job: bytes, step: Step) -> None:
        while not self.permits(job, step):
            if self.level(job) is Level.stop:
                raise Halted(f"The job is stopped here: {self.reason(job)}.", hint="Nothing more of it is done.")
            await self._pulse.wait()

    def settled(self, job: bytes) -> None:
        self.round_over(job)

    def listen(self, job: bytes, changed: Callable[[], None]) -> None:
        self._listeners[job] = changed

    def leave(self, job: bytes) -> None:
        self._listeners.pop(job, None)

    def know(self, job: bytes, lead: str) -> None:
        """Whose job it is: a lead's order halts its own jobs alone."""
        with self._lock:
            self._leads[job] = lead

    def end_job(self, job: bytes) -> None:
        """A stop has reached it here."""
        with self._lock:
            self._book.end(job, self._member)

    def started(self, job: bytes, pid: int) -> None:
        """A worker has been started. Raises Halted, or Unavailable, and it is ended, when an order came meanwhile, or the lease
        ran out."""
        with self._lock:
            self._wards.add(job, pid)
            allowed = self._may_run(job)
        if not allowed:
            end(ward for ward in self._wards.of({job}) if ward.pid == pid)
            if self.level(job) is Level.stop:
                raise Halted("The job was stopped while its worker started.", hint="Nothing was trained.")
            raise Unavailable(
                "The lease ended while the worker started.", hint="Another is started when it is renewed."
            )

    def workers(self) -> tuple[int, ...]:
        """The first process of each that runs."""
        return tuple(ward.pid for ward in self._wards.of())

    def halted_workers(self) -> int:
        """Of jobs that are stopped: those that have not ended yet."""
        jobs = {job for job in self._wards.jobs() if self.level(job) is Level.stop}
        return len(self._wards.of(jobs)) if jobs else 0

    def reaches(self, signed: SignedOrder, job: bytes) -> bool:
        with self._lock:
            return signed in self._book.halting(Part(job, self._member, self._node, self._leads.get(job, "")))

    # ------------------------------------------------------------------------------------------------------------- orders

    def take(self, envelope: bytes, receipt: bytes = b"") -> SignedOrder:
        """On disk when this returns, and in force. Raises InvalidIdentity or PolicyDenied for one that does not bind this node."""
        signed = read_order(envelope)
        self._check(signed)
        if receipt:
            open_receipt(receipt, signed.digest, self.folder.coordinator_key())
            self.folder.keep_receipt(signed.digest, receipt)
            self._wake.set()
        with self._lock:
            if self._book.order(signed.digest) is not None:
                return signed
        try:
            self.folder.keep_order(signed)
        except OSError as error:
            log.error("halt.not-on-disk", order=signed.digest.hex()[:12], detail=str(error))
        self._enter(signed)
        self._wake.set()
        self._tell()
        return signed

    def take_lift(self, envelope: bytes) -> None:
        """Raises InvalidIdentity, or Halted for what cannot be lifted."""
        signed = read_lift(envelope)
        self._check_lift(signed)
        with self._lock:
            if self._book.lift_of(signed.lifted.digest) is not None:
                return
        self.folder.keep_lift(signed)
        with self._lock:
            self._book.lift(signed)
        log.warning("halt.lifted", order=signed.lifted.digest.hex()[:12])
        self._tell()

    def _enter(self, signed: SignedOrder) -> None:
        with self._lock:
            if not self._book.take(signed):
                return
            self._files.add(f"{signed.digest.hex()}{ORDER}")
            self._told[signed.digest] = Told(signed, datetime.now(UTC), time.monotonic())
        order = signed.order
        log.warning(
            "halt.taken", order=signed.digest.hex()[:12], level=order.level.name, what=order.words, by=order.by.words
        )

    def _look_into_the_home(self) -> bool:
        """Whether there is something new. What lies in the lab's own home was checked when it was put there."""
        stamp = self.folder.stamp()
        if stamp == self._stamp:
            return False
        found = self.folder.read(frozenset(self._files))
        self._stamp = stamp
        for signed in found.orders:
            self._enter(signed)
        with self._lock:
            for lift in found.lifts:
                self._book.lift(lift)
                self._files.add(f"{lift.lifted.digest.hex()}{LIFT}")
            changed = bool(found.orders or found.lifts) or self._unreadable != found.unreadable
            self._unreadable = found.unreadable
            key = self.folder.coordinator_key()
            for order, receipt in self.folder.receipts().items():
                try:
                    self._receipts[order] = open_receipt(receipt, order, key).told_by
                except InvalidIdentity as error:
                    log.warning("receipt.refused", detail=error.message)
        for name in found.unreadable:
            log.error("halt.unreadable", file=name, hint="Everything is stopped until it is moved away.")
        return changed

    def told(self) -> tuple[Told, ...]:
        """Orders that are to be acknowledged."""
        with self._lock:
            return tuple(self._told.values())

    def answered(self, digest: bytes) -> None:
        with self._lock:
            self._told.pop(digest, None)

    def orders(self) -> tuple[SignedOrder, ...]:
        with self._lock:
            return self._book.orders()

    def lift_of(self, digest: bytes) -> SignedLift | None:
        with self._lock:
            return self._book.lift_of(digest)

    # ------------------------------------------------------------------------------------------------------------- lease

    @property
    def lease_seconds(self) -> float:
        return self._seconds()

    def ask(self) -> int:
        with self._lock:
            self._lease.seconds = self._seconds()
            return self._lease.ask(self._clock())

    def new_stream(self) -> None:
        with self._lock:
            self._lease.forget()

    def granted(self, number: int, standing: Collection[bytes]) -> None:
        with self._lock:
            held = {signed.digest for signed in self._book.orders()}
            before = self._lease.holds(self._clock())
            renewed = self._lease.answered(number, standing, held)
            missing = set(standing) - held
        if missing:
            log.error(
                "lease.not-renewed",
                unknown=sorted(digest.hex()[:12] for digest in missing),
                hint="The coordinator names orders that this node could not take; it stops when its lease ends.",
            )
        if renewed and not before:
            self._wake.set()
        self._look_for_hidden(frozenset(standing))

    def _look_for_hidden(self, standing: frozenset[bytes]) -> None:
        """An order that the coordinator has signed for, does not name, and nobody has lifted, is one that it hides."""
        with self._lock:
            late = datetime.now(UTC) - timedelta(seconds=self._lease.seconds)
            hidden = [
                signed
                for digest, told_by in self._receipts.items()
                if told_by < late
                and digest not in standing
                and (signed := self._book.order(digest)) is not None
                and not signed.order.drill
                and signed.order.member in {"", self._member}  # of others' own it is not told
                and self._book.lift_of(digest) is None
            ]
        if hidden and self.level() is not Level.stop:
            why = f"The coordinator has signed for the order {hidden[0].digest.hex()[:12]} and does not tell of it."
            log.error("halt.hidden", order=hidden[0].digest.hex(), detail=why)
            self.distrust(why)
