"""The end of the log, whole, from one entry to a signed head: every entry is there, so that what is not there is not in the log.

Of all that came before there are the peaks of the tree alone; with them the entries give the head's root. A proof of inclusion
shows that an entry is in the log. This shows of every entry after the first that it is, and that there is no other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from federation.audit.checkpoint import Head, VerifierKey, cosigned_by, open_head
from federation.audit.entry import Entry, open_entry
from federation.audit.tree import HASH_BYTES, MAX_SIZE, Frontier, NodeOf, leaf_hash
from federation.errors import FederationError, VerificationFailed
from federation.identity.envelope import canonical

FORMAT: Final = "concord/log-excerpt/v1"
FIELDS: Final = frozenset({"checkpoint", "entries", "first", "format", "key", "peaks"})
MAX_EXCERPT: Final = 128 << 20
"""bytes: some 400,000 entries"""


@dataclass(frozen=True, slots=True)
class Excerpt:
    key: VerifierKey
    """the log's, as whoever made the excerpt names it"""
    first: int
    """the number of the first entry"""
    peaks: tuple[bytes, ...]
    """of the tree over the ``first`` entries before it, the largest first"""
    entries: tuple[bytes, ...]
    """all from ``first`` to the head"""
    note: bytes
    """the signed head with its cosignatures"""

    def encode(self) -> bytes:
        """Canonical JSON. Raises VerificationFailed for one that is larger than any reader takes."""
        data = canonical(
            {
                "format": FORMAT,
                "key": str(self.key),
                "first": self.first,
                "peaks": [peak.hex() for peak in self.peaks],
                "entries": [entry.decode() for entry in self.entries],
                "checkpoint": self.note.decode(),
            }
        )
        if len(data) > MAX_EXCERPT:
            raise VerificationFailed(
                f"An excerpt of {len(self.entries)} entries of the log is larger than {MAX_EXCERPT >> 20} MiB.",
                hint="The log has grown by too much since its first entry.",
            )
        return data

    @staticmethod
    def decode(data: bytes) -> Excerpt:
        """Raises VerificationFailed for what ``encode`` would not write. Nothing of it is believed yet."""
        try:
            if len(data) <= MAX_EXCERPT:
                found = _read(json.loads(data))
                if found is not None and found.encode() == data:
                    return found
        except (ValueError, TypeError, AttributeError, RecursionError, FederationError):
            pass
        raise VerificationFailed("This is no excerpt of a log in its one encoding.", hint="The file was altered.")


@dataclass(frozen=True, slots=True)
class Shown:
    """What an excerpt proves."""

    head: Head
    first: int
    entries: tuple[Entry, ...]
    """all from ``first`` to the head"""
    witnesses: Mapping[str, int]
    """name -> when it cosigned (seconds since 1970), of those that were asked about"""


def peaks_at(size: int, node: NodeOf) -> tuple[bytes, ...]:
    """The peaks of the tree when it had ``size`` entries, the largest first."""
    heights = [height for height in reversed(range(size.bit_length())) if size >> height & 1]
    return tuple(node(height, (size >> height + 1) << 1) for height in heights)


def verify_excerpt(excerpt: Excerpt, key: VerifierKey, witnesses: Iterable[VerifierKey] = ()) -> Shown:
    """Checks entries, peaks, the log's signatures, and the cosignatures of ``witnesses`` that are there.

    How many of them are enough is the caller's question. Raises VerificationFailed.
    """
    head = open_head(excerpt.note, key)
    tree = Frontier.decode(excerpt.first, b"".join(excerpt.peaks))
    for entry in excerpt.entries:
        tree = tree.append(leaf_hash(entry))
    if (tree.size, tree.root()) != (head.size, head.root):
        raise VerificationFailed(
            f"The entries from {excerpt.first} on are not those of the log under its head of {head.size} entries.",
            hint="An entry was altered, left out or added, or the head is of another log.",
        )
    entries = tuple(open_entry(entry) for entry in excerpt.entries)
    return Shown(head, excerpt.first, entries, cosigned_by(excerpt.note, witnesses))


def _read(document: object) -> Excerpt | None:
    if not isinstance(document, dict) or set(document) != FIELDS or document["format"] != FORMAT:
        return None
    first, entries, peaks = document["first"], document["entries"], document["peaks"]
    if not isinstance(first, int) or isinstance(first, bool) or not 0 <= first <= MAX_SIZE:
        return None
    if not isinstance(entries, list) or not isinstance(peaks, list):
        return None
    hashes = tuple(bytes.fromhex(peak) for peak in peaks)
    if any(len(peak) != HASH_BYTES for peak in hashes):
        return None
    return Excerpt(
        VerifierKey.parse(document["key"]),
        first,
        hashes,
        tuple(entry.encode("ascii") for entry in entries),
        document["checkpoint"].encode(),
    )
