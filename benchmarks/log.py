"""What the public log costs the coordinator: time in each transaction, bytes on disk, and how long a stranger takes to check it.

    python -m benchmarks.log

The peer is the same transaction without the entry: it writes the document and its row, as a coordinator without a public log
would. The two take turns, one entry a transaction, each in a database of its own, on the disk of the temporary folder. Medians, of
the processor's time and (`with_disk_ms`) of the clock, which waits for the disk. The stranger computes every hash again from the
files, and compares every tile.
"""

from __future__ import annotations

import hashlib
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from benchmarks.reading import Reading
from coordinator.audit.book import LogBook
from coordinator.store import database as rows
from coordinator.store.database import Database
from federation.audit.verify import verify_log
from federation.identity.keys import SigningKey
from federation.identity.roll import Roll

JOB: Final = "ab" * 32
DOCUMENT: Final = bytes(1000)
ENTRIES: Final = 2000
GOAL_MILLISECONDS: Final = 0.5
"""of the processor's time, that an entry may add to its transaction"""
GOAL_BYTES: Final = 1024
"""on disk for each entry, beside its document"""


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        paths = {logged: Path(folder) / f"{'with' if logged else 'without'}.db" for logged in (True, False)}
        databases = {logged: Database(path) for logged, path in paths.items()}
        spent: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
        for number in range(ENTRIES):
            for logged in (True, False):
                spent[logged].append(_one(databases[logged], number, logged=logged))
        sizes = {logged: _bytes(databases[logged]) for logged in databases}
        checked = _checked(databases[True])
        for each in databases.values():
            each.close()
    ours, peer = (1000 * statistics.median(worked for worked, _ in spent[logged]) for logged in (True, False))
    with_disk = [1000 * statistics.median(waited for _, waited in spent[logged]) for logged in (True, False)]
    each_bytes = (sizes[True] - sizes[False]) / ENTRIES
    reading = Reading(
        "log-append",
        ours,
        peer,
        "ms of the processor a transaction",
        f"<= {GOAL_MILLISECONDS} ms and {GOAL_BYTES} bytes more",
        ours - peer <= GOAL_MILLISECONDS and each_bytes <= GOAL_BYTES,
        {
            "entries": ENTRIES,
            "more_ms": round(ours - peer, 4),
            "with_disk_ms": [round(each, 3) for each in with_disk],
            "bytes_per_entry": round(each_bytes),
            "verified_entries_per_second": round(ENTRIES / checked),
        },
    )
    print(reading.line(), flush=True)
    return 0 if reading.holds else 1


def _one(database: Database, number: int, *, logged: bool) -> tuple[float, float]:
    """Seconds of the processor, and of the clock."""
    document = number.to_bytes(8, "big") + DOCUMENT
    worked, began = time.thread_time(), time.perf_counter()
    with database.transaction() as change:
        if logged:
            change.audit(number, "roster", f"{JOB} {number}", document)
        else:
            values = {
                "time": number,
                "kind": "roster",
                "subject": f"{JOB} {number}",
                "digest": hashlib.sha256(document).digest(),
                "payload": document,
            }
            change._connection.execute(rows._AUDIT, values)
    return time.thread_time() - worked, time.perf_counter() - began


def _bytes(database: Database) -> int:
    with database.transaction() as change:
        pragmas = (
            change._connection.execute(sa.text(f"pragma {name}")).scalar_one() for name in ("page_count", "page_size")
        )
        pages, size = pragmas
    return int(pages) * int(size)


def _checked(database: Database) -> float:
    """Seconds of a stranger, over the files as the coordinator serves them."""

    def no_roll() -> Roll:
        raise AssertionError("Nobody cosigns here.")

    book = LogBook(database, "benchmark", SigningKey.generate(), no_roll, time.time, 5.0)

    def fetch(path: str, _limit: int) -> bytes:
        return book.note() if path == "checkpoint" else book.part(path)

    began = time.perf_counter()
    assert verify_log(fetch, book.key).head.size == ENTRIES
    return time.perf_counter() - began


if __name__ == "__main__":
    raise SystemExit(main())
