"""Every byte of what is signed, and every way to spoil a folder: nothing passes, and nothing crashes."""

import os
import random
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from federation.errors import FederationError
from federation.identity.roll import Roll
from federation.manifest.manifest import open_manifest
from federation.releases.listing import (
    APPROVAL,
    BOM,
    CARD,
    KEYS,
    LISTING,
    MANIFEST,
    MODEL,
    ROLL,
    ROSTER,
    SEALED,
    STATE,
    STATEMENT,
    open_listing,
)
from federation.releases.verify import verify, verify_folder
from tests.unit.releases.released import VOTED, Files, founded, relisted, trained, whole


@cache
def _released() -> Files:
    with TemporaryDirectory() as folder:
        world = trained(charter=VOTED)
        return whole(world.release(Path(folder), decision=world.decided("m1", "m2")))


def released() -> Files:
    return dict(_released())


def failed(files: Files) -> set[str]:
    return {check.name for check in verify(files).checks if not check.ok}


def written(folder: Path) -> Path:
    for path, data in released().items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


@pytest.mark.parametrize("path", [LISTING, MANIFEST, ROLL])
def test_every_single_byte_of_a_signed_document_counts(path: str) -> None:
    data, roll = released()[path], founded(charter=VOTED).roll
    opens = {LISTING: open_listing, ROLL: Roll.open, MANIFEST: lambda altered: open_manifest(altered, roll)}[path]
    opens(data)
    for place in range(len(data)):
        altered = bytearray(data)
        altered[place] ^= 1 << (place % 8)
        with pytest.raises(FederationError):
            opens(bytes(altered))


def test_bytes_of_every_file_count_whoever_signs_list_and_statement_anew() -> None:
    draw, files = random.Random(53), released()
    for path in sorted(set(files) - {LISTING, STATEMENT}):
        for place in {0, len(files[path]) - 1, *draw.sample(range(len(files[path])), 3)}:
            altered = bytearray(files[path])
            altered[place] ^= 1 << draw.randrange(8)
            assert failed(relisted(files | {path: bytes(altered)})), (path, place)


def test_a_file_removed_renamed_cut_emptied_or_grown() -> None:
    files = released()
    for path in sorted(files):
        rest = {name: data for name, data in files.items() if name != path}
        for spoilt in (
            rest,
            rest | {f"{path}.bak": files[path]},
            rest | {path: files[path][: len(files[path]) // 2]},
            rest | {path: b""},
            rest | {path: files[path] + b"\n"},
        ):
            assert failed(spoilt), path
            if path not in (LISTING, STATEMENT) and all(not name.endswith(".bak") for name in spoilt):
                assert failed(relisted(spoilt)), path


def test_files_in_each_others_place() -> None:
    files = released()
    for one, other in (
        ("consents/m1.json", "consents/m2.json"), ("rounds/1.json", "rounds/2.json"), (ROLL, ROSTER), (MODEL, STATE),
        (CARD, BOM), (LISTING, STATEMENT), (APPROVAL, MANIFEST),
    ):  # fmt: skip
        swapped = files | {one: files[other], other: files[one]}
        assert failed(swapped)
        if LISTING not in (one, other):
            assert failed(relisted(swapped)), (one, other)


@pytest.mark.parametrize("path", ["notes.txt", "rounds/4.json", "consents/m9.json", KEYS, SEALED, "approval.json.json"])
def test_a_file_more_than_a_release_holds(path: str) -> None:
    """Also where the list names it: a place where anybody could put words beside those that members signed."""
    files = released() | {path: b"{}"}
    assert failed(files)
    assert failed(relisted(files))


def test_a_vote_that_nobody_asked_for_is_checked_all_the_same() -> None:
    with TemporaryDirectory() as folder:
        files = whole(trained().release(Path(folder)))
    assert "approval" in failed(relisted(files | {APPROVAL: b"{}"}))


def test_links_devices_and_strange_folders(tmp_path: Path) -> None:
    folder = written(tmp_path / "release")
    assert verify_folder(folder).ok
    elsewhere = tmp_path / "model"
    (folder / MODEL).rename(elsewhere)
    (folder / MODEL).symlink_to(elsewhere)
    assert not verify_folder(folder).ok
    (folder / MODEL).unlink()
    os.mkfifo(folder / MODEL)
    assert not verify_folder(folder).ok, "and it does not wait for a writer"
    (folder / MODEL).unlink()
    elsewhere.rename(folder / MODEL)
    (folder / "rounds").rename(tmp_path / "rounds")
    (folder / "rounds").symlink_to(tmp_path / "rounds")
    assert not verify_folder(folder).ok
    (folder / "rounds").unlink()
    (tmp_path / "rounds").rename(folder / "rounds")
    assert verify_folder(folder).ok
    (folder / "log").mkdir()
    assert not verify_folder(folder).ok


def test_huge_files_are_refused_by_their_size(tmp_path: Path) -> None:
    """Sparse: they cost nobody a disk, and no time."""
    folder = written(tmp_path / "release")
    for path in (CARD, MODEL, LISTING, "rounds/1.json"):
        data = (folder / path).read_bytes()
        with (folder / path).open("r+b") as file:
            file.truncate(1 << 40)
        assert not verify_folder(folder).ok
        (folder / path).write_bytes(data)
    assert verify_folder(folder).ok
