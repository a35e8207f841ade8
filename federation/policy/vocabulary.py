"""The closed vocabulary: each word with what it is compared with, who keeps it, what it objects to, and how two values compare.

``checked``: the node compares with what it holds itself, or what binds the job. ``declared``: it compares with what the lead
states, and cannot see whether that is true; the lead's signature stands under it. ``people``: the lab's people keep it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from federation.manifest.goals import CODES, covers
from federation.manifest.schema import bytes_of
from federation.policy import checks
from federation.policy.checks import Check, Objection, Objections, at_least, at_most, listed
from federation.policy.question import Question
from federation.policy.schema import PrivacyRule, RecipientRule
from federation.policy.sentences import SENTENCES
from federation.secagg.parameters import STATISTICS_JOB, TRAINING_JOB

Kept = Literal["checked", "declared", "people"]
Within = Callable[[Any, Any], bool]
"""(a, b): whatever passes a passes b"""


@dataclass(frozen=True, slots=True)
class Word:
    name: str
    """as in the file"""
    kept: Kept
    against: str
    """what it is compared with"""
    check: Check
    within: Within
    since: int = 1
    """the vocabulary that it came with"""
    needed: Callable[[Mapping[str, Any], Question], bool] | None = None
    """A grant: where the lab's own file does not say it and this holds, the job is denied. Else a limit."""
    at_top: bool = False
    """stands beside rules, not in them"""

    @property
    def rule(self) -> str:
        return self.name if self.at_top else f"rules.{self.name}"

    @property
    def grants(self) -> bool:
        return self.needed is not None

    def meaning(self, value: Any) -> str:
        """One sentence for people who read no code."""
        return SENTENCES[self.name](value)


def _subset(narrow: Iterable[str], wide: Iterable[str]) -> bool:
    return set(narrow) <= set(wide)


def _superset(narrow: Iterable[str], wide: Iterable[str]) -> bool:
    return set(narrow) >= set(wide)


def _lower(narrow: float, wide: float) -> bool:
    return narrow <= wide


def _higher(narrow: float, wide: float) -> bool:
    return narrow >= wide


def _earlier(narrow: str, wide: str) -> bool:
    return narrow <= wide


def _smaller(narrow: str, wide: str) -> bool:
    return bytes_of(narrow) <= bytes_of(wide)


def _figures(narrow: list[str], wide: list[str]) -> bool:
    def kinds(figure: str) -> tuple[str, ...]:
        return (figure,) if figure.startswith(("train/", "evaluate/")) else (f"train/{figure}", f"evaluate/{figure}")

    return all(checks.declared(each, wide) for figure in narrow for each in kinds(figure))


def _codes(narrow: list[str], wide: list[str]) -> bool:
    def all_of(allowed: list[str]) -> set[str]:
        return {code for code in CODES if any(covers(each, code) for each in allowed)}

    return all_of(narrow) <= all_of(wide)


def _keys(narrow: list[RecipientRule], wide: list[RecipientRule]) -> bool:
    return {each.key for each in narrow} <= {each.key for each in wide}


def _minutes(narrow: str, wide: str) -> bool:
    day = [f"{minute // 60:02}:{minute % 60:02}" for minute in range(24 * 60)]
    return all(checks.within_hours(wide, now) for now in day if checks.within_hours(narrow, now))


def _bounds(narrow: Any, wide: Any) -> bool:
    """Parts that are upper bounds, where absent is none."""
    for name in type(narrow).model_fields:
        mine, theirs = getattr(narrow, name), getattr(wide, name)
        if isinstance(theirs, str):
            mine, theirs = bytes_of(mine) if mine is not None else None, bytes_of(theirs)
        if theirs is not None and (mine is None or mine > theirs):
            return False
    return True


def _statistics(narrow: Any, wide: Any) -> bool:
    return set(narrow.allowed) <= set(wide.allowed) and narrow.floor >= wide.floor


def _privacy(narrow: PrivacyRule, wide: PrivacyRule) -> bool:
    if wide.required and not narrow.required:
        return False
    bounds = wide.max_epsilon is None or (narrow.max_epsilon is not None and narrow.max_epsilon <= wide.max_epsilon)
    return (
        narrow.unit == wide.unit
        and bounds
        and narrow.max_delta <= wide.max_delta
        and set(narrow.mechanisms) <= set(wide.mechanisms)
    )


