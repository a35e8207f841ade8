"""A federation around one JobDriver: real member machines, a real store; the network is a list, the clock the test's."""

import asyncio
import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from coordinator.rounds.driver import Desk, JobDriver
from coordinator.store.blobs import Blobs
from coordinator.store.database import Database
from coordinator.store.spool import Spool
from federation.identity.credential import node_request, sign_credential, verify_credential
from federation.identity.envelope import seal
from federation.identity.keys import SigningKey
from federation.identity.roll import Roll, RollLead, RollMember, draft_roll
from federation.manifest.bundle import app_info, pack
from federation.manifest.manifest import open_manifest, seal_manifest
from federation.secagg import encoding as codes
from federation.secagg import events, wire
from federation.secagg.audit import Place, Shown, check_audit, leaves_of
from federation.secagg.figures import public_words
from federation.secagg.header import Header
from federation.secagg.member import Me, MemberMachine
from federation.secagg.merkle import MerkleRoot
from federation.secagg.messages import Upload
from federation.v1 import rounds_pb2
from federation.weights.state import ModelState, read_state, write_state
from tests.unit.identity.parties import submitted
from tests.whole import encode, mean_of, read_sum

SIZE = 10
START = 1_800_000_000.0
JOB = """
apiVersion: concord/v1
kind: TrainingJob
metadata: {{name: tiny}}
spec:
  app: app
  dataSet: nothing
  coordinatorView: sum
  rounds: {rounds}
  model: {{factory: "tiny.task:initial_arrays"}}
"""
PROJECT = b'[project]\nname = "tiny"\n[tool.flwr.app.components]\nclientapp = "tiny.client_app:app"\n'


class Killed(BaseException):
    """kill -9, at a place that the test chose."""


@dataclass
class Lab:
    name: str
    machine: MemberMachine
    journal: dict = field(default_factory=dict)
    states: dict = field(default_factory=dict)
    connected: bool = True


