"""What a data set held at consent is kept with the job; by it alone a node says that data have only grown since."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from node_agent.catalogue.inventories import FILE, Inventories
from node_agent.store.data_version import DataVersions

JOB = bytes(range(32))


class Case:
    def __init__(self, path: Path) -> None:
        self.place = path / "data"
        self.place.mkdir()
        (self.place / "a.csv").write_text("1,2\n")
        (self.place / os.fsdecode(b"\xff.csv")).write_text("3,4\n")
        self.job = path / "job"
        self.job.mkdir()
        self.inventories = self.started()
        self.consented = self.seal(DataVersions().of(self.place))
        self.inventories.keep(JOB, {"hearts": self.place})

    @staticmethod
    def seal(version: bytes) -> bytes:
        return version[::-1]

    def started(self) -> Inventories:
        """By a new process."""
        return Inventories(lambda _job: self.job, DataVersions(), self.seal)

    def grew(self, name: str = "hearts") -> bool:
        return self.started().grew(JOB, name, self.place, self.consented)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_rows_and_files_may_come_and_none_may_go_or_change(case: Case) -> None:
    assert case.grew()
    (case.place / "a.csv").write_text("1,2\n5,6\n")
    (case.place / "b.csv").write_text("7,8\n")
    assert case.grew()
    (case.place / "a.csv").write_text("1,3\n5,6\n")
    assert not case.grew()


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"hearts": 7}', b"[" * 5000, b'{"hearts": {"version": "zz"}}'])
def test_what_was_kept_and_is_damaged_or_gone_allows_nothing(case: Case, damage: bytes) -> None:
    (case.place / "b.csv").write_text("7,8\n")
    (case.job / FILE).write_bytes(damage)
    assert not case.grew()
    (case.job / FILE).unlink()
    assert not case.grew()


def test_an_inventory_of_other_data_than_were_consented_to_is_none(case: Case) -> None:
    assert not case.grew("lungs")
    (case.place / "a.csv").write_text("9,9\n")
    case.started().keep(JOB, {"hearts": case.place})
    assert not case.grew()
