"""A hostile coordinator with up to f members on its side, against the machines of the others.

It holds every signature that was ever said, signs anything as its colluders, shows different things to different members,
repeats and withholds, and restarts members at any boundary between what they remember and what they say. It is driven by
a list of ops, each a name and a few small numbers that always mean something: 0 is the newest, or everybody, so that a
failure shrinks to a list that reads as a story. ``tests.simulation.invariants`` says what must hold.
"""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from federation.errors import ProtocolViolation
from federation.secagg import boxes, transcripts
from federation.secagg.certificate import Bench
from federation.secagg.conviction import Conviction, Statement
from federation.secagg.events import (
    AbortRequest,
    CatchUp,
    ComputeInitialState,
    Confirmations,
    Contribute,
    ContributionFailed,
    Encoded,
    FetchState,
    FetchSum,
    Lineage,
    Refuse,
    Remember,
    Reopen,
    Roster,
    Send,
    StateReady,
    StopContributing,
    SumApplied,
    Tell,
)
from federation.secagg.formation import Formation, FormationBook
from federation.secagg.formation import Said as SetupSaid
from federation.secagg.member import MemberMachine
from federation.secagg.messages import (
    Abort,
    Ack,
    Announcement,
    Box,
    Certificate,
    Close,
    Ready,
    Receipt,
    Recover,
    RecoverReply,
    Reveal,
    SurvivorEntry,
    Survivors,
    Trailer,
    Upload,
    Void,
)
from federation.secagg.parameters import MIN_MEMBERS, Quorums
from federation.secagg.setup import bench_of
from federation.secagg.votes import Seated, seat_key
from tests.simulation.harness import INITIAL, JOB
from tests.simulation.invariants import Broken, Watch, shares_in
from tests.simulation.op_lists import Op, Profile, draw, shrunk
from tests.simulation.stand_ins import Quick

FIGURES = (0, 0)


@dataclass
class Peer:
    """An honest member: its machine, its disk, and the work that its machine has asked for."""

    name: str
    machine: MemberMachine
    journal: dict[str, bytes]
    life: int = 0
    work: list[Any] = field(default_factory=list)
    crash_at: int | None = None
    """restart at this boundary of the next message"""
    refused: list[str] = field(default_factory=list)


class Willing(MemberMachine):
    """A colluder's: it sets up whatever roster it is asked to, however the job stands."""

    @property
    def _rooted(self) -> int:
        return max(self._votes.epochs(), default=0)


@dataclass(frozen=True)
class Era:
    """An epoch as the coordinator knows it."""

    bench: Bench
    before: Bench | None
    roster: Roster
    confirmations: Any


@cache
def begun(n: int, guests: int) -> tuple[dict[str, dict[str, bytes]], Any]:
    """(journals, the standing roster) of a federation of n that has been set up; ``guests`` have consented since."""
    world = Quick(n + guests)
    world.tamper = lambda member, message: None if isinstance(message, Ready) else message
    world.begin(world.names[:n]).run()
    assert all(world.labs[name].machine.phase == "training" for name in world.names[:n])
    return {lab.name: dict(lab.journal) for lab in world.labs.values()}, world.collector._book.standing


