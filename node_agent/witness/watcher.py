"""The witness at work: it polls the log, checks that it continues, keeps the head, cosigns it, and stops the node when it must.

A head is on disk before it is signed. What was shown and does not check stops the node: no honest log shows
it. What is not shown does not; the node then says that it sees nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Protocol, TypeVar

import structlog

from federation.audit.checkpoint import (
    Head,
    Note,
    NoteSignature,
    Signer,
    VerifierKey,
    cosign,
    cosigned_by,
    open_head,
    witness_key,
)
from federation.audit.entry import open_entry
from federation.audit.history import Evidence, follow
from federation.audit.named_key import log_key_of, log_keys_of
from federation.audit.tree import leaf_hash, verify_inclusion
from federation.errors import FederationError, Halted, InvalidIdentity, Unavailable, VerificationFailed
from federation.identity.credential import verify_credential
from federation.identity.roll import Roll
from federation.v1 import audit_pb2, rounds_pb2
from node_agent.link.audit import HeadAnswer, ProofAnswer, Shown
from node_agent.witness.notebook import EXPECTED_KEPT, Expected, Notebook, Stop

log = structlog.get_logger()
T = TypeVar("T")

LATE_SECONDS: Final = 120.0
"""how long a statement of this node may be missing from a log that is read before the node says so"""
LOOKED_FOR: Final = 64
"""statements that are looked for at one look"""
CONSENT: Final = "consent"
BLIND_SECONDS: Final = 600.0
"""how long the log may be out of reach before the node says so"""
HINT: Final = "Look at it with `concord-node witness show`; go on with `concord-node witness reset --yes`."
UNNAMED: Final = "The members' charter names no key for the public log: this node believes the first that it was shown."
NAME_IT: Final = "The members name it by vote: `concord propose coordinator --log-key log.key.pub`."
FUTURE_SECONDS: Final = 3600
"""how far ahead of this machine's clock a head's time may be: a rollback is convicted by a later time"""


class Calls(Protocol):
    async def head(self, size: int) -> HeadAnswer: ...

    async def prove(self, document: bytes, size: int) -> ProofAnswer | None: ...

    async def witnesses(self) -> tuple[bytes, ...]: ...


@dataclass(frozen=True, slots=True)
class Me:
    federation: str
    member: str
    node: str
    key: Signer


class Witness:
    """``on_stop`` is called once, after the evidence is on disk. ``clock`` gives seconds since 1970."""

    def __init__(
        self,
        notebook: Notebook,
        me: Me,
        roll: Callable[[], Roll],
        calls: Calls,
        send: Callable[[rounds_pb2.NodeEvent], None],
        on_stop: Callable[[str], None],
        clock: Callable[[], float],
        every: float,
        count: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self.notebook = notebook
        self._me, self._roll, self._calls, self._send, self._on_stop = me, roll, calls, send, on_stop
        self._clock, self._every, self._count = clock, every, count
        self._own = witness_key(me.federation, me.member, me.node, me.key.public)
        self._others: dict[str, VerifierKey] = {}
        self._fresh: dict[str, Expected] = {}
        """what is awaited, and not yet written down"""
        self._wake = asyncio.Event()
        self._blind_since = clock()
        self._said_blind = False

    @property
    def stopped(self) -> str:
        """Why this node takes no part until its lab has looked; empty while all is well."""
        stop = self.notebook.state.stop
        return "" if stop is None else stop.sentence

    def check(self) -> None:
        """Raises Halted when the witness has stopped this node."""
        if self.stopped:
            raise Halted(f"This node's witness of the public log has stopped it: {self.stopped}", hint=HINT)

    def hint(self) -> None:
        """There is a new head, says the coordinator: worth a poll, and nothing else."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled, or the node is stopped."""
        while not self.stopped:
            self._wake.clear()
            try:
                await self.poll()
            except Unavailable as error:
                self._say_blind(error)
            except (VerificationFailed, InvalidIdentity) as error:
                self._stop(
                    Stop(self._clock(), "unverifiable", f"The log could not be verified: {error.message}", ""), b""
                )
                return
            if not self.stopped:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), self._every)

    async def poll(self) -> None:
        """One look at the log. Raises Unavailable, or VerificationFailed for what no honest log shows."""
        held = self.notebook.head
        answer = await _reached(self._calls.head(0 if held is None else held.size))
        key = self._believed(answer.key)
        shown = self._signed(answer.head.note, key)
        if shown.time > self._clock() + FUTURE_SECONDS:
            raise Unavailable(
                f"The head of the log is dated {shown.time - self._clock():.0f} s ahead of this machine's clock.",
                hint="Is this machine's clock right? If so, tell the operator and the other members.",
            )
        evidence = follow(key, held, shown, answer.head.path, self.notebook.key)
        if evidence is None:
            evidence = await self._compare(key, shown, answer.seen)
        if evidence is not None:
            self._convict(evidence)
            return
        now = self._clock()
        if held is None or (held.size, held.root) != (shown.size, shown.root) or key != self.notebook.key:
            await asyncio.to_thread(self.notebook.keep_head, shown, key)
        self.notebook.touch()
        line = cosign(shown.checkpoint, self._own.name, self._me.key, int(now))
        self._send(rounds_pb2.NodeEvent(log_cosignature=audit_pb2.LogCosignature(size=shown.size, line=line)))
        self._blind_since, self._said_blind = now, False
        try:
            await self._look_for_own(shown)
        except VerificationFailed:
            if (evidence := await self._second_look(key, shown)) is None:
                raise
            self._convict(evidence)

    async def _second_look(self, key: VerifierKey, held: Head) -> Evidence | None:
        """The log proved something else than it had just shown. If it has another head by now, that convicts it."""
        answer = await _reached(self._calls.head(held.size))
        return follow(key, held, self._signed(answer.head.note, key), answer.head.path)

    def _believed(self, named: str) -> VerifierKey:
        """The key that every head must be signed with: the charter's. Where it names none, what the coordinator named first."""
        if (charter := log_key_of(self._roll())) is not None:
            return charter
        if self.notebook.key is not None:
            return self.notebook.key
        key = self.notebook.pin(self._roll(), named)
        log.warning("witness.key-pinned", key=str(key), detail=UNNAMED, hint=NAME_IT)
        return key

    def _signed(self, note: bytes, key: VerifierKey) -> Head:
        """Raises Unavailable for a head under the key from before the members named another: it is not believed, and may be an
        operator who is late. VerificationFailed for any other that is not signed with ``key``."""
        try:
            return open_head(note, key)
        except VerificationFailed as error:
            roll = self._roll()
            earlier = {*log_keys_of(roll), self.notebook.key} - {key, None}
            if any(_opens(note, each) for each in earlier if each is not None):
                raise Unavailable(
                    f"The coordinator signs the public log with the key from before: the members' charter names {key} since "
                    f"version {roll.version} of the roll at the latest. Nothing under the old one is believed.",
                    hint="Its operator puts the new key in place, or stops the old coordinator.",
                ) from error
            if log_key_of(roll) is None:
                raise
            raise VerificationFailed(
                f"{error.message} The members' charter names that key, and no other is believed.",
                hint="The coordinator shows another log: keep this node stopped, and tell the members by another way.",
            ) from error

    # ------------------------------------------------------------------------------------------------------ other nodes

    async def _compare(self, key: VerifierKey, shown: Head, seen: Iterable[Shown]) -> Evidence | None:
        """Holds what was shown to this node against what other nodes have cosigned."""
        newest = dict(self.notebook.state.seen)
        for each in seen:
            other = open_head(each.note, key)
            small, large = sorted((other, shown), key=lambda head: head.size)
            if (evidence := follow(key, small, large, each.path)) is not None:
                return Evidence(key, shown, other, evidence.path)
            names = {signature.name for signature in _signatures(each.note)} - {self._own.name, key.name}
            if names - set(self._others):
                await self._learn()
            known = [self._others[name] for name in names if name in self._others]
            for name, when in cosigned_by(each.note, known).items():
                newest[name] = max(newest.get(name, (0, 0)), (other.size, when))
        if newest != self.notebook.state.seen:
            self.notebook.keep(replace(self.notebook.state, seen=newest))
        return None

    async def _learn(self) -> None:
        """Whose cosignatures there may be: nodes that an officer on the roll vouches for."""
        roll = self._roll()
        for envelope in await _reached(self._calls.witnesses()):
            try:
                node = verify_credential(envelope, roll, None)
            except FederationError:
                continue  # of no member any more
            key = witness_key(self._me.federation, node.member, node.node, node.identity_key)
            self._others[key.name] = key

    # ---------------------------------------------------------------------------------------------------- own statements

    def expect(self, envelope: bytes, what: str, job: bytes = b"") -> None:
        """This node has said ``envelope``, which the log must hold before long. On disk when this returns."""
        self.expect_document(hashlib.sha256(envelope).digest(), what, job)
        self._write_down()

    def expect_document(self, document: bytes, what: str, job: bytes = b"") -> None:
        """The log must hold an entry about ``document`` before long. Written down at the next look: of what a node says in each
        round a crash may forget the last half minute."""
        name = document.hex()
        known = {each.document for each in self.notebook.state.expected} | set(self._fresh)
        if name not in known and len(known) < EXPECTED_KEPT:
            self._fresh[name] = Expected(name, what, job.hex(), self._clock())

    def forget(self, document: bytes) -> None:
        """It was refused, or another took its place: no entry is owed."""
        self._write_down()
        self._drop(lambda each: each.document == document.hex())

    def settle(self, job: bytes) -> None:
        """The job is over: a consent that was said too late for it is in no log. What was said in its rounds is still owed."""
        self._write_down()
        self._drop(lambda each: bool(job) and each.job == job.hex() and each.what == CONSENT)

    def _drop(self, over: Callable[[Expected], bool]) -> None:
        state = self.notebook.state
        left = tuple(each for each in state.expected if not over(each))
        if left != state.expected:
            self.notebook.keep(replace(state, expected=left))

    def _write_down(self) -> None:
        if self._fresh:
            state = self.notebook.state
            self.notebook.keep(replace(state, expected=(*state.expected, *self._fresh.values())))
            self._fresh.clear()

    async def _look_for_own(self, head: Head) -> None:
        self._write_down()
        found: set[str] = set()
        missed: dict[str, Expected] = {}
        # What has been missing for long comes last: it must not keep the others from being looked for.
        for each in sorted(self.notebook.state.expected, key=lambda each: each.late)[:LOOKED_FOR]:
            document = bytes.fromhex(each.document)
            answer = await _reached(self._calls.prove(document, head.size))
            if answer is not None:
                verify_inclusion(leaf_hash(answer.entry), answer.number, head.size, answer.path, head.root)
                if open_entry(answer.entry).document != document:
                    raise VerificationFailed("The log proves another entry than was asked for.")
                found.add(each.document)
            elif (seen := self._missed(each)) != each:
                missed[each.document] = seen
        if found or missed:
            present = self.notebook.state
            left = (missed.get(each.document, each) for each in present.expected if each.document not in found)
            self.notebook.keep(replace(present, expected=tuple(left)))

    def _missed(self, each: Expected) -> Expected:
        """The log was read, and has no entry about it. Two minutes after that was first so, somebody must know."""
        now = self._clock()
        if not each.missed:
            return replace(each, missed=now)
        if each.late or now - each.missed <= LATE_SECONDS:
            return each
        self._count("log_missing")
        log.error(
            "witness.missing",
            what=each.what,
            job=each.job[:12],
            document=each.document[:16],
            detail=f"What this node said {now - each.said:.0f} s ago is not in the public log: {each.what}.",
            hint="Ask the coordinator's operator, and tell the other members: it may be kept from them.",
        )
        return replace(each, late=True)

    # ------------------------------------------------------------------------------------------------------------- stops

    def _convict(self, evidence: Evidence) -> None:
        data, now = evidence.encode(), self._clock()
        name = f"{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}-{hashlib.sha256(data).hexdigest()[:12]}.fork"
        self._stop(Stop(now, evidence.finding, evidence.sentence, name), data)

    def _stop(self, stop: Stop, evidence: bytes) -> None:
        self.notebook.stop(stop, evidence)
        self._count("log_stops")
        file = str(self.notebook.folder / stop.evidence) if stop.evidence else ""
        log.error("witness.stopped", finding=stop.finding, detail=stop.sentence, evidence=file, hint=HINT)
        self._on_stop(stop.sentence)

    def _say_blind(self, error: Unavailable) -> None:
        if not self._said_blind and self._clock() - self._blind_since > BLIND_SECONDS:
            self._said_blind = True
            log.warning(
                "witness.blind",
                detail=f"The public log could not be read for {BLIND_SECONDS / 60:.0f} minutes. {error.message}",
                hint="If jobs go on meanwhile, tell the coordinator's operator and the other members. " + error.hint,
            )


async def _reached(call: Awaitable[T]) -> T:
    """What the coordinator says instead of an answer is no sight of the log, whatever it calls it: raises Unavailable."""
    try:
        return await call
    except FederationError as error:
        raise Unavailable(error.message, hint=error.hint) from error


def _opens(note: bytes, key: VerifierKey) -> bool:
    try:
        open_head(note, key)
    except VerificationFailed:
        return False
    return True


def _signatures(note: bytes) -> tuple[NoteSignature, ...]:
    return Note.parse(note).signatures
