"""A release waits for the log's witnesses: the job says so, is not published while it is held, and not at all once it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from coordinator.jobs.case import Case
from coordinator.jobs.cases import Cases
from coordinator.jobs.publication import Publication
from coordinator.releases import witnessing
from federation.halt.levels import Level

JOB = b"\1" * 32


class Book:
    """Its witnesses answer when ``end`` says so, with a head or with none."""

    def __init__(self, head: int | None, end: Callable[[Cases], bool]) -> None:
        self.head, self.end = head, end
        self.cases: Any = None
        self.asked: list[tuple[Any, int]] = []
        self.level = Level.none

    async def witnessed(self, _sessions: object, keys: object, quorum: int, needed: Callable[[], bool]) -> int | None:
        self.asked.append((keys, quorum))
        while needed():
            await asyncio.sleep(0)
            if self.end(self.cases):
                return self.head
        return None


class Releases:
    def __init__(self) -> None:
        self.made: list[int] = []

    def witnesses(self, _manifest: object) -> tuple[tuple[str, ...], int]:
        return ("a", "b", "c"), 2

    def publish(self, _manifest: object, _consents: object, head: int, _state: bytes, _sealings: object) -> str:
        self.made.append(head)
        return "ab" * 32

    def published(self, _manifest: object, _release: str) -> None:
        pass


def published(book: Book, monkeypatch: pytest.MonkeyPatch, quiet: float = 0.0) -> tuple[list[str], Case, Releases]:
    """What the job's reason became, until the release was made or given up."""
    monkeypatch.setattr(witnessing, "QUIET_SECONDS", quiet)
    nothing: Any = SimpleNamespace(post=None)
    releases: Any = Releases()
    said: list[str] = []

    async def run() -> Case:
        halts: Any = SimpleNamespace(level=lambda *_, **__: book.level)
        book.cases = cases = Cases(nothing, nothing, nothing, nothing, lambda: 0.0, halts)
        manifest: Any = SimpleNamespace(digest=JOB, lead=SimpleNamespace(id="ana"), spec=SimpleNamespace(rounds=1))
        case = Case(manifest, "running", 0.0, publishing=True)
        cases.add(case)
        monkeypatch.setattr(cases, "become", lambda _case, _state, why: said.append(why))
        monkeypatch.setattr(cases, "end", lambda _case, state, *_, **__: said.append(state))
        monkeypatch.setattr(cases, "tell", lambda *_: None)
        await Publication(cases, releases, book, nothing).publish(case, b"", ())  # type: ignore[arg-type]
        return case

    return said, asyncio.run(asyncio.wait_for(run(), 30)), releases


def test_the_job_says_that_it_waits_and_then_makes_its_release_under_that_head(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = iter(range(100))
    book = Book(57, lambda _cases: next(turns) > 20)
    said, _, releases = published(book, monkeypatch)
    assert said == ["the release waits until 2 nodes of its roster have cosigned the public log", "finished"]
    assert book.asked == [(("a", "b", "c"), 2)]
    assert releases.made == [57]


def test_where_they_answer_at_once_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said, _, releases = published(Book(57, lambda _cases: True), monkeypatch, quiet=60)
    assert (said, releases.made) == (["finished"], [57])


def test_a_job_that_ended_meanwhile_has_no_release(monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(cases: Cases) -> bool:
        monkeypatch.setattr(cases, "get", lambda _job: None)
        return False

    said, case, releases = published(Book(57, ended), monkeypatch, quiet=60)
    assert (said, releases.made, case.publishing) == ([], [], False)


def test_a_job_that_is_held_meanwhile_is_asked_for_its_model_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def held(_cases: Cases) -> bool:
        book.level = Level.hold
        return False

    book = Book(57, held)
    said, case, releases = published(book, monkeypatch, quiet=60)
    assert (said, releases.made) == ([], [])
    assert not case.publishing, "what members give when the halt is lifted is taken"
