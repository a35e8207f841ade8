"""Attack 12: any message of another round, attempt, epoch or job, of every kind, in every moment. Attack 21: whoever sits in the
middle of the transport, with a certificate authority of its own, has no key that signs payloads.

The messages are those of whole runs, in which members drop out, attempts are aborted and void, and a member joins; the victims are
the live machines of another run, which must then finish as if nothing had been said."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar, get_args, get_type_hints

import pytest

from federation.secagg import events
from federation.secagg.events import (
    AbortRequest,
    ComputeInitialState,
    Form,
    From,
    Lineage,
    Misconduct,
    ProvideState,
    Refuse,
    Send,
)
from federation.secagg.messages import Abort, Ack, Certificate, Ready, Receipt
from tests.simulation.stand_ins import Quick

TOLD = get_args(get_type_hints(events.Tell)["message"])
SAID = get_args(get_type_hints(events.Send)["message"])
UNSIGNED = (Form, AbortRequest, ProvideState)
"""requests that carry nothing signed: what a member answers to them is bound to its own job, roster and state"""


class Recorded(Quick):
    """Keeps whatever was told to anybody, and said by anybody."""

    def __init__(self, *arguments: Any, **changes: Any) -> None:
        self.told: list[tuple[str, Any]] = []
        self.said: list[tuple[str, Any]] = []
        super().__init__(*arguments, **changes)

    def deliver(self, name: str, event: Any) -> None:
        if isinstance(event, TOLD):
            self.told.append((name, event))
        super().deliver(name, event)

    def tell_collector(self, event: Any) -> None:
        if isinstance(event, From):
            self.said.append((event.member, event.message))
        super().tell_collector(event)


def eventful(kind: type[Recorded] = Recorded, **changes: Any) -> Any:
    """Four of five train; m4 fails its task, so that an attempt is aborted; a sum is spoiled, so that another is void; m3 falls
    silent after its ACK, and is behind when it returns; m5 joins."""
    world = kind(5, **{"rounds": 6, "min_members": 4, **changes})
    world.begin(world.names[:4])

    def at(round_number: int, phase: str) -> None:
        world.run(
            until=lambda world: (
                (world.collector.round, world.collector.phase) == (round_number, phase) or bool(world.done)
            )
        )

    world.fail_task |= {"m4", "m3"}
    at(2, "collecting")
    world.run(until=lambda world: any(len(stored) == 4 for stored in list(world.updates.values())[2:]))
    spoiled = list(world.updates.values())[-1]
    spoiled[2] = bytes(len(spoiled[2]))
    world.kill_before.add(("m3", "Reveal"))
    world.join("m5")
    at(4, "collecting")
    world.restart("m3")
    world.run()
    assert world.done is not None, (world.stuck, world.collector.story)
    return world


@cache
def of_another_job() -> Recorded:
    return eventful(job=bytes(range(32)))


@cache
def of_this_job() -> Recorded:
    return eventful()


def test_the_recorded_runs_hold_every_kind_of_message() -> None:
    for world in (of_this_job(), of_another_job()):
        assert {type(message) for _, message in world.told} >= set(TOLD) - {ProvideState}
        assert {type(message) for _, message in world.said} == set(SAID)
        attempts = {getattr(message, "attempt", 0) for _, message in world.told}
        assert {getattr(message, "epoch", 1) for _, message in world.told} == {1, 2}
        assert max(attempts) >= 1
    ours, theirs = (
        {message.context for _, message in world.said if isinstance(message, Ack)}
        for world in (of_this_job(), of_another_job())
    )
    assert not ours & theirs


class Replayed(Recorded, ABC):
    """Before anything is told to the victim, everything old is told to it again: it says nothing that it had not said, and
    remembers nothing."""

    victim = "m1"

    def __init__(self, *arguments: Any, **changes: Any) -> None:
        self.checks: dict[type, set[str]] = {}
        self.replayed = 0
        super().__init__(*arguments, **changes)

    @abstractmethod
    def old(self, event: Any) -> list[Any]:
        """What is told to the victim before ``event``."""

    def deliver(self, name: str, event: Any) -> None:
        lab = self.labs[name]
        if name == self.victim and isinstance(event, TOLD) and lab.alive:
            for message in self.old(event):
                self.replayed += 1
                for each in lab.machine.handle(message, self.now):
                    if isinstance(each, Refuse):
                        self.checks.setdefault(type(message), set()).add(each.violation.check)
                    elif isinstance(each, Send):
                        assert each.message in lab.sent, (message, each)
                    else:
                        assert isinstance(each, ComputeInitialState), (message, each)
                lab.machine.validate()
        super().deliver(name, event)


@pytest.mark.parametrize("victim", ["m1", "m2", "m5"])
def test_messages_of_another_job_are_refused_by_a_member_in_every_moment(victim: str) -> None:
    kinds: dict[type, list[Any]] = {}
    for _, message in of_another_job().told:
        same = kinds.setdefault(type(message), [])
        if not isinstance(message, UNSIGNED) and message not in same and len(same) < 5:
            same.append(message)
    foreign = [message for same in kinds.values() for message in same]

    class Foreign(Replayed):
        def old(self, event: Any) -> list[Any]:
            return foreign

    Foreign.victim = victim
    world = eventful(Foreign)
    assert world.replayed > 500
    assert not any(each.proof for each in world.misconduct)
    assert len(world.closed) >= world.terms.rounds
    silent = {kind for kind in TOLD if kind not in UNSIGNED} - set(world.checks)
    assert silent <= {Lineage}, "whoever knows the epoch before listens to no other"
    assert {"signature", "context"} <= set().union(*world.checks.values())


@pytest.mark.parametrize("victim", ["m1", "m2", "m5"])
def test_messages_of_another_round_attempt_or_epoch_are_refused_by_a_member_in_every_moment(victim: str) -> None:
    """Whatever was told to anybody, signed, and is of an attempt, round or epoch that is over at the victim."""

    class Old(Replayed):
        def old(self, event: Any) -> list[Any]:
            machine = self.labs[self.victim].machine
            place, found = machine.position, []
            open_contexts = {each.context for each in machine._announced.values() if each.round >= place.round}
            for _, message in self.told:
                context = context_of(message)
                over = context is not None and context not in open_contexts
                early = hasattr(message, "readies") and (message.epoch, message.round) < (place.epoch, place.round)
                if (over or early) and message not in found:
                    found.append(message)
            return found

    Old.victim = victim
    world = eventful(Old)
    assert world.replayed > 300
    assert len(world.closed) >= world.terms.rounds
    assert {"context", "epoch"} & set().union(*world.checks.values())


def context_of(message: Any) -> bytes | None:
    certificate = getattr(message, "certificate", message)
    found: bytes | None = getattr(getattr(certificate, "survivors", message), "context", None)
    return found


@pytest.mark.parametrize("foreign", [True, False], ids=["of another job", "of another round, attempt or epoch"])
def test_messages_that_are_replayed_to_the_collector_change_nothing_in_any_moment(foreign: bool) -> None:
    """Its ledger stays the same, and nobody is convicted by what it said elsewhere."""
    other = of_another_job().said

    class Old(Recorded):
        checks: ClassVar[set[str]] = set()
        replayed = 0

        def tell_collector(self, event: Any) -> None:
            if isinstance(event, From) and len(self.said) % 5 == 0 and self.collector.bench is not None:
                for member, message in self.newest_of_each_kind(other if foreign else self.said):
                    Old.replayed += 1
                    before = self.collector.checkpoint()
                    for each in self.collector.handle(From(member, message), self.now):
                        assert isinstance(each, Misconduct), (message, each)
                        assert not each.proof
                        self.checks.add(each.violation.check)
                    assert self.collector.checkpoint() == before, message
            super().tell_collector(event)

        def newest_of_each_kind(self, said: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
            found: dict[type, tuple[str, Any]] = {}
            for member, message in said:
                if member in self.collector.index_of and (foreign or self.over(message)):
                    found[type(message)] = member, message
            return list(found.values())

        def over(self, message: Any) -> bool:
            book, bench = self.collector._book, self.collector.bench
            assert bench is not None
            if isinstance(message, Ready | Receipt | Abort):
                return (message.epoch, message.round) < (bench.epoch, book.round - 1)
            close = book.close.context if book.close is not None else b""
            announced = self.collector.announced.context if self.collector.announced is not None else b""
            return hasattr(message, "context") and message.context not in (close, announced)

    world = eventful(Old)
    assert len(world.closed) >= world.terms.rounds
    assert Old.replayed > 100
    if foreign:
        assert "signature" in Old.checks


@pytest.mark.parametrize("kind", SAID, ids=lambda kind: kind.__name__)
def test_its_own_certificate_authority_in_the_middle_signs_no_payload(kind: type) -> None:
    """Attack 21: everything that m2 says of this kind is signed anew on its way, with a key that is in no credential."""
    world = Quick(4, rounds=1, min_members=4)
    if kind.__name__ == "RecoverReply":
        world.kill_before.add(("m1", "Reveal"))
    if kind.__name__ == "Abort":
        world.fail_task.add("m1")
        world.kill_before.add(("m3", "Upload"))
    middle = bytes(range(64))

    def tamper(member: str, message: Any) -> Any:
        return replace(message, signature=middle) if member == "m2" and isinstance(message, kind) else message

    world.tamper = tamper
    world.begin().run()
    found = [each for each in world.misconduct if each.member == "m2"]
    assert found, kind
    assert {each.violation.check for each in found} <= {"signature", "key-signature"}
    assert not any(each.proof for each in found)


@pytest.mark.parametrize("kind", [kind for kind in TOLD if kind not in UNSIGNED], ids=lambda kind: kind.__name__)
def test_its_own_certificate_authority_in_the_middle_alters_no_message_to_a_member(kind: type) -> None:
    """Any one signature in it is another's: the member refuses, and does not move."""
    told = [name for name, each in of_this_job().told if isinstance(each, kind)]
    victim = "m1" if "m1" in told else told[0]

    class Middle(Recorded):
        checks: ClassVar[list[str]] = []

        def deliver(self, name: str, event: Any) -> None:
            if name == victim and isinstance(event, kind) and not self.checks:
                lab = self.labs[name]
                for altered in resigned(event):
                    out = lab.machine.handle(altered, self.now)
                    assert out, altered
                    assert all(isinstance(each, Refuse) for each in out), (altered, out)
                    self.checks.extend(each.violation.check for each in out)
            super().deliver(name, event)

    eventful(Middle)
    assert Middle.checks
    assert set(Middle.checks) <= {"signature", "key-signature", "two-rosters", "own-entry", "acks"}, Middle.checks


def resigned(value: Any) -> list[Any]:
    """The message, each time with one signature in it replaced."""
    if isinstance(value, tuple):
        found = []
        for place in {0, len(value) - 1} if value else ():
            found += [(*value[:place], each, *value[place + 1 :]) for each in resigned(value[place])]
        return found
    if not hasattr(value, "__dataclass_fields__"):
        return []
    found = []
    for field in value.__dataclass_fields__:
        part = getattr(value, field)
        if field == "signature":
            found.append(replace(value, signature=bytes(range(64))))
        elif isinstance(part, tuple) or hasattr(part, "__dataclass_fields__"):
            found += [replace(value, **{field: each}) for each in resigned(part)]
    return found


def test_a_certificate_whose_signatures_are_anothers_is_among_those() -> None:
    certificate = next(each for _, each in of_this_job().told if isinstance(each, Certificate))
    assert len(resigned(certificate)) == 4
