"""Attack 42: a figure that left as a sum over one cohort leaves again over another, and the difference is a member's own.

A member drops between two rounds, two cohorts evaluate one snapshot, statistics nest. Real machines and encoder; the members'
journals are files. Each attack is tried against a federation without the rule as well, and succeeds there: the test has teeth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federation.errors import ProtocolViolation
from federation.secagg import encoding as codes
from federation.secagg.cohorts import Attempt, CohortRule
from federation.secagg.events import (
    CatchUp,
    Contribute,
    Encoded,
    FetchSum,
    MaskPlan,
    Remember,
    RememberFigures,
    SumApplied,
)
from federation.secagg.figures import public_words
from federation.secagg.header import ONE, Header
from federation.secagg.member import Me, MemberMachine
from federation.secagg.messages import Ack, Close
from federation.secagg.parameters import Quorums
from node_agent.rounds.disclosure import Disclosure, FigureBook
from node_agent.store.journal import Journal
from tests.simulation.harness import Lab, Signer, random_of, stand_in_verify
from tests.simulation.stand_ins import Quick
from tests.whole import encode, root_of

ROWS = {"m1": 311, "m2": 128, "m3": 77, "m4": 905, "m5": 540}
"""how many patients each laboratory has: what no sum may tell"""
RIGHT = {"m1": 201, "m2": 99, "m3": 51, "m4": 700, "m5": 333}
"""how many of them the model tells rightly"""
METRICS = ("evaluate/accuracy", "evaluate/rows")


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


class Node:
    """What of a laboratory outlives a job: its journal, and its data."""

    def __init__(self, place: Path, name: str) -> None:
        self.path, self.data = place / f"{name}.db", digest(f"data of {name}")
        self.journal = Journal(self.path)
        self.book = FigureBook.of(self.journal.figures())

    def restart(self) -> None:
        self.journal.close()
        self.journal = Journal(self.path)
        self.book = FigureBook.of(self.journal.figures())


class Nodes(dict[str, Node]):
    def __init__(self, place: Path, names: Iterable[str] = ROWS) -> None:
        super().__init__({name: Node(place, name) for name in names})


class Clinic(Quick):
    """A job whose members count patients. ``nodes``: None for a federation without the rule."""

    def __init__(
        self,
        nodes: Nodes | None,
        job: str,
        *,
        model: Callable[[int], str] = lambda round_number: f"model {round_number}",
        figures: Callable[[str], dict[str, float]] | None = None,
        **changes: Any,
    ) -> None:
        self.nodes, self.model = nodes, model
        self.figures = figures or (
            lambda name: {"evaluate/accuracy": RIGHT[name] / ROWS[name], "evaluate/rows": ROWS[name]}
        )
        self.rules: dict[str, Disclosure] = {}
        self.seen: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        """by round: the cohort, and the sums of the declared figures"""
        defaults: dict[str, Any] = {
            "job": digest(job), "rounds": 2, "metrics": METRICS, "weights": [1] * 5, "blind": False,
        }  # fmt: skip
        super().__init__(**{**defaults, **changes})

    def _machine(self, name: str, signer: Signer, weight: int, life: int) -> MemberMachine:
        rule: CohortRule | None = None
        if self.nodes is not None:
            node = self.nodes[name]
            exact = {False: (*self.terms.metrics, "update"), True: self.terms.metrics}
            rule = self.rules[name] = Disclosure(node.book, self.terms.job, exact, self.terms.rounds, (node.data,))
        return MemberMachine(
            self.terms,
            Me(name, "node", name.encode(), weight),
            signer,
            self.verify_credential,
            random_of(f"{name}/{life}"),
            verify=stand_in_verify,
            suite=self.suite,
            cohorts=rule,
        )

    def deliver(self, name: str, event: Any) -> None:
        """The node tells its rule which model each state holds, as its driver does."""
        if name in self.rules and isinstance(event, SumApplied):
            self._hold(name, self.labs[name].machine.position.round + 1, event.state_digest)
        elif name in self.rules and type(event).__name__ == "StateReady":
            self._hold(name, event.round, event.state_digest)
        super().deliver(name, event)

    def _hold(self, name: str, round_number: int, state_digest: bytes) -> None:
        self.rules[name].hold(state_digest, digest(self.model(round_number)))

    def restart(self, name: str) -> None:
        place = self.labs[name].machine.position
        if self.nodes is not None:
            self.nodes[name].restart()
        self.labs[name].machine = self._machine(name, self.labs[name].signer, self.labs[name].weight, 0)
        if name in self.rules:
            self._hold(name, place.round, place.state_digest)
        rule = self.rules.get(name)
        super().restart(name)
        if rule is not None:
            self._hold(name, place.round, place.state_digest)

    def _member_does(self, lab: Lab, instruction: Any) -> None:
        if self.nodes is not None:
            journal = self.nodes[lab.name].journal
            if isinstance(instruction, RememberFigures):
                journal.remember(self.terms.job, {}, [instruction])
            elif isinstance(instruction, Remember) and instruction.key.startswith(("ack/", "bound/")):
                journal.remember(self.terms.job, {instruction.key: instruction.value})
        super()._member_does(lab, instruction)

    def _contribute(self, lab: Lab, work: Contribute) -> None:
        code = codes.encoding_of(self.terms, work.members, work.weight_unit)
        scales = np.full(code.chunks(self.size), self.terms.initial_scale_exponent, np.int8)
        header = Header.of(self.terms, work.weight, 0.0, self.figures(lab.name))
        difference = None if work.header_only else self.difference(lab.name, work.round)
        chunks = [bytes(chunk) for chunk in encode(difference, header, work.plan, code, scales)]
        plain = MaskPlan(work.plan.context, (), work.plan.dither, work.plan.cipher)
        self.plain.setdefault(work.plan.context, {})[lab.machine.index] = b"".join(
            bytes(chunk) for chunk in encode(difference, header, plain, code, scales)
        )
        lab.files[work.plan.context] = b"".join(chunks)
        self.deliver(lab.name, Encoded(work.plan.context, root_of(lab.files[work.plan.context], self.terms, code)))

    def _apply(self, lab: Lab, fetch: FetchSum) -> None:
        self.seen[fetch.close.round] = (fetch.cohort, public_words(self.opened(fetch).header, self.terms))
        super()._apply(lab, fetch)

    def refusals(self) -> set[str]:
        return {name for name, lab in self.labs.items() if "figure-cohort" in lab.refused}


def value_of(words: tuple[int, ...], figure: str) -> tuple[float, float]:
    """(sum, share) of a figure, as everybody reads them in a receipt."""
    place = 2 * METRICS.index(figure)
    return words[place] / ONE, words[place + 1] / ONE


def difference(before: tuple[int, ...], after: tuple[int, ...]) -> dict[str, float]:
    """What a reader of two sums makes of them."""
    return {figure: value_of(before, figure)[0] - value_of(after, figure)[0] for figure in METRICS}


def own(name: str) -> dict[str, float]:
    return {"evaluate/accuracy": pytest.approx(RIGHT[name] / ROWS[name], abs=1e-8), "evaluate/rows": ROWS[name]}


# ------------------------------------------------------------------------------------------------- a member drops in between


def lost_between_rounds(nodes: Nodes | None) -> Clinic:
    """The task returns the model that it was given, so that both rounds evaluate the same one; m5 is cut off between them."""
    world = Clinic(nodes, "job", model=lambda _round: "a model that does not change", final_evaluation=False)
    world.begin().run(until=lambda world: len(world.closed) == 1 and world.collector.round == 2)
    world.lose("m5")
    world.run()
    return world


def test_lost_member_reveals_its_count(tmp_path: Path) -> None:
    world = lost_between_rounds(Nodes(tmp_path))
    assert world.stuck is not None
    assert len(world.closed) == 1, "no second sum of the same figures"
    assert world.refusals() == {"m1", "m2", "m3", "m4"}
    assert set(world.seen) == {1}
    assert not any(len(stored) == 4 for stored in world.updates.values()), "they do not even upload"


def test_without_the_rule_the_count_of_the_lost_member_is_the_difference_of_two_sums() -> None:
    world = lost_between_rounds(None)
    assert world.done is not None
    (before, first), (after, second) = world.seen[1], world.seen[2]
    assert set(before) - set(after) == {5}
    assert difference(first, second) == own("m5")


def test_the_weight_of_a_lost_member_is_the_bucket_that_it_stated_and_not_its_count(tmp_path: Path) -> None:
    """Header word 0 leaves in each round; models differ from round to round, so the job goes on."""
    buckets = [1 << (rows.bit_length() - 1) for rows in ROWS.values()]
    world = Clinic(Nodes(tmp_path), "job", weights=buckets, final_evaluation=False)
    world.begin().run(until=lambda world: len(world.closed) == 1 and world.collector.round == 2)
    world.lose("m5")
    world.run()
    assert world.done is not None
    first, second = world.closed
    assert first.total_weight - second.total_weight == 512 != ROWS["m5"]
    assert not world.refusals()


def test_a_member_that_returns_makes_the_cohort_what_it_was_and_the_job_goes_on(tmp_path: Path) -> None:
    world = Clinic(Nodes(tmp_path), "job", model=lambda _round: "unchanged", final_evaluation=False)
    world.begin().run(until=lambda world: len(world.closed) == 1 and world.collector.round == 2)
    world.lose("m5")
    world.run(until=lambda world: bool(world.refusals()))
    world.reconnect("m5")
    world.run()
    assert world.done is not None, world.stuck
    assert world.closed[-1].certificate.survivors.cohort == (1, 2, 3, 4, 5)


# ------------------------------------------------------------------------------------------------------ two cohorts, one model


def evaluation(nodes: Nodes | None, job: str, cohort: tuple[str, ...], **changes: Any) -> Clinic:
    """A job that evaluates one snapshot: rounds without training, header only."""
    world = Clinic(
        nodes, job, model=lambda _round: "the snapshot", rounds=0, final_evaluation=True, min_members=3, **changes
    )
    world.begin(cohort).run()
    return world


ALL, FOUR = tuple(ROWS), ("m1", "m2", "m3", "m4")


@pytest.mark.parametrize("order", [(ALL, FOUR), (FOUR, ALL)], ids=["one less", "one more"])
def test_two_evaluations_two_cohorts(tmp_path: Path, order: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
    nodes = Nodes(tmp_path)
    first = evaluation(nodes, "first", order[0])
    assert first.done is not None
    for node in nodes.values():
        node.restart()
    second = evaluation(nodes, "second, with a comment in its code", order[1])
    assert second.done is None
    assert not second.closed
    assert second.refusals() == set(order[0]) & set(order[1])
    again = evaluation(nodes, "third", order[0])
    assert again.done is not None, "the same cohort tells nothing new"
    assert again.seen[1] == first.seen[1]


def test_without_the_rule_two_evaluations_differ_by_a_member() -> None:
    whole, less = evaluation(None, "first", ALL), evaluation(None, "second", FOUR)
    assert difference(whole.seen[1][1], less.seen[1][1]) == own("m5")


def test_data_that_have_grown_are_other_data(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path)
    assert evaluation(nodes, "first", ALL).done is not None
    for node in nodes.values():
        node.data = digest(f"{node.path} has grown")
    assert evaluation(nodes, "second", FOUR).done is not None


def test_an_update_is_a_figure_too(tmp_path: Path) -> None:
    """Two jobs train one model on two cohorts, and declare no metric: the difference would be a member's update."""
    nodes = Nodes(tmp_path)

    def trained(job: str, cohort: tuple[str, ...]) -> Clinic:
        world = Clinic(nodes, job, metrics=(), rounds=1, final_evaluation=False)
        return world.begin(cohort).run()  # type: ignore[return-value]

    assert trained("first", ALL).done is not None
    second = trained("second", FOUR)
    assert second.refusals() == set(FOUR)
    assert not second.closed


