"""The node's own policy file and its verdict on a job. Leads, jurisdictions, data sets, minimum cohort, public figures.

Deny by default: where the file does not say which leads, jurisdictions, data sets and cohorts, it denies. Where it says nothing of
figures, the usual ones may leave. All other rules are limits: a further one, or a narrower list, never turns a denial into a grant.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any, Final, Literal

from pydantic import Field, ValidationError

from federation.identity.roll import Roll
from federation.manifest.manifest import Manifest
from federation.manifest.privacy import charges_of
from federation.manifest.schema import (
    USUAL_FIGURES,
    FigureNames,
    Jurisdictions,
    Labels,
    Names,
    Number,
    Part,
    Quantity,
    bytes_of,
    explained,
)
from federation.manifest.yaml_source import read_yaml
from federation.privacy.accounting import epsilon_of
from federation.secagg.parameters import MAX_MEMBERS, MIN_MEMBERS, TRAINING_JOB

HOURS: Final = r"(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)-(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)"
ALWAYS: Final = "00:00-24:00"
StrategyName = Literal["FedAvg", "FedProx", "FedAvgM", "FedAdam", "FedYogi", "FedAdagrad"]


class PrivacyRule(Part):
    required: bool = Field(True, description="no job without differential privacy")
    unit: Literal["member", "record"] = Field(description="whom a job must hide: a member hides its records, too")
    max_epsilon: Number | None = Field(None, gt=0, description="no job that spends more, for that unit; absent: any")
    max_delta: Number = Field(1e-5, gt=0, lt=1, description="no job whose delta is larger")
    mechanisms: list[Literal["skellam", "discrete_gaussian", "dp_sgd"]] = Field(
        ["skellam", "discrete_gaussian"],
        description="noise that is good enough; dp_sgd is the task's promise, which this node cannot check",
    )


class Rules(Part):
    leads: Labels | None = Field(None, description="research leads whose jobs may run; absent: none")
    jurisdictions: Jurisdictions | None = Field(
        None, description="where the lead's member and the other members of a job may come from; absent: nowhere"
    )
    data_sets: Names | None = Field(None, description="data sets that jobs may use; absent: none")
    minimum_cohort: int | None = Field(
        None, ge=MIN_MEMBERS, le=MAX_MEMBERS, description="no job that may run with fewer members; absent: no job"
    )
    figures: FigureNames = Field(
        USUAL_FIGURES,
        description="metrics of this lab that may leave as exact sums over a cohort: loss (of training and of evaluation), or "
        "evaluate/loss alone; hits/* for hits/0, hits/1 and so on; []: none",
    )
    minimum_jurisdictions: int = Field(1, ge=1, le=MAX_MEMBERS, description="no job that may run with fewer")
    strategies: list[StrategyName] | None = Field(None, description="outer steps allowed; absent: any")
    max_rounds: int | None = Field(None, ge=1, description="no longer job; absent: any")
    privacy: PrivacyRule | None = Field(None, description="differential privacy that jobs must have; absent: none")


class PolicyDocument(Part):
    api_version: Literal["concord/v1"] = Field(description="concord/v1")
    kind: Literal["NodePolicy"] = Field(description="NodePolicy")
    rules: Rules = Field(description="each must say yes")
    sandbox: Literal["required", "optional"] = Field(
        "required", description="optional: tasks run even where no sandbox is to be had"
    )
    memory_limit: Quantity | None = Field(None, description="no job that asks for more memory; absent: any")
    hours: str = Field(
        ALWAYS,
        pattern=f"^{HOURS}$",
        description="local time of day at which consent is given; 20:00-06:00 runs over midnight",
    )


@dataclass(frozen=True, slots=True)
class Policy:
    source: str
    rules: Rules
    sandbox_required: bool
    memory_limit: int | None
    """bytes; None: no limit of its own"""
    hours: str


@dataclass(frozen=True, slots=True)
class Question:
    """What a node asks its policy. ``data_sets`` are the names that the job would use here; ``now`` is local "HH:MM"."""

    manifest: Manifest
    roll: Roll
    member: str
    data_sets: tuple[str, ...]
    now: str
    sandbox: str
    """bubblewrap | none"""


@dataclass(frozen=True, slots=True)
class Verdict:
    granted: bool
    reasons: tuple[str, ...]
    """when denied, every rule that said no; when granted, which rules said yes"""
    decided_by: str


def load_policy(text: str, source: str) -> Policy:
    """Raises InvalidManifest with file, line, field, and what to do."""
    read = read_yaml(text, source)
    if not isinstance(read.value, dict):
        raise read.error("a policy is a mapping.", (), "Start with apiVersion: concord/v1 and kind: NodePolicy.")
    try:
        document = PolicyDocument.model_validate(read.value)
    except ValidationError as error:
        raise explained(read, error, PolicyDocument, "See policy{field} in docs/reference/policy.md.") from error
    limit = document.memory_limit
    return Policy(
        source,
        document.rules,
        document.sandbox == "required",
        bytes_of(limit) if limit is not None else None,
        document.hours,
    )


def evaluate(policy: Policy, question: Question) -> Verdict:
    """Pure: the same policy and question give the same verdict everywhere."""
    denials = tuple(sentence for check in CHECKS for sentence in check(policy, question))
    if denials:
        return Verdict(False, denials, policy.source)
    manifest = question.manifest
    return Verdict(
        True,
        (
            f"lead {manifest.lead.id} is allowed",
            f"data set {', '.join(question.data_sets)} is allowed",
            f"at least {manifest.spec.participants.min_members} members take part",
        ),
        policy.source,
    )


def _listed(name: str, allowed: list[Any] | None, values: tuple[str, ...], what: str) -> tuple[str, ...]:
    if allowed is None:
        return (f"rules.{name}: the policy names none, and what it does not allow it denies",)
    return tuple(f"rules.{name}: {what} {value} is not allowed" for value in values if value not in allowed)


def _kind(_policy: Policy, question: Question) -> tuple[str, ...]:
    """The rules below are about training; what they do not know they deny."""
    kind = question.manifest.job.kind
    return (
        () if kind == TRAINING_JOB else (f"kind: these rules know of {TRAINING_JOB}s alone, and the job is a {kind}",)
    )


def _leads(policy: Policy, question: Question) -> tuple[str, ...]:
    return _listed("leads", policy.rules.leads, (question.manifest.lead.id,), "lead")


def _jurisdictions(policy: Policy, question: Question) -> tuple[str, ...]:
    people = question.manifest.spec.participants
    lead = question.roll.member(question.manifest.lead.member).jurisdiction
    others = {
        member.jurisdiction
        for member in question.roll.members
        if member.id != question.member
        and (not people.members or member.id in people.members)
        and (not people.jurisdictions or member.jurisdiction in people.jurisdictions)
    }
    return _listed("jurisdictions", policy.rules.jurisdictions, tuple(sorted(others | {lead})), "jurisdiction")


def _data_sets(policy: Policy, question: Question) -> tuple[str, ...]:
    if not question.data_sets:
        wanted = question.manifest.spec.data_set
        asked = " ".join([*filter(None, [wanted.name]), *(f"tag:{tag}" for tag in wanted.tags)])
        extra = "".join(f", {name}" for name in question.manifest.spec.extra_data_sets)
        return (f"rules.dataSets: this node has no data set that the job asks for ({asked}{extra})",)
    return _listed("dataSets", policy.rules.data_sets, question.data_sets, "data set")


def _cohort(policy: Policy, question: Question) -> tuple[str, ...]:
    least = policy.rules.minimum_cohort
    if least is None:
        return ("rules.minimumCohort: the policy names none, and what it does not allow it denies",)
    offered = question.manifest.spec.participants.min_members
    if offered < least:
        return (f"rules.minimumCohort: the job may run with {offered} members, this lab asks for at least {least}",)
    return ()


def _figures(policy: Policy, question: Question) -> tuple[str, ...]:
    """What leaves exactly tells a member's own figure when a cohort changes: the lab says which ones may."""
    exact, allowed = question.manifest.exact_figures, policy.rules.figures
    denied = [figure for figure in exact if not _declared(figure, allowed)]
    if not denied:
        return ()
    return (
        f"rules.figures: the job lets {', '.join(denied)} leave as exact sums, and this lab has not declared them public; "
        "name them in the policy, or have the lead take them out of spec.metrics",
    )


