"""A job in one process: drivers, journals, files and trainers of four labs and a collector, all real; no network, no workers.

The network is a list, the clock the hall's. A lab can be killed at any write of its journal and started again on its disk.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from federation.errors import FederationError, NotFound, VerificationFailed
from federation.identity.consent import Consent, seal_consent
from federation.identity.credential import node_request, verify_credential
from federation.identity.fields import moment_text
from federation.identity.keys import SigningKey
from federation.manifest.manifest import Manifest, open_manifest
from federation.privacy.budget import Budget
from federation.route import Route
from federation.secagg import encoding as codes
from federation.secagg import events, wire
from federation.secagg.audit import Place, leaves_of
from federation.secagg.collector import CollectorMachine
from federation.secagg.merkle import leaf_hash, path_of
from federation.secagg.messages import Encapsulation, KeyMessage, Upload
from federation.secagg.parameters import Encoding
from federation.v1 import rounds_pb2
from federation.weights.state import read_state
from federation.weights.tensors import read_arrays, write_arrays
from node_agent.consent.decision import plans_of
from node_agent.consent.standing import Standing
from node_agent.link.discretion import Discretion
from node_agent.rounds.disclosure import FigureBook
from node_agent.rounds.driver import JobDriver
from node_agent.rounds.files import JobFiles
from node_agent.rounds.growing import GrowingUpdate
from node_agent.rounds.inbox import Inbox
from node_agent.rounds.lab import Lab
from node_agent.rounds.training import Trainer
from node_agent.runner.worker import Reply
from node_agent.store.evidence import EvidenceFolder
from node_agent.store.journal import ConsentRecord, Journal
from node_agent.store.revocations import Revocations
from tests.unit.agent import homes
from tests.unit.agent.homes import DAY, credential_of, federation_of, job_of
from tests.whole import added, root_of

SIZE = 10
PART = 24
"""bytes of an update that travel at once, where it does not ride along"""
PEOPLE = ("ch", "fr", "ke", "us")
DATA = Path("/srv/ward-7/scans")
"""where each lab's data set lies"""
ROUTE = Route("coordinator.example:7443", "http://ana:pw@inner.lab:3128", "http://inner.lab:3128")
JOB = homes.JOB + "  coordinatorView: sum\n"
TEXT = JOB + "  rounds: 2\n  finalEvaluation: false\n"


def model() -> dict[str, Any]:
    """Names that are not in order of the alphabet, and a buffer that is not summed."""
    return {"weight": np.zeros((2, 3), np.float32), "bias": np.zeros(4, np.float32), "steps": np.zeros((), np.int64)}


class Killed(BaseException):
    """kill -9, at a place that the test chose."""


class MortalJournal(Journal):
    """Dies before or after its n-th write."""

    kill_at, after, writes = 0, False, 0

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._database.execute("PRAGMA synchronous=OFF")  # a kill, not a power cut: test_journal has those

    def remember(
        self, job: bytes, records: Mapping[str, bytes | None], figures: Sequence[events.RememberFigures] = ()
    ) -> None:
        self.writes += bool(records)
        mine = bool(records) and self.writes == self.kill_at
        if mine and not self.after:
            raise Killed
        super().remember(job, records, figures)
        if mine:
            raise Killed


class Watched(Inbox):
    """Knows whether its driver waits at it."""

    waiting = False

    async def take(self) -> Any:
        self.waiting = True
        try:
            return await super().take()
        finally:
            self.waiting = False


