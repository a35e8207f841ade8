"""A member that answers a job again and again: the public log, the job's story and the metrics do not grow with its patience."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from coordinator.api.sessions import Session, Sessions
from coordinator.audit.book import LogBook
from coordinator.jobs import answers
from coordinator.jobs.answers import MOST_ANSWERS
from coordinator.jobs.case import Case
from coordinator.jobs.docket import Docket
from coordinator.store.database import Database
from coordinator.web.metrics import Metrics
from federation.identity.keys import SigningKey
from federation.v1 import rounds_pb2
from tests.unit.coordinator.labs import World

HERE = ("m2", "m2-1")


class Room:
    """A docket with one job that runs, in which m2 has a seat and says what it likes under its own name."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world, self.metrics = world, Metrics(CollectorRegistry(), "test")
        registry: Any = SimpleNamespace(roll=lambda: world.roll, credential=lambda *_node: None)
        book = LogBook(world.database, "health", SigningKey.generate(), lambda: world.roll, lambda: world.now, 5.0)
        self.docket = Docket(
            world.database, None, None, Sessions(), registry, None, self.metrics,  # type: ignore[arg-type]
            lambda: world.now, book,
        )  # fmt: skip
        driver: Any = SimpleNamespace(
            members=dict([HERE]), say=lambda _event: None, takes_members=False, done=False, names={}
        )
        self.case = Case(world.manifest, "running", world.now, placement=(HERE,), driver=driver)
        self.docket.open_cases.add(self.case)
        self.session = Session(*HERE, rounds_pb2.Offer())
        monkeypatch.setattr(answers, "open_consent", self.opened)

    def opened(self, envelope: bytes, _credential: Any) -> Any:
        """Signed by m2: that is not what is looked at here."""
        words = envelope.decode()
        return SimpleNamespace(
            job=self.world.manifest.digest, member="m2", node="m2-1", granted=False, reasons=(words,), binds=None
        )

    def say(self, words: str) -> None:
        event = rounds_pb2.NodeEvent(
            job=self.world.manifest.digest, consent=rounds_pb2.ConsentReply(envelope=words.encode())
        )
        self.docket.heard(self.session, event)

    def written(self) -> tuple[int, int]:
        """(entries of the public log, lines of the story)"""
        with self.world.database.transaction() as change:
            return change.log.frontier().size, len(change.lines(self.world.manifest.digest.hex()))

    def counted(self, name: str) -> Counter[str]:
        (family,) = (each for each in self.metrics.registry.collect() if each.name == name)
        return Counter({next(iter(sample.labels.values())): int(sample.value) for sample in family.samples})


@pytest.fixture
def world(tmp_path: Path) -> Any:
    made = World(tmp_path / "w")
    made.database = Database(tmp_path / "coordinator.db")
    with made.database.transaction() as change:
        change.add_job(made.manifest.digest.hex(), made.manifest.name, made.manifest.envelope, 1.0)
    yield made
    made.database.close()


def test_what_is_said_again_is_nothing_new(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        room = Room(world, monkeypatch)
        room.say("budget: nothing is left")
        before = room.written()
        for _ in range(1000):
            room.say("budget: nothing is left")
        assert room.written() == before
        assert room.counted("concord_consents")["denied"] == 1
        assert room.counted("concord_denials") == {"budget": 1}

    asyncio.run(story())


def test_answers_in_other_words_each_time_are_taken_up_to_a_bound(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        room = Room(world, monkeypatch)
        before = room.written()
        for number in range(1000):
            room.say(f"reason-{number}: {number}")
        entries, lines = (now - then for now, then in zip(room.written(), before, strict=True))
        assert entries == MOST_ANSWERS
        assert lines < MOST_ANSWERS + 110, "and a bounded number of remarks"
        assert room.case.answers[HERE].reasons == (f"reason-{MOST_ANSWERS - 1}: {MOST_ANSWERS - 1}",), (
            "the last that was taken"
        )
        assert room.counted("concord_consents")["denied"] == MOST_ANSWERS
        assert room.counted("concord_denials") == {"other": MOST_ANSWERS}
        assert room.counted("concord_protocol_violations")["consent-flood"] == 1000 - MOST_ANSWERS

    asyncio.run(story())
