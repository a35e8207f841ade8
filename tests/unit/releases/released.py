"""A real release, made in memory: real documents, real machines, real states; three members, two rounds and a final evaluation."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation.audit.checkpoint import Checkpoint, cosign, log_key, origin_of, sign_head, witness_key
from federation.audit.entry import entry_of
from federation.audit.excerpt import Excerpt
from federation.audit.tree import Frontier, leaf_hash
from federation.governance.ballot import decision_bytes
from federation.governance.charter import Action, Charter, Quorum
from federation.governance.proposal import Proposal, Vote, read_proposal, seal_proposal, seal_vote
from federation.identity.consent import Consent, seal_consent
from federation.identity.credential import NodeCredential, node_request, sign_credential, verify_credential
from federation.identity.envelope import seal
from federation.identity.keys import SigningKey
from federation.identity.revocation import Revocation, consent_digest, seal_revocation
from federation.identity.roll import Roll, RollLead, RollMember, draft_roll
from federation.manifest.bundle import app_info, pack
from federation.manifest.manifest import Manifest, open_manifest, seal_manifest
from federation.releases.approval import subject_of
from federation.releases.build import RoundRecord, build_release
from federation.releases.listing import LISTING, STATEMENT, Content, seal_listing
from federation.releases.statement import seal_statement, statement_of
from federation.sealing import release_purpose, salt_of, wrap
from federation.sealing import seal as seal_file
from federation.secagg import codec
from federation.secagg.events import (
    ComputeInitialState,
    Roster,
    RosterCertificate,
    RosterFormed,
    StateCertified,
    StateReady,
    SumApplied,
    Tell,
)
from federation.secagg.figures import public_words
from federation.secagg.member import Me, MemberMachine
from federation.secagg.messages import Announcement, Certificate, Receipt, Sealing
from federation.secagg.parameters import Quorums
from federation.weights.layout import Layout
from federation.weights.outer_step import initial_state
from federation.weights.state import ModelState, write_state
from tests.simulation.harness import World, random_of
from tests.unit.identity.parties import APP, CREATED, NOW, submitted
from tests.whole import mean_of, outer_step

JOB = """apiVersion: concord/v1
kind: TrainingJob
metadata: {name: digits, description: "Reads *digits* <b>well</b>"}
spec:
  app: ./tiny
  dataSet: digits
  rounds: 2
  metrics: {train: [loss], evaluate: [accuracy]}
  coordinatorView: sum
"""
BLIND = JOB.replace("coordinatorView: sum", "coordinatorView: blind")
ARRAYS = {
    "weight": np.arange(18, dtype=np.float32).reshape(3, 6),
    "bias": np.zeros(2, dtype=np.float32),
    "seen": np.array([7], dtype=np.int64),
}
RELEASE_KEY = SigningKey.generate()
LOG_KEY = SigningKey.generate()
LOGGED = 1_770_000_000
"""when the log's entries were written, in seconds since 1970"""


def identity(name: str) -> SigningKey:
    """The key that the simulation's Signer of this name holds."""
    return SigningKey(Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest()))


@dataclass(frozen=True)
class Founded:
    officers: Mapping[str, SigningKey]
    lead: SigningKey
    roll: Roll
    credentials: Mapping[str, NodeCredential]

    def manifest(self, text: str = JOB, nonce: bytes = bytes(16)) -> Manifest:
        envelope = seal_manifest(
            submitted(text),
            pack(APP),
            app_info(APP),
            self.roll.federation,
            "lead",
            self.lead,
            CREATED,
            nonce,
        )
        return open_manifest(envelope, self.roll)


VOTED = replace(Charter.standard(), quorums={**Charter.standard().quorums, "release": Quorum(2, 3)})
"""a charter that asks for votes on releases"""


def founded(federation: str = "health", members: int = 3, charter: Charter | None = None) -> Founded:
    return _founded(federation, members, charter)


