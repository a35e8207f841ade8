"""Files between agent and worker: the format and its order; and what a worker may put in the agent's way."""

import mmap
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from federation.errors import VerificationFailed
from federation.weights.tensors import CODES, UnsupportedTensor, read_arrays
from node_agent.runner.channel import LIMIT, BadFrame, pack, unpack
from node_agent.runner.handover import BadHandover, remove_tree, take_file
from node_agent.runner.tensors import write_new


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda name: name != "__metadata__"),
            st.sampled_from(list(CODES.values())),
            st.lists(st.integers(0, 4), max_size=3),
        ),
        unique_by=lambda entry: entry[0],
        max_size=6,
    )
)
def test_what_is_written_is_read_in_the_same_order_by_us_and_by_safetensors(tmp_path_factory, entries):
    path = tmp_path_factory.mktemp("tensors") / "file"
    random = np.random.default_rng(0)
    arrays = {name: random.integers(0, 2, shape).astype(dtype) for name, dtype, shape in entries}
    write_new(path, arrays)
    read = read_arrays(path)
    assert list(read) == list(arrays)
    theirs = load_file(path)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array, strict=True)
        np.testing.assert_array_equal(theirs[name], array, strict=True)


def test_files_of_the_safetensors_library_are_read(tmp_path):
    arrays = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.ones(2, np.int64)}
    save_file(arrays, tmp_path / "file", metadata={"order": '["b", "a"]'})
    read = read_arrays(tmp_path / "file")
    assert list(read) == ["b", "a"]
    np.testing.assert_array_equal(read["b"], arrays["b"])


def test_transposed_arrays_keep_their_values(tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    write_new(tmp_path / "file", {"x": array})
    np.testing.assert_array_equal(read_arrays(tmp_path / "file")["x"], array)


def test_types_that_cannot_travel_are_refused(tmp_path):
    for array in (np.zeros(2, np.complex64), np.array(["text"]), np.array([object()])):
        with pytest.raises(UnsupportedTensor):
            write_new(tmp_path / "file", {"x": array})


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"short",
        b"\xff" * 64,
        (1 << 40).to_bytes(8, "little") + b"{}",
        *(
            len(text).to_bytes(8, "little") + text
            for text in (
                b"[]",
                b"{",
                b'{"x":1}',
                b'{"x":{"dtype":"F32","shape":[-1],"data_offsets":[0,-4]}}',
                b'{"x":{"dtype":"F32","shape":[0.0],"data_offsets":[0,0]}}',
                b'{"x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"__metadata__":{"order":"[]"}}',
                b'{"x":{"dtype":"BF16","shape":[0],"data_offsets":[0,0]}}',
            )
        ),
    ],
)
def test_damaged_files_are_refused(tmp_path, damage):
    path = tmp_path / "file"
    path.write_bytes(damage)
    with pytest.raises(VerificationFailed):
        read_arrays(path)


def test_entries_beyond_the_file_are_refused(tmp_path):
    path = tmp_path / "file"
    write_new(path, {"x": np.zeros(4, np.float32)})
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    with pytest.raises(VerificationFailed, match="not a whole"):
        read_arrays(path)


def test_a_file_is_taken_once_and_the_copy_is_the_agents(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    (work / "reply").write_bytes(b"x" * 100)
    (tmp_path / "out").write_bytes(b"older")
    take_file(work, "reply", tmp_path / "out", 100)
    assert (tmp_path / "out").read_bytes() == b"x" * 100
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600
    assert list(work.iterdir()) == []


def test_what_a_worker_writes_after_its_reply_changes_nothing(tmp_path):
    """Clip bound and sensitivity are of the bytes that are encoded later: an open or mapped file is of no use any more."""
    work = tmp_path / "work"
    work.mkdir()
    (work / "reply").write_bytes(b"x" * 5000)
    with (work / "reply").open("r+b") as kept, mmap.mmap(kept.fileno(), 0) as mapped:
        take_file(work, "reply", tmp_path / "out", 5000)
        mapped[:] = b"y" * 5000
        kept.write(b"z" * 9000)
        kept.flush()
        kept.truncate(1)
    assert (tmp_path / "out").read_bytes() == b"x" * 5000


@pytest.mark.parametrize("trick", ["link-to-key", "pipe", "folder", "missing", "folder-link", "too-large"])
def test_a_worker_cannot_hand_over_what_is_not_its_own_plain_file(tmp_path, trick):
    key = tmp_path / "identity.key"
    key.write_text("a key")
    work = tmp_path / "work"
    work.mkdir()
    if trick == "link-to-key":
        (work / "reply").symlink_to(key)
    elif trick == "pipe":
        os.mkfifo(work / "reply")
    elif trick == "folder":
        (work / "reply").mkdir()
    elif trick == "folder-link":
        work.rmdir()
        work.symlink_to(tmp_path)
    elif trick == "too-large":
        (work / "reply").write_bytes(b"x" * 101)
    name = "identity.key" if trick == "folder-link" else "reply"
    with pytest.raises((BadHandover, OSError)):
        take_file(work, name, tmp_path / "out", 100)
    assert not (tmp_path / "out").exists()
    assert key.read_text() == "a key"


def test_removing_a_workers_folder_follows_no_link_and_opens_closed_folders(tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "key").write_text("a key")
    work = tmp_path / "work"
    (work / "closed/inner").mkdir(parents=True)
    (work / "link").symlink_to(precious)
    (work / "closed").chmod(0)
    remove_tree(work)
    assert not work.exists()
    work.symlink_to(precious)
    remove_tree(work)
    assert (precious / "key").read_text() == "a key"


def test_frames_are_bounded_and_are_objects():
    assert unpack(pack({"a": [1, "x"]})[4:]) == {"a": [1, "x"]}
    with pytest.raises(BadFrame):
        pack({"a": "x" * LIMIT})
    for data in (b"", b"[]", b"nonsense", b"\xff", b"[" * 100_000):
        with pytest.raises(BadFrame):
            unpack(data)
