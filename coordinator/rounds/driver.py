"""Drives one job's CollectorMachine.

Order: events that arrived together are given to the machine, then stored with their effects and audit entries in one
transaction, then the instructions are performed. A killed coordinator replays the stored events (from the last checkpoint,
taken whenever a state is certified), says ``Lost`` for everybody, and is told again by the members that return. Instructions
may be performed twice.

How many parameters the model has is nowhere in the manifest, and the coordinator never sees the model: it is the size that f+1
members (one honest, at least) have uploaded, and from the first closed round on it stands.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import structlog

from coordinator.rounds.views import RoundViews
from coordinator.store.blobs import Blobs
from coordinator.store.database import Change, Database
from coordinator.store.spool import Spool
from federation.errors import FederationError, OutOfOrder, ProtocolViolation
from federation.identity.credential import NodeCredential, verify_credential
from federation.identity.roll import Roll
from federation.manifest.manifest import Manifest
from federation.secagg import codec, events, wire
from federation.secagg.collector import CollectorMachine
from federation.secagg.encoding import (
    Accumulator,
    encoding_of,
    header_words,
    mean_metrics,
    read_sum,
    root_of,
    update_size,
)
from federation.secagg.messages import Announcement, Certificate, Receipt, Upload
from federation.secagg.parameters import Quorums
from federation.v1 import rounds_pb2
from federation.weights.state import read_state

log = structlog.get_logger()

INLINE_SUM: Final = 256 << 10
INLINE_UPDATE: Final = 512 << 10
MAX_STATE: Final = 64 << 30
BATCH: Final = 256
REFUSALS_KEPT: Final = 100
"""of each member; a story does not grow with a peer's patience"""
AT_ONCE: Final = 256 << 10
"""updates up to this size are checked without a thread"""