@cache
def _founded(federation: str, members: int, charter: Charter | None) -> Founded:
    names = [f"m{place}" for place in range(1, members + 1)]
    officers = {name: SigningKey.generate() for name in names}
    lead = SigningKey.generate()
    entries = [
        RollMember(name, f"Laboratory | of {name}", code, officers[name].public)
        for name, code in zip(names, ("FR", "DE", "KE", "NO", "US"), strict=False)
    ]
    document = draft_roll(federation, 1, entries, [RollLead("lead", "m1", "A lead", lead.public)], charter)
    roll = Roll.open(seal(document, "roll", tuple(officers.values())))
    credentials = {}
    for name in names:
        request = node_request(federation, name, "node", identity(name))
        envelope = sign_credential(request, federation, officers[name], name, NOW, NOW + timedelta(days=365))
        credentials[name] = verify_credential(envelope, roll, None)
    return Founded(officers, lead, roll, credentials)


class Training(World):
    """The simulation's federation, with documents in place of cards and a model in place of a hash."""

    def __init__(self, parties: Founded, manifest: Manifest) -> None:
        self.parties = parties
        self.job = manifest
        self.states = {name: initial_state(ARRAYS, manifest.terms()) for name in parties.credentials}
        self.announced: dict[int, Announcement] = {}
        self.rosters: list[tuple[Roster, RosterCertificate]] = []
        self.certified: dict[int, StateCertified] = {}
        terms = manifest.terms()
        values = {field.name: getattr(terms, field.name) for field in fields(terms)}
        super().__init__(len(parties.credentials), size=Layout.of(ARRAYS).size, **values)

    def verify_credential(self, data: bytes) -> Any:
        return verify_credential(data, self.parties.roll, None)

    def _machine(self, name: str, signer: Any, weight: int, life: int) -> MemberMachine:
        me = Me(name, "node", self.parties.credentials[name].envelope, weight)
        return MemberMachine(self.terms, me, signer, self.verify_credential, random_of(f"{name}/{life}"))

    def perform(self, instructions: Any) -> None:
        for instruction in instructions:
            if isinstance(instruction, StateCertified):
                self.certified[instruction.round] = instruction
            if isinstance(instruction, RosterFormed):
                self.rosters.append((instruction.roster, instruction.certificate))
            if isinstance(instruction, Tell) and isinstance(instruction.message, Announcement):
                self.announced[instruction.message.round] = instruction.message
        super().perform(instructions)

    def _member_does(self, lab: Any, instruction: Any) -> None:
        if isinstance(instruction, ComputeInitialState):
            ready = StateReady(1, self.states[lab.name].digest())
            self.tasks.append((lab.name, lab.lives, partial(self.deliver, lab.name, ready)))
            return
        super()._member_does(lab, instruction)

    def _apply(self, lab: Any, fetch: Any) -> None:
        state = self.states[lab.name]
        total = self.opened(fetch)
        if total.parameters:
            state = outer_step(self.job.strategy, state, mean_of(total, state.scales), state.scales)
            self.states[lab.name] = state
        figures = public_words(total.header, self.terms)
        self.deliver(lab.name, SumApplied(fetch.close.context, state.digest(), figures))

    def figures_of(self, index: int) -> dict[str, float]:
        own = {"evaluate/accuracy": 0.25 + 0.125 * index, "evaluate/hits/0": 0.25, "evaluate/hits/1": 0.5}
        own |= {"evaluate/seen/0": 0.5, "evaluate/seen/1": 0.5, "evaluate/exposure": 1.5}
        own |= {"evaluate/in/0": 0.5, "evaluate/in/1": 0.5, "evaluate/out/0": 0.25, "evaluate/out/1": 0.75}
        return {**super().figures_of(index), **own}

    def consent(self, name: str, **changes: Any) -> bytes:
        values: dict[str, Any] = {
            "job": self.job.digest, "member": name, "node": "node", "granted": True, "reasons": ("by rule",),
            "data_set": "digits", "weight": self.labs[name].weight, "figures": self.job.figures, "lacks": (),
            "issued": NOW, "expires": NOW + timedelta(days=1),
        }  # fmt: skip
        return seal_consent(Consent(**{**values, **changes}), identity(name))

    def records(self) -> list[RoundRecord]:
        names = {seat.index: seat.member for seat in self.collector.seats}
        return [
            RoundRecord(
                closed.round,
                closed.attempt,
                self.announced[closed.round],
                closed.certificate,
                self.certified[closed.round].receipts,
                tuple(names[index] for index in closed.certificate.survivors.cohort),
            )
            for closed in self.closed
        ]

    @property
    def final(self) -> ModelState:
        return self.states[self.names[0]]

    def inputs(self, folder: Path) -> dict[str, Any]:
        """What the coordinator gives to build_release."""
        path = folder / "final.safetensors"
        write_state(path, self.final)
        sealings: tuple[Sealing, ...] = ()
        if self.job.recipients:
            path, sealings = self.sealed(path)
        return {
            "roll": self.parties.roll.envelope,
            "manifest": self.job.envelope,
            "bundle": pack(APP).data,
            "consents": {name: self.consent(name) for name in self.names},
            "rosters": self.rosters,
            "rounds": self.records(),
            "state_file": path,
            "sealings": sealings,
            "release_key": RELEASE_KEY,
            "created": CREATED,
        }

    @property
    def subject(self) -> bytes:
        """Of the release of this job: what members vote on."""
        receipt = self.certified[self.terms.last_round].receipts[0]
        return subject_of(self.terms.federation, self.job.digest, self.final.digest(), receipt.figures)

    def decided(
        self, *yes: str, action: Action = "release", subject: bytes | None = None, by: Founded | None = None
    ) -> bytes:
        """A proposal of the first, and the votes of all who said yes. ``by``: the officers of another federation, or roll."""
        parties = by or self.parties
        proposal = seal_proposal(
            Proposal(
                self.terms.federation, action, subject or self.subject, parties.roll.digest, f"{action} of digits", NOW,
                NOW + timedelta(days=7), bytes(16),
            ),
            parties.officers[yes[0] if yes else "m1"],
        )  # fmt: skip
        about = read_proposal(proposal).digest
        votes = [
            seal_vote(Vote(about, "yes", "", NOW + timedelta(hours=place)), parties.officers[name])
            for place, name in enumerate(yes)
        ]
        return decision_bytes(proposal, votes)

    def sealed(self, path: Path) -> tuple[Path, tuple[Sealing, ...]]:
        """As f + 1 nodes seal their final state, and what they say of it."""
        out, digest = path.with_suffix(".sealed"), self.final.digest()
        said = []
        for name in self.names[: self.quorums.f + 1]:
            machine = self.labs[name].machine
            key = machine.release_key(digest)
            data = path.read_bytes()
            out.write_bytes(b"".join(seal_file(key, salt_of(key, hashlib.sha256(data).digest()), [data])))
            wrapped = wrap(key, self.job.recipients, release_purpose(self.job.digest, digest))
            said.append(machine.sealing(digest, hashlib.sha256(out.read_bytes()).digest(), wrapped))
        return out, tuple(said)

    @property
    def quorums(self) -> Quorums:
        return Quorums.of(len(self.names))

    def release(self, folder: Path, **changes: Any) -> dict[str, Content]:
        values = {**self.inputs(folder), **changes}
        if "log" not in values:
            values["log"] = self.excerpt(self.entries(values)).encode()
        return build_release(**values)

    def entries(self, values: Mapping[str, Any]) -> list[bytes]:
        """What a coordinator would have written to the log of a job with these documents, after what was there before."""
        job, said = self.job.digest.hex(), []

        def note(kind: str, subject: str, document: bytes | None) -> None:
            digest = None if document is None else hashlib.sha256(document).digest()
            said.append(entry_of(kind, subject, digest, LOGGED + len(said)).encode())

        for place in range(5):
            note("enrolment", f"node m{place} node", b"%d" % place)
        note("submission", job, self.job.envelope)
        note("submission", "cd" * 32, b"another job")
        for name, envelope in values["consents"].items():
            note("consent", f"{job} {name} node granted", envelope)
        note("job-state", f"{job} running", None)
        for epoch, (_roster, certificate) in enumerate(values["rosters"], start=1):
            note("roster", f"{job} {epoch}", codec.encode(certificate, RosterCertificate))
        for each in values["rounds"]:
            closed = codec.encode(each.certificate, Certificate)
            note("round-closed", f"{job} {each.round} {each.attempt} closed", closed)
            note("certificate", f"{job} {each.round}", codec.encode(each.receipts, tuple[Receipt, ...]))
        for name, envelope in (values.get("revocations") or {}).items():
            note("revocation", f"{job} {name} node", envelope)
        if (decision := values.get("decision")) is not None:
            note("release", f"job={job} release={self.subject.hex()} state=approved", decision)
        note("submission", "ef" * 32, b"a third job")
        return said

    def excerpt(
        self,
        entries: Sequence[bytes],
        *,
        witnesses: Sequence[str] | None = None,
        key: SigningKey = LOG_KEY,
        federation: str = "",
        first: int = 5,
    ) -> Excerpt:
        """``witnesses``: members whose nodes have cosigned; None: all."""
        name = federation or self.terms.federation
        tree = Frontier()
        for number, entry in enumerate(entries):
            if number == first:
                before = tree
            tree = tree.append(leaf_hash(entry))
        checkpoint = Checkpoint(origin_of(name), tree.size, tree.root())
        lines = [
            cosign(checkpoint, witness_key(name, member, "node", b"").name, identity(member), LOGGED + 500)
            for member in (self.names if witnesses is None else witnesses)
        ]
        note = sign_head(checkpoint, key, LOGGED + 400) + b"".join(lines)
        return Excerpt(log_key(name, key.public), first, before.peaks, tuple(entries[first:]), note)

    def revocation(self, name: str, consent: bytes, **changes: Any) -> bytes:
        said = Revocation(self.job.digest, consent_digest(consent), name, "node", "person", "officer", NOW)
        return seal_revocation(replace(said, **changes), identity(name))


