"""A member that says more than a round can hold: its messages are lost on the way, its proofs are not, and the round goes on."""

import asyncio
from collections import Counter

import pytest

from coordinator.rounds import chronicle, driver
from coordinator.rounds.chronicle import PROOFS_KEPT, REFUSALS_KEPT, Chronicle
from coordinator.rounds.misconduct import shown, write
from federation.errors import ProtocolViolation
from federation.secagg import events, wire
from federation.secagg.messages import Ack
from tests.unit.coordinator.labs import World


def forged(number):
    return events.From("m2", Ack(2, number.to_bytes(32, "big"), bytes(32), bytes(64)))


async def settled(world):
    for _ in range(5000):
        await asyncio.sleep(0)
        if world.driver._queue.empty():
            return


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path / "w")
    made.counted = Counter()
    made.misconduct = lambda _job, member, check: made.counted.update([(member, check)])
    yield made
    made.database.close()


def stored(world):
    with world.database.transaction() as change:
        rows = change.events(world.manifest.digest.hex())
    said = [wire.event_from_bytes(data) for _, _, data in rows]
    return Counter(event.member for event in said if isinstance(event, driver.SAID))


def test_what_a_member_says_is_stored_up_to_a_bound_also_over_restarts(world, monkeypatch):
    monkeypatch.setattr(driver, "MESSAGES_OF_A_MEMBER", 50)

    async def story():
        world.start()
        await settled(world)
        before = stored(world)["m2"]
        for number in range(300):
            world.driver.say(forged(number))
        await settled(world)
        world.driver._flush()
        assert before < 50
        assert stored(world)["m2"] == 50
        assert world.counted["m2", "flood"] == 1  # said once
        await world.driver.stop()
        world.start()  # killed, and started again: the count is that of the stored events
        for number in range(300):
            world.driver.say(forged(number))
        await settled(world)
        world.driver._flush()
        assert stored(world)["m2"] == 50
        heard = stored(world)["m3"]
        for number in range(10):  # the others are heard
            world.driver.say(events.From("m3", Ack(3, bytes(32), number.to_bytes(32, "big"), bytes(64))))
        await settled(world)
        world.driver._flush()
        assert stored(world)["m3"] == heard + 10
        await world.driver.stop()

    asyncio.run(story())


@pytest.mark.parametrize(
    "said",
    [
        events.TaskBroke("m2", "x" * 1000, refused=True),
        events.StateRefused("m2", bytes(32), bytes(32)),
        events.StateGiven("m2", bytes(32), bytes(32), 1),
    ],
    ids=lambda said: type(said).__name__,
)
def test_whatever_it_says_again_and_again(world, monkeypatch, said):
    monkeypatch.setattr(driver, "MESSAGES_OF_A_MEMBER", 50)

    async def story():
        world.start()
        await settled(world)
        for _ in range(200):
            world.driver.say(said)
        await settled(world)
        world.driver._flush()
        assert stored(world)["m2"] == 50
        assert world.counted["m2", "flood"] == 1
        await world.driver.stop()

    asyncio.run(story())


def test_the_stream_is_not_read_while_too_much_waits(world):
    async def story():
        world.start()
        await settled(world)
        for number in range(driver.INBOX - 1):
            world.driver.say(forged(number))
        assert world.driver._room.is_set()
        world.driver.say(forged(driver.INBOX))
        assert not world.driver._room.is_set()
        await asyncio.wait_for(world.driver.room(), 30)  # and the driver takes them from there
        assert world.driver._queue.qsize() < driver.INBOX
        await world.driver.stop()

    asyncio.run(story())


def test_refusals_do_not_push_out_a_proof(world, tmp_path):
    """Also when there were more refusals before than a story holds."""

    async def start():
        world.start()
        await world.driver.stop()

    asyncio.run(start())
    book = Chronicle(world.manifest.digest.hex(), world.terms, None)

    def misconduct(check, evidence, proof):
        wrong = ProtocolViolation("It is wrong.", check=check, evidence=evidence)
        with world.database.transaction() as change:
            book.write(change, events.Misconduct("m2", wrong, proof), ("m1", "m2"), 1.0)

    for number in range(REFUSALS_KEPT + 20):
        misconduct("signature", b"signed %d" % number, proof=False)
    for number in range(PROOFS_KEPT + 3):
        misconduct("two-acks", b"proof %d" % number, proof=True)
    pieces = shown(world.database)
    checks = Counter(piece.check for piece in pieces)
    assert checks == {"signature": REFUSALS_KEPT, "two-acks": PROOFS_KEPT}
    assert not any(piece.convicts for piece in pieces)  # these are no proofs, whatever they are called
    write(pieces, tmp_path / "out")
    write(pieces, tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == REFUSALS_KEPT + PROOFS_KEPT
    assert chronicle.ABSENCES_KEPT