class Hostile:
    """``variant``: the class of the honest members' machines."""

    def __init__(
        self, n: int, colluders: Iterable[int] = (), *, guests: int = 0, variant: type[MemberMachine] = MemberMachine
    ) -> None:
        self.world = Quick(n + guests, variant=variant, rounds=4)
        self.liars = tuple(f"m{index}" for index in colluders)
        journals, standing = begun(n, guests)
        self.watch = Watch(JOB, frozenset(self.liars))
        self.puppets = {name: self._machine(name, Willing, journals[name], 0) for name in self.liars}
        bench = self._bench(standing.roster, None)
        self.eras = {1: Era(bench, None, standing.roster, standing.confirmations)}
        self.watch.seated(1, bench.roster_hash, bench.seats)
        self.formations = 0

        self.readies: defaultdict[tuple[int, int, int, bytes], dict[int, Ready]] = defaultdict(dict)
        self.aborts: defaultdict[tuple[int, int, int], dict[int, Abort]] = defaultdict(dict)
        self.receipts: defaultdict[tuple[int, int, bytes], dict[int, Receipt]] = defaultdict(dict)
        self.contexts: list[tuple[bytes, Announcement]] = []
        self.uploads: defaultdict[bytes, dict[int, Upload]] = defaultdict(dict)
        self.survivors: list[Survivors] = []
        self.acks: defaultdict[bytes, dict[int, Ack]] = defaultdict(dict)
        self.shown: list[Any] = []
        self.releases = 0
        self.against = 0
        self._setting_up: list[Any] | None = None

        self.peers: dict[str, Peer] = {}
        for name in self.world.names:
            if name not in self.liars:
                machine = self._machine(name, variant, journals[name], 0)
                self.peers[name] = Peer(name, machine, dict(journals[name]))
        for peer in self.peers.values():
            if peer.journal:
                self.resumed(peer)

    # ------------------------------------------------------------------------------------------------------------ parts

    def _machine(self, name: str, variant: type[MemberMachine], journal: dict[str, bytes], life: int) -> MemberMachine:
        lab = self.world.labs[name]
        before, self.world.variant = self.world.variant, variant
        machine = self.world._machine(name, lab.signer, lab.weight, life + 1)
        self.world.variant = before
        machine.restore(dict(journal))
        return machine

    def _bench(self, roster: Roster, before: Bench | None) -> Bench:
        return bench_of(
            self.world.terms,
            roster.epoch,
            roster.formation,
            roster.keys,
            roster.encapsulations,
            self.world.verify_credential,
            self.world.collector._verify,
        )

    def _sign(self, name: str, text: bytes) -> bytes:
        return self.world.labs[name].signer(text)

    def _lying(self, bench: Bench) -> list[tuple[int, str]]:
        return [(seat.index, seat.member) for seat in bench.seats if seat.member in self.liars]

    def _to(self, less: int) -> list[Peer]:
        return [peer for place, peer in enumerate(self.peers.values()) if not less >> place & 1]

    # ---------------------------------------------------------------------------------------------------------- members

    def tell(self, message: Any, less: int = 0) -> None:
        self.shown.append(message)
        self._on_its_way(message)
        for peer in self._to(less):
            self.deliver(peer, message)

    def _on_its_way(self, message: Any) -> None:
        if isinstance(message, Announcement):
            self.watch.announced(message)
        for survivors in cohorts_in(message):
            self.watch.shown(survivors)

    def deliver(self, peer: Peer, message: Any) -> None:
        if isinstance(message, Close) and not self._fits(peer, message):
            return  # its sum MAC would fail: a coordinator alone cannot make another sum
        try:
            instructions = peer.machine.handle(message, 0.0)
            peer.machine.validate()
        except Exception as error:
            raise Broken("I7", f"{peer.name} raises {error!r} for {type(message).__name__}") from error
        self.perform(peer, instructions)

    def perform(self, peer: Peer, instructions: Sequence[Any]) -> None:
        """Consecutive Remember are one write, as in the driver; a crash falls before a write or after it."""
        crash, peer.crash_at = peer.crash_at, None
        pending: dict[str, bytes | None] = {}
        boundary = 0
        for instruction in (*instructions, None):
            if isinstance(instruction, Remember):
                pending[instruction.key] = instruction.value
                continue
            if pending:
                if crash == boundary:
                    self.restart(peer)
                    return
                boundary += 1
                _write(peer.journal, pending)
                pending = {}
            if crash == boundary:
                self.restart(peer)
                return
            boundary += 1
            self._do(peer, instruction)

    def _do(self, peer: Peer, instruction: Any) -> None:
        if isinstance(instruction, Send):
            self.watch.sent(peer.name, instruction.message, peer.journal)
            self.take(peer.name, instruction.message, peer)
        elif isinstance(instruction, Contribute):
            self.watch.contributed(peer.name, peer.machine, instruction.plan)
            peer.work.append(instruction)
        elif isinstance(instruction, StopContributing):
            peer.work = [
                each
                for each in peer.work
                if not isinstance(each, Contribute) or each.plan.context != instruction.context
            ]
        elif isinstance(instruction, FetchSum | FetchState | ComputeInitialState):
            peer.work.append(instruction)
        elif isinstance(instruction, Refuse):
            peer.refused.append(instruction.violation.check)

    def restart(self, peer: Peer) -> None:
        peer.life += 1
        peer.work = []
        peer.machine = self._machine(peer.name, self.world.variant, peer.journal, peer.life)
        if peer.machine.phase == "training":
            self.resumed(peer)

    def resumed(self, peer: Peer) -> None:
        place = peer.machine.position
        self.deliver(peer, StateReady(place.round, place.state_digest))

    def finish(self, peer: Peer, fails: bool = False) -> None:
        """What the lab's own driver says when its work is done."""
        work, peer.work = peer.work, []
        for each in work:
            if isinstance(each, Contribute):
                context = each.plan.context
                done: Any = ContributionFailed(context) if fails else Encoded(context, _digest(peer.name, context))
            elif isinstance(each, FetchSum):
                done = SumApplied(each.close.context, each.close.sum_blob, FIGURES)
            elif isinstance(each, FetchState):
                done = StateReady(each.round, each.state_digest)
            else:
                done = StateReady(1, INITIAL)
            self.deliver(peer, done)

    def _fits(self, peer: Peer, close: Close) -> bool:
        """Without a colluder there is one sum; with one, which has KG, any will pass its MAC."""
        return bool(self.liars) or close.sum_blob == _next_state(close, 0)

    # ------------------------------------------------------------------------------------------- what the coordinator has

    def take(self, name: str, message: Any, peer: Peer | None = None) -> None:
        if isinstance(message, SetupSaid):
            if self._setting_up is not None:
                self._setting_up.append(message)
        elif isinstance(message, Ready):
            key = (message.epoch, message.round, message.attempt, message.state_digest)
            self.readies[key][message.index] = message
        elif isinstance(message, Upload):
            self.uploads[message.context][message.index] = message
            if peer is not None:
                opened = {box.holder: shares_in(box.ciphertext) for box in message.trailer.boxes}
                self.watch.dealt_by(name, message, peer.machine, opened)
        elif isinstance(message, Ack):
            self.acks[message.survivors_digest][message.index] = message
        elif isinstance(message, Abort):
            self.aborts[message.epoch, message.round, message.attempt][message.index] = message
        elif isinstance(message, Receipt):
            self.receipts[message.epoch, message.round, message.state_digest][message.index] = message
        elif isinstance(message, Reveal | RecoverReply):
            self.releases += 1

    def _context(self, pick: int) -> tuple[bytes, Announcement, Bench] | None:
        if not self.contexts:
            return None
        context, announcement = _newest(self.contexts, pick)
        return context, announcement, self.eras[announcement.epoch].bench

    def _certificate(self, survivors: Survivors, less: int) -> Certificate:
        bench = self._bench_of_context(survivors.context)
        digest = transcripts.survivors_digest(survivors)
        acks = {index: ack for index, ack in self.acks[digest].items() if not less >> (index - 1) & 1}
        for index, name in self._lying(bench):
            ack = Ack(index, survivors.context, digest, b"")
            acks[index] = replace(ack, signature=self._sign(name, transcripts.ack_transcript(ack)))
        return Certificate(survivors, tuple(acks[index] for index in sorted(acks)))

    def _bench_of_context(self, context: bytes) -> Bench:
        return self.eras[self.watch.attempts[context].epoch].bench

    def _aborts(self, bench: Bench, round_number: int, attempt: int) -> tuple[Abort, ...]:
        found = dict(self.aborts[bench.epoch, round_number, attempt])
        for index, name in self._lying(bench):
            abort = Abort(index, bench.epoch, round_number, attempt, b"")
            text = transcripts.abort_transcript(JOB, bench.roster_hash, abort)
            found[index] = replace(abort, signature=self._sign(name, text))
        return tuple(found[index] for index in sorted(found))

    def _void(
        self, epoch: int, round_number: int, attempt: int, state: bytes, pick: int = 0, against: int = 0
    ) -> Void | None:
        """The newest certificate of an attempt at this state that really has its ACKs. Bits of ``against``: whom to convict
        of a lie in it."""
        found = []
        for survivors in self.survivors:
            of = self.watch.attempts.get(survivors.context)
            if of is not None and (of.key, of.state) == ((epoch, round_number, attempt), state):
                certificate = self._certificate(survivors, 0)
                if len(certificate.acks) >= of.quorums.q:
                    ready = tuple(sorted(of.seats.index(name) + 1 for name in of.ready))
                    found.append(Void(attempt, ready, certificate))
        if not found:
            return None
        void = _newest(found, pick)
        return replace(void, proofs=self._proofs(void, against))

    def _proofs(self, void: Void, against: int) -> tuple[bytes, ...]:
        """Colluders sign what convicts them; of the others the coordinator shows whatever two ACKs it has."""
        context = void.certificate.survivors.context
        bench, proofs = self._bench_of_context(context), []
        for index in void.certificate.survivors.cohort:
            if against >> (index - 1) & 1:
                seat = bench.seats[index - 1]
                acks = [each[index] for each in self.acks.values() if index in each][-2:]
                if seat.member in self.liars:
                    acks = [Ack(index, context, bytes([digest]) * 32, b"") for digest in (1, 2)]
                    acks = [
                        replace(ack, signature=self._sign(seat.member, transcripts.ack_transcript(ack))) for ack in acks
                    ]
                said = [Statement(transcripts.ack_transcript(ack), ack.signature) for ack in acks]
                said = [*said, *(Statement(b"", bytes(64)),) * (2 - len(said))]
                proofs.append(Conviction(seat.identity_key, *said).to_bytes())
        return tuple(proofs)

    def _certified(self, epoch: int, round_number: int, state: bytes) -> tuple[Receipt, ...]:
        """q receipts of the round before for this state, colluders' included, of this epoch or else the one before."""
        for era in (epoch, epoch - 1):
            known = self.receipts.get((era, round_number - 1, state))
            if not known:
                continue
            bench, like = self.eras[era].bench, next(iter(known.values()))
            made = dict(known)
            for index, name in self._lying(bench):
                receipt = replace(like, index=index)
                text = transcripts.receipt_transcript(JOB, bench.roster_hash, receipt)
                made[index] = replace(receipt, signature=self._sign(name, text))
            if len(made) >= bench.quorums.q:
                return tuple(made[index] for index in sorted(made))
        return ()

    # -------------------------------------------------------------------------------------------------------------- ops

    def run(self, ops: Iterable[Op]) -> Hostile:
        for op in ops:
            getattr(self, f"op_{op.name}")(op)
        return self

    def op_announce(self, op: Op) -> None:
        """Of the newest attempt that anybody is ready for. choice 0: opened by whatever there is; 1: by ABORTs; 2: by a
        certificate."""
        keys = sorted(self.readies, key=lambda key: key[:3])
        if not keys:
            return
        epoch, round_number, attempt, state = _newest(keys, op.pick)
        bench = self.eras[epoch].bench
        ready = dict(self.readies[epoch, round_number, attempt, state])
        for index, name in self._lying(bench):
            message = Ready(index, epoch, round_number, attempt, state, bench.quorums.m, b"")
            text = transcripts.ready_transcript(JOB, bench.roster_hash, message)
            ready[index] = replace(message, signature=self._sign(name, text))
        void = None
        if attempt and op.choice != 1:
            void = self._void(epoch, round_number, attempt - 1, state, against=self.against)
        chosen = {index: each for index, each in ready.items() if not op.less >> (index - 1) & 1}
        if void is not None:
            left = self._left(void)
            chosen = {index: each for index, each in ready.items() if index in left}
        receipts = self._certified(epoch, round_number, state) if round_number > 1 else ()
        message = Announcement(
            epoch=epoch,
            round=round_number,
            attempt=attempt,
            readies=tuple(chosen[index] for index in sorted(chosen)),
            receipts=receipts,
            aborts=self._aborts(bench, round_number, attempt - 1) if attempt and void is None else (),
            void=void,
        )
        context = transcripts.context(JOB, epoch, bench.roster_hash, sorted(chosen), round_number, attempt, state)
        try:
            bench.check_announcement(message, self.eras[epoch].before)
        except ProtocolViolation:
            self.tell(message, op.spare)
            if not any(context in peer.machine._announced for peer in self.peers.values()):
                return  # members find that, too
        self.watch.announced(message)
        self.contexts = [each for each in self.contexts if each[0] != context] + [(context, message)]
        for index, name in self._lying(bench):
            if index in chosen and index not in self.uploads[context]:
                self.take(name, self._false_upload(bench, context, index, name, tuple(chosen)))
        self.tell(message, op.spare)

    def _false_upload(self, bench: Bench, context: bytes, index: int, name: str, ready: Sequence[int]) -> Upload:
        """A colluder's: any root, shares of nothing, in boxes that open."""
        edges = tuple(each for each in sorted(ready) if each != index)
        puppet, suite = self.puppets[name], self.world.suite
        sealed = []
        for seat in bench.seats:
            if seat.index != index:
                root = self._root_of(puppet, bench.epoch, seat.index, self.watch.attempts[context].round)
                shares = [_digest(name, context).rjust(33, b"\0")] * (1 + len(edges))
                sealed.append((seat.index, boxes.seal(suite, root, context, index, seat.index, edges, shares)))
        trailer = Trailer(tuple(Box(*each) for each in sealed), edges, (), ())
        text = transcripts.upload_transcript(context, index, bytes(32), transcripts.trailer_hash(trailer))
        return Upload(index, context, bytes(32), trailer, self._sign(name, text))

    def _root_of(self, puppet: MemberMachine, epoch: int, peer: int, round_number: int) -> bytes:
        seat = puppet._votes.get(seat_key(epoch), Seated)
        return puppet._at(seat.round, seat.roots[peer - 1], round_number) if seat is not None else bytes(32)

    def _left(self, void: Void) -> set[int]:
        """The cohort, less those that the proofs convict, or name."""
        cohort = set(void.certificate.survivors.cohort)
        bench = self._bench_of_context(void.certificate.survivors.context)
        keys = {Conviction.from_bytes(each).identity_key for each in void.proofs}
        return cohort - {seat.index for seat in bench.seats if seat.identity_key in keys}

    def op_convict(self, op: Op) -> None:
        """Whom the coordinator goes on without from here on: choice 0, its own; 1: whoever ``less`` names; 2: nobody."""
        bench = self.eras[max(self.eras)].bench
        own = sum(1 << (index - 1) for index, _ in self._lying(bench))
        self.against = (own, op.less or (1 << len(bench.seats)) - 1, 0)[op.choice % 3]

    def op_work(self, op: Op) -> None:
        """Labs train, apply sums, fetch states. choice 1: training fails."""
        for peer in self._to(op.less):
            self.finish(peer, fails=op.choice == 1)

    def op_survivors(self, op: Op) -> None:
        found = self._context(op.pick)
        if found is None:
            return
        context, _, _ = found
        entries = [
            SurvivorEntry(index, upload.root, transcripts.trailer_hash(upload.trailer), upload.signature)
            for index, upload in sorted(self.uploads[context].items())
            if not op.less >> (index - 1) & 1
        ]
        survivors = Survivors(context, tuple(entries))
        if survivors not in self.survivors:
            self.survivors.append(survivors)
        self.tell(survivors, op.spare)

    def op_certify(self, op: Op) -> None:
        """Shows whatever ACKs there are for a cohort, colluders' included."""
        if self.survivors:
            self.tell(self._certificate(_newest(self.survivors, op.pick), op.less), op.spare)

    def op_recover(self, op: Op) -> None:
        """Asks for the shares of one owner, in the cohort or not."""
        if not self.survivors:
            return
        survivors = _newest(self.survivors, op.pick)
        uploads = self.uploads[survivors.context]
        if not uploads:
            return
        owner = sorted(uploads)[op.choice % len(uploads)]
        certificate = self._certificate(survivors, op.less)
        trailer = uploads[owner].trailer
        self._on_its_way(certificate)
        bench = self._bench_of_context(survivors.context)
        for peer in self._to(op.spare):
            index = next((seat.index for seat in bench.seats if seat.member == peer.name), 0)
            box = next((box.ciphertext for box in trailer.boxes if box.holder == index), b"")
            self.deliver(peer, Recover(certificate, owner, trailer.edges, box))

    def op_abort(self, op: Op) -> None:
        """For the newest attempt that anybody is ready for, or an older one; choice 1: one that is still to come."""
        keys = sorted({key[:3] for key in self.readies})
        if keys:
            epoch, round_number, attempt = _newest(keys, op.pick)
            self.tell(AbortRequest(epoch, round_number, attempt + (op.choice == 1)), op.spare)

    def op_reopen(self, op: Op) -> None:
        """Shows a certificate as that of an attempt which gave no sum."""
        keys = sorted(self.readies, key=lambda key: key[:3])
        if not keys:
            return
        epoch, round_number, attempt, state = _newest(keys, op.pick)
        void = self._void(epoch, round_number, attempt, state, op.choice, self.against)
        if void is not None:
            self.tell(Reopen(epoch, round_number, void), op.spare)

    def op_close(self, op: Op) -> None:
        """choice: which sum. Members that are shown it apply it at once or at the next ``work``."""
        if not self.survivors:
            return
        survivors = _newest(self.survivors, op.pick)
        attempt = self.watch.attempts[survivors.context]
        digest = transcripts.survivors_digest(survivors)
        certificate = self._certificate(survivors, op.less)
        close = Close(attempt.round, survivors.context, digest, bytes(32), 1, certificate)
        self.tell(replace(close, sum_blob=_next_state(close, op.choice % 2)), op.spare)

    def op_catch_up(self, op: Op) -> None:
        keys = [key for key in list(self.receipts) if self._certified(key[0], key[1] + 1, key[2])]
        if keys:
            epoch, round_number, state = _newest(keys, op.pick)
            newest = max(self.eras)
            receipts = self._certified(epoch, round_number + 1, state)
            self.tell(CatchUp(newest if op.choice == 1 else epoch, round_number + 1, state, state, receipts), op.spare)

    def op_crash(self, op: Op) -> None:
        for peer in self._to(op.less):
            self.restart(peer)

    def op_restore(self, op: Op) -> None:
        """A journal is put back from a copy. Its node notices that, and it is void (tests/attacks/test_restored_state.py):
        the member comes back with nothing, and waits for the next epoch. At most f, colluders counted."""
        peers = list(self.peers.values())
        peer = peers[op.pick % len(peers)]
        f = Quorums.of(min(len(era.bench.seats) for era in self.eras.values())).f
        if peer.name not in self.watch.forgetful and len(self.watch.forgetful) + len(self.liars) >= f:
            return
        self.watch.forgetful.add(peer.name)
        peer.journal.clear()
        self.restart(peer)

    def op_crash_within(self, op: Op) -> None:
        """At a boundary of the next message that the member handles."""
        peers = list(self.peers.values())
        peers[op.pick % len(peers)].crash_at = op.choice

    def op_replay(self, op: Op) -> None:
        if self.shown:
            self.tell(_newest(self.shown, op.pick), op.spare)

    def op_epoch(self, op: Op) -> None:
        """Forms a roster of everybody but ``less``, guests included, to follow the newest epoch (choice 1: another to
        follow the one before that; choice 3: one that nobody is asked to confirm, to be followed all the same); its
        confirmations are shown to everybody but ``spare``."""
        newest = max(self.eras)
        follows = self.eras.get(newest - (op.choice == 1), self.eras[newest])
        epoch = follows.bench.epoch + 1
        names = [name for place, name in enumerate(self.world.names) if not op.less >> place & 1]
        if len(names) < MIN_MEMBERS or len(set(names) & set(self.liars)) > Quorums.of(len(names)).f:
            return  # more colluders than such a roster is good for
        self.formations += 1
        book = FormationBook(epoch, follows.bench.roster_hash, tuple(sorted(names)), self.formations)
        formation = Formation(
            book,
            self.world.terms,
            self.world.windows,
            self.world.verify_credential,
            self.world.collector._verify,
            follows.bench,
            lambda missing, broke, since, window, now: (list(missing), None),
        )
        out: Sequence[Any] | None = formation.start(0.0)
        while out is not None:
            stage = formation.book.stage
            if stage in ("formed", "failed") or (op.choice == 3 and stage == "openings"):
                break
            for tell in out:
                assert isinstance(tell, Tell)
                for name in tell.members:
                    for message in self._asked(name, tell.message):
                        try:
                            formation.take(name, message)
                        except ProtocolViolation:
                            continue
            out = formation.step(0.0)
        if op.choice == 3 and formation.book.stage == "openings" and epoch not in self.eras:
            nothing = Confirmations(epoch, formation.bench.roster_hash, ())
            self.eras[epoch] = Era(formation.bench, follows.bench, formation.roster(), nothing)
            self.watch.seated(epoch, formation.bench.roster_hash, formation.bench.seats)
        if formation.book.stage != "formed" or epoch in self.eras:
            return
        standing = formation.standing()
        self.eras[epoch] = Era(formation.bench, follows.bench, standing.roster, standing.confirmations)
        self.watch.seated(epoch, formation.bench.roster_hash, formation.bench.seats)
        for name in self.puppets:
            if name in names:
                self._asked(name, standing.confirmations)
        self.tell(standing.confirmations, op.spare)
        self.tell(Lineage(follows.roster, follows.confirmations), op.spare)

    def _asked(self, name: str, message: Any) -> list[Any]:
        """What a member answers to a message of the setup."""
        peer = self.peers.get(name)
        if peer is None:
            return [each.message for each in self.puppets[name].handle(message, 0.0) if isinstance(each, Send)]
        self._setting_up = []
        self.deliver(peer, message)
        said, self._setting_up = self._setting_up, None
        return said

    def op_attempt(self, op: Op) -> None:
        """A whole attempt: announced to all, masked, acknowledged; the certificate is shown to all but ``spare``. Bits of
        ``less``: who is left out of the cohort."""
        self.run(
            [
                Op("announce", op.pick, op.choice),
                Op("work"),
                Op("survivors", less=op.less),
                Op("certify", spare=op.spare),
            ]
        )

    def op_skip(self, op: Op) -> None:
        """An attempt is certified and left closed, the next is ended before anybody has seen it, and the one after it is certified
        without whoever ``less`` names (0: the first); then each is to be opened by a part of the members (``spare``: as in
        ``parts``)."""
        nobody = -1
        self.run(
            [
                Op("attempt", spare=nobody),
                Op("abort", choice=1),
                Op("attempt", less=op.less or 1, spare=nobody),
                Op("parts", less=op.spare),
            ]
        )

    def op_parts(self, op: Op) -> None:
        """Whoever ``less`` names (0: every other member) is asked to open the older of the two newest cohorts, the others the
        newest."""
        older = op.less or sum(1 << place for place in range(0, len(self.peers), 2))
        for pick, asked in enumerate((~older, older)[: len(self.survivors)]):
            owners = len(self.uploads[_newest(self.survivors, pick).context])
            self.run([Op("certify", pick, spare=~asked)])
            self.run(Op("recover", pick, owner, spare=~asked) for owner in range(owners))

    def op_without(self, op: Op) -> None:
        """The newest attempt is opened again, without its own or without whoever ``less`` names."""
        self.run([Op("convict", choice=op.choice, less=op.less), Op("reopen", op.pick), Op("attempt", spare=op.spare)])

    def op_round(self, op: Op) -> None:
        """A whole round: an attempt, and its sum shown to all but ``spare``."""
        self.run([Op("attempt", op.pick, less=op.less), Op("close", choice=op.choice, spare=op.spare), Op("work")])

    def op_squeeze(self, op: Op) -> None:
        """Shows every certificate to everybody and asks everybody for everybody's shares."""
        for pick, survivors in enumerate(reversed(self.survivors)):
            if len(self._certificate(survivors, 0).acks) >= self.watch.attempts[survivors.context].quorums.q:
                self.op_certify(Op("certify", pick))
                for owner in range(len(self.uploads[survivors.context])):
                    self.op_recover(Op("recover", pick, owner))


