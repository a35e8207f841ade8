"""Moving bundles and releases: continued where they stopped, believed by their digests, verified before they get their name."""

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.client import release_folder, transfer
from coordinator.client.home import Home
from coordinator.client.sdk import Federation
from coordinator.client.transfer import Transfer
from federation.errors import (
    FederationError,
    InvalidUsage,
    NotFound,
    ProtocolViolation,
    Unavailable,
    VerificationFailed,
)
from federation.route import Route
from federation.v1 import blobs_pb2, jobs_pb2
from tests.unit.client.scripted import Coordinator
from tests.unit.client.typed import Said, concord, done, refused, tree, typed
from tests.unit.releases.released import trained, whole


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two attempts nobody waits."""
    monkeypatch.setattr(transfer.Transfer.__init__, "__defaults__", (lambda _seconds: None,))


@pytest.fixture
def release(tmp_path: Path) -> dict[str, bytes]:
    (tmp_path / "made").mkdir()
    return whole(trained().release(tmp_path / "made"))


@pytest.fixture
def publishing(server: Coordinator, home: Home, release: dict[str, bytes]) -> Coordinator:
    """The release of another federation, whose roll this home has come to trust."""
    home.roll_path.write_bytes(trained().parties.roll.envelope)
    server.release = sorted(release.items())
    return server


def fetched(home: Home, folder: Path) -> Said:
    return concord("release", "fetch", "digits", "--out", folder, "--home", home.path)


# ----------------------------------------------------------------------------------------------------------------- releases


def test_a_release_is_fetched_whole(
    publishing: Coordinator, home: Home, release: dict[str, bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "deep" / "release"
    assert done(fetched(home, folder)).out == f"{folder}: 19 checks ok\n"
    assert tree(folder) == release
    assert not folder.with_name("release.part").exists()


def test_an_empty_folder_may_be_there(
    publishing: Coordinator, home: Home, release: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "release").mkdir()
    done(fetched(home, tmp_path / "release"))
    assert tree(tmp_path / "release") == release


@pytest.mark.parametrize("there", ["a file", "a full folder", "a link"])
def test_nothing_is_overwritten(publishing: Coordinator, home: Home, tmp_path: Path, there: str) -> None:
    folder = tmp_path / "release"
    if there == "a file":
        folder.write_text("mine")
    elif there == "a link":
        (tmp_path / "elsewhere").mkdir()
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        folder.mkdir()
        (folder / "mine").write_text("mine")
    before = tree(tmp_path)
    refused(fetched(home, folder), InvalidUsage, "is there already", "--out")
    assert (tree(tmp_path), publishing.calls) == (before, [])


def test_a_job_without_a_release(server: Coordinator, home: Home, tmp_path: Path) -> None:
    refused(fetched(home, tmp_path / "release"), NotFound, "has no release", "is it finished?")
    assert list(tmp_path.glob("release*")) == []


def test_what_an_earlier_attempt_left_is_used_and_what_it_spoilt_is_fetched_again(
    publishing: Coordinator, home: Home, release: dict[str, bytes], tmp_path: Path
) -> None:
    part = tmp_path / "release.part"
    part.mkdir()
    (part / "config.json").write_bytes(release["config.json"])
    (part / "README.md").write_bytes(b"x" * len(release["README.md"]))
    (part / "task.tar").write_bytes(release["task.tar"] + b"more")
    answer = fetched(home, tmp_path / "release")
    refused(answer, VerificationFailed, "has another digest", "Fetch it again")
    done(fetched(home, tmp_path / "release"))
    assert tree(tmp_path / "release") == release


ALTERED: dict[str, Any] = {
    "a byte of the model": lambda files: {**files, "model.safetensors": files["model.safetensors"][:-1] + b"\xff"},
    "a file more": lambda files: {**files, "notes.txt": b"hello"},
    "a file less": lambda files: {path: data for path, data in files.items() if path != "consents/m2.json"},
    "another card": lambda files: {**files, "README.md": b"# Better\n"},
    "nothing but a card": lambda files: {"README.md": files["README.md"]},
}


@pytest.mark.parametrize("how", ALTERED)
def test_an_altered_release_does_not_get_its_name(
    publishing: Coordinator, home: Home, release: dict[str, bytes], tmp_path: Path, how: str
) -> None:
    """The coordinator gives the digests of what it sends: they are good, and what counts is what the members signed."""
    publishing.release = sorted(ALTERED[how](release).items())
    refused(fetched(home, tmp_path / "release"), _kind(how), "release")
    assert not (tmp_path / "release").exists()
    assert (tmp_path / "release.part").is_dir()


def _kind(how: str) -> type[FederationError]:
    return InvalidUsage if how == "nothing but a card" else VerificationFailed


def test_a_release_of_a_federation_that_the_reader_does_not_trust(
    publishing: Coordinator, home: Home, tmp_path: Path
) -> None:
    home.roll_path.write_bytes(publishing.parties.roll.envelope)
    refused(fetched(home, tmp_path / "release"), VerificationFailed, "roll", "must not be used")
    assert not (tmp_path / "release").exists()


@pytest.mark.parametrize(
    "path",
    [
        "../evil",
        "/tmp/evil",
        "rounds/../../evil",
        "",
        ".",
        "a//b",
        "./a",
        "a/",
        "a\\b",
        "a\nb",
        "\x1b[2J",
        "..",
        "a/..",
    ],
)
def test_a_path_that_leaves_the_folder_is_refused(
    publishing: Coordinator, home: Home, tmp_path: Path, path: str
) -> None:
    publishing.release = [(path, b"evil")]
    answer = refused(fetched(home, tmp_path / "deep" / "release"), VerificationFailed, "a path that is not allowed")
    assert "\x1b" not in answer.err
    assert [name for name, content in tree(tmp_path).items() if content == b"evil"] == []


def test_a_link_in_the_way_is_not_followed(publishing: Coordinator, home: Home, tmp_path: Path) -> None:
    part, outside = tmp_path / "release.part", tmp_path / "outside"
    part.mkdir()
    outside.write_text("mine")
    (part / "README.md").symlink_to(outside)
    answer = fetched(home, tmp_path / "release")
    assert answer.code != 0
    assert "Traceback" not in answer.err
    assert outside.read_text() == "mine"


def test_two_names_that_cannot_be_both_are_an_error_and_no_trace(
    publishing: Coordinator, home: Home, tmp_path: Path
) -> None:
    publishing.release = [("a", b"1"), ("a/b", b"2")]
    answer = fetched(home, tmp_path / "release")
    refused(answer, InvalidUsage, "a")


def test_the_installed_command_fetches_and_verifies(
    publishing: Coordinator, home: Home, release: dict[str, bytes], tmp_path: Path
) -> None:
    words = ("release", "fetch", "digits", "--out", "release", "--home", home.path)
    answer = done(typed("concord", *words, folder=tmp_path))
    assert (answer.out, answer.err) == ("release: 19 checks ok\n", "")
    assert tree(tmp_path / "release") == release


# -------------------------------------------------------------------------------------------------------------------- blobs


class Lying:
    """A blob service that answers as it is told."""

    def __init__(self, *parts: tuple[int, bytes]) -> None:
        self.parts = parts
        self.asked: list[int] = []

    def Get(self, request: Any, timeout: float) -> Any:
        self.asked.append(request.offset)
        kept = [part for part in self.parts if part[0] >= request.offset or part is not self.parts[0]]
        return (blobs_pb2.BlobPart(offset=offset, data=data) for offset, data in kept)


DATA = bytes(range(100))
DIGEST = hashlib.sha256(DATA).digest()


@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        ([(0, DATA[:50])], Unavailable),
        ([(0, DATA), (100, b"more")], VerificationFailed),
        ([(0, DATA[:50]), (60, DATA[60:])], VerificationFailed),
        ([(0, DATA[:50]), (0, DATA[:50])], VerificationFailed),
        ([(0, DATA[::-1])], VerificationFailed),
        ([], Unavailable),
    ],
)
def test_what_is_not_the_blob_is_not_kept(
    tmp_path: Path, parts: list[tuple[int, bytes]], kind: type[FederationError]
) -> None:
    lying: Any = Lying(*parts)
    with pytest.raises(kind) as raised:
        Transfer(lying, Route("place")).get(DIGEST, len(DATA), tmp_path / "blob")
    assert raised.value.hint
    assert len(lying.asked) <= transfer.ATTEMPTS


class Broken(grpc.RpcError, grpc.Call):  # type: ignore[misc]
    """The connection is gone, as gRPC reports it."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return "Socket closed"

    def trailing_metadata(self) -> tuple[()]:
        return ()

    initial_metadata = is_active = time_remaining = cancel = add_callback = None


