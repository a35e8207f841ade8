"""The whole log computed again from its tiles: what a stranger runs, over files or over the network. Nothing is believed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from federation.audit.checkpoint import MAX_NOTE, Head, VerifierKey, cosigned_by, open_head
from federation.audit.entry import Entry, open_entry
from federation.audit.tiles import MAX_BUNDLE, MAX_TILE, WIDTH, Part, decode_bundle, parts_of, root_of_tile
from federation.audit.tree import EMPTY, Frontier, leaf_hash
from federation.errors import VerificationFailed

CHECKPOINT: Final = "checkpoint"

Fetch = Callable[[str, int], bytes]
"""(path, limit) -> the bytes of one file of the log, at most ``limit`` of them; raises NotFound or Unavailable"""


@dataclass(frozen=True, slots=True)
class Verified:
    head: Head
    kinds: Mapping[str, int]
    """how many entries of each kind"""
    witnesses: Mapping[str, int]
    """name -> when it cosigned this head, of those that were asked about"""
    older: int | None
    """the size of the older head that this log continues"""
    files: int

    @property
    def checks(self) -> tuple[str, ...]:
        """What was checked, a sentence each."""
        size = self.head.size
        said = [
            f"The head of {size} entries is signed by the log's key, with its time.",
            f"Each of {size} entries is in its one canonical form, of a kind on the list.",
            f"All {self.files} files hold the hashes that these entries give, and lead to the signed root.",
        ]
        if self.older is not None:
            said.append(f"It continues the older head of {self.older} entries without a change.")
        if self.witnesses:
            said.append(
                f"{len(self.witnesses)} witnesses have cosigned this head: {', '.join(sorted(self.witnesses))}."
            )
        return tuple(said)


def verify_log(
    fetch: Fetch,
    key: VerifierKey,
    *,
    older: Head | None = None,
    witnesses: Iterable[VerifierKey] = (),
    visit: Callable[[int, Entry], None] = lambda _number, _entry: None,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Verified:
    """Fetches every file and computes the tree from the entries alone. ``visit`` gets each entry, believed only at the end.

    Raises VerificationFailed that names the file or entry which does not fit, NotFound or Unavailable when one cannot be had.
    """
    note = fetch(CHECKPOINT, MAX_NOTE)
    head = open_head(note, key)
    if older is not None and older.size > head.size:
        raise VerificationFailed(
            f"The log has {head.size} entries, and an older head that it signed has {older.size}: entries were taken back.",
            hint="Keep both heads: `concord audit fork` checks them.",
        )
    parts = list(parts_of(head.size))
    tree, row, kinds = Frontier(), bytearray(), Counter[str]()
    before = EMPTY if older is not None and older.size == 0 else b""
    for done, part in enumerate(parts):
        if part.level is None:
            for data in _entries(fetch, part):
                number = tree.size
                try:
                    entry = open_entry(data)
                except VerificationFailed as error:
                    raise VerificationFailed(f"Entry {number}: {error.message}", hint=error.hint) from error
                kinds[entry.kind] += 1
                leaf = leaf_hash(data)
                tree = tree.append(leaf)
                row += leaf
                visit(number, entry)
                if older is not None and tree.size == older.size:
                    before = tree.root()
            progress(done + 1, len(parts))
    if tree.root() != head.root:
        raise VerificationFailed(
            "The entries do not give the root that the log signed: one was altered, removed or added.",
            hint="Fetch the log again; when it stays so, tell the federation's members.",
        )
    if older is not None and before != older.root:
        raise VerificationFailed(
            f"The first {older.size} entries are not those of the older head.",
            hint="The log was rewritten. Keep both heads: `concord audit fork` checks them.",
        )
    _check_tiles(fetch, head.size, bytes(row), parts, progress)
    return Verified(
        head, dict(kinds), cosigned_by(note, witnesses), None if older is None else older.size, len(parts) + 1
    )


def _entries(fetch: Fetch, part: Part) -> tuple[bytes, ...]:
    try:
        return decode_bundle(fetch(part.path, MAX_BUNDLE), part.width)
    except VerificationFailed as error:
        raise VerificationFailed(f"{part.path}: {error.message}", hint=error.hint) from error


def _check_tiles(fetch: Fetch, size: int, row: bytes, parts: list[Part], progress: Callable[[int, int], None]) -> None:
    """Every tile of every level is what the leaf hashes in ``row`` give."""
    level = 0
    for done, part in enumerate(parts):
        if part.level is None:
            continue
        if part.level != level:
            full = len(row) // MAX_TILE
            row = b"".join(root_of_tile(row[at * MAX_TILE : (at + 1) * MAX_TILE]) for at in range(full))
            level = part.level
        start = part.number * MAX_TILE
        if fetch(part.path, MAX_TILE) != row[start : start + part.width * MAX_TILE // WIDTH]:
            raise VerificationFailed(f"{part.path} does not hold the hashes that the entries give.", hint=f"Of {size}.")
        progress(done + 1, len(parts))


def fetch_log(fetch: Fetch, put: Callable[[str, bytes], None], progress: Callable[[int, int], None]) -> int:
    """Copies every file of the newest head; the head last, so that a folder with one is whole. Returns the size.

    Nothing is checked here: ``verify_log`` does, over the copy.
    """
    from federation.audit.checkpoint import Checkpoint, Note

    note = fetch(CHECKPOINT, MAX_NOTE)
    size = Checkpoint.parse(Note.parse(note).text).size
    parts = list(parts_of(size))
    for done, part in enumerate(parts):
        put(part.path, fetch(part.path, MAX_BUNDLE if part.level is None else MAX_TILE))
        progress(done + 1, len(parts))
    put(CHECKPOINT, note)
    return size
