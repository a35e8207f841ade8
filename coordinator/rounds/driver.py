"""Drives one job's CollectorMachine.

Order: events that arrived together are given to the machine, then stored with their effects and audit entries in one
transaction, then the instructions are performed. A killed coordinator replays the stored events (from the last checkpoint,
taken whenever a state is certified), says ``Lost`` for everybody, and is told again by the members that return. Instructions
may be performed twice.

Messages that lead to no instruction are stored with the next that does, or a second later: nothing has left this process that
depends on them, so that losing them is the same as losing them on the way, and members that return say them again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol, cast

import structlog

from coordinator.rounds.chronicle import Chronicle
from coordinator.rounds.sums import make_sum
from coordinator.rounds.uploads import Uploads
from coordinator.rounds.views import RoundViews
from coordinator.store.blobs import Blobs
from coordinator.store.database import Change, Database
from coordinator.store.spool import Spool
from federation.errors import FederationError, NotFound, OutOfOrder, ProtocolViolation
from federation.identity.credential import NodeCredential, once_verified
from federation.identity.roll import Roll
from federation.log_events import Current, about
from federation.manifest.manifest import Manifest
from federation.secagg import codec, events, wire
from federation.secagg.collector import CollectorMachine
from federation.secagg.messages import Receipt, Sealing, Unmasked, Upload
from federation.v1 import rounds_pb2
from federation.weights.state import MAX_FILE, file_limit, read_state

log = structlog.get_logger()

INLINE_SUM: Final = 256 << 10
BATCH: Final = 256
INBOX: Final = 1024
"""events that wait: while there are more, nothing is read from the nodes' streams"""
MESSAGES_OF_A_MEMBER: Final = 20_000
BYTES_OF_A_MEMBER: Final = 256 << 20
"""of one member's messages that are stored until the next state is certified; what it says beyond is lost on the way"""
SAID: Final = (events.From, events.TaskBroke, events.StateGiven, events.StateRefused, events.ContributionLost)
"""what a member may say as often as it likes"""
ASKS: Final = 4
FLUSH_SECONDS: Final = 1.0


