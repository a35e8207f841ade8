"""A federation in memory: the real machines, ciphers and encoding; a clock, a network and disks that the test holds.

Faults are named: a member is killed just before or after it sends a kind of message, messages are dropped, streams
break, the collector is killed and replayed. The judge is independent: the sum of every closed round is compared with
plain integers over its cohort.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation.errors import InvalidIdentity, ProtocolViolation
from federation.secagg import encoding as codes
from federation.secagg import wire
from federation.secagg.audit import Place, Shown, check_audit, leaves_of
from federation.secagg.collector import CollectorMachine
from federation.secagg.events import (
    Begin,
    ComputeInitialState,
    Connected,
    Contribute,
    ContributionFailed,
    ContributionLost,
    Encoded,
    FetchState,
    FetchSum,
    From,
    JobDone,
    JobStuck,
    Join,
    Lost,
    MaskPlan,
    Misconduct,
    PhaseChanged,
    ProvideState,
    PutState,
    Refuse,
    Remember,
    RoundClosed,
    Send,
    StateGiven,
    StateReady,
    StateRefused,
    SumApplied,
    SumFailed,
    SumReady,
    SumRefused,
    TaskBroke,
    Tell,
    Tick,
    Unmask,
    Windows,
)
from federation.secagg.figures import public_words
from federation.secagg.header import Header, header_words
from federation.secagg.member import Me, MemberMachine
from federation.secagg.merkle import MerkleRoot, leaf_hash, path_of
from federation.secagg.messages import Upload
from federation.secagg.opening import Sum, open_sum
from federation.secagg.parameters import FIXED_WORDS, Encoding, Terms
from tests.whole import added, encode, read_sum, root_of

INITIAL = hashlib.sha256(b"state 1").digest()
JOB = hashlib.sha256(b"manifest").digest()

WINDOWS = Windows(formation=60, formation_attempts=3, ready=30, reconnect=5, round=600, phase=30, attempts=5)


def terms_of(**changes: Any) -> Terms:
    values: dict[str, Any] = {
        "job": JOB,
        "federation": "f",
        "rounds": 2,
        "final_evaluation": False,
        "ring_bits": 16,
        "clip_norm": 100.0,
        "weight_cap": 1 << 20,
        "initial_scale_exponent": -6,
        "min_scale_exponent": -20,
        "max_scale_exponent": 8,
        "metrics": ("train/loss",),
        "min_members": 3,
        "min_jurisdictions": 1,
        "chunk_parameters": 16,
    }
    return Terms(**{**values, **changes})


@dataclass(frozen=True)
class Card:
    member: str
    node: str
    jurisdiction: str
    identity_key: bytes


class Signer:
    """Ed25519, or a stand-in of the same shape for large enumerations."""

    def __init__(self, name: str, stand_in: bool) -> None:
        seed = hashlib.sha256(name.encode()).digest()
        self._key = None if stand_in else Ed25519PrivateKey.from_private_bytes(seed)
        self.public = seed if self._key is None else self._key.public_key().public_bytes_raw()

    def __call__(self, message: bytes) -> bytes:
        return stand_in_signature(self.public, message) if self._key is None else self._key.sign(message)


def stand_in_signature(public: bytes, message: bytes) -> bytes:
    return hashlib.sha256(public + message).digest() * 2


def stand_in_verify(public: bytes, message: bytes, signature: bytes) -> bool:
    return signature == stand_in_signature(public, message)


def random_of(label: str) -> Callable[[int], bytes]:
    """A reproducible stream of bytes."""
    stream = np.random.default_rng(int.from_bytes(hashlib.sha256(label.encode()).digest()[:8], "big"))
    return stream.bytes


def another_file(name: str, state_digest: bytes) -> bytes:
    """The digest of a file of this member that holds something else."""
    return hashlib.sha256(name.encode() + state_digest).digest()


class Silence:
    """No noise where there should be some."""

    def add(self, levels: Any, index: int) -> None: ...


@dataclass
class Lab:
    """One member's disk and process."""

    name: str
    signer: Signer
    weight: int
    machine: MemberMachine
    journal: dict[str, bytes] = field(default_factory=dict)
    files: dict[bytes, bytes] = field(default_factory=dict)
    alive: bool = True
    connected: bool = True
    lives: int = 0
    refused: list[str] = field(default_factory=list)
    sent: list[Any] = field(default_factory=list)


