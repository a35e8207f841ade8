"""The level of a halt: order of arrival does not matter, it falls by its own lift alone, and a stopped job stays stopped."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.errors import InvalidUsage
from federation.halt import book as book_room
from federation.halt.book import HaltBook, Part
from federation.halt.levels import Level, Step, permits
from federation.halt.order import SignedLift, SignedOrder
from tests.unit.halt.given import JOB, LEAD, MEMBERS, OTHER, Officers, member, node

OFFICERS = Officers()
LEVELS = (Level.hold, Level.drain, Level.stop)


def many() -> list[SignedOrder]:
    """Every kind of order, at every level."""
    made = []
    for level in LEVELS:
        made += [
            OFFICERS.order(level, member("ch")),
            OFFICERS.order(level, member("fr"), scope="member", member="fr"),
            OFFICERS.order(level, LEAD, scope="job", job=JOB),
            OFFICERS.order(level, member("ke"), scope="job", job=OTHER),
            OFFICERS.order(level, member("ke"), scope="job", job=JOB, member="ke"),
            OFFICERS.order(level, node("ch"), scope="member", member="ch"),
            OFFICERS.order(level, member("ch"), drill=True),
        ]
    return made


ORDERS = many()
LIFTS = [OFFICERS.lift(order) for order in ORDERS]
PARTS = [Part(job, name, f"{name}-1", lead) for job in (JOB, OTHER) for name in MEMBERS for lead in ("lead", "other")]
Item = SignedOrder | SignedLift


def reaches(signed: SignedOrder, part: Part) -> bool:
    """Written anew, plainly."""
    order = signed.order
    if order.drill:
        return False
    return (
        {
            "federation": True,
            "member": order.member == part.member,
            "job": order.job == part.job and (not order.member or order.member == part.member),
        }[order.scope]
        and (order.by.kind != "lead" or part.lead == "lead")
        and (order.by.kind != "node" or (order.by.id, order.by.node) == (part.member, part.node))
    )


def plainly(items: Sequence[Item], part: Part) -> Level:
    lifted = {item.lifted.digest for item in items if isinstance(item, SignedLift)}
    orders = [item for item in items if isinstance(item, SignedOrder)]
    levels = [order.order.level for order in orders if order.digest not in lifted and reaches(order, part)]
    return max(levels, default=Level.none)


def kept(items: Sequence[Item]) -> HaltBook:
    book = HaltBook()
    for item in items:
        if isinstance(item, SignedOrder):
            book.take(item)
        else:
            book.lift(item)
    return book


items = st.lists(st.sampled_from([*ORDERS, *LIFTS]), max_size=12)


@given(items, st.sampled_from(PARTS))
def test_the_level_is_that_of_the_orders_that_nobody_lifted(said: list[Item], part: Part) -> None:
    assert kept(said).level(part) == plainly(said, part)


@given(items, st.randoms(use_true_random=False), st.integers(1, 3))
def test_order_of_arrival_and_repetition_do_not_matter(said: list[Item], dice, times: int) -> None:  # type: ignore[no-untyped-def]
    again = said * times
    dice.shuffle(again)
    first, second = kept(said), kept(again)
    assert [first.level(part) for part in PARTS] == [second.level(part) for part in PARTS]


@given(items, st.sampled_from([*ORDERS, *LIFTS]))
def test_the_level_never_falls_without_the_lift_of_exactly_that_order(said: list[Item], more: Item) -> None:
    before, after = kept(said), kept([*said, more])
    for part in PARTS:
        if after.level(part) < before.level(part):
            assert isinstance(more, SignedLift)
            assert more.lifted.digest in {signed.digest for signed in before.halting(part)}


@given(items, items, st.sampled_from([JOB, OTHER]))
def test_a_job_that_a_stop_has_reached_is_never_resumed(said: list[Item], later: list[Item], job: bytes) -> None:
    book = kept(said)
    reached = [part for part in PARTS if part.job == job and book.level(part) is Level.stop]
    for part in reached:
        book.end(part.job, part.member)
    for item in [*later, *(OFFICERS.lift(order) for order in book.orders())]:
        book.take(item) if isinstance(item, SignedOrder) else book.lift(item)
    assert all(book.level(part) is Level.stop for part in reached)


def test_without_the_note_a_lifted_stop_of_the_federation_would_let_a_job_go_on() -> None:
    """What the property above holds against: the same without ``end``."""
    stop = OFFICERS.order(Level.stop, member("ch"))
    book = kept([stop, OFFICERS.lift(stop)])
    assert book.level(Part(JOB, "fr")) is Level.none
    book.end(JOB)
    assert book.level(Part(JOB, "fr")) is Level.stop
    assert book.level(Part(OTHER, "fr")) is Level.none


def test_a_replayed_order_halts_nothing_after_its_lift_and_a_new_one_does() -> None:
    hold = OFFICERS.order(Level.hold, member("ch"))
    book = kept([hold, OFFICERS.lift(hold), hold])
    assert book.level(Part(JOB, "fr")) is Level.none
    book.take(OFFICERS.order(Level.hold, member("ch")))
    assert book.level(Part(JOB, "fr")) is Level.hold


def test_orders_that_were_kept_back_and_forks_show_and_both_of_a_fork_count() -> None:
    fresh = Officers(OFFICERS.parties, OFFICERS.node_keys)
    first, _second, third = (fresh.order(Level.hold, member("ch")) for _ in range(3))
    twin = fresh.order(Level.drain, member("ch"), number=3)
    book = kept([first, third, twin])
    assert book.missing(member("ch")) == (2,)
    assert {signed.digest for pair in book.forked() for signed in pair} == {third.digest, twin.digest}
    assert book.next_number(member("ch")) == 4
    assert book.level(Part(JOB, "fr")) is Level.drain
    book.lift(fresh.lift(twin))
    assert book.level(Part(JOB, "fr")) is Level.hold


def test_one_signer_cannot_fill_the_book_and_does_not_keep_others_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book_room, "MAX_ORDERS", 2)
    book = kept([OFFICERS.order(Level.hold, member("ch")) for _ in range(2)])
    with pytest.raises(InvalidUsage, match="given 2 orders"):
        book.take(OFFICERS.order(Level.hold, member("ch")))
    assert book.take(OFFICERS.order(Level.stop, member("fr")))
    assert book.level(Part(JOB, "ke")) is Level.stop


def test_each_level_forbids_all_that_the_one_before_forbids() -> None:
    for step in Step:
        allowed = [permits(level, step) for level in Level]
        assert allowed == sorted(allowed, reverse=True)
        assert (allowed[0], allowed[-1]) == (True, False)
