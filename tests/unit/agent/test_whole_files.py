"""The lab's files are whole or absent, whatever happens in the middle, and private from the first byte."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node_agent.store import files
from node_agent.store.files import private_folder, write_together, write_whole
from tests.unit.agent import deaths
from tests.unit.agent.deaths import NEW, OLD
from tests.unit.agent.killed import alone


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def _no_help_from_the_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize("scene", [deaths.one_file, deaths.several_files], ids=lambda scene: scene.__name__)
def test_a_kill_at_any_step_leaves_old_files_or_new_ones(tmp_path: Path, scene: Callable[[Path], None]) -> None:
    alone(scene, tmp_path)


def test_an_error_in_the_middle_leaves_the_old_files_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_together({tmp_path / name: data for name, data in OLD.items()})
    with pytest.raises(FileNotFoundError):
        write_together({tmp_path / "first": b"x", tmp_path / "none" / "second": b"y"})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == OLD

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_together({tmp_path / name: data for name, data in NEW.items()})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == OLD


def test_every_byte_is_synced_before_its_name_and_the_folder_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story: list[str] = []
    sync, replace = os.fsync, Path.replace

    def noted_sync(descriptor: int) -> None:
        held = os.fstat(descriptor)
        story.append("folder" if stat.S_ISDIR(held.st_mode) else f"sync {held.st_size}")
        sync(descriptor)

    def noted_replace(self: Path, target: Path) -> Path:
        story.append(f"name {Path(target).name}")
        return replace(self, target)

    monkeypatch.setattr(files.os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    write_together({tmp_path / "first": b"1", tmp_path / "second": b"22"})
    assert story == ["sync 1", "sync 2", "name first", "name second", "folder"]


def test_files_are_private_unless_asked_otherwise(tmp_path: Path) -> None:
    write_whole(tmp_path / "key", b"secret")
    write_whole(tmp_path / "request", b"public", mode=0o644)
    assert mode(tmp_path / "key") == 0o600
    assert mode(tmp_path / "request") == 0o644
    (tmp_path / "key").chmod(0o666)
    write_whole(tmp_path / "key", b"another")
    assert mode(tmp_path / "key") == 0o600


def test_a_link_in_its_place_is_replaced_not_followed(tmp_path: Path) -> None:
    """Who can put a link there must not choose what is overwritten."""
    (tmp_path / "other").write_bytes(b"somebody's")
    (tmp_path / "key").symlink_to(tmp_path / "other")
    write_whole(tmp_path / "key", b"secret")
    assert (tmp_path / "other").read_bytes() == b"somebody's"
    assert not (tmp_path / "key").is_symlink()


def test_a_private_folder_is_closed_even_if_it_was_open(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o777)
    for folder in (tmp_path / "open", tmp_path / "new" / "deeper"):
        assert private_folder(folder) == folder
        assert mode(folder) == 0o700


@settings(max_examples=20, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.binary(max_size=100), min_size=1), min_size=1, max_size=4))
def test_a_reader_finds_what_was_written_last(
    tmp_path_factory: pytest.TempPathFactory, writes: list[dict[str, bytes]]
) -> None:
    folder = tmp_path_factory.mktemp("files")
    expected: dict[str, bytes] = {}
    for write in writes:
        write_together({folder / name: data for name, data in write.items()})
        expected |= write
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == expected
