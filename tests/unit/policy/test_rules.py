"""A node's policy: what it does not allow it denies, and no rule takes back what another denies."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.errors import InvalidManifest
from federation.policy.checks import within_hours
from federation.policy.question import Question
from federation.policy.rules import evaluate, load_policy
from federation.policy.verdict import Verdict
from tests.unit.identity.parties import JOB, found

PARTIES = found()
MANIFEST = PARTIES.job()
WIDE: dict[str, Any] = {
    "leads": ["lead"],
    "jurisdictions": ["CH", "FR", "KE", "NO", "US"],
    "dataSets": ["digits"],
    "minimumCohort": 3,
    "figures": ["train_loss", "loss", "eval_loss", "eval_acc", "accuracy"],
}


def question(text: str = JOB, **changes: Any) -> Question:
    manifest = MANIFEST if text == JOB else PARTIES.job(text)
    fields: dict[str, Any] = {
        "manifest": manifest,
        "roll": PARTIES.roll,
        "member": "fr",
        "data_sets": ("digits",),
        "now": "12:00",
        "sandbox": "bubblewrap",
    }
    return Question(**(fields | changes))


def verdict(rules: Mapping[str, Any], asked: Question | None = None, **settings_: Any) -> Verdict:
    document = {"apiVersion": "concord/v1", "kind": "NodePolicy", "rules": dict(rules), **settings_}
    return evaluate(load_policy(yaml.safe_dump(document, sort_keys=False), "policy.yaml"), asked or question())


def test_a_policy_that_allows_a_job_says_why() -> None:
    granted = verdict(WIDE)
    assert granted.granted
    assert granted.decided_by == "policy.yaml"
    assert granted.reasons[0] == "lead lead is allowed"


@pytest.mark.parametrize("rule", sorted(set(WIDE) - {"figures"}))
def test_a_rule_that_is_absent_denies(rule: str) -> None:
    denied = verdict({name: value for name, value in WIDE.items() if name != rule})
    assert not denied.granted
    assert [reason.split(":")[0] for reason in denied.reasons] == [f"rules.{rule}"]


def test_an_empty_policy_denies_with_every_reason() -> None:
    denied = verdict({})
    assert not denied.granted
    assert len(denied.reasons) == 4


@pytest.mark.parametrize(
    ("rules", "settings_", "asked", "reason"),
    [
        ({"leads": ["other"]}, {}, {}, "rules.leads: lead lead is not allowed"),
        ({"leads": []}, {}, {}, "rules.leads: lead lead is not allowed"),
        ({"jurisdictions": ["CH", "FR", "KE", "NO"]}, {}, {}, "rules.jurisdictions: jurisdiction US is not allowed"),
        ({"jurisdictions": ["FR", "KE", "NO", "US"]}, {}, {}, "rules.jurisdictions: jurisdiction CH is not allowed"),
        ({"dataSets": ["heart"]}, {}, {}, "rules.dataSets: data set digits is not allowed"),
        ({}, {}, {"data_sets": ("digits", "heart")}, "rules.dataSets: data set heart is not allowed"),
        ({}, {}, {"data_sets": ()}, "rules.dataSets: this node has no data set that the job asks for"),
        (
            {"minimumCohort": 4},
            {},
            {},
            "rules.minimumCohort: the job may run with 3 members, this lab asks for at least 4",
        ),
        (
            {"minimumJurisdictions": 2},
            {},
            {},
            "rules.minimumJurisdictions: the job may run with 1, this lab asks for at",
        ),
        ({"strategies": ["FedProx"]}, {}, {}, "rules.strategies: FedAvg is not allowed"),
        ({"maxRounds": 9}, {}, {}, "rules.maxRounds: the job has 10 rounds, this lab allows 9"),
        ({}, {"memoryLimit": "512Mi"}, {}, "memoryLimit: the job asks for 1Gi"),
        ({}, {}, {"sandbox": "none"}, "sandbox: this lab runs tasks in a sandbox only"),
        ({}, {"hours": "20:00-06:00"}, {}, "hours: this lab lends the node from 20:00-06:00, and it is 12:00"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_each_rule_denies_in_a_sentence_that_names_it(
    rules: dict[str, Any], settings_: dict[str, Any], asked: dict[str, Any], reason: str
) -> None:
    denied = verdict({**WIDE, **rules}, question(**asked), **settings_)
    assert not denied.granted
    assert len(denied.reasons) == 1
    assert denied.reasons[0].startswith(reason)


def test_the_jurisdictions_are_those_that_the_job_may_bring_in() -> None:
    rules = {**WIDE, "jurisdictions": ["CH", "KE"]}
    assert not verdict(rules).granted
    assert verdict(rules, question(JOB + "  participants: {members: [ch, fr, ke]}\n")).granted
    assert verdict(rules, question(JOB + "  participants: {jurisdictions: [CH, FR, KE]}\n")).granted


def test_a_job_that_does_not_ask_this_member_is_denied() -> None:
    for restriction in ("members: [ch, ke, no]", "jurisdictions: [CH, KE, NO]"):
        denied = verdict(WIDE, question(JOB + f"  participants: {{{restriction}}}\n"))
        assert denied.reasons[0].startswith("participants.")


@pytest.mark.parametrize(
    ("metrics", "figures", "denied"),
    [
        ("{train: [loss], evaluate: [loss, accuracy]}", ["loss", "accuracy"], ""),
        ("{train: [loss], evaluate: [loss]}", ["train/loss", "evaluate/loss"], ""),
        ("{train: [loss], evaluate: [loss]}", ["evaluate/loss"], "train/loss"),
        ("{train: [], evaluate: [loss, num-examples]}", ["loss"], "evaluate/num-examples"),
        ("{train: [loss], evaluate: [loss]}", [], "evaluate/loss, train/loss"),
        ("{train: [], evaluate: []}", [], ""),
        ("{train: [loss], evaluate: [loss, accuracy]}", None, ""),
        ("{train: [loss], evaluate: [loss, rows]}", None, "evaluate/rows"),
    ],
)
def test_a_figure_leaves_exactly_where_the_lab_has_named_it(
    metrics: str, figures: list[str] | None, denied: str
) -> None:
    rules = {name: value for name, value in WIDE.items() if name != "figures"}
    said = verdict(
        rules if figures is None else {**rules, "figures": figures}, question(JOB + f"  metrics: {metrics}\n")
    )
    assert said.granted == (not denied)
    if denied:
        (reason,) = said.reasons
        assert f"the job lets {denied} leave as exact sums, " in reason
        assert "have the lead take them out of spec.metrics" in reason


@pytest.mark.parametrize("kind", ["EvaluationJob", "StatisticsJob"])
def test_a_kind_of_job_that_the_rules_do_not_know_is_denied(kind: str) -> None:
    """No such manifest can be opened in this version; one that could be would not be agreed to."""
    job = MANIFEST.job.model_copy(update={"kind": kind})
    denied = verdict(WIDE, question(manifest=dataclasses.replace(MANIFEST, job=job)))
    assert denied.reasons == (f"kind: these rules know of TrainingJobs alone, and the job is a {kind}",)


def test_only_the_policy_permits_going_without_a_sandbox() -> None:
    assert verdict(WIDE, question(sandbox="none"), sandbox="optional").granted
    assert not verdict(WIDE, question(sandbox="none"), sandbox="required").granted


RULES = st.fixed_dictionaries(
    {},
    optional={
        "leads": st.lists(st.sampled_from(["lead", "other"]), unique=True),
        "jurisdictions": st.lists(st.sampled_from(["CH", "FR", "KE", "NO", "US"]), min_size=4, unique=True),
        "dataSets": st.lists(st.sampled_from(["digits", "heart"]), unique=True),
        "minimumCohort": st.integers(3, 4),
        "figures": st.lists(
            st.sampled_from(["train_loss", "loss", "evaluate/loss", "eval_loss", "eval_acc", "accuracy"]),
            min_size=4,
            unique=True,
        ),
        "minimumJurisdictions": st.integers(1, 2),
        "strategies": st.lists(st.sampled_from(["FedAvg", "FedProx"]), unique=True),
        "maxRounds": st.integers(9, 11),
    },
)
FURTHER = st.sampled_from(
    [
        {"strategies": ["FedAvg"]},
        {"strategies": ["FedProx"]},
        {"maxRounds": 5},
        {"maxRounds": 50},
        {"minimumJurisdictions": 2},
        {"minimumJurisdictions": 200},
        {"privacy": {"unit": "member"}},
        {"privacy": {"unit": "record", "required": False, "maxEpsilon": 1, "mechanisms": ["dp_sgd"]}},
    ]
)


@settings(deadline=None, max_examples=150)
@given(RULES, FURTHER)
def test_adding_a_rule_never_widens(rules: dict[str, Any], further: dict[str, Any]) -> None:
    """Of those that are limits: without the first four nothing is granted, and figures that are named are the lab's own word."""
    if not set(further) & set(rules) and verdict({**rules, **further}).granted:
        assert verdict(rules).granted


