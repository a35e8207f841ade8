"""A coordinator does not start on settings that are unknown, contradictory or dangerous: a sentence, a hint, and nothing made."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from coordinator import doctor
from coordinator.doctor import examine
from coordinator.main import app
from coordinator.service import check_settings
from coordinator.settings import Home
from examples.local_federation import run_command
from federation.errors import FederationError, InvalidUsage
from federation.exposure import collide
from tests.unit.agent.homes import federation_of

GOOD = "federation: atlas\nlisten: 127.0.0.1:0\nmetrics: ''\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("homes") / "coordinator"
    run_command(app, "init", "--home", home, "--federation", "atlas", "--listen", "127.0.0.1:0", "--metrics", "")
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Home:
    shutil.copytree(made, tmp_path / "home")
    return Home(tmp_path / "home")


def refused(home: Home) -> FederationError:
    """By `run`, which has made nothing then; and the doctor says it in the same words."""
    before = sorted(home.root.rglob("*"))
    with pytest.raises(InvalidUsage) as said:
        check_settings(home, home.load())
    assert said.value.hint
    assert "\n" not in said.value.message
    with pytest.raises(InvalidUsage):
        run_command(app, "run", "--home", home.root)
    assert sorted(home.root.rglob("*")) == before
    assert any(each.state == "wrong" and each.says == said.value.message and each.todo for each in examine(home))
    return said.value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD + "listen: 127.0.0.1:1\n", "listen stands twice"),
        (GOOD + "LISTEN: 127.0.0.1:1\n", "LISTEN: there is no such setting"),
        (GOOD + "tls: {certificate: x}\n", "tls: there is no such setting"),
        ("a: &a [1]\nb: [*a, *a]\n" + GOOD, "anchors and aliases"),
        (GOOD + "#" + "x" * (1 << 20), "larger than 1048576 bytes"),
        ("\ufeff" + GOOD, "hidden character U+FEFF"),
        (GOOD + "certificate_hours: true\n", "certificate_hours: it is not a number"),
        (GOOD + "max_update_bytes: '1000'\n", "max_update_bytes: it is not a number"),
        (GOOD + "max_update_bytes: 1 GiB\n", "max_update_bytes: it is not a number"),
        (GOOD.replace("127.0.0.1:0", "127.0.0.1"), "listen: '127.0.0.1' is not an address"),
        (GOOD.replace("127.0.0.1:0", "''"), "listen: '' is not an address"),
        (GOOD.replace("127.0.0.1:0", "unix:/tmp/x"), "listen: 'unix:/tmp/x' is not an address"),
        (GOOD.replace("127.0.0.1:0", "127.0.0.1:65536"), "ports go to 65535"),
        (GOOD.replace("127.0.0.1:0", "'::1:7443'"), "is not an address"),
        (GOOD.replace("metrics: ''", "metrics: 127.0.0.1:http"), "metrics: '127.0.0.1:http' is not an address"),
        ("federation: atlas\nlisten: 0.0.0.0:7443\nmetrics: 127.0.0.1:7443\n", "two things cannot listen"),
        (GOOD.replace("atlas", "other"), "this home's transport authority is of another"),
        (GOOD.replace("metrics: ''", "metrics: 0.0.0.0:9464"), "without TLS"),
        (GOOD + "metrics_key: web.key\n", "only one is set"),
        (GOOD + "database: postgresql://a@db.example.org/c\n", "does not ask for TLS"),
        (GOOD + "database_password_file: /dev/null\n", "no database to use it for"),
    ],
)  # fmt: skip
def test_a_file_of_settings_that_cannot_be_meant(home: Home, text: str, words: str) -> None:
    home.settings.write_text(text)
    assert words in refused(home).message


def test_windows_line_ends_and_links_are_no_mistake(home: Home, tmp_path: Path) -> None:
    """A Kubernetes volume shows each of its files as a link."""
    (tmp_path / "mounted.yaml").write_bytes(GOOD.replace("\n", "\r\n").encode())
    home.settings.unlink()
    home.settings.symlink_to(tmp_path / "mounted.yaml")
    assert check_settings(home, home.load()) is None


def _socket(path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as made:
        made.bind(str(path))


@pytest.mark.parametrize(
    ("put", "words"),
    [
        (lambda path: path.mkdir(), "cannot be read: Is a directory"),
        (os.mkfifo, "is not a file"),
        (lambda path: path.symlink_to("/dev/zero"), "is not a file"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
        (lambda path: path.symlink_to(path.with_name("gone")), "is not a coordinator's home"),
        (lambda path: path.write_bytes(b"# \xff\n"), "it is not UTF-8 text"),
        (lambda path: path.write_bytes(GOOD.encode("utf-16")), "it is not UTF-8 text"),
        (_socket, "cannot be read"),
    ],
    ids=["folder", "pipe", "device", "loop", "dangling", "bytes", "utf-16", "socket"],
)
def test_what_stands_in_place_of_the_file(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, put: Callable[[Path], object], words: str
) -> None:
    home = Home(tmp_path / "home")
    shutil.copytree(made, home.root)
    home.settings.unlink()
    monkeypatch.chdir(home.root)  # a socket's path is short
    put(Path(home.settings.name) if put is _socket else home.settings)
    assert words in refused(home).message


def test_an_authority_that_is_not_this_homes(home: Home, tmp_path: Path) -> None:
    other = tmp_path / "other"
    run_command(app, "init", "--home", other, "--federation", "atlas", "--listen", "127.0.0.1:0", "--metrics", "")
    shutil.copy(other / "ca.pem", home.ca_certificate)
    assert "do not belong together" in refused(home).message
    home.ca_certificate.write_text("nothing")
    with pytest.raises(InvalidUsage, match="certificate cannot be read"):
        check_settings(home, home.load())
    home.ca_certificate.unlink()
    with pytest.raises(InvalidUsage, match=r"ca\.pem cannot be read: No such file"):
        check_settings(home, home.load())


def test_a_database_that_hangs_does_not_hold_up_the_doctor(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = threading.Event()
    monkeypatch.setattr(doctor, "PATIENCE", 0.1)
    monkeypatch.setattr(doctor, "look", lambda _place: hangs.wait())
    (found,) = [each for each in examine(home) if each.topic == "database"]
    hangs.set()
    assert (found.state, found.says) == ("wrong", "It did not answer within 0.1 s.")
    assert found.todo


@pytest.mark.parametrize(
    ("one", "other", "so"),
    [
        ("127.0.0.1:1", "127.0.0.1:1", True),
        ("localhost:1", "127.0.0.1:1", True),
        ("[::]:1", "10.0.0.1:1", True),
        ("10.0.0.1:1", "127.0.0.1:1", False),
        ("127.0.0.1:1", "127.0.0.1:2", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
        ("concord.example.org:1", "127.0.0.1:1", False),
    ],
)
def test_which_addresses_collide(one: str, other: str, so: bool) -> None:
    assert collide(one, other) is collide(other, one) is so


def test_a_database_of_another_federation(home: Home, tmp_path: Path) -> None:
    """Put back, or named, by mistake: its members' state is not served under this home's keys."""
    other = tmp_path / "other"
    run_command(app, "init", "--home", other, "--federation", "health", "--listen", "127.0.0.1:0", "--metrics", "")
    (tmp_path / "roll.json").write_bytes(federation_of().roll.envelope)
    run_command(app, "found", "--home", other, "--roll", tmp_path / "roll.json")
    for path in other.glob("coordinator.db*"):
        shutil.copy(path, home.root)
    words = "The database holds the state of the federation health, and this home is of atlas."
    for command in (
        ("run",),
        ("ticket", "--lead", "ana", "--address", "127.0.0.1:1", "--out", tmp_path / "ticket.json"),
    ):
        with pytest.raises(InvalidUsage) as said:
            run_command(app, *command, "--home", home.root)
        assert said.value.message == words
    assert not (tmp_path / "ticket.json").exists()
    assert [(each.state, each.says) for each in examine(home) if each.topic == "database"] == [("wrong", words)]
