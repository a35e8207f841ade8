"""Packs beside the lab's own file: the strictest wins, nothing widens, order does not matter, verdicts are alike everywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.errors import InvalidManifest
from federation.policy.pack import Unread, load_pack
from federation.policy.question import Question
from federation.policy.rules import evaluate
from federation.policy.vocabulary import BY_NAME
from tests.unit.identity.parties import JOB
from tests.unit.policy.asked import MANIFEST, PARTIES, WIDE, pack, pack_text, policy, policy_text, question

RANK: Final = {"denied": 0, "asks": 1, "granted": 2}
SAID = (
    "  purposes: [health]\n  purposeCodes: [sdg:3.4]\n  legalBasis: public-task\n  retentionDays: 90\n"
    "  compute: {trainingExaflop: 5, modelParameters: 100, energyKwh: 2, bytesPerDay: 1G}\n"
)
ASKED = (
    question(),
    question(JOB + SAID),
    question(JOB + "  coordinatorView: sum\n  errorDetail: none\n"),
    question(JOB + SAID + "  participants: {members: [ch, fr, ke], minMembers: 3, minJurisdictions: 3}\n", now="22:00"),
    question(
        JOB + SAID + "  release: {audience: public, licence: MIT}\n  rounds: 3\n", sandbox="none", date="2030-01-01"
    ),
    question(JOB + "  deadlines: {consentSeconds: 90000}\n  resources: {gpus: 1}\n"),
)


def some(*items: str) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(items), unique=True)


LIMITS: Final[dict[str, st.SearchStrategy[Any]]] = {
    "figures": some("train_loss", "loss", "evaluate/loss", "eval_loss", "eval_acc", "accuracy"),
    "minimumJurisdictions": st.integers(1, 4),
    "otherMembers": some("ch", "ke", "no", "us"),
    "mustInclude": some("ch", "ke", "us"),
    "purposes": some("health", "climate"),
    "purposeCodes": some("sdg:3", "sdg:3.4", "sdg:13"),
    "legalBasis": some("public-task", "consent"),
    "dataTags": some("scans", "texts"),
    "neverTags": some("adults", "children"),
    "dataVersions": some("exact", "minor"),
    "bundles": st.lists(st.sampled_from([MANIFEST.bundle_digest.hex(), "00" * 32]), unique=True),
    "coordinatorView": some("blind", "sum"),
    "audience": some("members", "public"),
    "licences": some("MIT", "CC-BY-4.0"),
    "errorDetail": some("location", "none"),
    "strategies": some("FedAvg", "FedProx"),
    "maxRounds": st.integers(1, 12),
    "hardware": some("cpu", "gpu"),
    "maxGpus": st.integers(0, 2),
    "maxGpuHours": st.integers(0, 2),
    "maxModelParameters": st.integers(99, 101),
    "maxTrainingExaflop": st.integers(4, 6),
    "maxEnergyKwh": st.integers(1, 3),
    "maxBytesPerDay": st.sampled_from(["1G", "1Gi", "999"]),
    "maxRetentionDays": st.integers(89, 91),
    "noticeHours": st.integers(1, 30),
    "expires": st.sampled_from(["2026-06-30", "2026-07-01", "2031-01-01"]),
    "askAbove": st.fixed_dictionaries(
        {}, optional={"trainingExaflop": st.integers(4, 6), "rounds": st.integers(2, 11)}
    ),
    "askAlways": st.booleans(),
    "deputies": some("asha", "ben"),
    "minimumCohort": st.integers(3, 4),
    "leads": some("lead", "eve"),
    "jurisdictions": some("CH", "FR", "KE", "NO", "US"),
    "dataSets": some("digits", "ages"),
}
GRANTS: Final = {word.name for word in BY_NAME.values() if word.grants}
RULES = st.lists(st.sampled_from(sorted(LIMITS)), unique=True, max_size=4).flatmap(
    lambda names: st.fixed_dictionaries({name: LIMITS[name] for name in names})
)
OWN = RULES.map(lambda rules: {**WIDE, **rules})


@settings(deadline=None, max_examples=40)
@given(OWN, st.lists(RULES, max_size=3), RULES, st.sampled_from(ASKED))
def test_a_further_pack_never_widens(own: Any, packs: Any, further: Any, asked: Question) -> None:
    """granted -> asks -> denied, and never back."""
    held = policy(own).under([pack(rules, f"p{index}") for index, rules in enumerate(packs)])
    before, after = evaluate(held, asked), evaluate(held.under([pack(further, "further", "base")]), asked)
    assert RANK[after.outcome] <= RANK[before.outcome]
    assert set(before.findings) <= set(after.findings) | {f for f in before.findings if f.rule == "rules.deputies"}
    if before.deputies is not None:
        assert after.deputies is not None
        assert set(after.deputies) <= set(before.deputies)


@settings(deadline=None, max_examples=40)
@given(OWN, st.sampled_from(sorted(set(LIMITS) - GRANTS - {"figures"})), st.data(), st.sampled_from(ASKED))
def test_a_further_rule_never_widens(own: Any, name: str, data: Any, asked: Question) -> None:
    """Of those that are limits; in the lab's own file, and in a pack the grants, too."""
    if name not in own:
        value = data.draw(LIMITS[name])
        after = evaluate(policy({**own, name: value}), asked)
        assert RANK[after.outcome] <= RANK[evaluate(policy(own), asked).outcome]
    grant = data.draw(st.sampled_from(["leads", "jurisdictions", "dataSets", "minimumCohort"]))
    law = {key: value for key, value in own.items() if key not in WIDE}
    held = policy(WIDE)
    widened = evaluate(held.under([pack({**law, grant: data.draw(LIMITS[grant])})]), asked)
    assert RANK[widened.outcome] <= RANK[evaluate(held.under([pack(law)]), asked).outcome]


