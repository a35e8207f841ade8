"""The public log in the database: appended to inside the transaction of what it records, read tile by tile.

Appending touches the peaks of the tree, one new row, and once in 256 entries a tile; it never reads what was appended before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from coordinator.store import tables
from coordinator.store.upserts import put
from federation.audit import tiles
from federation.audit.entry import Entry
from federation.audit.tree import HASH_BYTES, Frontier, leaf_hash
from federation.errors import NotFound

HEADS_KEPT: Final = 512
_ENTRY: Final = sa.insert(tables.log_entries)
_TILE: Final = sa.insert(tables.log_tiles)
_STATE: Final = sa.select(tables.log_state.c.size, tables.log_state.c.peaks)
_RANGE: Final = (
    sa.select(tables.log_entries.c.entry)
    .where(tables.log_entries.c.number >= sa.bindparam("low"), tables.log_entries.c.number < sa.bindparam("high"))
    .order_by(tables.log_entries.c.number)
)
_ROOTS: Final = (
    sa.select(tables.log_tiles.c.root)
    .where(
        tables.log_tiles.c.level == sa.bindparam("at"),
        tables.log_tiles.c.number >= sa.bindparam("low"),
        tables.log_tiles.c.number < sa.bindparam("high"),
    )
    .order_by(tables.log_tiles.c.number)
)


@dataclass(frozen=True, slots=True)
class SignedHead:
    size: int
    root: bytes
    note: bytes
    """as the log signed it, without cosignatures"""


class LogRows:
    """The log within one transaction. ``settle`` before the transaction commits."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._state: Frontier | None = None
        self._appended = False
        self._read: dict[tuple[int, int], bytes] = {}
        """tiles that were read, at their widest"""

    def frontier(self) -> Frontier:
        if self._state is None:
            row = self._connection.execute(_STATE).one_or_none()
            self._state = Frontier() if row is None else Frontier.decode(row.size, row.peaks)
        return self._state

    def append(self, entry: Entry) -> int:
        """The entry's number."""
        data, before = entry.encode(), self.frontier()
        number = before.size
        self._connection.execute(_ENTRY, {"number": number, "entry": data, "document": entry.document})
        self._state, self._appended = before.append(leaf_hash(data)), True
        self._read.clear()
        self._finish_tiles(self._state.size)
        return number

    def settle(self) -> None:
        if self._appended and self._state is not None:
            values = {"size": self._state.size, "peaks": self._state.encode()}
            put(self._connection, tables.log_state, {"id": 1}, values)
            self._appended = False

    def _finish_tiles(self, size: int) -> None:
        """Writes the tiles that have become full."""
        level = 0
        while size % tiles.WIDTH == 0:
            size //= tiles.WIDTH
            hashes = self._hashes(level, size - 1, tiles.WIDTH)
            values = {"level": level, "number": size - 1, "hashes": hashes, "root": tiles.root_of_tile(hashes)}
            self._connection.execute(_TILE, values)
            level += 1

    # ---------------------------------------------------------------------------------------------------------- reading

    def tile(self, level: int, number: int, width: int) -> bytes:
        """The first ``width`` hashes of a tile. Raises NotFound when the log is not so long."""
        count = self.frontier().size >> (8 * level)
        if not 0 < width <= tiles.WIDTH or number * tiles.WIDTH + width > count:
            raise NotFound("The log has no such tile.", hint="Ask for those of its newest head.")
        full = (number + 1) * tiles.WIDTH <= count
        return self._full(level, number)[: HASH_BYTES * width] if full else self._hashes(level, number, width)

    def entries(self, number: int, width: int) -> bytes:
        """An entry bundle: the first ``width`` entries of level-0 tile ``number``. Raises NotFound."""
        start = number * tiles.WIDTH
        if not 0 < width <= tiles.WIDTH or start + width > self.frontier().size:
            raise NotFound("The log has no such entries.", hint="Ask for those of its newest head.")
        return tiles.encode_bundle(self._entries(start, start + width))

    def entry(self, number: int) -> bytes:
        """Raises NotFound."""
        for data in self._entries(number, number + 1):
            return data
        raise NotFound(f"The log has no entry {number}.")

    def run(self, low: int, high: int) -> tuple[bytes, ...]:
        """All entries from ``low`` up to ``high``. Raises NotFound when the log is not so long."""
        if not 0 <= low <= high <= self.frontier().size:
            raise NotFound(f"The log has no entries {low} to {high}.")
        return tuple(self._entries(low, high))

    def numbers_of(self, document: bytes, below: int) -> tuple[int, ...]:
        """The entries about a document, oldest first."""
        table = tables.log_entries
        query = sa.select(table.c.number).where(table.c.document == document, table.c.number < below)
        return tuple(self._connection.execute(query.order_by(table.c.number)).scalars())

    def node(self, height: int, place: int) -> bytes:
        """For ``federation.audit.tree``: the root of a complete subtree."""
        return tiles.node_in(self._tile_once, height, place)

    def _tile_once(self, level: int, number: int, width: int) -> bytes:
        read = self._read.get((level, number))
        if read is None:
            widest = tiles.width_at(self.frontier().size, level, number)
            read = self._read[level, number] = self.tile(level, number, max(widest, width))
        return read[: width * HASH_BYTES]

    def _full(self, level: int, number: int) -> bytes:
        table = tables.log_tiles
        query = sa.select(table.c.hashes).where(table.c.level == level, table.c.number == number)
        return bytes(self._connection.execute(query).scalar_one())

    def _hashes(self, level: int, number: int, width: int) -> bytes:
        """Of a tile that is not written: made from what is below it, at most 256 rows."""
        start = number * tiles.WIDTH
        if level == 0:
            return b"".join(leaf_hash(entry) for entry in self._entries(start, start + width))
        rows = self._connection.execute(_ROOTS, {"at": level - 1, "low": start, "high": start + width})
        return b"".join(rows.scalars())

    def _entries(self, low: int, high: int) -> Iterable[bytes]:
        return self._connection.execute(_RANGE, {"low": low, "high": high}).scalars()

    # ------------------------------------------------------------------------------------------------------------ heads

    def put_head(self, head: SignedHead) -> None:
        """Keeps a head that is to be shown; old ones go, with their cosignatures."""
        put(self._connection, tables.log_heads, {"size": head.size}, {"root": head.root, "note": head.note})
        sizes = sa.select(tables.log_heads.c.size).order_by(tables.log_heads.c.size.desc())
        oldest = self._connection.execute(sizes.offset(HEADS_KEPT).limit(1)).scalar()
        if oldest is not None:
            for table in (tables.log_heads, tables.log_cosignatures):
                self._connection.execute(sa.delete(table).where(table.c.size <= oldest))

    def head(self, size: int) -> SignedHead | None:
        """The head that was shown at this size, if it is kept still."""
        table = tables.log_heads
        row = self._connection.execute(sa.select(table).where(table.c.size == size)).one_or_none()
        return None if row is None else SignedHead(row.size, row.root, row.note)

    def heads(self) -> tuple[SignedHead, ...]:
        """Every head that is kept, the smallest first."""
        rows = self._connection.execute(sa.select(tables.log_heads).order_by(tables.log_heads.c.size))
        return tuple(SignedHead(row.size, row.root, row.note) for row in rows)

    def shown(self) -> bool:
        """Whether any head was ever signed."""
        return self._connection.execute(sa.select(tables.log_heads.c.size).limit(1)).first() is not None

    def cosigned_size(self, above: int) -> int | None:
        """The newest head that holds entry ``above`` and has a cosignature."""
        table = tables.log_cosignatures
        query = sa.select(sa.func.max(table.c.size)).where(table.c.size > above)
        size = self._connection.execute(query).scalar()
        return None if size is None else int(size)

    def cosigned_sizes(self, at_least: int) -> tuple[int, ...]:
        """Of heads that somebody has cosigned, the smallest first."""
        sizes = tables.log_cosignatures.c.size
        query = sa.select(sizes).where(sizes >= at_least).distinct().order_by(sizes)
        return tuple(self._connection.execute(query).scalars())

    def put_cosignature(self, size: int, witness: str, line: bytes) -> None:
        put(self._connection, tables.log_cosignatures, {"size": size, "witness": witness}, {"line": line})

    def cosignatures(self, size: int) -> dict[str, bytes]:
        """Witness -> the signature line, of the head of this size."""
        table = tables.log_cosignatures
        rows = self._connection.execute(sa.select(table).where(table.c.size == size).order_by(table.c.witness))
        return {row.witness: row.line for row in rows}

    def newest_cosignatures(self) -> dict[str, tuple[int, bytes]]:
        """Witness -> (size, line) of the newest head that it has cosigned."""
        table = tables.log_cosignatures
        newest = (
            sa.select(table.c.witness, sa.func.max(table.c.size).label("size")).group_by(table.c.witness).subquery()
        )
        query = sa.select(table).join(
            newest, sa.and_(table.c.witness == newest.c.witness, table.c.size == newest.c.size)
        )
        return {row.witness: (row.size, row.line) for row in self._connection.execute(query)}
