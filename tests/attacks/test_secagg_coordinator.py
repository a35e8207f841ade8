"""Attacks of a malicious coordinator on the sum (docs/protocol/secure-aggregation.md, "Attacks"): each with the outcome
named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from federation.secagg import boxes, transcripts
from federation.secagg.certificate import Bench
from federation.secagg.events import (
    AbortRequest,
    Candidates,
    CatchUp,
    Confirmations,
    Connected,
    Contribute,
    Form,
    Mask,
    MaskPlan,
    Remember,
    Roster,
    Send,
)
from federation.secagg.messages import (
    Certificate,
    Encapsulation,
    KeyMessage,
    Opening,
    Ready,
    Recover,
    Reveal,
    RosterSignature,
    Survivors,
)
from federation.secagg.setup import GENESIS
from federation.secagg.votes import Candidacy
from tests.attacks.forging import Workshop, open_world, run_until
from tests.simulation.harness import INITIAL, JOB, Card, Signer, World, stand_in_verify


def keyed(n: int = 5) -> tuple[World, list[KeyMessage]]:
    """A world in which every member has sent its keys, and the true key messages."""
    world = World(n).begin()
    keys = []
    for name in world.names:
        said = world.labs[name].machine.handle(Form(1, 0, GENESIS), 0.0)
        keys += [each.message for each in said if hasattr(each, "message")]
    return world, keys


def refusal(world: World, name: str, message: object) -> str:
    (instruction,) = world.labs[name].machine.handle(message, 0.0)  # type: ignore[arg-type]
    return str(instruction.violation.check)  # type: ignore[union-attr]


# ---------------------------------------------------------------------------------------------------------------- setup


def signed_key(world: World, name: str, key: KeyMessage) -> KeyMessage:
    return replace(key, signature=world.labs[name].signer(transcripts.key_transcript(JOB, key)))


@pytest.mark.parametrize("column", ["exchange_key", "kem_key", "nonce_hash", "group_hash"])
def test_swapped_key_is_refused_by_every_member(column: str) -> None:
    world, keys = keyed()
    keys[1] = replace(keys[1], **{column: bytes(reversed(getattr(keys[1], column)))})
    shown = Candidates(1, 0, tuple(keys))
    assert {refusal(world, name, shown) for name in world.names} == {"key-signature", "own-entry"}
    assert refusal(world, "m2", shown) == "own-entry"


def test_sybil_whose_credential_no_officer_signed_is_refused_and_named() -> None:
    world, keys = keyed()
    sybil = Signer("sybil", stand_in=False)
    invented = replace(keys[0], credential=b"invented by the coordinator's CA")
    invented = replace(invented, signature=sybil(transcripts.key_transcript(JOB, invented)))
    shown = Candidates(1, 0, (*keys, invented))
    assert {refusal(world, name, shown) for name in world.names} == {"credential"}


def test_duplicate_identity_is_refused() -> None:
    world, keys = keyed()
    again = signed_key(world, "m2", replace(keys[1], exchange_key=bytes(range(32))))
    assert refusal(world, "m1", Candidates(1, 0, (keys[0], keys[1], again, *keys[2:]))) == "duplicate"


def test_one_node_key_under_two_members_is_refused() -> None:
    world, keys = keyed()
    world.cards[b"m6"] = Card("m6", "node", "XX", world.labs["m2"].signer.public)
    twin = signed_key(world, "m2", replace(keys[1], credential=b"m6", exchange_key=bytes(range(32))))
    assert refusal(world, "m1", Candidates(1, 0, (*keys, twin))) == "duplicate"


def test_a_roster_that_is_too_small_is_refused() -> None:
    world, keys = keyed()
    assert refusal(world, "m1", Candidates(1, 0, tuple(keys[:2]))) == "roster-size"


def test_two_lists_of_keys_for_one_formation_are_refused() -> None:
    world, keys = keyed()
    world.labs["m2"].machine.handle(Candidates(1, 0, tuple(keys[:4])), 0.0)
    assert refusal(world, "m2", Candidates(1, 0, tuple(keys[1:]))) == "two-rosters"


def stopped(world: World, check: str, *names: str) -> None:
    """The setup came to nothing, and these members said why."""
    world.begin().run()
    assert world.stuck is not None
    assert world.done is None
    assert not world.closed
    for name in names:
        assert check in world.labs[name].refused
    for lab in world.labs.values():
        assert not [message for message in lab.sent if isinstance(message, Ready)]


def test_a_roster_that_may_stand_is_not_followed_by_who_was_not_shown_that_it_does() -> None:
    """m2 confirms a roster, is not told that all have, and is made to set up another in its place. It then helps to set up
    none that follows the first: members of that one may be bound by a sum of which m2 knows nothing."""
    world = World(4, min_members=4)
    shown: list[bytes] = []

    def forge(member: str, message: object) -> object:
        if isinstance(message, Confirmations):
            shown.append(message.roster_hash)
            return None if member == "m2" else message
        return message

    world.forge = forge
    world.begin().run(until=lambda world: world.labs["m2"].machine.stage == "confirmed" and bool(shown))
    first = shown[0]
    machine = world.labs["m2"].machine
    assert refusal(world, "m2", Form(2, 0, first)) == "formation"
    remembered, sent = machine.handle(Form(1, 1, GENESIS), 0.0)
    assert isinstance(remembered, Remember)
    assert isinstance(sent, Send)
    assert refusal(world, "m2", Form(2, 0, first)) == "formation"
    assert remembered.value is not None
    machine.restore({**world.labs["m2"].journal, remembered.key: remembered.value})
    assert refusal(world, "m2", Form(2, 0, first)) == "formation", "nor after a restart"


def test_two_rosters_stop_the_setup() -> None:
    """m5 alone is shown a list without m1: no roster with it gets n of n signatures, and it is left out."""
    world = World(5)

    def forge(member: str, message: object) -> object:
        if member == "m5" and isinstance(message, Candidates) and len(message.keys) == 5:
            return replace(message, keys=message.keys[1:])
        return message

    world.forge = forge
    world.begin().run()
    machine = world.labs["m5"].machine
    assert (machine.phase, machine.stage) == ("new", "encapsulated")
    assert not [m for m in world.labs["m5"].sent if isinstance(m, RosterSignature)]
    for name in world.names[:4]:
        assert "m5" not in [seat.member for seat in world.labs[name].machine.seats]


def test_a_swapped_ciphertext_stops_the_setup() -> None:
    """Attack 41: the coordinator gives m3 another ciphertext than the one that m1 signed for it."""
    world = World(4, min_members=4)

    def forge(member: str, message: object) -> object:
        if member == "m3" and isinstance(message, Roster):
            other = world.labs["m4"].machine._suite.encapsulate(message.keys[2].kem_key)[1]
            return replace(message, ciphertexts=(other, *message.ciphertexts[1:]))
        return message

    world.forge = forge
    stopped(world, "ciphertext", "m3")


def test_a_ciphertext_for_another_key_leaves_the_two_ends_without_a_common_key() -> None:
    """Attack 41 with a member on the coordinator's side, which signs what it sends: the part of the group key does not
    open."""
    world = World(4, min_members=4)

    def tamper(member: str, message: object) -> object:
        if member == "m1" and isinstance(message, Encapsulation):
            suite = world.labs["m1"].machine._suite
            wrong = suite.encapsulate(suite.public(bytes(96))[1])[1]
            hashed = transcripts.ciphertext_hash(message.keys_hash, 1, 2, wrong)
            changed = replace(
                message,
                hashes=(hashed, *message.hashes[1:]),
                ciphertexts=(wrong, *message.ciphertexts[1:]),
            )
            text = transcripts.encapsulation_transcript(JOB, changed)
            return replace(changed, signature=world.labs["m1"].signer(text))
        return message

    world.tamper = tamper
    world.begin().run(until=lambda world: world.stuck is not None)
    assert "own-entry" in world.labs["m1"].refused, "m1's own machine did not send that"
    assert all(lab.machine.phase == "new" for lab in world.labs.values())


def test_unequal_parts_of_the_group_key_stop_the_setup() -> None:
    """Attack 41: m1 seals one part for m2 and another for m3; each member checks the hash in the roster."""
    world = World(4, min_members=4)

    def tamper(member: str, message: object) -> object:
        if member == "m1" and isinstance(message, Opening):
            machine = world.labs["m1"].machine
            held = machine._votes.get("candidacy", Candidacy)
            assert held is not None
            sealed = boxes.seal_part(machine._suite, held.roots[2], held.roster_hash, 1, 3, bytes(32))
            return replace(
                message,
                boxes=tuple(replace(box, ciphertext=sealed) if box.holder == 3 else box for box in message.boxes),
            )
        return message

    world.tamper = tamper
    stopped(world, "group-part", "m3")


def test_a_nonce_that_was_not_committed_to_is_refused_with_evidence() -> None:
    world = World(4, min_members=4)

    def tamper(member: str, message: object) -> object:
        if member == "m2" and isinstance(message, Opening):
            changed = replace(message, nonce=bytes(32))
            return replace(changed, signature=world.labs["m2"].signer(transcripts.opening_transcript(JOB, changed)))
        return message

    world.tamper = tamper
    world.begin().run()
    assert world.stuck is not None
    found = world.misconduct[0]
    assert (found.member, found.violation.check) == ("m2", "nonce")
    assert found.violation.evidence


def test_a_member_that_will_not_open_is_named_and_left_out_of_the_next_try() -> None:
    world = World(5, rounds=1)
    world.tamper = lambda member, message: None if member == "m2" and isinstance(message, Opening) else message
    world.begin().run()
    assert world.done is not None
    assert [seat.member for seat in world.collector.seats] == ["m1", "m3", "m4", "m5"]


def test_confirmations_of_different_keys_are_refused() -> None:
    world = World(4)
    kept: list[Confirmations] = []

    def forge(member: str, message: object) -> object:
        if isinstance(message, Confirmations):
            kept.append(message)
            return None
        return message

    world.forge = forge
    world.begin().run(until=lambda world: bool(kept))
    (true,) = {*kept}
    other = replace(true.confirmations[3], group_hash=bytes(32))
    text = transcripts.confirmation_transcript(JOB, other)
    other = replace(other, signature=world.labs["m4"].signer(text))
    assert refusal(world, "m1", replace(true, confirmations=(*true.confirmations[:3], other))) == "group-key"
    assert refusal(world, "m1", replace(true, confirmations=true.confirmations[:3])) == "confirmations"
    assert world.labs["m1"].machine.phase == "new"
    world.labs["m1"].machine.handle(true, 0.0)
    assert world.labs["m1"].machine.phase == "seated"


# ---------------------------------------------------------------------------------------------------------------- votes


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
    bench = Bench(JOB, 1, shop.roster_hash, GENESIS, shop.collector.seats, shop.collector._verify)
    ours = bench.check_announcement(shop.announcement(range(1, 6), 1, 0, INITIAL))
    theirs = bench.check_announcement(shop.announcement(range(1, 6), 1, 0, bytes(32)))
    machine = shop.world.labs["m1"].machine
    assert ours.context != theirs.context
    assert machine._seed(2, ours) != machine._seed(2, theirs)


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
        assert shop.refused(1, CatchUp(1, 5, state, state, receipts)) == "receipts"
    receipts = tuple(shop.receipt(index, 4, state) for index in (1, 2, 3, 4))
    assert shop.refused(1, CatchUp(1, 5, bytes(32), state, receipts)) == "receipts"
    assert shop.refused(1, CatchUp(1, 6, state, state, receipts)) == "receipts"


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
