"""What is out of order, what is told again, and what is restored."""

from __future__ import annotations

import pytest

from federation.errors import OutOfOrder, VerificationFailed
from federation.secagg import boxes, votes
from federation.secagg import collector as collecting
from federation.secagg import member as membership
from federation.secagg.events import (
    Begin,
    Connected,
    ContributionFailed,
    Encoded,
    Form,
    From,
    Lost,
    Refuse,
    StateReady,
    SumReady,
    Tell,
    Tick,
)
from federation.secagg.messages import Close
from federation.secagg.parameters import Quorums
from federation.secagg.suite import STANDARD
from tests.attacks.forging import Workshop, open_world, run_until
from tests.simulation.harness import INITIAL, Lab, World


@pytest.mark.parametrize(
    ("n", "f", "q", "t", "m"),
    [
        (3, 0, 2, 2, 3),
        (4, 1, 3, 3, 3),
        (5, 1, 4, 3, 4),
        (7, 2, 5, 5, 5),
        (10, 3, 7, 7, 7),
        (100, 33, 67, 67, 67),
        (200, 66, 134, 133, 134),
    ],
)
def test_the_numbers_are_those_of_the_specification(n: int, f: int, q: int, t: int, m: int) -> None:
    assert Quorums.of(n) == Quorums(n, f, q, t, m)


def test_what_a_driver_may_not_say_raises_with_the_story() -> None:
    world = World(3)
    with pytest.raises(OutOfOrder) as raised:
        world.labs["m1"].machine.handle(Encoded(bytes(32), bytes(32)), 0.0)
    assert raised.value.story
    with pytest.raises(OutOfOrder):
        world.collector.handle(SumReady(bytes(32), bytes(32), 1), 0.0)
    world.begin()
    with pytest.raises(OutOfOrder):
        world.collector.handle(Begin(()), 0.0)


def test_what_a_peer_may_not_say_is_refused_and_changes_nothing() -> None:
    shop = Workshop(open_world(3))
    world = World(3)
    assert isinstance(world.labs["m1"].machine.handle(shop.survivors([1, 2, 3]), 0.0)[0], Refuse)
    assert world.labs["m1"].machine.phase == "new"
    world.begin()
    upload = next(m for m in shop.world.labs["m1"].sent if hasattr(m, "trailer"))
    world.tell_collector(From("m1", upload))
    assert world.misconduct[0].violation.check == "out-of-order"


def test_every_member_event_has_its_phases() -> None:
    machine = World(3).labs["m1"].machine
    assert set(membership.LEGAL) == set(machine._handlers)
    assert set(collecting._LATE) <= set(collecting.LEGAL)


def test_a_state_that_nobody_asked_for_is_out_of_order() -> None:
    world = run_until(World(3), "collecting")
    with pytest.raises(OutOfOrder):
        world.labs["m1"].machine.handle(StateReady(7, bytes(32)), 0.0)


def test_everything_told_again_gets_the_same_answer() -> None:
    setup = ("keys", "encapsulations", "signatures", "openings", "confirmations")
    for phase in (*setup, "collecting", "certifying", "revealing"):
        world = World(4, rounds=2)
        world.begin().run(until=lambda world, phase=phase: phase in (world.collector.phase, stage_of(world)))
        for name in world.names:
            world.lose(name)
            world.reconnect(name)
            world.reconnect(name)
        world.run()
        assert world.done is not None, phase
        assert not world.misconduct
        assert all(not lab.refused for lab in world.labs.values())


def stage_of(world: World) -> str:
    forming = world.collector._book.forming
    return forming.stage if forming is not None else ""


def test_a_stream_that_breaks_holds_up_its_phase_and_the_next_announcement_and_nothing_after_that() -> None:
    world = World(5, rounds=3)
    world.kill_before.add(("m5", "Upload"))
    world.begin().run()
    assert world.done is not None
    assert world.now == pytest.approx(2 * world.windows.reconnect)


def test_a_member_that_returns_within_the_window_is_in_the_very_next_round() -> None:
    world = World(5, rounds=3)
    world.kill_before.add(("m5", "Upload"))
    world.begin().run(until=lambda world: world.collector.round == 2 and world.collector.phase == "gathering")
    world.restart("m5")
    world.run(until=lambda world: world.collector.round == 2 and world.collector.phase == "collecting")
    announced = world.collector.announced
    assert announced is not None
    assert 5 in announced.ready
    assert world.now == pytest.approx(world.windows.reconnect)


