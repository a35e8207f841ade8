"""What a change of rules makes narrower or wider: by what passes, never by the text; and what it says holds for jobs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.policy.comparison import compare, direction_of
from federation.policy.rules import evaluate
from tests.unit.policy.asked import WIDE, pack, policy
from tests.unit.policy.test_packs import ASKED, LIMITS, RANK, RULES


def said(old: dict[str, Any], new: dict[str, Any], **top: Any) -> list[tuple[str, str]]:
    changes = compare(policy({**WIDE, **old}).own, policy({**WIDE, **new}, **top).own)
    return [(change.rule, change.direction) for change in changes]


@pytest.mark.parametrize(
    ("old", "new", "direction"),
    [
        ({}, {"maxRounds": 5}, "narrower"),
        ({"maxRounds": 5}, {}, "wider"),
        ({"maxRounds": 5}, {"maxRounds": 6}, "wider"),
        ({"minimumCohort": 3}, {"minimumCohort": 4}, "narrower"),
        ({"leads": ["lead"]}, {"leads": ["eve", "lead"]}, "wider"),
        ({"leads": ["lead"]}, {"leads": ["eve"]}, "both"),
        ({"neverTags": ["a"]}, {"neverTags": ["b", "a"]}, "narrower"),
        ({"purposeCodes": ["sdg:3"]}, {"purposeCodes": ["sdg:3.4"]}, "narrower"),
        ({"purposeCodes": ["sdg:3"]}, {"purposeCodes": ["sdg:3", "sdg:3.4"]}, "same"),
        ({"maxBytesPerDay": "1Gi"}, {"maxBytesPerDay": "1024Mi"}, "same"),
        ({"jurisdictions": ["KE", "FR"]}, {"jurisdictions": ["FR", "KE"]}, "same"),
        ({}, {"minimumJurisdictions": 1}, "same"),
        ({}, {"coordinatorView": ["sum", "blind"]}, "same"),
        ({}, {"askAlways": False}, "same"),
        ({}, {"askAlways": True}, "narrower"),
        ({}, {"jobKinds": ["TrainingJob"]}, "same"),
        ({}, {"jobKinds": ["TrainingJob", "EvaluationJob"]}, "wider"),
        ({}, {"statistics": {"allowed": ["mean"], "floor": 10}}, "wider"),
        ({}, {"study": {"maxRuns": 3}}, "wider"),
        ({"study": {}}, {"study": {"maxRuns": 3}}, "narrower"),
        ({"askAbove": {"rounds": 5}}, {"askAbove": {"rounds": 4, "gpuHours": 1}}, "narrower"),
        ({"figures": ["loss"]}, {"figures": ["train/loss"]}, "narrower"),
        ({"figures": ["hits/*"]}, {"figures": ["hits/0", "evaluate/hits/1"]}, "narrower"),
        ({"privacy": {"unit": "member"}}, {"privacy": {"unit": "member", "maxEpsilon": 1}}, "narrower"),
        ({"privacy": {"unit": "member"}}, {"privacy": {"unit": "member", "required": False}}, "wider"),
        ({"privacy": {"unit": "member"}}, {"privacy": {"unit": "record"}}, "both"),
        (
            {"recipients": [{"name": "Ana", "key": "aa" * 32}]},
            {"recipients": [{"name": "Anna", "key": "aa" * 32}]},
            "same",
        ),
    ],
    ids=str,
)
def test_a_change_is_told_by_what_passes(old: dict[str, Any], new: dict[str, Any], direction: str) -> None:
    changes = compare(policy({**WIDE, **old}).own, policy({**WIDE, **new}).own)
    assert direction_of(changes) == direction
    assert len(changes) <= 1
    for change in changes:
        assert change.was != change.now
        assert change.was.endswith(".")


def test_hours_are_compared_by_the_minute() -> None:
    assert said({}, {}, hours="20:00-06:00") == [("hours", "narrower")]
    old, new = policy(WIDE, hours="20:00-06:00").own, policy(WIDE, hours="22:00-05:00").own
    assert direction_of(compare(old, new)) == "narrower"
    assert direction_of(compare(old, policy(WIDE, hours="19:00-05:00").own)) == "both"


def test_what_a_pack_does_not_speak_of_it_lets_pass_and_the_lab_s_own_file_does_not() -> None:
    without = {name: rule for name, rule in WIDE.items() if name != "leads"}
    assert direction_of(compare(policy(without).own, policy(WIDE).own)) == "wider"
    assert direction_of(compare(pack({}), pack({"leads": ["lead"]}))) == "narrower"
    assert direction_of(compare(pack({}), pack({"minimumCohort": 3, "study": {}}))) == "same"


@settings(deadline=None, max_examples=60)
@given(RULES, RULES, st.sampled_from(sorted(set(LIMITS) - {"deputies"})), st.data())
def test_what_is_called_narrower_grants_nothing_new_and_what_is_called_the_same_is(
    old: Any, new: Any, name: str, data: Any
) -> None:
    new = data.draw(st.sampled_from([new, {**old, name: data.draw(LIMITS[name])}]))  # near ones are often comparable
    was, now = policy({**WIDE, **old}), policy({**WIDE, **new})
    direction = direction_of(compare(was.own, now.own))
    for asked in ASKED:
        before, after = RANK[evaluate(was, asked).outcome], RANK[evaluate(now, asked).outcome]
        assert direction in {"wider", "both"} or after <= before
        assert direction in {"narrower", "both"} or after >= before