class World:
    def __init__(
        self,
        n: int = 5,
        *,
        size: int = 20,
        weights: Sequence[int] | None = None,
        stand_in: bool = False,
        through_wire: bool = False,
        windows: Windows = WINDOWS,
        difference: Callable[[str, int], np.ndarray] | None = None,
        min_cohort: dict[str, int] | None = None,
        **terms: Any,
    ) -> None:
        self.terms = terms_of(**terms)
        self.windows = windows
        self.size = size
        self.stand_in = stand_in
        self.through_wire = through_wire
        self.difference = difference or self._random_difference
        self.min_cohort = min_cohort or {}
        self.now = 0.0
        self.names = [f"m{place:0{len(str(n))}d}" for place in range(1, n + 1)]
        self.cards: dict[bytes, Card] = {}
        self.labs: dict[str, Lab] = {}
        for place, name in enumerate(self.names):
            signer = Signer(name, stand_in)
            self.cards[name.encode()] = Card(name, "node", "FRDEITESPTNL"[2 * place % 12 :][:2], signer.public)
            weight = (weights or [1 << (place % 3) for place in range(n)])[place]
            self.labs[name] = Lab(name, signer, weight, self._machine(name, signer, weight, 0))
        self.queue: deque[tuple[str, Any]] = deque()
        self.tasks: deque[tuple[str, int, Any]] = deque()
        self.collector = self._collector()
        self.log: list[tuple[bytes, float]] = []
        self.updates: dict[bytes, dict[int, bytes]] = {}
        self.plain: dict[bytes, dict[int, bytes]] = {}
        self.sums: dict[bytes, bytes] = {}
        self.blobs: set[bytes] = set()
        self.closed: list[RoundClosed] = []
        self.judged: set[bytes] = set()
        self.audits = 0
        """places of sums that members looked at, and found to be right"""
        self.done: JobDone | None = None
        self.stuck: JobStuck | None = None
        self.misconduct: list[Misconduct] = []
        self.phases: list[PhaseChanged] = []
        self.kill_before: set[tuple[str, str]] = set()
        self.gives_no_state: set[str] = set()
        """say nothing when they are asked for a state"""
        self.gives_another: set[str] = set()
        """put another file than the state that they are asked for"""
        self.gives_unasked: set[str] = set()
        """say of every state that another is asked for that it lies where there is another file, before the other can answer"""
        self.refuses_states: set[str] = set()
        """say of every state's file that it is another"""
        self.asked_for_state: list[str] = []
        """who was asked for a state, in order"""
        self.refused_states: list[tuple[str, bytes]] = []
        self.cannot_start: set[str] = set()
        self.kill_after: set[tuple[str, str]] = set()
        self.fail_task: set[str] = set()
        self.silent: set[str] = set()
        """members that leave out the noise of differential privacy"""
        self.tamper: Callable[[str, Any], Any] = lambda member, message: message
        """what a member's message becomes on its way to the collector; None: lost"""
        self.forge: Callable[[str, Any], Any] = lambda member, message: message
        """what a message to a member becomes on its way; None: lost"""

    # ------------------------------------------------------------------------------------------------------------ parts

    def verify_credential(self, data: bytes) -> Card:
        if data not in self.cards:
            raise InvalidIdentity("No officer on the roll signed this credential.")
        return self.cards[data]

    def _machine(self, name: str, signer: Signer, weight: int, life: int) -> MemberMachine:
        return MemberMachine(
            self.terms,
            Me(name, "node", name.encode(), weight, self.min_cohort.get(name)),
            signer,
            self.verify_credential,
            random_of(f"{name}/{life}"),
            verify=stand_in_verify if self.stand_in else None,
        )

    def _collector(self) -> CollectorMachine:
        return CollectorMachine(
            self.terms, self.windows, self.verify_credential, verify=stand_in_verify if self.stand_in else None
        )

    def _random_difference(self, name: str, round_number: int) -> np.ndarray:
        label = f"{name}/{round_number}"
        seed = int.from_bytes(hashlib.sha256(label.encode()).digest()[:8], "big")
        return np.random.default_rng(seed).normal(0, 3, self.size).astype(np.float32)

    # -------------------------------------------------------------------------------------------------------- collector

    def tell_collector(self, event: Any) -> None:
        data = wire.event_to_bytes(event)
        self.log.append((data, self.now))
        instructions = self.collector.handle(wire.event_from_bytes(data), self.now)
        self.collector.validate()
        self.perform(instructions)

    def perform(self, instructions: Sequence[Any]) -> None:
        for instruction in instructions:
            if isinstance(instruction, Tell):
                if isinstance(instruction.message, ProvideState):
                    self.asked_for_state += instruction.members
                    self._lie_unasked(instruction.message)
                for member in instruction.members:
                    lab = self.labs.get(member)
                    if lab is not None and lab.connected:
                        forged = self.forge(member, instruction.message)
                        if forged is not None:
                            self.queue.append((member, self._carried(forged)))
            elif isinstance(instruction, Unmask):
                self._unmask(instruction)
            elif isinstance(instruction, RoundClosed):
                self.closed.append(instruction)
            elif isinstance(instruction, JobDone):
                self.done = instruction
            elif isinstance(instruction, JobStuck):
                self.stuck = instruction
            elif isinstance(instruction, Misconduct):
                self.misconduct.append(instruction)
            elif isinstance(instruction, PhaseChanged):
                self.phases.append(instruction)

    def _carried(self, message: Any) -> Any:
        if not self.through_wire:
            return message
        proto = wire.to_proto(message)
        return wire.from_proto(type(proto).FromString(proto.SerializeToString()))

    def _unmask(self, instruction: Unmask) -> None:
        context = instruction.plan.context
        code = self._encoding()
        size = 0 if instruction.header_only else self.size
        held = [self.updates[context][index] for index in instruction.cohort]
        data = added(held, self.terms, code, instruction.plan)
        if not self.terms.blind:
            try:
                read_sum(data, self.terms, code, len(instruction.cohort), instruction.total_weight, size)
            except ProtocolViolation as error:
                self.tell_collector(SumFailed(context, str(error)))
                return
        blob = hashlib.sha256(data).digest()
        self.sums[blob] = data
        self.tell_collector(SumReady(context, blob, len(data)))

    def _encoding(self) -> Encoding:
        unit = max(seat.weight for seat in self.collector.seats)
        return codes.encoding_of(self.terms, len(self.collector.seats), unit)

    def judge(self, context: bytes, cohort: Sequence[int], found: bytes) -> None:
        """Plain integers over the cohort, added without masks, must be the sum that a member sees."""
        code = self._encoding()
        words = header_words(self.terms)
        body = len(found) - 8 * words
        kind = np.dtype(f"<i{code.ring_bits // 8}")
        parts = [self.plain[context][index] for index in cohort]
        expected = sum(np.frombuffer(part[:body], kind).astype(np.int64) for part in parts)
        assert np.array_equal(np.frombuffer(found[:body], kind).astype(np.int64), expected)
        known = FIXED_WORDS + 2 * len(self.terms.metrics)
        header = sum(np.frombuffer(part[body:], "<i8")[:known] for part in parts)
        assert np.array_equal(np.frombuffer(found[body:], "<i8")[:known], header)
        self.judged.add(context)

    def restart_collector(self) -> None:
        """kill -9 and a replay from the stored events; then every stream opens anew."""
        self.queue.clear()
        before = self.collector
        self.collector = self._collector()
        for data, moment in self.log:
            self.collector.handle(wire.event_from_bytes(data), moment)
        assert self.collector.checkpoint() == before.checkpoint()
        self.collector = CollectorMachine.from_checkpoint(
            self.terms,
            self.windows,
            self.verify_credential,
            self.collector.checkpoint(),
            verify=stand_in_verify if self.stand_in else None,
        )
        self.perform(self.collector.resume(self.now))
        for member in self.collector.present:
            self.tell_collector(Lost(member))
        for lab in self.labs.values():
            if lab.alive:
                self._connected(lab)

    # ---------------------------------------------------------------------------------------------------------- members

    def deliver(self, name: str, event: Any) -> None:
        lab = self.labs[name]
        if not lab.alive:
            return
        instructions = lab.machine.handle(event, self.now)
        lab.machine.validate()
        for instruction in instructions:
            if not lab.alive:
                return
            self._member_does(lab, instruction)

    def _member_does(self, lab: Lab, instruction: Any) -> None:
        name, life = lab.name, lab.lives
        if isinstance(instruction, Remember):
            if instruction.value is None:
                lab.journal.pop(instruction.key, None)
            else:
                lab.journal[instruction.key] = instruction.value
        elif isinstance(instruction, Send):
            self._send(lab, instruction.message)
        elif isinstance(instruction, ComputeInitialState):
            if name in self.cannot_start:
                self.tasks.append((name, life, partial(self.tell_collector, TaskBroke(name, "it cannot start"))))
            else:
                self.tasks.append((name, life, partial(self.deliver, name, StateReady(1, INITIAL))))
        elif isinstance(instruction, PutState):
            if name in self.gives_no_state:
                return
            self.give_state(lab, instruction)
        elif isinstance(instruction, FetchState):
            self.tasks.append((name, life, partial(self._fetched, lab, instruction)))
        elif isinstance(instruction, Contribute):
            self.tasks.append((name, life, partial(self._contribute, lab, instruction)))
        elif isinstance(instruction, FetchSum):
            self.tasks.append((name, life, partial(self._apply, lab, instruction)))
        elif isinstance(instruction, Refuse):
            lab.refused.append(instruction.violation.check)
            if lab.connected:
                lost = instruction.violation.check == "contribution-lost"
                said = TaskBroke(name, instruction.violation.check, refused=True)
                self.tell_collector(ContributionLost(name) if lost else said)

    def give_state(self, lab: Lab, wanted: PutState) -> None:
        """In ``sum`` view the driver reads the file before the machine hears of it."""
        blob = hashlib.sha256(wanted.state_digest + wanted.key).digest()
        if lab.name in self.gives_another:
            blob = another_file(lab.name, wanted.state_digest)
            if not self.terms.blind:
                self.tell_collector(TaskBroke(lab.name, "The state's file is another state's."))
                return
        self.blobs.add(blob)
        if lab.connected:
            self.tell_collector(StateGiven(lab.name, wanted.state_digest, blob, wanted.epoch))

    def _lie_unasked(self, asked: ProvideState) -> None:
        for name in self.gives_unasked:
            blob = another_file(name, asked.state_digest)
            self.blobs.add(blob)
            self.tell_collector(StateGiven(name, asked.state_digest, blob, asked.epoch))

    def _fetched(self, lab: Lab, wanted: FetchState) -> None:
        assert wanted.state_blob in self.blobs
        right = wanted.state_blob == hashlib.sha256(wanted.state_digest + wanted.key).digest()
        if right and lab.name not in self.refuses_states:
            self.deliver(lab.name, StateReady(wanted.round, wanted.state_digest))
            return
        assert right or self.terms.blind, "who reads the file does not offer another"
        self.refused_states.append((lab.name, wanted.state_blob))
        if lab.connected:
            self.tell_collector(StateRefused(lab.name, wanted.state_digest, wanted.state_blob))

    def _send(self, lab: Lab, message: Any) -> None:
        kind = type(message).__name__
        if (lab.name, kind) in self.kill_before:
            self.kill_before.discard((lab.name, kind))
            self.kill(lab.name)
            return
        lab.sent.append(message)
        if lab.connected:
            carried = self.tamper(lab.name, message)
            if carried is not None:
                if isinstance(carried, Upload):
                    self.updates.setdefault(carried.context, {})[carried.index] = lab.files[message.context]
                self.tell_collector(From(lab.name, self._carried(carried)))
        if (lab.name, kind) in self.kill_after:
            self.kill_after.discard((lab.name, kind))
            self.kill(lab.name)

    def figures_of(self, index: int) -> dict[str, float]:
        """What the member of this place reports in every round."""
        return {"train/loss": 0.25 * index}

    def _contribute(self, lab: Lab, work: Contribute) -> None:
        context = work.plan.context
        if lab.name in self.fail_task:
            self.fail_task.discard(lab.name)
            self.deliver(lab.name, ContributionFailed(context))
            self.tell_collector(TaskBroke(lab.name, "task failed"))
            return
        code = codes.encoding_of(self.terms, work.members, work.weight_unit)
        scales = np.full(code.chunks(self.size), self.terms.initial_scale_exponent, np.int8)
        header = Header.of(self.terms, work.weight, 1.0, self.figures_of(lab.machine.index))
        difference = None if work.header_only else self.difference(lab.name, work.round)
        plan = (
            work.plan if difference is None else codes.settled_dither(difference, work.weight, work.plan, code, scales)
        )
        noises = codes.noises_of(self.terms, code, work.plan, 0 if difference is None else difference.size)
        if lab.name in self.silent:
            noises = tuple(each and Silence() for each in noises)
        tree = MerkleRoot()
        update = b""
        for chunk in encode(difference, header, plan, code, scales, *noises):
            tree.add(chunk)
            update += chunk
        plain = MaskPlan(context, (), plan.dither, plan.cipher)
        self.plain.setdefault(context, {})[lab.machine.index] = b"".join(
            encode(difference, header, plain, code, scales, *noises)
        )
        lab.files[context] = update
        assert root_of(update, self.terms, code) == tree.root()
        self.deliver(lab.name, Encoded(context, tree.root()))

    def opened(self, fetch: FetchSum) -> Sum:
        """As a member sees it. Raises ProtocolViolation."""
        code = codes.encoding_of(self.terms, fetch.members, fetch.weight_unit)
        size = 0 if self.terms.header_only(fetch.close.round) else self.size
        data = self.sums[fetch.close.sum_blob]
        return open_sum(data, fetch.plan, self.terms, code, len(fetch.cohort), fetch.total_weight, size)

    def shown(self, context: bytes, leaf: int) -> list[Shown]:
        """What the collector shows to whoever audits this place of the round that was closed last."""
        code, found = self._encoding(), []
        for _, unmasked in self.collector.unmasked(context):
            update = self.updates[context][unmasked.index]
            places = [
                Place.of(each, len(update), self.terms, code)
                for each in range(leaves_of(len(update), self.terms, code))
            ]
            hashes = [leaf_hash(update[place.start : place.end]) for place in places]
            found.append(Shown(unmasked, update[places[leaf].start : places[leaf].end], path_of(hashes, leaf)))
        return found

    def audit(self, lab: Lab, fetch: FetchSum) -> None:
        """Every place, as long as the collector has what it takes. Raises ProtocolViolation."""
        context, data = fetch.close.context, self.sums[fetch.close.sum_blob]
        bench = lab.machine.bench
        assert bench is not None
        code = codes.encoding_of(self.terms, fetch.members, fetch.weight_unit)
        for leaf in range(leaves_of(len(data), self.terms, code) if self.collector.unmasked(context) else 0):
            place = Place.of(leaf, len(data), self.terms, code)
            check_audit(bench, fetch, self.terms, code, place, self.shown(context, leaf), data)
            self.audits += 1

    def _apply(self, lab: Lab, fetch: FetchSum) -> None:
        context = fetch.close.context
        try:
            read = self.opened(fetch)
            self.audit(lab, fetch)
        except ProtocolViolation as error:
            self.deliver(lab.name, SumRefused(context, str(error)))
            return
        ring = [chunk.copy() for chunk in read.chunks()]
        opened = b"".join(chunk.tobytes() for chunk in ring) + np.array(read.header, "<i8").tobytes()
        self.judge(context, fetch.cohort, opened)
        before = lab.machine.position.state_digest
        after = hashlib.sha256(before + hashlib.sha256(opened).digest()).digest()
        self.deliver(lab.name, SumApplied(context, after, public_words(read.header, self.terms)))

    # ----------------------------------------------------------------------------------------------------------- faults

    def kill(self, name: str) -> None:
        lab = self.labs[name]
        lab.alive = False
        lab.lives += 1
        self.queue = deque(item for item in self.queue if item[0] != name)
        self.lose(name)

    def lose(self, name: str) -> None:
        lab = self.labs[name]
        if lab.connected:
            lab.connected = False
            self.tell_collector(Lost(name))

    def restart(self, name: str) -> None:
        lab = self.labs[name]
        lab.alive = True
        lab.machine = self._machine(name, lab.signer, lab.weight, lab.lives)
        lab.machine.restore(dict(lab.journal))
        self._connected(lab)

    def reconnect(self, name: str) -> None:
        self._connected(self.labs[name])

    def _connected(self, lab: Lab) -> None:
        lab.connected = True
        place = lab.machine.position
        self.tell_collector(Connected(lab.name, place.round, place.state_digest))

    # ---------------------------------------------------------------------------------------------------------- running

    def begin(self, names: Sequence[str] = ()) -> World:
        """``names``: who is there from the start; all when empty. The others may ``join``."""
        first = tuple(names) or tuple(self.names)
        for lab in self.labs.values():
            lab.connected = lab.connected and lab.name in first
            if lab.connected:
                self.tell_collector(Connected(lab.name))
        self.tell_collector(Begin(tuple((name, "node") for name in first)))
        return self

    def join(self, name: str) -> None:
        """Its consent has come while the job runs."""
        self._connected(self.labs[name])
        self.tell_collector(Join(name))

    def forget(self, name: str) -> None:
        """The lab's disk is lost; the node starts anew and consents again."""
        lab = self.labs[name]
        self.kill(name)
        lab.journal.clear()
        lab.files.clear()
        lab.alive = True
        lab.machine = self._machine(name, lab.signer, lab.weight, lab.lives)
        self.join(name)

    def step(self) -> bool:
        """One message or task, else the next deadline. False: nothing more happens by itself."""
        if self.queue:
            name, message = self.queue.popleft()
            self.deliver(name, message)
        elif self.tasks:
            name, life, task = self.tasks.popleft()
            if self.labs[name].alive and self.labs[name].lives == life:
                task()
        elif self.collector.deadline is not None:
            self.now = max(self.now, self.collector.deadline)
            self.tell_collector(Tick())
        else:
            return False
        return True

    def run(self, until: Callable[[World], bool] = lambda world: False, limit: int = 20_000) -> World:
        for _ in range(limit):
            if self.done or self.stuck or until(self) or not self.step():
                return self
        raise AssertionError(f"no end: {self.collector.story}")
