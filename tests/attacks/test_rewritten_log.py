"""Attacks 49 to 51 on the log, over the law: whatever the coordinator signs, who holds one head convicts it by another."""

import pytest

from federation.audit.history import Evidence, follow, open_evidence
from federation.audit.proof import Inclusion, verify_inclusion
from federation.audit.tree import EMPTY
from federation.errors import VerificationFailed
from tests.unit.audit.logs import NOW, MadeLog, some_entries

TRUE = MadeLog(some_entries(40))
OTHER = MadeLog([*TRUE.entries[:9], *some_entries(40, b"!")[9:]], signing=TRUE.signing)
"""signed by the same log: alike for nine entries"""


def convicts(evidence, finding):
    """Whoever gets the file alone comes to the same finding."""
    read = open_evidence(evidence.encode(), TRUE.key)
    assert read == evidence
    assert read.finding == evidence.finding == finding
    assert read.sentence


@pytest.mark.parametrize(("held", "shown"), [(1, 1), (1, 2), (9, 9), (9, 40), (16, 17), (32, 40), (0, 7), (40, 40)])
def test_an_honest_log_is_followed(held, shown):
    assert follow(TRUE.key, TRUE.head(held), TRUE.head(shown, NOW + 5), TRUE.path(held, shown)) is None
    assert follow(TRUE.key, None, TRUE.head(shown), ()) is None


@pytest.mark.parametrize("size", [10, 16, 40])
def test_log_fork_shown_to_two_nodes_of_one_size(size):
    """Attack 49: two nodes hold two heads of one size. Together they convict."""
    evidence = follow(TRUE.key, TRUE.head(size), OTHER.head(size), ())
    convicts(evidence, "two-roots")


@pytest.mark.parametrize(("held", "shown"), [(10, 11), (10, 40), (16, 40), (32, 33), (39, 40)])
def test_log_fork_shown_to_two_nodes_of_two_sizes(held, shown):
    """Attack 49: the other's head is larger. The log's own path from the held size to it convicts, or it has none to show."""
    evidence = follow(TRUE.key, TRUE.head(held), OTHER.head(shown), OTHER.path(held, shown))
    convicts(evidence, "other-history")
    silent = follow(TRUE.key, TRUE.head(held), OTHER.head(shown), TRUE.path(held, shown))
    assert silent is not None
    assert silent.finding == "unreconciled"
    assert follow(TRUE.key, TRUE.head(held), OTHER.head(shown), ()) is not None


def test_a_log_that_splits_after_the_held_head_is_still_followed():
    """Until the split shows: both heads begin with what is held."""
    assert follow(TRUE.key, TRUE.head(9), OTHER.head(20), OTHER.path(9, 20)) is None


def test_rollback_of_the_log():
    """Attack 50: the log swears at a later time to fewer entries. Its own two timestamps convict it."""
    evidence = follow(TRUE.key, TRUE.head(30, NOW), TRUE.head(20, NOW + 60), TRUE.path(20, 30))
    convicts(evidence, "taken-back")
    to_nothing = follow(TRUE.key, TRUE.head(30, NOW), MadeLog([], signing=TRUE.signing).head(0, NOW + 60), ())
    convicts(to_nothing, "taken-back")
    assert to_nothing.second.root == EMPTY


def test_an_old_head_shown_again_is_noticed_and_convicts_nobody():
    """The witness asked after it had the larger one, and is not answered; but an old head is true of its own time."""
    evidence = follow(TRUE.key, TRUE.head(30, NOW), TRUE.head(20, NOW - 60), TRUE.path(20, 30))
    convicts(evidence, "unreconciled")


@pytest.mark.parametrize("removed", [0, 7, 8, 29])
def test_entry_removed(removed):
    """Attack 51: an entry is taken out, and the log goes on growing."""
    entries = [*TRUE.entries[:removed], *TRUE.entries[removed + 1 :]]
    shorter = MadeLog(entries, signing=TRUE.signing)
    evidence = follow(TRUE.key, TRUE.head(30), shorter.head(39), shorter.path(30, 39))
    convicts(evidence, "other-history")
    held = TRUE.inclusion(removed, 30)
    assert verify_inclusion(held, TRUE.key).index == removed  # what was proved once stays proved
    with pytest.raises(VerificationFailed):
        verify_inclusion(Inclusion(held.entry, removed, 39, shorter.inclusion(removed).path, shorter.note()), TRUE.key)


def test_nobody_is_convicted_by_what_the_log_did_not_sign():
    """Evidence with a forged head, a foreign key, or a path that leads nowhere."""
    forger = MadeLog(OTHER.entries)
    for first, second in ((TRUE, forger), (forger, TRUE)):
        data = Evidence(TRUE.key, first.head(20), second.head(20)).encode()
        with pytest.raises(VerificationFailed):
            open_evidence(data, TRUE.key)
    with pytest.raises(VerificationFailed, match="about the log"):
        open_evidence(Evidence(forger.key, forger.head(20), forger.head(21)).encode(), TRUE.key)
    honest = Evidence(TRUE.key, TRUE.head(10), TRUE.head(40, NOW + 1), TRUE.path(10))
    assert honest.finding == "unreconciled"
    for path in ((), (bytes(32),), OTHER.path(10), (bytes(32), *TRUE.path(10)[1:])):
        assert Evidence(TRUE.key, TRUE.head(10), TRUE.head(40, NOW + 1), path).finding == "unreconciled"


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b'{"format": 1}', b"[" * 100_000, b" " * (2 << 20)])
def test_what_is_no_evidence(data):
    with pytest.raises(VerificationFailed):
        open_evidence(data)


def test_every_altered_byte_of_evidence_shows_or_changes_nothing():
    evidence = follow(TRUE.key, TRUE.head(10), OTHER.head(11), OTHER.path(10, 11))
    data = evidence.encode()
    for place in range(len(data)):
        other = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        try:
            read = open_evidence(other, TRUE.key)
        except VerificationFailed:
            continue
        assert (read.first, read.second) == (evidence.first, evidence.second)
