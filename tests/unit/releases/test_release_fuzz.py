"""Every byte of what is signed, and every way to spoil a folder: nothing passes, and nothing crashes."""

import base64
import json
import os
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from federation.catalogue.entry import Entry
from federation.errors import FederationError
from federation.identity.consent import BY_RULE, Binding, Outputs
from federation.identity.envelope import canonical
from federation.identity.keys import SigningKey
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
    seal_listing,
)
from federation.releases.statement import seal_statement
from federation.releases.verify import verify, verify_folder
from tests.unit.identity.parties import CREATED
from tests.unit.releases.released import VOTED, Files, Training, founded, relisted, trained, whole


@cache
def _released() -> Files:
    """With a file of every kind: a vote, and a consent that was taken back after the last round."""
    with TemporaryDirectory() as folder:
        world = trained(charter=VOTED)
        consents = {name: world.consent(name) for name in world.names} | {"m3": described(world, "m3")}
        revocations = {"m3": world.revocation("m3", consents["m3"])}
        decision = world.decided("m1", "m2")
        return whole(world.release(Path(folder), decision=decision, consents=consents, revocations=revocations))


def described(world: Training, name: str) -> bytes:
    """A consent as nodes give it: it binds a version, and describes it."""
    binds = Binding((("digits", bytes(32)),), bytes(32), world.parties.roll.digest, (), Outputs("sum", "", ()), b"")
    entry = Entry(name="digits", title="Scans of digits", size=128, version=bytes(32).hex())
    return world.consent(name, binds=binds, given=BY_RULE, described=(entry.canonical,))


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
        for place in {0, len(files[path]) - 1, *draw.sample(range(len(files[path])), 6)}:
            altered = bytearray(files[path])
            altered[place] ^= 1 << draw.randrange(8)
            assert failed(relisted(files | {path: bytes(altered)})), (path, place)


def places_of(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every field of a document, and the first and last item of every list."""
    yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places_of(inner, (*path, name))
    elif isinstance(value, list) and value:
        for number in sorted({0, len(value) - 1}):
            yield from places_of(value[number], (*path, number))


def alterations(document: Any, path: tuple[str | int, ...]) -> Iterator[Any]:
    """The document with another value there; where it holds others, also with all of it gone."""
    for changed in (True, False):
        copy = json.loads(json.dumps(document))
        *way, last = path
        holder = copy
        for name in way:
            holder = holder[name]
        if not changed and not isinstance(holder[last], list | dict):
            continue
        if changed:
            holder[last] = other(holder[last])
        else:
            del holder[last]
        yield copy


def other(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return 1 if value is None else not value
    if isinstance(value, str):
        return value[:-1] + ("1" if value.endswith("0") else "0") if value else "0"
    if isinstance(value, list | dict):
        return {**value, "more": 0} if isinstance(value, dict) else [*value, value[0] if value else "0"]
    return value + 1


def kind_of(path: tuple[str | int, ...]) -> tuple[str, ...]:
    return tuple("*" if isinstance(each, int) else each for each in path)


def test_every_field_of_every_document_counts_whoever_signs_list_and_statement_anew() -> None:
    """In canonical JSON again, so that it is the value which counts. One place of each kind: rounds are alike, consents too."""
    files, tried, seen = released(), 0, set()
    for name in sorted(set(files) - {LISTING, STATEMENT}):
        try:
            document = json.loads(files[name])
        except ValueError:
            continue
        kinds = {kind_of(path): path for path in places_of(document) if path}
        new = {kind: path for kind, path in kinds.items() if (name.partition("/")[0], kind) not in seen}
        seen |= {(name.partition("/")[0], kind) for kind in new}
        for path in new.values():
            for altered in alterations(document, path):
                tried += 1
                assert failed(relisted(files | {name: canonical(altered)})), (name, path)
    assert tried > 200


def test_every_field_of_the_statement_counts_whoever_signs_it() -> None:
    files, key = released(), SigningKey.generate()
    said = json.loads(base64.b64decode(json.loads(files[STATEMENT])["payload"]))
    rest = {path: data for path, data in files.items() if path not in (LISTING, STATEMENT)}
    assert not failed(sealed_by(rest, canonical(said), key)), "whoever signs it"
    for path in {kind_of(path): path for path in places_of(said) if path}.values():
        for altered in alterations(said, path):
            assert "statement" in failed(sealed_by(rest, canonical(altered), key)), path


def sealed_by(rest: Files, statement: bytes, key: SigningKey) -> Files:
    whole_release = rest | {STATEMENT: seal_statement(statement, key)}
    return whole_release | {LISTING: seal_listing(whole_release, CREATED, key)}


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