OPS: dict[str, Callable[[Hostile, Op], None]] = {
    name.removeprefix("op_"): getattr(Hostile, name) for name in vars(Hostile) if name.startswith("op_")
}


def _newest(things: Sequence[Any], pick: int) -> Any:
    return things[-1 - pick % len(things)]


def _digest(*parts: Any) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


def _next_state(close: Close, choice: int) -> bytes:
    return _digest("state", close.context, close.survivors_digest, choice)


def _write(journal: dict[str, bytes], records: dict[str, bytes | None]) -> None:
    for key, value in records.items():
        if value is None:
            journal.pop(key, None)
        else:
            journal[key] = value


def cohorts_in(message: Any) -> list[Survivors]:
    if isinstance(message, Survivors):
        return [message]
    if isinstance(message, Certificate):
        return [message.survivors]
    if isinstance(message, Recover | Close):
        return [message.certificate.survivors]
    if isinstance(message, Reopen):
        return [message.void.certificate.survivors]
    if isinstance(message, Announcement) and message.void is not None:
        return [message.void.certificate.survivors]
    return []


# ------------------------------------------------------------------------------------------------------------- scenarios

PROFILES: tuple[Profile, ...] = (
    {  # single messages
        "announce": 4,
        "work": 4,
        "survivors": 4,
        "certify": 4,
        "recover": 2,
        "abort": 3,
        "crash": 1,
        "crash_within": 4,
        "reopen": 1,
        "close": 1,
        "restore": 2,
    },
    {  # attempts that are opened again
        "attempt": 8,
        "skip": 5,
        "reopen": 4,
        "convict": 1,
        "without": 6,
        "restore": 2,
        "abort": 4,
        "announce": 2,
        "work": 2,
        "survivors": 2,
        "certify": 3,
        "crash": 2,
        "replay": 1,
        "recover": 2,
    },
    {  # epochs
        "without": 2,
        "attempt": 6,
        "round": 2,
        "epoch": 4,
        "restore": 2,
        "work": 2,
        "reopen": 1,
        "abort": 2,
        "crash": 1,
        "catch_up": 1,
        "survivors": 1,
        "certify": 2,
        "announce": 2,
    },
    {  # rounds, and members that are behind
        "round": 6,
        "catch_up": 3,
        "restore": 1,
        "epoch": 1,
        "attempt": 3,
        "close": 3,
        "work": 3,
        "crash": 1,
        "abort": 1,
        "certify": 1,
        "reopen": 1,
    },
    {  # all at once
        "announce": 3,
        "work": 5,
        "survivors": 3,
        "certify": 4,
        "recover": 3,
        "abort": 4,
        "reopen": 3,
        "close": 3,
        "catch_up": 1,
        "crash": 2,
        "crash_within": 2,
        "replay": 2,
        "epoch": 1,
        "attempt": 6,
        "skip": 2,
        "without": 2,
        "restore": 2,
        "squeeze": 1,
    },
)