def test_a_pack_grants_nothing_that_the_lab_s_own_file_does_not() -> None:
    for left_out in ("leads", "jurisdictions", "dataSets", "minimumCohort"):
        own = {name: value for name, value in WIDE.items() if name != left_out}
        said = evaluate(policy(own).under([pack({left_out: WIDE[left_out]}, layer="base")]), question())
        assert said.outcome == "denied"
        assert [finding.rule for finding in said.deciding] == [f"rules.{left_out}"]


def shuffled(value: Any, random: Any) -> Any:
    """The same in another order: keys of mappings, items of lists."""
    if isinstance(value, dict):
        keys = list(value)
        random.shuffle(keys)
        return {key: shuffled(value[key], random) for key in keys}
    if isinstance(value, list):
        items = [shuffled(item, random) for item in value]
        random.shuffle(items)
        return items
    return value


@settings(deadline=None, max_examples=40)
@given(OWN, st.lists(RULES, max_size=3), st.sampled_from(ASKED), st.randoms(use_true_random=False))
def test_the_order_of_packs_rules_keys_and_items_does_not_matter(
    own: Any, packs: Any, asked: Question, random: Any
) -> None:
    """To the byte."""
    named = [(f"p{index}", rules) for index, rules in enumerate(packs)]
    said = evaluate(policy(own).under([pack(rules, name) for name, rules in named]), asked)
    random.shuffle(named)
    held = policy(shuffled(own, random))
    for name, rules in named:
        held = held.under([pack(shuffled(rules, random), name)])
    again = evaluate(held, asked)
    assert again.to_bytes() == said.to_bytes()
    assert again.digest == said.digest


def test_every_reason_of_every_pack_is_there_with_its_pack_rule_and_line() -> None:
    base = pack({"maxRounds": 5, "coordinatorView": ["blind"]}, "federation", "base")
    law = pack({"maxRounds": 7, "neverTags": ["adults"]}, "ke-law")
    said = evaluate(policy({**WIDE, "maxRounds": 9}).under([law, base]), question())
    assert [(finding.pack, finding.rule, finding.line) for finding in said.deciding] == [
        ("policy.yaml", "rules.maxRounds", 21),
        ("federation", "rules.maxRounds", 8),
        ("ke-law", "rules.neverTags", 9),
        ("ke-law", "rules.maxRounds", 8),
    ]
    assert said.decided_by == "policy.yaml, federation, ke-law"
    assert said.reasons[1] == "rules.maxRounds: the job has 10 rounds, this lab allows 5 (base pack federation, line 8)"
    assert [(pack.name, pack.layer, pack.serial) for pack in said.packs] == [
        ("policy.yaml", "own", 0),
        ("federation", "base", 1),
        ("ke-law", "national", 1),
    ]


def test_a_person_is_asked_only_where_nothing_denies_and_says_whom() -> None:
    ask = pack({"askAbove": {"rounds": 5}, "deputies": ["asha", "ben"]}, "asks")
    said = evaluate(policy(WIDE).under([ask]), question())
    assert (said.outcome, said.granted, said.needs_person, said.deputies) == ("asks", False, True, ("asha", "ben"))
    assert said.reasons == (
        "rules.askAbove.rounds: the job has 10 rounds, and above 5 this lab's people decide; a person must decide "
        "(national pack asks, line 8)",
    )
    fewer = evaluate(policy({**WIDE, "deputies": ["ben", "carla"]}).under([ask]), question())
    assert fewer.deputies == ("ben",)
    nobody = evaluate(policy({**WIDE, "deputies": ["carla"]}).under([ask]), question())
    assert nobody.outcome == "denied"
    assert "name nobody who may" in nobody.reasons[0]
    assert evaluate(policy({**WIDE, "maxRounds": 5}).under([ask]), question()).outcome == "denied"


