"""A proof that an entry is in the log, which needs no network: C2SP tlog-proof, with the entry itself as its extra data."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from federation.audit.checkpoint import MAX_NOTE, Checkpoint, Head, Note, VerifierKey, cosigned_by, open_head
from federation.audit.entry import MAX_ENTRY, Entry, open_entry
from federation.audit.tree import HASH_BYTES, MAX_PATH, leaf_hash
from federation.audit.tree import verify_inclusion as verify_path
from federation.errors import VerificationFailed

TITLE: Final = "c2sp.org/tlog-proof@v1"
MAX_PROOF: Final = MAX_NOTE + (MAX_PATH + 4) * 100 + 2 * MAX_ENTRY
_HEAD: Final = re.compile(
    rf"{re.escape(TITLE)}\nextra ([A-Za-z0-9+/=]+)\nindex (0|[1-9][0-9]{{0,18}})\n((?:[A-Za-z0-9+/=]{{44}}\n)*)\n"
)


@dataclass(frozen=True, slots=True)
class Inclusion:
    entry: bytes
    index: int
    size: int
    path: tuple[bytes, ...]
    """from the leaf's sibling upwards"""
    note: bytes
    """the signed head of ``size`` entries, with its cosignatures"""

    def encode(self) -> bytes:
        """The ``.tlog-proof`` file."""
        lines = [TITLE, f"extra {_base64(self.entry)}", f"index {self.index}", *map(_base64, self.path), "", ""]
        return "\n".join(lines).encode() + self.note

    @staticmethod
    def decode(data: bytes) -> Inclusion:
        """Raises VerificationFailed for what ``encode`` would not write. Nothing of it is believed yet."""
        try:
            match = _HEAD.match(data.decode()) if len(data) <= MAX_PROOF else None
            if match is not None:
                entry, path = base64.b64decode(match[1], validate=True), match[3].split()
                note = data[match.end() :]  # all before it is ASCII
                nodes = tuple(base64.b64decode(node, validate=True) for node in path)
                size = Checkpoint.parse(Note.parse(note).text).size
                found = Inclusion(entry, int(match[2]), size, nodes, note)
                if found.encode() == data and all(len(node) == HASH_BYTES for node in nodes):
                    return found
        except (UnicodeDecodeError, binascii.Error, ValueError):
            pass
        raise VerificationFailed("This is no proof of an entry of the log.", hint="It is a .tlog-proof file.")


@dataclass(frozen=True, slots=True)
class Proved:
    entry: Entry
    index: int
    head: Head
    witnesses: Mapping[str, int]
    """name -> when it cosigned (seconds since 1970), of those that were asked about"""


def verify_inclusion(proof: Inclusion, key: VerifierKey, witnesses: Iterable[VerifierKey] = ()) -> Proved:
    """Checks entry, path, the log's signatures, and the cosignatures of ``witnesses`` that are there.

    How many of them are enough is the caller's question. Raises VerificationFailed.
    """
    head = open_head(proof.note, key)
    if head.size != proof.size:
        raise VerificationFailed("The proof names another size than its head.")
    verify_path(leaf_hash(proof.entry), proof.index, head.size, proof.path, head.root)
    return Proved(open_entry(proof.entry), proof.index, head, cosigned_by(proof.note, witnesses))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
