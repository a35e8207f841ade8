"""What each word of the vocabulary objects to in a job. Pure; a job that does not say what a limit asks about does not pass it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import inf
from typing import Any, Final

from federation.catalogue import matching
from federation.manifest.document import Compute
from federation.manifest.goals import covers
from federation.manifest.privacy import charges_of
from federation.manifest.schema import bytes_of
from federation.policy.code import signers_of
from federation.policy.question import Question
from federation.policy.schema import AskRule, PrivacyRule, RecipientRule, StatisticsRule, StudyRule
from federation.privacy.accounting import epsilon_of
from federation.secagg.parameters import STATISTICS_JOB


@dataclass(frozen=True, slots=True)
class Objection:
    sentence: str
    part: str = ""
    """of a rule with parts: which"""
    detail: str = ""
    """for the lab's own eyes: what of its data sets nobody else is told"""
    ask: bool = False
    """a person may allow it"""


Objections = Iterator[Objection]
Check = Callable[[Any, Question], Objections]


def listed(what: str, values: Callable[[Question], Iterable[str]], missing: str = "") -> Check:
    """Each value must be on the list. ``missing``: what is said where there is none; empty: that passes."""

    def check(allowed: list[str], question: Question) -> Objections:
        found = tuple(values(question))
        if not found and missing:
            yield Objection(missing)
        for value in found:
            if value not in allowed:
                yield Objection(f"{what} {value} is not allowed")

    return check


def at_least(what: str, value: Callable[[Question], float]) -> Check:
    def check(least: float, question: Question) -> Objections:
        if (offered := value(question)) < least:
            yield Objection(what.format(offered=plain(offered), least=plain(least)))

    return check


def at_most(what: str, value: Callable[[Question], float | None], field: str) -> Check:
    """``field``: where the lead states it; where that is nothing, the job does not pass."""

    def check(most: float, question: Question) -> Objections:
        stated = value(question)
        if stated is None:
            yield Objection(f"the job does not state how many {what} ({field}), and this lab has a limit")
        elif stated > most:
            yield Objection(f"the job states {plain(stated)} {what}, this lab allows {plain(most)}")

    return check


def plain(number: float) -> str:
    """Digits without separators, the same under every locale; 1.5, 12, 10000000."""
    if number == int(number) and abs(number) < 2**53:
        return str(int(number))
    return f"{number:.12f}".rstrip("0") if 1e-12 <= abs(number) < 1e-4 else f"{number:.6g}"


# -------------------------------------------------------------------------------------------------------------------- people


def lead_of(question: Question) -> tuple[str, ...]:
    return (question.manifest.lead.id,)


def jurisdictions_of(question: Question) -> tuple[str, ...]:
    lead = question.roll.member(question.manifest.lead.member).jurisdiction
    return tuple(sorted({member.jurisdiction for member in question.others()} | {lead}))


def others_of(question: Question) -> tuple[str, ...]:
    return tuple(sorted(member.id for member in question.others()))


def must_include(wanted: list[str], question: Question) -> Objections:
    """A job promises members by naming them and running with no fewer."""
    people = question.manifest.spec.participants
    promised = set(people.members) if people.members and people.min_members >= len(people.members) else set()
    for member in sorted(set(wanted) - promised):
        yield Objection(
            f"the job may run without {member} (spec.participants names members, and how many must take part)"
        )


def recipients(allowed: list[RecipientRule], question: Question) -> Objections:
    keys = {each.key for each in allowed}
    if question.manifest.spec.coordinator_view != "blind":
        yield Objection("the coordinator would receive each sum")
    for recipient in question.manifest.spec.release.recipients:
        if hashlib.sha256(bytes.fromhex(recipient.key or "")).hexdigest() not in keys:
            yield Objection(f"{recipient.name!r} would receive the release, by a key that is not on the list")


# ---------------------------------------------------------------------------------------------------------------------- data


def data_sets(allowed: list[str], question: Question) -> Objections:
    if not question.data_sets:
        wanted = matching.asked(question.manifest.spec.data_set)
        extra = "".join(f", {name}" for name in question.manifest.spec.extra_data_sets)
        yield Objection(f"this node has no data set that the job asks for ({wanted}{extra})")
    yield from (Objection(f"data set {name} is not allowed") for name in question.data_sets if name not in allowed)


def data_tags(allowed: list[str], question: Question) -> Objections:
    for data in question.data():
        if not set(allowed) & set(data.tags):
            detail = f"{data.name} carries none of {', '.join(sorted(allowed))}"
            yield Objection(
                "the data that the job would use carry none of the tags that this lab asks for", detail=detail
            )