@settings(deadline=None, max_examples=150)
@given(RULES, st.sampled_from(["leads", "jurisdictions", "dataSets", "figures", "strategies"]), st.integers(0, 4))
def test_a_narrower_list_never_widens(rules: dict[str, Any], name: str, left_out: int) -> None:
    if rules.get(name):
        narrower = [item for index, item in enumerate(rules[name]) if index != left_out % len(rules[name])]
        if verdict({**rules, name: narrower}).granted:
            assert verdict(rules).granted


@settings(deadline=None, max_examples=100)
@given(RULES, st.randoms(use_true_random=False))
def test_the_order_of_rules_and_lists_does_not_matter(rules: dict[str, Any], random: Any) -> None:
    names = list(rules)
    random.shuffle(names)
    shuffled = {name: rules[name][::-1] if isinstance(rules[name], list) else rules[name] for name in names}
    assert verdict(shuffled) == verdict(rules)


@pytest.mark.parametrize(
    ("hours", "now", "within"),
    [
        ("00:00-24:00", "00:00", True),
        ("00:00-24:00", "23:59", True),
        ("09:00-17:00", "09:00", True),
        ("09:00-17:00", "17:00", False),
        ("20:00-06:00", "23:00", True),
        ("20:00-06:00", "05:59", True),
        ("20:00-06:00", "06:00", False),
        ("08:00-08:00", "08:00", False),
    ],
)
def test_hours(hours: str, now: str, within: bool) -> None:
    assert within_hours(hours, now) == within


