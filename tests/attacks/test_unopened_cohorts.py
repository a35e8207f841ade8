"""Attack 42, in two jobs: members are brought to note a cohort as one whose figures have left, though its sum was never opened;
another cohort is opened in that round, and the noted one in the next job, over the same model. The difference is a member's own
figure."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from federation.secagg import transcripts
from federation.secagg.events import AbortRequest, Contribute, Encoded, FetchSum, RememberFigures, Reopen, SumRefused
from federation.secagg.messages import (
    Abort,
    Ack,
    Announcement,
    Certificate,
    Close,
    Ready,
    Reveal,
    SurvivorEntry,
    Upload,
    Void,
)
from federation.secagg.parameters import Quorums
from tests.attacks.forging import Workshop, run_until
from tests.attacks.test_figures import ALL, FOUR, Clinic, Nodes, digest, evaluation

EVERYBODY, LESS = (1, 2, 3, 4, 5), (1, 2, 3, 4)
QUORUM = Quorums.of(5).q


class Coordinator(Workshop):
    """Nobody helps it: it uses what the five members say. In round 1, attempt 0, all have uploaded."""

    def __init__(self, nodes: Nodes) -> None:
        world = Clinic(nodes, "job", model=lambda _: "the snapshot", rounds=0, final_evaluation=True)
        super().__init__(run_until(world, "certifying"))

    def entry(self, index: int) -> SurvivorEntry:
        sent = self.world.labs[f"m{index}"].sent
        upload = next(each for each in sent if isinstance(each, Upload) and each.context == self.context)
        return SurvivorEntry(index, upload.root, transcripts.trailer_hash(upload.trailer), upload.signature)

    def answers(self, message: Any, kind: type, asked: Iterable[int] = EVERYBODY) -> list[Any]:
        return [each for index in asked for each in self.said(index, message) if isinstance(each, kind)]

    def certify(self, cohort: tuple[int, ...]) -> Certificate:
        survivors = self.survivors(cohort)
        return Certificate(survivors, tuple(self.answers(survivors, Ack, cohort)[:QUORUM]))

    def after(self, attempt: int) -> Announcement:
        """The next attempt, opened by the ABORTs of this one."""
        aborts = self.answers(AbortRequest(1, 1, attempt), Abort)
        readies = self.answers(AbortRequest(1, 1, attempt), Ready)
        return Announcement(1, 1, attempt + 1, tuple(readies), (), tuple(aborts), None)

    def announce(self, message: Announcement) -> None:
        for index in EVERYBODY:
            for work in self.tell(index, message):
                if isinstance(work, Contribute):
                    self.context = work.plan.context
                    upload = self.said(index, Encoded(self.context, digest(f"root of {index}")))
                    self.world.labs[f"m{index}"].sent += upload

    def open(self, cohort: tuple[int, ...]) -> bool:
        """Whether every member of the cohort reveals for it."""
        return len(self.answers(self.certify(cohort), Reveal, cohort)) == len(cohort)

    def close_of(self, certificate: Certificate) -> Close:
        survivors = transcripts.survivors_digest(certificate.survivors)
        return Close(1, certificate.survivors.context, survivors, bytes(32), 100, certificate)


def a_second_job_stays_with_the_cohort_that_was_opened(nodes: Nodes) -> None:
    whole = evaluation(nodes, "second", ALL)
    assert not whole.closed
    assert set(FOUR) <= whole.refusals()
    assert evaluation(nodes, "third", FOUR).done is not None


def test_a_sum_that_was_told_and_never_opened_is_none_that_left(tmp_path: Path) -> None:
    """Attempt 0 is certified and left closed; a sum of it is told that nobody can check; attempt 1 is aborted before anybody has
    seen it; attempt 2 is opened without m5."""
    nodes = Nodes(tmp_path)
    shop = Coordinator(nodes)
    certificate = shop.certify(EVERYBODY)
    for index in EVERYBODY:
        (fetch,) = [each for each in shop.tell(index, shop.close_of(certificate)) if isinstance(each, FetchSum)]
        assert shop.refused(index, SumRefused(fetch.close.context, "no such blob", ours=True)) == "sum-not-applied"
    shop.announce(shop.after(1))
    assert shop.open(LESS)
    a_second_job_stays_with_the_cohort_that_was_opened(nodes)


def test_a_certificate_of_an_aborted_attempt_opens_nothing_again(tmp_path: Path) -> None:
    """Attempt 0 is certified, and then aborted by the members that had acknowledged it; it is shown as void when the ABORTs have
    opened attempt 1, and that one is opened without m5."""
    nodes = Nodes(tmp_path)
    shop = Coordinator(nodes)
    void = Void(0, EVERYBODY, shop.certify(EVERYBODY))
    shop.announce(shop.after(0))
    for index in EVERYBODY:
        assert shop.refused(index, Reopen(1, 1, void)) == "aborted"
    assert shop.open(LESS)
    a_second_job_stays_with_the_cohort_that_was_opened(nodes)


def test_a_certificate_of_an_attempt_before_our_ack_opens_nothing_again(tmp_path: Path) -> None:
    """An attempt that was skipped is shown as void to members that have acknowledged a later one."""
    shop = Coordinator(Nodes(tmp_path))
    void = Void(0, EVERYBODY, shop.certify(EVERYBODY))
    shop.announce(shop.after(1))
    certificate = shop.certify(LESS)
    for index in LESS:
        assert shop.refused(index, Reopen(1, 1, void)) == "stale-attempt"
    assert len(shop.answers(certificate, Reveal, LESS)) == len(LESS)


def test_what_a_void_attempt_let_out_is_in_the_journal_before_the_member_is_bound_to_it(tmp_path: Path) -> None:
    shop = Coordinator(Nodes(tmp_path))
    void = Void(0, EVERYBODY, shop.certify(EVERYBODY))
    told = shop.tell(1, Reopen(1, 1, void))
    figures = next(place for place, each in enumerate(told) if isinstance(each, RememberFigures))
    bound = next(place for place, each in enumerate(told) if getattr(each, "key", "").startswith("bound/"))
    assert figures < bound
