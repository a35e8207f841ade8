"""Each word of the vocabulary, in the lab's own file and in a pack: it denies what it names, it allows what it names, it says so in
a sentence, and what the job does not say does not pass."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from typing import Any

import pytest

from federation.errors import InvalidManifest
from federation.identity.keys import SigningKey
from federation.manifest.document import CodeSignature
from federation.policy.code import code_message
from federation.policy.question import Question, StatisticsAsked, StudyAsked
from federation.policy.rules import evaluate, load_policy
from federation.policy.vocabulary import BY_NAME, WORDS
from federation.sealing import recipient_key
from tests.unit.identity.parties import JOB, SEALING_KEY
from tests.unit.policy.asked import MANIFEST, WIDE, pack, policy, question

OWN_KEY = hashlib.sha256(recipient_key(SEALING_KEY)).hexdigest()
SIGNER = SigningKey.generate()
NAMED = JOB + "  participants: {members: [ch, fr, ke], minMembers: 3, maxMembers: 3}\n"
PRIVATE = JOB + "  privacy: {unit: member, epsilon: 4, delta: 1e-6}\n  secureAggregation: {clipNorm: 4}\n"
SUM = JOB + "  coordinatorView: sum\n"


def of_kind(kind: str, **changes: Any) -> Question:
    """No such manifest can be opened in this version."""
    return question(
        manifest=dataclasses.replace(MANIFEST, job=MANIFEST.job.model_copy(update={"kind": kind})), **changes
    )


def signed(key: SigningKey, message: bytes) -> Question:
    signature = CodeSignature.model_validate({"key": key.public.hex(), "signature": key.sign(message).hex()})
    spec = MANIFEST.spec.model_copy(update={"code_signatures": [signature]})
    return question(manifest=dataclasses.replace(MANIFEST, job=MANIFEST.job.model_copy(update={"spec": spec})))


def study(**changes: Any) -> Question:
    bounds: dict[str, Any] = {"runs": 5, "rounds": 50, "epsilon": 1.0, "bytes": 1000, "days": 9}
    return question(study=StudyAsked(**(bounds | changes)))


def compute(text: str) -> str:
    return JOB + f"  compute: {{{text}}}\n"


def job(text: str) -> Question:
    base = JOB.replace("  dataSet: digits\n", "") if text.startswith("dataSet") else JOB
    return question(base + f"  {text}\n")


GPU = "  resources: {gpus: 2}\n"
CODE = code_message(MANIFEST.bundle_digest)
Case = tuple[str, Any, Question, str]
"""word, its value, a question, and the sentence with which it denies or asks; empty: it does not object"""
CASES: list[Case] = [
    ("leads", ["lead"], question(), ""),
    ("leads", ["eve"], question(), "lead lead is not allowed"),
    ("jurisdictions", ["CH", "FR", "KE", "NO", "US"], question(), ""),
    ("jurisdictions", ["CH", "FR", "KE", "NO"], question(), "jurisdiction US is not allowed"),
    ("dataSets", ["digits"], question(), ""),
    ("dataSets", ["ages"], question(), "data set digits is not allowed"),
    ("minimumCohort", 3, question(), ""),
    ("minimumCohort", 4, question(), "the job may run with 3 members, this lab asks for at least 4"),
    ("jobKinds", ["TrainingJob"], question(), ""),
    ("jobKinds", ["EvaluationJob"], of_kind("EvaluationJob"), ""),
    ("jobKinds", ["EvaluationJob"], question(), "a TrainingJob is not allowed"),
    ("figures", ["loss", "accuracy"], job("metrics: {train: [loss], evaluate: [accuracy]}"), ""),
    ("figures", ["loss", "hits/*"], job("metrics: {train: [loss], evaluate: [hits/0, hits/1]}"), ""),
    ("figures", ["loss", "train/hits/*"], job("metrics: {train: [loss], evaluate: [hits/0]}"), "the job lets evaluate/hits/0"),
    ("figures", [], job("metrics: {train: [loss], evaluate: []}"), "the job lets train/loss leave as exact sums"),
    ("minimumJurisdictions", 2, job("participants: {minJurisdictions: 2}"), ""),
    ("minimumJurisdictions", 2, question(), "the job may run with 1, this lab asks for at least 2"),
    ("otherMembers", ["ch", "ke"], question(NAMED), ""),
    ("otherMembers", ["ch", "ke"], question(), "member no is not allowed"),
    ("mustInclude", ["ke"], question(NAMED), ""),
    ("mustInclude", ["ke"], question(), "the job may run without ke"),
    ("mustInclude", ["us"], question(NAMED), "the job may run without us"),
    ("mustInclude", ["ke"], job("participants: {members: [ch, fr, ke, no]}"), "the job may run without ke"),
    ("purposes", ["health", "climate"], job("purposes: [health]"), ""),
    ("purposes", ["health"], job("purposes: [health, pricing]"), "purpose pricing is not allowed"),
    ("purposes", ["health"], question(), "the job names no purpose"),
    ("purposeCodes", ["sdg:3"], job("purposeCodes: [sdg:3.4, sdg:3]"), ""),
    ("purposeCodes", ["sdg:3"], job("purposeCodes: [sdg:3, sdg:13]"), "sdg:13 is not allowed"),
    ("purposeCodes", ["sdg:3.4"], job("purposeCodes: [sdg:3]"), "sdg:3 is not allowed"),
    ("purposeCodes", ["sdg:3"], question(), "the job names no purpose code"),
    ("legalBasis", ["public-task"], job("legalBasis: public-task"), ""),
    ("legalBasis", ["consent", "public-task"], job("legalBasis: contract"), "the job's legal basis contract is not allowed"),
    ("legalBasis", ["public-task"], question(), "the job states no legal basis"),
    ("legalBasis", ["consent"], job("legalBasis: consent"), "the data that the job would use are held on a legal basis"),
    ("dataTags", ["scans", "texts"], question(), ""),
    ("dataTags", ["texts"], question(), "the data that the job would use carry none of the tags"),
    ("dataTags", ["scans"], question(facts=()), "the data that the job would use carry none of the tags"),
    ("neverTags", ["children"], question(), ""),
    ("neverTags", ["adults", "children"], question(), "the data that the job would use carry a tag that this lab excludes"),
    ("dataVersions", ["exact"], question(), ""),
    ("dataVersions", ["exact"], job("dataSet: {name: digits, versionRule: minor}"), "versionRule minor is not allowed"),
    ("bundles", [MANIFEST.bundle_digest.hex()], question(), ""),
    ("bundles", ["00" * 32], question(), f"the code with the digest {MANIFEST.bundle_digest.hex()} is not allowed"),
    ("codeSigners", [SIGNER.public.hex()], signed(SIGNER, CODE), ""),
    ("codeSigners", [SIGNER.public.hex()], question(), "none of the code signers"),
    ("codeSigners", [SIGNER.public.hex()], signed(SIGNER, code_message(bytes(32))), "none of the code signers"),
    ("codeSigners", ["00" * 32], signed(SIGNER, CODE), "none of the code signers"),
    ("runtimeDigests", ["bb" * 32], job(f"runtime: {{digest: {'bb' * 32}}}"), ""),
    ("runtimeDigests", ["bb" * 32], question(), "the job names no runtime"),
    ("runtimeDigests", ["bb" * 32], job(f"runtime: {{digest: {'cc' * 32}}}"), f"the runtime {'cc' * 32} is not allowed"),
    ("runtimeDigests", ["cc" * 32], job(f"runtime: {{digest: {'cc' * 32}}}"), "this node's runtime is another"),
    ("coordinatorView", ["blind"], question(), ""),
    ("coordinatorView", ["blind"], question(SUM), "coordinatorView sum is not allowed"),
    ("recipients", [{"name": "Ana", "key": OWN_KEY}], question(), ""),
    ("recipients", [{"name": "Ana", "key": "00" * 32}], question(), "'A lead' would receive the release"),
    ("recipients", [{"name": "Ana", "key": OWN_KEY}], question(SUM), "the coordinator would receive each sum"),
    ("audience", ["members"], job("release: {audience: members}"), ""),
    ("audience", ["members"], job("release: {audience: public}"), "audience public is not allowed"),
    ("audience", ["members"], question(), "the job does not say for whom its release is"),
    ("licences", ["CC-BY-4.0"], job("release: {licence: CC-BY-4.0}"), ""),
    ("licences", ["CC-BY-4.0"], job("release: {licence: MIT}"), "licence MIT is not allowed"),
    ("licences", ["CC-BY-4.0"], question(), "the job names no licence"),
    ("errorDetail", ["none"], job("errorDetail: none"), ""),
    ("errorDetail", ["none"], question(), "errorDetail location is not allowed"),
    ("strategies", ["FedAvg"], question(), ""),
    ("strategies", ["FedProx"], question(), "FedAvg is not allowed"),
    ("maxRounds", 10, question(), ""),
    ("maxRounds", 9, question(), "the job has 10 rounds, this lab allows 9"),
    ("privacy", {"unit": "member", "maxEpsilon": 4}, question(PRIVATE), ""),
    ("privacy", {"unit": "member"}, question(), "the job has no differential privacy"),
    ("privacy", {"unit": "member", "maxEpsilon": 3}, question(PRIVATE), "the job spends 4 for a member"),
    ("hardware", ["cpu"], question(), ""),
    ("hardware", ["gpu"], question(JOB + GPU), ""),
    ("hardware", ["cpu"], question(JOB + GPU), "the job asks for GPUs"),
    ("hardware", ["gpu"], question(), "the job asks for no GPU"),
    ("maxGpus", 2, question(JOB + GPU), ""),
    ("maxGpus", 1, question(JOB + GPU), "the job asks for 2 GPUs, this lab lends 1"),
    ("maxGpuHours", 8, question(compute("gpuHours: 8") + GPU), ""),
    ("maxGpuHours", 0, question(), ""),
    ("maxGpuHours", 8, question(compute("gpuHours: 8.5") + GPU), "the job states 8.5 GPU hours of this member, this lab allows 8"),
    ("maxGpuHours", 8, question(JOB + GPU), "the job does not state how many GPU hours"),
    ("maxModelParameters", 1000, question(compute("modelParameters: 1000")), ""),
    ("maxModelParameters", 999, question(compute("modelParameters: 1000")), "1000 model parameters, this lab allows 999"),
    ("maxModelParameters", 999, question(), "the job does not state how many model parameters"),
    ("maxTrainingExaflop", 10_000_000, question(compute("trainingExaflop: 10000000")), ""),
    ("maxTrainingExaflop", 9_999_999, question(compute("trainingExaflop: 10000000")), "states 10000000 times 10^18 training"),
    ("maxTrainingExaflop", 1, question(), "the job does not state how many times 10^18"),
    ("maxEnergyKwh", 2.5, question(compute("energyKwh: 2.5")), ""),
    ("maxEnergyKwh", 2, question(compute("energyKwh: 2.5")), "the job states 2.5 kWh of electricity, this lab allows 2"),
    ("maxEnergyKwh", 2, question(), "the job does not state how many kWh"),
    ("maxBytesPerDay", "2Gi", question(compute("bytesPerDay: 2G")), ""),
    ("maxBytesPerDay", "2G", question(compute("bytesPerDay: 2Gi")), "the job states 2147483648 bytes in a day"),
    ("maxBytesPerDay", "2G", question(), "the job does not state how many bytes in a day"),
    ("maxRetentionDays", 90, job("retentionDays: 90"), ""),
    ("maxRetentionDays", 90, job("retentionDays: 91"), "91 days until its lead deletes what it produced, this lab"),
    ("maxRetentionDays", 90, question(), "the job does not state how many days until"),
    ("noticeHours", 24, job("deadlines: {consentSeconds: 86400}"), ""),
    ("noticeHours", 24, question(), "the job gives its members 0.0833333 hours to answer, this lab asks for at least 24"),
    ("statistics", {"allowed": ["mean"], "floor": 10}, of_kind("StatisticsJob", statistics=StatisticsAsked(("mean",), 10)), ""),
    ("statistics", {"allowed": ["mean"], "floor": 10}, question(), ""),
    ("statistics", {"allowed": [], "floor": 10}, of_kind("StatisticsJob", statistics=StatisticsAsked(("max",), 10)), "max is not"),
    (
        "statistics", {"allowed": ["mean"], "floor": 10}, of_kind("StatisticsJob", statistics=StatisticsAsked(("mean",), 9)),
        "the job answers over 9 records, this lab asks for at least 10",
    ),
    ("statistics", {"allowed": ["mean"], "floor": 10}, of_kind("StatisticsJob"), "the job does not say which statistics"),
    ("study", {"maxRuns": 5, "maxRounds": 50, "maxEpsilon": 1, "maxBytes": "1k", "maxDays": 9}, study(), ""),
    ("study", {}, study(runs=None, rounds=None, epsilon=None, bytes=None, days=None), ""),
    ("study", {"maxRuns": 4}, study(), "the study asks for runs 5, this lab allows 4"),
    ("study", {"maxRounds": 49}, study(), "the study asks for rounds 50, this lab allows 49"),
    ("study", {"maxEpsilon": 0.5}, study(), "the study asks for epsilon 1, this lab allows 0.5"),
    ("study", {"maxBytes": "999"}, study(), "the study asks for bytes 1000, this lab allows 999"),
    ("study", {"maxDays": 8}, study(days=None), "the study sets no bound to its days, and this lab does"),
    ("expires", "2026-07-01", question(), ""),
    ("expires", "2026-06-30", question(), "these rules ended on 2026-06-30, and it is 2026-07-01"),
    ("expires", "2026-07-01", question(date=""), "this node does not know the day"),
    ("askAbove", {"trainingExaflop": 5}, question(compute("trainingExaflop: 5")), ""),
    ("askAbove", {"trainingExaflop": 5}, question(compute("trainingExaflop: 5.1")), "the job has 5.1 training operations"),
    ("askAbove", {"trainingExaflop": 5}, question(), "the job does not state its training operations"),
    ("askAbove", {"modelParameters": 5}, question(compute("modelParameters: 6")), "the job has 6 parameters of the model"),
    ("askAbove", {"gpuHours": 5}, question(compute("gpuHours: 6") + GPU), "the job has 6 GPU hours"),
    ("askAbove", {"gpuHours": 5}, question(), ""),
    ("askAbove", {"energyKwh": 5}, question(compute("energyKwh: 6")), "the job has 6 kWh of electricity"),
    ("askAbove", {"rounds": 9}, question(), "the job has 10 rounds, and above 9 this lab's people decide"),
    ("askAbove", {"epsilon": 5}, question(PRIVATE), ""),
    ("askAbove", {"epsilon": 3}, question(PRIVATE), "the job has 4 epsilon"),
    ("askAbove", {"epsilon": 3}, question(), "the job does not state its epsilon"),
    ("askAlways", False, question(), ""),
    ("askAlways", True, question(), "this lab's people decide on every job"),
    ("deputies", ["dr-wanjiru"], question(), ""),
    ("sandbox", "required", question(), ""),
    ("sandbox", "required", question(sandbox="none"), "this lab runs tasks in a sandbox only"),
    ("memoryLimit", "1Gi", question(), ""),
    ("memoryLimit", "1G", question(), "the job asks for 1Gi, more than this lab lends"),
    ("hours", "08:00-18:00", question(), ""),
    ("hours", "20:00-06:00", question(), "this lab lends the node from 20:00-06:00, and it is 12:00"),
]  # fmt: skip
NAMES = [f"{index}-{case[0]}-{case[3][:30] or 'allows'}" for index, case in enumerate(CASES)]
BASE: dict[str, Any] = {**WIDE, "jobKinds": ["TrainingJob", "EvaluationJob", "StatisticsJob"], "study": {}}
BASE["figures"] = [*WIDE["figures"], "hits/*"]
BASE["statistics"] = {"allowed": ["mean", "max"], "floor": 2}


def wide_with(word: str, value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    at_top = {word: value} if BY_NAME[word].at_top else {}
    rules = {name: rule for name, rule in BASE.items() if name != word}
    return (rules if at_top else {**rules, word: value}), {"sandbox": "optional", **at_top}


@pytest.mark.parametrize(("word", "value", "asked", "sentence"), CASES, ids=NAMES)
def test_a_word_of_the_lab_s_own_file(word: str, value: Any, asked: Question, sentence: str) -> None:
    rules, top = wide_with(word, value)
    said = evaluate(policy(rules, **top), asked)
    expected = "granted" if not sentence else "asks" if word.startswith("ask") else "denied"
    assert said.outcome == expected, said.reasons
    if sentence:
        finding = next(finding for finding in said.deciding if sentence in finding.sentence)
        assert finding.rule.startswith(BY_NAME[word].rule)
        assert finding.line > 0
        assert finding.text.startswith(f"{finding.rule}: ")
        assert all(each.rule.startswith(BY_NAME[word].rule) for each in said.deciding)


@pytest.mark.parametrize(("word", "value", "asked", "sentence"), CASES, ids=NAMES)
def test_the_same_word_in_a_pack_takes_the_same_away(word: str, value: Any, asked: Question, sentence: str) -> None:
    top = {word: value} if BY_NAME[word].at_top else {}
    law = pack({} if top else {word: value}, **top)
    wide = policy(BASE, sandbox="optional")
    assert word == "statistics" or evaluate(wide, asked).granted
    said = evaluate(wide.under([law]), asked)
    assert said.outcome == ("granted" if not sentence else "asks" if word.startswith("ask") else "denied"), said.reasons
    from_pack = [finding for finding in said.deciding if finding.layer == "national"]
    assert bool(from_pack) == bool(sentence)
    for finding in from_pack:
        assert finding.pack == "ke-law"
        assert finding.text.endswith(f"(national pack ke-law, line {finding.line})")


def test_every_word_is_tried_with_a_job_that_it_allows_and_one_that_it_does_not() -> None:
    allowed = {word for word, _, _, sentence in CASES if not sentence}
    objected = {word for word, _, _, sentence in CASES if sentence}
    assert allowed == set(BY_NAME)
    assert objected == set(BY_NAME) - {"deputies"}  # says who decides, not whether


@pytest.mark.parametrize(
    ("rules", "detail"),
    [
        ({"dataTags": ["texts"]}, "digits carries none of texts"),
        ({"neverTags": ["children", "adults"]}, "digits carries adults"),
        ({"legalBasis": ["consent"]}, "digits is held on public-task"),
    ],
)
def test_what_a_data_set_is_like_is_told_to_the_lab_alone(rules: dict[str, Any], detail: str) -> None:
    """A denial goes to the lead by way of the coordinator: it tells no more than the lab has published."""
    said = evaluate(policy({**WIDE, **rules}), job("legalBasis: consent"))
    (finding,) = said.deciding
    assert finding.detail == detail
    (reason,) = said.reasons
    assert not {"digits", "adults", "children", "texts", "public-task"} & set(re.split(r"[^a-z-]", reason))


@pytest.mark.parametrize("word", [word.name for word in WORDS], ids=str)
def test_every_word_is_a_sentence_for_people(word: str) -> None:
    for name, value, _, _ in CASES:
        if name == word:
            rules, top = wide_with(word, value)
            sentence = BY_NAME[word].meaning(policy(rules, **top).own.values[word])
            assert sentence[0].isupper()
            assert sentence.endswith(".")
            assert "None" not in sentence


WORDS_OF = {
    1: {
        "leads", "jurisdictions", "dataSets", "minimumCohort", "jobKinds", "figures", "minimumJurisdictions", "otherMembers",
        "mustInclude", "purposes", "purposeCodes", "legalBasis", "dataTags", "neverTags", "dataVersions", "bundles",
        "codeSigners", "runtimeDigests", "coordinatorView", "recipients", "audience", "licences", "errorDetail", "strategies",
        "maxRounds", "privacy", "hardware", "maxGpus", "maxGpuHours", "maxModelParameters", "maxTrainingExaflop", "maxEnergyKwh",
        "maxBytesPerDay", "maxRetentionDays", "noticeHours", "statistics", "study", "expires", "askAbove", "askAlways", "deputies",
        "sandbox", "memoryLimit", "hours",
    }
}  # fmt: skip


def test_a_vocabulary_is_closed_a_further_word_takes_a_further_number() -> None:
    """Nodes that know vocabulary 1 must be able to say what they lack."""
    assert {word.name for word in WORDS} == WORDS_OF[1]


def denied_by(rules: Mapping[str, Any]) -> str:
    with pytest.raises(InvalidManifest) as raised:
        policy({**WIDE, **rules})
    return str(raised.value)


@pytest.mark.parametrize(
    "rules",
    [
        {"maxGpuHours": -1}, {"maxGpuHours": 1e13}, {"maxGpuHours": "many"}, {"maxGpuHours": True}, {"noticeHours": 0},
        {"noticeHours": 721}, {"purposeCodes": ["sdg:18"]}, {"purposeCodes": ["sdg:3.14"]}, {"expires": "2026-02-30"},
        {"expires": "01.02.2026"}, {"bundles": ["abc"]}, {"codeSigners": ["zz" * 32]}, {"coordinatorView": ["clear"]},
        {"legalBasis": ["because"]}, {"statistics": {"allowed": [], "floor": 1}}, {"statistics": {"floor": 10}},
        {"study": {"maxRuns": 0}}, {"askAbove": {"flops": 1}}, {"dataVersions": ["any"]}, {"deputies": ["Dr. Wanjiru"]},
        {"recipients": [{"name": "Ana"}]}, {"jobKinds": []}, {"leads": ["lead", "lead"]}, {"maxRetentionDays": 36501},
        {"hardware": ["tpu"]}, {"mustInclude": "ke"}, {"licences": ["CC BY"]}, {"maxBytesPerDay": "1GB"},
    ],
    ids=str,
)  # fmt: skip
def test_a_value_out_of_bounds_is_refused(rules: Mapping[str, Any]) -> None:
    assert denied_by(rules).startswith("policy.yaml:")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "vocabulary: 2\n",
            "policy.yaml:3: vocabulary: update needed: it is written in vocabulary 2, and this node knows 1",
        ),
        (
            "rules: {maxLead: 3}\n",
            "policy.yaml:3: rules.maxLead: unknown field.",
        ),
        ("rules:\n  privacy: {unit: member, maxRho: 1}\n", "policy.yaml:4: rules.privacy.maxRho: unknown field."),
        ("rules:\n  maxRounds:\n", "policy.yaml:4: rules.maxRounds: stands there without a value"),
        ("rules: {leads: [~]}\n", "policy.yaml:3: rules.leads[0]: stands there without a value"),
        ("rules: {}\nhours: ~\n", "policy.yaml:4: hours: stands there without a value"),
    ],
)
def test_what_this_node_does_not_know_or_is_half_said_is_refused_with_its_line(line: str, told: str) -> None:
    with pytest.raises(InvalidManifest) as raised:
        load_policy(f"apiVersion: concord/v1\nkind: NodePolicy\n{line}", "policy.yaml")
    assert str(raised.value).startswith(told)
    assert raised.value.hint