# ----------------------------------------------------------------------------------------------------------- nested statistics


SIX = {**ROWS, "m6": 64}
NESTED = [tuple(SIX), tuple(SIX)[:5], tuple(SIX)[:4]]


def test_nested_statistics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ROWS, "m6", 64)
    monkeypatch.setitem(RIGHT, "m6", 60)
    first, *nested = [
        evaluation(nodes, f"statistics {number}", cohort, n=6, weights=[1] * 6)
        for nodes in [Nodes(tmp_path, SIX)]
        for number, cohort in enumerate(NESTED)
    ]
    assert first.done is not None
    assert [world.closed for world in nested] == [[], []]
    assert [world.refusals() for world in nested] == [set(cohort) for cohort in NESTED[1:]]


def test_without_the_rule_nested_statistics_tell_each_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ROWS, "m6", 64)
    monkeypatch.setitem(RIGHT, "m6", 60)
    sums = [
        evaluation(None, f"statistics {number}", cohort, n=6, weights=[1] * 6).seen[1][1]
        for number, cohort in enumerate(NESTED)
    ]
    assert [difference(*pair) for pair in pairwise(sums)] == [own("m6"), own("m5")]


# ------------------------------------------------------------------------------------------------------------- what it rests on


def test_the_record_is_on_disk_before_the_vote(tmp_path: Path) -> None:
    """Whoever has heard an ACK finds the cohort in the journal of the node that said it, even if it is killed then."""
    nodes = Nodes(tmp_path)
    world = Clinic(nodes, "job", rounds=0, final_evaluation=True)
    found: list[bool] = []

    def heard(name: str, message: Any) -> Any:
        if isinstance(message, Ack):
            with Journal(nodes[name].path, read_only=True) as journal:
                entries = [entry for job, entry in journal.figures() if job == world.terms.job]
            found.append(bool(entries) and not entries[0].opened and entries[0].cohort == ALL)
        return message

    world.tamper = heard
    world.begin().run()
    assert world.done is not None
    assert found == [True] * 5
    assert all(entry.opened for node in nodes.values() for _, entry in node.journal.figures())


