"""What changes when one policy takes another's place, by what each word lets pass and not by its text.

``["KE", "FR"]`` and ``["FR", "KE"]`` are the same, 1Gi is 1024Mi, a word that lets everything pass is no word at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from federation.policy.pack import Pack
from federation.policy.schema import ALWAYS, AskRule, StudyRule
from federation.policy.vocabulary import WORDS, Word
from federation.secagg.parameters import MIN_MEMBERS, TRAINING_JOB

Direction = Literal["narrower", "wider", "both", "same"]
LETS_ALL_PASS: Final[Mapping[str, Any]] = {
    "minimumJurisdictions": 1,
    "askAlways": False,
    "askAbove": AskRule.model_validate({}),
    "mustInclude": [],
    "neverTags": [],
    "coordinatorView": ["blind", "sum"],
    "errorDetail": ["location", "none"],
    "dataVersions": ["exact", "minor"],
    "hardware": ["cpu", "gpu"],
    "sandbox": "optional",
    "hours": ALWAYS,
    "maxGpus": 64,
    "minimumCohort": MIN_MEMBERS,
    "study": StudyRule.model_validate({}),
}
"""values of limits that say as much as nothing"""
NOTHING_GRANTED: Final = "Nothing is said of it, and what the file does not allow it denies."
NOTHING_LIMITED: Final = "Nothing is said of it."


@dataclass(frozen=True, slots=True)
class Change:
    rule: str
    direction: Literal["narrower", "wider", "both"]
    """both: some of what passed does not pass any more, and the other way round"""
    was: str
    now: str


def compare(old: Pack, new: Pack) -> tuple[Change, ...]:
    """In the vocabulary's order; empty: the two let the same pass."""
    changes = []
    for word in WORDS:
        own = "own" in (old.layer, new.layer)
        was, now = _value(word, old, own), _value(word, new, own)
        narrower, wider = _within(word, now, was, own), _within(word, was, now, own)
        if narrower and wider:
            continue
        direction: Literal["narrower", "wider", "both"] = "narrower" if narrower else "wider" if wider else "both"
        changes.append(Change(word.rule, direction, _told(word, was, own), _told(word, now, own)))
    return tuple(changes)


def direction_of(changes: tuple[Change, ...]) -> Direction:
    """Of the whole: narrower only where no word is wider."""
    directions = {change.direction for change in changes}
    if not directions:
        return "same"
    return next(iter(directions)) if len(directions) == 1 else "both"


def _value(word: Word, pack: Pack, own: bool) -> Any:
    value = pack.values.get(word.name)
    if value is None and own and word.name == "jobKinds":
        return [TRAINING_JOB]
    if value is None and not (own and word.grants):
        return LETS_ALL_PASS.get(word.name)
    return value


def _within(word: Word, narrow: Any, wide: Any, own: bool) -> bool:
    """Whatever passes ``narrow`` passes ``wide``; None: the word is not there."""
    if narrow is None or wide is None:
        absent_passes_nothing = own and word.grants
        if narrow is None and wide is None:
            return True
        return (narrow is None) == absent_passes_nothing
    return word.within(narrow, wide)


def _told(word: Word, value: Any, own: bool) -> str:
    if value is None:
        return NOTHING_GRANTED if own and word.grants else NOTHING_LIMITED
    return word.meaning(value)