@dataclass
class PlainWorker:
    """What the lab's worker does, in this process: each training adds ``step`` to every weight."""

    step: float = 0.25
    trained: Callable[[dict[str, Any]], dict[str, Any]] = lambda arrays: arrays
    """what a faulty task makes of its reply"""
    file: bytes | None = None
    """what it writes in place of a reply's file"""
    loss: float = 0.5
    errors: list[FederationError] = field(default_factory=list)
    """raised by the next calls, one each"""
    calls: list[str] = field(default_factory=list)
    models: list[dict[str, Any]] = field(default_factory=list)
    """what it was given to train on"""
    starts: int = 0
    alive: bool = True
    evaluates: bool = True

    async def start(self) -> PlainWorker:
        self.starts += 1
        self.alive = True
        return self

    async def close(self) -> None:
        self.alive = False

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.errors:
            raise self.errors.pop(0)

    async def initial_model(self, factory: str, seed: int, out: Path) -> None:
        self._called("initial")
        write_arrays(out, model())

    async def evaluate(self, path: Path, config: Mapping[str, Any], timeout: float) -> Reply:
        self._called("evaluate")
        return Reply({"eval_loss": self.loss}, 10)

    async def train(self, path: Path, out: Path, config: Mapping[str, Any], timeout: float) -> Reply:
        self._called("train")
        arrays = {name: np.array(array) for name, array in read_arrays(path).items()}
        self.models.append(arrays)
        reply = self.trained({name: array + array.dtype.type(self.step) for name, array in arrays.items()})
        if self.file is None:
            write_arrays(out, reply)
        else:
            out.write_bytes(self.file)
        return Reply({"train_loss": self.loss}, 10)


class Bench:
    """In the place of ``Worker``: a job's spec is its worker."""

    @staticmethod
    async def start(spec: PlainWorker) -> PlainWorker:
        return await spec.start()


class Office:
    """One lab: its disk stays, its process comes and goes."""

    def __init__(self, hall: Hall, name: str) -> None:
        self.hall, self.name, self.folder = hall, name, hall.folder / name
        self.folder.mkdir()
        self.key, self.worker = SigningKey.generate(), PlainWorker()
        request = node_request("health", name, f"{name}-1", self.key)
        envelope = credential_of(hall.parties, request, name)
        self.credential = verify_credential(envelope, hall.parties.roll, datetime.now(UTC))
        self.files = JobFiles(self.folder / "job")
        self.files.prepare()
        self.data = hashlib.sha256(name.encode()).digest()
        """which version its data set is"""
        self.versions: Callable[[], tuple[bytes, ...]] = lambda: (self.data,)
        self.life, self.kills = 0, 0
        self.kill_at, self.after = 0, False
        self.alive = False
        self.counted: Counter[str] = Counter()
        self.sent: list[Any] = []
        self.budgets: dict[str, Budget] = {}
        self.revocations = Revocations(self.folder / "revocations")
        self.over: list[str] = []
        """why its consent is over, as its driver said"""
        self.clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    @property
    def journal_path(self) -> Path:
        return self.folder / "journal.db"

    def consent(self, **changes: Any) -> Consent:
        now = datetime.now(UTC).replace(microsecond=0)
        said = Consent(
            job=self.hall.manifest.digest,
            member=self.name,
            node=f"{self.name}-1",
            granted=True,
            reasons=("yes",),
            data_set="digits",
            weight=1 << PEOPLE.index(self.name),
            figures=self.hall.manifest.figures,
            lacks=(),
            issued=now - timedelta(hours=1),
            expires=now + DAY,
        )
        return dataclasses.replace(said, **changes)

    def agree(self, *, key: SigningKey | None = None, **changes: Any) -> None:
        """Writes the lab's consent to its own disk."""
        said = self.consent(**changes)
        record = ConsentRecord(
            self.hall.manifest.digest, "tiny", "lead", said.granted, said.reasons,
            seal_consent(said, key or self.key), moment_text(said.issued),
        )  # fmt: skip
        with Journal(self.journal_path) as journal:
            journal.answer(record, self.hall.manifest.envelope, plans_of(self.hall.manifest, ("digits",)))

    def ended(self, cause: str) -> None:
        """Its consent is over: the coordinator is told, as a node does it."""
        self.over.append(cause)
        if self.hall.hear_of_the_end:
            self.hall.tell(events.Left(self.name))

    def start(self) -> None:
        """A fresh process on the disk that is there."""
        self.life += 1
        self.alive = True
        self.journal = MortalJournal(self.journal_path)
        self.journal.kill_at, self.journal.after = self.kill_at, self.after
        self.kill_at = 0
        roll, life = self.hall.parties.roll, self.life
        way = Mail(self, life)
        book = FigureBook.of(self.journal.figures())
        evidence = EvidenceFolder(self.folder / "evidence")
        lab = Lab(
            self.journal,
            self.key,
            self.credential,
            lambda: roll,
            None,
            way,
            evidence,
            lambda name: self.counted.update([name]),
            book,
            Standing(self.journal, self.revocations, self.credential, lambda version: version[::-1]),
            Discretion.of(self.folder, [str(DATA)], ROUTE),
            self.budgets,
            over=lambda job, cause: self.ended(cause),
            clock=lambda: self.clock(),
        )
        manifest = self.hall.manifest
        trainer = Trainer(manifest, manifest.terms(), self.files, self.worker)  # type: ignore[arg-type]
        self.driver = JobDriver(lab, manifest, self.consent(), trainer, self.files, lambda: self.versions())
        self.driver.inbox = self.inbox = Watched()
        self.driver.start()
        place = self.driver.machine.position
        self.hall.tell(events.Connected(self.name, place.round, place.state_digest))

    async def end(self) -> None:
        self.alive = False
        await self.driver.stop()
        self.journal.close()

    async def restart(self) -> None:
        self.kills += 1
        await self.end()
        self.hall.tell(events.Lost(self.name))
        self.start()

    @property
    def dead(self) -> bool:
        return self.alive and not any(task.get_coro().__name__ == "_run" for task in self.driver._tasks)

    @property
    def busy(self) -> bool:
        return not (self.inbox.waiting and self.inbox.empty and len(self.driver._tasks) == 1)

    def told(self, kind: type) -> list[Any]:
        return [proto for proto in self.sent if isinstance(proto, kind)]