def _flag(narrow: bool, wide: bool) -> bool:
    return narrow or not wide


def _sandbox(narrow: str, wide: str) -> bool:
    return narrow == "required" or wide == "optional"


def _always(_said: Mapping[str, Any], _question: Question) -> bool:
    return True


def _job_kinds(allowed: list[str], question: Question) -> Objections:
    if question.study is None and (kind := question.manifest.job.kind) not in allowed:
        yield Objection(f"a {kind} is not allowed")


def _strategies(allowed: list[str], question: Question) -> Objections:
    if (name := question.manifest.spec.strategy.name) not in allowed:
        yield Objection(f"{name} is not allowed")


def _max_rounds(most: int, question: Question) -> Objections:
    if (rounds := question.manifest.spec.rounds) > most:
        yield Objection(f"the job has {rounds} rounds, this lab allows {most}")


def _max_gpus(most: int, question: Question) -> Objections:
    if (gpus := question.manifest.spec.resources.gpus) > most:
        yield Objection(f"the job asks for {gpus} GPUs, this lab lends {most}")


def _retention(question: Question) -> float | None:
    return question.manifest.spec.retention_days


def _notice(question: Question) -> float:
    return question.manifest.spec.deadlines.consent_seconds / 3600


def _one(value: Callable[[Question], str | None]) -> Callable[[Question], Iterator[str]]:
    def values(question: Question) -> Iterator[str]:
        if (found := value(question)) is not None:
            yield found

    return values


def _most(name: str, what: str, value: Callable[[Question], float | None], field: str) -> Word:
    return Word(name, "declared", f"the job's {field}", at_most(what, value, field), _lower)


_ROSTER: Final = "the members that the roll has and the job's spec.participants may bring in"
_CATALOGUE: Final = "this node's own data sets"

