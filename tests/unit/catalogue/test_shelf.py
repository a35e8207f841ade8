"""The coordinator keeps what a node signed, the newest alone, and logs its digest; readers believe what their roll vouches for."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from coordinator.catalogue import shelf as shelves
from coordinator.catalogue.shelf import Shelf
from coordinator.client.data_sets import Filter, fetch, fit_of, named
from coordinator.registry.authority import Authority
from coordinator.registry.enrolment import Registry
from coordinator.store.database import Database, NodeRow
from federation.audit.tiles import decode_bundle
from federation.catalogue.entry import EVERYTHING, published
from federation.catalogue.statement import LASTS, digest_of, seal_catalogue, statement_of
from federation.errors import InvalidUsage, NotFound
from federation.identity.keys import SigningKey
from federation.v1 import catalogue_pb2
from tests.unit.catalogue.described import SPEC, entry, wanted
from tests.unit.catalogue.parties import NOW, ROLL, Node

CH, FR = Node("ch"), Node("fr")
HEARTS = published(entry("szivek"), ["schema", "columns", "tags"])
COEURS = published(entry("coeurs", coverage={"places": ["FR"]}), ["schema", "coverage", "jurisdiction", "title"])


class Desk:
    """A coordinator's shelf on a real database, whose clock is the test's."""

    def __init__(self, path: Path) -> None:
        self.seconds = NOW.timestamp()
        self.database = Database(path / "coordinator.db")
        authority = Authority.create("hearts", NOW)
        registry = Registry(self.database, authority, timedelta(hours=1), lambda: self.seconds)
        registry.found(ROLL.envelope)
        with self.database.transaction() as change:
            for node in (CH, FR):
                change.put_node(NodeRow(node.member, node.name, node.envelope, "active", self.seconds))
        self.shelf = Shelf(self.database, registry, lambda: self.seconds)

    def hears(self, node: Node, envelope: bytes, *, after: float = 2.0) -> str:
        """The problem that the node is told; empty when its catalogue is kept."""
        self.seconds += after
        return self.shelf.heard(node.member, node.name, envelope).problem

    def read(self) -> tuple[list[str], list[str]]:
        found, problems = fetch(lambda page: self.shelf.page(page.after), ROLL, NOW)
        return [f"{held.entry.name}@{held.node}" for held in found], problems

    def logged(self) -> list[dict[str, object]]:
        with self.database.transaction() as change:
            size = change.log.frontier().size
            entries = [json.loads(data) for data in decode_bundle(change.log.entries(0, size), size)]
        return [held for held in entries if held["kind"] == "catalogue"]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_what_nodes_publish_is_shown_and_logged_by_digest_alone(desk: Desk) -> None:
    envelope = CH.publishes(HEARTS)
    held = desk.shelf.heard("ch", "ch-1", envelope)
    assert (held.digest, held.problem) == (digest_of(envelope), "")
    assert desk.hears(FR, FR.publishes(COEURS)) == ""
    assert desk.read() == (["coeurs@fr-1", "szivek@ch-1"], [])
    logged = desk.logged()
    assert [(line["member"], line["node"]) for line in logged] == [("ch", "ch-1"), ("fr", "fr-1")]
    assert logged[0]["document"] == digest_of(envelope).hex()
    assert "szivek" not in json.dumps(logged)
    assert str(SPEC["title"]) not in json.dumps(logged)


def test_the_same_catalogue_again_is_no_change(desk: Desk) -> None:
    envelope = CH.publishes(HEARTS)
    for _ in range(3):
        assert desk.hears(CH, envelope, after=0) == ""
    assert len(desk.logged()) == 1


def test_a_withdrawn_entry_is_gone_from_what_is_kept(desk: Desk, tmp_path: Path) -> None:
    desk.hears(CH, CH.publishes(HEARTS, COEURS, sequence=5))
    assert desk.hears(CH, CH.publishes(HEARTS, sequence=6)) == ""
    assert desk.read() == (["szivek@ch-1"], [])
    with desk.database.transaction() as change:
        kept = [row.payload for row in change._connection.exec_driver_sql("select payload from audit_entries")]
        kept += [row.envelope for row in change._connection.exec_driver_sql("select envelope from catalogues")]
    assert not any(b"coeurs" in data for data in kept)


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "another node's": (lambda: FR.publishes(HEARTS), "not signed by the node ch-1"),
    "no document": (lambda: b"{}", "not a signed document"),
    "nothing": (lambda: b"", "not JSON"),
    "too large": (lambda: b"x" * (2 << 20), "larger than"),
    "one that has ended": (lambda: CH.publishes(HEARTS, sequence=9, issued=NOW - 2 * LASTS), "ended on"),
    "an older one": (lambda: CH.publishes(COEURS, sequence=4), "holds a later catalogue"),
    "another of the same number": (lambda: CH.publishes(COEURS, sequence=5), "holds a later catalogue"),
}


@pytest.mark.parametrize(("made", "told"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_the_nodes_newest_changes_nothing(desk: Desk, made: Callable[[], bytes], told: str) -> None:
    assert desk.hears(CH, CH.publishes(HEARTS, sequence=5)) == ""
    assert told in desk.hears(CH, made())
    assert desk.read() == (["szivek@ch-1"], [])
    assert len(desk.logged()) == 1


def test_a_node_that_floods_is_slowed_and_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelves, "CHANGES", 3)
    assert desk.hears(CH, CH.publishes(HEARTS, sequence=1)) == ""
    assert "too fast" in desk.hears(CH, CH.publishes(HEARTS, sequence=2), after=0.1)
    said = [desk.hears(CH, CH.publishes(HEARTS, sequence=number)) for number in range(3, 7)]
    assert said[:2] == ["", ""]
    assert all("3 times today" in problem for problem in said[2:])
    assert len(desk.logged()) == 3
    assert desk.hears(FR, FR.publishes(COEURS)) == "", "others are not held up"
    assert desk.hears(CH, CH.publishes(HEARTS, sequence=9), after=86_400) == ""


def test_a_suspended_node_is_not_shown(desk: Desk) -> None:
    desk.hears(CH, CH.publishes(HEARTS))
    desk.hears(FR, FR.publishes(COEURS))
    with desk.database.transaction() as change:
        change.put_node(NodeRow("ch", "ch-1", CH.envelope, "suspended", desk.seconds))
    assert desk.read() == (["coeurs@fr-1"], [])


def test_an_answer_is_bounded_and_goes_on(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelves, "PAGE_BYTES", 10)
    desk.hears(CH, CH.publishes(HEARTS))
    desk.hears(FR, FR.publishes(COEURS))
    assert len(desk.shelf.page("").catalogues) == 1
    assert desk.read() == (["coeurs@fr-1", "szivek@ch-1"], [])


# ------------------------------------------------------------------------------------------------------------- a reader


def told(*items: tuple[Node, bytes], next_page: str = "") -> Callable[..., catalogue_pb2.ListCataloguesReply]:
    """A coordinator that says what a test tells it to."""
    rows = [catalogue_pb2.NodeCatalogue(envelope=envelope, credential=node.envelope) for node, envelope in items]
    return lambda _page: catalogue_pb2.ListCataloguesReply(catalogues=rows, next=next_page)


def test_a_coordinator_forges_no_entry() -> None:
    """Not under a key of its own, not under another node's name, not by altering a byte, not by showing one twice."""
    good = CH.publishes(HEARTS)
    altered = bytearray(good)
    altered[len(good) // 2] ^= 1
    own_key = seal_catalogue(statement_of(CH.credential, 1, NOW, [HEARTS]), SigningKey.generate())
    cases = {
        "a key of its own": told((CH, own_key)),
        "altered": told((CH, bytes(altered))),
        "another's credential": told((FR, good)),
        "garbage": told((CH, b"\xff" * 50)),
    }
    for what, call in cases.items():
        found, problems = fetch(call, ROLL, NOW)
        assert (found, len(problems)) == ([], 1), what
    found, problems = fetch(told((CH, good), (CH, good)), ROLL, NOW)
    assert len(found) == 1
    assert problems == ["The coordinator shows two catalogues of ch-1."]


def test_a_node_that_no_officer_of_the_roll_vouches_for_is_nobody() -> None:
    impostor = Node("ch", officer=SigningKey.generate())
    reply = catalogue_pb2.ListCataloguesReply(
        catalogues=[catalogue_pb2.NodeCatalogue(envelope=CH.publishes(HEARTS), credential=impostor.envelope)]
    )
    found, problems = fetch(lambda _page: reply, ROLL, NOW)
    assert found == []
    assert len(problems) == 1


def test_an_old_catalogue_ends_however_long_it_is_shown() -> None:
    old = told((CH, CH.publishes(HEARTS)))
    assert len(fetch(old, ROLL, NOW + LASTS)[0]) == 1
    found, problems = fetch(old, ROLL, NOW + LASTS + timedelta(seconds=1))
    assert found == []
    assert "ended on" in problems[0]


def test_pages_that_lead_nowhere_end() -> None:
    assert len(fetch(told((CH, CH.publishes(HEARTS)), next_page="ch/ch-1"), ROLL, NOW)[0]) == 1
    assert fetch(lambda page: catalogue_pb2.ListCataloguesReply(next=page.after), ROLL, NOW) == ([], [])


def test_filters_choose_by_what_is_published() -> None:
    everything = published(entry("minden", schema="heart-disease/2"), EVERYTHING)
    found, _ = fetch(told((CH, CH.publishes(HEARTS, everything)), (FR, FR.publishes(COEURS))), ROLL, NOW)

    def passing(**words: str) -> list[str]:
        return [held.entry.name for held in found if Filter(**words).passes(held)]

    assert passing() == ["coeurs", "minden", "szivek"]
    assert passing(schema="heart-disease/1") == ["coeurs", "szivek"]
    assert passing(schema="heart-disease") == ["coeurs", "minden", "szivek"]
    assert passing(tag="ward") == ["minden", "szivek"]
    assert passing(jurisdiction="HU") == ["coeurs", "minden"]
    assert passing(jurisdiction="CH") == ["szivek"], "where none is published, the member's"
    assert named(found, "coeurs").node == "fr-1"
    assert named(found, "coeurs@fr-1") == named(found, "coeurs@fr")
    with pytest.raises(NotFound):
        named(found, "coeurs@ch-1")


def test_one_name_at_two_nodes_must_be_told_apart() -> None:
    found, _ = fetch(told((CH, CH.publishes(HEARTS)), (FR, FR.publishes(HEARTS))), ROLL, NOW)
    with pytest.raises(InvalidUsage) as said:
        named(found, "szivek")
    assert "szivek@ch-1, szivek@fr-1" in said.value.hint


def test_a_reader_is_told_who_could_take_part_and_why_not() -> None:
    found, _ = fetch(told((CH, CH.publishes(HEARTS)), (FR, FR.publishes(COEURS))), ROLL, NOW)
    job = wanted(schema="heart-disease/1", columns=["age"], coverage={"places": ["FR"]})
    assert {held.entry.name: fit_of(held, job) for held in found} == {
        "coeurs": ("perhaps", "is not described by columns"),
        "szivek": ("perhaps", "is not described by time and place"),
    }
    other = wanted(schema="heart-disease/1", columns=["thal"])
    assert fit_of(named(found, "szivek"), other) == ("no", "has no column thal")