class Breaking:
    """Serves ``DATA`` in parts of ten, and breaks after so many parts of each stream."""

    def __init__(self, breaks: list[int]) -> None:
        self.breaks = breaks
        self.asked: list[int] = []

    def Get(self, request: Any, timeout: float) -> Any:
        self.asked.append(request.offset)
        left = self.breaks.pop(0) if self.breaks else len(DATA)
        for offset in range(request.offset, len(DATA), 10):
            if not left:
                raise Broken
            left -= 1
            yield blobs_pb2.BlobPart(offset=offset, data=DATA[offset : offset + 10])


@given(breaks=st.lists(st.integers(0, 9), max_size=transfer.ATTEMPTS - 1))
@settings(max_examples=60, deadline=None)
def test_a_broken_download_goes_on_where_it_stopped(breaks: list[int]) -> None:
    breaking: Any = Breaking(list(breaks))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "blob"
        Transfer(breaking, Route("place"), pause=lambda _seconds: None).get(DIGEST, len(DATA), path)
        assert path.read_bytes() == DATA
    begun = [0]
    for count in breaks:
        if begun[-1] + 10 * count >= len(DATA):
            break
        begun.append(begun[-1] + 10 * count)
    assert breaking.asked == begun


def test_a_download_that_breaks_again_and_again_is_given_up_and_kept(tmp_path: Path) -> None:
    breaking: Any = Breaking([1] * transfer.ATTEMPTS)
    with pytest.raises(Unavailable):
        Transfer(breaking, Route("place")).get(DIGEST, len(DATA), tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == DATA[: 10 * transfer.ATTEMPTS]
    Transfer(breaking, Route("place")).get(DIGEST, len(DATA), tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == DATA


@given(size=st.integers(0, 5000), held=st.integers(0, 5000))
@settings(max_examples=60, deadline=None)
def test_an_upload_begins_where_the_coordinator_stopped(size: int, held: int) -> None:
    data = bytes(size)
    held = min(held, size)
    parts = list(transfer._parts(data, DIGEST, size, held, lambda _done, _size: None))
    assert parts[0].offset == held
    assert (parts[0].digest, parts[0].size) == (DIGEST, size)
    assert b"".join(part.data for part in parts) == data[held:]
    assert all(not part.digest for part in parts[1:])


def test_an_upload_that_breaks_goes_on(server: Coordinator, home: Home) -> None:
    data = bytes(3 * transfer.PART)
    digest = hashlib.sha256(data).digest()
    server.blobs[digest] = data[: transfer.PART]
    seen: list[tuple[int, int]] = []
    with Federation.connect(home.path, environment={}) as federation:
        federation._blobs.put(data, digest, lambda done, size: seen.append((done, size)))
        federation._blobs.put(data, digest)
    assert server.blobs[digest] == data
    assert server.offsets == [transfer.PART, 2 * transfer.PART]
    assert server.calls == ["Held", "Put", "Held"]
    assert seen[-1] == (len(data), len(data))


def test_a_coordinator_that_claims_more_than_there_is(server: Coordinator, home: Home) -> None:
    server.blobs[DIGEST] = bytes(500)
    with (
        Federation.connect(home.path, environment={}) as federation,
        pytest.raises(ProtocolViolation, match="more than the whole"),
    ):
        federation._blobs.put(DATA, DIGEST)


def test_the_names_of_a_release_are_checked_before_any_folder_is_made(tmp_path: Path) -> None:
    view = jobs_pb2.ReleaseView(files=[jobs_pb2.ReleaseFile(path="../x", digest=DIGEST, size=1)])
    unused: Any = Lying()
    with pytest.raises(VerificationFailed):
        release_folder.download(
            Transfer(unused, Route("place")), view, tmp_path / "r", None, None, lambda _done, _size: None
        )
    assert unused.asked == []
