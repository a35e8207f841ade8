"""The task bundle: one archive for one folder, the same on every machine, and nothing but files in it."""

import hashlib
import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.errors import InvalidManifest
from federation.manifest.bundle import MAX_FILES, app_info, is_ignored, pack, unpack
from tests.unit.identity.parties import APP

NAMES = st.text("abcdefghijklmnopqrstuvwxyzABC0123456789_-. ", min_size=1, max_size=40).filter(
    lambda name: name not in {".", ".."}
)
TREES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=4).map("/".join), st.binary(max_size=1500), min_size=1, max_size=6
).filter(lambda files: not any(other.startswith(f"{path}/") for path in files for other in files))
PACKED = pack(APP)


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@settings(deadline=None, max_examples=100)
@given(TREES)
def test_what_is_packed_unpacks_and_tar_reads_it(files: dict[str, bytes]) -> None:
    bundle = pack(files)
    assert unpack(bundle.data, bundle.digest) == files
    assert bundle.digest == sha(bundle.data)
    assert bundle.files == tuple((path, sha(files[path]).hex(), len(files[path])) for path in sorted(files))
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(files):
            info = tarfile.TarInfo(path)
            info.size = len(files[path])
            archive.addfile(info, io.BytesIO(files[path]))
    assert bundle.data == stream.getvalue()


def test_the_digest_of_a_folder_never_changes() -> None:
    """A vector: a job's identity rests on it."""
    bundle = pack({"b/" + "c" * 98 + "/d.py": b"x = 1\n", "a.txt": b""})
    assert bundle.digest.hex() == "b43d6417583ec03d977274252d1852a7afb5fb50b150c3619696e3793b35563e"


def test_the_order_in_which_files_are_found_does_not_matter() -> None:
    assert pack(dict(reversed(APP.items()))) == PACKED


@settings(deadline=None, max_examples=300)
@given(st.integers(0, PACKED.size - 1), st.integers(1, 255))
def test_altering_any_byte_is_refused_even_under_a_new_digest(position: int, difference: int) -> None:
    """Either the bytes are not what was signed, or they are another folder: never another archive of the same one."""
    altered = bytearray(PACKED.data)
    altered[position] ^= difference
    data = bytes(altered)
    with pytest.raises(InvalidManifest, match="digest"):
        unpack(data, PACKED.digest)
    try:
        files = unpack(data, sha(data))
    except InvalidManifest:
        return
    assert files != APP
    assert pack(files).data == data


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=2000) | st.integers(0, PACKED.size).map(lambda cut: PACKED.data[:cut]))
def test_noise_and_torn_archives_are_refused(data: bytes) -> None:
    if data != PACKED.data:
        with pytest.raises(InvalidManifest):
            unpack(data, sha(data))


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../up",
        "a/../b",
        "a//b",
        "./a",
        "a/",
        ".",
        "..",
        "a\\b",
        "é",
        "a\nb",
        "a\0b",
        "x" * 101,
        "d" * 120 + "/" + "d" * 90,
        "\ud800",
    ],
)
def test_paths_that_are_not_plain_are_refused(path: str) -> None:
    with pytest.raises(InvalidManifest):
        pack({path: b""})


def test_a_path_is_a_file_or_a_folder() -> None:
    with pytest.raises(InvalidManifest, match="both a file and a folder"):
        pack({"a": b"", "a/b": b""})


def test_folders_that_are_too_large_are_refused() -> None:
    with pytest.raises(InvalidManifest, match="2001 files"):
        pack({f"{index}": b"" for index in range(MAX_FILES + 1)})
    with pytest.raises(InvalidManifest, match="0 files"):
        pack({})
    huge = bytes(33 << 20)
    with pytest.raises(InvalidManifest, match="bytes"):
        pack({"a": huge, "b": huge})


def test_caches_and_version_control_stay_out() -> None:
    for path in ("a/__pycache__/b.pyc", ".git/config", ".venv/bin/python", "x.pyc", "tiny.egg-info/PKG-INFO"):
        assert is_ignored(path)
    for path in ("pyproject.toml", "tiny/task.py", ".gitignore", "venture/a.py"):
        assert not is_ignored(path)


def test_the_app_says_what_it_is() -> None:
    app = app_info(APP)
    assert (app.client_app, app.server_app) == ("tiny.client_app:app", "tiny.server_app:app")
    assert dict(app.config) == {"rate": 1.0, "size": 10}
    assert (app.dependencies, app.initial_model) == (("flwr>=1.41", "numpy>=2.0"), "tiny.task:initial_arrays")


COMPONENTS = '[tool.flwr.app.components]\nclientapp = "a.b:app"\n'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not toml [",
        "a = 1\na = 2",
        "[tool]\nflwr = 3",
        "[tool.flwr.app.components]\nclientapp = 3",
        '[tool.flwr.app.components]\nclientapp = "os.system"',
        COMPONENTS + "[tool.flwr.app.config]\na = [1]",
        COMPONENTS + "[tool.flwr.app.config]\na = 2026-01-01",
        COMPONENTS + "[tool.flwr.app.config]\na = nan",
        COMPONENTS + "[tool.flwr.app.config]\na = 1e300",
        COMPONENTS + '[tool.concord]\ninitial-model = "x"',
        COMPONENTS + '[project]\ndependencies = "numpy"',
        COMPONENTS + "x = " + "[" * 20_000,
        COMPONENTS + "x = " + "9" * 5000,
    ],
    ids=lambda text: text[-30:],
)
def test_a_folder_that_is_no_flower_app_is_refused(text: str) -> None:
    with pytest.raises(InvalidManifest):
        app_info({"pyproject.toml": text.encode()})
    with pytest.raises(InvalidManifest):
        app_info({"pyproject.toml": b"\xff\xfe"})
    with pytest.raises(InvalidManifest, match=r"no pyproject\.toml"):
        app_info({"main.py": b""})