def test_an_aborted_attempt_let_nothing_out(tmp_path: Path) -> None:
    """All acknowledged five; it was aborted, and four are summed; a later job may evaluate over the four, and no other."""
    nodes = Nodes(tmp_path)
    world = Clinic(nodes, "job", model=lambda _round: "the snapshot", rounds=0, final_evaluation=True)
    acks: list[str] = []

    def lost(name: str, message: Any) -> Any:
        if isinstance(message, Ack) and len(world.phases) and not world.closed and len(acks) < 5:
            acks.append(name)
            if len(acks) == 5:
                world.queue.clear()
            return None
        return message

    world.tamper = lost
    world.begin().run(until=lambda world: len(acks) == 5)
    world.lose("m5")
    world.run()
    assert world.done is not None
    (closed,) = world.closed
    assert closed.attempt > 0
    assert closed.certificate.survivors.cohort == (1, 2, 3, 4)
    entries = [entry for name in FOUR for _, entry in nodes[name].journal.figures()]
    assert {entry.cohort for entry in entries} == {FOUR}
    assert evaluation(nodes, "second", FOUR).done is not None
    assert evaluation(nodes, "third", ALL).done is None


EXACT = {False: (*METRICS, "update"), True: METRICS}


def check_of(rule: Disclosure, attempt: Attempt) -> str:
    with pytest.raises(ProtocolViolation) as refused:
        rule.enter(attempt, ALL, opened=False)
    return refused.value.check


