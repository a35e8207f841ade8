"""What members await in the public log is what the coordinator writes there: no more, so that nobody is accused; and no less."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import Any

import pytest

from coordinator.rounds.chronicle import Chronicle
from coordinator.rounds.views import RoundViews
from federation.secagg.events import Refuse
from node_agent.rounds.logged import Logged
from tests.simulation.stand_ins import Quick


class Written:
    """As much of a transaction as the chronicle needs; ``entries`` is what stands in the log, by kind."""

    def __init__(self) -> None:
        self.entries: dict[str, list[bytes]] = defaultdict(list)

    def audit(self, _now: float, kind: str, _subject: str, data: bytes = b"") -> None:
        self.entries[kind].append(data)

    def __getattr__(self, _name: str) -> Any:
        return lambda *_words, **_named: None


class Awaiting(Quick):
    """Each member of the simulation awaits what the node's driver would."""

    def __init__(self, n: int = 5, **changes: Any) -> None:
        self.written, self.awaited = Written(), defaultdict(list)
        super().__init__(n, **changes)
        self.chronicle = Chronicle("ab" * 32, self.terms, RoundViews(()))
        self.logged = {name: Logged(lambda digest, kind, name=name: self.awaited[name].append((kind, digest)))
                       for name in self.names}  # fmt: skip

    def perform(self, instructions: Any) -> None:
        for each in instructions:
            self.chronicle.write(self.written, each, self.names, self.now)
        super().perform(instructions)

    def deliver(self, name: str, event: Any) -> None:
        lab = self.labs[name]
        machine, handle = lab.machine, lab.machine.handle

        def watched(event: Any, now: float) -> Any:
            instructions = handle(event, now)
            self.logged[name].took(event, instructions)
            return instructions

        object.__setattr__(machine, "handle", watched)
        try:
            super().deliver(name, event)
        finally:
            object.__delattr__(machine, "handle")

    def digests(self, kind: str) -> set[bytes]:
        return {hashlib.sha256(data).digest() for data in self.written.entries[kind] if data}


@pytest.mark.parametrize("killed", [(), ("m1", "Ack"), ("m2", "Receipt"), ("m3", "Upload")])
def test_every_member_awaits_rosters_rounds_and_states_and_the_log_has_them(killed: tuple[str, ...]) -> None:
    world = Awaiting(5, rounds=3, size=2, chunk_parameters=4, blind=False)
    if killed:
        world.kill_before.add(killed)
    world.begin().run()
    assert world.done is not None
    assert len(world.written.entries["round-closed"]) >= 3
    for name in world.names:
        said = world.awaited[name]
        assert len(set(said)) == len(said), "once each"
        for kind, digest in said:
            assert digest in world.digests(kind), (name, kind)
    whole = [name for name in world.names if name not in killed]
    for name in whole:
        kinds = [kind for kind, _ in world.awaited[name]]
        assert (kinds.count("roster"), kinds.count("round-closed")) == (1, 3 + int(world.terms.last_round > 3)), name
        assert kinds.count("certificate") == world.terms.last_round - 1, (
            "the last comes with the request for the release"
        )


def test_what_a_member_refuses_promises_nothing() -> None:
    """A coordinator cannot have members await, and so accuse, what no log could hold."""
    found: list[tuple[bytes, str]] = []
    logged = Logged(lambda digest, kind: found.append((digest, kind)))
    world = Awaiting(3, rounds=1, size=2, chunk_parameters=4, blind=False)
    seen: list[Any] = []
    world.forge = lambda _member, message: seen.append(message) or message
    world.begin().run()
    for message in seen:
        logged.took(message, [])
        logged.took(message, [Refuse(None)])  # type: ignore[arg-type]
    assert found == []
