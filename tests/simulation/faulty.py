"""An honest coordinator on a faulty network: both real machines, a mock clock, and a list of ops that says which message
arrives, is lost or comes twice, who crashes and when, what times out, and what up to f members lie about.

``tests.simulation.invariants`` says what must hold. When the weather clears and nobody has lied, the job finishes.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from federation.errors import OutOfOrder
from federation.secagg import transcripts
from federation.secagg.events import Contribute, FetchState, PutState, Remember, RosterFormed, Send, Tick, Windows
from federation.secagg.member import MemberMachine
from federation.secagg.messages import Abort, Ack, Announcement, Ready, Receipt, RecoverReply, Reveal, Upload
from federation.secagg.parameters import Quorums
from tests.simulation.harness import JOB, Lab
from tests.simulation.hostile import cohorts_in
from tests.simulation.invariants import Broken, Watch, hold, shares_in
from tests.simulation.op_lists import Op, Profile, draw, shrunk
from tests.simulation.stand_ins import Quick

PATIENCE = 2_000
WINDOWS = Windows(formation=60, formation_attempts=10, ready=30, reconnect=5, round=600, phase=30, attempts=1000)


class Faulty(Quick):
    def __init__(self, n: int, colluders: Iterable[int] = (), *, guests: int = 0, **changes: Any) -> None:
        """``guests``: members that consent while the job runs, if ever."""
        super().__init__(n + guests, **{"windows": WINDOWS, "rounds": 2 + guests, **changes})
        self.away = self.names[n:]
        self.liars = tuple(f"m{index}" for index in colluders)
        self.watch = Watch(JOB, frozenset(self.liars))
        self.lies: dict[str, int] = {}
        """colluder -> what becomes of its next messages"""
        self.lied: Counter[str] = Counter()
        self.crash_at: dict[str, int] = {}
        self.tamper = self._lie
        self.begin(self.names[:n])

    # ---------------------------------------------------------------------------------------------------------- watched

    def perform(self, instructions: Sequence[Any]) -> None:
        for instruction in instructions:
            if isinstance(instruction, RosterFormed):
                self.watch.seated(instruction.epoch, instruction.roster_hash, instruction.seats)
        super().perform(instructions)

    def deliver(self, name: str, event: Any) -> None:
        """Consecutive Remember are one write, as in the driver; a crash falls before a write or after it."""
        lab = self.labs[name]
        if not lab.alive:
            return
        if isinstance(event, Announcement):
            self.watch.announced(event)
        for survivors in cohorts_in(event):
            self.watch.shown(survivors)
        try:
            instructions = lab.machine.handle(event, self.now)
            lab.machine.validate()
        except (AssertionError, LookupError, TypeError, ValueError, OutOfOrder) as error:
            raise Broken("I7", f"{name} raises {error!r} for {type(event).__name__}") from error
        crash, boundary, pending, life = self.crash_at.pop(name, -1), 0, [], lab.lives
        for instruction in (*instructions, None):
            if isinstance(instruction, Remember):
                pending.append(instruction)
                continue
            for written in (pending, [] if instruction is None else [instruction]):
                if not written:
                    continue
                if not lab.alive or lab.lives != life:
                    return
                if boundary == crash:
                    self.kill(name)
                    return
                boundary += 1
                for each in written:
                    self._member_does(lab, each)
            pending = []

    def _member_does(self, lab: Lab, instruction: Any) -> None:
        honest = lab.name not in self.liars
        if isinstance(instruction, Send) and honest:
            self.watch.sent(lab.name, instruction.message, lab.journal)
        if isinstance(instruction, Contribute) and honest:
            self.watch.contributed(lab.name, lab.machine, instruction.plan)
        if isinstance(instruction, Send) and honest and isinstance(instruction.message, Upload):
            upload = instruction.message
            opened = {box.holder: shares_in(box.ciphertext) for box in upload.trailer.boxes}
            self.watch.dealt_by(lab.name, upload, lab.machine, opened)
        super()._member_does(lab, instruction)

    def judge(self, context: bytes, cohort: Sequence[int], found: bytes) -> None:
        try:
            super().judge(context, cohort, found)
        except AssertionError as error:
            raise Broken("I1", f"the sum over {list(cohort)} is not that of plain integers") from error

    def tell_collector(self, event: Any) -> None:
        try:
            super().tell_collector(event)
        except (AssertionError, LookupError, TypeError, ValueError, OutOfOrder) as error:
            if isinstance(error, Broken):
                raise
            raise Broken("I7", f"the collector raises {error!r} for {type(event).__name__}") from error

    # ------------------------------------------------------------------------------------------------------------- lies

    def give_state(self, lab: Lab, wanted: PutState) -> None:
        """A colluder says nothing, or puts another file."""
        kind = self.lies.pop(lab.name, None)
        if kind is not None:
            self.lied[lab.name] += 1
            if kind == 0:
                return
            self.gives_another.add(lab.name)
        super().give_state(lab, wanted)
        self.gives_another.discard(lab.name)

    def _fetched(self, lab: Lab, wanted: FetchState) -> None:
        """A colluder says of the file that it is another."""
        if self.lies.pop(lab.name, None) is not None:
            self.lied[lab.name] += 1
            self.refuses_states.add(lab.name)
        super()._fetched(lab, wanted)
        self.refuses_states.discard(lab.name)

    def _lie(self, name: str, message: Any) -> Any:
        """What a colluder says instead, signed with its own key."""
        kind = self.lies.pop(name, None)
        if name not in self.liars or kind is None:
            return message
        self.lied[name] += 1
        if kind == 0:
            return None
        if isinstance(message, Reveal):
            return self._signed(name, replace(message, self_seed=bytes(32)))
        if isinstance(message, RecoverReply):
            return self._signed(name, replace(message, shares=tuple((peer, bytes(33)) for peer, _ in message.shares)))
        if isinstance(message, Ack):
            return self._signed(name, replace(message, survivors_digest=bytes(32)))
        if isinstance(message, Receipt):
            return self._signed(name, replace(message, state_digest=bytes(32)))
        if isinstance(message, Ready):
            return replace(message, min_cohort=1 + kind)
        if isinstance(message, Upload):
            return self._spoiled(name, message, kind)
        return None

    def _spoiled(self, name: str, upload: Upload, kind: int) -> Upload:
        """kind 1: garbage that its root fits; 2: shares that rebuild nothing; else boxes that do not open."""
        lab = self.labs[name]
        if kind == 1:
            data = lab.files[upload.context]
            lab.files[upload.context] = hashlib.sha256(data).digest() * (len(data) // 32) + data[: len(data) % 32]
            return upload
        trailer = upload.trailer
        if kind == 2:
            trailer = replace(trailer, secret_hashes=(bytes(32), *trailer.secret_hashes[1:]))
        else:
            boxes = tuple(replace(box, ciphertext=bytes(len(box.ciphertext))) for box in trailer.boxes)
            trailer = replace(trailer, boxes=boxes)
        return self._signed(name, replace(upload, trailer=trailer))

    def _signed(self, name: str, message: Any) -> Any:
        roster = self.watch.rosters[self.labs[name].machine.position.epoch][0]
        texts: dict[type, Callable[[], bytes]] = {
            Reveal: lambda: transcripts.reveal_transcript(message),
            RecoverReply: lambda: transcripts.recover_transcript(message),
            Ack: lambda: transcripts.ack_transcript(message),
            Receipt: lambda: transcripts.receipt_transcript(JOB, roster, message),
            Abort: lambda: transcripts.abort_transcript(JOB, roster, message),
            Upload: lambda: transcripts.upload_transcript(
                message.context, message.index, message.root, transcripts.trailer_hash(message.trailer)
            ),
        }
        return replace(message, signature=self.labs[name].signer(texts[type(message)]()))

    # -------------------------------------------------------------------------------------------------------------- ops

    def play(self, ops: Iterable[Op]) -> Faulty:
        for op in ops:
            if self.done or self.stuck:
                break
            getattr(self, f"op_{op.name}")(op)
            self.watch.judge()
        return self

    def op_go_on(self, op: Op) -> None:
        """Some steps without a fault."""
        for _ in range(1 + 5 * op.choice + op.pick):
            if self.done or self.stuck or not self.step():
                return

    def op_deliver(self, op: Op) -> None:
        """Any message, whatever came before it."""
        if self.queue:
            place = op.less % len(self.queue)
            name, message = self.queue[place]
            del self.queue[place]
            self.deliver(name, message)

    def op_drop(self, op: Op) -> None:
        if self.queue:
            del self.queue[op.less % len(self.queue)]

    def op_twice(self, op: Op) -> None:
        if self.queue:
            self.queue.insert(op.spare % (len(self.queue) + 1), self.queue[op.less % len(self.queue)])

    def op_finish(self, op: Op) -> None:
        """A lab's work, out of turn."""
        if self.tasks:
            place = op.less % len(self.tasks)
            name, life, task = self.tasks[place]
            del self.tasks[place]
            if self.labs[name].alive and self.labs[name].lives == life:
                task()

    def op_crash(self, op: Op) -> None:
        lab = self._lab(op)
        if lab.name in self.away:
            return
        if lab.alive:
            self.kill(lab.name)
            if op.choice:
                self.restart(lab.name)
        else:
            self.restart(lab.name)

    def op_crash_within(self, op: Op) -> None:
        self.crash_at[self._lab(op).name] = op.choice

    def op_break_stream(self, op: Op) -> None:
        lab = self._lab(op)
        if not lab.alive or lab.name in self.away:
            return
        if lab.connected:
            self.queue = type(self.queue)(item for item in self.queue if item[0] != lab.name)
            self.lose(lab.name)
        if op.choice or not lab.connected:
            self.reconnect(lab.name)

    def op_crash_collector(self, op: Op) -> None:
        self.restart_collector()

    def op_time_out(self, op: Op) -> None:
        if self.collector.deadline is not None:
            self.now = max(self.now, self.collector.deadline) + op.choice
            self.tell_collector(Tick())

    def op_fail_task(self, op: Op) -> None:
        self.fail_task.add(self._lab(op).name)

    def op_join(self, op: Op) -> None:
        if self.away:
            self.join(self.away.pop())

    def op_lie(self, op: Op) -> None:
        if self.liars:
            self.lies[self.liars[op.pick % len(self.liars)]] = op.choice

    def _lab(self, op: Op) -> Lab:
        return self.labs[self.names[op.less % len(self.names)]]

    # -------------------------------------------------------------------------------------------------------- fair weather

    def clear(self) -> Faulty:
        """Everybody is back, nothing is lost any more. A member whose stream was in disorder dials again."""
        self.fail_task.clear()
        self.lies.clear()
        self.crash_at.clear()
        for _ in range(4):
            if self.done or self.stuck:
                break
            for lab in self.labs.values():
                if lab.name in self.away:
                    continue
                if not lab.alive:
                    self.restart(lab.name)
                elif lab.connected:
                    self.queue = type(self.queue)(item for item in self.queue if item[0] != lab.name)
                    self.lose(lab.name)
                    self.reconnect(lab.name)
                else:
                    self.reconnect(lab.name)
            try:
                self.run(limit=PATIENCE)
            except AssertionError as error:
                raise Broken("I1", f"no end in fair weather: {self.collector.story[-5:]}") from error
        self.watch.judge()
        if not self.lied:
            hold("I1", self.stuck is None, f"the job is stuck, and nobody lied: {self.stuck}")
            hold("I1", self.done is not None, f"the job does not finish: {self.collector.story[-5:]}")
        if self.done is not None:
            hold("I1", {each.context for each in self.closed} >= self.judged, "a sum was applied that was not closed")
            rounds = {each.round for each in self.closed}
            hold("I1", rounds == set(range(1, self.terms.last_round + 1)), f"rounds {sorted(rounds)} are closed")
        return self


