"""What a lab says to a job: its own policy, data, runtime and clock decide; without a yes of each it is no, with every reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.errors import BudgetExhausted, InvalidIdentity, NotFound
from federation.identity.consent import Consent, open_consent, seal_consent
from federation.identity.credential import node_request, sign_credential, verify_credential
from federation.identity.keys import SigningKey
from federation.policy.rules import load_policy
from federation.privacy.budget import Entry
from node_agent.consent.decision import VALID, Situation, chosen_data, decide, plans_of
from node_agent.enrolment import POLICY
from node_agent.rounds.spec import data_paths
from node_agent.settings import DataSet, NodeSettings, PrivacyBudget
from tests.unit.agent.homes import DAY, JOB, federation_of, manifest_of

PARTIES = federation_of(("ch", "fr", "ke", "us"))
NOON = datetime(2027, 1, 15, 12, 0, 0, 123, tzinfo=UTC)
HERE = Path(__file__).parent
SETS = {"digits": DataSet(path=str(HERE), examples=1000, tags=("images",)), "ages": DataSet(path=str(HERE), examples=5)}
WIDE: dict[str, Any] = {
    "leads": ["lead"],
    "jurisdictions": ["CH", "KE", "US"],
    "dataSets": ["digits", "ages"],
    "minimumCohort": 3,
    "figures": ["train_loss", "loss", "eval_loss", "eval_acc", "accuracy"],
}


def policy(rules: Mapping[str, Any] = WIDE, **more: Any) -> Any:
    document = {"apiVersion": "concord/v1", "kind": "NodePolicy", "rules": dict(rules), **more}
    return load_policy(yaml.safe_dump(document), "policy.yaml")


SITUATION = Situation(
    policy=policy(),
    roll=PARTIES.roll,
    member="fr",
    node="fr-1",
    data_sets=SETS,
    sandbox="bubblewrap",
    missing=lambda _python, _packages: (),
    now=NOON,
    version_of=lambda held: bytes(32),
)


def answer(text: str = JOB, **changes: Any) -> Consent:
    return decide(manifest_of(PARTIES, text), dataclasses.replace(SITUATION, **changes))


def denied(reason: str, text: str = JOB, **changes: Any) -> None:
    said = answer(text, **changes)
    assert not said.granted
    assert len(said.reasons) == 1, said.reasons
    assert reason in said.reasons[0]
    assert said.weight == 0


def test_what_the_policy_allows_is_granted_for_a_time_and_says_what_leaves() -> None:
    manifest = manifest_of(PARTIES)
    said = decide(manifest, SITUATION)
    assert said.granted
    assert (said.job, said.member, said.node) == (manifest.digest, "fr", "fr-1")
    assert said.reasons[0] == "lead lead is allowed"
    assert said.data_set == "digits"
    assert said.weight == 512  # the bucket below 1000, never the count
    assert set(said.figures) == set(manifest.figures)
    assert said.lacks == ()
    assert said.expires - said.issued == VALID
    assert said.valid_at(NOON)
    assert said.valid_at(NOON + VALID - timedelta(seconds=1))
    assert not said.valid_at(NOON + VALID + timedelta(seconds=1))
    assert not said.valid_at(NOON - timedelta(seconds=1))


def test_a_new_home_denies_every_job() -> None:
    said = answer(policy=load_policy(POLICY, "policy.yaml"))
    assert not said.granted
    assert [reason.split(":")[0] for reason in said.reasons] == [
        "rules.leads",
        "rules.jurisdictions",
        "rules.dataSets",
        "rules.minimumCohort",
    ]


@pytest.mark.parametrize("rule", [rule for rule in WIDE if rule != "figures"])
def test_a_rule_that_is_left_out_denies(rule: str) -> None:
    denied(f"rules.{rule}: the policy names none", policy=policy({name: WIDE[name] for name in WIDE if name != rule}))


@dataclasses.dataclass(frozen=True)
class No:
    """One difference from the situation that is granted."""

    reason: str
    rules: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    policy: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


GONE = {"digits": DataSet(path=str(HERE / "none"), examples=9)}
DENIALS = {
    "lead": No("rules.leads: lead lead is not allowed", {"leads": ["eve"]}),
    "jurisdiction": No("rules.jurisdictions: jurisdiction US is not allowed", {"jurisdictions": ["CH", "KE"]}),
    "data set": No("rules.dataSets: data set digits is not allowed", {"dataSets": ["ages"]}),
    "cohort": No("rules.minimumCohort: the job may run with 3", {"minimumCohort": 4}),
    "figures": No(
        "rules.figures: the job lets evaluate/accuracy, evaluate/loss, train/loss leave",
        {"figures": ["train_loss", "eval_loss", "eval_acc"]},
    ),
    "spread": No("rules.minimumJurisdictions: the job may run with 1", {"minimumJurisdictions": 2}),
    "strategy": No("rules.strategies: FedAvg is not allowed", {"strategies": ["FedProx"]}),
    "rounds": No("rules.maxRounds: the job has 10 rounds", {"maxRounds": 9}),
    "memory": No("memoryLimit: the job asks for 1Gi", policy={"memoryLimit": "512Mi"}),
    "hours": No("hours: this lab lends the node from 20:00-06:00, and it is 12:00", policy={"hours": "20:00-06:00"}),
    "sandbox": No("sandbox: this lab runs tasks in a sandbox only", changes={"sandbox": "none"}),
    "path": No("data set digits: its path does not exist on this node", changes={"data_sets": GONE}),
    "runtime": No(
        "runtime: this node lacks torch==9; nothing is installed for a job",
        changes={"missing": lambda _python, _packages: ("torch==9",)},
    ),
}


@settings(max_examples=60, deadline=None)
@given(st.sets(st.sampled_from(sorted(DENIALS)), max_size=4))
def test_reasons_to_deny_add_up_and_none_hides_another(names: set[str]) -> None:
    rules, more, changes = dict(WIDE), {}, {}
    for name in names:
        rules |= DENIALS[name].rules
        more |= DENIALS[name].policy
        changes |= DENIALS[name].changes
    said = answer(policy=policy(rules, **more), **changes)
    assert said.granted == (not names)
    if names:
        assert len(said.reasons) == len(names)
        for name in names:
            assert [reason for reason in said.reasons if reason.startswith(DENIALS[name].reason)], (name, said.reasons)


@pytest.mark.parametrize("what", DENIALS)
def test_each_rule_denies_with_its_own_reason(what: str) -> None:
    no = DENIALS[what]
    denied(no.reason, policy=policy({**WIDE, **no.rules}, **no.policy), **no.changes)


def test_a_job_that_does_not_ask_for_this_lab_or_its_data_is_denied() -> None:
    denied("participants.members: the job does not ask fr", JOB + "  participants: {members: [ch, ke, us]}\n")
    ages = {"ages": SETS["ages"]}
    denied("this node has no data set that the job asks for (digits)", data_sets=ages)
    tagged = JOB.replace("dataSet: digits", "dataSet: {tags: [mri]}")
    denied("this node has no data set that the job asks for (tag:mri)", tagged)


def test_the_runtime_is_asked_about_what_the_lead_signed() -> None:
    asked = []

    def missing(python: str, packages: Mapping[str, str]) -> tuple[str, ...]:
        asked.append((python, dict(packages)))
        return ("python 3.99", "numpy==9")

    said = answer(JOB + '  runtime: {python: ">=3.99", packages: {numpy: "==9"}}\n', missing=missing)
    assert asked == [(">=3.99", {"numpy": "==9"})]
    assert said.lacks == ("python 3.99", "numpy==9")
    assert len(said.reasons) == 2


def test_hours_are_those_of_the_lab_s_own_clock() -> None:
    night = policy(hours="20:00-06:00")
    for offset, granted in ((0, False), (9, True), (-9, True), (3, False)):
        local = NOON.astimezone(timezone(timedelta(hours=offset)))
        assert answer(policy=night, now=local).granted == granted, local


# ---------------------------------------------------------------------------------------------------------------------- data


def test_data_is_chosen_by_name_by_tags_and_with_what_else_is_asked() -> None:
    def chosen(spec: str, sets: Mapping[str, DataSet] = SETS) -> tuple[str, ...]:
        return chosen_data(manifest_of(PARTIES, JOB.replace("dataSet: digits", f"dataSet: {spec}")), sets)

    assert chosen("digits") == ("digits",)
    assert chosen("{name: digits, tags: [images]}") == ("digits",)
    assert chosen("{name: ages, tags: [images]}") == ()
    assert chosen("{tags: [images]}") == ("digits",)
    assert chosen("{tags: [images, mri]}") == ()
    assert chosen("{tags: [images]}", {**SETS, "atlas": SETS["digits"]}) == ("atlas",)  # one, and always the same
    extra = JOB + "  extraDataSets: [ages]\n"
    assert chosen_data(manifest_of(PARTIES, extra), SETS) == ("digits", "ages")
    assert chosen_data(manifest_of(PARTIES, extra), {"digits": SETS["digits"]}) == ()


def test_each_further_data_set_must_be_allowed_too() -> None:
    extra = JOB + "  extraDataSets: [ages]\n"
    assert answer(extra).granted
    denied("rules.dataSets: data set ages is not allowed", extra, policy=policy({**WIDE, "dataSets": ["digits"]}))


def test_a_data_set_that_fits_only_since_the_consent_is_not_shown_to_the_job() -> None:
    """The lab adds one with the same tag and starts its node again: policy and ledger know of the first one alone."""
    tagged = JOB.replace("dataSet: digits", "dataSet: {tags: [images]}")
    manifest = manifest_of(PARTIES, tagged)
    node = NodeSettings(member="fr", node="fr-1", federation="health", data_sets={**SETS, "brains": SETS["digits"]})
    assert answer(tagged).data_set == "digits"
    assert chosen_data(manifest, node.data_sets) == ("brains",)
    assert data_paths(manifest, "digits", node) == {"digits": HERE}
    with pytest.raises(NotFound, match="brains"):
        data_paths(manifest, "brains", node.model_copy(update={"data_sets": SETS}))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 1 << 40))
def test_the_weight_tells_no_more_than_a_power_of_two(examples: int) -> None:
    said = answer(data_sets={"digits": DataSet(path=str(HERE), examples=examples)})
    assert said.granted
    assert said.weight & (said.weight - 1) == 0
    assert 1 <= said.weight <= examples
    assert said.weight > examples // 2 or said.weight == 1 << 20
    equal = answer(
        JOB + "  secureAggregation: {weighting: equal}\n",
        data_sets={"digits": DataSet(path=str(HERE), examples=examples)},
    )
    assert equal.weight == 1


# ----------------------------------------------------------------------------------------------------------------- signatures


def test_an_answer_is_this_node_s_own() -> None:
    """Nobody else's key, and no other node's name, speaks for it."""
    key, foreign = SigningKey.generate(), SigningKey.generate()
    officer = PARTIES.officers["fr"]

    def credential(key: SigningKey, node: str) -> Any:
        request = node_request("health", "fr", node, key)
        envelope = sign_credential(request, "health", officer, "fr", NOON - DAY, NOON + DAY)
        return verify_credential(envelope, PARTIES.roll, NOON)

    said = answer()
    own = credential(key, "fr-1")
    assert open_consent(seal_consent(said, key), own) == said
    with pytest.raises(InvalidIdentity, match="not signed by the node"):
        open_consent(seal_consent(said, foreign), own)
    with pytest.raises(InvalidIdentity, match="another node"):
        open_consent(seal_consent(dataclasses.replace(said, node="fr-2"), key), own)
    sealed = seal_consent(answer(policy=policy({})), key)
    assert not open_consent(sealed, own).valid_at(NOON)


# ------------------------------------------------------------------------------------------------------- privacy budgets

PRIVATE = JOB + "  privacy: {unit: member, epsilon: 4, delta: 1e-6}\n  secureAggregation: {clipNorm: 4}\n"


def sets_with(epsilon: float, unit: str = "member") -> dict[str, DataSet]:
    budget = PrivacyBudget.model_validate({"epsilon": epsilon, "delta": 1e-6, "unit": unit})
    return {**SETS, "digits": SETS["digits"].model_copy(update={"privacy_budget": budget})}


def test_a_job_that_does_not_fit_the_budget_is_denied_as_a_whole() -> None:
    assert answer(PRIVATE, data_sets=sets_with(4.0)).granted
    denied("budget: The privacy budget of data set digits is too small", PRIVATE, data_sets=sets_with(3.9))
    denied("budget: The privacy budget of data set digits is too small", PRIVATE, data_sets=sets_with(4.0, "record"))
    denied("the job has no differential privacy", data_sets=sets_with(100.0))
    assert answer(PRIVATE).granted, "no budget, no limit"


def test_files_that_a_budget_protects_are_not_to_be_had_under_another_name(tmp_path: Path) -> None:
    """The same folder, a link to it, one within it, one around it: each would have a ledger of its own, or none."""
    rows, inner = tmp_path / "lab" / "rows", tmp_path / "lab" / "rows" / "2026"
    inner.mkdir(parents=True)
    (tmp_path / "link").symlink_to(rows)
    (tmp_path / "other").mkdir()
    budget = PrivacyBudget(epsilon=9, delta=1e-6, unit="member")

    def sets(place: Path) -> dict[str, DataSet]:
        protected = DataSet(path=str(rows), examples=1000, privacy_budget=budget)
        return {"digits": DataSet(path=str(place), examples=1000), "scans": protected}

    for place in (rows, tmp_path / "link", inner, tmp_path / "lab", rows / ".." / "rows"):
        for job in (JOB, PRIVATE):
            denied(
                "budget: data set digits has files in common with one that has a privacy budget",
                job,
                data_sets=sets(place),
            )
    assert answer(data_sets=sets(tmp_path / "other")).granted


def test_what_other_jobs_spent_or_reserved_counts() -> None:
    manifest = manifest_of(PARTIES, PRIVATE)
    (planned,) = plans_of(manifest, ("digits",)).values()
    for charged, active in (({}, True), (planned, False)):
        held = Entry(b"\x07" * 32, "earlier", charged, planned, active)
        assert answer(PRIVATE, data_sets=sets_with(6.5), ledger=lambda _name, held=held: (held,)).granted
        denied("too small", PRIVATE, data_sets=sets_with(5.0), ledger=lambda _name, held=held: (held,))
    ended = Entry(b"\x07" * 32, "earlier", {}, planned, False)
    assert answer(PRIVATE, data_sets=sets_with(4.0), ledger=lambda _name: (ended,)).granted


def test_a_ledger_that_nobody_can_read_grants_nothing_with_noise() -> None:
    def lost(_name: str) -> tuple[Entry, ...]:
        raise BudgetExhausted("journal.db is lost.")

    denied("budget: journal.db is lost", PRIVATE, ledger=lost)
    assert answer(ledger=lost).granted


def test_a_lead_that_understates_epsilon_is_found_out() -> None:
    manifest = manifest_of(PARTIES, PRIVATE)
    stated = manifest.spec.privacy
    assert stated is not None
    spec = manifest.spec.model_copy(update={"privacy": stated.model_copy(update={"epsilon": 0.5})})
    lying = dataclasses.replace(manifest, job=manifest.job.model_copy(update={"spec": spec}))
    said = decide(lying, SITUATION)
    assert not said.granted
    assert said.reasons == ("privacy: the job states epsilon 0.5, and it costs 3.99999",)