WORDS: Final[tuple[Word, ...]] = (
    Word("leads", "checked", "who signed the job", listed("lead", checks.lead_of), _subset, needed=_always),
    Word(
        "jurisdictions", "checked", f"the lead's member, and {_ROSTER}", listed("jurisdiction", checks.jurisdictions_of),
        _subset, needed=_always,
    ),
    Word("dataSets", "checked", "the data sets that the job would use here", checks.data_sets, _subset, needed=_always),
    Word(
        "minimumCohort", "checked", "the job's spec.participants.minMembers, and each roster",
        at_least(
            "the job may run with {offered} members, this lab asks for at least {least}",
            lambda question: question.manifest.spec.participants.min_members,
        ),
        _higher, needed=_always,
    ),
    Word(
        "jobKinds", "checked", "the job's kind", _job_kinds, _subset,
        needed=lambda _said, question: question.study is None and question.manifest.job.kind != TRAINING_JOB,
    ),
    Word("figures", "checked", "the job's spec.metrics, which this node's sums are made of", checks.figures, _figures),
    Word(
        "minimumJurisdictions", "checked", "the job's spec.participants.minJurisdictions, and each roster",
        at_least(
            "the job may run with {offered}, this lab asks for at least {least}",
            lambda question: question.manifest.spec.participants.min_jurisdictions,
        ),
        _higher,
    ),
    Word("otherMembers", "checked", _ROSTER, listed("member", checks.others_of), _subset),
    Word("mustInclude", "checked", "the job's spec.participants, and so each roster", checks.must_include, _superset),
    Word(
        "purposes", "declared", "the job's spec.purposes",
        listed("purpose", checks.purposes_of, "the job names no purpose (spec.purposes)"), _subset,
    ),
    Word("purposeCodes", "declared", "the job's spec.purposeCodes", checks.purpose_codes, _codes),
    Word(
        "legalBasis", "declared", f"the job's spec.legalBasis, and what {_CATALOGUE} state", checks.legal_basis, _subset
    ),
    Word("dataTags", "checked", f"the tags of {_CATALOGUE}", checks.data_tags, _subset),
    Word("neverTags", "checked", f"the tags of {_CATALOGUE}", checks.never_tags, _superset),
    Word(
        "dataVersions", "checked", "the job's spec.dataSet.versionRule, to which this node holds the data when it trains",
        listed("versionRule", _one(lambda question: question.manifest.spec.data_set.version_rule)), _subset,
    ),
    Word("bundles", "checked", "the digest of the job's code", checks.bundles, _subset),
    Word("codeSigners", "checked", "the signatures over the job's code, spec.codeSignatures", checks.code_signers, _subset),
    Word(
        "runtimeDigests", "checked", "the job's spec.runtime.digest, and this node's own", checks.runtime_digests, _subset
    ),
    Word(
        "coordinatorView", "checked", "the job's spec.coordinatorView, by which this node masks",
        listed("coordinatorView", _one(lambda question: question.manifest.spec.coordinator_view)), _subset,
    ),
    Word(
        "recipients", "checked", "the sealing keys of the job's spec.release.recipients, for which members seal",
        checks.recipients, _keys,
    ),
    Word(
        "audience", "declared", "the job's spec.release.audience",
        listed(
            "audience", _one(lambda question: question.manifest.spec.release.audience),
            "the job does not say for whom its release is (spec.release.audience)",
        ),
        _subset,
    ),
    Word(
        "licences", "declared", "the job's spec.release.licence",
        listed(
            "licence", _one(lambda question: question.manifest.spec.release.licence),
            "the job names no licence for its release (spec.release.licence)",
        ),
        _subset,
    ),
    Word(
        "errorDetail", "checked", "the job's spec.errorDetail, by which this node reports",
        listed("errorDetail", _one(lambda question: question.manifest.spec.error_detail)), _subset,
    ),
    Word("strategies", "checked", "the job's spec.strategy, which this node computes", _strategies, _subset),
    Word("maxRounds", "checked", "the job's spec.rounds", _max_rounds, _lower),
    Word("privacy", "checked", "the job's spec.privacy, counted by this node", checks.privacy, _privacy),
    Word("hardware", "checked", "the job's spec.resources", checks.hardware, _subset),
    Word("maxGpus", "checked", "the job's spec.resources.gpus", _max_gpus, _lower),
    _most("maxGpuHours", "GPU hours of this member", checks.gpu_hours_of, "spec.compute.gpuHours"),
    _most("maxModelParameters", "model parameters", checks.stated("model_parameters"), "spec.compute.modelParameters"),
    _most(
        "maxTrainingExaflop", "times 10^18 training operations", checks.stated("training_exaflop"),
        "spec.compute.trainingExaflop",
    ),
    _most("maxEnergyKwh", "kWh of electricity", checks.stated("energy_kwh"), "spec.compute.energyKwh"),
    Word("maxBytesPerDay", "declared", "the job's spec.compute.bytesPerDay", checks.max_bytes, _smaller),
    _most("maxRetentionDays", "days until its lead deletes what it produced", _retention, "spec.retentionDays"),
    Word(
        "noticeHours", "checked", "the job's spec.deadlines.consentSeconds",
        at_least("the job gives its members {offered} hours to answer, this lab asks for at least {least}", _notice), _higher,
    ),
    Word(
        "statistics", "checked", "what a StatisticsJob asks for, which this version does not run", checks.statistics, _statistics,
        needed=lambda said, question: "jobKinds" in said and question.manifest.job.kind == STATISTICS_JOB,
    ),
    Word(
        "study", "checked", "the bounds that a Study states, and this node counts", checks.study, _bounds,
        needed=lambda _said, question: question.study is not None,
    ),
    Word("expires", "checked", "this node's clock, local", checks.expires, _earlier),
    Word("askAbove", "declared", "the job's spec.compute, spec.rounds and spec.privacy", checks.ask_above, _bounds),
    Word("askAlways", "checked", "nothing: every job", checks.ask_always, _flag),
    Word("deputies", "people", "the name that whoever decides gives", checks.no_objection, _subset),
    Word("sandbox", "checked", "this node's sandbox", checks.sandbox, _sandbox, at_top=True),
    Word(
        "memoryLimit", "checked", "the job's spec.resources.memory, which the sandbox holds", checks.memory, _smaller,
        at_top=True,
    ),
    Word("hours", "checked", "this node's clock, local, when it answers", checks.hours, _minutes, at_top=True),
)  # fmt: skip
BY_NAME: Final[Mapping[str, Word]] = {word.name: word for word in WORDS}