class Ear(Protocol):
    """What the driver tells the rest of the coordinator."""

    def changed(self, job: str) -> None: ...

    def closed(self, job: str, outcome: str, cohort: int, phases: dict[str, float], received: int) -> None: ...

    def final_state(self, job: str, blob: bytes) -> None: ...

    def stuck(self, job: str, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Desk:
    """What every driver works with."""

    database: Database
    blobs: Blobs
    spool: Spool
    post: Callable[[str, str, bytes], bool]
    """(member, node, instruction's bytes) -> whether it was queued"""
    clock: Callable[[], float]
    ear: Ear


class JobDriver:
    def __init__(self, desk: Desk, manifest: Manifest, roll: Roll, placement: Sequence[tuple[str, str]]) -> None:
        self._desk = desk
        self.manifest = manifest
        self._roll = roll
        self._node = dict(placement)
        self._job = manifest.digest.hex()
        self._terms = manifest.terms()
        self._queue: asyncio.Queue[events.CollectorEvent] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._received: set[tuple[bytes, str]] = set()
        self._checking: set[tuple[bytes, str]] = set()
        self._sizes: dict[tuple[bytes, str], tuple[int, Upload]] = {}
        """checked uploads of the first round, until enough of them agree on a size"""
        self._last_sum = b""
        self._refusals: Counter[str] = Counter()
        self._asking: asyncio.Task[None] | None = None
        self._asked: set[str] = set()
        self._moment: float | None = None
        """the time of the event in hand: a replay judges credentials as the first run did"""
        self._parameters: int | None = None
        self._final: bytes | None = None
        self._log = log.bind(job=self._job[:12], name=manifest.name)
        self._load()

    # --------------------------------------------------------------------------------------------------------- starting

    def _load(self) -> None:
        with self._desk.database.transaction() as change:
            checkpoint = change.checkpoint(self._job)
            stored = change.events(self._job)
            self._views = RoundViews(change.rounds(self._job))
            layout, self._last_sum = change.piece(self._job, "layout", 0), change.piece(self._job, "sum", 0) or b""
            last = change.piece(self._job, "receipts", self._terms.last_round)
        self._parameters = int.from_bytes(layout, "big") if layout is not None else None
        windows = self.manifest.windows()
        if checkpoint is None:
            self.machine = CollectorMachine(self._terms, windows, self._credential)
        else:
            self.machine = CollectorMachine.from_checkpoint(self._terms, windows, self._credential, checkpoint)
        self._sequence = 0
        for sequence, time, data in stored:
            event = wire.event_from_bytes(data)
            self._moment = time
            self.machine.handle(event, time)
            if isinstance(event, events.From) and isinstance(event.message, Upload):
                self._received.add((event.message.context, event.member))
            self._sequence = sequence
        if checkpoint is None and not stored:
            return
        if self.done and last is not None:
            self._final = codec.decode(last, tuple[Receipt, ...])[0].state_digest
        for instruction in self.machine.resume(self._desk.clock()):
            self._perform(instruction)
        for member in self.machine.present:
            self._queue.put_nowait(events.Lost(member))

    def start(self) -> None:
        self._spawn(self._run())

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        for task in list(self._tasks):
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _credential(self, envelope: bytes) -> NodeCredential:
        now = None if self._moment is None else datetime.fromtimestamp(self._moment, UTC)
        return verify_credential(envelope, self._roll, now)

    # ----------------------------------------------------------------------------------------------------------- inputs

    @property
    def members(self) -> dict[str, str]:
        """member -> node that holds its seat."""
        return self._node

    def say(self, event: events.CollectorEvent) -> None:
        self._queue.put_nowait(event)

    def upload(self, member: str, proto: rounds_pb2.Upload) -> None:
        """An Upload whose bytes ride along or lie in the spool. They are checked against its root before it counts."""
        message: Upload = wire.from_proto(proto)
        inline = proto.inline_update
        if len(inline) > INLINE_UPDATE:
            raise ProtocolViolation("An update rides along that is too large for it.", check="inline-size")
        self._spawn(self._check_upload(member, message, inline))

    def expected(self, member: str, context: bytes) -> None:
        """Raises OutOfOrder when ``member`` has nothing to upload for ``context`` now."""
        announced = self.machine.announced
        index = self.machine.index_of.get(member)
        if (
            announced is None
            or announced.context != context
            or index not in announced.ready
            or self.machine.phase != "collecting"
        ):
            raise OutOfOrder(
                "Nothing is collected for this context now.", hint="The attempt is over; the member joins the next."
            )

    def state_stored(self, member: str, proto: rounds_pb2.StateStored) -> None:
        self._spawn(self._check_state(member, proto.state_digest, proto.blob))

    # ----------------------------------------------------------------------------------------------------------- inside

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("driver.failed", error=type(error).__name__, detail=str(error))
            self._desk.ear.stuck(
                self._job, f"The coordinator met an internal error ({type(error).__name__}); see its log."
            )

    async def _run(self) -> None:
        while True:
            batch = [await self._next()]
            while len(batch) < BATCH and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            self._handle(batch)

    async def _next(self) -> events.CollectorEvent:
        """The next event, a Tick when the deadline comes first. (asyncio.wait_for may swallow a cancellation here.)"""
        deadline, alarm = self.machine.deadline, None
        if deadline is not None:
            wait = max(0.0, deadline - self._desk.clock())
            alarm = asyncio.get_running_loop().call_later(wait, self._queue.put_nowait, events.Tick())
        try:
            return await self._queue.get()
        finally:
            if alarm is not None:
                alarm.cancel()

    def _handle(self, batch: Sequence[events.CollectorEvent]) -> None:
        now = self._moment = self._desk.clock()
        out: list[events.CollectorInstruction] = []
        with self._desk.database.transaction() as change:
            for event in batch:
                try:
                    out += self.machine.handle(event, now)
                except OutOfOrder as error:
                    self._log.warning("collector.out-of-order", event=type(event).__name__, detail=str(error))
                    continue
                self._sequence += 1
                change.add_event(self._job, self._sequence, now, wire.event_to_bytes(event))
            for instruction in out:
                self._record(change, instruction, now)
            if any(isinstance(instruction, events.StateCertified) for instruction in out):
                change.set_checkpoint(self._job, self.machine.checkpoint())
        for instruction in out:
            self._perform(instruction)
        self._desk.ear.changed(self._job)

    def _record(self, change: Change, instruction: events.CollectorInstruction, now: float) -> None:
        job = self._job
        match instruction:
            case events.PhaseChanged():
                roster = [seat.member for seat in self.machine.seats]
                view = self._views.change(instruction, roster, now)
                if view is not None:
                    change.put_round(job, view.round, view.attempt, view.SerializeToString())
                if instruction.phase in {"aborted", "void"}:
                    change.add_line(
                        job,
                        now,
                        f"round {instruction.round}.{instruction.attempt} {instruction.phase}: {instruction.reason}",
                    )
                    change.audit(now, f"round-{instruction.phase}", job)
            case events.RosterFormed():
                members = tuple(seat.member for seat in instruction.seats)
                change.update_job(job, roster=members, epoch=instruction.epoch)
                change.add_line(job, now, f"roster of {len(members)} formed: {', '.join(members)}")
                change.audit(now, "roster", job, instruction.roster_hash)
            case events.RoundClosed():
                key = (instruction.round, instruction.attempt)
                self._views.close(key, mean_metrics(instruction.header, self._terms), instruction.header[0])
                change.put_evidence(
                    job, "certificate", instruction.round, codec.encode(instruction.certificate, Certificate)
                )
                change.put_evidence(job, "sum", 0, instruction.sum_blob)
                if self._parameters is not None:
                    change.put_evidence(job, "layout", 0, self._parameters.to_bytes(8, "big"))
                trained = min(instruction.round, self._terms.rounds)
                change.update_job(job, rounds_closed=trained)
                change.audit(now, "round-closed", job, instruction.sum_blob)
            case events.StateCertified():
                receipts = codec.encode(instruction.receipts, tuple[Receipt, ...])
                change.put_evidence(job, "receipts", instruction.round, receipts)
                change.audit(now, "state-certified", job, instruction.state_digest)
            case events.Misconduct():
                check = instruction.violation.check
                self._refusals[instruction.member] += 1
                if self._refusals[instruction.member] > REFUSALS_KEPT:
                    return
                change.add_line(job, now, f"{instruction.member}: refused ({check}): {instruction.violation.message}")
                change.audit(now, "misconduct", f"{job} {instruction.member} {check}", instruction.violation.evidence)
            case events.Tell(message=events.Roster() as roster_message):
                change.put_evidence(job, "roster", 0, codec.encode(roster_message, events.Roster))
            case events.Tell(message=events.RosterCertificate() as proof):
                change.put_evidence(job, "roster-certificate", 0, codec.encode(proof, events.RosterCertificate))
            case events.Tell(message=Announcement() as announcement):
                change.put_evidence(job, "announcement", announcement.round, codec.encode(announcement, Announcement))
            case _:
                pass

    def _perform(self, instruction: events.CollectorInstruction) -> None:
        match instruction:
            case events.Tell():
                self._tell(instruction)
            case events.AskState():
                self._ask_state(instruction.member, instruction.round, instruction.state_digest)
            case events.Unmask():
                self._spawn(self._unmask(instruction))
            case events.Discard():
                self._desk.spool.discard(self.manifest.digest, instruction.context)
                self._received = {key for key in self._received if key[0] != instruction.context}
                self._sizes = {key: held for key, held in self._sizes.items() if key[0] != instruction.context}
            case events.PhaseChanged() if instruction.phase in {"closed", "aborted", "void"}:
                view = self._views.views[instruction.round, instruction.attempt]
                self._desk.ear.closed(
                    self._job, instruction.phase, len(view.cohort), dict(view.phase_seconds), view.bytes_up
                )
            case events.RoundClosed():
                self._log.info("round.closed", round=instruction.round, attempt=instruction.attempt)
                if self._last_sum not in (b"", instruction.sum_blob):
                    self._desk.blobs.erase(self._last_sum)  # who lacks it gets the state instead
                self._last_sum = instruction.sum_blob
            case events.JobDone():
                self._final = instruction.state_digest
                self.want_release()
            case events.JobStuck():
                self._desk.ear.stuck(self._job, instruction.reason)
            case _:
                pass

    def _tell(self, tell: events.Tell) -> None:
        proto = wire.to_proto(tell.message)
        if isinstance(proto, rounds_pb2.Close) and proto.sum_size <= INLINE_SUM:
            proto.inline_sum = self._desk.blobs.path(proto.sum_blob).read_bytes()
        data = self._instruction(proto)  # encoded once for all
        for member in tell.members:
            self._desk.post(member, self._node[member], data)

    def _instruction(self, proto: object) -> bytes:
        return instruction_bytes(self.manifest.digest, proto)

    def _ask_state(self, member: str, round_number: int, digest: bytes) -> bool:
        self._asked.add(member)
        proto = rounds_pb2.ProvideState(round=round_number, state_digest=digest)
        return self._desk.post(member, self._node[member], self._instruction(proto))

    # ----------------------------------------------------------------------------------------------------- heavier work

    async def _check_upload(self, member: str, message: Upload, inline: bytes) -> None:
        desk, job, key = self._desk, self.manifest.digest, (message.context, member)
        if key in self._received or key in self._checking:
            return
        self._checking.add(key)
        try:
            self.expected(member, message.context)
            if inline:
                desk.spool.put(job, message.context, member, inline)
            size = desk.spool.held(job, message.context, member)
            self._parameters_of(size)
            if size <= AT_ONCE:
                root = self._root(message.context, member)
            else:
                root = await asyncio.to_thread(self._root, message.context, member)
            if root != message.root:
                desk.spool.drop(job, message.context, member)
                raise ProtocolViolation("The update's bytes are not those that were signed.", check="update-root")
        except OutOfOrder:
            return
        except FederationError as error:
            self.say(events.TaskBroke(member, error.message))
            return
        finally:
            self._checking.discard(key)
        if self._parameters is None and not self._terms.header_only(self.machine.round):
            self._sizes[key] = (size, message)
            self._agree(message.context)
        else:
            self._count(member, message, size)

    def _agree(self, context: bytes) -> None:
        """The first size that f+1 members have settles the layout; who has another is out of the attempt."""
        held = {member: entry for (of, member), entry in self._sizes.items() if of == context}
        size, backers = Counter(size for size, _message in held.values()).most_common(1)[0]
        if backers < Quorums.of(len(self.machine.seats)).f + 1:
            return
        self._parameters = self._parameters_of(size)
        self._sizes.clear()
        for member, (found, message) in held.items():
            if found == size:
                self._count(member, message, size)
            else:
                self.say(events.TaskBroke(member, "The update has another size than the other members'."))

    def _count(self, member: str, message: Upload, size: int) -> None:
        self._received.add((message.context, member))
        if (announced := self.machine.announced) is not None and announced.context == message.context:
            self._views.uploaded((self.machine.round, self.machine.attempt), size)
        self.say(events.From(member, message))

    def _parameters_of(self, size: int) -> int:
        """How many parameters an update of ``size`` bytes holds. Raises ProtocolViolation when it fits no layout."""
        width = self._terms.ring_bits // 8
        body = size - 8 * header_words(self._terms)
        parameters = body // width
        known = 0 if self._terms.header_only(self.machine.round) else self._parameters
        if body < 0 or body % width or (known is not None and parameters != known):
            raise ProtocolViolation("The update has another size than the other members'.", check="update-size")
        return parameters

    def _root(self, context: bytes, member: str) -> bytes:
        encoding = encoding_of(self._terms, max(3, len(self.machine.seats)), 1)
        self._desk.spool.settle(self.manifest.digest, context, member)
        with self._desk.spool.open(self.manifest.digest, context, member) as update:
            return root_of(update, self._terms, encoding)

    async def _unmask(self, instruction: events.Unmask) -> None:
        names = {seat.index: seat.member for seat in self.machine.seats}
        unit = min(self._terms.weight_cap, max(seat.weight for seat in self.machine.seats))
        members = [names[index] for index in instruction.cohort]
        try:
            event: events.CollectorEvent = await asyncio.to_thread(self._sum, instruction, members, unit)
        except FederationError as error:
            event = events.SumFailed(instruction.plan.context, error.message)
        self.say(event)

    def _sum(self, instruction: events.Unmask, members: Sequence[str], unit: int) -> events.SumReady:
        job, context = self.manifest.digest, instruction.plan.context
        encoding = encoding_of(self._terms, instruction.members, unit)
        accumulator: Accumulator | None = None
        parameters = 0
        for member in members:
            with self._desk.spool.open(job, context, member) as update:
                if accumulator is None:
                    overhead = update_size(self._terms, encoding, 0)
                    parameters = (len(update) - overhead) * 8 // self._terms.ring_bits
                    accumulator = Accumulator(self._terms, encoding, parameters)
                accumulator.add(update)
        if accumulator is None:
            raise ProtocolViolation("The cohort is empty.", check="cohort")
        accumulator.unmask(instruction.plan)
        checked = read_sum(accumulator.data, self._terms, encoding, len(members), instruction.total_weight, parameters)
        blob = self._desk.blobs.put(accumulator.data)
        return events.SumReady(context, blob, accumulator.data.nbytes, checked.header)

    async def _check_state(self, member: str, digest: bytes, blob: bytes) -> None:
        try:
            path = self._desk.blobs.path(blob)
            state = await asyncio.to_thread(read_state, path)
            if await asyncio.to_thread(state.digest) != digest:
                raise ProtocolViolation("The state's file is not the state that was asked for.", check="state-digest")
        except FederationError as error:
            self._log.warning("state.refused", member=member, detail=error.message)
            self.say(events.TaskBroke(member, error.message))
            return
        if digest == self._final:
            self._desk.ear.final_state(self._job, blob)
        else:
            self.say(events.StateStored(digest, blob))

    async def _want_final(self) -> None:
        """Asks one member after another for the final state until one has put it."""
        digest = self._final
        if digest is None:
            return
        while True:
            for member in sorted(self._node):
                if self._ask_state(member, self._terms.last_round + 1, digest):
                    await asyncio.sleep(self.manifest.windows().phase)
            await asyncio.sleep(1.0)

    def want_release(self) -> None:
        """The rounds are over: somebody has to give the final state."""
        if self._final is not None and (self._asking is None or self._asking.done()):
            self._asking = self._spawn(self._want_final())

    def awaits_state(self, member: str) -> bool:
        """Whether ``member`` was asked for a state, so that it may put a blob."""
        return member in self._asked

    @property
    def done(self) -> bool:
        return self.machine.phase == "done"


def instruction_bytes(job: bytes, proto: object) -> bytes:
    """An Instruction's encoding, made once however many members it goes to."""
    kind = type(proto).__name__
    field = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in kind).lstrip("_")
    return rounds_pb2.Instruction(job=job, **{field: proto}).SerializeToString()  # type: ignore[arg-type]
