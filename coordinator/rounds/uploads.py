"""Masked updates of one job, from the wire to the machine: whole, as signed, and of the size of everybody else's.

An update is counted only when its Merkle root, computed here from the bytes, is the one that its member signed. Small updates are
kept in memory and stored with the event that counts them; larger ones lie in the spool, fsynced, so that what the machine has
counted survives a power cut. A member that sends its update again changes nothing.

How many parameters the model has is nowhere in the manifest, and the coordinator never sees the model: it is the size that f+1
members (one honest, at least) have uploaded, and from the first closed round on it stands.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from coordinator.store.database import Change
from coordinator.store.spool import Spool
from federation.errors import NotFound, ProtocolViolation
from federation.secagg.audit import Place
from federation.secagg.encoding import encoding_of
from federation.secagg.header import header_words
from federation.secagg.merkle import path_of
from federation.secagg.messages import Upload
from federation.secagg.parameters import MIN_MEMBERS, Quorums, Terms
from federation.secagg.summing import InMemory, Stored, leaves_of_update, root_of

INLINE_UPDATE: Final = 512 << 10
SMALL: Final = 64 << 10
"""bytes of an update that is kept in memory and in the database"""
AT_ONCE: Final = 256 << 10
"""updates up to this size are hashed without a thread"""
LANES: Final = min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
"""threads that hash an update, and that make a sum"""

Key = tuple[bytes, str]
"""(context, member)"""


@dataclass(frozen=True, slots=True)
class Counted:
    member: str
    message: Upload
    size: int


@dataclass(frozen=True, slots=True)
class Verdict:
    counted: tuple[Counted, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()
    """(member, why)"""


class Uploads:
    def __init__(
        self, job: bytes, terms: Terms, spool: Spool, kept: Mapping[Key, bytes], parameters: int | None
    ) -> None:
        self._job, self._terms, self._spool = job, terms, spool
        self._encoding = encoding_of(terms, MIN_MEMBERS, 1)
        """for the cut into chunks, which neither members nor weights change"""
        self._kept = dict(kept)
        self._unsaved: set[Key] = set()
        self._checking: set[Key] = set()
        self._counted: set[Key] = set()
        self._leaves: dict[Key, list[bytes]] = {}
        """hashes of the pieces of updates that are audited"""
        self._waiting: dict[Key, Counted] = {}
        """good uploads of the first round, until enough of them agree on a size"""
        self.parameters = parameters

    def recall(self, context: bytes, member: str) -> None:
        """A replayed event counted this update, and so had a layout."""
        key = (context, member)
        self._counted.add(key)
        size = len(self._kept.get(key, b"")) or self._spool.held(self._job, *key)
        if self.parameters is None and size:
            self.parameters = self._parameters_of(size, header_only=False)

    def taken(self, context: bytes, member: str) -> bool:
        """Whether this update is being hashed, or was found good: its bytes stand."""
        key = (context, member)
        return key in self._counted or key in self._checking or key in self._waiting

    async def check(self, member: str, message: Upload, inline: bytes, *, header_only: bool, members: int) -> Verdict:
        """What this upload lets the machine count. Raises ProtocolViolation, or NotFound when its bytes are not here."""
        key = (message.context, member)
        if self.taken(*key):
            return Verdict()
        if len(inline) > INLINE_UPDATE:
            raise ProtocolViolation("An update rides along that is too large for it.", check="inline-size")
        self._checking.add(key)
        try:
            size = len(inline) or self._spool.held(self._job, *key)
            parameters = self._parameters_of(size, header_only)
            if inline and len(inline) <= SMALL:
                root = root_of(InMemory(inline), self._terms, self._encoding)
            else:
                if inline:
                    self._spool.put(self._job, *key, inline)
                root = self._root(key) if size <= AT_ONCE else await asyncio.to_thread(self._root, key)
            if root != message.root:
                self._spool.drop(self._job, *key)
                raise ProtocolViolation("The update's bytes are not those that were signed.", check="update-root")
        finally:
            self._checking.discard(key)
        if inline and len(inline) <= SMALL:
            self._kept[key] = inline
            self._unsaved.add(key)
        good = Counted(member, message, size)
        if header_only or parameters == self.parameters:
            self._counted.add(key)
            return Verdict((good,))
        self._waiting[key] = good
        return self._agree(message.context, Quorums.of(max(MIN_MEMBERS, members)).f + 1)

    def save(self, change: Change) -> None:
        """With the events that count them."""
        for context, member in sorted(self._unsaved):
            change.put_update(self._job.hex(), context, member, self._kept[context, member])
        self._unsaved.clear()

    def forget(self, change: Change, context: bytes) -> None:
        """Nobody needs the updates of this attempt: in the store, with the event that says so."""
        self._unsaved = {key for key in self._unsaved if key[0] != context}
        if any(key[0] == context for key in self._kept):
            change.drop_updates(self._job.hex(), context)

    def discard(self, context: bytes) -> None:
        self._spool.discard(self._job, context)
        self._leaves = {key: leaves for key, leaves in self._leaves.items() if key[0] != context}
        self._kept = {key: data for key, data in self._kept.items() if key[0] != context}
        self._waiting = {key: good for key, good in self._waiting.items() if key[0] != context}
        self._counted = {key for key in self._counted if key[0] != context}

    @contextmanager
    def open(self, context: bytes, member: str) -> Iterator[Stored]:
        """A counted update. Raises NotFound."""
        kept = self._kept.get((context, member))
        if kept is not None:
            yield InMemory(kept)
            return
        with self._spool.open(self._job, context, member) as spooled:
            yield spooled

    def shown(self, context: bytes, member: str, leaf: int) -> tuple[bytes, tuple[bytes, ...]]:
        """One piece of a counted update, and its path to the root. Raises NotFound, or ProtocolViolation for no such piece.

        For a thread: the first call for an update hashes it.
        """
        key = (context, member)
        with self.open(context, member) as update:
            place = Place.of(leaf, update.size, self._terms, self._encoding)
            if key not in self._leaves:
                self._leaves[key] = list(leaves_of_update(update, self._terms, self._encoding, LANES))
            data = bytearray(place.end - place.start)
            update.read(place.start, memoryview(data))
            return bytes(data), path_of(self._leaves[key], leaf)

    def _agree(self, context: bytes, enough: int) -> Verdict:
        held = {key: good for key, good in self._waiting.items() if key[0] == context}
        size, backers = Counter(good.size for good in held.values()).most_common(1)[0]
        if backers < enough:
            return Verdict()
        self.parameters = self._parameters_of(size, header_only=False)
        agreed = {key: good for key, good in held.items() if good.size == size}
        self._waiting = {}
        self._counted |= agreed.keys()
        others = tuple(
            (good.member, "its update has another size than the other members'")
            for key, good in held.items()
            if key not in agreed
        )
        return Verdict(tuple(agreed.values()), others)

    def _parameters_of(self, size: int, header_only: bool) -> int:
        """How many parameters an update of ``size`` bytes holds. Raises ProtocolViolation when it fits no layout."""
        if size == 0:
            raise NotFound("The update is not here.", hint="Put it, then say Upload again.")
        width = self._terms.ring_bits // 8
        body = size - 8 * header_words(self._terms)
        parameters = body // width
        known = 0 if header_only else self.parameters
        if body < 0 or body % width or (known is not None and parameters != known):
            raise ProtocolViolation("The update has another size than the other members'.", check="update-size")
        return parameters

    def _root(self, key: Key) -> bytes:
        self._spool.settle(self._job, *key)
        with self._spool.open(self._job, *key) as update:
            return root_of(update, self._terms, self._encoding, LANES)