def never_tags(forbidden: list[str], question: Question) -> Objections:
    for data in question.data():
        if found := sorted(set(forbidden) & set(data.tags)):
            detail = f"{data.name} carries {', '.join(found)}"
            yield Objection("the data that the job would use carry a tag that this lab excludes", detail=detail)


def legal_basis(allowed: list[str], question: Question) -> Objections:
    stated = question.manifest.spec.legal_basis
    if stated is None:
        yield Objection("the job states no legal basis (spec.legalBasis)")
    elif stated not in allowed:
        yield Objection(f"the job's legal basis {stated} is not allowed")
    for data in question.data():
        if data.legal_basis and data.legal_basis not in allowed:
            detail = f"{data.name} is held on {data.legal_basis}"
            yield Objection(
                "the data that the job would use are held on a legal basis that is not allowed", detail=detail
            )


def figures(allowed: list[str], question: Question) -> Objections:
    """What leaves exactly tells a member's own figure when a cohort changes: the lab says which ones may."""
    exact = question.manifest.exact_figures
    denied = [figure for figure in exact if not declared(figure, allowed)]
    if denied:
        yield Objection(
            f"the job lets {', '.join(denied)} leave as exact sums, and this lab has not declared them public; "
            "name them in the policy, or have the lead take them out of spec.metrics"
        )


def declared(figure: str, allowed: list[str]) -> bool:
    """By its name, with or without its kind; one of a family (hits/0) also as hits/*."""
    kind, _, name = figure.partition("/")
    family, slash, _group = name.partition("/")
    return bool({figure, name} & set(allowed) or (slash and {f"{family}/*", f"{kind}/{family}/*"} & set(allowed)))


def statistics(rule: StatisticsRule, question: Question) -> Objections:
    if question.manifest.job.kind != STATISTICS_JOB:
        return
    if question.statistics is None:
        yield Objection("the job does not say which statistics it wants")
        return
    for name in question.statistics.names:
        if name not in rule.allowed:
            yield Objection(f"{name} is not allowed", ".allowed")
    if question.statistics.floor < rule.floor:
        yield Objection(
            f"the job answers over {question.statistics.floor} records, this lab asks for at least {rule.floor}",
            ".floor",
        )


# ------------------------------------------------------------------------------------------------------------------- purpose


def purposes_of(question: Question) -> tuple[str, ...]:
    return tuple(question.manifest.spec.purposes or ())


def purpose_codes(allowed: list[str], question: Question) -> Objections:
    codes = question.manifest.spec.purpose_codes or []
    if not codes:
        yield Objection("the job names no purpose code (spec.purposeCodes)")
    for code in codes:
        if not any(covers(each, code) for each in allowed):
            yield Objection(f"{code} is not allowed")


def expires(last: str, question: Question) -> Objections:
    if not question.date:
        yield Objection(f"these rules end on {last}, and this node does not know the day")
    elif question.date > last:
        yield Objection(f"these rules ended on {last}, and it is {question.date}")


# ---------------------------------------------------------------------------------------------------------------------- code


def bundles(allowed: list[str], question: Question) -> Objections:
    digest = question.manifest.bundle_digest.hex()
    if digest not in allowed:
        yield Objection(f"the code with the digest {digest} is not allowed")


def code_signers(allowed: list[str], question: Question) -> Objections:
    if not signers_of(question.manifest) & set(allowed):
        yield Objection("none of the code signers that this lab names has signed the job's code (spec.codeSignatures)")


def runtime_digests(allowed: list[str], question: Question) -> Objections:
    stated = question.manifest.spec.runtime.digest
    if stated is None:
        yield Objection("the job names no runtime (spec.runtime.digest)")
    elif stated not in allowed:
        yield Objection(f"the runtime {stated} is not allowed")
    elif stated != question.runtime:
        yield Objection("this node's runtime is another than the one that the job names")


# ------------------------------------------------------------------------------------------------------------------- privacy


def privacy(rule: PrivacyRule, question: Question) -> Objections:
    stated = question.manifest.privacy
    if stated is None:
        if rule.required:
            yield Objection("the job has no differential privacy, and this lab asks for it")
        return
    if stated.mechanism not in rule.mechanisms:
        yield Objection(f"{stated.mechanism} is not allowed", ".mechanisms")
    if stated.delta > rule.max_delta:
        yield Objection(f"the job's delta is {stated.delta:g}, this lab allows {rule.max_delta:g}", ".maxDelta")
    cost = epsilon_of(charges_of(question.manifest.spec, stated), stated.delta, rule.unit)
    if cost == inf:
        yield Objection(f"the job promises nothing for a {rule.unit} (its unit is {stated.unit})", ".unit")
    elif rule.max_epsilon is not None and cost > rule.max_epsilon:
        yield Objection(
            f"the job spends {cost:.4g} for a {rule.unit}, this lab allows {rule.max_epsilon:g}", ".maxEpsilon"
        )


