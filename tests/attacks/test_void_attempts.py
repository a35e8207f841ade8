"""A certified attempt that gave no sum is opened again for its cohort, less the members that are proved to have lied in it:
one liar cannot hang a job, and nobody else can be left out (docs/decisions/0013-a-void-attempt-goes-on-without-the-convicted.md).

First the machines together, then what a coordinator may not do with it: whoever leaves out an honest member subtracts it
from two sums."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from federation.errors import VerificationFailed
from federation.secagg import boxes, recovery, shamir, transcripts
from federation.secagg.certificate import Ed25519Verifier
from federation.secagg.conviction import Conviction, Statement
from federation.secagg.events import Contribute, From, Recover, Reopen, Send, Tick
from federation.secagg.false_seed import FalseSeed
from federation.secagg.messages import (
    Ack,
    Announcement,
    Box,
    Certificate,
    Ready,
    Receipt,
    RecoverReply,
    Reveal,
    Upload,
    Void,
)
from federation.secagg.proof import convicted, read
from tests.attacks.forging import Workshop, open_world
from tests.attacks.test_convictions import Seeing, another_ack, refused_files
from tests.attacks.test_secagg_members import resigned
from tests.simulation.harness import INITIAL, JOB, World

VERIFY = Ed25519Verifier()

# ------------------------------------------------------------------------------------------------- the machines together


def cohorts(world: World) -> list[tuple[int, ...]]:
    return [closed.certificate.survivors.cohort for closed in world.closed]


def voids(world: World) -> list[int]:
    return [moved.attempt for moved in world.phases if moved.phase == "void"]


def misdealing(world: World, *liars: str) -> Callable[[str, Any], Any]:
    """These deal shares of another seed than the one they commit to, and fall silent."""

    def tamper(member: str, message: Any) -> Any:
        if member in liars and isinstance(message, Upload):
            hashes = (bytes(32), *message.trailer.secret_hashes[1:])
            return resigned(world, member, replace(message, trailer=replace(message.trailer, secret_hashes=hashes)))
        return None if member in liars and isinstance(message, Reveal) else message

    return tamper


@pytest.mark.parametrize("blind", [True, False])
def test_a_dealer_of_shares_of_another_seed_is_convicted_and_the_attempt_goes_on_without_it(blind: bool) -> None:
    world = Seeing(5, blind=blind)
    world.tamper = misdealing(world, "m2")
    world.begin().run()
    assert world.done is not None, world.stuck
    assert voids(world) == [0]
    assert cohorts(world)[0] == (1, 3, 4, 5)
    (proof,) = [each for each in world.misconduct if each.proof]
    assert (proof.member, proof.violation.check) == ("m2", "dealer")
    FalseSeed.from_bytes(proof.violation.evidence).check(VERIFY)
    assert world.rosters[-1] == ("m1", "m3", "m4", "m5"), "and it has no seat in the next epoch"
    assert len({lab.machine.position.state_digest for lab in world.labs.values() if lab.name != "m2"}) == 1


def test_a_false_seed_with_boxes_that_do_not_open_is_waited_for_one_window_and_no_longer() -> None:
    world = World(5, rounds=1)

    def tamper(member: str, message: Any) -> Any:
        if member == "m4" and isinstance(message, Upload):
            spoiled = tuple(Box(box.holder, bytes(len(box.ciphertext))) for box in message.trailer.boxes)
            return resigned(world, member, replace(message, trailer=replace(message.trailer, boxes=spoiled)))
        return message

    world.tamper = tamper
    world.begin().run(until=lambda world: world.collector.phase == "revealing")
    upload = world.collector._book.uploads[4]
    false = resigned(world, "m4", Reveal(4, upload.context, bytes(32), (), b""))
    world.tell_collector(From("m4", false))
    world.tamper = lambda member, message: message
    world.run()
    assert world.done is not None, (world.stuck, world.collector.story)
    assert (voids(world), cohorts(world)) == ([0], [(1, 2, 3, 5)])
    assert world.now == pytest.approx(world.windows.phase)


def test_whoever_signed_two_cohorts_and_spoils_the_sum_is_left_out_of_the_next_attempt() -> None:
    world = World(5, rounds=1)
    lied: list[bool] = []

    def tamper(member: str, message: Any) -> Any:
        if member == "m2" and isinstance(message, Ack) and not lied:
            lied.append(True)
            world.tell_collector(From(member, another_ack(world, message)))
        return message

    def spoil(world: World) -> bool:
        for stored in world.updates.values():
            if len(stored) == 5:
                stored[2] = bytes(len(stored[2]))
        return False

    world.tamper = tamper
    world.begin().run(until=spoil)
    assert world.done is not None, world.stuck
    assert (voids(world), cohorts(world)[-1]) == ([0], (1, 3, 4, 5))


def test_a_second_receipt_for_a_sum_that_the_others_refuse_convicts_for_that_attempt() -> None:
    world = Seeing(5, rounds=2)
    lied: list[Receipt] = []

    def tamper(member: str, message: Any) -> Any:
        if isinstance(message, Receipt) and message.round == 1 and message.context == world.closed[0].context:
            if member == "m2" and not lied:
                lied.append(message)
                bench = world.collector.bench
                assert bench is not None
                other = replace(message, state_digest=bytes(32))
                text = transcripts.receipt_transcript(JOB, bench.roster_hash, other)
                other = replace(other, signature=world.labs["m2"].signer(text))
                world.tell_collector(From(member, message))
                world.tell_collector(From(member, other))
            return None
        return message

    def refuse(member: str, message: Any) -> Any:
        """Whoever is shown the first sum sees other bytes; m2 has it."""
        if getattr(message, "sum_blob", None) is not None and len(world.closed) == 1 and member != "m2":
            return replace(message, survivors_digest=bytes(32))
        return message

    world.tamper, world.forge = tamper, refuse
    world.begin().run()
    assert world.done is not None, (world.stuck, world.collector.story)
    assert cohorts(world)[:2] == [(1, 2, 3, 4, 5), (1, 3, 4, 5)]


def test_two_liars_in_two_attempts_and_a_member_that_was_away_for_the_first() -> None:
    """m7 is bound to all seven by its release, sees neither void attempt, and takes the cohort of five when it has seen who
    was convicted in each."""
    world = World(7, rounds=2)
    dealt = misdealing(world, "m2")

    def tamper(member: str, message: Any) -> Any:
        if world.collector.attempt == 1:
            return misdealing(world, "m3")(member, message)
        return dealt(member, message) if world.collector.attempt == 0 else message

    world.tamper = tamper
    world.begin().run(until=lambda world: any(isinstance(m, Reveal) for m in world.labs["m7"].sent))
    world.kill("m7")
    world.run(until=lambda world: world.collector.attempt == 1 and world.collector.phase == "gathering")
    world.run(until=lambda world: not world.queue)
    assert world.collector._book.bound == (1, 3, 4, 5, 6, 7)
    world.restart("m7")
    world.run(until=lambda world: world.collector.attempt == 2 or bool(world.closed))
    assert world.collector._book.bound == (1, 4, 5, 6, 7)
    world.kill("m7")
    world.restart_collector()
    world.restart("m7")
    world.tamper = lambda member, message: message
    world.run()
    assert world.done is not None, (world.stuck, world.collector.story)
    assert cohorts(world)[0] == (1, 4, 5, 6, 7)
    assert not world.labs["m7"].refused


@pytest.mark.parametrize(("n", "gone"), [(4, "m4"), (3, None)])
def test_a_cohort_that_would_be_too_small_waits_for_the_convicted(n: int, gone: str | None) -> None:
    """n = 4: of three that may be summed none can be left out. n = 3: nobody may lie."""
    world = World(n, rounds=1)
    if gone is not None:
        world.fail_task.add(gone)
    world.tamper = misdealing(world, "m1")
    world.kill_after.add(("m1", "Upload"))
    world.begin().run()
    assert not world.closed
    assert [each.member for each in world.misconduct if each.proof] == ["m1"]
    assert world.collector.phase == "gathering"
    world.tamper = lambda member, message: message
    world.restart("m1")
    world.run()
    assert world.done is not None
    assert cohorts(world) == [(1, 2, 3)]


def test_a_member_of_a_bound_cohort_that_asks_for_more_members_holds_up_the_job_and_does_not_end_it() -> None:
    world = World(5, rounds=1)

    def tamper(member: str, message: Any) -> Any:
        if member == "m2" and isinstance(message, Ready) and message.attempt == 1:
            bench = world.collector.bench
            assert bench is not None
            greedy = replace(message, min_cohort=200)
            text = transcripts.ready_transcript(JOB, bench.roster_hash, greedy)
            return replace(greedy, signature=world.labs["m2"].signer(text))
        return message

    def spoil(world: World) -> bool:
        for stored in world.updates.values():
            if len(stored) == 5 and len(world.updates) == 1:
                stored[3] = bytes(len(stored[3]))
        return False

    world.tamper = tamper
    world.begin().run(until=spoil)
    assert (world.collector.phase, world.collector.attempt) == ("gathering", 1)
    assert not world.stuck
    world.tamper = lambda member, message: message
    world.kill("m2")
    world.restart("m2")
    world.run()
    assert world.done is not None


# ------------------------------------------------------------------------------------------- what a coordinator may not do


class Opened(Workshop):
    """Everybody has uploaded in attempt 0 of round 1, and the coordinator holds the ACKs of all for all."""

    def __init__(self, n: int = 5, cohort: Iterable[int] = (), **changes: Any) -> None:
        super().__init__(open_world(n, **changes))
        self.cohort = tuple(cohort) or tuple(range(1, n + 1))
        self.signed: Certificate = self.certificate(self.cohort, range(1, n + 1))

    def two_acks(self, index: int, context: bytes | None = None, names: int = 0) -> bytes:
        """What convicts a member on the coordinator's side. ``names``: in another's place."""
        found = []
        for digest in (bytes(32), bytes(range(32))):
            ack = Ack(names or index, context or self.context, digest, b"")
            text = transcripts.ack_transcript(ack)
            found.append(Statement(text, self.sign(index, text)))
        return Conviction(self.world.labs[f"m{index}"].signer.public, *found).to_bytes()

    def void(self, *proofs: bytes, attempt: int = 0) -> Void:
        return Void(attempt, self.announced.ready, self.signed, proofs)

    def reopen(self, *proofs: bytes) -> Reopen:
        return Reopen(1, 1, self.void(*proofs))

    def opening(self, members: Iterable[int], *proofs: bytes) -> Announcement:
        bare = self.announcement(members, 1, 1, INITIAL)
        return replace(bare, void=self.void(*proofs))


def test_a_member_takes_the_smaller_cohort_against_a_proof_and_its_binding_says_so() -> None:
    shop = Opened()
    (reveal,) = shop.said(1, shop.signed)
    assert isinstance(reveal, Reveal)
    assert shop.refused(1, shop.opening([1, 3, 4, 5])) == "bound-cohort"
    (ready,) = shop.said(1, shop.reopen(shop.two_acks(2)))
    assert (ready.round, ready.attempt) == (1, 1)
    opening = shop.opening([1, 3, 4, 5], shop.two_acks(2))
    assert any(isinstance(each, Contribute) for each in shop.tell(1, opening))
    shop.world.kill("m1")
    shop.world.restart("m1")
    assert shop.world.labs["m1"].machine._votes.convicted(INITIAL) == {"m2"}, "on its disk"


def test_the_convicted_itself_is_told_and_says_nothing() -> None:
    shop = Opened()
    assert shop.said(2, shop.reopen(shop.two_acks(2))) == []
    assert shop.said(2, shop.opening([1, 3, 4, 5], shop.two_acks(2))) == []


def test_coordinator_drops_more_than_the_convicted() -> None:
    shop = Opened(7)
    proof = shop.two_acks(2)
    for fewer in ([1, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6], [3, 4, 5, 6, 7]):
        assert shop.refused(1, shop.opening(fewer, proof)) == "bound-cohort"
    shop.tell(1, shop.opening([1, 3, 4, 5, 6, 7], proof))
    later = shop.collector.bench
    assert later is not None
    announced = later.check_announcement(shop.opening([1, 3, 4, 5, 6, 7], proof))
    assert announced.void == (1, 3, 4, 5, 6, 7), "and no smaller set of survivors will be acknowledged"


def test_coordinator_convicts_more_members_than_may_lie() -> None:
    shop = Opened(7)
    assert shop.refused(1, shop.reopen(*(shop.two_acks(index) for index in (2, 3, 4)))) == "proof"
    assert shop.said(1, shop.reopen(shop.two_acks(2), shop.two_acks(3)))
    assert shop.refused(1, shop.reopen(shop.two_acks(4))) == "proof", "nor one after the other"


def test_coordinator_convicts_below_the_smallest_cohort() -> None:
    shop = Opened(5, cohort=[1, 2, 3, 4])
    assert shop.refused(1, shop.reopen(shop.two_acks(2))) == "cohort-small"
    greedy = Opened(5, min_cohort={"m3": 5})
    readies = [greedy.ready(index, 1, 1, INITIAL, minimum=5 if index == 3 else 4) for index in (1, 3, 4, 5)]
    asked = replace(greedy.opening([1, 3, 4, 5], greedy.two_acks(2)), readies=tuple(readies))
    assert greedy.refused(1, asked) == "cohort-small"


Forgery = Callable[[Opened], tuple[bytes, ...]]


def honest_statements(shop: Opened) -> bytes:
    """Two true ACKs of the honest m3, for two attempts."""
    found = []
    for context in (shop.context, bytes(32)):
        ack = Ack(3, context, shop.signed.acks[2].survivors_digest, b"")
        text = transcripts.ack_transcript(ack)
        found.append(Statement(text, shop.sign(3, text)))
    return Conviction(shop.world.labs["m3"].signer.public, *found).to_bytes()


def unsigned(shop: Opened) -> bytes:
    """A true ACK of the honest m3, and another that the coordinator signs as well as it can."""
    true, other = shop.signed.acks[2], replace(shop.signed.acks[2], survivors_digest=bytes(32))
    first, second = transcripts.ack_transcript(true), transcripts.ack_transcript(other)
    mine = shop.sign(2, second)
    return Conviction(
        shop.world.labs["m3"].signer.public, Statement(first, true.signature), Statement(second, mine)
    ).to_bytes()


FORGERIES: dict[str, Forgery] = {
    "no proof at all": lambda shop: (b"",),
    "another file": lambda shop: (b'{"format":"concord/conviction/v1"}',),
    "of another attempt": lambda shop: (shop.two_acks(2, bytes(32)),),
    "of another job": lambda shop: (Opened(job=bytes(32)).two_acks(2),),
    "in another member's place": lambda shop: (shop.two_acks(2, names=3),),
    "against a stranger": lambda shop: (Opened(9).two_acks(9, shop.context),),
    "two true statements of an honest member": lambda shop: (honest_statements(shop),),
    "a statement that it did not sign": lambda shop: (unsigned(shop),),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_coordinator_forges_or_replays_a_conviction(forgery: str) -> None:
    shop = Opened()
    proofs = FORGERIES[forgery](shop)
    journal = dict(shop.world.labs["m1"].journal)
    assert shop.refused(1, shop.reopen(*proofs)) == "proof"
    assert shop.refused(1, shop.opening([1, 2, 4, 5], *proofs)) == "proof"
    assert shop.refused(1, shop.opening([1, 3, 4, 5], *proofs)) == "proof"
    assert shop.world.labs["m1"].journal == journal


def test_a_proof_against_somebody_outside_the_cohort_and_the_same_twice_are_refused() -> None:
    shop = Opened(7, cohort=[1, 2, 3, 4, 5, 6])
    assert shop.refused(1, shop.reopen(shop.two_acks(7))) == "proof"
    assert shop.refused(1, shop.reopen(shop.two_acks(2), shop.two_acks(2))) == "repeated"
    assert shop.refused(1, shop.reopen(shop.two_acks(3), shop.two_acks(2))) == "repeated"


def test_a_member_that_released_takes_no_smaller_cohort_for_an_aborted_attempt_either() -> None:
    """Bound by attempt 0 and shown q ABORTs of attempt 1: still the same cohort, less those whose proofs it has seen."""
    shop = Opened(7)
    shop.said(1, shop.signed)
    after = shop.announcement([1, 3, 4, 5, 6, 7], 1, 2, INITIAL, aborts=range(1, 6))
    shop.tell(1, after)
    bench = shop.collector.bench
    assert bench is not None
    announced = bench.check_announcement(after)
    machine = shop.world.labs["m1"].machine
    with pytest.raises(Exception, match="less the convicted"):
        machine._check_binding(announced, bytes(32), (1, 3, 4, 5, 6, 7))
    shop.tell(1, shop.reopen(shop.two_acks(2)))
    machine._check_binding(announced, bytes(32), (1, 3, 4, 5, 6, 7))
    with pytest.raises(Exception, match="less the convicted"):
        machine._check_binding(announced, bytes(32), (1, 4, 5, 6, 7))


# ------------------------------------------------------------------------------------------------------------ false seeds


def test_two_boxes_of_a_lying_owner_do_not_convict_the_holder_that_opened_both() -> None:
    """Found by writing these proofs down: a RECOVER reply follows from the box that the coordinator shows, and an owner can
    make two that open. An honest holder signs both replies, and is guilty of nothing."""
    shop = Opened()
    owner, holder = shop.world.labs["m1"], shop.world.labs["m2"]
    upload = next(m for m in owner.sent if isinstance(m, Upload))
    edges, machine = upload.trailer.edges, owner.machine
    replies = []
    for filler in (1, 2):
        sealed = boxes.seal(
            machine._suite, machine._root(2, 1), shop.context, 1, 2, edges, [bytes([0] * 32 + [filler])] * 5
        )
        (reply,) = shop.said(2, Recover(shop.signed, 1, edges, sealed))
        assert isinstance(reply, RecoverReply)
        replies.append(Statement(transcripts.recover_transcript(reply), reply.signature))
    assert replies[0].text != replies[1].text
    with pytest.raises(VerificationFailed, match="signed once"):
        Conviction(holder.signer.public, *replies).check(VERIFY)
    assert shop.refused(3, shop.reopen(Conviction(holder.signer.public, *replies).to_bytes())) == "proof"


def false_reveal(shop: Opened) -> FalseSeed:
    upload = next(m for m in shop.world.labs["m2"].sent if isinstance(m, Upload))
    reveal = Reveal(2, shop.context, bytes(32), (), b"")
    reveal = replace(reveal, signature=shop.sign(2, transcripts.reveal_transcript(reveal)))
    return FalseSeed(shop.world.labs["m2"].signer.public, upload, 0, reveal, ())


def false_shares(shop: Opened, t: int = 3, peer: int = 0) -> FalseSeed:
    """m2 deals shares of zero, and commits to its true seed."""
    upload = next(m for m in shop.world.labs["m2"].sent if isinstance(m, Upload))
    holders = [box.holder for box in upload.trailer.boxes]
    dealt = shamir.split(bytes(32), t, holders, lambda size: bytes(range(size)))
    columns, column = 1 + len(upload.trailer.edges), (0, *upload.trailer.edges).index(peer)
    hashes = list(upload.trailer.share_hashes)
    for row, holder in enumerate(holders):
        hashes[row * columns + column] = transcripts.share_hash(shop.context, 2, holder, peer, dealt[holder])
    upload = replace(upload, trailer=replace(upload.trailer, share_hashes=tuple(hashes)))
    upload = resigned(shop.world, "m2", upload)
    shares = tuple((holder, dealt[holder]) for holder in holders[:t])
    return FalseSeed(shop.world.labs["m2"].signer.public, upload, peer, None, shares)


@pytest.mark.parametrize("make", [false_reveal, false_shares, lambda shop: false_shares(shop, peer=4)])
def test_a_false_seed_opens_the_attempt_without_its_owner(make: Callable[[Opened], FalseSeed]) -> None:
    shop = Opened()
    proof = make(shop)
    proof.check(VERIFY)
    assert read(proof.to_bytes()) == proof
    bench = shop.collector.bench
    assert bench is not None
    assert convicted(proof, bench.seats, shop.context, VERIFY) == 2
    assert shop.said(1, shop.reopen(proof.to_bytes()))


def true_upload(shop: Opened, index: int) -> Upload:
    return next(m for m in shop.world.labs[f"m{index}"].sent if isinstance(m, Upload))


def framed_by_its_reveal(shop: Opened) -> FalseSeed:
    """The honest m3's own REVEAL beside its own upload."""
    (reveal,) = shop.said(3, shop.signed)
    return FalseSeed(shop.world.labs["m3"].signer.public, true_upload(shop, 3), 0, reveal, ())