def test_what_limits_each_roster_and_each_worker_is_the_strictest_of_all() -> None:
    held = policy({**WIDE, "minimumCohort": 4}, memoryLimit="2Gi", sandbox="optional")
    assert (held.minimum_cohort, held.memory_limit, held.sandbox_required) == (4, 2 << 30, False)
    strict = held.under(
        [pack({"minimumCohort": 5}, memoryLimit="1Gi", sandbox="required"), pack({"minimumCohort": 3}, "b")]
    )
    assert (strict.minimum_cohort, strict.memory_limit, strict.sandbox_required) == (5, 1 << 30, True)


# ------------------------------------------------------------------------------------------------------------ what is not read


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (pack_text({"maxKelvin": 3}), "ke.yaml:8: rules.maxKelvin: update needed: rules.maxKelvin is an unknown field"),
        (pack_text({}, vocabulary=2), "ke.yaml:8: vocabulary: update needed: it is written in vocabulary 2"),
        (pack_text({}, vocabulary=2, laws={"a": 1}), "ke.yaml:8: vocabulary: update needed"),
        (pack_text({}, layer="world"), "ke.yaml:5: metadata.layer"),
        (pack_text({}, serial=0), "ke.yaml:6: metadata.serial"),
        (pack_text({}, name="Ke Law"), "ke.yaml:4: metadata.name"),
        (pack_text({}, sandbox="optional"), "ke.yaml:8: sandbox"),
        (pack_text({}).replace("PolicyPack", "NodePolicy"), "ke.yaml:2: kind"),
    ],
)
def test_a_pack_that_is_not_understood_is_refused(text: str, told: str) -> None:
    with pytest.raises(InvalidManifest) as raised:
        load_pack(text, "ke.yaml")
    assert str(raised.value).startswith(told)


def test_a_pack_that_cannot_be_read_denies_every_job_and_says_so() -> None:
    trouble = Unread("ke-law.yaml", "national", "update needed: rules.maxKelvin is an unknown field")
    said = evaluate(policy(WIDE).under([], [trouble]), question())
    assert said.reasons == ("pack: update needed: rules.maxKelvin is an unknown field (national pack ke-law.yaml)",)
    assert said.outcome == "denied"


def test_two_packs_of_one_name_deny() -> None:
    said = evaluate(policy(WIDE).under([pack({}), pack({"maxRounds": 50})]), question())
    assert said.outcome == "denied"
    assert "two packs of this node have the name ke-law" in said.reasons[0]


# ---------------------------------------------------------------------------------------------------------- every platform alike

ELSEWHERE: Final = """
import json, locale, sys
try:
    locale.setlocale(locale.LC_ALL, "")
except locale.Error:
    pass
from federation.identity.roll import Roll
from federation.manifest.manifest import open_manifest
from federation.policy.pack import load_pack
from federation.policy.question import DataFacts, Question
from federation.policy.rules import evaluate, load_policy
given = json.load(sys.stdin)
roll = Roll.open(bytes.fromhex(given["roll"]))
manifest = open_manifest(bytes.fromhex(given["manifest"]), roll)
policy = load_policy(given["own"], "policy.yaml").under([load_pack(text, "pack.yaml") for text in given["packs"]])
facts = (DataFacts("digits", ("scans", "adults"), "public-task"),)
asked = Question(manifest, roll, "fr", ("digits",), "12:00", "bubblewrap", "2026-07-01", facts, "bb" * 32)
sys.stdout.buffer.write(evaluate(policy, asked).to_bytes())
"""


def test_the_verdict_is_the_same_to_the_byte_whatever_the_platform_s_hash_seed_time_zone_and_locale() -> None:
    text = JOB + SAID + "  compute: {energyKwh: 1234567.891, gpuHours: 0.1}\n".replace("compute", "runConfig")
    own = {
        **WIDE,
        "maxEnergyKwh": 1.5,
        "privacy": {"unit": "member", "maxDelta": 1e-7},
        "neverTags": ["adults", "scans"],
    }
    packs = [
        pack_text({"otherMembers": ["ch"], "askAbove": {"trainingExaflop": 0.25}, "deputies": ["ben", "asha"]}, "b"),
        pack_text({"mustInclude": ["us", "ke", "ch"], "recipients": []}, "a", "base"),
    ]
    asked = question(text)
    held = policy(own).under([load_pack(each, "pack.yaml") for each in packs])
    here = evaluate(held, asked)
    assert len(here.deciding) > 8
    given_ = {
        "roll": PARTIES.roll.envelope.hex(),
        "manifest": asked.manifest.envelope.hex(),
        "own": policy_text(own),
        "packs": packs[::-1],
    }
    for seed, zone, locale in (
        ("0", "UTC", "C"),
        ("1", "Asia/Kathmandu", "de_DE.UTF-8"),
        ("4242", "America/St_Johns", "C.UTF-8"),
    ):
        run = subprocess.run(
            [sys.executable, "-c", ELSEWHERE],
            input=json.dumps(given_).encode(),
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": locale},
            cwd=Path(__file__).resolve().parents[3],
            capture_output=True,
            check=True,
        )
        assert run.stdout == here.to_bytes()