@dataclass
class Mail:
    """A lab's way to the coordinator, for one life of it."""

    office: Office
    life: int

    def send(self, event: rounds_pb2.NodeEvent) -> None:
        if self.office.alive and self.office.life == self.life:
            assert event.job == self.office.hall.manifest.digest
            self.office.hall.hear(self.office, getattr(event, event.WhichOneof("event") or ""))

    async def put_update(self, job: bytes, context: bytes, update: GrowingUpdate) -> None:
        """From where it stopped, as the link does it; ``on_part`` may break it off."""
        parts, key = self.office.hall.parts, (context, self.office.name)
        with update.path.open("rb") as stream:
            while len(parts.get(key, b"")) < update.size:
                stream.seek(len(parts.get(key, b"")))
                standing = await update.until(stream.tell() + PART)
                data = stream.read(min(PART, standing - stream.tell()))
                assert data
                self.office.hall.on_part(self.office, stream.tell() - len(data))
                parts[key] = parts.get(key, b"") + data

    async def audit(self, job: bytes, context: bytes, leaf: int, members: int) -> list[rounds_pb2.AuditPart]:
        assert job == self.office.hall.manifest.digest
        parts = self.office.hall.audit(context, leaf)
        assert len(parts) <= members
        return self.office.hall.on_audit(self.office, parts)

    async def put_blob(self, digest: bytes, path: Path) -> None:
        data = path.read_bytes()
        assert hashlib.sha256(data).digest() == digest
        self.office.hall.blobs[digest] = data

    async def get_blob(self, digest: bytes, path: Path, limit: int) -> None:
        data = self.office.hall.blobs.get(digest)
        if data is None:
            raise NotFound("There is no such blob.")
        self.office.hall.limits.append(limit)
        path.write_bytes(data)


