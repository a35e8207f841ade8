"""`concord verify`: good releases pass, offline and with any home or none; every altered one fails, by name, with exit code 6."""

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.errors import InvalidIdentity, InvalidUsage, NotFound, VerificationFailed
from federation.releases.listing import seal_listing
from tests.unit.client.typed import Said, concord, done, refused, told_of, tree, typed
from tests.unit.releases.released import RELEASE_KEY, trained, whole


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good release on disk, and the roll that its members signed beside it. Tests copy it."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "scratch").mkdir()
    for path, content in whole(trained().release(folder / "scratch")).items():
        target = folder / "release" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    (folder / "roll.json").write_bytes(trained().parties.roll.envelope)
    return folder


@pytest.fixture
def release(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "release", tmp_path / "release")
    return tmp_path / "release"


def failed_checks(answer: Said) -> list[str]:
    """It failed as a verification does, and these checks say so."""
    told_of(answer, VerificationFailed, "does not check", "Do not use it")
    return [line.split()[1] for line in answer.out.splitlines() if line.startswith("FAILED")]


# --------------------------------------------------------------------------------------------------------------------- good


def test_a_good_release_passes_and_says_where_trust_begins(release: Path, made: Path) -> None:
    answer = done(concord("verify", release))
    assert answer.err == f"{release}: 19 checks ok, beginning at the roll in the folder\n"
    assert "No roll of yours was given" in answer.out
    known = done(concord("verify", release, "--roll", made / "roll.json"))
    assert known.err == f"{release}: 19 checks ok\n"
    assert "is the one you trust" in known.out
    heading, *rows = known.out.splitlines()
    assert heading.split() == ["RESULT", "CHECK", "DETAIL"]
    assert len(rows) == 19
    assert all(row.startswith("ok ") and row[heading.index("DETAIL") - 1] == " " for row in rows)


def test_verifying_changes_nothing(release: Path) -> None:
    before = tree(release)
    done(concord("verify", release))
    assert tree(release) == before


def test_the_checks_are_the_same_facts_in_every_form(release: Path) -> None:
    def facts(*more: str) -> Said:
        return concord("verify", release, *more)

    document = json.loads(done(facts("-o", "json")).out)
    assert yaml.safe_load(done(facts("-o", "yaml")).out) == document
    assert document["verified"] is True
    shown = done(facts()).out
    for check in document["checks"]:
        assert any(line.split(None, 2) == ["ok", check["check"], check["detail"]] for line in shown.splitlines())
    (release / "README.md").write_text("better")
    told = told_of(facts("-o", "json"), VerificationFailed)
    document = json.loads(told.out)
    assert document["verified"] is False
    assert {check["check"] for check in document["checks"] if not check["ok"]} == {
        "files",
        "model",
        "card",
        "bom",
        "statement",
    }


# ------------------------------------------------------------------------------------------------------------------ altered


def first_signature_altered(path: Path) -> None:
    document = json.loads(path.read_bytes())
    signature = bytearray(base64.b64decode(document["signatures"][0]["sig"]))
    signature[5] ^= 4
    document["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    path.write_text(json.dumps(document, separators=(",", ":"), sort_keys=True))


def swapped(folder: Path) -> None:
    first, second = (folder / "consents" / f"{name}.json" for name in ("m1", "m2"))
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)