PROFILES: tuple[Profile, ...] = (
    {
        "go_on": 6,
        "crash": 3,
        "crash_within": 3,
        "break_stream": 2,
        "crash_collector": 1,
        "time_out": 2,
        "fail_task": 1,
        "join": 1,
    },
    {"go_on": 3, "deliver": 8, "finish": 4, "drop": 2, "twice": 2, "time_out": 1, "crash_within": 1, "join": 1},
    {"go_on": 5, "deliver": 3, "lie": 4, "crash_within": 1, "break_stream": 1, "time_out": 2, "finish": 2, "join": 1},
    {
        "go_on": 4,
        "deliver": 4,
        "finish": 2,
        "drop": 1,
        "twice": 1,
        "crash": 1,
        "crash_within": 2,
        "break_stream": 1,
        "crash_collector": 1,
        "time_out": 1,
        "fail_task": 1,
        "lie": 1,
        "join": 1,
    },
)


@dataclass(frozen=True)
class Weather:
    n: int
    colluders: tuple[int, ...]
    blind: bool
    ops: tuple[Op, ...]
    guests: int = 0

    @staticmethod
    def of(seed: int) -> Weather:
        dice = random.Random(seed)
        n = dice.choice((3, 4, 4, 5, 5, 6, 7))
        colluders = tuple(sorted(dice.sample(range(1, n + 1), Quorums.of(n).f)))
        return Weather(
            n,
            colluders,
            dice.random() < 0.7,
            tuple(draw(dice, dice.choice(PROFILES), 7, dice.randrange(20, 120))),
            dice.choice((0, 0, 1)),
        )

    def play(self, variant: type[MemberMachine] = MemberMachine) -> Faulty:
        """Raises Broken."""
        world = Faulty(self.n, self.colluders, guests=self.guests, variant=variant, blind=self.blind)
        while world.collector.phase == "forming":  # who is away meanwhile is left out: tests of the setup have that
            world.step()
        return world.play(self.ops).clear()

    def outcome(self, variant: type[MemberMachine] = MemberMachine) -> Faulty | Broken:
        try:
            return self.play(variant)
        except Broken as broken:
            return broken

    def smallest(self, broken: Broken, variant: type[MemberMachine] = MemberMachine) -> Weather:
        def fails(ops: Sequence[Op]) -> bool:
            found = replace(self, ops=tuple(ops)).outcome(variant)
            return isinstance(found, Broken) and found.invariant == broken.invariant

        return replace(self, ops=tuple(shrunk(self.ops, fails)))
