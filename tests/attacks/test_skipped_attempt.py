"""A coordinator that leaves one attempt open, has another ended in advance, and so gets two certificates for one state: each member
is asked for one of the two sums. Where n + f is even, and f members help it, q is such that two halves of the honest members would
open both, and the difference is one member's update. What a member ACKs last is therefore all that it still releases for
(docs/protocol/secure-aggregation.md, "Security argument", lemma 5)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from federation.secagg import encoding as codes
from federation.secagg import recovery, transcripts
from federation.secagg.certificate import Announced
from federation.secagg.events import AbortRequest, Contribute, Encoded
from federation.secagg.header import Header
from federation.secagg.member import MemberMachine
from federation.secagg.messages import (
    Abort,
    Ack,
    Announcement,
    Certificate,
    Ready,
    Recover,
    RecoverReply,
    Reveal,
    SurvivorEntry,
    Upload,
)
from federation.secagg.parameters import Quorums
from tests.attacks.forging import Workshop, open_world
from tests.simulation.harness import World
from tests.whole import added, encode, root_of

HONEST, COLLUDER, VICTIM = (1, 2, 3, 4), 5, 3
WITHOUT = (1, 2, 4, 5)
FIRST, SECOND = (1, 3), (2, 4)
"""which honest members are asked to open which sum"""


class Coordinator(Workshop):
    """n = 5: f = 1, q = 4, t = 3. Round 1, attempt 0 stands announced, all have uploaded."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.certificates: dict[int, Certificate] = {}
        self.uploads = {0: {each: self.upload_of(each, self.context) for each in range(1, 6)}}

    def upload_of(self, index: int, context: bytes) -> Upload:
        return next(m for m in self.world.labs[f"m{index}"].sent if isinstance(m, Upload) and m.context == context)

    def entry(self, index: int) -> SurvivorEntry:
        upload = self.upload_of(index, self.context)
        return SurvivorEntry(index, upload.root, transcripts.trailer_hash(upload.trailer), upload.signature)

    def heard(self, index: int, message: Any, kind: type) -> Any:
        """What the member's real machine says to it; None when it says nothing of that kind."""
        return next((each for each in self.said(index, message) if isinstance(each, kind)), None)

    def certify(self, attempt: int, cohort: Iterable[int]) -> None:
        """Honest members ACK what they are shown; the colluder signs."""
        survivors = self.survivors(cohort)
        acks = [ack for index in HONEST if (ack := self.heard(index, survivors, Ack)) is not None]
        self.certificates[attempt] = Certificate(survivors, tuple([*acks, self.ack(COLLUDER, survivors)][-4:]))

    def skip(self) -> Announced:
        """ABORTs of attempt 1, which nobody has seen, open attempt 2; attempt 0 stays as it is."""
        aborts, readies = [], []
        for index in range(1, 6):
            aborts.append(self.heard(index, AbortRequest(1, 1, 1), Abort))
        for index in WITHOUT:
            readies.append(next(m for m in self.said(index, AbortRequest(1, 1, 1)) if isinstance(m, Ready)))
        assert all(ready.attempt == 2 for ready in readies)
        announcement = Announcement(1, 1, 2, tuple(readies), (), tuple(aborts), None)
        self.uploads[2] = {}
        for index in (1, 2, 3, 4, 5):
            told = self.tell(index, announcement)
            for work in told:
                if isinstance(work, Contribute):
                    self.uploads[2][index] = self.upload(index, work)
        bench = self.world.labs["m1"].machine.bench
        assert bench is not None
        return bench.check_announcement(announcement)

    def upload(self, index: int, work: Contribute) -> Upload:
        world, lab = self.world, self.world.labs[f"m{index}"]
        code = codes.encoding_of(world.terms, work.members, work.weight_unit)
        scales = np.full(code.chunks(world.size), world.terms.initial_scale_exponent, np.int8)
        header = Header.of(world.terms, work.weight, 1.0, {"train/loss": 0.25 * index})
        pieces = list(encode(world.difference(lab.name, 1), header, work.plan, code, scales))
        world.updates.setdefault(work.plan.context, {})[index] = b"".join(pieces)
        lab.files[work.plan.context] = b"".join(pieces)
        root = root_of(b"".join(pieces), world.terms, code)
        upload = self.heard(index, Encoded(work.plan.context, root), Upload)
        lab.sent.append(upload)
        return upload

    def open(self, attempt: int, asked: Iterable[int]) -> np.ndarray | None:
        """The sum's levels, when the answers of these members, and the colluder's, are enough."""
        certificate, seeds = self.certificates[attempt], {}
        cohort = certificate.survivors.cohort
        reveals = {index: self.heard(index, certificate, Reveal) for index in (*asked, COLLUDER) if index in cohort}
        for owner in cohort:
            reveal = reveals.get(owner)
            if reveal is not None:
                seeds[owner] = {0: reveal.self_seed, **dict(reveal.edges)}
                continue
            upload = self.uploads[attempt][owner]
            replies = []
            for holder in (*asked, COLLUDER):
                if holder != owner:
                    box = next(box.ciphertext for box in upload.trailer.boxes if box.holder == holder)
                    reply = self.heard(holder, Recover(certificate, owner, upload.trailer.edges, box), RecoverReply)
                    replies += [reply] if reply is not None else []
            if len(replies) < 3:
                return None
            ready = (*upload.trailer.edges, owner)
            gone = tuple(sorted(peer for peer in ready if peer not in cohort))
            seeds[owner] = recovery.rebuild(replies, upload, gone, 3)
        code = codes.encoding_of(self.world.terms, 5, max(lab.weight for lab in self.world.labs.values()))
        context = certificate.survivors.context
        unmask = recovery.unmask_plan(context, seeds, self.world.terms.cipher)
        updates = [self.world.updates[context][index] for index in cohort]
        return np.frombuffer(added(updates, self.world.terms, code, unmask), "<i2", self.world.size).astype(np.int64)