ALTERATIONS: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "a byte of the model": (lambda folder: flip(folder / "model.safetensors", -1), {"files", "model"}),
    "a byte of the state": (lambda folder: flip(folder / "state.safetensors", -1), {"files", "state"}),
    "the card": (lambda folder: (folder / "README.md").write_text("# Better"), {"files", "card"}),
    "the figures": (lambda folder: flip(folder / "config.json", 40), {"files", "config"}),
    "a signature on the roll": (lambda folder: first_signature_altered(folder / "roll.json"), {"files", "roll"}),
    "a signature on the manifest": (
        lambda folder: first_signature_altered(folder / "manifest.json"),
        {"files", "manifest"},
    ),
    "a signature on the listing": (lambda folder: first_signature_altered(folder / "listing.json"), {"listing"}),
    "a consent": (lambda folder: first_signature_altered(folder / "consents" / "m1.json"), {"files", "consents"}),
    "two consents swapped": (swapped, {"files", "consents"}),
    "the task": (lambda folder: flip(folder / "task.tar", 600), {"files", "task"}),
    "a round removed": (lambda folder: (folder / "rounds" / "2.json").unlink(), {"files", "rounds"}),
    "a file added": (lambda folder: (folder / "notes.txt").write_text("x"), {"files"}),
    "a hidden file added": (lambda folder: (folder / ".notes").write_text("x"), {"files"}),
}


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("how", ALTERATIONS)
def test_an_altered_release_fails_by_name(release: Path, made: Path, how: str) -> None:
    alter, named = ALTERATIONS[how]
    alter(release)
    assert named <= set(failed_checks(concord("verify", release, "--roll", made / "roll.json")))


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_whatever_byte_is_altered_it_fails(made: Path, data: st.DataObject) -> None:
    files = tree(made / "release")
    name = data.draw(st.sampled_from(sorted(files)))
    place = data.draw(st.integers(0, len(files[name]) - 1))
    path = made / "release" / name
    altered = bytearray(files[name])
    altered[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(altered)
    try:
        assert failed_checks(concord("verify", made / "release"))
    finally:
        path.write_bytes(files[name])


def test_a_link_and_a_folder_too_many_fail(release: Path, tmp_path: Path) -> None:
    shutil.move(release / "model.safetensors", tmp_path / "model.safetensors")
    (release / "model.safetensors").symlink_to(tmp_path / "model.safetensors")
    assert failed_checks(concord("verify", release)) == ["folder"]
    (release / "model.safetensors").unlink()
    shutil.move(tmp_path / "model.safetensors", release / "model.safetensors")
    done(concord("verify", release))
    (release / "more").mkdir()
    assert failed_checks(concord("verify", release)) == ["folder"]


def test_a_name_that_would_rewrite_the_screen_is_shown_harmless(release: Path) -> None:
    (release / "x\x1b[2J\u202e.txt").write_text("x")
    answer = concord("verify", release)
    assert "files" in failed_checks(answer)
    assert all(letter == "\n" or letter.isprintable() for letter in answer.out + answer.err)


def test_a_release_of_other_members_fails_against_the_readers_roll(release: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_bytes(trained("atlas").parties.roll.envelope)
    assert "roll" in failed_checks(concord("verify", release, "--roll", other))


def test_the_release_key_alone_makes_no_release(release: Path, made: Path) -> None:
    """A coordinator that lists and signs what it likes: the files are whole, and the members' signatures are not there."""
    files = {name: data for name, data in tree(release).items() if name != "listing.json"}
    files["model.safetensors"] = files["model.safetensors"][:-1] + b"\x7f"
    (release / "model.safetensors").write_bytes(files["model.safetensors"])
    (release / "listing.json").write_bytes(seal_listing(files, "2026-01-31T12:00:00Z", RELEASE_KEY))
    assert failed_checks(concord("verify", release, "--roll", made / "roll.json")) == ["model", "bom", "statement"]


# ---------------------------------------------------------------------------------------------------------------- wrong usage


def test_what_is_no_release(tmp_path: Path, release: Path) -> None:
    refused(concord("verify", tmp_path / "none"), NotFound, "does not exist", "concord release fetch")
    refused(concord("verify", release / "README.md"), InvalidUsage, "is not the folder of a release")
    (tmp_path / "empty").mkdir()
    refused(concord("verify", tmp_path / "empty"), InvalidUsage, "there is no listing.json in it")


def test_a_release_without_its_listing_is_a_release_that_fails(release: Path) -> None:
    (release / "listing.json").unlink()
    assert "listing" in failed_checks(concord("verify", release))


def test_a_roll_that_is_none_is_the_readers_error(release: Path, tmp_path: Path) -> None:
    refused(concord("verify", release, "--roll", tmp_path / "none.json"), NotFound, "The roll", "does not exist")
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    refused(concord("verify", release, "--roll", broken), InvalidIdentity, str(broken))


# ---------------------------------------------------------------------------------------------------- the installed command


def test_the_installed_command_verifies(release: Path, tmp_path: Path) -> None:
    answer = done(typed("concord", "verify", "release", folder=tmp_path))
    assert answer.err == "release: 19 checks ok, beginning at the roll in the folder\n"
    flip(release / "model.safetensors", -1)
    answer = typed("concord", "verify", "release", folder=tmp_path)
    assert answer.code == 6
    assert {"files", "model"} <= set(failed_checks(answer))
