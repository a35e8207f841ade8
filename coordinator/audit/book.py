"""Heads of the log: when one is signed and shown, what witnesses say to it, and the proofs that lead to it.

Only committed states are signed: a head is read and signed in a transaction that holds the write lock, and kept before it is
shown. A head stands for some seconds, so that witnesses cosign the same one.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Final

import structlog

from coordinator.api.sessions import Session, Sessions
from coordinator.store.database import Change, Database
from coordinator.store.log import SignedHead
from federation.audit.checkpoint import (
    Checkpoint,
    Signer,
    VerifierKey,
    check_cosignature,
    cosigned_by,
    log_key,
    origin_of,
    sign_head,
    witness_key,
)
from federation.audit.excerpt import Excerpt, peaks_at
from federation.audit.named_key import log_key_of
from federation.audit.proof import Inclusion
from federation.audit.tiles import Part
from federation.audit.tree import MAX_SIZE, consistency_path, inclusion_path
from federation.errors import NotFound, ProtocolViolation, VerificationFailed
from federation.identity.credential import verify_credential
from federation.identity.roll import Roll
from federation.v1 import audit_pb2, rounds_pb2

log = structlog.get_logger()

MAX_LINE: Final = 1000
SEEN_SIZES: Final = 16
"""heads of other witnesses that one answer shows"""
UNSERVED: Final = frozenset({"misconduct"})
"""documents that are evidence for operators; the log has their digests"""


@dataclass(frozen=True, slots=True)
class Shown:
    note: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """What a head says of itself."""

    size: int = 0
    signed: float = 0.0


class LogBook:
    """From any thread. ``clock`` gives seconds since 1970; ``stands`` is how long a head is shown before the next is signed."""

    def __init__(
        self,
        database: Database,
        federation: str,
        key: Signer,
        roll: Callable[[], Roll],
        clock: Callable[[], float],
        stands: float,
    ) -> None:
        self._database, self._federation, self._signer, self._clock = database, federation, key, clock
        self._roll = roll
        self._stands = stands
        self._lock = threading.Lock()
        self._head: SignedHead | None = None
        self._shown_at = 0.0
        self.standing = Standing()
        """of the head that is shown"""
        self._waiting: set[asyncio.Event] = set()
        self.key: VerifierKey = log_key(federation, key.public)

    # ------------------------------------------------------------------------------------------------------------ heads

    def head(self) -> SignedHead:
        """The head that is shown now."""
        with self._lock, self._database.transaction() as change:
            return self._newest(change)

    def _newest(self, change: Change) -> SignedHead:
        frontier, now = change.log.frontier(), self._clock()
        head = self._head
        if head is not None and (head.size == frontier.size or 0 <= now - self._shown_at < self._stands):
            return head
        kept = change.log.head(frontier.size)
        if kept is None or kept.root != frontier.root():
            checkpoint = Checkpoint(origin_of(self._federation), frontier.size, frontier.root())
            kept = SignedHead(frontier.size, checkpoint.root, sign_head(checkpoint, self._signer, int(now)))
            change.log.put_head(kept)
        self._head, self._shown_at = kept, now
        self.standing = Standing(kept.size, now)
        return kept

    def note(self) -> bytes:
        """The head that is shown now, with the cosignatures that there are."""
        with self._lock, self._database.transaction() as change:
            return _cosigned(change, self._newest(change))

    def head_since(self, size: int) -> tuple[Shown, tuple[Shown, ...]]:
        """The head, with a path from ``size`` on; and the heads that each witness has cosigned last, with theirs."""
        with self._lock, self._database.transaction() as change:
            head = self._newest(change)
            path = consistency_path(size, head.size, change.log.node) if 0 <= size <= head.size else ()
            seen = []
            by_size: dict[int, list[bytes]] = defaultdict(list)
            for at, line in change.log.newest_cosignatures().values():
                by_size[at].append(line)
            for at in sorted(by_size, reverse=True)[:SEEN_SIZES]:
                other = change.log.head(at)
                if other is not None and at <= head.size:
                    way = consistency_path(at, head.size, change.log.node)
                    seen.append(Shown(other.note + b"".join(sorted(by_size[at])), way))
            return Shown(head.note, path), tuple(seen)

    def amended(self, _old: Roll, roll: Roll) -> None:
        """A new roll is in force: when it names another key for the log, no node believes this log's heads from now on."""
        named = log_key_of(roll)
        if named is not None and named != self.key:
            log.warning(
                "log.key-moved",
                named=str(named),
                key=str(self.key),
                hint="Stop this coordinator, and start the one that has the named key on a copy of this database.",
            )

    def fresh(self) -> int:
        """Signs and shows a head that holds everything that is in the log now; its size."""
        with self._lock, self._database.transaction() as change:
            self._head = None
            return self._newest(change).size

    async def witnessed(
        self, sessions: Sessions, keys: Collection[VerifierKey], quorum: int, needed: Callable[[], bool]
    ) -> int | None:
        """Waits until ``quorum`` of these witnesses have cosigned one head that holds everything that is in the log now; its size.

        None once it is not ``needed`` any more. Nodes that do not answer are told again, and look by themselves, too.
        """
        at_least = await asyncio.to_thread(self.fresh)
        changed = asyncio.Event()
        self._waiting.add(changed)
        try:
            while needed():
                changed.clear()
                size = await asyncio.to_thread(self._cosigned_by, at_least, keys, quorum)
                if size is not None:
                    return size
                self._tell(sessions, (await asyncio.to_thread(self.head)).size)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), self._stands)
        finally:
            self._waiting.discard(changed)
        return None

    @staticmethod
    def _tell(sessions: Sessions, size: int) -> None:
        data = rounds_pb2.Instruction(log_head=audit_pb2.LogHead(size=size)).SerializeToString()
        for session in sessions.all():
            session.send(data)

    def _cosigned_by(self, at_least: int, keys: Collection[VerifierKey], quorum: int) -> int | None:
        with self._database.transaction() as change:
            for size in change.log.cosigned_sizes(at_least):
                head = change.log.head(size)
                if head is not None and len(cosigned_by(_cosigned(change, head), keys)) >= quorum:
                    return size
        return None

    async def announce(self, sessions: Sessions) -> None:
        """Until cancelled: tells every connected node of each new head."""
        told = -1
        while True:
            try:
                size = (await asyncio.to_thread(self.head)).size
            except Exception as error:  # a disk that is full, say: nodes look by themselves, too
                log.exception("log.not-announced", error=type(error).__name__)
                size = told
            if size != told:
                told = size
                self._tell(sessions, told)
            await asyncio.sleep(self._stands)

    def cosigned(self, session: Session, size: int, line: bytes) -> None:
        """A node's cosignature. Raises ProtocolViolation unless it is by that node, over a head that was shown."""
        if len(line) > MAX_LINE or size > MAX_SIZE:
            raise ProtocolViolation("A cosignature is too large.", check="log-cosignature")
        roll = self._roll()
        with self._database.transaction() as change:
            node = change.node(session.member, session.node)
            head = change.log.head(size)
            if node is None or head is None:
                return  # enrolled no longer, or a head of long ago
            identity = verify_credential(node.credential, roll, None).identity_key
            key = witness_key(self._federation, session.member, session.node, identity)
            try:
                check_cosignature(line, Checkpoint(origin_of(self._federation), size, head.root), key)
            except VerificationFailed as error:
                raise ProtocolViolation(error.message, check="log-cosignature") from error
            change.log.put_cosignature(size, key.name, line)
        for waiting in self._waiting:
            waiting.set()

    # ----------------------------------------------------------------------------------------------------------- answers

    def part(self, path: str) -> bytes:
        """Raises VerificationFailed for no path, NotFound for a part that is not there."""
        part = Part.parse(path)
        with self._database.transaction() as change:
            if part.level is None:
                return change.log.entries(part.number, part.width)
            return change.log.tile(part.level, part.number, part.width)

    def prove(self, document: bytes, number: int, size: int) -> Inclusion:
        """The newest entry about ``document``, or entry ``number``; in the head of ``size``, or the newest with cosignatures.

        Raises NotFound. The note is empty when the head of that size is not kept.
        """
        with self._lock, self._database.transaction() as change:
            grown = change.log.frontier().size
            if size > grown:
                raise NotFound(f"The log has {grown} entries.", hint="Ask for a smaller head.")
            if document:
                numbers = change.log.numbers_of(document, size or grown)
                if not numbers:
                    raise NotFound("The log has no entry about this document.", hint="It may come in a moment.")
                number = numbers[-1]
            elif number >= (size or grown):
                raise NotFound(f"The log has no entry {number} there.", hint="Ask for a smaller number.")
            if not size:
                cosigned = change.log.cosigned_size(number)
                size = cosigned if cosigned is not None else self._newest(change).size
                if size <= number:  # the head that stands is older than the entry
                    self._head = None
                    size = self._newest(change).size
            head = change.log.head(size)
            path = inclusion_path(number, size, change.log.node)
            note = b"" if head is None else _cosigned(change, head)
            return Inclusion(change.log.entry(number), number, size, path, note)

    def inclusion(self, document: bytes) -> Inclusion:
        """For a release: the proof of the newest entry about a document, in a head with cosignatures where there is one.

        Raises NotFound.
        """
        return self.prove(document, 0, 0)

    def excerpt(self, document: bytes, size: int) -> Excerpt:
        """The log from the first entry about ``document`` (its SHA-256) to the kept head of ``size``, with its cosignatures.

        Raises NotFound.
        """
        with self._lock, self._database.transaction() as change:
            numbers, head = change.log.numbers_of(document, size), change.log.head(size)
            if not numbers or head is None:
                raise NotFound("The log has no such entry under this head.", hint="Ask for a newer head.")
            first = numbers[0]
            entries = change.log.run(first, size)
            return Excerpt(self.key, first, peaks_at(first, change.log.node), entries, _cosigned(change, head))

    def document(self, digest: bytes) -> tuple[str, bytes]:
        """(kind, bytes). Raises NotFound."""
        with self._database.transaction() as change:
            found = change.document(digest)
        if found is None or found[0] in UNSERVED:
            raise NotFound("There is no document of this digest.", hint="Take the digest from an entry of the log.")
        return found

    def witnesses(self) -> Iterator[tuple[str, str, bytes]]:
        """(member, node, credential) of every node that may have cosigned."""
        with self._database.transaction() as change:
            rows = change.nodes()
        for row in rows:
            yield row.member, row.node, row.credential


def _cosigned(change: Change, head: SignedHead) -> bytes:
    return head.note + b"".join(change.log.cosignatures(head.size).values())
