"""What a job's rounds leave in the public log, as a member can tell: it holds the very documents that the log names by digest.

A node's signature on a roster, on what it uploaded and acknowledged, and on the state that it computed is worth something to others
when the document that carries it stands in the log. The coordinator gathers the signatures, writes the document down, and only
then shows it to the members. So a member that was shown one, and took it, may expect its entry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final

from federation.secagg import codec, events
from federation.secagg.messages import Announcement, Certificate, Receipt

ROSTER: Final = "roster"
ROUND: Final = "round-closed"
STATE: Final = "certificate"


class Logged:
    """``expect`` is called with the SHA-256 of a document and the kind of its entry, once for each."""

    def __init__(self, expect: Callable[[bytes, str], None]) -> None:
        self._expect = expect
        self._last: dict[str, bytes] = {}
        """of each kind, what was expected last: a message comes again with each attempt and each connection"""

    def took(self, event: object, instructions: Sequence[events.MemberInstruction]) -> None:
        """The machine has answered ``event``. What it refused, or had nothing to do with, promises nothing."""
        if not instructions or any(isinstance(each, events.Refuse) for each in instructions):
            return
        match event:
            case events.RosterCertificate():
                self._await(ROSTER, event, events.RosterCertificate)
            case Announcement(receipts=receipts) if receipts:
                self._await(STATE, receipts, tuple[Receipt, ...])
        for each in instructions:
            if isinstance(each, events.FetchSum):  # its certificate was checked, now or when the state was there
                self._await(ROUND, each.close.certificate, Certificate)

    def final(self, receipts: tuple[Receipt, ...]) -> None:
        """Those of the last state, which come with the request for the release, and have been checked."""
        self._await(STATE, receipts, tuple[Receipt, ...])

    def _await(self, kind: str, document: object, shape: Any) -> None:
        digest = hashlib.sha256(codec.encode(document, shape)).digest()
        if self._last.get(kind) != digest:
            self._last[kind] = digest
            self._expect(digest, kind)
