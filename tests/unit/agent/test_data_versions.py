"""Which data a figure was computed on: other when the data are other, the same when only their files were touched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from node_agent.store.data_version import DataVersions


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "data"
    (place / "inner").mkdir(parents=True)
    (place / "a.csv").write_text("1,2\n")
    (place / "inner" / "b.csv").write_text("3,4\n")
    (place / os.fsdecode(b"\xff.bin")).write_bytes(b"\0")
    return place


CHANGES: dict[str, Callable[[Path], object]] = {
    "a row more": lambda place: (place / "a.csv").write_text("1,2\n5,6\n"),
    "another row of the same length": lambda place: (place / "inner" / "b.csv").write_text("3,5\n"),
    "a file more": lambda place: (place / "inner" / "c.csv").write_text(""),
    "a file less": lambda place: (place / "a.csv").unlink(),
    "another name": lambda place: (place / "a.csv").rename(place / "z.csv"),
    "two files changed places": lambda place: [
        (place / "a.csv").write_text("3,4\n"),
        (place / "inner" / "b.csv").write_text("1,2\n"),
    ],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("limit", [1 << 20, 0], ids=["by content", "by names"])
def test_other_data_are_another_version(folder: Path, change: Callable[[Path], object], limit: int) -> None:
    versions = DataVersions(limit)
    before = versions.of(folder)
    change(folder)
    assert versions.of(folder) != before
    assert versions.of(folder) == DataVersions(limit).of(folder)


def test_files_that_were_touched_or_copied_hold_the_same_data(folder: Path, tmp_path: Path) -> None:
    versions = DataVersions()
    before = versions.of(folder)
    os.utime(folder / "a.csv", (1, 1))
    assert versions.of(folder) == before
    shutil.copytree(folder, tmp_path / "copy")
    assert versions.of(tmp_path / "copy") == before, "also under another name of the node's"


def test_what_is_too_large_to_read_is_known_by_names_sizes_and_times(folder: Path, tmp_path: Path) -> None:
    versions = DataVersions(limit=0)
    before = versions.of(folder)
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copy2)
    assert versions.of(tmp_path / "copy") == before
    os.utime(folder / "a.csv", (1, 1))
    assert versions.of(folder) != before
    assert before != DataVersions().of(tmp_path / "copy")


def test_files_are_read_once_while_they_stay(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions, opened = DataVersions(), []
    real = Path.open

    def counting(path: Path, *arguments: object, **words: object) -> object:
        opened.append(path.name)
        return real(path, *arguments, **words)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", counting)
    versions.of(folder)
    versions.of(folder)
    assert len(opened) == 3
    (folder / "a.csv").write_text("changed")
    opened.clear()
    versions.of(folder)
    assert "a.csv" in opened


def test_a_single_file_and_a_missing_one(tmp_path: Path) -> None:
    path = tmp_path / "scans.npz"
    path.write_bytes(b"scans")
    first = DataVersions().of(path)
    path.write_bytes(b"scanz")
    assert DataVersions().of(path) != first
    with pytest.raises(OSError, match="missing"):
        DataVersions().of(tmp_path / "missing")
