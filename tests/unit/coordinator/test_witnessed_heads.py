"""What a release waits for: one head of the log, cosigned by a quorum, and the log from a document's entry up to it."""

import asyncio
import hashlib

import pytest

from coordinator.api.sessions import Session, Sessions
from federation.audit.excerpt import Excerpt, verify_excerpt
from federation.errors import NotFound, ProtocolViolation
from federation.identity.keys import SigningKey
from federation.v1 import rounds_pb2
from tests.unit.coordinator.test_log_book import MEMBERS, Hall


@pytest.fixture
def hall(tmp_path):
    made = Hall(tmp_path)
    yield made
    made.database.close()


def digest(number):
    return hashlib.sha256(b"%d" % number).digest()


def test_the_log_from_a_document_on_checks_wherever_it_begins(hall):
    """Its peaks come out of full tiles and of rows that are in none yet."""
    hall.grow(600)
    size = hall.book.fresh()
    for first in (0, 1, 255, 256, 257, 511, 512, 599):
        excerpt = Excerpt.decode(hall.book.excerpt(digest(first), size).encode())
        shown = verify_excerpt(excerpt, hall.book.key)
        assert (shown.first, len(shown.entries), shown.head.size) == (first, 600 - first, 600)
        assert shown.entries[0].document == digest(first)


def test_what_is_not_in_the_log_or_not_under_a_kept_head_has_no_excerpt(hall):
    hall.grow(3)
    size = hall.book.fresh()
    hall.grow(1)
    for number, under in ((9, size), (3, size), (1, 2)):
        with pytest.raises(NotFound, match="no such entry under this head"):
            hall.book.excerpt(digest(number), under)


def test_a_fresh_head_holds_what_was_written_just_now(hall):
    hall.grow(2)
    assert hall.book.head().size == 2
    hall.grow(2)
    assert hall.book.head().size == 2, "the head stands"
    assert hall.book.fresh() == 4
    assert hall.book.head().size == 4


class Answering(Sessions):
    """Nodes that cosign the head of which they are told, some of them only the second time."""

    def __init__(self, hall, *cosigning, later=()):
        super().__init__()
        self.hall, self.turns, self.told = hall, [cosigning, (*cosigning, *later)], []
        for name in MEMBERS:
            self.add(_Heard(self, name))

    def hear(self, name, data):
        size = rounds_pb2.Instruction.FromString(data).log_head.size
        self.told.append(size)
        turn = self.turns[min(len(self.told) // (len(MEMBERS) + 1), 1)]
        if name in turn:
            with self.hall.database.transaction() as change:
                head = change.log.head(size)
            self.hall.cosign(name, head)


class _Heard(Session):
    def __init__(self, answering, name):
        super().__init__(name, f"{name}-1", None)
        self.answering = answering

    def send(self, data):
        self.answering.hear(self.member, data)


def waited(hall, sessions, quorum, keys=None, needed=lambda: True, stands=0.01):
    book = hall.book = hall.reopened(stands)
    return asyncio.run(
        asyncio.wait_for(book.witnessed(sessions, hall.keys() if keys is None else keys, quorum, needed), 30)
    )


def test_it_waits_until_a_quorum_has_cosigned_one_head_and_tells_the_nodes_again(hall):
    hall.grow(7)
    sessions = Answering(hall, "br", later=("ke",))
    size = waited(hall, sessions, 2)
    assert size == 7
    assert set(sessions.told) == {7}
    assert len(sessions.told) > len(MEMBERS), "whoever did not answer was told again"
    verify = verify_excerpt(hall.book.excerpt(digest(2), size), hall.book.key, hall.keys())
    assert len(verify.witnesses) >= 2


def test_cosignatures_of_an_older_head_and_of_nodes_that_do_not_count_are_none(hall):
    hall.grow(4)
    old = hall.book.head()
    for name in MEMBERS:
        hall.cosign(name, old)
    hall.grow(1)
    asked = iter([True, True, True, False])
    assert waited(hall, Answering(hall), 1, needed=lambda: next(asked)) is None
    asked = iter([True, True, True, False])
    everybody = hall.keys()
    others = [key for key in everybody if "/br/" in key.name]
    assert waited(hall, Answering(hall, "ke", "in"), 1, keys=others, needed=lambda: next(asked)) is None
    assert waited(hall, Answering(hall, "br"), 1, keys=others) == 5


def test_a_job_that_is_over_waits_no_more(hall):
    hall.grow(1)
    assert waited(hall, Answering(hall), 3, needed=lambda: False) is None


def test_a_cosignature_by_another_key_wakes_nobody(hall):
    hall.grow(1)
    head = hall.book.head()
    with pytest.raises(ProtocolViolation):
        hall.cosign("br", head, key=SigningKey.generate())
    asked = iter([True, False])
    assert waited(hall, Answering(hall), 1, needed=lambda: next(asked)) is None
