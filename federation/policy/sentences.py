"""Each rule as one sentence of plain English, for people who answer for it and read no YAML: ``concord-node policy explain``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from federation.policy.checks import plain
from federation.policy.schema import ALWAYS, AskRule, PrivacyRule, RecipientRule, StatisticsRule, StudyRule


def _and(items: Iterable[str]) -> str:
    ordered = sorted(items)
    return " and ".join([", ".join(ordered[:-1]), ordered[-1]] if len(ordered) > 1 else ordered)


def _or(items: Iterable[str]) -> str:
    ordered = sorted(items)
    return " or ".join([", ".join(ordered[:-1]), ordered[-1]] if len(ordered) > 1 else ordered)


def _list(some: str, none: str, joined: Callable[[Iterable[str]], str] = _or) -> Callable[[list[str]], str]:
    return lambda items: some.format(joined(items)) if items else none


def _number(text: str) -> Callable[[float], str]:
    return lambda number: text.format(plain(number))


def _privacy(rule: PrivacyRule) -> str:
    whom = {"member": "a whole member's data", "record": "each single record"}[rule.unit]
    begin = "Every job must hide" if rule.required else "A job that has differential privacy must hide"
    spent = f", and spend an epsilon of at most {plain(rule.max_epsilon)}" if rule.max_epsilon is not None else ""
    noise = f"by {_or(rule.mechanisms)} noise" if rule.mechanisms else "by noise of which none is allowed"
    return f"{begin} {whom} {noise}, with a delta of at most {plain(rule.max_delta)}{spent}."


def _recipients(rules: list[RecipientRule]) -> str:
    if not rules:
        return "Nobody may receive sums or the release."
    return f"Sums and the release may go to {_or(each.name for each in rules)} alone, by the keys that the file names."


def _statistics(rule: StatisticsRule) -> str:
    if not rule.allowed:
        return "No statistic may leave."
    return (
        f"Of statistics, these may leave as sums: {_and(rule.allowed)}; nothing over fewer than {rule.floor} records."
    )


def _study(rule: StudyRule) -> str:
    bounds = [
        *([f"{rule.max_runs} runs"] if rule.max_runs is not None else []),
        *([f"{rule.max_rounds} rounds in all"] if rule.max_rounds is not None else []),
        *([f"an epsilon of {plain(rule.max_epsilon)} in all"] if rule.max_epsilon is not None else []),
        *([f"{rule.max_bytes} moved in all"] if rule.max_bytes is not None else []),
        *([f"{rule.max_days} days"] if rule.max_days is not None else []),
    ]
    return (
        f"One consent may cover a study of many runs, of at most {', '.join(bounds)}."
        if bounds
        else ("One consent may cover a study of many runs, without bounds of this lab's own.")
    )


def _ask(rule: AskRule) -> str:
    parts = [
        *(
            [f"{plain(rule.training_exaflop)} times 10^18 training operations"]
            if rule.training_exaflop is not None
            else []
        ),
        *([f"{plain(rule.model_parameters)} model parameters"] if rule.model_parameters is not None else []),
        *([f"{plain(rule.gpu_hours)} GPU hours"] if rule.gpu_hours is not None else []),
        *([f"{plain(rule.energy_kwh)} kWh of electricity"] if rule.energy_kwh is not None else []),
        *([f"{plain(rule.rounds)} rounds"] if rule.rounds is not None else []),
        *([f"an epsilon of {plain(rule.epsilon)}"] if rule.epsilon is not None else []),
    ]
    if not parts:
        return "No threshold is named above which a person decides."
    return f"A person decides on a job above {_or(parts)}, and on one that does not say."


def _hours(range_: str) -> str:
    if range_ == ALWAYS:
        return "Consent is given at any time of day."
    begin, end = range_.split("-")
    return f"Consent is given from {begin} to {end} only, by the node's local time."


SENTENCES: Final[Mapping[str, Callable[[Any], str]]] = {
    "leads": _list("Only these research leads' jobs may run: {}.", "No research lead's job may run.", _and),
    "jurisdictions": _list(
        "The lead's member and every other member of a job must come from {}.",
        "Members may come from nowhere: no job runs.",
    ),
    "dataSets": _list("Jobs may use these data sets, and no other: {}.", "Jobs may use no data set.", _and),
    "minimumCohort": _number("A job must not run with fewer than {} members."),
    "jobKinds": _list("Only these kinds of job may run: {}.", "No kind of job may run.", _and),
    "figures": _list(
        "These figures may leave as exact sums over the members: {}.", "No figure may leave as an exact sum.", _and
    ),
    "minimumJurisdictions": _number("The members of a job must come from at least {} jurisdictions."),
    "otherMembers": _list("The other members of a job may be {} only.", "A job may have no other member: none runs."),
    "mustInclude": _list("A job must not run without {}.", "A job needs no member in particular.", _and),
    "purposes": _list("A job's purposes must be among these: {}.", "A job may have no purpose: none runs.", _and),
    "purposeCodes": _list(
        "A job must serve goals or targets of the United Nations among these, and no other: {}.",
        "No goal is allowed.",
        _and,
    ),
    "legalBasis": _list(
        "Data may be used on these legal bases only, which the lead states: {}.", "No legal basis is good enough.", _and
    ),
    "dataTags": _list("A data set that a job uses must be tagged {}.", "No data set's tags are good enough."),
    "neverTags": _list("A data set that is tagged {} is never used.", "No tag forbids a data set."),
    "dataVersions": lambda rules: {
        frozenset(): "No rule about changing data is good enough: no job runs.",
        frozenset({"exact"}): "The data must not change between this node's consent and its training.",
        frozenset({"minor"}): "Only jobs may run that allow data to grow between consent and training.",
        frozenset({"exact", "minor"}): "Data may grow between consent and training, if the job allows it.",
    }[frozenset(rules)],
    "bundles": _list("Only code with one of these digests may run: {}.", "No code may run."),
    "codeSigners": _list("Code runs only if one of these keys has signed it: {}.", "No code signer is accepted."),
    "runtimeDigests": _list(
        "A job must name one of these runtimes, and this node must have it: {}.", "No runtime is accepted."
    ),
    "coordinatorView": lambda views: {
        frozenset(): "Nothing that the coordinator might see is allowed: no job runs.",
        frozenset({"blind"}): "The coordinator must see neither sums nor the model.",
        frozenset({"sum"}): "Only jobs whose sums the coordinator sees may run.",
        frozenset({"blind", "sum"}): "The coordinator may see the sum of each round, and so the model.",
    }[frozenset(views)],
    "recipients": _recipients,
    "audience": _list("A release may be meant for {} only.", "A release may be meant for nobody."),
    "licences": _list("A release must carry one of these licences: {}.", "No licence is accepted."),
    "errorDetail": lambda details: {
        frozenset(): "No job's wish to hear of failed tasks is allowed: none runs.",
        frozenset({"none"}): "Of a failed task the lead must learn nothing but that it failed.",
        frozenset({"location"}): "Only jobs may run whose lead learns where a task failed.",
        frozenset(
            {"location", "none"}
        ): "Of a failed task the lead may learn the kind of error, the file and the line.",
    }[frozenset(details)],
    "strategies": _list("The members' updates may be combined by {} only.", "No way to combine updates is allowed."),
    "maxRounds": _number("A job must not have more than {} rounds."),
    "privacy": _privacy,
    "hardware": lambda classes: {
        frozenset(): "A job may ask for no hardware: none runs.",
        frozenset({"cpu"}): "A job must do without GPUs.",
        frozenset({"gpu"}): "Only jobs that ask for GPUs may run.",
        frozenset({"cpu", "gpu"}): "A job may ask for GPUs or do without.",
    }[frozenset(classes)],
    "maxGpus": _number("A job must not ask for more than {} GPUs of this node."),
    "maxGpuHours": _number("A job must not take more than {} GPU hours here, by its lead's estimate."),
    "maxModelParameters": _number("A model must not have more than {} parameters, as its lead states."),
    "maxTrainingExaflop": _number(
        "A training must not take more than {} times 10^18 operations, by its lead's estimate."
    ),
    "maxEnergyKwh": _number("A job must not take more than {} kWh of electricity here, by its lead's estimate."),
    "maxBytesPerDay": lambda most: f"A job must not move more than {most} in a day, by its lead's estimate.",
    "maxRetentionDays": _number("The lead must promise to delete what the job produced within {} days."),
    "noticeHours": _number("A job must give its members at least {} hours to answer."),
    "statistics": _statistics,
    "study": _study,
    "expires": lambda last: f"These rules hold until the end of {last}; afterwards they allow nothing.",
    "askAbove": _ask,
    "askAlways": lambda always: "A person decides on every job." if always else "Not every job needs a person.",
    "deputies": _list(
        "Where a person decides, it may be {} only.", "Where a person should decide, nobody may: such a job is denied."
    ),
    "sandbox": lambda required: (
        "Code runs in a sandbox only, without network."
        if required == "required"
        else "Code may run without a sandbox where none is to be had."
    ),
    "memoryLimit": lambda most: f"A job must not ask for more than {most} of memory.",
    "hours": _hours,
}
