"""Attack 31: endless, oversized and malformed messages. Memory and disk stay bounded, the refusal has a name, and nothing changes.

Here the decoder and the machines; streams and uploads of real processes are in tests/e2e."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from federation.errors import ProtocolViolation
from federation.secagg import transcripts, wire
from federation.secagg.certificate import _REMEMBERED, Ed25519Verifier
from federation.secagg.events import AbortRequest, From, Misconduct, Reopen, Tick
from federation.secagg.member import _CONTEXTS, _STORY
from federation.secagg.messages import Ack, Survivors, Upload, Void
from federation.secagg.parameters import MAX_ATTEMPTS, MAX_MEMBERS
from tests.attacks.forging import Workshop
from tests.attacks.test_run_time_parameters import certifying
from tests.simulation.harness import INITIAL, Signer
from tests.simulation.stand_ins import Quick
from tests.unit.secagg.test_protocol_wire import MESSAGES

# --------------------------------------------------------------------------------------------------------------- decoder


def spoiled(proto: Message) -> list[tuple[str, Message]]:
    """Each field of the message, at any depth, in turn: left out, too short, too long, beyond its range, far too often."""
    found: list[tuple[str, Message]] = []
    for field in proto.DESCRIPTOR.fields:
        if field.name.startswith("inline_"):
            continue  # the driver's
        values: list[Any] = []
        name, repeated = field.name, field.is_repeated
        if field.type == FieldDescriptor.TYPE_BYTES:
            values = [b"", b"x", bytes(31), bytes(33), bytes(1 << 17)]
        elif field.type != FieldDescriptor.TYPE_MESSAGE:
            values = (
                [0, MAX_MEMBERS + 1, (1 << 32) - 1] if field.type == FieldDescriptor.TYPE_UINT32 else [0, (1 << 63) - 1]
            )
        part = getattr(proto, name)
        for value in values:
            copy = type(proto)()
            copy.CopyFrom(proto)
            if repeated:
                del getattr(copy, name)[:]
                getattr(copy, name).append(value)
            else:
                setattr(copy, name, value)
            found.append((f"{name}={value!r:.12}", copy))
        if repeated and len(part):
            copy = type(proto)()
            copy.CopyFrom(proto)
            for _ in range(MAX_MEMBERS + 1):
                if field.type == FieldDescriptor.TYPE_MESSAGE:
                    getattr(copy, name).add().CopyFrom(part[0])
                else:
                    getattr(copy, name).append(part[0])
            found.append((f"{name} * {MAX_MEMBERS}", copy))
        inner = list(part)[:1] if repeated and field.type == FieldDescriptor.TYPE_MESSAGE else []
        if field.type == FieldDescriptor.TYPE_MESSAGE and not repeated and proto.HasField(name):
            inner = [part]
            copy = type(proto)()
            copy.CopyFrom(proto)
            copy.ClearField(name)
            found.append((f"no {name}", copy))
        for each in inner:
            for story, changed in spoiled(each):
                copy = type(proto)()
                copy.CopyFrom(proto)
                (getattr(copy, name)[0] if repeated else getattr(copy, name)).CopyFrom(changed)
                found.append((f"{name}.{story}", copy))
    return found


def decoded(proto: Message) -> Any:
    """The message; None where it is refused as malformed."""
    try:
        return wire.from_proto(proto)
    except ProtocolViolation as violation:
        if violation.check != "malformed-message":
            raise
        return None


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_every_field_of_every_message_is_bounded_before_a_machine_sees_it(message: Any) -> None:
    """What is not refused reads back as what it says: nothing is cut, filled or guessed."""
    refused = 0
    for story, proto in spoiled(wire.to_proto(message)):
        value = decoded(proto)
        refused += value is None
        assert value is None or wire.to_proto(value) == proto, story
    assert refused >= 3


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_random_bytes_in_a_message_are_malformed_or_another_message(message: Any) -> None:
    dice = random.Random(type(message).__name__)
    proto = wire.to_proto(message)
    data = proto.SerializeToString()
    for _ in range(60):
        damaged = bytearray(data[: dice.randrange(1, len(data) + 1)])
        for _ in range(dice.randrange(4)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        try:
            parsed = type(proto).FromString(bytes(damaged))
        except DecodeError:
            continue
        decoded(parsed)


# ------------------------------------------------------------------------------------------------------------- machines


def test_an_endless_stream_of_good_messages_to_a_member_is_kept_within_bounds() -> None:
    """A coordinator with every key announces attempt after attempt, with ABORTs of the one before, shows set after set, and asks
    for ABORTs without end."""
    shop = certifying(4)
    lab = shop.world.labs["m1"]
    everyone = range(1, 5)
    sizes = []
    for attempt in range(1, 60):
        shop.tell(1, shop.announcement(everyone, 1, attempt, INITIAL, aborts=everyone))
        sizes.append(sum(map(len, lab.journal.values())))
    machine = lab.machine
    assert len(machine._announced) <= _CONTEXTS
    assert len(machine.story) <= _STORY
    steps = [after - before for before, after in pairwise(sizes[20:])]
    assert max(steps) < 1500, "a contribution's seeds, a READY and a vote for each attempt"
    for far in (MAX_ATTEMPTS + 1, 1 << 30):
        assert shop.refused(1, AbortRequest(1, 1, far)) == "stale-attempt"
    for round_number in (3, 1 << 30):
        assert shop.refused(1, AbortRequest(1, round_number, 0)) == "stale-round"


def test_votes_of_a_round_are_gone_from_the_disk_when_the_round_is() -> None:
    world = Quick(4, rounds=6)
    world.begin()
    sizes = []
    for round_number in range(2, 7):
        world.run(
            until=lambda world, at=round_number: (world.collector.round, world.collector.phase) == (at, "certifying")
        )
        sizes.append(max(sum(map(len, lab.journal.values())) for lab in world.labs.values()))
    assert max(sizes) - min(sizes) < 2000, sizes


def flood(shop: Workshop, dice: random.Random) -> Any:
    """Something that m2 may sign, or not."""
    context, digest = dice.choice([shop.context, dice.randbytes(32)]), dice.randbytes(32)
    kind = dice.randrange(4)
    if kind == 0:
        return Ack(2, context, digest, dice.randbytes(64))
    if kind == 1:
        return shop.ready(2, dice.randrange(1, 9), dice.randrange(9), digest)
    if kind == 2:
        return shop.abort(2, dice.randrange(1, 9), dice.randrange(9))
    upload = next(each for each in shop.world.labs["m2"].sent if isinstance(each, Upload))
    return replace(upload, context=context, root=digest)


def test_an_endless_stream_of_messages_to_the_collector_leaves_its_ledger_as_it_was() -> None:
    shop = certifying(5)
    collector, dice = shop.collector, random.Random(31)
    before = collector.checkpoint()
    named: set[str] = set()
    for count in range(3000):
        out = collector.handle(From("m2", flood(shop, dice)), 0.0)
        assert all(isinstance(each, Misconduct) and not each.proof for each in out)
        named |= {each.violation.check for each in out if isinstance(each, Misconduct)}
        if count % 500 == 0:
            assert len(collector.checkpoint()) < len(before) + 4096
    assert {"signature", "out-of-order"} & named
    assert collector.phase == "certifying"
    collector.handle(Tick(), 0.0)
    assert collector.phase == "certifying"


def test_contradicting_signatures_without_end_are_one_conviction_in_the_ledger() -> None:
    shop = certifying(5)
    for digest in range(200):
        ack = Ack(2, shop.context, digest.to_bytes(32, "big"), b"")
        signed = replace(ack, signature=shop.sign(2, transcripts.ack_transcript(ack)))
        shop.collector.handle(From("m2", signed), 0.0)
    book = shop.collector._book
    assert set(book.proofs) == {2}
    assert len(book.strays) == 1
    assert book.convicted == {"m2"}


def test_messages_of_200_members_and_more_are_refused_by_their_number_alone() -> None:
    shop = certifying(4)
    entry = shop.survivors([1]).entries[0]
    many = Survivors(shop.context, tuple(replace(entry, index=index) for index in range(1, 201)))
    assert shop.refused(1, many) == "stranger"
    proto = wire.to_proto(many)
    proto.entries.add().CopyFrom(proto.entries[0])  # type: ignore[attr-defined]
    with pytest.raises(ProtocolViolation, match="too many"):
        wire.from_proto(proto)
    void = Void(0, tuple(range(1, 201)), shop.certificate(range(1, 5), range(1, 5)))
    assert shop.refused(1, Reopen(1, 1, void)) == "void"


def test_what_a_verifier_remembers_is_bounded() -> None:
    verifier, signer = Ed25519Verifier(), Signer("m1", stand_in=False)
    for number in range(_REMEMBERED + 50):
        verifier._good[number.to_bytes(32, "big")] = None
        if len(verifier._good) > _REMEMBERED:
            del verifier._good[next(iter(verifier._good))]
    assert verifier(signer.public, b"said", signer(b"said"))
    assert len(verifier._good) <= _REMEMBERED
    assert not verifier(signer.public, b"other", signer(b"said"))
    assert not verifier(b"short", b"said", signer(b"said"))


def test_a_place_that_the_roster_does_not_have_is_a_strangers() -> None:
    shop = certifying(4)
    (out,) = shop.collector.handle(From("m1", replace(shop.ready(1, 1, 0, INITIAL), index=200)), 0.0)
    assert isinstance(out, Misconduct)
    assert out.violation.check == "stranger"
    twice = replace(shop.announcement(range(1, 5), 1, 0, INITIAL), readies=(shop.ready(1, 1, 0, INITIAL),) * 4)
    assert shop.refused(1, twice) == "repeated"
