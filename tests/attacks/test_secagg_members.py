"""Attacks of malicious members on the sum, and their limits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from federation.errors import ProtocolViolation
from federation.secagg import boxes, shamir, transcripts
from federation.secagg import encoding as codes
from federation.secagg.events import From
from federation.secagg.header import header_words
from federation.secagg.messages import KeyMessage, Ready, RecoverReply, Reveal, Upload
from federation.secagg.suite import STANDARD
from tests.attacks.forging import Workshop, open_world
from tests.simulation.harness import JOB, World
from tests.whole import read_sum


def resigned(world: World, member: str, message: Any) -> Any:
    texts = {
        RecoverReply: lambda: transcripts.recover_transcript(message),
        Reveal: lambda: transcripts.reveal_transcript(message),
        KeyMessage: lambda: transcripts.key_transcript(JOB, message),
        Upload: lambda: transcripts.upload_transcript(
            message.context, message.index, message.root, transcripts.trailer_hash(message.trailer)
        ),
    }
    return replace(message, signature=world.labs[member].signer(texts[type(message)]()))


def test_wrong_shares_are_detected_named_and_recovered_with_t_good_ones() -> None:
    world = World(5, rounds=1)

    def tamper(member: str, message: Any) -> Any:
        if member == "m2" and isinstance(message, RecoverReply):
            return resigned(world, member, replace(message, shares=((0, bytes(33)), *message.shares[1:])))
        return message

    world.tamper = tamper
    world.kill_before.add(("m1", "Ack"))
    world.begin().run()
    assert world.done is not None
    assert [(each.member, each.violation.check) for each in world.misconduct] == [("m2", "share-hash")]


def test_a_wrong_seed_in_a_reveal_convicts_and_is_recovered() -> None:
    world = World(5, rounds=1)

    def tamper(member: str, message: Any) -> Any:
        if member == "m2" and isinstance(message, Reveal):
            return resigned(world, member, replace(message, self_seed=bytes(32)))
        return message

    world.tamper = tamper
    world.begin().run()
    assert world.done is not None
    (found,) = world.misconduct
    assert (found.member, found.violation.check, found.proof) == ("m2", "reveal-seed", True)


@pytest.mark.parametrize("blind", [True, False])
@pytest.mark.parametrize("times", [1, 2])
def test_garbage_masks_void_the_round_and_bind_its_cohort(blind: bool, times: int) -> None:
    """Nobody applies the sum; the certificate opens the next attempt for the same members alone."""
    world = World(5, rounds=1, blind=blind)
    for attempt in range(times):
        world.begin() if not attempt else None
        world.run(until=lambda world, uploads=5 * (attempt + 1): sum(map(len, world.updates.values())) == uploads)
        stored = list(world.updates.values())[-1]
        stored[2] = bytes(len(stored[2]))
    world.run()
    assert world.done is not None
    assert [moved.attempt for moved in world.phases if moved.phase == "void"] == list(range(times))
    assert world.closed[-1].attempt == times
    assert world.closed[-1].certificate.survivors.cohort == (1, 2, 3, 4, 5)
    assert len({lab.machine.position.state_digest for lab in world.labs.values()}) == 1


def test_garbage_in_every_attempt_ends_the_job_and_no_member_applies_it() -> None:
    world = World(5, rounds=1).begin()
    spoiled: dict[bytes, dict[int, bytes]] = {}

    def full(world: World) -> bool:
        return any(len(stored) == 5 for context, stored in world.updates.items() if context not in spoiled)

    while world.stuck is None:
        world.run(until=full)
        for context in set(world.updates) - set(spoiled):
            spoiled[context] = world.updates[context]
            spoiled[context][2] = bytes(len(spoiled[context][2]))
    assert "void after 5 attempts" in world.stuck.reason
    assert all(lab.machine.position.round == 1 for lab in world.labs.values())


def test_f_colluders_learn_nothing_and_t_colluders_rebuild_the_seed() -> None:
    """The test has teeth: the same attack with t holders succeeds."""
    world = open_world(7)
    quorums = Workshop(world).collector._certain.quorums
    upload = next(m for m in world.labs["m1"].sent if isinstance(m, Upload))
    shares = {}
    for box in upload.trailer.boxes:
        root = world.labs[f"m{box.holder}"].machine._root(1, 1)
        opened = boxes.unseal(STANDARD, root, upload.context, 1, box.holder, upload.trailer.edges, box.ciphertext)
        shares[box.holder] = opened[0]

    def attack(colluders: int) -> bool:
        try:
            seed = shamir.rebuild(dict(list(shares.items())[:colluders]))
        except ProtocolViolation:
            return False
        return transcripts.secret_hash(upload.context, 1, 0, seed) == upload.trailer.secret_hashes[0]

    assert not attack(quorums.f)
    assert not attack(quorums.t - 1)
    assert attack(quorums.t)


def test_a_box_of_another_owner_holder_or_attempt_does_not_open() -> None:
    root, context = bytes(range(32)), bytes(32)
    sealed = boxes.seal(STANDARD, root, context, 1, 2, (2, 3), [bytes(33)] * 3)
    assert boxes.unseal(STANDARD, root, context, 1, 2, (2, 3), sealed) == (bytes(33),) * 3
    for owner, holder, edges, ctx in (
        (3, 2, (2, 3), context),
        (1, 3, (2, 3), context),
        (1, 2, (2, 4), context),
        (1, 2, (2, 3), root),
    ):
        with pytest.raises(ProtocolViolation) as refused:
            boxes.unseal(STANDARD, root, ctx, owner, holder, edges, sealed)
        assert refused.value.check == "box"


def test_an_inflated_weight_is_left_out_of_the_roster() -> None:
    world = World(4, rounds=1, weights=[1, 1 << 21, 1, 1])
    world.begin().run()
    assert [seat.member for seat in world.collector.seats] == ["m1", "m3", "m4"]
    assert [each.violation.check for each in world.misconduct] == ["weight"]


def test_a_message_in_another_members_place_is_refused() -> None:
    world = World(4, rounds=1)

    def tamper(member: str, message: Any) -> Any:
        return replace(message, index=1) if member == "m2" and isinstance(message, Ready) else message

    world.tamper = tamper
    world.begin().run()
    assert world.done is not None
    assert {each.violation.check for each in world.misconduct} == {"impersonation"}


def test_a_double_upload_keeps_the_first_and_names_the_member() -> None:
    world = World(5, rounds=1)
    seen: list[Upload] = []

    def tamper(member: str, message: Any) -> Any:
        if member == "m1" and isinstance(message, Upload):
            seen.append(message)
        return message

    world.tamper = tamper
    world.begin().run(until=lambda world: bool(seen))
    again = resigned(world, "m1", replace(seen[0], root=bytes(32)))
    world.tell_collector(From("m1", again))
    assert [each.violation.check for each in world.misconduct] == ["two-uploads"]
    world.run()
    assert world.done is not None


def test_an_overflow_that_bypasses_the_encoder_fails_the_range_check() -> None:
    world = World(3)
    code = codes.encoding_of(world.terms, 3, 1)
    words = header_words(world.terms)
    level = (3 * code.level_bound + 1).to_bytes(2, "little")
    header = (3).to_bytes(8, "little") + bytes(8 * (words - 1))
    with pytest.raises(ProtocolViolation) as refused:
        read_sum(level + header, world.terms, code, 3, 3, 1)
    assert refused.value.check == "sum-range"
