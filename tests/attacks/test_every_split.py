"""Attack 5: different survivor sets to different members, and attack 6: what follows when both are certified by force.

A member's answer depends on what it was shown and on nothing else, so each member's machine is run once for everything that it
can be shown, and every assignment is put together from the answers: every set to every member for n = 3, 4, 5, every pair of sets
for n = 6, 7. f members sign whatever they are asked to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import combinations, product
from typing import Any

import pytest

from federation.secagg.messages import Ack, Certificate, Recover, RecoverReply, Reveal, Survivors, Upload
from federation.secagg.parameters import Quorums
from federation.secagg.suite import STANDARD
from tests.attacks.forging import Workshop
from tests.simulation.stand_ins import Quick, Seated


def certifying(n: int, **changes: Any) -> Workshop:
    world = (Quick if "suite" in changes else Seated)(n, **changes)
    world.begin().run(until=lambda world: world.collector.phase == "certifying")
    world.queue.clear()
    return Workshop(world)


class Answers:
    """Each member's machine in the moment before its ACK, and what it says to anything, from there."""

    def __init__(self, n: int, **changes: Any) -> None:
        self.n, self.quorums = n, Quorums.of(n)
        self.shop = certifying(n, **changes)
        self.announcement = self.shop.collector._book.announcement
        self.journals = {index: dict(self.lab(index).journal) for index in range(1, n + 1)}
        everyone = range(1, n + 1)
        self.sets = [
            self.shop.survivors(cohort)
            for size in range(self.quorums.m, n + 1)
            for cohort in combinations(everyone, size)
        ]

    def lab(self, index: int) -> Any:
        return self.shop.world.labs[self.shop.world.names[index - 1]]

    def fresh(self, index: int) -> None:
        lab = self.lab(index)
        lab.journal = dict(self.journals[index])
        lab.machine = self.shop.world._machine(lab.name, lab.signer, lab.weight, 9)
        lab.machine.restore(self.journals[index])
        self.shop.tell(index, self.announcement)

    def after(self, index: int, *shown: Any) -> list[Any]:
        """What the member says to each message in turn: the checks that refuse it, as text, or what it sends."""
        self.fresh(index)
        return [self.answer(index, message) for message in shown]

    def answer(self, index: int, message: Any) -> Any:
        said = self.shop.tell(index, message)
        refused = [each.violation.check for each in said if hasattr(each, "violation")]
        sent = [each.message for each in said if hasattr(each, "message")]
        return refused[0] if refused else sent[0] if sent else None


@cache
def answers(n: int) -> Answers:
    return Answers(n)


def one_word(made: Answers, index: int) -> None:
    """Whichever set comes first is acknowledged; every other is refused, and the first is said again."""
    for first in made.sets:
        others = [each for each in made.sets if each != first]
        said = made.after(index, first, *others, first)
        assert isinstance(said[0], Ack)
        assert said[0] == said[-1]
        assert set(said[1:-1]) <= {"two-survivor-sets"}


@pytest.mark.parametrize("n", [3, 4, 5, 6, 7])
def test_a_member_acknowledges_the_first_set_it_is_shown_and_no_other(n: int) -> None:
    for index in range(1, n + 1):
        one_word(answers(n), index)


def signers(members: Iterable[int]) -> Iterator[tuple[int, ...]]:
    members = tuple(members)
    for size in range(len(members) + 1):
        yield from combinations(members, size)


def certified(made: Answers, survivors: Survivors, who: Iterable[int]) -> Certificate:
    return Certificate(survivors, tuple(made.shop.ack(index, survivors) for index in who))


@pytest.mark.parametrize("n", [3, 4, 5])
def test_different_survivor_sets_to_different_members_all_splits(n: int) -> None:
    """Every certificate that any split can make, valid or not, to every member in every position; then every split."""
    made = answers(n)
    everyone, q, f = range(1, n + 1), made.quorums.q, made.quorums.f
    valid: dict[tuple[int, tuple[int, ...]], bool] = {}
    for place, survivors in enumerate(made.sets):
        for who in signers(everyone):
            certificate = certified(made, survivors, who)
            for index in everyone:
                (said,) = made.after(index, certificate)
                if len(who) < q:
                    assert said == "acks"
                elif index in survivors.cohort:
                    assert isinstance(said, Reveal)
                    assert {peer for peer, _ in said.edges} == set(everyone) - set(survivors.cohort)
                else:
                    assert said is None
            valid[place, who] = len(who) >= q
    splits = 0
    for liars in combinations(everyone, f):
        honest = [index for index in everyone if index not in liars]
        for split in product(range(-1, len(made.sets)), repeat=len(honest)):  # -1: is shown nothing
            splits += 1
            able = [
                place
                for place in range(len(made.sets))
                if valid[
                    place, tuple(sorted((*liars, *(i for i, at in zip(honest, split, strict=True) if at == place))))
                ]
            ]
            assert len(able) <= 1, (liars, split)
    assert splits == len(list(combinations(everyone, f))) * (len(made.sets) + 1) ** (n - f)