HEAD = "apiVersion: concord/v1\nkind: NodePolicy\n"


@pytest.mark.parametrize(
    ("text", "field", "hint"),
    [
        (HEAD + "rules: {lead: [a]}\n", "rules.lead", "leads"),
        (HEAD + "rules: {minimum_cohort: 3}\n", "rules.minimum_cohort", "minimumCohort"),
        (HEAD + "rules: {}\nsandboxed: true\n", "sandboxed", "sandbox"),
        (HEAD + "rules: {leads: lead}\n", "rules.leads", "policy.rules.leads"),
        (HEAD + "rules: {leads: [Lead]}\n", "rules.leads[0]", "policy.rules.leads"),
        (HEAD + "rules: {minimumCohort: 2}\n", "rules.minimumCohort", "docs/reference/policy.md"),
        (HEAD + 'rules: {minimumCohort: "3"}\n', "rules.minimumCohort", "docs/reference/policy.md"),
        (HEAD + "rules: {strategies: [FedAvrg]}\n", "rules.strategies[0]", "docs/reference/policy.md"),
        (HEAD + "rules: {jurisdictions: [Norway]}\n", "rules.jurisdictions[0]", "docs/reference/policy.md"),
        (HEAD + "rules: {}\nsandbox: never\n", "sandbox", "docs/reference/policy.md"),
        (HEAD + "rules: {}\nhours: 24:30-25:00\n", "hours", "docs/reference/policy.md"),
        (HEAD + "rules: {}\nmemoryLimit: 1GB\n", "memoryLimit", "docs/reference/policy.md"),
        (HEAD, "rules", "docs/reference/policy.md"),
        (HEAD + "rules: {}\nrules: {}\n", "rules", "Keep one"),
        ("[]\n", "", "apiVersion"),
    ],
    ids=lambda value: str(value)[-40:],
)
def test_a_policy_that_is_not_understood_is_refused_not_guessed(text: str, field: str, hint: str) -> None:
    with pytest.raises(InvalidManifest) as raised:
        load_policy(text, "policy.yaml")
    assert str(raised.value).startswith("policy.yaml:")
    assert raised.value.field == field
    assert hint in raised.value.hint