# ----------------------------------------------------------------------------------------------------------------- resources


def stated(name: str) -> Callable[[Question], float | None]:
    """What the lead estimates in spec.compute."""

    def value(question: Question) -> float | None:
        compute = question.manifest.spec.compute or NOTHING_STATED
        number = getattr(compute, name)
        return bytes_of(number) if isinstance(number, str) else number

    return value


NOTHING_STATED: Final = Compute.model_validate({})


def gpu_hours_of(question: Question) -> float | None:
    """A job that asks for no GPU takes none of their hours."""
    return stated("gpu_hours")(question) if question.manifest.spec.resources.gpus else 0.0


def hardware(allowed: list[str], question: Question) -> Objections:
    asked = "gpu" if question.manifest.spec.resources.gpus else "cpu"
    if asked not in allowed:
        yield Objection(f"the job asks for {'GPUs' if asked == 'gpu' else 'no GPU, and so for processors'}")


def max_bytes(most: str, question: Question) -> Objections:
    yield from at_most("bytes in a day", stated("bytes_per_day"), "spec.compute.bytesPerDay")(bytes_of(most), question)


def memory(most: str, question: Question) -> Objections:
    if question.manifest.memory_bytes > bytes_of(most):
        yield Objection(f"the job asks for {question.manifest.spec.resources.memory}, more than this lab lends")


def sandbox(required: str, question: Question) -> Objections:
    if required == "required" and question.sandbox == "none":
        yield Objection("this lab runs tasks in a sandbox only, and none is to be had on this node")


def hours(range_: str, question: Question) -> Objections:
    if not within_hours(range_, question.now):
        yield Objection(f"this lab lends the node from {range_}, and it is {question.now}")


def within_hours(hours: str, now: str) -> bool:
    """Whether "HH:MM" lies in "HH:MM-HH:MM"; a range such as 20:00-06:00 runs over midnight."""
    begin, end = hours.split("-")
    return begin <= now < end if begin <= end else now >= begin or now < end


# -------------------------------------------------------------------------------------------------------------------- people


def study(rule: StudyRule, question: Question) -> Objections:
    asked = question.study
    if asked is None:
        return
    bounds = (
        (".maxRuns", "runs", rule.max_runs, asked.runs),
        (".maxRounds", "rounds", rule.max_rounds, asked.rounds),
        (".maxEpsilon", "epsilon", rule.max_epsilon, asked.epsilon),
        (".maxBytes", "bytes", bytes_of(rule.max_bytes) if rule.max_bytes is not None else None, asked.bytes),
        (".maxDays", "days", rule.max_days, asked.days),
    )
    for part, what, most, value in bounds:
        if most is not None and value is None:
            yield Objection(f"the study sets no bound to its {what}, and this lab does", part)
        elif most is not None and value is not None and value > most:
            yield Objection(f"the study asks for {what} {plain(value)}, this lab allows {plain(most)}", part)


def ask_above(rule: AskRule, question: Question) -> Objections:
    """What the job does not say counts as above."""
    manifest = question.manifest
    values: tuple[tuple[str, str, float | None, float | None], ...] = (
        (
            ".trainingExaflop",
            "training operations (10^18)",
            rule.training_exaflop,
            stated("training_exaflop")(question),
        ),
        (".modelParameters", "parameters of the model", rule.model_parameters, stated("model_parameters")(question)),
        (".gpuHours", "GPU hours", rule.gpu_hours, gpu_hours_of(question)),
        (".energyKwh", "kWh of electricity", rule.energy_kwh, stated("energy_kwh")(question)),
        (".rounds", "rounds", rule.rounds, manifest.spec.rounds),
        (".epsilon", "epsilon", rule.epsilon, manifest.privacy.epsilon if manifest.privacy else None),
    )
    for part, what, threshold, value in values:
        if threshold is None or (value is not None and value <= threshold):
            continue
        said = "the job does not state its" if value is None else f"the job has {plain(value)}"
        yield Objection(f"{said} {what}, and above {plain(threshold)} this lab's people decide", part, ask=True)


def ask_always(always: bool, _question: Question) -> Objections:
    if always:
        yield Objection("this lab's people decide on every job", ask=True)


def no_objection(_value: object, _question: Question) -> Objections:
    """Of a word that says who decides, not whether."""
    return iter(())
