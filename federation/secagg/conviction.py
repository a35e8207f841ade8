"""Two statements under one signature that contradict each other: a proof that anybody can check, with nothing but the key.

A member says each of these things once for its place in an attempt, and is on disk before it says it: which survivors it
acknowledges, which update it sends, what it reveals, which state follows. Two signed transcripts of one kind, for one place,
that differ, are a lie that no fault explains. What a holder returns in RECOVER is not among them: it follows from the box that
the coordinator shows, and an owner can make two that open. (docs/protocol/secure-aggregation.md, "Convictions".)
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from federation.errors import VerificationFailed
from federation.identity.envelope import canonical
from federation.secagg.transcripts import fields_of

if TYPE_CHECKING:
    from federation.secagg.certificate import Verify

FORMAT: Final = "concord/conviction/v1"
MAX_BYTES: Final = 1 << 20
PLACES: Final[dict[str, tuple[int, ...]]] = {
    "ack": (0, 2),
    "upload": (0, 1),
    "reveal": (0, 1),
    "receipt": (0, 1, 2, 3, 4, 5),
}
"""Of each kind, the fields that name the one place for which it is signed once: context and index; for a receipt job,
epoch, roster, index, round and context."""
WHERE: Final[dict[str, tuple[int, int]]] = {"ack": (0, 2), "upload": (0, 1), "reveal": (0, 1), "receipt": (5, 3)}
"""Of each kind, the fields that hold context and index."""


@dataclass(frozen=True, slots=True)
class Statement:
    text: bytes
    """a transcript, as it was signed"""
    signature: bytes


@dataclass(frozen=True, slots=True)
class Conviction:
    identity_key: bytes
    """of the node that signed both"""
    first: Statement
    second: Statement

    @property
    def kind(self) -> str:
        """Of both statements: ack, upload, reveal or receipt. Raises VerificationFailed."""
        return fields_of(self.first.text)[0]

    def check(self, verify: Verify) -> None:
        """Raises VerificationFailed unless it proves what it says."""
        (label, first), (other, second) = fields_of(self.first.text), fields_of(self.second.text)
        place = PLACES.get(label)
        if place is None or label != other or len(first) != len(second) or len(first) <= max(place):
            raise _no_proof("The statements are not of one kind that is signed once.")
        if any(first[field] != second[field] for field in place):
            raise _no_proof("The statements are for two places: both may be true.")
        if self.first.text == self.second.text:
            raise _no_proof("The statements do not differ.")
        for each in (self.first, self.second):
            if not verify(self.identity_key, each.text, each.signature):
                raise _no_proof("A statement is not signed by the key that is named.")

    def to_bytes(self) -> bytes:
        """Canonical JSON (RFC 8785)."""
        return canonical(
            {
                "format": FORMAT,
                "identityKey": self.identity_key.hex(),
                "statements": [
                    {"signed": each.text.hex(), "signature": each.signature.hex()} for each in (self.first, self.second)
                ],
            }
        )

    @staticmethod
    def from_bytes(data: bytes) -> Conviction:
        """Raises VerificationFailed. Proves nothing before ``check``."""
        if len(data) > MAX_BYTES:
            raise _no_proof("The file is too large.")
        try:
            document: Any = json.loads(data)
            first, second = (
                Statement(bytes.fromhex(each["signed"]), bytes.fromhex(each["signature"]))
                for each in document["statements"]
            )
            found = Conviction(bytes.fromhex(document["identityKey"]), first, second)
            same = found.to_bytes() == data
        except (ValueError, TypeError, KeyError, RecursionError):
            same = False
        if not same:
            raise _no_proof("The file is not a conviction in its one encoding.")
        return found


def _no_proof(why: str) -> VerificationFailed:
    return VerificationFailed(f"This convicts nobody: {why}", hint="Ask for the file that the coordinator kept.")
