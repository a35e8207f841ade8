"""Attack 61: what a member that is behind is given in the place of the certified state. It holds no file but the state's (the
vectors say so); here it is about time: who lies about a file delays nobody by more than a question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from federation.secagg.collector import CollectorMachine
from federation.secagg.events import FetchState
from tests.simulation.harness import WINDOWS, Lab, World, another_file

Lie = Callable[[World], Any]


def behind(world: World, *away: str, absent: int) -> float:
    """``away`` miss rounds 2 and 3 and come back; the last ``absent`` have gone by then, so that no round opens without those that
    are back. Plays until the job's end, or until nothing more happens by itself.

    Seconds: how long the round after their return took."""
    world.begin().run(until=lambda world: len(world.closed) == 1)
    for name in away:
        world.kill(name)
    world.run(until=lambda world: len(world.closed) == 3)
    for name in world.names[len(world.names) - absent :]:
        world.kill(name)
    began = world.now
    for name in away:
        world.restart(name)
    world.run(until=lambda world: len(world.closed) == 4)
    waited = world.now - began
    world.run()
    return waited


def states_of(world: World, *names: str) -> set[int]:
    return {world.labs[name].machine.position.round for name in names}


@pytest.mark.parametrize("blind", [True, False])
def test_another_file_in_the_place_of_a_state_costs_one_question_more(blind: bool) -> None:
    """m1 is asked first, and puts another file. With m5 away only m4 can be the fourth."""
    world = World(5, rounds=6, blind=blind)
    world.gives_another.add("m1")
    waited = behind(world, "m4", absent=1)
    assert world.done is not None
    assert world.asked_for_state == ["m1", "m2"], "and m1 not again"
    assert len(world.refused_states) == (1 if blind else 0), (
        "where the coordinator sees models, it reads the file itself"
    )
    assert waited < WINDOWS.phase, "nobody waited for the liar"
    assert states_of(world, "m1", "m2", "m3", "m4") == {7}
    assert not world.misconduct, "nobody can prove whose file it was that did not open"


def test_nobody_learns_of_the_lie_without_the_refusal_and_the_job_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attack succeeds where a refusal changes nothing."""
    monkeypatch.setattr(CollectorMachine, "_refused", lambda *_: [])
    world = World(5, rounds=6)
    world.gives_another.add("m1")
    behind(world, "m4", absent=1)
    assert world.done is None
    assert len(world.closed) == 3


@pytest.mark.parametrize("blind", [True, False])
def test_as_many_liars_as_there_may_be_cost_a_question_each(blind: bool) -> None:
    world = World(7, rounds=6, blind=blind, stand_in=True)
    world.gives_another |= {"m1", "m2"}
    waited = behind(world, "m5", absent=2)
    assert world.done is not None
    assert world.asked_for_state == ["m1", "m2", "m3"]
    assert waited < WINDOWS.phase


def test_a_state_that_its_giver_was_not_asked_for_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """m2 says of a state that m1 is asked for that it lies where there is another file. Without the rule m4 is told of that."""

    def tell() -> list[tuple[str, bytes]]:
        world = World(5, rounds=6)
        world.gives_unasked.add("m2")
        behind(world, "m4", absent=1)
        assert world.done is not None
        assert world.asked_for_state[0] == "m1"
        return world.refused_states

    assert tell() == []
    monkeypatch.setattr(
        CollectorMachine, "asked_for", lambda machine, _member, state: machine._book.asked_digest == state
    )
    assert tell()


def test_who_refuses_every_file_delays_itself_alone() -> None:
    """m5 lies of what it is told, m6 does not. Once more have given the same bytes than can lie, nobody is asked on m5's word."""
    world = World(7, rounds=6, stand_in=True)
    world.refuses_states.add("m5")
    behind(world, "m5", "m6", absent=1)
    assert world.done is not None
    assert states_of(world, "m1", "m2", "m3", "m4", "m6") == {7}
    told = Counter(blob for _, blob in world.refused_states)
    assert max(told.values()) == 2, "told of a file, and once more when it is sure"
    assert world.asked_for_state[:3] == ["m1", "m2", "m3"], "f + 1 have given the same file"
    assert len(world.asked_for_state) <= 3 * len(told)


@pytest.mark.parametrize("silent", [False, True])
def test_a_member_that_cannot_say_why_it_comes_back_without_the_state_is_told_of_another_file(
    silent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its node falls when it reads the file, or dials again without a word. One broken stream is no sign: it is told of the same
    file again. The second time another member is asked."""
    world = World(5, rounds=6)
    world.gives_another.add("m1")
    told: list[bytes] = []
    fetched = world._fetched

    def falls(lab: Lab, wanted: FetchState) -> None:
        told.append(wanted.state_blob)
        if wanted.state_blob != another_file("m1", wanted.state_digest):
            fetched(lab, wanted)
        elif silent:
            world.lose(lab.name)
            world.reconnect(lab.name)
        else:
            world.kill(lab.name)
            world.restart(lab.name)

    monkeypatch.setattr(world, "_fetched", falls)
    behind(world, "m4", absent=1)
    assert world.done is not None
    assert world.asked_for_state == ["m1", "m2"]
    assert told[0] == told[1] != told[2]


def test_a_coordinator_that_is_killed_comes_to_the_same_givers_again() -> None:
    """Its replay is compared with what it was, byte by byte (the harness does); m1 is not asked again for that state."""
    world = World(5, rounds=6)
    world.gives_another.add("m1")
    world.begin().run(until=lambda world: len(world.closed) == 1)
    world.kill("m4")
    world.run(until=lambda world: len(world.closed) == 3)
    world.kill("m5")
    world.restart("m4")
    world.run(until=lambda world: len(world.asked_for_state) == 1)
    world.restart_collector()
    world.run(until=lambda world: bool(world.refused_states))
    world.restart_collector()
    before = len(world.asked_for_state)
    world.run()
    assert world.done is not None
    assert world.labs["m4"].machine.position.round == 7
    assert "m1" not in world.asked_for_state[before:]


def test_a_giver_that_is_late_is_still_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large state takes longer than the window: another was asked meanwhile, and whoever comes first is taken."""
    world = World(5, rounds=6)
    late: list[Any] = []
    give = world.give_state

    def slowly(lab: Lab, wanted: Any) -> None:
        late.append(lambda: give(lab, wanted))

    monkeypatch.setattr(world, "give_state", slowly)
    world.begin().run(until=lambda world: len(world.closed) == 1)
    world.kill("m4")
    world.run(until=lambda world: len(world.closed) == 3)
    world.kill("m5")
    world.restart("m4")
    world.run(until=lambda world: len(world.asked_for_state) == 2)
    late[0]()
    world.run()
    assert world.done is not None
    assert not world.refused_states
