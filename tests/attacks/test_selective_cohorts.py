"""Attacks that choose who is in a sum: everybody but v (9), everybody but v again in a new epoch (10), everybody but v's honest
neighbours (20), and all that f colluders know with the coordinator (24). What the coordinator can work out is computed by linear
algebra over everything that was masked and revealed. The attacks that must succeed do, against variants built here: the test has
teeth."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest

from federation.secagg.member import MemberMachine
from federation.secagg.messages import Reveal
from federation.secagg.parameters import Quorums
from tests.simulation.hostile import Hostile, Op
from tests.simulation.invariants import Broken
from tests.simulation.knowledge import determined


def bits(*indices: int) -> int:
    return sum(1 << (index - 1) for index in indices)


def found(hostile: Hostile) -> list[frozenset[str]]:
    """Honest members of each sum that the coordinator and its members can work out, and of nothing else. Raises Broken."""
    hostile.run([Op("squeeze")]).watch._judged = (-1, -1)
    return [members for _, members in hostile.watch.judge()]


def names(*indices: int) -> frozenset[str]:
    return frozenset(f"m{index}" for index in indices)


# ------------------------------------------------------------------------------------------------- everybody but one


@pytest.mark.parametrize(("n", "liars"), [(4, (4,)), (5, (1,)), (7, (1, 7)), (9, (2, 3))])
def test_a_withheld_upload_is_unreadable_when_its_edges_and_then_its_release_are_asked_for(
    n: int, liars: tuple[int, ...]
) -> None:
    """Attack 9. v has uploaded, and is left out; its edges are revealed. Then the upload is released, and everything is asked for
    again, for the cohort with v, by REVEAL and by RECOVER."""
    v = next(index for index in range(1, n + 1) if index not in liars)
    hostile = Hostile(n, liars)
    hostile.run([Op("attempt", less=bits(v)), Op("survivors"), Op("certify"), Op("squeeze")])
    everyone = set(range(1, n + 1)) - set(liars)
    assert found(hostile) == [names(*(everyone - {v}))]
    hostile.run([Op("survivors", less=0), Op("certify"), *(Op("recover", 0, owner) for owner in range(n))])
    assert found(hostile) == [names(*(everyone - {v}))]
    assert any("bound-cohort" in peer.refused or "acks" in peer.refused for peer in hostile.peers.values())


@pytest.mark.parametrize("released_by", ["all", "few"])
@pytest.mark.parametrize(("n", "liars"), [(5, (5,)), (7, (6, 7))])
def test_retry_without_one_member_in_a_new_epoch_is_refused_after_a_reveal(
    n: int, liars: tuple[int, ...], released_by: str
) -> None:
    """Attack 10. Whoever has released stays behind; without it, too few of the old epoch open the new one."""
    quorums = Quorums.of(n)
    honest = [index for index in range(1, n + 1) if index not in liars]
    told = honest if released_by == "all" else honest[: quorums.t - quorums.f]
    spare = sum(1 << place for place, index in enumerate(honest) if index not in told)
    hostile = Hostile(n, liars)
    hostile.run([Op("attempt", spare=spare)])
    before = found(Hostile(n, liars).run([Op("attempt")]))
    v = honest[-1]
    for less in (bits(v), 0):
        hostile.run([Op("epoch", less=less), Op("work"), Op("attempt"), Op("attempt", less=bits(v)), Op("abort")])
    bound = [peer for peer in hostile.peers.values() if peer.name in names(*told)]
    assert all(peer.machine.position.epoch == 1 for peer in bound)
    assert found(hostile) in ([], before)
    masked = [key[2] for key in hostile.watch.said if key[0] == "contribution"]
    assert masked
    assert {epoch for epoch, _, _ in masked} == {1}, "nobody masked anything in another epoch"
    assert len(hostile.eras) == 2, "which stands all the same"


# -------------------------------------------------------------------------------------------- everybody but neighbours


class Regular(MemberMachine):
    """Each member is masked against ``K`` neighbours on either side alone, as in a k-regular graph."""

    K = 1

    def _near(self, peer: int) -> bool:
        apart = abs(peer - self._index)
        return min(apart, len(self.seats) - apart) <= self.K

    def _work(self, announced: Any, seeds: Any) -> Any:
        work = super()._work(announced, seeds)
        far = {self._seed(peer, announced) for peer in announced.ready if peer != self._index and not self._near(peer)}
        kept = tuple(mask for mask in work.plan.masks if mask.seed not in far)
        return replace(work, plan=replace(work.plan, masks=kept))

    def _certificate(self, event: Any) -> Any:
        return [
            replace(each, message=replace(each.message, edges=tuple(e for e in each.message.edges if self._near(e[0]))))
            if isinstance(getattr(each, "message", None), Reveal)
            else each
            for each in super()._certificate(event)
        ]


class MoreRegular(Regular):
    K = 2


@pytest.mark.parametrize(
    ("variant", "liars", "dropped"),
    [(Regular, (), (4, 6)), (MoreRegular, (3, 7), (4, 6))],
    ids=["k = 2", "k = 4, f lie"],
)
def test_dropping_the_honest_neighbours_of_one_member_opens_it_in_a_k_regular_graph(
    variant: type[MemberMachine], liars: tuple[int, ...], dropped: tuple[int, ...]
) -> None:
    """Attack 20, where it must succeed: nine members, seven in the sum, and m5 alone comes out."""
    hostile = Hostile(9, liars, variant=variant).run([Op("attempt", less=bits(*dropped))])
    with pytest.raises(Broken, match=r"I4: a sum of \['m5'\] alone is out"):
        found(hostile)


@pytest.mark.parametrize(
    ("liars", "dropped"), [((), (4, 6)), ((3, 7), (4, 6)), ((1, 2), (3, 4, 5)), ((8, 9), (6, 7, 4))]
)
def test_dropping_honest_members_leaves_a_sum_of_m_less_f_honest_terms(
    liars: tuple[int, ...], dropped: tuple[int, ...]
) -> None:
    """Attack 20, where it fails: whoever is dropped, the graph is complete, and the sum holds all honest members of it."""
    quorums = Quorums.of(9)
    hostile = Hostile(9, liars).run([Op("attempt", less=bits(*dropped))])
    left = set(range(1, 10)) - set(liars) - set(dropped)
    assert found(hostile) == [names(*left)]
    assert len(left) >= quorums.m - quorums.f


@pytest.mark.parametrize("n", [4, 5, 6, 7])
def test_whoever_is_dropped_no_cohort_has_fewer_honest_terms(n: int) -> None:
    """Every cohort that leaves v and as few honest members as the coordinator can get, its own members all in."""
    quorums = Quorums.of(n)
    liars = tuple(range(1, quorums.f + 1))
    honest = range(quorums.f + 1, n + 1)
    for size in range(len(honest)):
        for dropped in combinations(honest, size):
            hostile = Hostile(n, liars).run([Op("attempt", less=bits(*dropped))])
            sums = found(hostile)
            if n - size < quorums.m:
                assert sums == []
                assert "cohort-small" in {check for peer in hostile.peers.values() for check in peer.refused}
            else:
                assert sums == [names(*(set(honest) - set(dropped)))]
                assert len(sums[0]) >= quorums.m - quorums.f


# ------------------------------------------------------------------------------------------------------ what they pool


@pytest.mark.parametrize("n", [4, 5, 7])
def test_f_colluders_that_pool_everything_with_the_coordinator_learn_the_sum_and_nothing_else(n: int) -> None:
    """Attack 24: every choice of f members, their keys, their shares, everything that was ever sent."""
    quorums = Quorums.of(n)
    for liars in combinations(range(1, n + 1), quorums.f):
        hostile = Hostile(n, liars).run([Op("attempt")])
        assert found(hostile) == [names(*(set(range(1, n + 1)) - set(liars)))]


@pytest.mark.parametrize(("n", "more"), [(5, 0), (7, 0), (7, -1)])
def test_t_colluders_open_every_honest_member_and_one_less_does_not(n: int, more: int) -> None:
    """The same attack, the same ops, t holders: the test has teeth."""
    quorums = Quorums.of(n)
    count = quorums.t + more
    hostile = Hostile(n, range(1, count + 1)).run([Op("attempt")])
    honest = range(count + 1, n + 1)
    sums = hostile.run([Op("squeeze")]).watch
    if more == 0:
        with pytest.raises(Broken) as broken:
            sums.judge()
        assert broken.value.invariant == "I4"
        alone = {next(iter(sorted(v.member for v in each))) for each in determined_by(hostile) if len(each) == 1}
        assert alone == names(*honest)
    else:
        assert [members for _, members in sums.judge()] == [names(*honest)]


def determined_by(hostile: Hostile) -> Any:
    watch = hostile.watch
    return determined([each for each in watch.seen if each.vector.member not in watch.colluders], watch.known)