SCRAPS = st.sampled_from([":", "\n", "[", "}", "&a ", "- ", "'", "~", "1", "true", "\x00", "<<", "é", ""])
POLICY = yaml.safe_dump({"apiVersion": "concord/v1", "kind": "NodePolicy", "rules": WIDE, "hours": "20:00-06:00"})


@settings(deadline=None, max_examples=200)
@given(st.integers(0, len(POLICY)), st.integers(0, 20), SCRAPS)
def test_whatever_is_written_gives_a_policy_or_a_clear_error(position: int, cut: int, scrap: str) -> None:
    text = POLICY[:position] + scrap + POLICY[position + cut :]
    try:
        policy = load_policy(text, "policy.yaml")
    except InvalidManifest as error:
        assert str(error)  # noqa: PT017
    else:
        evaluate(policy, question())


PRIVATE = JOB + "  privacy: {unit: member, epsilon: 4, delta: 1e-6}\n  secureAggregation: {clipNorm: 4}\n"
STEPS = (
    JOB + "  privacy: {unit: record, mechanism: dp_sgd, epsilon: 4, delta: 1e-6, sampleRate: 0.1, recordClip: 1}\n"
    "  localSteps: 5\n"
)


@pytest.mark.parametrize(
    ("text", "rule", "reason"),
    [
        (JOB, {"unit": "member"}, "rules.privacy: the job has no differential privacy"),
        (JOB, {"unit": "member", "required": False}, ""),
        (PRIVATE, {"unit": "member"}, ""),
        (PRIVATE, {"unit": "member", "maxEpsilon": 4}, ""),
        (PRIVATE, {"unit": "member", "maxEpsilon": 3}, "rules.privacy.maxEpsilon: the job spends 4 for a member"),
        (PRIVATE, {"unit": "record", "maxEpsilon": 4}, "rules.privacy.maxEpsilon: the job spends 8.829 for a record"),
        (PRIVATE, {"unit": "member", "maxDelta": 1e-7}, "rules.privacy.maxDelta: the job's delta is 1e-06"),
        (PRIVATE, {"unit": "member", "mechanisms": ["discrete_gaussian"]}, "skellam is not allowed"),
        (STEPS, {"unit": "record"}, "rules.privacy.mechanisms: dp_sgd is not allowed"),
        (STEPS, {"unit": "record", "mechanisms": ["dp_sgd"], "maxEpsilon": 4}, ""),
        (STEPS, {"unit": "member", "mechanisms": ["dp_sgd"]}, "the job promises nothing for a member"),
    ],
)
def test_a_lab_may_ask_for_privacy(text: str, rule: Mapping[str, Any], reason: str) -> None:
    found_ = verdict({**WIDE, "privacy": dict(rule)}, question(text))
    assert found_.granted == (not reason), found_.reasons
    assert any(reason in each for each in found_.reasons)


def test_figures_with_noise_need_no_ones_permission() -> None:
    noised = PRIVATE.replace("1e-6}", "1e-6, figures: {noiseMultiplier: 18, bound: 10}}")
    assert verdict({name: value for name, value in WIDE.items() if name != "figures"}, question(noised)).granted
