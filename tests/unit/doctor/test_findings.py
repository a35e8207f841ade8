"""What a doctor says of facts: each thing that can be wrong is called wrong, with what to do."""

from datetime import UTC, datetime, timedelta

import pytest

from coordinator.registry.authority import Authority
from federation.errors import InvalidUsage
from federation.findings import Finding, any_wrong, certificate, clock, disk, found, letter, private, versions
from federation.route import route_to

NOW = datetime(2026, 5, 1, tzinfo=UTC)
GIB = 1 << 30


def issued(begins: datetime, lifetime: timedelta) -> bytes:
    return Authority.create("atlas", begins).server("localhost", begins, lifetime)[0]


@pytest.mark.parametrize(
    ("begins", "hours", "state", "words"),
    [
        (NOW, 24, "ok", "Good until 2026-05-02"),
        (NOW - timedelta(hours=23), 24, "note", "ends soon"),
        (NOW - timedelta(hours=25), 24, "wrong", "ended on"),
        (NOW + timedelta(hours=2), 24, "wrong", "good from"),
    ],
)
def test_certificates(begins: datetime, hours: int, state: str, words: str) -> None:
    said = certificate("certificates", issued(begins, timedelta(hours=hours)), NOW, "Join anew.")
    assert (said.state, words in said.says, bool(said.todo)) == (state, True, state != "ok"), said
    assert certificate("certificates", b"no", NOW, "Join anew.").state == "wrong"


@pytest.mark.parametrize(
    ("kept", "stamp", "state"),
    [
        (True, None, "ok"),
        (None, None, "ok"),
        (False, None, "note"),
        (True, 20.0, "ok"),
        (True, 90.0, "wrong"),
        (None, -1e6, "ok"),
    ],
)
def test_clocks(kept: bool | None, stamp: float | None, state: str) -> None:
    now = NOW.timestamp()
    said = clock(kept, None if stamp is None else now + stamp, now)
    assert (said.state, bool(said.todo)) == (state, state != "ok")


@pytest.mark.parametrize(("free", "state"), [(10 * GIB, "ok"), (2 * GIB, "note"), (GIB // 8, "wrong")])
def test_disks(free: int, state: str) -> None:
    assert disk("/srv", free, 20 * GIB, 4 * GIB).state == state


def test_versions_out_of_range_and_packages_that_are_missing() -> None:
    needed = ["a>=2,<3", "b", 'c>=1; python_version < "3"', 'd; extra == "x"', "not a requirement ["]
    assert versions("1", "3.11", needed, {"a": "2.5", "b": "1"}).state == "ok"
    said = versions("1", "3.11", needed, {"a": "3.0", "b": None})
    assert said.state == "wrong"
    assert "a 3.0 (needs <3,>=2)" in said.says
    assert "b is missing" in said.says


def test_files_that_others_can_read_or_that_are_gone() -> None:
    assert private("keys", {"/k": 0o100600}).state == "ok"
    for mode, words in ((0o100640, "read by others"), (0o100604, "read by others"), (None, "is missing")):
        said = private("keys", {"/ok": 0o100400, "/k": mode})
        assert (said.state, words in said.says, bool(said.todo)) == ("wrong", True, True)


def test_what_cannot_be_looked_at_is_wrong() -> None:
    def refuses() -> str:
        raise InvalidUsage("It is so.", hint="Do that.")

    def fails() -> str:
        raise PermissionError(13, "Permission denied", "/etc/x")

    assert found("a", refuses) == Finding("a", "wrong", "It is so.", "Do that.")
    assert "/etc/x: Permission denied" in found("b", fails).says
    assert any_wrong([found("c", lambda: "well"), found("a", refuses)])
    assert not any_wrong([found("c", lambda: "well"), Finding("d", "note", "")])


def test_the_letter_shows_no_credentials() -> None:
    route = route_to("concord.example.org:7443", {"https_proxy": "http://me:hunter2@proxy.lab:3128"})
    text = letter("atlas", route)
    assert "hunter2" not in text
    assert "me:" not in text
    assert "through the HTTP proxy proxy.lab:3128, by CONNECT to concord.example.org:7443" in text
    assert "straight" in letter("atlas", route_to("concord.example.org:7443", {}))
