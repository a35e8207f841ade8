"""A running node tells what its lab publishes: once, again after a new connection or a change, and never in a hurry."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from federation.catalogue.statement import digest_of, open_catalogue
from federation.identity.keys import SigningKey
from federation.v1 import rounds_pb2
from node_agent.catalogue import bulletin as bulletins
from node_agent.catalogue.bulletin import Bulletin
from node_agent.catalogue.publication import publish, withdraw
from tests.unit.agent.homes import Site, joined_by_hand
from tests.unit.catalogue.described import entry


class Board:
    def __init__(self, path: Path) -> None:
        self.site = Site(path)
        self.credential = joined_by_hand(self.site)
        self.home = self.site.home
        self.said: list[bytes] = []
        key = SigningKey.from_pem(self.home.read(self.home.identity_key))
        self.connected = asyncio.Event()
        self.owed: list[bytes] = []
        """what the public log must hold, by digest"""
        self.bulletin = Bulletin(
            self.home, key, self.credential, self.connected, self._hear, self.owed.append, self.owed.remove
        )

    def _hear(self, event: rounds_pb2.NodeEvent) -> None:
        self.said.append(event.catalogue.envelope)

    def looks(self, times: int = 1) -> list[bytes]:
        """What it says when it looks."""
        before = len(self.said)
        for _ in range(times):
            asyncio.run(self.bulletin.tell())
        return self.said[before:]

    def held(self, envelope: bytes, problem: str = "") -> None:
        self.bulletin.answered(rounds_pb2.CatalogueHeld(digest=digest_of(envelope), problem=problem))


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def test_a_lab_that_publishes_nothing_says_nothing(board: Board) -> None:
    assert board.looks(3) == []
    assert not board.home.published.exists()


def test_it_is_said_until_it_is_held_and_again_when_it_changed(board: Board) -> None:
    publish(board.home, entry("szivek"))
    (first,) = board.looks()
    assert board.looks() == [first], "nobody has answered"
    board.held(first)
    assert board.looks(3) == []
    withdraw(board.home, "szivek")
    (second,) = board.looks()
    assert open_catalogue(second, board.credential, datetime.now(UTC)).entries == ()
    board.held(second)
    board.bulletin.begin()
    assert board.looks() == [second], "who answers now may hold nothing"


def test_a_folder_that_stays_is_not_read_again(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(board.home, entry("szivek"))
    (first,) = board.looks()
    board.held(first)
    board.looks()
    read: list[object] = []
    monkeypatch.setattr(bulletins, "signed", lambda *words, **more: read.append(words))
    board.looks(5)
    assert read == []
    publish(board.home, entry("tudok"))
    board.looks()
    assert len(read) == 1


def test_a_refused_catalogue_is_signed_anew_and_ever_more_rarely(board: Board) -> None:
    """As after a home was put back: the coordinator holds a later one."""
    publish(board.home, entry("szivek"))
    (first,) = board.looks()
    pauses = []
    for _ in range(12):
        board.held(first, "holds a later catalogue")
        pauses.append(board.bulletin._pause)
    assert pauses[0] > bulletins.PAUSE_SECONDS
    assert pauses == sorted(pauses)
    assert pauses[-1] == bulletins.LONGEST_PAUSE
    (again,) = board.looks()
    now = datetime.now(UTC)
    numbers = [open_catalogue(envelope, board.credential, now).sequence for envelope in (first, again)]
    assert numbers[1] > numbers[0]
    board.held(again)
    assert board.bulletin._pause == bulletins.PAUSE_SECONDS


def test_a_damaged_file_stops_the_catalogue_and_nothing_else(board: Board) -> None:
    publish(board.home, entry("szivek"))
    (board.home.published / "szivek.entry").write_bytes(b"{")
    assert board.looks(2) == []


def test_the_log_owes_a_catalogue_from_the_first_time_it_is_said(board: Board) -> None:
    """Also where the coordinator never answers. What it refuses, and what is replaced unanswered, it does not owe."""
    publish(board.home, entry("szivek"))
    (first,) = board.looks()
    board.looks(2)
    assert board.owed == [digest_of(first)], "once"
    publish(board.home, entry("mellkas"))
    (second,) = board.looks()
    assert board.owed == [digest_of(second)]
    board.held(second)
    withdraw(board.home, "szivek")
    (third,) = board.looks()
    assert board.owed == [digest_of(second), digest_of(third)], "what it said to hold is owed still"
    board.held(second, problem="Catalogues come too fast.")
    assert board.owed == [digest_of(second)]
