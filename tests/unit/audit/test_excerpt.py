"""Excerpts: whole from their first entry to the head; nothing can be altered, left out or put in, and every byte counts."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.audit.checkpoint import log_key
from federation.audit.excerpt import Excerpt, peaks_at, verify_excerpt
from federation.audit.tree import leaf_hash
from federation.errors import VerificationFailed
from federation.identity.keys import SigningKey
from tests.plain import log as plain
from tests.unit.audit.logs import MadeLog, MadeWitness, some_entries


def excerpt_of(log: MadeLog, first: int, *witnesses: MadeWitness) -> Excerpt:
    def node(height: int, place: int) -> bytes:
        return plain.root(log.entries[place << height : (place + 1) << height])

    note = log.note() + b"".join(each.line(log.checkpoint()) for each in witnesses)
    return Excerpt(log.key, first, peaks_at(first, node), tuple(log.entries[first:]), note)


@given(size=st.integers(1, 40), data=st.data())
@settings(deadline=None, max_examples=60)
def test_an_excerpt_from_anywhere_gives_the_root_by_the_plain_definition(size: int, data: st.DataObject) -> None:
    log = MadeLog(some_entries(size))
    first = data.draw(st.integers(0, size))
    excerpt = Excerpt.decode(excerpt_of(log, first).encode())
    shown = verify_excerpt(excerpt, log.key)
    assert shown.head.root == plain.root(log.entries)
    assert [entry.encode() for entry in shown.entries] == log.entries[first:]


def test_the_peaks_are_the_roots_of_the_complete_subtrees() -> None:
    log = MadeLog(some_entries(7))
    leaves = log.entries
    assert excerpt_of(log, 7).peaks == (plain.root(leaves[:4]), plain.root(leaves[4:6]), leaf_hash(leaves[6]))
    assert excerpt_of(log, 0).peaks == ()


def test_an_entry_left_out_added_altered_or_moved_is_refused() -> None:
    log = MadeLog(some_entries(20))
    good = excerpt_of(log, 9)
    verify_excerpt(good, log.key)
    entries, strange = good.entries, some_entries(1, b"strange")[0]
    for place in range(len(entries)):
        for altered in (
            entries[:place] + entries[place + 1 :],
            (*entries[:place], strange, *entries[place:]),
            (*entries[:place], strange, *entries[place + 1 :]),
        ):
            with pytest.raises(VerificationFailed, match="are not those of the log"):
                verify_excerpt(replace(good, entries=altered), log.key)
    with pytest.raises(VerificationFailed, match="are not those of the log"):
        verify_excerpt(replace(good, entries=(*entries[1::-1], *entries[2:])), log.key)
    for first in (0, 8, 10):
        with pytest.raises(VerificationFailed):
            verify_excerpt(replace(good, first=first), log.key)
    with pytest.raises(VerificationFailed):
        verify_excerpt(replace(good, peaks=good.peaks[::-1]), log.key)


def test_another_log_and_a_head_without_its_signatures_are_refused() -> None:
    log = MadeLog(some_entries(5))
    good = excerpt_of(log, 2)
    with pytest.raises(VerificationFailed, match="not signed by"):
        verify_excerpt(good, log_key("atlas", SigningKey.generate().public))
    with pytest.raises(VerificationFailed, match="is of the log"):
        verify_excerpt(good, log_key("other", log.signing.public))
    text, _, lines = good.note.partition(b"\n\n")
    with pytest.raises(VerificationFailed, match="not signed by"):
        verify_excerpt(replace(good, note=text + b"\n\n" + lines.splitlines(keepends=True)[0]), log.key)


def test_it_names_the_witnesses_that_cosigned_and_refuses_a_forged_one() -> None:
    log, there, away = MadeLog(some_entries(5)), MadeWitness("br"), MadeWitness("ke")
    good = excerpt_of(log, 2, there)
    assert set(verify_excerpt(good, log.key, (there.key, away.key)).witnesses) == {there.key.name}
    other = MadeLog(some_entries(6), signing=log.signing)
    moved = replace(good, note=log.note() + there.line(other.checkpoint()))
    with pytest.raises(VerificationFailed, match="does not check"):
        verify_excerpt(moved, log.key, (there.key,))


def test_every_bit_of_the_file_counts() -> None:
    log, witness = MadeLog(some_entries(4)), MadeWitness("br")
    data = excerpt_of(log, 3, witness).encode()
    assert holds(data, log, witness)
    for place in range(len(data)):
        altered = bytearray(data)
        altered[place] ^= 1 << (place % 8)
        assert not holds(bytes(altered), log, witness), place


def holds(data: bytes, log: MadeLog, witness: MadeWitness) -> bool:
    """As whoever knows the log's key and its witness reads it."""
    try:
        excerpt = Excerpt.decode(data)
        return excerpt.key == log.key and bool(verify_excerpt(excerpt, log.key, (witness.key,)).witnesses)
    except VerificationFailed:
        return False


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"{}", b"null",
        b'{"checkpoint":1,"entries":[],"first":0,"format":"concord/log-excerpt/v1","key":"","peaks":[]}',
        b'{"checkpoint":"\\ud800","entries":[1],"first":0,"format":"concord/log-excerpt/v1","key":1,"peaks":[2]}', b"\xff" * 100,
        b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_excerpt_is_refused(data: bytes) -> None:
    with pytest.raises(VerificationFailed, match="no excerpt of a log"):
        Excerpt.decode(data)
