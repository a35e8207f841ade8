"""The coordinator is killed at any moment of a job and started again on the same folder: the job finishes, nothing counts twice."""

import asyncio
from itertools import pairwise

import numpy as np
import pytest

from coordinator.rounds import uploads
from federation.errors import OutOfOrder
from federation.secagg import events
from federation.secagg.messages import Receipt
from federation.weights.state import read_state
from tests.unit.coordinator.labs import SIZE, World


def final_of(world):
    return read_state(world.desk.blobs.path(world.final))


def judge(world):
    assert world.reason is None
    state = final_of(world)
    level = 2.0**-12
    assert np.allclose(state.arrays["w"], 0.01 * world.terms.rounds, atol=level * world.terms.rounds)
    assert {lab.machine.position.state_digest for lab in world.labs.values()} == {state.digest()}


async def play(folder, kill_at=None, **shape):
    world = World(folder, **shape)
    world.kill_at = kill_at
    world.start()
    while await world.run():
        await world.kill()
        world.start()
    await world.driver.stop()
    world.database.close()
    return world


def test_a_job_runs_to_its_final_state(tmp_path):
    world = asyncio.run(play(tmp_path))
    judge(world)
    assert world.outcomes == ["closed"] * 3
    assert world.audits >= 3 * 3, "each lab looks at each sum"
    assert not list((tmp_path / "spool").rglob("m?"))


@pytest.mark.parametrize("part", range(3))
def test_killed_before_any_message_that_it_sends(tmp_path, part):
    """The events are committed and the instructions half performed."""
    total = asyncio.run(play(tmp_path / "whole")).posts
    for place in range(1 + part, total + 1, 3):
        world = asyncio.run(play(tmp_path / str(place), kill_at=place))
        assert world.kill_at is None, "it was never killed"
        judge(world)


def test_killed_after_the_last_receipt_the_state_is_still_asked_for(tmp_path):
    async def scene():
        world = World(tmp_path)
        world.start()
        await world.run(until=lambda world: world.driver.done)
        await world.kill()
        world.start()
        assert world.driver.done
        await world.run()
        await world.driver.stop()
        world.database.close()
        return world

    judge(asyncio.run(scene()))


def test_a_credential_that_expires_during_the_job_does_not_stop_a_restart(tmp_path):
    async def scene():
        world = World(tmp_path)
        world.start()
        await world.run(until=lambda world: world.driver.machine.round == 2)
        await world.kill()
        world.now += 7 * 86_400
        world.start()
        await world.run()
        await world.driver.stop()
        world.database.close()
        return world

    judge(asyncio.run(scene()))


def test_sums_do_not_pile_up(tmp_path):
    world = asyncio.run(play(tmp_path, rounds=5))
    files = [path for path in (tmp_path / "blobs").iterdir() if path.is_file()]
    assert len(files) == 1, "the final state"
    judge(world)


def test_one_liar_about_the_size_does_not_settle_it(tmp_path):
    """Of four members, the first to upload sends an update of another size: it is left out, the others close the round."""

    class Liar(World):
        def upload_of(self, lab, message):
            proto = super().upload_of(lab, message)
            if lab.name == "m1" and self.driver.machine.round == 1:
                proto.inline_update = proto.inline_update + bytes(2)
            return proto

    async def scene():
        world = Liar(tmp_path, n=4)
        world.start()
        await world.run()
        await world.driver.stop()
        world.database.close()
        return world

    world = asyncio.run(scene())
    assert world.reason is None
    assert final_of(world).arrays["w"].shape == (SIZE,)


def test_an_update_that_is_not_the_one_signed_is_not_counted(tmp_path):
    class Corrupt(World):
        def upload_of(self, lab, message):
            proto = super().upload_of(lab, message)
            if lab.name == "m2" and self.driver.machine.round == 2:
                proto.inline_update = bytes(len(proto.inline_update))
            return proto

    async def scene():
        world = Corrupt(tmp_path, n=5)
        world.start()
        await world.run()
        await world.driver.stop()
        with world.database.transaction() as change:
            views = change.rounds(world.manifest.digest.hex())
        world.database.close()
        return world, views

    world, views = asyncio.run(scene())
    assert world.reason is None
    assert [b"m2" in view for view in views] == [True, True, True]
    judge(world)


def test_nothing_is_added_to_an_update_that_is_counted(tmp_path, monkeypatch):
    """A member that goes on sending parts after its Upload was counted would make the sum of its cohort impossible."""
    monkeypatch.setattr(uploads, "SMALL", 0)  # so that these small updates lie in the spool

    class Adds(World):
        refused = 0

        def deliver(self, name, data):
            announced, spool = self.driver.machine.announced, self.desk.spool
            if announced is not None and self.driver.machine.phase == "collecting":
                place = (self.manifest.digest, announced.context, "m1")
                if held := spool.held(*place):
                    try:  # as PutUpdate does it for each part
                        self.driver.expected("m1", announced.context)
                        spool.append(*place, held + 1, held, b"x")
                    except OutOfOrder:
                        self.refused += 1
            super().deliver(name, data)

    async def scene():
        world = Adds(tmp_path, n=4)
        world.start()
        await world.run()
        await world.driver.stop()
        world.database.close()
        return world

    world = asyncio.run(scene())
    assert world.refused
    assert [closed for closed in world.outcomes if closed != "closed"] == []
    judge(world)


def test_a_flood_of_bad_messages_fills_no_story(tmp_path):
    async def scene():
        world = World(tmp_path)
        world.start()
        await world.run(until=lambda world: world.driver.machine.phase == "collecting")
        for _ in range(1000):
            world.driver.say(events.From("m2", Receipt(1, 1, 1, bytes(32), bytes(32), bytes(32), (), bytes(64))))
        await world.run()
        with world.database.transaction() as change:
            lines = change.lines(world.manifest.digest.hex())
        await world.driver.stop()
        world.database.close()
        return world, lines

    world, lines = asyncio.run(scene())
    judge(world)
    assert sum("impersonation" in line.text or "out-of-order" in line.text for line in lines) <= 100


def test_messages_that_were_heard_and_not_yet_stored_are_said_again(tmp_path):
    """What led to nothing is stored a little later; killed before that, the members' messages are lost with it."""

    async def scene(folder, turn):
        world = World(folder)
        heard = []

        def waiting(world):
            heard.append(bool(world.driver._unsaved))
            return sum(now and not before for before, now in pairwise([False, *heard])) == turn

        world.start()
        await world.run(until=waiting)
        lost = len(world.driver._unsaved)
        await world.kill()
        world.start()
        await world.run()
        await world.driver.stop()
        world.database.close()
        return world, lost

    losses = []
    for turn in range(1, 13):
        world, lost = asyncio.run(scene(tmp_path / str(turn), turn))
        judge(world)
        losses.append(lost)
    assert sum(lost > 0 for lost in losses) >= 8
