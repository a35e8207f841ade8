"""Scenes in which a lab's process is killed at each step that it makes, and what is found on its disk after each death."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from node_agent.store.files import write_together, write_whole
from node_agent.store.journal import Journal
from tests.unit.agent.killed import KILLED, each_kill, tree

JOB = bytes(range(32))

# --------------------------------------------------------------------------------------------------------------------- files

OLD = {"first": b"old 1", "second": b"old 2", "third": b"old 3"}
NEW = {"first": b"new 1", "second": b"new 2" * 10_000, "third": b""}


def one_file(folder: Path) -> None:
    """Old or new, and both happen; what is left staged is private."""
    os.umask(0)
    path, found = folder / "key", []
    write_whole(path, b"old")
    for _ in each_kill(lambda _: write_whole(path, b"new" * 1000)):
        found.append(path.read_bytes())
        assert {stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()} == {0o600}
        write_whole(path, b"old")
    assert path.read_bytes() == b"new" * 1000
    assert len(found) >= 3
    assert set(found) == {b"old", b"new" * 1000}


def several_files(folder: Path) -> None:
    """They take their names in the order given, and only when all are on disk."""
    seen = set()
    write_together({folder / name: data for name, data in OLD.items()})
    for _ in each_kill(lambda _: write_together({folder / name: data for name, data in NEW.items()})):
        now = tree(folder)
        fresh = [name for name in NEW if now[name] == NEW[name]]
        assert fresh == list(NEW)[: len(fresh)]
        assert all(now[name] == OLD[name] for name in NEW if name not in fresh)
        seen.add(len(fresh))
        write_together({folder / name: data for name, data in OLD.items()})
    assert seen == {0, 1, 2, 3}
    assert tree(folder) == NEW


# ------------------------------------------------------------------------------------------------------------------- journal

LARGE = 6 << 20
"""more than SQLite keeps in memory, so that the file is changed before the transaction ends"""


class Deadly(Mapping[str, "bytes | None"]):
    """Votes whose writer is killed after the last but one."""

    votes = ("state", "large", "last")

    def __getitem__(self, key: str) -> bytes:
        if key == "last":
            os._exit(KILLED)
        return b"x" * LARGE if key == "large" else b"new"

    def __iter__(self) -> Iterator[str]:
        return iter(self.votes)

    def __len__(self) -> int:
        return len(self.votes)


def torn_journal(folder: Path) -> None:
    """Leaves journal.db in the middle of a call: its file is changed and not yet as it was."""
    path = folder / "journal.db"
    with Journal(path) as journal:
        journal.remember(JOB, {"state": b"old"})
    child = os.fork()
    if child == 0:
        Journal(path).remember(JOB, Deadly())
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == KILLED
    assert path.with_name("journal.db-journal").stat().st_size > 0, "the transaction had not reached the file"