class Lax(MemberMachine):
    """Without the rule: what was acknowledged in a later attempt is not looked at."""

    def _check_latest(self, announced: Announced) -> None:
        return None


class Colluding(Lax):
    """Answers whatever its coordinator asks."""

    def _check_binding(self, announced: Announced, digest: bytes, cohort: tuple[int, ...]) -> None:
        return None


def certified(kind: type[MemberMachine]) -> Coordinator:
    """Two cohorts of one state are certified, and nothing was released for either."""
    world = open_world(5, weights=[1] * 5, blind=False)
    for index in HONEST:
        world.labs[f"m{index}"].machine.__class__ = kind
    world.labs[f"m{COLLUDER}"].machine.__class__ = Colluding
    shop = Coordinator(world)
    shop.certify(0, (1, 2, 3, 4, 5))
    second = shop.skip()
    shop.context = second.context
    shop.certify(2, WITHOUT)
    assert [len(each.acks) for each in shop.certificates.values()] == [4, 4]
    return shop


def test_a_skipped_attempt_opens_one_cohort_of_a_state() -> None:
    shop = certified(MemberMachine)
    for index in (1, 2, 4):
        assert shop.refused(index, shop.certificates[0]) == "stale-attempt"
    assert shop.open(0, FIRST) is None
    assert shop.open(2, SECOND) is not None


def test_a_member_that_was_killed_remembers_that_the_attempt_is_over() -> None:
    shop = certified(MemberMachine)
    world = shop.world
    first, before = shop.certificates[0], world.collector._book.announcement
    world.kill("m1")
    world.labs["m1"].alive = True
    machine = world._machine("m1", world.labs["m1"].signer, 1, 1)
    machine.restore(dict(world.labs["m1"].journal))
    world.labs["m1"].machine = machine
    shop.tell(1, before)  # told once more, as after any restart
    assert shop.refused(1, first) == "stale-attempt"


def test_without_the_rule_the_coordinator_and_f_members_read_an_update() -> None:
    """The attack has teeth."""
    shop = certified(Lax)
    both, without = shop.open(0, FIRST), shop.open(2, SECOND)
    assert both is not None
    assert without is not None
    truth = shop.world.difference(f"m{VICTIM}", 1) * 2.0**-shop.world.terms.initial_scale_exponent
    assert np.abs(both - without - truth).max() < 4  # the others' rounding is drawn anew
    assert np.abs(truth).max() > 100


def test_where_n_plus_f_is_odd_the_counts_alone_exclude_it() -> None:
    """Two sets of honest members that each release a sum would share one, which is bound."""
    for n in range(3, 201):
        q = Quorums.of(n)
        disjoint = 2 * (q.t - q.f) <= n - q.f
        assert disjoint == ((n + q.f) % 2 == 0)
