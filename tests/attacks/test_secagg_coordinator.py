"""Attacks of a malicious coordinator on the sum (docs/protocol/secure-aggregation.md, "Attacks"): each with the outcome
named."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product

import pytest

from federation.secagg import transcripts
from federation.secagg.certificate import Bench
from federation.secagg.events import (
    AbortRequest,
    CatchUp,
    Connected,
    Contribute,
    Form,
    Mask,
    MaskPlan,
    Roster,
    RosterCertificate,
)
from federation.secagg.messages import Certificate, KeyMessage, Recover, Reveal, Survivors
from federation.secagg.parameters import Quorums
from tests.attacks.forging import Workshop, open_world, run_until
from tests.simulation.harness import INITIAL, JOB, Card, Signer, World, stand_in_verify


def keyed(n: int = 5) -> tuple[World, list[KeyMessage]]:
    """A world in which every member has sent its key, and the true key messages."""
    world = World(n).begin()
    keys = []
    for name in world.names:
        keys += [each.message for each in world.labs[name].machine.handle(Form(1, 0), 0.0) if hasattr(each, "message")]
    return world, keys


def refusal(world: World, name: str, message: object) -> str:
    (instruction,) = world.labs[name].machine.handle(message, 0.0)  # type: ignore[arg-type]
    return str(instruction.violation.check)  # type: ignore[union-attr]


# ---------------------------------------------------------------------------------------------------------------- setup


def test_swapped_key_is_refused_by_every_member() -> None:
    world, keys = keyed()
    keys[1] = replace(keys[1], exchange_key=bytes(range(32)))
    roster = Roster(1, 0, tuple(keys))
    assert {refusal(world, name, roster) for name in world.names} == {"key-signature", "own-entry"}
    assert refusal(world, "m2", roster) == "own-entry"


def test_sybil_whose_credential_no_officer_signed_is_refused_and_named() -> None:
    world, keys = keyed()
    sybil = Signer("sybil", stand_in=False)
    invented = KeyMessage(1, 0, b"invented by the coordinator's CA", bytes(range(32)), 1, b"")
    invented = replace(invented, signature=sybil(transcripts.key_transcript(JOB, invented)))
    roster = Roster(1, 0, (*keys, invented))
    assert {refusal(world, name, roster) for name in world.names} == {"credential"}


def test_duplicate_identity_is_refused() -> None:
    world, keys = keyed()
    again = replace(keys[1], exchange_key=bytes(range(32)))
    again = replace(again, signature=world.labs["m2"].signer(transcripts.key_transcript(JOB, again)))
    assert refusal(world, "m1", Roster(1, 0, (keys[0], keys[1], again, *keys[2:]))) == "duplicate"


def test_one_node_key_under_two_members_is_refused() -> None:
    world, keys = keyed()
    world.cards[b"m6"] = Card("m6", "node", "XX", world.labs["m2"].signer.public)
    twin = replace(keys[1], credential=b"m6", exchange_key=bytes(range(32)))
    twin = replace(twin, signature=world.labs["m2"].signer(transcripts.key_transcript(JOB, twin)))
    assert refusal(world, "m1", Roster(1, 0, (*keys, twin))) == "duplicate"


def test_roster_below_the_manifest_is_refused() -> None:
    world, keys = keyed()
    assert refusal(world, "m1", Roster(1, 0, tuple(keys[:2]))) == "roster-size"


def test_two_rosters_stop_the_setup() -> None:
    world, keys = keyed()
    one, two = Roster(1, 0, tuple(keys[:4])), Roster(1, 0, tuple(keys[1:]))
    signed = {}
    for name in world.names[:4]:
        (*_, sent) = world.labs[name].machine.handle(one, 0.0)
        signed[name] = sent.message  # type: ignore[union-attr]
    assert refusal(world, "m2", two) == "two-rosters"
    (*_, sent) = world.labs["m5"].machine.handle(two, 0.0)
    other = sent.message.roster_hash  # type: ignore[union-attr]
    mixed = RosterCertificate(1, other, (*(signed[name] for name in world.names[1:4]), sent.message))  # type: ignore[union-attr]
    for name in world.names[1:]:
        assert refusal(world, name, mixed) in ("two-rosters", "roster-signatures")
    short = RosterCertificate(1, signed["m1"].roster_hash, tuple(signed.values())[:3])
    assert refusal(world, "m1", short) == "roster-signatures"


# ---------------------------------------------------------------------------------------------------------------- votes


@pytest.mark.parametrize("n", [4, 5])
def test_two_survivor_sets_all_splits_give_at_most_one_certificate(n: int) -> None:
    """Every member is shown any one of the possible survivor sets; f of them sign whatever they are shown."""
    world = open_world(n, stand_in=True)
    shop = Workshop(world)
    quorums = Quorums.of(n)
    everyone = range(1, n + 1)
    sets = [shop.survivors(cohort) for size in range(quorums.m, n + 1) for cohort in combinations(everyone, size)]
    for index in everyone:  # a member ACKs one set only, whichever comes first
        lab = world.labs[f"m{index}"]
        journal = {key: value for key, value in lab.journal.items() if not key.startswith("ack/")}
        for first in sets:
            lab.journal = dict(journal)
            lab.machine = world._machine(lab.name, lab.signer, lab.weight, 9)
            lab.machine.restore(journal)
            shop.tell(index, world.collector._book.announcement)
            assert len(shop.said(index, first)) == 1
            assert {shop.refused(index, other) for other in sets if other != first} == {"two-survivor-sets"}
    for liars in combinations(everyone, quorums.f):
        honest = [index for index in everyone if index not in liars]
        for split in product(range(len(sets)), repeat=len(honest)):
            certified = [place for place in range(len(sets)) if split.count(place) + len(liars) >= quorums.q]
            assert len(certified) <= 1


def test_a_second_survivor_set_is_refused() -> None:
    shop = Workshop(open_world(5))
    assert len(shop.said(1, shop.survivors([1, 2, 3, 4, 5]))) == 1
    assert shop.refused(1, shop.survivors([1, 2, 3, 4])) == "two-survivor-sets"
    assert len(shop.said(1, shop.survivors([1, 2, 3, 4, 5]))) == 1


def test_a_crash_between_ack_and_reveal_does_not_free_the_vote() -> None:
    world = open_world(5)
    shop = Workshop(world)
    first = shop.said(1, shop.survivors([1, 2, 3, 4, 5]))
    announcement = world.collector._book.announcement
    world.kill("m1")
    world.restart("m1")
    shop.tell(1, announcement)
    assert shop.refused(1, shop.survivors([1, 2, 3, 4])) == "two-survivor-sets"
    assert shop.said(1, shop.survivors([1, 2, 3, 4, 5])) == first


def test_a_cohort_that_is_too_small_is_refused() -> None:
    shop = Workshop(open_world(5))
    assert shop.refused(1, shop.survivors([1, 2, 3])) == "cohort-small"
    assert shop.refused(1, Survivors(shop.context, ())) == "cohort-small"
    assert shop.refused(1, shop.certificate([1, 2, 3], range(1, 6))) == "cohort-small"


def test_a_cohort_below_one_members_own_minimum_is_refused_by_all() -> None:
    shop = Workshop(open_world(5, min_cohort={"m2": 5}))
    assert shop.refused(1, shop.survivors([1, 2, 3, 4])) == "cohort-small"
    assert len(shop.said(1, shop.survivors([1, 3, 4, 5]))) == 1


def test_strangers_in_the_cohort_are_refused() -> None:
    shop = Workshop(open_world(5))
    entries = shop.survivors([1, 2, 3, 4, 5]).entries
    stranger = Survivors(shop.context, (*entries, replace(entries[0], index=6)))
    assert shop.refused(1, stranger) == "stranger"


def test_an_invented_upload_of_a_member_is_refused() -> None:
    shop = Workshop(open_world(5))
    survivors = shop.survivors([1, 2, 3, 4, 5])
    forged = replace(survivors.entries[1], root=bytes(32))
    assert (
        shop.refused(1, Survivors(shop.context, (survivors.entries[0], forged, *survivors.entries[2:]))) == "signature"
    )
    text = transcripts.upload_transcript(shop.context, 2, bytes(32), forged.trailer_hash)
    signed = replace(forged, signature=shop.sign(2, text))
    assert (
        shop.refused(2, Survivors(shop.context, (survivors.entries[0], signed, *survivors.entries[2:]))) == "own-entry"
    )


@pytest.mark.parametrize(
    ("name", "signers", "check"),
    [("too few", [1, 2, 3], "acks"), ("repeated", [1, 2, 3, 3], "repeated"), ("none", [], "acks")],
)
def test_a_certificate_with_bad_signatures_is_refused(name: str, signers: list[int], check: str) -> None:
    shop = Workshop(open_world(5))
    assert shop.refused(1, shop.certificate(range(1, 6), signers)) == check


def test_a_certificate_with_forged_signatures_is_refused() -> None:
    shop = Workshop(open_world(5))
    good = shop.certificate(range(1, 6), [1, 2, 3, 4])
    forged = replace(good.acks[3], signature=good.acks[2].signature)
    assert shop.refused(1, replace(good, acks=(*good.acks[:3], forged))) == "signature"
    renamed = replace(good.acks[2], index=4)
    assert shop.refused(1, replace(good, acks=(*good.acks[:3], renamed))) == "signature"


def test_acks_for_other_survivors_do_not_certify() -> None:
    shop = Workshop(open_world(5))
    certificate = Certificate(shop.survivors([1, 2, 3, 4]), shop.certificate(range(1, 6), [1, 2, 3, 4]).acks)
    assert shop.refused(1, certificate) == "acks"


# --------------------------------------------------------------------------------------------------------- differencing


def test_a_withheld_upload_stays_unreadable_after_its_edges_are_revealed() -> None:
    """v = 5 uploaded; the coordinator certifies U without it, gets every s_i5, and then wants b_5."""
    world = open_world(5)
    shop = Workshop(world)
    certificate = shop.certificate([1, 2, 3, 4], [1, 2, 3, 4])
    for index in (1, 2, 3, 4):
        (reveal,) = shop.said(index, certificate)
        assert [peer for peer, _ in reveal.edges] == [5]
    assert shop.said(5, certificate) == []
    box = next(m for m in world.labs["m5"].sent if hasattr(m, "trailer")).trailer
    for index in (1, 2, 3, 4):
        sealed = next(each.ciphertext for each in box.boxes if each.holder == index)
        assert shop.refused(index, Recover(certificate, 5, box.edges, sealed)) == "recover-owner"
    everyone = shop.certificate(range(1, 6), range(1, 6))
    for index in (1, 2, 3, 4):
        assert shop.refused(index, everyone) == "bound-cohort"


def test_recovery_gives_the_self_seed_and_edges_outside_the_cohort_only() -> None:
    world = open_world(5)
    shop = Workshop(world)
    certificate = shop.certificate([1, 2, 3, 4], [1, 2, 3, 4])
    trailer = next(m for m in world.labs["m1"].sent if hasattr(m, "trailer")).trailer
    sealed = next(each.ciphertext for each in trailer.boxes if each.holder == 2)
    (reply,) = shop.said(2, Recover(certificate, 1, trailer.edges, sealed))
    assert [peer for peer, _ in reply.shares] == [0, 5]
    assert shop.refused(2, Recover(certificate, 1, (2, 3, 4), sealed)) == "recover-edges"


def test_two_certificates_of_one_attempt_reveal_for_the_first_only() -> None:
    """More keys stolen than the protocol tolerates: even so, one member releases for one cohort."""
    shop = Workshop(open_world(5))
    assert isinstance(shop.said(1, shop.certificate(range(1, 6), range(1, 6)))[0], Reveal)
    assert shop.refused(1, shop.certificate([1, 2, 3, 4], range(1, 6))) == "bound-cohort"


def test_retry_with_one_member_less_after_a_reveal_is_refused() -> None:
    shop = Workshop(open_world(5))
    shop.said(1, shop.certificate(range(1, 6), [1, 2, 3, 4]))
    assert shop.refused(1, AbortRequest(1, 1, 0)) == "bound-cohort"
    retry = shop.announcement([1, 2, 3, 4], 1, 1, INITIAL, aborts=[2, 3])
    assert shop.refused(1, retry) == "aborts"
    bare = shop.announcement([1, 2, 3, 4], 1, 1, INITIAL)
    assert shop.refused(1, bare) == "aborts"


def test_an_abort_ends_all_answers_for_the_attempt() -> None:
    shop = Workshop(open_world(5))
    shop.tell(1, shop.survivors(range(1, 6)))
    assert shop.said(1, AbortRequest(1, 1, 0))[0] == shop.abort(1, 1, 0)
    certificate = shop.certificate(range(1, 6), [2, 3, 4, 5])
    assert shop.refused(1, certificate) == "aborted"
    assert shop.refused(1, shop.survivors(range(1, 6))) == "aborted"
    assert shop.said(1, AbortRequest(1, 1, 0))[0] == shop.abort(1, 1, 0)


@pytest.mark.parametrize("n", range(3, 11))
def test_certificate_and_abort_of_one_attempt_leave_the_sum_closed(n: int) -> None:
    """q ABORTs hold q - f honest members: one of them is in every U, and too few holders are left for its seed."""
    quorums = Quorums.of(n)
    for honest_aborts in range(quorums.q - quorums.f, n + 1):
        holders_left = n - honest_aborts
        assert honest_aborts + quorums.m > n
        assert holders_left < quorums.t
    assert 2 * quorums.q - n > quorums.f
    assert quorums.q <= min(n - quorums.f, quorums.m)
    assert quorums.t > quorums.f


# --------------------------------------------------------------------------------------------------------------- replay


def test_messages_of_another_job_are_refused() -> None:
    shop = Workshop(open_world(5))
    other = Workshop(open_world(5, job=bytes(32)))
    assert shop.refused(1, other.survivors(range(1, 6))) == "context"
    assert shop.refused(1, other.certificate(range(1, 6), [1, 2, 3, 4])) == "context"
    assert shop.refused(1, other.world.collector._book.announcement) == "signature"


def test_messages_of_another_round_are_refused() -> None:
    world = open_world(5, rounds=3)
    old = Workshop(world)
    survivors, announcement = old.survivors(range(1, 6)), world.collector._book.announcement
    certificate = old.certificate(range(1, 6), [1, 2, 3, 4])
    world.tell_collector(Connected("m1", 1, INITIAL))
    for name in world.names:
        world.deliver(name, survivors)
    world.run(until=lambda world: world.collector.phase == "collecting" and world.collector.round == 2)
    world.run(until=lambda world: not world.queue)
    shop = Workshop(world)
    assert shop.refused(1, survivors) == "context"
    assert shop.refused(1, certificate) == "context"
    assert shop.tell(1, announcement) == []
    stale = replace(announcement, round=2)
    assert shop.refused(1, stale) == "ready"


def test_messages_of_another_attempt_or_epoch_are_refused() -> None:
    shop = Workshop(open_world(5))
    announcement = shop.world.collector._book.announcement
    assert announcement is not None
    assert shop.refused(1, replace(announcement, attempt=1)) == "ready"
    assert shop.refused(1, replace(announcement, epoch=2)) == "epoch"
    assert shop.refused(1, AbortRequest(2, 1, 0)) == "stale-round"
    next_attempt = shop.announcement(range(1, 6), 1, 1, INITIAL, aborts=[1, 2, 3, 4])
    assert any(isinstance(each, Contribute) for each in shop.tell(1, next_attempt))
    assert shop.refused(1, shop.survivors(range(1, 6))) == "aborted"
    assert shop.refused(1, announcement) == "stale-attempt"


# --------------------------------------------------------------------------------------------------------------- models


def test_a_different_model_is_refused() -> None:
    shop = Workshop(run_until(World(5), "collecting"))
    assert shop.refused(1, shop.announcement(range(1, 6), 1, 0, bytes(32))) == "different-models"
    mixed = shop.announcement(range(1, 6), 1, 0, INITIAL)
    mixed = replace(mixed, readies=(*mixed.readies[:4], shop.ready(5, 1, 0, bytes(32))))
    assert shop.refused(1, mixed) == "different-models"


def test_different_models_forced_on_members_give_noise_and_no_sum() -> None:
    """Another state gives another ctx, so the masks of the two groups have nothing in common."""
    shop = Workshop(run_until(World(5), "collecting"))
    bench = Bench(JOB, 1, shop.roster_hash, shop.collector.seats, shop.collector._verify)
    ours = bench.check_announcement(shop.announcement(range(1, 6), 1, 0, INITIAL))
    theirs = bench.check_announcement(shop.announcement(range(1, 6), 1, 0, bytes(32)))
    machine = shop.world.labs["m1"].machine
    assert ours.context != theirs.context
    assert machine._seed(2, ours.context) != machine._seed(2, theirs.context)


def test_a_second_upload_for_one_attempt_is_refused() -> None:
    """Two READY sets for one attempt would make the member mask two vectors."""
    shop = Workshop(run_until(World(5), "certifying"))
    assert shop.refused(1, shop.announcement([1, 2, 3, 4], 1, 0, INITIAL)) == "second-announcement"


def test_a_contribution_lost_in_a_crash_is_never_made_again() -> None:
    world = run_until(World(5), "collecting")
    announcement = world.collector._book.announcement
    world.deliver("m1", announcement)
    world.kill("m1")
    world.restart("m1")
    shop = Workshop(world)
    assert shop.refused(1, announcement) == "contribution-lost"


def test_a_state_that_no_quorum_signs_is_not_fetched() -> None:
    shop = Workshop(open_world(5))
    state = bytes(range(32))
    for signers in ([1, 2, 3], []):
        receipts = tuple(shop.receipt(index, 4, state) for index in signers)
        assert shop.refused(1, CatchUp(5, state, state, receipts)) == "receipts"
    receipts = tuple(shop.receipt(index, 4, state) for index in (1, 2, 3, 4))
    assert shop.refused(1, CatchUp(5, bytes(32), state, receipts)) == "receipts"
    assert shop.refused(1, CatchUp(6, state, state, receipts)) == "receipts"


def test_a_lowered_minimum_in_a_ready_is_refused() -> None:
    shop = Workshop(run_until(World(5), "collecting"))
    message = shop.announcement(range(1, 6), 1, 0, INITIAL)
    low = replace(message, readies=(*message.readies[:4], shop.ready(5, 1, 0, INITIAL, minimum=3)))
    assert shop.refused(1, low) == "min-cohort"


def test_secrets_never_show_in_a_repr() -> None:
    seed = bytes(range(32))
    for value in (
        Mask(seed, 1),
        MaskPlan(seed, (Mask(seed, 1),), seed),
        Reveal(1, bytes(32), seed, ((2, seed),), seed),
    ):
        assert repr(seed)[2:20] not in repr(value) or isinstance(value, MaskPlan)
        assert seed.hex() not in repr(value)
    assert not stand_in_verify(seed, b"", b"")