class Ear(Protocol):
    """What the driver tells the rest of the coordinator."""

    def changed(self, job: str) -> None: ...

    def closed(
        self, job: str, outcome: str, cohort: tuple[str, ...], phases: dict[str, float], received: int
    ) -> None: ...

    def rounds_over(self, job: str) -> None:
        """Every round is closed and the final state certified; ``want_release`` has members give it, once they may."""
        ...

    def final_state(self, job: str, blob: bytes, sealings: tuple[Sealing, ...]) -> None: ...

    def stuck(self, job: str, reason: str) -> None: ...

    def misconduct(self, job: str, member: str, check: str) -> None: ...


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
        self._unsaved: list[tuple[int, float, bytes]] = []
        self._flush_timer: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._spoken: dict[str, tuple[int, int]] = {}
        """(messages, bytes) of each member since the last checkpoint"""
        self._asked: Counter[str] = Counter()
        """states that each member was asked for and has not put yet"""
        self._checking_state: set[str] = set()
        self._moment: float | None = None
        """the time of the event in hand: a replay judges credentials as the first run did"""
        self._final: bytes | None = None
        self._decision = b""
        self._sealings: dict[bytes, dict[int, Sealing]] = {}
        """what members say of the final state, by the sealed file and the member"""
        self._answered = asyncio.Event()
        self.names = {"job": self._job[:12], "name": manifest.name, "round": Current(lambda: self.machine.round)}
        """as whatever is logged of this job says them"""
        self._log = log.bind(**self.names)
        self._load()

    # --------------------------------------------------------------------------------------------------------- starting

    def _load(self) -> None:
        with self._desk.database.transaction() as change:
            checkpoint = change.checkpoint(self._job)
            stored = change.events(self._job)
            self._chronicle = Chronicle(self._job, self._terms, RoundViews(change.rounds(self._job)))
            self._sum_digest = change.piece(self._job, "sum", 0) or b""
            self._small_sum = change.piece(self._job, "small-sum", 0) or b""
            layout = change.piece(self._job, "layout", 0)
            last = change.piece(self._job, "receipts", self._terms.last_round)
            kept = change.updates(self._job)
        parameters = int.from_bytes(layout, "big") if layout is not None else None
        self._uploads = Uploads(self.manifest.digest, self._terms, self._desk.spool, kept, parameters)
        windows = self.manifest.windows()
        if checkpoint is None:
            self.machine = CollectorMachine(self._terms, windows, self._credential)
        else:
            self.machine = CollectorMachine.from_checkpoint(self._terms, windows, self._credential, checkpoint)
        self._sequence = 0
        for sequence, time, data in stored:
            event = wire.event_from_bytes(data)
            self._weigh(event, len(data))
            self._moment = time
            self.machine.handle(event, time)
            if isinstance(event, events.From) and isinstance(event.message, Upload):
                self._uploads.recall(event.message.context, event.member)
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

    def leave(self, change: Change, reason: str) -> None:
        """The job ends: what is shown of an open round says so. ``stop`` comes after."""
        self._chronicle.leave(change, reason, self._desk.clock())

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        for task in list(self._tasks):
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._flush()

    def _credential(self, envelope: bytes) -> NodeCredential:
        now = None if self._moment is None else datetime.fromtimestamp(self._moment, UTC)
        return once_verified(envelope, self._roll, now)  # a replay under a newer roll judges as the first run did

    # ----------------------------------------------------------------------------------------------------------- inputs

    @property
    def members(self) -> dict[str, str]:
        """member -> node that holds its seat."""
        return self._node

    def seat(self, member: str, node: str) -> None:
        """A member that joins a job that is under way."""
        self._node[member] = node

    def amended(self, roll: Roll) -> None:
        """A new roll is in force: whoever comes in from now on is on it."""
        self._roll = roll

    def leave_out(self, member: str) -> None:
        """It has taken its consent back, or was put out by a roll. Said again after a start, it changes nothing."""
        if member not in self.machine.left:
            self.say(events.Left(member))

    @property
    def takes_members(self) -> bool:
        """Whether a roster stands, and another epoch may follow it."""
        return bool(self.machine.seats) and self.machine.round < self._terms.last_round and not self._final

    def say(self, event: events.CollectorEvent) -> None:
        self._queue.put_nowait(event)
        if self._queue.qsize() >= INBOX:
            self._room.clear()

    async def room(self) -> None:
        """Returns when few enough events wait: who reads a node's stream asks before it reads on."""
        await self._room.wait()

    def upload(self, member: str, proto: rounds_pb2.Upload) -> None:
        """An Upload whose bytes ride along or lie in the spool. They are checked against its root before it counts."""
        message: Upload = wire.from_proto(proto)
        self._spawn(self._check_upload(member, message, proto.inline_update))

    def expected(self, member: str, context: bytes) -> None:
        """Raises OutOfOrder when ``member`` has nothing to upload for ``context`` now: also when its update is whole, so that
        nothing is added to what is hashed or counted."""
        if self._uploads.taken(context, member):
            raise OutOfOrder("This update is whole, and nothing is added to it.", hint="Wait for the round to close.")
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

    def audit(self, context: bytes, leaf: int) -> Iterator[rounds_pb2.AuditPart]:
        """What the cohort of the round that was closed last uploaded at one place. Raises NotFound when it is over.

        For a thread, piece by piece: nothing is read before it is asked for.
        """
        unmasked = self.machine.unmasked(context)
        if not unmasked:
            raise NotFound(
                "Nothing can be audited for this context now.", hint="The round is over; the next one can be."
            )
        return (self._shown(context, leaf, member, each) for member, each in unmasked)

    def _shown(self, context: bytes, leaf: int, member: str, unmasked: Unmasked) -> rounds_pb2.AuditPart:
        part = wire.unmasked_to_proto(unmasked)
        part.data, path = self._uploads.shown(context, member, leaf)
        part.path.extend(path)
        return part

    def state_stored(self, member: str, proto: rounds_pb2.StateStored) -> None:
        """A member says that a state's file is among the blobs. Of one that was not asked for it nothing is read."""
        if proto.state_digest != self._final and not self.machine.asked_for(member, proto.state_digest):
            return
        if member in self._checking_state:
            return  # one at a time: each is read whole
        self._checking_state.add(member)
        self._spawn(self._check_state(member, proto.state_digest, proto.blob, proto.epoch))

    def state_refused(self, member: str, proto: rounds_pb2.StateRefused) -> None:
        """A member says that the file that it was told of does not hold the state."""
        if not self.machine.told_of(member, proto.state_digest, proto.blob):
            return
        self._log.warning("state.refused-by-member", member=member, blob=proto.blob.hex()[:16])
        self.say(events.StateRefused(member, proto.state_digest, proto.blob))

    # ----------------------------------------------------------------------------------------------------------- inside

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, context=about(**self.names))
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
            if self._queue.qsize() < INBOX:
                self._room.set()
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
        for event in batch:
            if isinstance(event, SAID) and self._said_enough(event.member):
                out += self._flooded(event.member)
                continue
            try:
                out += self.machine.handle(event, now)
            except OutOfOrder as error:
                self._log.warning("collector.out-of-order", what=type(event).__name__, detail=str(error))
                continue
            self._sequence += 1
            data = wire.event_to_bytes(event)
            self._weigh(event, len(data))
            self._unsaved.append((self._sequence, now, data))
        if not out and all(isinstance(event, events.From) for event in batch):
            if self._flush_timer is None and self._unsaved:
                self._flush_timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush)
            return
        self._commit(out, now)
        for instruction in out:
            self._perform(instruction)
        self._desk.ear.changed(self._job)

    def _weigh(self, event: events.CollectorEvent, size: int) -> None:
        if isinstance(event, SAID):
            count, total = self._spoken.get(event.member, (0, 0))
            self._spoken[event.member] = count + 1, total + size

    def _said_enough(self, member: str) -> bool:
        count, total = self._spoken.get(member, (0, 0))
        return count >= MESSAGES_OF_A_MEMBER or total >= BYTES_OF_A_MEMBER

    def _flooded(self, member: str) -> Sequence[events.Misconduct]:
        """Said once: the count that is kept is left behind."""
        count, total = self._spoken[member]
        if count > MESSAGES_OF_A_MEMBER:
            return ()
        self._spoken[member] = MESSAGES_OF_A_MEMBER + 1, total
        wrong = ProtocolViolation(
            f"{member} says more than a round can hold; what it says is dropped until the next state is certified.",
            check="flood",
            hint="Its node is broken, or hostile.",
        )
        return (events.Misconduct(member, wrong, proof=False),)

    def _commit(self, out: Sequence[events.CollectorInstruction], now: float) -> None:
        roster = [seat.member for seat in self.machine.seats]
        with self._desk.database.transaction() as change:
            self._uploads.save(change)
            change.add_events(self._job, self._unsaved)
            for instruction in out:
                self._chronicle.write(change, instruction, roster, now)
                if isinstance(instruction, events.RoundClosed):
                    change.put_evidence(self._job, "sum", 0, instruction.sum_blob)
                    change.put_evidence(self._job, "small-sum", 0, self._small_sum_of(instruction.sum_blob))
                    if self._uploads.parameters is not None:
                        change.put_evidence(self._job, "layout", 0, self._uploads.parameters.to_bytes(8, "big"))
                elif isinstance(instruction, events.Discard):
                    self._uploads.forget(change, instruction.context)
            if any(isinstance(instruction, events.StateCertified) for instruction in out):
                change.set_checkpoint(self._job, self.machine.checkpoint())
                self._spoken.clear()
        self._unsaved.clear()
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None

    def _flush(self) -> None:
        if self._unsaved:
            self._commit((), self._desk.clock())

    def _perform(self, instruction: events.CollectorInstruction) -> None:
        match instruction:
            case events.Tell():
                self._tell(instruction)
            case events.Unmask():
                self._spawn(self._unmask(instruction))
            case events.Discard():
                self._uploads.discard(instruction.context)
            case events.PhaseChanged() if instruction.phase in {"closed", "aborted", "void"}:
                view = self._chronicle.views.views[instruction.round, instruction.attempt]
                self._desk.ear.closed(
                    self._job, instruction.phase, tuple(view.cohort), dict(view.phase_seconds), view.bytes_up
                )
            case events.RoundClosed():
                self._log.info("round.closed", round=instruction.round, attempt=instruction.attempt)
                if self._sum_digest not in (b"", instruction.sum_blob):
                    self._desk.blobs.erase(self._sum_digest)  # who lacks it gets the state instead
                self._sum_digest = instruction.sum_blob
            case events.JobDone():
                self._final = instruction.state_digest
                self._desk.ear.rounds_over(self._job)
            case events.Misconduct(violation=violation):
                self._desk.ear.misconduct(self._job, instruction.member, violation.check)
            case events.JobStuck():
                self._desk.ear.stuck(self._job, instruction.reason)
            case _:
                pass

    def _tell(self, tell: events.Tell) -> None:
        proto = wire.to_proto(tell.message)
        if isinstance(proto, rounds_pb2.Close) and proto.sum_size <= INLINE_SUM:
            proto.inline_sum = self._small_sum_of(proto.sum_blob) or self._desk.blobs.path(proto.sum_blob).read_bytes()
        if isinstance(proto, rounds_pb2.ProvideState):
            for member in tell.members:
                self._ask_state(member)
        data = self._instruction(proto)  # encoded once for all
        for member in tell.members:
            self._desk.post(member, self._node[member], data)

    def _instruction(self, proto: object) -> bytes:
        return instruction_bytes(self.manifest.digest, proto)

    def _ask_state(self, member: str) -> None:
        self._asked[member] = min(self._asked[member] + 1, ASKS)

    def _ask_release(self, member: str, digest: bytes) -> bool:
        self._ask_state(member)
        proto = rounds_pb2.ProvideRelease(state_digest=digest, receipts=self._final_receipts(), decision=self._decision)
        return self._desk.post(member, self._node[member], self._instruction(proto))

    def _final_receipts(self) -> list[rounds_pb2.Receipt]:
        with self._desk.database.transaction() as change:
            data = change.piece(self._job, "receipts", self._terms.last_round)
        if data is None:
            return []
        receipts: tuple[Receipt, ...] = codec.decode(data, tuple[Receipt, ...])
        return [cast(rounds_pb2.Receipt, wire.to_proto(each)) for each in receipts]

    # ----------------------------------------------------------------------------------------------------- heavier work

    async def _check_upload(self, member: str, message: Upload, inline: bytes) -> None:
        try:
            self.expected(member, message.context)
        except OutOfOrder:
            return  # the attempt is over: the member is told so anyhow
        header_only = self._terms.header_only(self.machine.round)
        try:
            verdict = await self._uploads.check(
                member, message, inline, header_only=header_only, members=len(self.machine.seats)
            )
        except FederationError as error:
            self.say(events.TaskBroke(member, error.message))
            return
        for counted in verdict.counted:
            if (announced := self.machine.announced) is not None and announced.context == message.context:
                self._chronicle.views.uploaded((self.machine.round, self.machine.attempt), counted.size)
            self.say(events.From(counted.member, counted.message))
        for other, why in verdict.refused:
            self.say(events.TaskBroke(other, why))

    async def _unmask(self, unmask: events.Unmask) -> None:
        seats = self.machine.seats
        members = [seats[index - 1].member for index in unmask.cohort]
        unit = max(seat.weight for seat in seats)
        try:
            made = await asyncio.to_thread(
                make_sum, self._uploads, self._desk.blobs, self._terms, unmask, members, unit
            )
        except FederationError as error:
            self.say(events.SumFailed(unmask.plan.context, error.message))
            return
        if made.small:
            self._small_sum = made.small
        self.say(events.SumReady(unmask.plan.context, made.digest, made.size))

    def _small_sum_of(self, digest: bytes) -> bytes:
        """Empty when the sum of this digest is a blob."""
        return self._small_sum if hashlib.sha256(self._small_sum).digest() == digest else b""

    async def _check_state(self, member: str, digest: bytes, blob: bytes, epoch: int) -> None:
        try:
            path = self._desk.blobs.path(blob)
            if not self._terms.blind:  # of what is sealed only members can tell
                state = await asyncio.to_thread(read_state, path)
                if await asyncio.to_thread(state.digest) != digest:
                    raise ProtocolViolation("The state's file is another state's.", check="state-digest")
        except FederationError as error:
            self._log.warning("state.refused", member=member, detail=error.message)
            self.say(events.TaskBroke(member, error.message))
            return
        finally:
            self._checking_state.discard(member)
        if digest != self._final:
            self.say(events.StateGiven(member, digest, blob, epoch))
        elif not self._terms.blind:
            self._desk.ear.final_state(self._job, blob, ())

    def sealing(self, member: str, proto: rounds_pb2.Sealing) -> None:
        """What a member says of the sealed final state. Raises ProtocolViolation, or NotFound when the file is not there."""
        said: Sealing = wire.from_proto(proto)
        bench, final = self.machine.bench, self._final
        if final is None or bench is None or said.index != self.machine.index_of.get(member):
            return
        bench.check_sealing(said, final, len(self.manifest.recipients))
        self._desk.blobs.path(said.sealed_blob)
        for others in self._sealings.values():
            others.pop(said.index, None)  # its last word counts
        agreed = self._sealings.setdefault(said.sealed_blob, {})
        agreed[said.index] = said
        self._answered.set()
        if len(agreed) > bench.quorums.f:
            self._desk.ear.final_state(self._job, said.sealed_blob, tuple(agreed[index] for index in sorted(agreed)))

    async def _want_final(self) -> None:
        """Asks one member after another for the final state: until one has put it, or f + 1 have said where it is sealed."""
        digest = self._final
        if digest is None:
            return
        while True:
            for member in sorted(set(self._node) - self.machine.left):
                self._answered.clear()
                if self._ask_release(member, digest):
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._answered.wait(), self.manifest.windows().phase)
            await asyncio.sleep(1.0)

    def want_release(self, decision: bytes = b"") -> None:
        """The rounds are over: somebody has to give the final state. ``decision``: the members' vote, where one is needed."""
        self._decision = decision
        if self._final is not None and (self._asking is None or self._asking.done()):
            self._asking = self._spawn(self._want_final())

    def state_limit(self, member: str) -> int:
        """Bytes of the blob that ``member`` may put, since it was asked for a state; 0: it was not."""
        if not self._asked[member]:
            return 0
        parameters = self._uploads.parameters  # as f + 1 members have uploaded them
        return MAX_FILE if parameters is None else file_limit(parameters)

    def gave_state(self, member: str) -> None:
        """It has put a blob: for another it waits until it is asked again."""
        self._asked[member] = max(self._asked[member] - 1, 0)

    @property
    def done(self) -> bool:
        return self.machine.phase == "done"


def instruction_bytes(job: bytes, proto: object) -> bytes:
    """An Instruction's encoding, made once however many members it goes to."""
    kind = type(proto).__name__
    field = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in kind).lstrip("_")
    return rounds_pb2.Instruction(job=job, **{field: proto}).SerializeToString()  # type: ignore[arg-type]
