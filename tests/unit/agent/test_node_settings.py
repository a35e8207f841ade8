"""node.yaml: whoever made a mistake in it is told the file, the field, what is wrong with it, and what to do."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.errors import FederationError, InvalidUsage, NotFound
from federation.privacy.budget import Budget
from node_agent.catalogue.commands import data_add
from node_agent.enrolment import check_credential
from node_agent.link.channel import Credentials
from node_agent.service import serve
from node_agent.settings import SETTINGS_LIMIT, DataSet, Home, NodeSettings, parse_settings, settings_bytes
from tests.unit.agent.homes import Site, joined_by_hand

GOOD = {"member": "fr", "node": "fr-1", "federation": "health"}
SET = {"path": "/data", "examples": 10}
NAME = "A name has up to 63 lower-case letters"

WRONG: dict[str, tuple[object, str, str]] = {
    "no member": ({"node": "a", "federation": "b"}, "member", "Field required"),
    "capitals": ({**GOOD, "member": "FR"}, "member", NAME),
    "no text": ({**GOOD, "node": 7}, "node", "valid string"),
    "path as a name": ({**GOOD, "node": "../x"}, "node", NAME),
    "newline": ({**GOOD, "federation": "health\n"}, "federation", NAME),
    "unknown": ({**GOOD, "adress": "x:1"}, "adress", "Extra inputs are not permitted"),
    "a list": ({**GOOD, "dataSets": []}, "dataSets", "valid dictionary"),
    "no path": ({**GOOD, "dataSets": {"scans": {"examples": 1}}}, "dataSets.scans.path", "Field required"),
    "empty path": ({**GOOD, "dataSets": {"scans": {**SET, "path": ""}}}, "dataSets.scans.path", "at least 1 char"),
    "no examples": ({**GOOD, "dataSets": {"scans": {**SET, "examples": 0}}}, "dataSets.scans.examples", "greater than"),
    "too many": ({**GOOD, "dataSets": {"scans": {**SET, "examples": 2**41}}}, "dataSets.scans.examples", "less than"),
    "half an example": ({**GOOD, "dataSets": {"scans": {**SET, "examples": 1.5}}}, "scans.examples", "valid integer"),
    "tags as text": ({**GOOD, "dataSets": {"scans": {**SET, "tags": "x"}}}, "dataSets.scans.tags", "valid tuple"),
    "unknown in a set": ({**GOOD, "dataSets": {"scans": {**SET, "lable": 1}}}, "dataSets.scans.lable", "not permitted"),
    "a truth value": ({**GOOD, "leaseSeconds": True}, "leaseSeconds", "valid number"),
    "digits in quotes": ({**GOOD, "dataSets": {"scans": {**SET, "examples": "10"}}}, "scans.examples", "valid integer"),
    "no address": ({**GOOD, "metrics": "127.0.0.1:http"}, "metrics", "is not an address"),
    "no such port": ({**GOOD, "metrics": "127.0.0.1:65536"}, "metrics", "ports go to 65535"),
    "name of a set": ({**GOOD, "dataSets": {"My Scans": SET}}, "dataSets.My Scans", NAME),
}


@pytest.mark.parametrize("what", WRONG)
def test_an_error_names_the_file_the_field_and_the_problem(what: str) -> None:
    document, field, problem = WRONG[what]
    with pytest.raises(InvalidUsage) as said:
        parse_settings(yaml.safe_dump(document).encode(), "/lab/node.yaml")
    assert said.value.message.startswith("/lab/node.yaml: ")
    assert f"{field}: " in said.value.message
    assert problem in said.value.message
    assert "\n" not in said.value.message
    assert said.value.hint == "Correct this field; others were not read."


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("member: [", "node.yaml, line 1 is not YAML"),
        ("member: fr\n\tnode: x", "node.yaml, line 2 is not YAML"),
        ("member: !!python/object:os.system {}", "node.yaml, line 1 is not YAML"),
        ("member: 2027-99-99", "node.yaml: node: Field required"),
        ("[" * 600, "node.yaml, line 1 is not YAML"),
        ("", "node.yaml holds no settings"),
        ("- member", "node.yaml holds no settings"),
    ],
    ids=lambda text: str(text)[:20],
)
def test_what_holds_no_settings_is_said_in_a_sentence(text: str, words: str) -> None:
    with pytest.raises(InvalidUsage) as said:
        parse_settings(text.encode(), "node.yaml")
    assert words in said.value.message
    assert said.value.hint


YAMLS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ["member", "node", "federation", "address", "metrics", "dataSets", "scratch", "other"]


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60) | st.dictionaries(st.sampled_from(FIELDS), YAMLS).map(lambda d: yaml.dump(d).encode()))
def test_any_bytes_are_settings_or_wrong_usage(data: bytes) -> None:
    with contextlib.suppress(InvalidUsage):
        assert parse_settings(data, "node.yaml").member


NAMES = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,10}[a-z0-9])?", fullmatch=True)
SETS = st.builds(
    DataSet,
    path=st.text(min_size=1, max_size=20),
    examples=st.integers(1, 1 << 40),
    tags=st.lists(st.text()).map(tuple),
)


@settings(max_examples=40, deadline=None)
@given(NAMES, NAMES, NAMES, st.text(max_size=20), st.dictionaries(NAMES, SETS, max_size=3), st.none() | st.text())
def test_settings_that_are_saved_are_read_back(
    member: str, node: str, federation: str, address: str, sets: dict[str, DataSet], scratch: str | None
) -> None:
    saved = NodeSettings(
        member=member, node=node, federation=federation, address=address, data_sets=sets, scratch=scratch
    )
    assert parse_settings(settings_bytes(saved), "node.yaml") == saved


def test_a_file_that_is_missing_or_too_large_is_said_so(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with pytest.raises(NotFound) as missing:
        home.settings()
    assert str(home.settings_file) in missing.value.message
    assert "concord-node init" in missing.value.hint
    home.settings_file.write_bytes(b" " * (SETTINGS_LIMIT + 1))
    with pytest.raises(InvalidUsage, match=f"larger than {SETTINGS_LIMIT} bytes") as large:
        home.settings()
    assert "Put back" in large.value.hint
    home.settings_file.write_bytes(b"#" * SETTINGS_LIMIT)
    assert len(home.read(home.settings_file)) == SETTINGS_LIMIT


@pytest.mark.parametrize(
    ("put", "words"),
    [
        (lambda path: path.mkdir(), "cannot be read: Is a directory"),
        (os.mkfifo, "is not a file"),
        (lambda path: path.symlink_to("/dev/zero"), "is not a file"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    ],
    ids=["folder", "pipe", "device", "loop"],
)
def test_what_is_no_file_is_not_read(tmp_path: Path, put: Callable[[Path], object], words: str) -> None:
    put(tmp_path / "node.yaml")
    with pytest.raises(InvalidUsage, match=words) as said:
        Home(tmp_path).settings()
    assert said.value.hint


def test_the_home_is_the_same_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert Home(Path("lab")).root == tmp_path / "lab"
    assert Home(Path("~/lab")).root == tmp_path / "me" / "lab"
    assert list(tmp_path.iterdir()) == []


def test_saving_is_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Home(tmp_path).save(NodeSettings(**GOOD))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "node.yaml").stat().st_mode) == 0o600


# ----------------------------------------------------------------------------------------------------------------- data sets


def test_a_data_set_is_added_and_replaced_by_name(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.root.mkdir()
    data = tmp_path / "data"
    data.mkdir()
    home.save(NodeSettings(**GOOD, address="c.example.org:7443"))
    data_add("scans", home.root, data, 100, ["mri", "adults"])
    data_add("blood", home.root, data, 7, None)
    data_add("scans", home.root, data, 200, None)
    kept = home.settings()
    assert {name: (held.examples, held.tags) for name, held in kept.data_sets.items()} == {
        "scans": (200, ()),
        "blood": (7, ()),
    }
    assert kept.address == "c.example.org:7443"


def test_a_budget_is_kept_when_its_data_set_is_told_again_and_changed_when_it_is_told_anew(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.root.mkdir()
    data = tmp_path / "labs" / "data"
    (data / "part").mkdir(parents=True)
    home.save(NodeSettings(**GOOD))
    data_add("scans", home.root, data, 100, None, 8.0, 1e-6, "member")
    data_add("scans", home.root, data, 200, None)
    held = home.settings().data_sets["scans"]
    assert (held.examples, held.budget) == (200, Budget(8.0, 1e-6, "member"))
    data_add("scans", home.root, data, 200, None, 2.0, 1e-6, "record")
    assert home.settings().data_sets["scans"].budget == Budget(2.0, 1e-6, "record")
    with pytest.raises(InvalidUsage, match="holds files of scans, which has a privacy budget"):
        data_add("again", home.root, data, 200, None)
    (tmp_path / "link").symlink_to(data)
    for other in (tmp_path / "link", data / "part", tmp_path / "labs"):
        with pytest.raises(InvalidUsage, match="scans, which has a privacy budget"):
            data_add("again", home.root, other, 200, None, 8.0, 1e-6, "member")
    with pytest.raises(InvalidUsage, match="an epsilon, a delta and a unit"):
        data_add("scans", home.root, data, 200, None, 3.0)
    for epsilon, delta, unit in ((0.0, 1e-6, "member"), (1.0, 0.5, "member"), (1.0, 1e-6, "row")):
        with pytest.raises(InvalidUsage, match=r"dataSets\.scans\.privacyBudget"):
            data_add("scans", home.root, data, 200, None, epsilon, delta, unit)
    assert home.settings().data_sets["scans"].budget == Budget(2.0, 1e-6, "record")


@pytest.mark.parametrize(
    ("name", "examples", "words"),
    [
        ("My Scans", 1, f"dataSets.My Scans: {NAME}"),
        ("scans", 1 << 41, "dataSets.scans.examples: Input should be less"),
    ],
)
def test_a_data_set_that_would_not_be_read_back_is_not_added(
    tmp_path: Path, name: str, examples: int, words: str
) -> None:
    home = Home(tmp_path)
    home.save(NodeSettings(**GOOD))
    before = home.settings_file.read_bytes()
    with pytest.raises(InvalidUsage) as said:
        data_add(name, tmp_path, tmp_path, examples, None)
    assert words in said.value.message
    with pytest.raises(InvalidUsage, match="does not exist"):
        data_add("scans", tmp_path, tmp_path / "none", 1, None)
    assert home.settings_file.read_bytes() == before


@pytest.mark.parametrize("name", ["CONCORD_NODE_METRICS", "concord_node_lease", "CONCORD_NODE_HOMES"])
def test_a_variable_that_no_node_reads_is_refused_at_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    home = Home(tmp_path)
    home.save(NodeSettings(**GOOD, address="127.0.0.1:1"))
    monkeypatch.setenv("CONCORD_NODE_HOME", str(tmp_path))
    monkeypatch.setenv(name, "a secret")
    with pytest.raises(InvalidUsage, match=f"{name} is no setting of a node") as said:
        serve(home)
    assert "a secret" not in str(said.value) + said.value.hint
    assert "node.yaml" in said.value.hint


@pytest.mark.parametrize("key", ["identity_key", "transport_key", "catalogue_key"])
def test_a_key_that_others_can_read_is_refused_at_start(tmp_path: Path, key: str) -> None:
    site = Site(tmp_path)
    joined_by_hand(site)
    home = site.home
    home.save(home.settings().model_copy(update={"address": "127.0.0.1:1"}))
    path: Path = getattr(home, key)
    path.touch()
    path.chmod(0o640)
    with pytest.raises(InvalidUsage, match="can be read by others") as said:
        serve(home)
    assert f"chmod 600 {path}" in said.value.hint


# ------------------------------------------------------------------------------------------------------------------- secrets


def test_nothing_that_holds_a_key_shows_it(tmp_path: Path) -> None:
    site = Site(tmp_path)
    joined_by_hand(site)
    home = site.home
    keys = [line for path in (home.identity_key, home.transport_key) for line in path.read_text().splitlines()[1:-1]]
    certificate, key = home.transport_certificate.read_bytes(), home.transport_key.read_bytes()
    held = [home, home.settings(), Credentials("health", home.ca.read_bytes(), certificate, key)]
    home.identity_key.write_bytes(home.transport_key.read_bytes())
    with pytest.raises(FederationError) as said:
        check_credential(home, home.credential.read_bytes(), site.parties.roll, home.settings())
    for thing in (*held, said.value):
        for shown in (repr(thing), str(thing)):
            assert not [line for line in keys if line in shown]
            assert "PRIVATE KEY" not in shown
