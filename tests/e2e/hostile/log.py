"""A coordinator that lies about the public log alone. ``python -m tests.e2e.hostile.log run --home HOME``

The file that CONCORD_TEST_LIE names says which lie is told from now on: ``fork MEMBER`` shows that member's nodes a history whose
newest entry is another one, and passes their cosignatures on to the others; ``rollback`` shows everybody an older history;
``removed`` one without an entry. An empty file: the truth. Every head is signed with the log's real key. ``swapped``: the true
entries are shown under another key, which the answers name.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import coordinator.service
from coordinator.api.audit import CALLERS, AuditLogService
from coordinator.api.calls import Context, admitted, caller_of, unary
from coordinator.api.sessions import Session
from coordinator.audit.book import LogBook
from coordinator.main import app
from federation.audit.checkpoint import Checkpoint, log_key, origin_of, sign_head
from federation.audit.tree import consistency_path
from federation.errors import NotFound
from federation.identity.keys import SigningKey
from federation.v1 import audit_pb2
from tests.plain import log as plain


def lie() -> list[str]:
    file = Path(os.environ["CONCORD_TEST_LIE"])
    return file.read_text().split() if file.exists() else []


class History:
    """Entries, true or not, signed by the log."""

    def __init__(self, book: LogBook, entries: Sequence[bytes], key: SigningKey | None = None) -> None:
        self.entries = list(entries)
        signer = key or book._signer
        self.key = str(log_key(book._federation, signer.public))
        text = Checkpoint(origin_of(book._federation), len(self.entries), plain.root(self.entries))
        # A log is rolled back some time after it was seen: its heads are dated to the second.
        self.note = sign_head(text, signer, int(time.time()) + 2)

    def path(self, size: int) -> tuple[bytes, ...]:
        if size > len(self.entries):
            return ()

        def node(height: int, place: int) -> bytes:
            return plain.root(self.entries[place << height : (place + 1) << height])

        return consistency_path(size, len(self.entries), node)


SWAPPED = SigningKey.generate()


class LyingBook(LogBook):
    forks: dict[str, History] = {}  # noqa: RUF012 - one coordinator, one process
    relayed: list[tuple[int, bytes]] = []  # noqa: RUF012

    def entries(self) -> list[bytes]:
        with self._database.transaction() as change:
            return [change.log.entry(number) for number in range(change.log.frontier().size)]

    def history_for(self, member: str, held: int) -> History | None:
        """None: the truth. A fork begins after the ``held`` entries: one that the member has seen would give the lie away to it."""
        match lie():
            case ["fork", victim] if victim == member:
                true = self.entries()
                if member not in self.forks and len(true) > held:
                    self.forks[member] = History(self, [*true[:-1], true[0]])
                return self.forks.get(member)
            case ["rollback"]:
                return History(self, self.entries()[:-4])
            case ["removed"]:
                return History(self, self.entries()[1:])
            case ["swapped"]:
                return History(self, self.entries(), SWAPPED)
        return None

    def cosigned(self, session: Session, size: int, line: bytes) -> None:
        fork = self.forks.get(session.member)
        if fork is not None and len(fork.entries) == size:
            self.relayed.append((size, fork.note + line))
        else:
            super().cosigned(session, size, line)


class LyingAuditLog(AuditLogService):
    book: Any

    @unary
    async def Head(self, request: audit_pb2.HeadQuery, context: Context) -> audit_pb2.HeadReply:
        admitted(context, self.registry, *CALLERS)
        member = caller_of(context).member
        history = self.book.history_for(member, request.size)
        if history is not None:
            return audit_pb2.HeadReply(note=history.note, path=history.path(request.size), key=history.key)
        head, seen = self.book.head_since(request.size)
        true = History(self.book, self.book.entries()[: int(head.note.split(b"\n")[1])])
        shown = [audit_pb2.SeenHead(note=other.note, path=other.path) for other in seen]
        for size, note in self.book.relayed if lie() else ():
            shown.append(audit_pb2.SeenHead(note=note, path=true.path(size)))
        return audit_pb2.HeadReply(note=head.note, path=head.path, seen=shown, key=str(self.book.key))

    @unary
    async def Prove(self, request: audit_pb2.ProofQuery, context: Context) -> audit_pb2.ProofReply:
        """The lie is told throughout: whoever is shown a history gets proofs of that one."""
        admitted(context, self.registry, *CALLERS)
        history = self.book.history_for(caller_of(context).member, request.size)
        if history is None:
            proof = self.book.prove(request.document, request.number, request.size)
            return audit_pb2.ProofReply(
                entry=proof.entry, number=proof.index, size=proof.size, path=proof.path, note=proof.note
            )
        entries = history.entries[: request.size]
        found = [number for number, entry in enumerate(entries) if request.document.hex().encode() in entry]
        if not found:
            raise NotFound("The log has no entry about this document.")
        path = plain.inclusion(entries, found[-1])
        return audit_pb2.ProofReply(entry=entries[found[-1]], number=found[-1], size=len(entries), path=path, note=b"")


def main() -> None:
    coordinator.service.LogBook = LyingBook  # type: ignore[misc]
    coordinator.service.AuditLogService = LyingAuditLog  # type: ignore[misc]
    sys.exit(app(standalone_mode=True))


if __name__ == "__main__":
    main()
