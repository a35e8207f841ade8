"""What stands in the log: a closed list of kinds, the fields of each, and one canonical encoding.

An entry holds names and digests that every member sees anyway: never words that a person wrote, a figure of one member, a ticket, a
path, or more about a data set than its digest. Documents that a stranger needs are named by digest and fetched by it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from federation.errors import InvalidUsage, VerificationFailed
from federation.identity.names import LABEL

Kind = Literal[
    "founding", "charter", "admission", "suspension", "proposal", "vote", "enrolment", "submission", "consent", "revocation",
    "roster", "certificate", "round-closed", "job-state", "halt", "lift", "release", "approval", "recall", "catalogue",
    "misconduct",
]  # fmt: skip

VERSION: Final = 1
MAX_ENTRY: Final = 1024
MAX_TIME: Final = (1 << 53) - 1

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,14}")
_WORD: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?")


def _one_of(*words: str) -> re.Pattern[str]:
    return re.compile("|".join(words))


FIELDS: Final[Mapping[str, re.Pattern[str]]] = {
    "federation": LABEL,
    "member": LABEL,
    "node": LABEL,
    "job": _DIGEST,
    "proposal": _DIGEST,
    "release": _DIGEST,
    "roll": _DIGEST,
    "subject": _DIGEST,
    "epoch": _NUMBER,
    "round": _NUMBER,
    "attempt": _NUMBER,
    "version": _NUMBER,
    "party": _one_of("node", "lead", "operator", "officer"),
    "action": _WORD,
    "choice": _one_of("yes", "no", "abstain"),
    "scope": _one_of("federation", "member", "job"),
    "level": _one_of("none", "hold", "drain", "stop"),
    "outcome": _one_of("closed", "aborted", "void"),
    "state": _WORD,
    "check": _WORD,
}
"""every field there is, and what may stand in it; all but times are texts in the entry"""


@dataclass(frozen=True, slots=True)
class Shape:
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        return self.required + self.optional


SHAPES: Final[Mapping[str, Shape]] = {
    "founding": Shape(("federation",), ("version",)),
    "charter": Shape(("federation",), ("version", "proposal")),
    "admission": Shape(("member",), ("proposal", "version")),
    "suspension": Shape(("member",), ("node", "state", "proposal", "version")),
    "proposal": Shape(("proposal",), ("action", "subject", "member")),
    "vote": Shape(("proposal", "member"), ("choice",)),
    "enrolment": Shape(("party",), ("member", "node")),
    "submission": Shape(("job",)),
    "consent": Shape(("job", "member", "node", "state")),
    "revocation": Shape(("job", "member"), ("node",)),
    "roster": Shape(("job", "epoch")),
    "certificate": Shape(("job", "round")),
    "round-closed": Shape(("job", "round", "attempt", "outcome")),
    "job-state": Shape(("job", "state")),
    "halt": Shape(("scope", "level"), ("job", "member", "node", "federation")),
    "lift": Shape(("scope",), ("job", "member", "node", "federation", "proposal")),
    "release": Shape(("job",), ("release", "proposal", "state", "member")),
    "approval": Shape(("member",), ("job", "release", "proposal", "choice")),
    "recall": Shape((), ("job", "release", "proposal", "member")),
    "catalogue": Shape(("member", "node")),
    "misconduct": Shape(("job", "member", "check")),
}
"""in the order in which ``change.audit`` takes them"""


@dataclass(frozen=True, slots=True)
class Entry:
    kind: str
    time: int
    """milliseconds since 1970, as the coordinator's clock had it"""
    fields: Mapping[str, str]
    document: bytes | None = None
    """SHA-256 of the document that the entry is about, where there is one"""

    def encode(self) -> bytes:
        """RFC 8785 bytes: every text is printable ASCII without quotes, so that sorted JSON is canonical JSON."""
        document: dict[str, object] = {**self.fields, "kind": self.kind, "time": self.time, "v": VERSION}
        if self.document is not None:
            document["document"] = self.document.hex()
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def entry_of(kind: str, subject: str, document: bytes | None, time: float) -> Entry:
    """The entry for what has happened. ``time``: seconds since 1970.

    ``subject`` is words between spaces: ``name=value`` each, or values alone in the order of the kind's ``Shape``. Raises
    InvalidUsage for a kind that is not on the list, or a word that may not stand in it: a mistake of the program.
    """
    shape = SHAPES.get(kind)
    if shape is None:
        raise InvalidUsage(f"The log has no entries of kind {kind!r}.", hint="federation/audit/entry.py lists them.")
    words = subject.split()
    if any("=" in word for word in words):
        pairs = [word.partition("=")[::2] for word in words]
    elif len(words) > len(shape.fields):
        raise InvalidUsage(f"An entry of kind {kind} has at most {len(shape.fields)} fields.", hint=subject[:200])
    else:
        pairs = list(zip(shape.fields, words, strict=False))
    fields = dict(pairs)
    if (problem := _problem(shape, fields)) or len(fields) != len(pairs):
        raise InvalidUsage(f"An entry of kind {kind} cannot say {subject[:200]!r}: {problem or 'a field twice'}.")
    return Entry(kind, round(time * 1000), fields, document)


def open_entry(data: bytes) -> Entry:
    """Raises VerificationFailed unless these are the one encoding of an entry that this version of the list allows."""
    if len(data) > MAX_ENTRY:
        raise VerificationFailed(f"An entry of {len(data)} bytes is too large: {MAX_ENTRY} is the most.")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise VerificationFailed("An entry is not JSON.") from error
    if not isinstance(document, dict) or document.pop("v", None) != VERSION:
        raise VerificationFailed("An entry is of another version.", hint="Use a newer Concord to read this log.")
    kind, time, digest = document.pop("kind", None), document.pop("time", None), document.pop("document", None)
    if not isinstance(kind, str) or kind not in SHAPES:
        raise VerificationFailed("An entry is of a kind that is not on the list.", hint="Use a newer Concord.")
    if not isinstance(time, int) or isinstance(time, bool) or not 0 <= time <= MAX_TIME:
        raise VerificationFailed("An entry has no time.")
    if digest is not None and not (isinstance(digest, str) and _DIGEST.fullmatch(digest)):
        raise VerificationFailed("An entry's document is not a digest.")
    if problem := _problem(SHAPES[kind], document):
        raise VerificationFailed(f"An entry of kind {kind} is malformed: {problem}.")
    entry = Entry(kind, time, document, None if digest is None else bytes.fromhex(digest))
    if entry.encode() != data:
        raise VerificationFailed("An entry is not in its one canonical encoding.")
    return entry


def _problem(shape: Shape, fields: Mapping[str, object]) -> str:
    """Empty when the fields are those of the shape."""
    if missing := [name for name in shape.required if name not in fields]:
        return f"{missing[0]} is missing"
    for name, value in fields.items():
        if name not in shape.fields:
            return f"it has no field {name[:40]!r}"
        if not isinstance(value, str) or not FIELDS[name].fullmatch(value):
            return f"{name} is not what may stand there"
    return ""