def trained(
    federation: str = "health", nonce: int = 0, members: int = 3, text: str = JOB, charter: Charter | None = None
) -> Training:
    """One for each choice, made once."""
    return _trained(federation, nonce, members, text, charter)


@cache
def _trained(federation: str, nonce: int, members: int, text: str, charter: Charter | None) -> Training:
    parties = founded(federation, members, charter)
    world = Training(parties, parties.manifest(text, bytes([nonce]) * 16))
    world.begin().run()
    assert world.done is not None, world.stuck
    return world


def whole(files: Mapping[str, Content]) -> dict[str, bytes]:
    """The same release with every file in memory."""
    return {path: content.read_bytes() if isinstance(content, Path) else content for path, content in files.items()}


Files = dict[str, bytes]


def relisted(files: Files) -> Files:
    """A list of these very files, signed by a key of one's own: anybody can make it."""
    key = SigningKey.generate()
    rest = restated({path: data for path, data in files.items() if path != LISTING}, key)
    return rest | {LISTING: seal_listing(rest, CREATED, key)}


def restated(files: Files, key: SigningKey) -> Files:
    """And the statement about them, which anybody can make as well."""
    if STATEMENT not in files:
        return files
    rest = {path: data for path, data in files.items() if path != STATEMENT}
    try:
        said = json.loads(base64.b64decode(json.loads(files[STATEMENT])["payload"]))
    except (ValueError, KeyError, TypeError):  # it is what was spoilt
        return files
    digests = {path: hashlib.sha256(data).digest() for path, data in rest.items()}
    return rest | {STATEMENT: seal_statement(statement_of(digests, said["predicate"]), key)}
