"""The version of a data set that leaves a lab: new when the data are new, the lab's own, and no way to try guesses."""

from __future__ import annotations

import hashlib
import hmac
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from federation.errors import InvalidUsage, PolicyDenied
from node_agent.catalogue.versions import sealed_versions
from node_agent.settings import DataSet, Home
from node_agent.store.data_version import DataVersions, only_grew


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    path.write_bytes(b"age\n63\n41\n")
    return path


def held(path: Path) -> DataSet:
    return DataSet(path=str(path), examples=2)


def test_a_version_is_of_the_content_and_the_same_after_a_restart(tmp_path: Path, table: Path) -> None:
    home = Home(tmp_path / "home")
    first = sealed_versions(home).version_of(held(table))
    assert len(first) == 32
    assert sealed_versions(home).version_of(held(table)) == first
    shutil.copy(table, tmp_path / "copy.csv")
    assert sealed_versions(home).version_of(held(tmp_path / "copy.csv")) == first
    table.write_bytes(b"age\n63\n42\n")
    assert sealed_versions(home).version_of(held(table)) != first
    assert stat.S_IMODE(home.catalogue_key.stat().st_mode) == 0o600


def test_a_version_is_what_the_page_says(tmp_path: Path, table: Path) -> None:
    """HMAC over the label and the digest of the content, each framed: docs/protocol/catalogue.md."""
    home = Home(tmp_path / "home")
    found = sealed_versions(home).version_of(held(table))
    label, content = b"concord/data-set-version/v1", DataVersions().of(table)
    message = b"L" + len(label).to_bytes(8, "big") + label + b"B" + (32).to_bytes(8, "big") + content
    assert found == hmac.digest(home.catalogue_key.read_bytes(), message, "sha256")


def test_who_guesses_the_data_cannot_confirm_the_guess(tmp_path: Path, table: Path) -> None:
    """Two labs with the same rows publish unlike versions, and neither is a digest that a stranger could compute."""
    versions = {sealed_versions(Home(tmp_path / lab)).version_of(held(table)) for lab in ("one", "two")}
    assert len(versions) == 2
    assert not versions & {DataVersions().of(table), hashlib.sha256(table.read_bytes()).digest()}
    assert sealed_versions(Home(tmp_path / "one")).key.hex() not in repr(sealed_versions(Home(tmp_path / "one")))


def test_data_that_cannot_be_read_have_no_version(tmp_path: Path) -> None:
    with pytest.raises(PolicyDenied, match="cannot be read") as said:
        sealed_versions(Home(tmp_path / "home")).version_of(held(tmp_path / "gone"))
    assert str(tmp_path) not in str(said.value)


@pytest.mark.parametrize("damage", [b"", b"short", bytes(33)], ids=["empty", "short", "long"])
def test_a_damaged_key_is_no_key(tmp_path: Path, damage: bytes) -> None:
    home = Home(tmp_path / "home")
    sealed_versions(home)
    home.catalogue_key.write_bytes(damage)
    with pytest.raises(InvalidUsage):
        sealed_versions(home)


GREW: dict[str, tuple[Callable[[Path], object], bool]] = {
    "nothing": (lambda _place: None, True),
    "rows at the end": (lambda place: (place / "a.csv").write_text("1,2\n3,4\n"), True),
    "a file more": (lambda place: (place / "c.csv").write_text("9\n"), True),
    "rows where there were none": (lambda place: (place / "empty.csv").write_text("9\n"), True),
    "a row changed": (lambda place: (place / "a.csv").write_text("1,3\n"), False),
    "a row changed, and more": (lambda place: (place / "a.csv").write_text("1,3\n3,4\n"), False),
    "a row less": (lambda place: (place / "a.csv").write_text(""), False),
    "a file less": (lambda place: (place / "a.csv").unlink(), False),
    "another name": (lambda place: (place / "a.csv").rename(place / "z.csv"), False),
    "the last line goes on": (lambda place: (place / "open.csv").write_text("123"), False),
}


@pytest.mark.parametrize(("change", "grew"), GREW.values(), ids=GREW)
@pytest.mark.parametrize("limit", [1 << 20, 0], ids=["by content", "by names"])
def test_growing_is_to_keep_all_that_was_there(
    tmp_path: Path, change: Callable[[Path], object], grew: bool, limit: int
) -> None:
    for name, text in (("a.csv", "1,2\n"), ("b.csv", "5,6\n"), ("open.csv", "12"), ("empty.csv", "")):
        (tmp_path / name).write_text(text)
    versions = DataVersions(limit)
    before = versions.inventory(tmp_path)
    change(tmp_path)
    now = versions.inventory(tmp_path)
    told = grew if limit else grew and change in (GREW["nothing"][0], GREW["a file more"][0])
    assert only_grew(before, now, tmp_path) is told, "what was not read is not known to have grown only"


def test_a_single_file_grows_too(table: Path) -> None:
    versions = DataVersions()
    before = versions.inventory(table)
    table.write_bytes(table.read_bytes() + b"50\n")
    assert only_grew(before, versions.inventory(table), table)
    table.write_bytes(b"age\n64\n41\n50\n")
    assert not only_grew(before, versions.inventory(table), table)