def framed_by_its_shares(shop: Opened) -> FalseSeed:
    upload = true_upload(shop, 3)
    replies = []
    for holder in (1, 2, 4):
        box = next(each.ciphertext for each in upload.trailer.boxes if each.holder == holder)
        (reply,) = shop.said(holder, Recover(shop.signed, 3, upload.trailer.edges, box))
        replies.append((holder, reply.shares[0][1]))
    return FalseSeed(shop.world.labs["m3"].signer.public, upload, 0, None, tuple(replies))


FRAMES: dict[str, Callable[[Opened], FalseSeed]] = {
    "its own reveal": framed_by_its_reveal,
    "its own shares": framed_by_its_shares,
    "a share that is not its": lambda shop: replace(
        proof := framed_by_its_shares(shop), shares=((1, bytes(33)), *proof.shares[1:])
    ),
    "fewer shares": lambda shop: replace(proof := framed_by_its_shares(shop), shares=proof.shares[:2]),
    "one share twice": lambda shop: replace(proof := framed_by_its_shares(shop), shares=(proof.shares[0],) * 3),
    "a reveal that another signed": lambda shop: replace(
        false_reveal(shop), identity_key=shop.world.labs["m3"].signer.public, upload=true_upload(shop, 3)
    ),
    "an upload that another signed": lambda shop: replace(
        false_shares(shop), identity_key=shop.world.labs["m3"].signer.public
    ),
    "a trailer that it did not sign": lambda shop: replace(
        proof := framed_by_its_shares(shop),
        upload=replace(
            proof.upload, trailer=replace(proof.upload.trailer, secret_hashes=(bytes(32),) * 5)
        ),
    ),
    "a seed that no trailer commits to": lambda shop: replace(framed_by_its_reveal(shop), peer=3),
    "an edge that it did not reveal": lambda shop: replace(framed_by_its_reveal(shop), peer=1),
    "neither reveal nor shares": lambda shop: replace(framed_by_its_reveal(shop), reveal=None),
    "both": lambda shop: replace(framed_by_its_reveal(shop), shares=((1, bytes(33)),) * 3),
}  # fmt: skip


