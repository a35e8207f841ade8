"""`doctor` over a running federation, and over homes in which one thing is wrong: it names it, says what to do, and exits 1."""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from unittest import mock

import pytest

from tests.e2e.commands import said
from tests.e2e.runs import Runs

TOPICS = {"clock", "certificates", "ports", "disk", "sandbox", "gpu", "versions", "database", "log"}


def asked(command: str, home: Path, code: int) -> dict[str, dict[str, str]]:
    """The findings by topic; every one that is not ok says what to do or is a note."""
    answer = said(command, "doctor", "--home", home, "--json")
    found = {each["topic"]: each for each in json.loads(answer.out)}
    wrong = [each for each in found.values() if each["state"] == "wrong"]
    assert answer.code == code, (answer.code, wrong, answer.err)
    assert all(each["says"] and each["todo"] for each in wrong)
    people = said(command, "doctor", "--home", home)
    assert people.code == code
    assert len([line for line in people.out.splitlines() if not line.startswith("       ")]) == len(found)
    return found


@pytest.fixture
def homes(three: Runs) -> dict[str, Path]:
    return {
        "concord-coordinator": three.local.coordinator.home,
        "concord-node": three.local.nodes["ar"].home,
        "concord": three.local.lead_home,
    }


@pytest.mark.parametrize("command", ["concord-coordinator", "concord-node", "concord"])
def test_nothing_is_wrong_with_a_running_federation(homes: dict[str, Path], command: str) -> None:
    before = {path: path.read_bytes() for path in homes[command].rglob("*.yaml")}
    found = asked(command, homes[command], 0)
    assert set(found) >= TOPICS
    assert {path: path.read_bytes() for path in homes[command].rglob("*.yaml")} == before
    for topic in ("certificates", "ports", "versions", "database", "log"):
        assert found[topic]["state"] == "ok", found[topic]
    assert "127.0.0.1" in found["coordinator" if command != "concord-coordinator" else "ports"]["says"]


def lines_in(path: Path, **changes: str) -> None:
    text = path.read_text() + "".join(f"{name}: {value}\n" for name, value in changes.items())
    path.write_text(text)


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096 : 2 * 4096] = os.urandom(4096)
    path.write_bytes(data)


def forget_the_newest(home: Path) -> None:
    """As a backup that is older than what nodes have seen."""
    with closing(sqlite3.connect(home / "coordinator.db")) as database:
        database.execute("update log_heads set size = size + 100000 where size = (select max(size) from log_heads)")
        database.commit()


def change_an_entry(home: Path, value: str = "cast(entry || ' ' as blob)") -> None:
    with closing(sqlite3.connect(home / "coordinator.db")) as database:
        database.execute(f"update log_entries set entry = {value} where number = 3")
        database.commit()


WRONG: list[tuple[str, str, str, Callable[[Path], object]]] = [
    ("concord-coordinator", "keys", "read by others", lambda home: (home / "keys" / "release.key").chmod(0o644)),
    ("concord-coordinator", "keys", "is missing", lambda home: (home / "keys" / "log.key").unlink()),
    ("concord-coordinator", "certificates", "no certificate", lambda home: (home / "ca.pem").write_text("x")),
    ("concord-coordinator", "settings", "unknown_setting", lambda home: lines_in(home / "coordinator.yaml", unknown_setting="1")),
    ("concord-coordinator", "database", "mysql", lambda home: lines_in(home / "coordinator.yaml", database="mysql://x/y")),
    ("concord-coordinator", "database", "", lambda home: damage(home / "coordinator.db")),
    ("concord-coordinator", "database", "are not those that it was signed over", change_an_entry),
    ("concord-coordinator", "database", "no coordinator wrote", lambda home: change_an_entry(home, "'a text'")),
    ("concord-coordinator", "log", "older copy", forget_the_newest),
    ("concord-node", "keys", "read by others", lambda home: (home / "keys" / "identity.key").chmod(0o640)),
    ("concord-node", "certificates", "no certificate", lambda home: (home / "transport.pem").write_text("x")),
    ("concord-node", "policy", "policy.yaml", lambda home: (home / "policy.yaml").write_text("rules: [")),
    ("concord-node", "settings", "unknownSetting", lambda home: lines_in(home / "node.yaml", unknownSetting="1")),
    ("concord-node", "credential", "", lambda home: (home / "credential.json").write_text("{}")),
    ("concord-node", "database", "", lambda home: damage(home / "journal.db")),
    ("concord", "keys", "read by others", lambda home: (home / "keys" / "identity.key").chmod(0o644)),
    ("concord", "certificates", "not logged in", lambda home: (home / "transport.pem").unlink()),
    ("concord", "home", "", lambda home: (home / "profile.json").write_text("[")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("command", "topic", "words", "change"), WRONG, ids=[f"{c}-{t}-{n}" for n, (c, t, *_) in enumerate(WRONG)]
)
def test_what_is_wrong_is_named(
    homes: dict[str, Path], tmp_path: Path, command: str, topic: str, words: str, change: Callable[[Path], object]
) -> None:
    home = tmp_path / "home"
    shutil.copytree(homes[command], home, ignore=shutil.ignore_patterns("*.sock", "run.json", "jobs", "spool", "blobs"))
    for leftover in home.glob("*.db"):
        with closing(sqlite3.connect(leftover)) as database:
            database.execute("pragma wal_checkpoint(truncate)")
    change(home)
    answer = said(command, "doctor", "--home", home, "--json")
    found = {each["topic"]: each for each in json.loads(answer.out)}
    assert answer.code == 1
    assert found[topic]["state"] == "wrong", found
    assert words in found[topic]["says"]
    assert found[topic]["todo"]


def test_a_way_that_cannot_work_is_wrong(homes: dict[str, Path], tmp_path: Path) -> None:
    for command in ("concord", "concord-node"):
        home = tmp_path / command
        shutil.copytree(homes[command], home, ignore=shutil.ignore_patterns("*.sock", "jobs"))
        name = "connection.json" if command == "concord" else "node.yaml"
        text = (home / name).read_text()
        address = three_address(text)
        (home / name).write_text(text.replace(address, "coordinator.invalid:7443"))
        with mock.patch.dict(os.environ, {"https_proxy": "http://a:hunter2@127.0.0.1:9"}):
            found = asked(command, home, 1)
        assert found["coordinator"]["state"] == "wrong"
        assert "127.0.0.1:9" in found["coordinator"]["says"] + found["coordinator"]["todo"]
        assert "hunter2" not in json.dumps(found)


def three_address(text: str) -> str:
    start = text.index("127.0.0.1:")
    end = start + len("127.0.0.1:")
    while end < len(text) and text[end].isdigit():
        end += 1
    return text[start:end]


def test_before_join_wants_a_ticket(homes: dict[str, Path], tmp_path: Path) -> None:
    answer = said("concord-node", "doctor", "--home", homes["concord-node"], "--before-join")
    assert answer.code == 2
    assert "go together" in answer.err
