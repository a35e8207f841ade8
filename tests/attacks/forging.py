"""A coordinator's workshop: it holds every key of a test federation, so each test says which signatures it may really
use."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from federation.secagg import transcripts
from federation.secagg.events import Forgone, MemberInstruction, Refuse, Send
from federation.secagg.messages import Abort, Ack, Announcement, Certificate, Ready, Receipt, SurvivorEntry, Survivors
from federation.secagg.parameters import Quorums
from tests.simulation.harness import JOB, World


def open_world(n: int = 5, **changes: Any) -> World:
    """Run until every member of round 1 has uploaded, and hold everything that the collector says after that."""
    return run_until(World(n, **changes), "certifying")


def run_until(world: World, phase: str, round_number: int = 1) -> World:
    world.begin().run(until=lambda world: world.collector.phase == phase and world.collector.round == round_number)
    assert world.collector.phase == phase
    world.queue.clear()
    return world


class Workshop:
    def __init__(self, world: World) -> None:
        self.world = world
        self.collector = world.collector
        self.n = len(world.collector.seats)
        assert world.collector.announced is not None
        self.announced = world.collector.announced
        self.context = self.announced.context
        self.roster_hash = world.labs[world.names[0]].machine.position.roster_hash

    def sign(self, index: int, message: bytes) -> bytes:
        return self.world.labs[self.world.names[index - 1]].signer(message)

    def entry(self, index: int) -> SurvivorEntry:
        upload = next(
            m for m in self.world.labs[self.world.names[index - 1]].sent if getattr(m, "root", None) is not None
        )
        return SurvivorEntry(index, upload.root, transcripts.trailer_hash(upload.trailer), upload.signature)

    def survivors(self, cohort: Iterable[int]) -> Survivors:
        return Survivors(self.context, tuple(self.entry(index) for index in cohort))

    def ack(self, index: int, survivors: Survivors) -> Ack:
        ack = Ack(index, survivors.context, transcripts.survivors_digest(survivors), b"")
        return replace(ack, signature=self.sign(index, transcripts.ack_transcript(ack)))

    def certificate(self, cohort: Iterable[int], signers: Iterable[int]) -> Certificate:
        survivors = self.survivors(cohort)
        return Certificate(survivors, tuple(self.ack(index, survivors) for index in signers))

    def ready(self, index: int, round_number: int, attempt: int, state: bytes, minimum: int = 0) -> Ready:
        ready = Ready(index, 1, round_number, attempt, state, minimum or Quorums.of(self.n).m, b"")
        text = transcripts.ready_transcript(JOB, self.roster_hash, ready)
        return replace(ready, signature=self.sign(index, text))

    def abort(self, index: int, round_number: int, attempt: int) -> Abort:
        abort = Abort(index, 1, round_number, attempt, b"")
        return replace(abort, signature=self.sign(index, transcripts.abort_transcript(JOB, self.roster_hash, abort)))

    def receipt(self, index: int, round_number: int, state: bytes) -> Receipt:
        receipt = Receipt(index, 1, round_number, self.context, bytes(32), state, (0, 0), b"")
        text = transcripts.receipt_transcript(JOB, self.roster_hash, receipt)
        return replace(receipt, signature=self.sign(index, text))

    def announcement(
        self, members: Iterable[int], round_number: int, attempt: int, state: bytes, aborts: Iterable[int] = ()
    ) -> Announcement:
        readies = tuple(self.ready(index, round_number, attempt, state) for index in members)
        return Announcement(
            1,
            round_number,
            attempt,
            readies,
            (),
            tuple(self.abort(index, round_number, attempt - 1) for index in aborts),
            None,
        )

    def tell(self, index: int, message: Any) -> list[MemberInstruction]:
        """Straight to the member's machine; what it remembers is on its disk, what it says stays here."""
        lab = self.world.labs[self.world.names[index - 1]]
        instructions = lab.machine.handle(message, 0.0)
        lab.machine.validate()
        for instruction in instructions:
            if getattr(instruction, "key", None) is not None:
                self.world._member_does(lab, instruction)
        return instructions

    def refused(self, index: int, message: Any) -> str:
        """The check that refused it; nothing was said and nothing remembered."""
        instructions = [each for each in self.tell(index, message) if not isinstance(each, Forgone)]
        assert len(instructions) == 1, instructions
        assert isinstance(instructions[0], Refuse), instructions
        return instructions[0].violation.check

    def said(self, index: int, message: Any) -> list[Any]:
        return [each.message for each in self.tell(index, message) if isinstance(each, Send)]


Forge = Callable[[Workshop], Any]
