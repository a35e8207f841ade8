"""Attack 30: a member that signs two survivor sets, or any two things that contradict each other. The two signatures are the proof,
which anybody can check, and the member is left out of the next epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from federation.errors import VerificationFailed
from federation.secagg import transcripts
from federation.secagg.certificate import Ed25519Verifier
from federation.secagg.conviction import PLACES, Conviction, Statement
from federation.secagg.events import From, RosterFormed
from federation.secagg.messages import Ack, Ready, Receipt, Upload
from tests.attacks.test_secagg_members import resigned
from tests.simulation.harness import JOB, Signer, World

VERIFY = Ed25519Verifier()


class Seeing(World):
    """Keeps the rosters that were formed, and what each member said."""

    def __init__(self, n: int = 5, **terms: Any) -> None:
        self.rosters: list[tuple[str, ...]] = []
        self.said: list[tuple[str, Any]] = []
        super().__init__(n, **{"rounds": 5, **terms})
        self.tamper = self._keep

    def _keep(self, member: str, message: Any) -> Any:
        self.said.append((member, message))
        return message

    def perform(self, instructions: Any) -> None:
        for instruction in instructions:
            if isinstance(instruction, RosterFormed):
                self.rosters.append(tuple(seat.member for seat in instruction.seats))
        super().perform(instructions)

    def first(self, member: str, kind: type) -> Any:
        return next((message for name, message in self.said if name == member and isinstance(message, kind)), None)


def another_ack(world: World, ack: Ack) -> Ack:
    other = replace(ack, survivors_digest=bytes(32))
    return replace(other, signature=world.labs["m2"].signer(transcripts.ack_transcript(other)))


def another_upload(world: World, upload: Upload) -> Upload:
    other: Upload = resigned(world, "m2", replace(upload, root=bytes(32)))
    return other


def another_receipt(world: World, receipt: Receipt) -> Receipt:
    other = replace(receipt, state_digest=bytes(32))
    bench = world.collector.bench
    assert bench is not None
    text = transcripts.receipt_transcript(JOB, bench.roster_hash, other)
    return replace(other, signature=world.labs["m2"].signer(text))


LIES: dict[str, tuple[type, Callable[[World, Any], Any]]] = {
    "two-acks": (Ack, another_ack),
    "two-uploads": (Upload, another_upload),
    "two-receipts": (Receipt, another_receipt),
}


@pytest.mark.parametrize(
    ("lie", "lie_first"),
    [("two-acks", False), ("two-acks", True), ("two-receipts", False), ("two-receipts", True), ("two-uploads", False)],
)
def test_two_signatures_that_contradict_each_other_convict_and_exclude(lie: str, lie_first: bool) -> None:
    kind, another = LIES[lie]
    world = Seeing()
    lied: list[bool] = []

    def tamper(member: str, message: Any) -> Any:
        if member == "m2" and isinstance(message, kind) and not lied:
            lied.append(True)
            if isinstance(message, Upload):
                world.updates.setdefault(message.context, {})[message.index] = world.labs[member].files[message.context]
            pair = [message, another(world, message)]
            for each in reversed(pair) if lie_first else pair:
                world.tell_collector(From(member, each))
            return None
        return message

    world.tamper = tamper
    world.begin().run()
    assert world.done is not None, world.stuck
    proofs = [each for each in world.misconduct if each.proof]
    assert [(each.member, each.violation.check) for each in proofs] == [("m2", lie)]
    conviction = Conviction.from_bytes(proofs[0].violation.evidence)
    conviction.check(VERIFY)
    assert conviction.identity_key == world.labs["m2"].signer.public
    assert "m2" in world.rosters[0]
    assert world.rosters[-1] == ("m1", "m3", "m4", "m5"), "the next epoch is formed without it"


@pytest.mark.parametrize("lie", ["two-acks", "two-uploads"])
def test_a_second_signature_convicts_after_the_first_has_done_its_work(lie: str) -> None:
    kind, another = LIES[lie]
    world = Seeing()
    world.begin().run(until=lambda world: world.collector.phase == "revealing")
    said = world.first("m2", kind)
    world.tell_collector(From("m2", said))
    assert not world.misconduct, "the same once more is no lie"
    world.tell_collector(From("m2", another(world, said)))
    assert [(each.member, each.proof) for each in world.misconduct] == [("m2", True)]
    world.run()
    assert world.rosters[-1] == ("m1", "m3", "m4", "m5")


def test_of_two_receipts_the_one_counts_that_others_agree_with() -> None:
    """m1 is gone, and it takes the receipts of the other three: m2 says something else first, and the truth when it connects
    again."""
    world = Seeing(4, rounds=1)
    world.kill_before.add(("m1", "Receipt"))
    lied: list[bool] = []

    def tamper(member: str, message: Any) -> Any:
        if member == "m2" and isinstance(message, Receipt) and not lied:
            lied.append(True)
            return another_receipt(world, message)
        return message

    world.tamper = tamper
    world.begin().run()
    assert world.done is None
    world.lose("m2")
    world.reconnect("m2")
    world.run()
    assert world.done is not None, world.stuck
    assert {receipt.state_digest for receipt in world.done.receipts} == {world.done.state_digest}
    assert [(each.member, each.proof) for each in world.misconduct] == [("m2", True)]


def test_a_roster_that_is_too_small_without_the_convicted_goes_on_with_it() -> None:
    world = Seeing(3, rounds=4)
    lied: list[bool] = []

    def tamper(member: str, message: Any) -> Any:
        if member == "m2" and isinstance(message, Ack) and not lied:
            lied.append(True)
            world.tell_collector(From(member, another_ack(world, message)))
        return message

    world.tamper = tamper
    world.begin().run()
    assert world.done is not None, world.stuck
    assert len([each for each in world.misconduct if each.proof]) == 1
    assert world.rosters == [("m1", "m2", "m3")]


def test_a_convicted_member_does_not_come_back_with_a_later_epoch() -> None:
    world = Seeing(6, rounds=9)
    lied: list[bool] = []

    def tamper(member: str, message: Any) -> Any:
        if member == "m2" and isinstance(message, Ack) and not lied:
            lied.append(True)
            world.tell_collector(From(member, another_ack(world, message)))
        return message

    world.tamper = tamper
    world.begin(world.names[:5])
    world.run(until=lambda world: len(world.rosters) > 1)
    world.join("m6")
    world.lose("m2")
    world.reconnect("m2")
    world.run()
    assert world.done is not None, world.stuck
    assert world.rosters[-1] == ("m1", "m3", "m4", "m5", "m6")
    assert all("m2" not in roster for roster in world.rosters[1:])


def test_a_conviction_survives_the_collectors_death() -> None:
    world = Seeing()
    lied: list[bool] = []

    def tamper(member: str, message: Any) -> Any:
        if member == "m2" and isinstance(message, Ack) and not lied:
            lied.append(True)
            world.tell_collector(From(member, another_ack(world, message)))
        return message

    world.tamper = tamper
    world.begin().run(until=lambda world: bool(lied))
    world.restart_collector()
    world.run()
    assert world.done is not None
    assert world.rosters[-1] == ("m1", "m3", "m4", "m5")


# ------------------------------------------------------------------------------------------------- what convicts nobody


def true_statements() -> dict[str, tuple[bytes, bytes]]:
    """kind -> what m2 signed, and its signature."""
    world = Seeing(rounds=1)
    world.begin().run()
    bench = world.collector.bench
    assert bench is not None
    texts: dict[type, Callable[[Any], bytes]] = {
        Ack: transcripts.ack_transcript,
        Receipt: lambda said: transcripts.receipt_transcript(JOB, bench.roster_hash, said),
        Upload: lambda said: transcripts.upload_transcript(
            said.context, said.index, said.root, transcripts.trailer_hash(said.trailer)
        ),
        Ready: lambda said: transcripts.ready_transcript(JOB, bench.roster_hash, said),
    }
    found = {}
    for kind, text in texts.items():
        said = world.first("m2", kind)
        found[kind.__name__] = (text(said), said.signature)
    return found


TRUE = true_statements()
KEY = Signer("m2", stand_in=False)


def signed(text: bytes, key: Signer = KEY) -> Statement:
    return Statement(text, key(text))


def altered(text: bytes, field: int) -> bytes:
    label, fields = transcripts.fields_of(text)
    changed = [bytes(len(value)) if place == field else value for place, value in enumerate(fields)]
    return transcripts.transcript(label, *changed)


@pytest.mark.parametrize("kind", ["Ack", "Upload", "Receipt"])
def test_a_conviction_needs_two_differing_statements_for_one_place_under_one_key(kind: str) -> None:
    text = TRUE[kind][0]
    label, fields = transcripts.fields_of(text)
    for field in range(len(fields)):
        conviction = Conviction(KEY.public, signed(text), signed(altered(text, field)))
        if field in PLACES[label]:
            with pytest.raises(VerificationFailed, match="two places"):
                conviction.check(VERIFY)
        elif altered(text, field) != text:
            conviction.check(VERIFY)
            assert Conviction.from_bytes(conviction.to_bytes()) == conviction
    with pytest.raises(VerificationFailed, match="do not differ"):
        Conviction(KEY.public, signed(text), signed(text)).check(VERIFY)


@pytest.mark.parametrize(
    "forge",
    [
        lambda first, second: Conviction(KEY.public, first, replace(second, signature=bytes(64))),
        lambda first, second: Conviction(KEY.public, first, signed(second.text, Signer("m3", stand_in=False))),
        lambda first, second: Conviction(Signer("m3", stand_in=False).public, first, second),
        lambda first, second: Conviction(KEY.public, first, Statement(TRUE["Receipt"][0], TRUE["Receipt"][1])),
        lambda first, second: Conviction(KEY.public, first, signed(second.text + b"\0")),
        lambda first, second: Conviction(KEY.public, signed(b"hello"), signed(b"other")),
    ],
    ids=["no signature", "another signer", "another's key", "another kind", "bytes behind the end", "no transcript"],
)
def test_nobody_is_convicted_of_what_it_did_not_sign(forge: Callable[[Statement, Statement], Conviction]) -> None:
    text = TRUE["Ack"][0]
    with pytest.raises(VerificationFailed):
        forge(signed(text), signed(altered(text, 1))).check(VERIFY)


def test_what_a_member_may_say_twice_convicts_nobody() -> None:
    """A READY may follow another, when q receipts replaced the state that the member had computed."""
    text = TRUE["Ready"][0]
    with pytest.raises(VerificationFailed, match="signed once"):
        Conviction(KEY.public, signed(text), signed(altered(text, 6))).check(VERIFY)


def refused_files(good: bytes, limit: int) -> tuple[bytes, ...]:
    """Files that are no proof, or not in their one encoding; the last is too large."""
    return (
        b"",
        b"{}",
        b"[1]",
        good + b"\n",
        good.replace(b"v1", b"v2"),
        good[:-3],
        b"[" * 5000,
        b"x" * (limit + 1),
    )


def test_a_file_that_is_no_conviction_is_refused() -> None:
    text = TRUE["Ack"][0]
    good = Conviction(KEY.public, signed(text), signed(altered(text, 1))).to_bytes()
    for bad in refused_files(good, 1 << 20):
        with pytest.raises(VerificationFailed):
            Conviction.from_bytes(bad)
