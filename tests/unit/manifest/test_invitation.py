"""Whom a job lets in on a roll, and minima that nobody can make up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.errors import InvalidManifest
from federation.manifest.document import Participants
from federation.manifest.invitation import check_reachable, invited
from tests.unit.identity.parties import COUNTRIES, found

ROLL = found().roll
IDS = tuple(member.id for member in ROLL.members)
PLACES = tuple(sorted(set(COUNTRIES.values())))


def test_empty_lists_let_everybody_in() -> None:
    assert invited(Participants(), ROLL) == ROLL.members


@given(st.sets(st.sampled_from(IDS)), st.sets(st.sampled_from(PLACES)))
def test_both_lists_must_let_a_member_in_and_naming_more_lets_nobody_out(members: set[str], places: set[str]) -> None:
    people = Participants.model_construct(members=tuple(members), jurisdictions=tuple(places))
    found_ids = {member.id for member in invited(people, ROLL)}
    named = set(members) or set(IDS)
    there = {id for id in IDS if not places or COUNTRIES[id] in places}
    assert found_ids == named & there


def test_a_member_who_is_not_on_the_roll_is_named_with_what_was_meant() -> None:
    wrong = f"{IDS[0]}x"
    people = Participants.model_construct(members=(*IDS, wrong), jurisdictions=())
    with pytest.raises(InvalidManifest, match=f"no member {wrong} on the roll") as caught:
        check_reachable(people, ROLL)
    assert caught.value.field == "spec.participants.members"
    assert caught.value.hint == f"Did you mean {IDS[0]}?"
    people = Participants.model_construct(members=(*IDS, "zzzzzzzz"), jurisdictions=())
    with pytest.raises(InvalidManifest) as caught:
        check_reachable(people, ROLL)
    assert all(id in caught.value.hint for id in IDS)


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"min_members": len(IDS) + 1}, "minMembers", f"needs {len(IDS) + 1} members, and the roll has {len(IDS)}"),
        ({"jurisdictions": PLACES[:1], "min_members": 3}, "minMembers", "the roll has 1"),
        ({"min_jurisdictions": len(PLACES) + 1}, "minJurisdictions", f"needs {len(PLACES) + 1} jurisdictions"),
    ],
)
def test_minima_that_cannot_be_reached(changes: dict[str, object], field: str, words: str) -> None:
    people = Participants.model_construct(**{**Participants().__dict__, **changes})
    with pytest.raises(InvalidManifest, match=words) as caught:
        check_reachable(people, ROLL)
    assert caught.value.field == f"spec.participants.{field}"
    assert caught.value.hint


def test_minima_that_just_can() -> None:
    limits = {"min_members": len(IDS), "min_jurisdictions": len(PLACES)}
    check_reachable(Participants.model_construct(**{**Participants().__dict__, **limits}), ROLL)
