"""What a witness does with each head that it is shown, and the evidence it keeps when the log has shown two histories.

Evidence is one file that a stranger checks offline: the log's key, two heads that it signed, and a path from the smaller
to the larger.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from federation.audit.checkpoint import Head, VerifierKey, open_head
from federation.audit.tree import HASH_BYTES, roots_from_consistency, verify_consistency
from federation.errors import InvalidIdentity, VerificationFailed

MAX_EVIDENCE: Final = 1 << 20
FORMAT: Final = "concord/log-fork/v1"

Finding = Literal["two-roots", "other-history", "taken-back", "unreconciled"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Two heads of one log. ``first`` is the one that the witness held."""

    key: VerifierKey
    first: Head
    second: Head
    path: tuple[bytes, ...] = ()
    before: VerifierKey | None = None
    """the key of ``first``, where the members have named another since"""

    @property
    def finding(self) -> Finding:
        """``unreconciled`` is no proof by itself: the log has not shown that the two belong together, which it could."""
        small, large = sorted((self.first, self.second), key=lambda head: head.size)
        if small.size == large.size:
            return "two-roots" if small.root != large.root else "unreconciled"
        if self.path and small.size > 0:
            try:
                before, after = roots_from_consistency(small.size, large.size, self.path)
            except VerificationFailed:
                before = after = b""
            if after == large.root and before != small.root:
                return "other-history"
        return "taken-back" if small.time > large.time else "unreconciled"

    @property
    def sentence(self) -> str:
        small, large = sorted((self.first, self.second), key=lambda head: head.size)
        return {
            "two-roots": f"The log signed two different histories of {small.size} entries.",
            "other-history": f"The log signed a history of {large.size} entries whose first {small.size} are not those "
            "that it had signed before.",
            "taken-back": f"The log signed {large.size} entries, and later {small.size} as all that there are.",
            "unreconciled": f"The log signed heads of {small.size} and {large.size} entries, and did not show that one "
            "continues the other.",
        }[self.finding]

    def encode(self) -> bytes:
        document: dict[str, object] = {
            "format": FORMAT,
            "log": str(self.key),
            "first": self.first.note.decode(),
            "second": self.second.note.decode(),
            "path": [node.hex() for node in self.path],
        }
        if self.before is not None:
            document["before"] = str(self.before)
        return json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"


def open_evidence(data: bytes, key: VerifierKey | None = None, known: Sequence[VerifierKey] = ()) -> Evidence:
    """Checks the log's signatures on both heads; ``key``: the log that it must be about, when the reader knows it; ``known``: every
    key that its members have named (``named_key.log_keys_of``).

    Raises VerificationFailed when it is no evidence, or about another log. Whether it convicts says ``finding``.
    """
    try:
        if len(data) > MAX_EVIDENCE:
            raise ValueError
        document: Any = json.loads(data)
        names = {"format", "log", "first", "second", "path"}
        if set(document) - {"before"} != names or document["format"] != FORMAT or len(document["path"]) > 128:
            raise ValueError
        named = VerifierKey.parse(document["log"])
        before = VerifierKey.parse(document["before"]) if "before" in document else None
        first, second = document["first"].encode(), document["second"].encode()
        path = tuple(bytes.fromhex(text) for text in document["path"])
        if any(len(node) != HASH_BYTES for node in path):
            raise ValueError
    except (ValueError, TypeError, AttributeError, RecursionError, InvalidIdentity) as error:
        raise VerificationFailed("This is no evidence about a log.", hint="Name a file that a witness kept.") from error
    if key is not None and named != key:
        raise VerificationFailed(f"The evidence is about the log {named}, and not {key}.", hint="Whose key is right?")
    if before is not None and not {named, before} <= set(known):
        raise VerificationFailed(
            f"The first head is signed with another key ({before}) than the second, and nothing says that both were this log's.",
            hint="A roll says so whose charter has named both: add --roll.",
        )
    return Evidence(named, open_head(first, before or named), open_head(second, named), path, before)


def follow(
    key: VerifierKey, held: Head | None, shown: Head, path: Sequence[bytes], before: VerifierKey | None = None
) -> Evidence | None:
    """None when ``shown`` continues ``held``, which ``path`` (``tree.consistency_path``) must show; else the evidence.

    ``shown`` must have been asked for after ``held`` was taken: a smaller head is a log that took entries back. ``before``: the key
    of ``held``, where the members have named another since; the tree goes on under it.
    """
    if held is None:
        return None
    evidence = Evidence(key, held, shown, tuple(path), before if before != key else None)
    try:
        verify_consistency(held.size, held.root, shown.size, shown.root, path)
    except VerificationFailed:
        return evidence
    return None