@pytest.mark.parametrize("n", [6, 7])
def test_different_survivor_sets_to_different_members_all_two_way_splits(n: int) -> None:
    """Every pair of sets, every way to show members one or the other, every choice of f liars."""
    made = answers(n)
    everyone, q = range(1, n + 1), made.quorums.q
    masks = [sum(1 << (index - 1) for index in liars) for liars in combinations(everyone, made.quorums.f)]
    pairs = list(combinations(range(len(made.sets)), 2))
    assert len(pairs) == {6: 231, 7: 406}[n]
    # That a member acknowledges the one it is shown first, and never the other, is above for every pair: so the count is
    # the same for all.
    for shown in range(1 << n):  # bit i: member i + 1 is shown the first, else the second
        for liars in masks:
            first, second = shown | liars, ~shown & (1 << n) - 1 | liars
            assert not (first.bit_count() >= q and second.bit_count() >= q)
    # What each member says to the certificate of a set, when it has acknowledged that set or another.
    for survivors in made.sets:
        certificate = certified(made, survivors, range(1, q + 1))
        short = certified(made, survivors, range(1, q))
        for index in everyone:
            for other in (survivors, made.sets[0], made.sets[-1]):
                acknowledged, refused, said = made.after(index, other, short, certificate)
                assert isinstance(acknowledged, Ack)
                assert refused == "acks"
                assert isinstance(said, Reveal) if index in survivors.cohort else said is None


@pytest.mark.parametrize("n", [4, 5, 6])
def test_nobody_reveals_for_another_set_than_the_first_that_was_certified(n: int) -> None:
    """More keys stolen than the protocol tolerates, so that every set is certified. Attack 6: b_v and s_vj are asked over
    several requests, REVEAL and RECOVER; each member answers all of them for one set."""
    made = answers(n)
    everyone = range(1, n + 1)
    certificates = [certified(made, survivors, everyone) for survivors in made.sets]
    boxed: dict[int, Upload] = {
        index: next(m for m in made.lab(index).sent if isinstance(m, Upload)) for index in everyone
    }
    for index in (1, 2, n):
        asked: list[tuple[frozenset[int], int, Any]] = []  # (cohort, owner; 0: its own, request)
        for certificate in certificates:
            cohort = frozenset(certificate.survivors.cohort)
            asked.append((cohort, 0, certificate))
            for owner in set(everyone) - {index}:
                box = next(each.ciphertext for each in boxed[owner].trailer.boxes if each.holder == index)
                asked.append((cohort, owner, Recover(certificate, owner, boxed[owner].trailer.edges, box)))
        binding = [each for each in asked if each[1] == 0 or each[1] in each[0]]
        for cohort, owner, request in binding[:: 1 if n < 6 else 7]:
            made.fresh(index)
            first = made.answer(index, request)
            bound = isinstance(first, Reveal | RecoverReply)
            assert bound == (owner != 0 or index in cohort)
            if not bound:
                continue
            for other, whom, again in asked:
                said = made.answer(index, again)
                if other == cohort:
                    assert isinstance(said, Reveal | RecoverReply) == (whom in cohort if whom else index in cohort)
                elif whom == 0 and index not in other:
                    assert said is None
                else:
                    assert said in ("bound-cohort", "recover-owner")


@pytest.mark.parametrize("n", [4, 5])
def test_a_sample_of_splits_with_the_real_ciphers(n: int) -> None:
    made = Answers(n, suite=STANDARD)
    q = made.quorums.q
    one_word(made, 1)
    one_word(made, n)
    survivors = made.sets[-1]
    said = made.after(2, certified(made, survivors, range(1, q)), certified(made, survivors, range(1, q + 1)))
    assert said[0] == "acks"
    assert isinstance(said[1], Reveal)
    assert made.answer(2, certified(made, made.sets[0], range(1, n + 1))) == "bound-cohort"