class World:
    def __init__(self, folder, n=3, rounds=2):
        self.folder = folder
        folder.mkdir(exist_ok=True)
        officers = {f"m{place}": SigningKey.generate() for place in range(1, n + 1)}
        lead = SigningKey.generate()
        draft = draft_roll(
            "health",
            1,
            [RollMember(name, name, "FR", key.public) for name, key in officers.items()],
            [RollLead("ada", "m1", "Ada", lead.public)],
        )
        self.roll = Roll.open(seal(draft, "roll", list(officers.values())))
        files = {"pyproject.toml": PROJECT}
        document = submitted(JOB.format(rounds=rounds))
        envelope = seal_manifest(
            document, pack(files), app_info(files), "health", "ada", lead, "2027-01-15T08:00:00Z", b"n" * 16
        )
        self.manifest = open_manifest(envelope, self.roll)
        self.terms = self.manifest.terms()
        self.labs = {}
        now = datetime.fromtimestamp(START, UTC)
        for name, officer in officers.items():
            key = SigningKey.generate()
            request = node_request("health", name, f"{name}-1", key)
            credential = sign_credential(request, "health", officer, name, now, now + timedelta(days=1))
            machine = MemberMachine(
                self.terms,
                Me(name, f"{name}-1", credential, 1, None),
                key.sign,
                lambda data: verify_credential(data, self.roll, now),
            )
            self.labs[name] = Lab(name, machine)
        self.now = START
        self.mail = []
        self.audits = 0
        self.posts = 0
        self.kill_at = None
        self.final = None
        self.reason = None
        self.outcomes = []
        self.gives = {}
        """member -> the state that it puts in the place of any other"""
        self.asked = []
        """who was asked for a state, in order"""
        self.database = None
        self.dead = False

    # ------------------------------------------------------------------------------------------- the coordinator's side

    def start(self):
        """A coordinator on the same folder; the one before was killed."""
        if self.database is not None:
            self.database.close()
        self.dead = False
        self.mail.clear()
        self.database = Database(self.folder / "coordinator.db")
        with self.database.transaction() as change:
            fresh = not change.jobs()
            if fresh:
                change.add_job(self.manifest.digest.hex(), "tiny", self.manifest.envelope, self.now)
        self.desk = Desk(
            self.database,
            Blobs(self.folder / "blobs"),
            Spool(self.folder / "spool", 1 << 30),
            self._post,
            lambda: self.now,
            self,
        )
        placement = [(name, f"{name}-1") for name in self.labs]
        self.driver = JobDriver(self.desk, self.manifest, self.roll, placement)
        self.driver.start()
        for name, lab in self.labs.items():
            if lab.connected:
                self.connect(name)
        if self.driver.machine.phase == "new":
            self.driver.say(events.Begin(tuple(placement)))
        if self.driver.done:
            self.driver.want_release()

    def connect(self, name):
        lab = self.labs[name]
        lab.connected = True
        place = lab.machine.position
        self.driver.say(events.Connected(name, place.round, place.state_digest))

    def _post(self, member, node, data):
        self.posts += 1
        if self.dead or self.posts == self.kill_at:
            self.dead = True
            raise Killed
        if self.labs[member].connected:
            self.mail.append((member, data))
        return self.labs[member].connected

    def changed(self, job):
        pass

    def closed(self, job, outcome, cohort, phases, received):
        self.outcomes.append(outcome)

    def rounds_over(self, job):
        self.driver.want_release()

    def final_state(self, job, blob, sealings):
        self.final = blob

    def misconduct(self, job, member, check):
        pass

    def stuck(self, job, reason):
        if not self.dead:
            self.reason = reason

    # --------------------------------------------------------------------------------------------------- the labs' side

    def deliver(self, name, data):
        instruction = rounds_pb2.Instruction.FromString(data)
        kind = instruction.WhichOneof("instruction")
        message = getattr(instruction, kind)
        if kind == "provide_release":
            self._provide(self.labs[name], message.state_digest)
            return
        if kind == "close":
            self.labs[name].inline = message.inline_sum
        self._feed(self.labs[name], wire.from_proto(message))

    def _provide(self, lab, digest):
        blob = self.put(lab, self.gives.get(lab.name, lab.states[digest]))
        self.driver.state_stored(lab.name, rounds_pb2.StateStored(epoch=1, state_digest=digest, blob=blob))

    def put(self, lab, state):
        path = self.folder / f"{lab.name}.state"
        write_state(path, state)
        return self.desk.blobs.put(path.read_bytes())

    def _fetch(self, lab, wanted):
        state = read_state(self.desk.blobs.path(wanted.state_blob))
        assert state.digest() == wanted.state_digest
        self._hold(lab, state)

    def _feed(self, lab, event):
        for instruction in lab.machine.handle(event, self.now):
            if isinstance(instruction, events.Remember):
                lab.journal[instruction.key] = instruction.value
            elif isinstance(instruction, events.Send):
                self._send(lab, instruction.message)
            elif isinstance(instruction, events.ComputeInitialState):
                self._hold(lab, ModelState(1, {"w": np.zeros(SIZE, np.float32)}, {}, np.zeros(1, np.int8)))
            elif isinstance(instruction, events.Contribute):
                self._contribute(lab, instruction)
            elif isinstance(instruction, events.PutState):
                self.asked.append(lab.name)
                self._provide(lab, instruction.state_digest)
            elif isinstance(instruction, events.FetchState):
                self._fetch(lab, instruction)
            elif isinstance(instruction, events.FetchSum):
                self._apply(lab, instruction)
            elif isinstance(instruction, events.Refuse):
                lost = instruction.violation.check == "contribution-lost"
                said = events.TaskBroke(lab.name, instruction.violation.check)
                self.driver.say(events.ContributionLost(lab.name) if lost else said)

    def _hold(self, lab, state):
        lab.states[state.digest()] = state
        self._feed(lab, events.StateReady(state.round, state.digest()))

    def _send(self, lab, message):
        if not lab.connected:
            return
        if isinstance(message, Upload):
            self.driver.upload(lab.name, self.upload_of(lab, message))
        else:
            self.driver.say(events.From(lab.name, message))

    def upload_of(self, lab, message):
        proto = wire.to_proto(message)
        proto.inline_update = lab.update
        return proto

    def _contribute(self, lab, work):
        code = codes.encoding_of(self.terms, work.members, work.weight_unit)
        header = Header.of(self.terms, work.weight, 1.0, {"train/loss": 0.5})
        difference = None if work.header_only else np.full(SIZE, 0.01, np.float32)
        tree = MerkleRoot()
        lab.update = b""
        for chunk in encode(difference, header, work.plan, code, np.full(1, -12, np.int8)):
            tree.add(chunk)
            lab.update += chunk
        self._feed(lab, events.Encoded(work.plan.context, tree.root()))

    def _apply(self, lab, fetch):
        data = lab.inline
        assert hashlib.sha256(data).digest() == fetch.close.sum_blob
        code = codes.encoding_of(self.terms, fetch.members, fetch.weight_unit)
        header_only = self.terms.header_only(fetch.close.round)
        if self.driver.machine.unmasked(fetch.close.context):
            self._audit(lab, fetch, data, code)
        read = read_sum(data, self.terms, code, len(fetch.cohort), fetch.total_weight, 0 if header_only else SIZE)
        state = lab.states[lab.machine.position.state_digest]
        if not header_only:
            step = mean_of(read, np.full(1, -12, np.int8)).astype(np.float32)
            state = ModelState(fetch.close.round + 1, {"w": state.arrays["w"] + step}, {}, state.scales)
            lab.states[state.digest()] = state
        self._feed(lab, events.SumApplied(fetch.close.context, state.digest(), public_words(read.header, self.terms)))

    def _audit(self, lab, fetch, data, code):
        """Every place of the sum, as the coordinator shows it."""
        for leaf in range(leaves_of(len(data), self.terms, code)):
            place = Place.of(leaf, len(data), self.terms, code)
            parts = list(self.driver.audit(fetch.close.context, leaf))
            shown = [Shown(wire.unmasked_from_proto(part), part.data, tuple(part.path)) for part in parts]
            check_audit(lab.machine.bench, fetch, self.terms, code, place, shown, data)
            self.audits += 1

    # ---------------------------------------------------------------------------------------------------------- running

    async def run(self, until=lambda world: False):
        """Carries mail until the job is over, or ``until``, or the coordinator is killed (then True)."""
        quiet = 0
        while self.final is None and self.reason is None and not self.dead and not until(self):
            if self.mail:
                self.deliver(*self.mail.pop(0))
                quiet = 0
            await asyncio.sleep(0 if quiet < 50 else 0.005)
            quiet += 1
            assert quiet < 400, f"nothing moves: {self.driver.machine.story}"
        return self.dead

    async def kill(self):
        """No word is said to anybody; what was not committed is lost."""
        self.dead, self.kill_at = True, None
        tasks = list(self.driver._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _ in range(3):
            await asyncio.sleep(0)