def test_a_lab_that_cannot_tell_lets_nothing_out() -> None:
    rule = Disclosure(FigureBook(), digest("job"), EXACT, 1)
    attempt = Attempt(1, 1, 0, digest("state"))
    rule.data = (digest("data"),)
    assert check_of(rule, attempt) == "behind"
    rule.hold(digest("state"), digest("weights"))
    rule.data = None
    assert check_of(rule, attempt) == "figure-cohort"
    rule.data = (digest("data"),)
    assert rule.enter(attempt, ALL, opened=False)
    noised = Disclosure(FigureBook(), digest("job"), {False: (), True: ()}, 1)
    assert noised.enter(attempt, ALL, opened=False) == [], "what carries noise is for the accountant"


def test_a_member_that_is_behind_acknowledges_nothing(tmp_path: Path) -> None:
    """It takes no part in the quorum for a model that it cannot look up in its journal."""
    world = Clinic(Nodes(tmp_path), "job", final_evaluation=False)
    world.forge = lambda name, message: None if name == "m5" and isinstance(message, Close | CatchUp) else message
    world.begin().run()
    assert world.done is not None
    assert world.closed[1].certificate.survivors.cohort == (1, 2, 3, 4)
    assert "behind" in world.labs["m5"].refused
    acked = [each for each in world.labs["m5"].sent if isinstance(each, Ack)]
    assert len(acked) == 1


