"""What a stranger checks: the whole log from its files, and one entry from its proof. Every altered byte shows."""

import pytest

from federation.audit.proof import Inclusion, verify_inclusion
from federation.audit.verify import fetch_log, verify_log
from federation.errors import FederationError, NotFound, VerificationFailed
from tests.plain import log as plain
from tests.unit.audit.logs import JOB, MadeLog, MadeWitness, fetching, some_entries


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 600])
def test_a_whole_log_verifies_and_names_what_it_checked(size):
    log = MadeLog(some_entries(size))
    seen, steps = [], []
    found = verify_log(
        fetching(log.files()), log.key, visit=lambda number, entry: seen.append((number, entry.fields["epoch"])),
        progress=lambda done, of: steps.append((done, of)),
    )  # fmt: skip
    assert found.head.size == size
    assert seen == [(number, str(number)) for number in range(size)]
    assert dict(found.kinds) == ({"roster": size} if size else {})
    assert len(found.checks) == 3
    assert not steps or steps[-1][0] == steps[-1][1]


def test_it_is_held_against_an_older_head():
    log = MadeLog(some_entries(300))
    for size in (0, 1, 256, 299, 300):
        assert verify_log(fetching(log.files()), log.key, older=log.head(size)).older == size
    other = MadeLog(some_entries(300, b"other"), signing=log.signing)
    for older in (other.head(1), other.head(300), MadeLog(some_entries(301), signing=log.signing).head()):
        with pytest.raises(VerificationFailed):
            verify_log(fetching(log.files()), log.key, older=older)


def test_witnesses_are_named():
    log, ours = MadeLog(some_entries(9)), MadeWitness("br")
    note = log.note() + ours.line(log.checkpoint())
    found = verify_log(fetching(log.files(note=note)), log.key, witnesses=[ours.key, MadeWitness("ke").key])
    assert set(found.witnesses) == {"concord/atlas/br/br-1"}
    assert "br-1" in found.checks[-1]


def test_every_altered_byte_of_every_file_shows():
    log = MadeLog(some_entries(3))
    files = log.files()
    for path, data in files.items():
        for place in range(len(data)):
            other = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
            with pytest.raises(FederationError):
                verify_log(fetching({**files, path: other}), log.key)
        for other in (data[:-1], data + b"\0", b""):
            with pytest.raises(FederationError):
                verify_log(fetching({**files, path: other}), log.key)


def test_an_altered_tile_above_the_leaves_shows():
    log = MadeLog(some_entries(520))
    files = log.files()
    path = "tile/1/000.p/2"
    assert path in files
    with pytest.raises(VerificationFailed, match=path):
        verify_log(fetching({**files, path: files[path][:-1] + b"\0"}), log.key)


def test_entry_removed():
    """Attack 51: the log signs a history without an entry. It cannot pass for the one that somebody holds an older head of."""
    log = MadeLog(some_entries(12))
    shorter = MadeLog([*log.entries[:7], *log.entries[8:], some_entries(13)[12]], signing=log.signing)
    assert verify_log(fetching(shorter.files()), log.key).head.size == 12  # alone, it looks whole
    with pytest.raises(VerificationFailed, match="not those of the older head"):
        verify_log(fetching(shorter.files()), log.key, older=log.head())
    with pytest.raises(VerificationFailed):
        verify_inclusion(Inclusion(log.entries[7], 7, 12, shorter.inclusion(7).path, shorter.note()), log.key)
    files = {**log.files(), "tile/entries/000.p/12": plain.bundle(shorter.entries, 0, 12)}
    with pytest.raises(VerificationFailed, match="do not give the root"):
        verify_log(fetching(files), log.key)


def test_an_entry_that_is_not_on_the_list_is_named():
    log = MadeLog([*some_entries(2), b'{"kind":"submission","job":"x"}'])
    with pytest.raises(VerificationFailed, match="Entry 2:"):
        verify_log(fetching(log.files()), log.key)


def test_a_copy_is_whole_or_has_no_head():
    log, copy = MadeLog(some_entries(300)), {}
    assert fetch_log(fetching(log.files()), copy.__setitem__, lambda _done, _all: None) == 300
    assert copy == log.files()
    torn, some = {}, log.files()
    del some["tile/1/000.p/1"]
    with pytest.raises(NotFound):
        fetch_log(fetching(some), torn.__setitem__, lambda _done, _all: None)
    assert "checkpoint" not in torn


def test_a_proof_reads_back_and_verifies():
    log, ours = MadeLog(some_entries(70)), MadeWitness("br")
    for size, index in ((1, 0), (2, 1), (70, 0), (70, 63), (70, 69), (64, 5)):
        note = log.note(size) + ours.line(log.checkpoint(size), 9)
        proof = Inclusion.decode(log.inclusion(index, size, note).encode())
        proved = verify_inclusion(proof, log.key, [ours.key])
        assert proved.entry.fields == {"job": JOB, "epoch": str(index)}
        assert proved.witnesses == {"concord/atlas/br/br-1": 9}
        assert proved.head.size == size


def test_every_altered_byte_of_a_proof_shows():
    log = MadeLog(some_entries(6))
    data = log.inclusion(4).encode()
    for place in range(len(data)):
        for bit in (1, 64):
            other = data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]
            with pytest.raises(VerificationFailed):
                verify_inclusion(Inclusion.decode(other), log.key)
    for other in (b"", data[:-1], b"\n" + data, data.replace(b"index 4", b"index 04"), b"x" * 10_000_000):
        with pytest.raises(VerificationFailed):
            Inclusion.decode(other)


def test_a_proof_is_of_this_log_alone():
    log = MadeLog(some_entries(6))
    with pytest.raises(VerificationFailed):
        verify_inclusion(log.inclusion(4), MadeLog([]).key)
    with pytest.raises(VerificationFailed):
        verify_inclusion(Inclusion(log.entries[4], 4, 5, log.inclusion(4).path, log.note()), log.key)
