"""Attack 4: a coordinator that changes f, q, m, t, clip, ring or w_max at run time.

No message has a place for any of them: they follow from the roster and the manifest, whose digest is in every signature. So a
coordinator can only act as if they were others, and that is refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from typing import Any, get_args, get_type_hints

import pytest

from federation.secagg import boxes, events, shamir, transcripts
from federation.secagg.collector import CollectorMachine
from federation.secagg.events import CatchUp, Contribute, From, Refuse, Reopen
from federation.secagg.messages import Reveal, Upload, Void
from federation.secagg.parameters import Quorums
from tests.attacks.forging import Workshop
from tests.simulation.harness import INITIAL, stand_in_verify
from tests.simulation.stand_ins import Quick, Seated

TOLD = get_args(get_type_hints(events.Tell)["message"])


def certifying(n: int) -> Workshop:
    world = Seated(n)
    world.begin().run(until=lambda world: world.collector.phase == "certifying")
    world.queue.clear()
    return Workshop(world)


def names_in(kind: Any) -> set[str]:
    if not is_dataclass(kind):
        return set().union(*(names_in(each) for each in get_args(kind))) if get_args(kind) else set()
    hints = get_type_hints(kind)
    return set().union(*({field.name} | names_in(hints[field.name]) for field in fields(kind)))


def test_no_message_to_a_member_has_a_place_for_a_parameter() -> None:
    told = set().union(*map(names_in, TOLD))
    words = (
        "quorum",
        "threshold",
        "clip",
        "ring",
        "level",
        "bound",
        "cap_",
        "members",
        "jurisdiction",
        "scale",
        "blind",
    )
    assert {name for name in told if any(word in name for word in words)} == set()
    assert not told & {"f", "q", "m", "t", "n", "cipher", "w_max"}
    assert "min_cohort" in told, "signed by each member for itself"
    assert "weight" in told, "signed by each member for itself"


def first(numbers: Iterable[int], count: int) -> list[int]:
    return list(numbers)[:count]


@pytest.mark.parametrize("n", range(4, 11))
def test_one_fewer_than_q_m_or_t_is_refused_and_exactly_as_many_are_taken(n: int) -> None:
    quorums = Quorums.of(n)
    q, m, f = quorums.q, quorums.m, quorums.f
    everyone = range(1, n + 1)
    shop = certifying(n)
    # m: announcements and cohorts
    assert shop.refused(1, shop.announcement(first(everyone, m - 1), 1, 0, INITIAL)) == "cohort-small"
    assert shop.refused(1, shop.survivors(first(everyone, m - 1))) == "cohort-small"
    low = shop.announcement(everyone, 1, 0, INITIAL)
    low = replace(low, readies=(*low.readies[:-1], shop.ready(n, 1, 0, INITIAL, minimum=m - 1)))
    assert shop.refused(1, low) == "min-cohort"
    # q: ACKs, ABORTs, receipts
    cohort = first(everyone, m)
    assert shop.refused(1, shop.certificate(cohort, first(everyone, q - 1))) == "acks"
    assert shop.refused(1, shop.announcement(everyone, 1, 1, INITIAL, aborts=first(everyone, q - 1))) == "aborts"
    receipts = tuple(shop.receipt(index, 1, bytes(32)) for index in first(everyone, q))
    last = shop.world.labs[shop.world.names[-1]].machine
    assert shop.refused(n, CatchUp(1, 2, bytes(32), bytes(32), receipts[:-1])) == "receipts"
    assert not any(isinstance(each, Refuse) for each in last.handle(CatchUp(1, 2, bytes(32), bytes(32), receipts), 0.0))
    assert isinstance(shop.said(1, shop.certificate(cohort, first(everyone, q)))[0], Reveal)
    # f: members that may be convicted
    void = Void(0, tuple(everyone), shop.certificate(everyone, first(everyone, q)), (b"",) * (f + 1))
    assert shop.refused(2, Reopen(1, 1, void)) == "proof"
    # t: of the shares that members themselves deal
    upload = next(each for each in shop.world.labs[shop.world.names[1]].sent if isinstance(each, Upload))
    assert threshold_of(shop, upload) == quorums.t


def threshold_of(shop: Workshop, upload: Upload) -> int:
    """How many holders it takes to rebuild the self seed of this upload, tried out."""
    shares: dict[int, bytes] = {}
    for box in upload.trailer.boxes:
        machine = shop.world.labs[shop.world.names[box.holder - 1]].machine
        root = machine._root(upload.index, 1)
        context, edges = upload.context, upload.trailer.edges
        shares[box.holder] = boxes.unseal(
            machine._suite, root, context, upload.index, box.holder, edges, box.ciphertext
        )[0]
        if len(shares) > 1:
            try:
                seed = shamir.rebuild(shares)
            except Exception:
                continue
            if transcripts.secret_hash(context, upload.index, 0, seed) == upload.trailer.secret_hashes[0]:
                return len(shares)
    return 0


class Other(Quick):
    """The coordinator runs the job by other terms than those that its members consented to."""

    def __init__(self, n: int, theirs: dict[str, Any], **changes: Any) -> None:
        self.theirs = theirs
        super().__init__(n, **changes)

    def _collector(self) -> CollectorMachine:
        terms = replace(self.terms, **self.theirs)
        return CollectorMachine(terms, self.windows, self.verify_credential, verify=stand_in_verify)


@pytest.mark.parametrize(
    ("theirs", "ours", "check"),
    [
        ({"weight_cap": 1 << 30}, {"weights": [1, 1 << 25, 1, 1]}, "weight"),
        ({"min_members": 3}, {"min_members": 5}, "roster-size"),
        ({"min_jurisdictions": 1}, {"min_jurisdictions": 9}, "jurisdictions"),
        ({"job": bytes(32)}, {}, None),
    ],
    ids=["w_max", "fewer members", "fewer jurisdictions", "another manifest"],
)
def test_a_setup_by_other_terms_comes_to_nothing(
    theirs: dict[str, Any], ours: dict[str, Any], check: str | None
) -> None:
    world = Other(4, theirs, **ours)
    world.begin().run()
    assert world.done is None
    assert world.stuck is not None
    assert all(lab.machine.phase == "new" for lab in world.labs.values())
    refused = {each for lab in world.labs.values() for each in lab.refused}
    misconduct = {each.violation.check for each in world.misconduct}
    assert refused == ({check} if check else set())
    assert misconduct == (set() if check else {"key-signature"})


@pytest.mark.parametrize("theirs", [{"ring_bits": 8}, {"clip_norm": 1e9}, {"chunk_parameters": 2}, {"blind": False}])
def test_members_encode_by_their_own_manifest_whatever_the_coordinator_runs_by(theirs: dict[str, Any]) -> None:
    """Ring, clip norm, chunks and view are of the manifest that each member's driver holds; the sum is exact, in their ring."""
    plain, other = Quick(4, blind=True).begin().run(), Other(4, theirs, blind=True).begin().run()
    assert plain.done is not None
    assert other.done is not None
    assert other.judged
    assert [sorted(parts.items()) for parts in other.plain.values()] == [
        sorted(parts.items()) for parts in plain.plain.values()
    ]
    assert other.done.state_digest == plain.done.state_digest