def _declared(figure: str, allowed: list[str]) -> bool:
    """By its name, with or without its kind; one of a family (hits/0) also as hits/*."""
    name = figure.split("/", 1)[1]
    family, slash, _group = name.partition("/")
    kind = figure.split("/", 1)[0]
    return bool({figure, name} & set(allowed) or (slash and {f"{family}/*", f"{kind}/{family}/*"} & set(allowed)))


def _spread(policy: Policy, question: Question) -> tuple[str, ...]:
    least, offered = policy.rules.minimum_jurisdictions, question.manifest.spec.participants.min_jurisdictions
    if offered < least:
        return (f"rules.minimumJurisdictions: the job may run with {offered}, this lab asks for at least {least}",)
    return ()


def _privacy(policy: Policy, question: Question) -> tuple[str, ...]:
    rule, privacy = policy.rules.privacy, question.manifest.privacy
    if rule is None or (privacy is None and not rule.required):
        return ()
    if privacy is None:
        return ("rules.privacy: the job has no differential privacy, and this lab asks for it",)
    denials: tuple[str, ...] = ()
    if privacy.mechanism not in rule.mechanisms:
        denials += (f"rules.privacy.mechanisms: {privacy.mechanism} is not allowed",)
    if privacy.delta > rule.max_delta:
        denials += (
            f"rules.privacy.maxDelta: the job's delta is {privacy.delta:g}, this lab allows {rule.max_delta:g}",
        )
    cost = epsilon_of(charges_of(question.manifest.spec, privacy), privacy.delta, rule.unit)
    if cost == inf:
        denials += (f"rules.privacy.unit: the job promises nothing for a {rule.unit} (its unit is {privacy.unit})",)
    elif rule.max_epsilon is not None and cost > rule.max_epsilon:
        denials += (
            f"rules.privacy.maxEpsilon: the job spends {cost:.4g} for a {rule.unit}, this lab allows {rule.max_epsilon:g}",
        )
    return denials