class Hall:
    def __init__(self, folder: Path, text: str = TEXT) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.parties = federation_of(PEOPLE)
        self.manifest: Manifest = open_manifest(job_of(self.parties, text), self.parties.roll)
        self.terms = self.manifest.terms()
        self.collector = CollectorMachine(
            self.terms, self.manifest.windows(), lambda data: verify_credential(data, self.parties.roll, None)
        )
        self.now = 0.0
        self.blobs: dict[bytes, bytes] = {}
        self.limits: list[int] = []
        """bytes that a lab was ready to take, of each blob"""
        self.updates: dict[bytes, dict[str, bytes]] = {}
        self.mail: list[tuple[str, Any]] = []
        self.heard: list[tuple[str, Any]] = []
        self.done: events.JobDone | None = None
        self.stuck: events.JobStuck | None = None
        self.closed: list[events.RoundClosed] = []
        self.misconduct: list[events.Misconduct] = []
        self.carry: Callable[[str, Any], Any] = lambda name, proto: proto
        """what an instruction becomes on its way to a lab; None: lost"""
        self.parts: dict[tuple[bytes, str], bytes] = {}
        """of updates that do not ride along, as far as they came"""
        self.on_part: Callable[[Office, int], None] = lambda office, offset: None
        self.on_send: Callable[[Office, Any], None] = lambda office, proto: None
        self.on_audit: Callable[[Office, list[rounds_pb2.AuditPart]], list[rounds_pb2.AuditPart]] = (
            lambda office, parts: parts
        )
        self.hear_of_the_end = True
        """False: the coordinator hides that a lab's consent is over"""
        self.inline = True
        """small sums ride along with their announcement"""
        self.offices = {name: Office(self, name) for name in PEOPLE}

    # ------------------------------------------------------------------------------------------------------ the coordinator

    def tell(self, event: Any) -> None:
        if self.done is None and self.stuck is None:
            for instruction in self.collector.handle(event, self.now):
                self._perform(instruction)

    def hear(self, office: Office, proto: Any) -> None:
        self.on_send(office, proto)
        office.sent.append(proto)
        if isinstance(proto, rounds_pb2.Refusal) and proto.code.endswith("/contribution-lost"):
            self.tell(events.ContributionLost(office.name))
        elif isinstance(proto, rounds_pb2.TaskFailure | rounds_pb2.Refusal):
            self.tell(events.TaskBroke(office.name, proto.exception if hasattr(proto, "exception") else proto.code))
        elif isinstance(proto, rounds_pb2.StateStored):
            self.folder.joinpath("blob").write_bytes(self.blobs[proto.blob])
            assert read_state(self.folder / "blob").digest() == proto.state_digest
            self.tell(events.StateGiven(office.name, proto.state_digest, proto.blob, proto.epoch))
        elif isinstance(proto, rounds_pb2.StateRefused):
            self.tell(events.StateRefused(office.name, proto.state_digest, proto.blob))
        elif not isinstance(proto, rounds_pb2.Progress):
            message = wire.from_proto(proto)
            self.heard.append((office.name, message))
            if isinstance(message, Upload):
                data = bytes(proto.inline_update) or self.parts.get((message.context, office.name), b"")
                assert root_of(data, self.terms, self._encoding()) == message.root
                self.updates.setdefault(message.context, {})[office.name] = data
            self.tell(events.From(office.name, message))

    def _perform(self, instruction: Any) -> None:
        match instruction:
            case events.Tell():
                proto: Any = wire.to_proto(instruction.message)
                if self.inline and isinstance(proto, rounds_pb2.Close):
                    proto.inline_sum = self.blobs[proto.sum_blob]
                self.mail += [(name, proto) for name in instruction.members]
            case events.Unmask():
                self._unmask(instruction)
            case events.RoundClosed():
                self.closed.append(instruction)
            case events.JobDone():
                self.done = instruction
            case events.JobStuck():
                self.stuck = instruction
            case events.Misconduct():
                self.misconduct.append(instruction)

    def _encoding(self) -> Encoding:
        return codes.encoding_of(self.terms, len(self.collector.seats), max(s.weight for s in self.collector.seats))

    def audit(self, context: bytes, leaf: int) -> list[rounds_pb2.AuditPart]:
        """Raises NotFound when the round is over."""
        parts = []
        for member, unmasked in self.collector.unmasked(context):
            update, code = self.updates[context][member], self._encoding()
            places = [
                Place.of(each, len(update), self.terms, code)
                for each in range(leaves_of(len(update), self.terms, code))
            ]
            part = wire.unmasked_to_proto(unmasked)
            part.data = update[places[leaf].start : places[leaf].end]
            part.path.extend(path_of([leaf_hash(update[place.start : place.end]) for place in places], leaf))
            parts.append(part)
        if not parts:
            raise NotFound("The round is over.")
        return parts

    def _unmask(self, unmask: events.Unmask) -> None:
        seats, held = self.collector.seats, self.updates[unmask.plan.context]
        updates = [held[seats[index - 1].member] for index in unmask.cohort]
        data = added(updates, self.terms, self._encoding(), unmask.plan)
        assert len(data) == codes.update_size(self.terms, self._encoding(), 0 if unmask.header_only else SIZE)
        blob = hashlib.sha256(data).digest()
        self.blobs[blob] = data
        self.tell(events.SumReady(unmask.plan.context, blob, len(data)))

    # -------------------------------------------------------------------------------------------------------------- running

    async def run(self, until: Callable[[Hall], bool] = lambda hall: False) -> Hall:
        """Carries mail until the job is over or ``until``; a lab whose process was killed is started again."""
        if self.collector.phase == "new":
            for office in self.offices.values():
                office.start()
            self.tell(events.Begin(tuple((name, f"{name}-1") for name in PEOPLE)))
        while self.done is None and self.stuck is None and not until(self):
            for office in self.offices.values():
                if office.dead:
                    await office.restart()
            if self.mail:
                name, proto = self.mail.pop(0)
                carried = self.carry(name, proto)
                if carried is not None and self.offices[name].alive:
                    self.offices[name].driver.hear(type(carried).FromString(carried.SerializeToString()))
                await asyncio.sleep(0)
            elif any(office.alive and office.busy for office in self.offices.values()):
                await asyncio.sleep(0.001)
            else:
                assert self.collector.deadline is not None, self.collector.story
                self.now = max(self.now, self.collector.deadline)
                self.tell(events.Tick())
        return self

    async def settle(self) -> None:
        """Until no lab has anything left to do."""
        while any(office.alive and office.busy for office in self.offices.values()):
            await asyncio.sleep(0.001)

    async def end(self) -> None:
        for office in self.offices.values():
            if office.alive:
                await office.end()

    def play(self, *scenes: Callable[[Hall], Any]) -> Hall:
        """Everybody consents; then the scenes, each of which may wait; at last every process ends."""

        async def all_scenes() -> None:
            try:
                for scene in scenes or (Hall.run,):
                    await scene(self)
            finally:
                await self.end()

        for office in self.offices.values():
            if not office.journal_path.exists():
                office.agree()
        asyncio.run(all_scenes())
        return self

    # --------------------------------------------------------------------------------------------------------------- judging

    def finished(self) -> Hall:
        """The job came to its end, nobody broke the protocol, and nobody said two things where one may be said."""
        assert self.done is not None, (self.stuck, self.collector.story)
        assert self.misconduct == []
        said: dict[Any, Any] = {}
        formations: dict[str, tuple[int, int]] = {}
        for name, message in self.heard:
            place = [type(message).__name__, name]
            if isinstance(message, KeyMessage):
                formations[name] = (message.epoch, message.formation)
            elif isinstance(message, Encapsulation):  # names no formation: it is of the one whose key was said last
                place.append(formations[name])
            for part in ("epoch", "formation", "round", "attempt", "roster_hash", "context"):
                if hasattr(message, part) and not (part == "context" and place[0] == "Receipt"):
                    place.append(getattr(message, part))
            assert said.setdefault(tuple(place), message) == message, f"{place} was said twice, differently"
        return self

    def states(self, round_number: int) -> dict[str, bytes]:
        """The state of that round at each lab that has it."""
        found = {}
        for name, office in self.offices.items():
            try:
                found[name] = read_state(office.files.state(round_number)).digest()
            except VerificationFailed:
                continue
        return found