def test_a_task_that_cannot_start_at_too_many_members_ends_the_job_and_says_where() -> None:
    world = World(5, rounds=2)
    world.cannot_start = {"m2", "m4"}
    world.begin().run()
    assert world.stuck is not None
    assert "m2 (it cannot start), m4 (it cannot start)" in world.stuck.reason
    assert world.now < world.windows.ready


def test_a_task_that_cannot_start_at_one_member_goes_on_without_it_and_without_waiting() -> None:
    world = World(5, rounds=2)
    world.cannot_start = {"m2"}
    world.begin().run()
    assert world.done is not None
    assert world.now < world.windows.ready


def test_a_connected_member_that_is_slow_is_waited_for() -> None:
    world = World(5, rounds=1)
    world.tamper = lambda member, message: None if member == "m5" and type(message).__name__ == "Upload" else message
    world.begin().run()
    assert world.done is not None
    assert world.windows.round <= world.now < world.windows.round + 2 * world.windows.phase + 1


def test_a_checkpoint_gives_the_same_machine() -> None:
    world = run_until(World(4), "revealing")
    data = world.collector.checkpoint()
    again = type(world.collector).from_checkpoint(world.terms, world.windows, world.verify_credential, data)
    assert again.checkpoint() == data
    assert again.seats == world.collector.seats
    assert again.announced == world.collector.announced
    for event in (Lost("m1"), Connected("m1", 1, INITIAL), Tick()):
        assert again.handle(event, 5.0) == world.collector.handle(event, 5.0)
    with pytest.raises(VerificationFailed):
        type(world.collector).from_checkpoint(world.terms, world.windows, world.verify_credential, data[:-3])


def test_a_member_left_out_of_the_roster_is_told_nothing_of_its_rounds_and_asked_for_the_next() -> None:
    world = World(4, rounds=2)
    world.kill_before.add(("m4", "KeyMessage"))
    world.begin().run(until=lambda world: world.collector.phase == "gathering")
    told = [each.message for each in world.collector.handle(Connected("m4"), world.now) if isinstance(each, Tell)]
    assert [type(message) for message in told] == [Form]
    assert told[0].epoch == 2


def test_a_damaged_journal_is_an_error() -> None:
    world = run_until(World(3), "collecting")
    lab = world.labs["m1"]
    machine = world._machine("m1", lab.signer, lab.weight, 5)
    with pytest.raises(VerificationFailed):
        machine.restore({**lab.journal, "state": b"short"})


def test_the_private_keys_are_erased_once_the_roster_is_signed() -> None:
    world = World(3).begin()
    world.run(until=lambda world: all(lab.machine.stage == "signed" for lab in world.labs.values()))
    for lab in world.labs.values():
        candidacy = lab.machine._votes.get("candidacy", votes.Candidacy)
        assert candidacy is not None
        assert candidacy.private == b""
        assert candidacy.secrets == ()
    world.run(until=lambda world: world.collector.phase == "collecting")
    assert all("candidacy" not in lab.journal for lab in world.labs.values())


def test_keys_of_a_round_are_gone_from_the_disk_once_the_next_is_announced() -> None:
    world = World(3, rounds=3).begin()
    world.run(
        until=lambda world: {votes_of(lab).round for lab in world.labs.values()} == {2} if seated(world) else False
    )
    held = {lab.name: votes_of(lab).group_key for lab in world.labs.values()}
    world.run(until=lambda world: {votes_of(lab).round for lab in world.labs.values()} == {3})
    for lab in world.labs.values():
        disk = b"".join(lab.journal.values())
        assert held[lab.name] not in disk
        assert boxes.ratchet(STANDARD, held[lab.name], 3) == votes_of(lab).group_key


def seated(world: World) -> bool:
    return all(lab.machine.phase == "training" for lab in world.labs.values())


def votes_of(lab: Lab) -> votes.Seated:
    seat = lab.machine._votes.get("seat/1", votes.Seated)
    assert seat is not None
    return seat


def test_a_close_for_a_later_state_waits_for_that_state() -> None:
    shop = Workshop(open_world(5))
    certificate = shop.certificate(range(1, 6), [1, 2, 3, 4])
    assert shop.tell(1, Close(2, shop.context, bytes(32), bytes(32), 8, certificate)) == []
    assert shop.refused(1, Close(1, shop.context, bytes(32), bytes(32), 8, certificate)) == "acks"


def test_late_words_of_an_attempt_that_is_over_are_harmless() -> None:
    world = World(3, rounds=1)
    world.begin().run()
    machine = world.labs["m1"].machine
    assert machine.handle(ContributionFailed(bytes(32)), 0.0) == []
    assert machine.handle(Encoded(bytes(32), bytes(32)), 0.0) == []
    assert machine.position.round == 2