@dataclass(frozen=True)
class Scenario:
    n: int
    colluders: tuple[int, ...]
    guests: int
    ops: tuple[Op, ...]

    @staticmethod
    def of(seed: int) -> Scenario:
        dice = random.Random(seed)
        n = dice.choice((3, 4, 4, 4, 5, 5, 6, 7, 7))
        f = Quorums.of(n).f
        colluders = tuple(sorted(dice.sample(range(1, n + 1), dice.choice((0, f, f)))))
        guests = dice.choice((0, 0, 1, 2))
        before = [Op("round", choice=dice.choice((0, 0, 1))) for _ in range(dice.choice((0, 0, 0, 1, 2)))]
        ops = draw(dice, dice.choice(PROFILES), n + guests, dice.randrange(4, 30))
        return Scenario(n, colluders, guests, (*before, *ops))

    def play(self, variant: type[MemberMachine] = MemberMachine) -> Hostile:
        """Raises Broken. At the end the coordinator asks everybody for all that it can still use."""
        hostile = Hostile(self.n, self.colluders, guests=self.guests, variant=variant)
        hostile.run((*self.ops, Op("squeeze")))
        hostile.watch.judge()
        return hostile

    def outcome(self, variant: type[MemberMachine] = MemberMachine) -> Hostile | Broken:
        try:
            return self.play(variant)
        except Broken as broken:
            return broken

    def smallest(self, broken: Broken, variant: type[MemberMachine] = MemberMachine) -> Scenario:
        def fails(ops: Sequence[Op]) -> bool:
            found = replace(self, ops=tuple(ops)).outcome(variant)
            return isinstance(found, Broken) and found.invariant == broken.invariant

        return replace(self, ops=tuple(shrunk(self.ops, fails)))