def test_another_cipher_than_the_manifests_gives_no_sum() -> None:
    world = Other(4, {"cipher": "chacha20"}, blind=False)
    world.begin().run()
    assert world.done is None
    assert not world.judged
    assert {lab.machine.position.round for lab in world.labs.values()} == {1}


def test_more_rounds_than_the_manifest_has_are_not_begun() -> None:
    world = Other(4, {"rounds": 9}, rounds=1)
    world.begin().run()
    assert world.done is None
    assert [closed.round for closed in world.closed] == [1]
    assert len({lab.machine.position.round for lab in world.labs.values()}) == 1
    for lab in world.labs.values():
        assert all(isinstance(each, Refuse) for each in lab.machine.handle(events.AbortRequest(1, 2, 0), 0.0))


def test_a_weight_that_changes_after_the_roster_is_not_the_members() -> None:
    """The weight is signed in the key message and is in the roster hash: a contribution is made by that one, or not at all."""
    shop = certifying(4)
    world = shop.world
    again = next(each for each in world.labs["m1"].sent if isinstance(each, Upload))
    world.tell_collector(From("m1", again))
    work = [each for each in shop.tell(1, world.collector._book.announcement) if isinstance(each, Contribute)]
    assert work == []
    assert [seat.weight for seat in world.labs["m1"].machine.seats] == [lab.weight for lab in world.labs.values()]