def rule_of(book: FigureBook, job: str, *, holds: bool = True) -> Disclosure:
    rule = Disclosure(book, digest(job), EXACT, 0, (digest("data"),))
    if holds:
        rule.hold(digest("state"), digest("the snapshot"))
    return rule


def agrees(rule: Disclosure, cohort: tuple[str, ...]) -> bool:
    try:
        rule.enter(Attempt(1, 1, 0, digest("state")), cohort, opened=False)
    except ProtocolViolation:
        return False
    return True


def copy_of(book: FigureBook) -> FigureBook:
    entries = book.at(digest("the snapshot"), digest("data"))
    return FigureBook.of((job, entry) for (job, *_), entry in entries.items())


def most_votes_for_a_second_cohort(n: int, behind: int) -> int:
    """One roster, two jobs, one snapshot: each cohort and each smallest set of honest members that acknowledges it in the first
    job, f liars beside them; then each other cohort in the second. ``behind``: how many of the first set could not look it up, and
    acknowledged all the same."""
    quorums, names = Quorums.of(n), tuple(f"m{place}" for place in range(1, n + 1))
    honest = names[: n - quorums.f]
    cohorts = [cohort for size in range(quorums.m, n + 1) for cohort in combinations(names, size)]
    most = 0
    for first in cohorts:
        for signers in combinations(honest, quorums.q - quorums.f):
            books = {name: FigureBook() for name in honest}
            for name in signers[behind:]:
                assert agrees(rule_of(books[name], "first"), first)
                assert agrees(rule_of(books[name], "again"), first), "the same cohort tells nothing new"
            for second in cohorts:
                if second != first:
                    votes = [name for name in honest if agrees(rule_of(copy_of(books[name]), "second"), second)]
                    most = max(most, len(votes) + quorums.f)
    return most


@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_two_cohorts_of_one_model_are_never_both_certified_in_one_roster(n: int) -> None:
    assert most_votes_for_a_second_cohort(n, 0) < Quorums.of(n).q


def test_they_would_be_where_whoever_is_behind_acknowledges() -> None:
    assert not agrees(rule_of(FigureBook(), "first", holds=False), ALL)
    assert most_votes_for_a_second_cohort(6, 2) >= Quorums.of(6).q


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("kind", ["Upload", "Ack", "Reveal", "Receipt"])
def test_models_that_move_on_are_held_up_by_nothing(tmp_path: Path, kind: str, before: bool) -> None:
    """A member is lost at any step and is back in the next round: the same cohorts are summed as without the rule."""

    def cohorts(nodes: Nodes | None) -> list[tuple[int, ...]]:
        world = Clinic(nodes, "job", rounds=3)
        (world.kill_before if before else world.kill_after).add(("m2", kind))
        world.begin().run(until=lambda world: not world.labs["m2"].alive)
        world.run(until=lambda world: len(world.closed) == 1)
        world.restart("m2")
        world.run()
        assert world.done is not None, world.stuck
        assert not world.refusals()
        return [closed.certificate.survivors.cohort for closed in world.closed]

    assert cohorts(Nodes(tmp_path)) == cohorts(None)