@pytest.mark.parametrize("frame", FRAMES)
def test_no_honest_member_is_convicted_of_a_false_seed(frame: str) -> None:
    shop = Opened()
    proof = FRAMES[frame](shop)
    with pytest.raises(VerificationFailed):
        proof.check(VERIFY)
    assert shop.refused(5, shop.reopen(proof.to_bytes())) == "proof"


def test_a_false_seed_of_another_attempt_convicts_for_that_attempt_alone() -> None:
    shop = Opened()
    other = false_reveal(Opened(job=bytes(32)))
    other.check(VERIFY)
    assert shop.refused(1, shop.reopen(other.to_bytes())) == "proof"


def test_a_file_that_is_no_proof_is_refused() -> None:
    good = false_shares(Opened()).to_bytes()
    for bad in refused_files(good, 6 << 20):
        with pytest.raises(VerificationFailed):
            FalseSeed.from_bytes(bad)
        with pytest.raises(VerificationFailed):
            read(bad)


def test_good_shares_are_told_from_bad_ones_by_what_they_rebuild() -> None:
    shop = Opened()
    proof = framed_by_its_shares(shop)
    replies = [RecoverReply(holder, shop.context, 3, ((0, share),), b"") for holder, share in proof.shares]
    assert recovery.misdealt(replies, proof.upload, (), 3) is None
    assert set(recovery.rebuild(replies, proof.upload, (), 3)) == {0}
    wrong = replace(proof.upload, trailer=replace(proof.upload.trailer, secret_hashes=(bytes(32),) * 5))
    assert recovery.misdealt(replies, wrong, (), 3) == (0, proof.shares)


def test_a_tick_in_a_void_attempt_changes_nothing() -> None:
    world = World(4, rounds=1)
    world.fail_task.add("m4")
    world.tamper = misdealing(world, "m1")
    world.kill_after.add(("m1", "Upload"))
    world.begin().run()
    before = world.collector.checkpoint()
    assert [each for each in world.collector.handle(Tick(), world.now + 1e6) if isinstance(each, Send)] == []
    assert world.collector.checkpoint() == before