def _optional(policy: Policy, question: Question) -> tuple[str, ...]:
    spec = question.manifest.spec
    denials: tuple[str, ...] = ()
    if policy.rules.strategies is not None and spec.strategy.name not in policy.rules.strategies:
        denials += (f"rules.strategies: {spec.strategy.name} is not allowed",)
    if policy.rules.max_rounds is not None and spec.rounds > policy.rules.max_rounds:
        denials += (f"rules.maxRounds: the job has {spec.rounds} rounds, this lab allows {policy.rules.max_rounds}",)
    if policy.memory_limit is not None and question.manifest.memory_bytes > policy.memory_limit:
        denials += (f"memoryLimit: the job asks for {spec.resources.memory}, more than this lab lends",)
    return denials


def _sandbox(policy: Policy, question: Question) -> tuple[str, ...]:
    if policy.sandbox_required and question.sandbox == "none":
        return ("sandbox: this lab runs tasks in a sandbox only, and none is to be had on this node",)
    return ()


def _hours(policy: Policy, question: Question) -> tuple[str, ...]:
    if within_hours(policy.hours, question.now):
        return ()
    return (f"hours: this lab lends the node from {policy.hours}, and it is {question.now}",)


def within_hours(hours: str, now: str) -> bool:
    """Whether "HH:MM" lies in "HH:MM-HH:MM"; a range such as 20:00-06:00 runs over midnight."""
    begin, end = hours.split("-")
    return begin <= now < end if begin <= end else now >= begin or now < end


def _asked(_policy: Policy, question: Question) -> tuple[str, ...]:
    people, own = question.manifest.spec.participants, question.roll.member(question.member)
    if people.members and own.id not in people.members:
        return (f"participants.members: the job does not ask {own.id}",)
    if people.jurisdictions and own.jurisdiction not in people.jurisdictions:
        return (f"participants.jurisdictions: the job does not ask members from {own.jurisdiction}",)
    return ()


CHECKS: Final = (
    _kind,
    _asked,
    _leads,
    _jurisdictions,
    _data_sets,
    _cohort,
    _figures,
    _spread,
    _privacy,
    _optional,
    _sandbox,
    _hours,
)
