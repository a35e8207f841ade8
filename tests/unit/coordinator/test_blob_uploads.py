"""Blobs are whole or absent, continue where they stopped, and never hold other bytes than their name says."""

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.store.blobs import Blobs
from coordinator.store.spool import Spool
from federation.errors import InvalidUsage, NotFound, VerificationFailed

JOB, CONTEXT = b"j" * 32, b"c" * 32


def digest_of(data):
    return hashlib.sha256(data).digest()


@settings(deadline=None, max_examples=30)
@given(data=st.binary(min_size=1, max_size=400), cuts=st.lists(st.integers(0, 400), max_size=5))
def test_an_upload_continues_where_it_stopped_in_another_process(tmp_path_factory, data, cuts):
    root = tmp_path_factory.mktemp("blobs")
    digest = digest_of(data)
    places = [0, *sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]
    for start, end in pairwise(places):
        blobs = Blobs(root)
        assert blobs.held(digest) == (start, False)
        with pytest.raises(NotFound):
            blobs.path(digest)
        blobs.append(digest, len(data), start, data[start:end])
    assert Blobs(root).held(digest) == (len(data), True)
    assert Blobs(root).path(digest).read_bytes() == data


def test_corrupted_parts_are_thrown_away_and_may_be_sent_again(tmp_path):
    data = bytes(range(256)) * 8
    digest = digest_of(data)
    blobs = Blobs(tmp_path)
    blobs.append(digest, len(data), 0, data[:1000])
    with pytest.raises(VerificationFailed):
        blobs.append(digest, len(data), 1000, bytes(len(data) - 1000))
    assert blobs.held(digest) == (0, False)
    assert blobs.append(digest, len(data), 0, data) == (len(data), True)


def test_gaps_overlaps_and_overruns_are_refused(tmp_path):
    data = b"x" * 100
    digest = digest_of(data)
    blobs = Blobs(tmp_path)
    blobs.append(digest, 100, 0, data[:40])
    for offset, part in [(50, data[:10]), (30, data[:20]), (40, data[:61])]:
        with pytest.raises(InvalidUsage):
            blobs.append(digest, 100, offset, part)
    assert blobs.held(digest) == (40, False)


def test_names_that_are_no_digest_reach_no_file(tmp_path):
    blobs = Blobs(tmp_path / "blobs")
    for name in (b"", b"../../etc", b"x" * 31, b"x" * 33):
        with pytest.raises(InvalidUsage):
            blobs.held(name)
        with pytest.raises(InvalidUsage):
            blobs.append(name, 1, 0, b"x")


def test_an_update_continues_and_never_grows_beyond_its_size(tmp_path):
    update = bytes(range(200))
    first = Spool(tmp_path, 1000)
    assert first.append(JOB, CONTEXT, "fr", 200, 0, update[:120]) == 120
    again = Spool(tmp_path, 1000)
    assert again.held(JOB, CONTEXT, "fr") == 120
    with pytest.raises(InvalidUsage):
        again.append(JOB, CONTEXT, "fr", 200, 0, update)
    with pytest.raises(InvalidUsage):
        again.append(JOB, CONTEXT, "fr", 200, 120, update)
    assert again.append(JOB, CONTEXT, "fr", 200, 120, update[120:]) == 200
    with again.open(JOB, CONTEXT, "fr") as held:
        assert held.size == 200
        out = bytearray(50)
        held.read(100, memoryview(out))
        assert out == update[100:150]
        with pytest.raises(NotFound):
            held.read(160, memoryview(out))


def test_an_update_above_the_limit_is_refused_before_its_first_byte(tmp_path):
    spool = Spool(tmp_path, 1000)
    with pytest.raises(InvalidUsage):
        spool.append(JOB, CONTEXT, "fr", 1001, 0, b"x")
    assert spool.held(JOB, CONTEXT, "fr") == 0


def test_discarded_updates_are_gone_and_others_stay(tmp_path):
    spool = Spool(tmp_path, 1000)
    other = b"d" * 32
    spool.put(JOB, CONTEXT, "fr", b"one")
    spool.put(JOB, other, "fr", b"two")
    spool.discard(JOB, CONTEXT)
    spool.discard(JOB, CONTEXT)
    with pytest.raises(NotFound):
        spool.open(JOB, CONTEXT, "fr")
    with spool.open(JOB, other, "fr") as held:
        out = bytearray(3)
        held.read(0, memoryview(out))
        assert out == b"two"


def test_a_blob_that_comes_in_pieces_is_whole_or_absent(tmp_path):
    blobs = Blobs(tmp_path)
    digest, size = blobs.put_pieces([b"one", memoryview(b"two"), b""])
    assert (digest, size) == (hashlib.sha256(b"onetwo").digest(), 6)
    assert blobs.path(digest).read_bytes() == b"onetwo"

    def broken():
        yield b"half of it"
        raise InvalidUsage("no more")

    with pytest.raises(InvalidUsage):
        blobs.put_pieces(broken())
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [digest.hex()]


def test_what_a_killed_process_was_writing_is_gone_and_uploads_go_on(tmp_path):
    blobs = Blobs(tmp_path)
    digest = digest_of(b"x" * 100)
    blobs.append(digest, 100, 0, b"x" * 40)

    class Killed(BaseException):
        pass

    def until_killed():
        yield b"half of a sum"
        (found,) = tmp_path.rglob("*.new")
        found.rename(found.with_name(f"again-{found.name}"))  # no handler runs for kill -9
        raise Killed

    with pytest.raises(Killed):
        blobs.put_pieces(until_killed())
    assert len(list(tmp_path.rglob("*.new"))) == 1
    assert Blobs(tmp_path).held(digest) == (40, False)
    assert list(tmp_path.rglob("*.new")) == []
