"""A mirror serves verified releases, and none that was recalled."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from coordinator.client.mirror import Mirror
from federation.errors import InvalidUsage
from federation.releases.recall import encode_recall
from federation.releases.verify import verify
from tests.unit.releases.released import trained, whole


@contextmanager
def served(mirror: Mirror) -> Iterator[HTTPConnection]:
    with mirror.server(("127.0.0.1", 0), lambda _line: None) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
        finally:
            server.shutdown()
            thread.join()


def get(way: HTTPConnection, path: str) -> tuple[int, bytes]:
    way.request("GET", path)
    answer = way.getresponse()
    data = answer.read()
    way.close()
    return answer.status, data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path, data in whole(trained().release(tmp_path)).items():
        target = tmp_path / "releases" / "digits" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    (tmp_path / "recalls").mkdir()
    return tmp_path


def mirror_of(folder: Path) -> Mirror:
    mirror = Mirror(folder / "releases", folder / "recalls", trained().parties.roll.envelope)
    mirror.load()
    return mirror


def test_what_it_serves_verifies(folder: Path) -> None:
    with served(mirror_of(folder)) as way:
        listed = json.loads(get(way, "/")[1])["releases"]
        assert listed == [{"name": "digits", "release": trained().subject.hex(), "recalled": ""}]
        files = json.loads(get(way, "/digits")[1])["files"]
        assert verify({path: get(way, f"/digits/{path}")[1] for path in files}).ok


def test_it_serves_nothing_else(folder: Path) -> None:
    (folder / "secret").write_text("mine")
    with served(mirror_of(folder)) as way:
        for path in (
            "/digits/../../secret",
            "/digits/%2e%2e/%2e%2e/secret",
            "/..",
            "/digits/secret",
            "/other",
            "//secret",
        ):
            assert get(way, path)[0] == 404, path


def test_a_recall_that_arrives_ends_the_serving_at_once(folder: Path) -> None:
    world = trained()
    with served(mirror_of(folder)) as way:
        assert get(way, "/digits/README.md")[0] == 200
        recall = encode_recall(world.decided("m2", action="recall"), world.parties.roll)
        (folder / "recalls" / "digits.json").write_bytes(recall)
        status, said = get(way, "/digits/README.md")
        assert status == 410
        assert b"recalled on 2026-01-31 12:00 UTC by m2" in said
        (folder / "recalls" / "digits.json").write_bytes(b"{}")
        assert get(way, "/digits")[0] == 410, "a recall that cannot be read is no silence"


def test_a_folder_that_does_not_verify_is_not_served(folder: Path) -> None:
    (folder / "releases" / "digits" / "README.md").write_text("better")
    mirror = mirror_of(folder)
    assert mirror.releases == {}
    assert "files: README.md" in mirror.refused["digits"]
    with pytest.raises(InvalidUsage, match="no release in"):
        Mirror(folder / "recalls", None, trained().parties.roll.envelope).load()
