"""The law of a study: a run lies inside exactly when each of its words does, and what is told apart is all that differs."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.errors import InvalidIdentity, InvalidManifest
from federation.identity.envelope import canonical, open_envelope, seal
from federation.identity.fields import moment_text
from federation.identity.keys import SigningKey
from federation.manifest.document import load_job
from federation.manifest.manifest import Manifest
from federation.manifest.study import Study, Used, Vary, bytes_bound, exceeded, load_study, open_study, outside
from tests.unit.identity.parties import APP, found
from tests.unit.manifest.studied import BOUNDS, SPEC, now, run_of, sealed_study, study_of

ROOT = Path(__file__).resolve().parents[3]
PARTIES = found("ch", "fr", "ke")
STUDY = study_of(PARTIES)
OTHER = study_of(PARTIES, name="other")
END = moment_text(now() + timedelta(days=20))


def run(**changes: Any) -> Manifest:
    return run_of(PARTIES, changes.pop("study", STUDY), **changes)


def fields(study: Study, manifest: Manifest) -> list[str]:
    return [each.field for each in outside(study, manifest)]


# --------------------------------------------------------------------------------------------------------- inside, outside

WORDS: dict[str, tuple[dict[str, Any], str]] = {
    "rate": ({"rate": 4.5}, "spec.runConfig.rate"),
    "size": ({"size": 11}, "spec.runConfig.size"),
    "kind": ({"kind": "round"}, "spec.runConfig.kind"),
    "deep": ({"deep": True}, "spec.runConfig.deep"),
    "new": ({"new": 1}, "spec.runConfig.new"),
    "rounds": ({"spec": {"rounds": 2}}, "spec.rounds"),
    "steps": ({"spec": {"localSteps": 5}}, "spec.localSteps"),
    "data": ({"spec": {"dataSet": "others"}}, "spec.dataSet.name"),
    "members": ({"spec": {"participants": {"minMembers": 4, "maxMembers": 9}}}, "spec.participants.minMembers"),
    "figures": ({"spec": {"metrics": {"train": ["loss"]}}}, "spec.metrics.train"),
    "labels": ({"metadata": {"labels": {"a": "b"}}}, "metadata.labels.a"),
    "description": ({"metadata": {"description": "other"}}, "metadata.description"),
    "study": ({"study": OTHER}, "metadata.study"),
    "code": ({"files": {**APP, "tiny/more.py": b"x = 1\n"}}, "spec.bundle.files.tiny/more.py"),
}
"""each takes one word of a run outside; the field that is told of it"""


def together(changes: list[dict[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for each in changes:
        for name, value in each.items():
            merged[name] = {**merged[name], **value} if isinstance(value, dict) and name in merged else value
    return merged


INSIDE = st.fixed_dictionaries(
    {
        "rate": st.floats(0.25, 4),
        "size": st.sampled_from([10, 20]),
        "kind": st.sampled_from(["wide", "narrow"]),
        "nonce": st.binary(min_size=16, max_size=16),
        "name": st.sampled_from(["a", "run-7", "search"]),
    }
)


@settings(max_examples=40, deadline=None)
@given(INSIDE, st.sets(st.sampled_from(sorted(WORDS)), max_size=4))
def test_a_run_is_inside_exactly_when_each_word_is_and_the_differences_are_those_words(
    inside: dict[str, Any], strayed: set[str]
) -> None:
    changes = together([WORDS[word][0] for word in sorted(strayed)])
    told = fields(STUDY, run(**{**inside, **changes}))
    expected = {WORDS[word][1] for word in strayed}
    if "members" in strayed:
        expected.add("spec.participants.maxMembers")
    if "code" in strayed:
        expected.add("spec.bundle.digest")
    assert set(told) == expected
    assert len(told) == len(set(told))
    assert told == sorted(told)


@settings(max_examples=60, deadline=None)
@given(st.floats(-10, 10), st.floats(0, 3), st.floats(0, 3), st.floats(-10, 10))
def test_a_wider_range_never_turns_inside_to_outside(least: float, width: float, more: float, value: float) -> None:
    narrow = Vary.model_validate({"least": least, "most": least + width})
    wide = Vary.model_validate({"least": least - more, "most": least + width + more})
    assert (narrow.beyond(1.0, value) == "") == (least <= value <= least + width)
    if not narrow.beyond(1.0, value):
        assert not wide.beyond(1.0, value)


SCALARS = st.floats(-100, 100) | st.integers(-100, 100) | st.booleans() | st.text("ab1", max_size=2)


@settings(max_examples=100, deadline=None)
@given(SCALARS, st.lists(SCALARS, min_size=1, max_size=4), st.lists(SCALARS, max_size=3), SCALARS)
def test_more_values_never_turn_inside_to_outside_and_types_count(own: Any, values: Any, more: Any, value: Any) -> None:
    narrow, wide = (Vary.model_validate({"values": each}) for each in (values, [*values, *more]))
    if not narrow.beyond(own, value):
        assert not wide.beyond(own, value)
        assert type(value) is type(own)
    like = [each for each in values if type(each) is type(value) and each == value]
    if like and type(own) is type(value):
        assert not narrow.beyond(own, value)


def test_whole_fractions_in_a_list_stay_fractions() -> None:
    """Canonical JSON writes 1.0 as 1: what was meant is said by the job's own value."""
    study = study_of(PARTIES, vary={"rate": {"values": [0.5, 1.0, 2.0]}, "size": {"values": [10, 20]}})
    for rate in (0.5, 1.0, 2.0):
        assert fields(study, run_of(PARTIES, study, rate=rate)) == []
    assert fields(study, run_of(PARTIES, study, rate=1)) == ["spec.runConfig.rate"]
    assert fields(study, run_of(PARTIES, study, size=20)) == []
    assert fields(study, run_of(PARTIES, study, size=20.0)) == ["spec.runConfig.size"]


def test_a_seed_that_the_study_names_is_that_of_every_run() -> None:
    fixed = study_of(PARTIES, spec={"model": {"seed": 7}})
    assert fields(fixed, run_of(PARTIES, fixed, spec={"model": {"seed": 7}})) == []
    assert fields(fixed, run_of(PARTIES, fixed)) == ["spec.model.seed"]
    assert fields(STUDY, run(spec={"model": {"seed": 7}})) == []


# ----------------------------------------------------------------------------------------------------------------- bounds

USED = st.builds(Used, st.integers(0, 6), st.integers(0, 30), st.integers(0, 2 << 20))


@settings(max_examples=25, deadline=None)
@given(USED, st.integers(1, 6), st.integers(4, 40), st.integers(0, 2), st.integers(-30, 30))
def test_a_run_fits_exactly_when_every_bound_holds(used: Used, runs: int, rounds: int, mebis: int, days: int) -> None:
    study = study_of(PARTIES, runs=runs, rounds=rounds, bytes=f"{mebis + 1}Mi", expires=END)
    at = study.expires - timedelta(days=days)
    manifest = run_of(PARTIES, study)
    over = {each.field for each in exceeded(study, used, manifest, at)}
    assert over == {
        *(["runs"] if used.runs >= runs else []),
        *(["rounds"] if used.rounds + 4 > rounds else []),
        *(["bytes"] if used.bytes >= (mebis + 1) << 20 else []),
        *(["expires"] if days < 0 else []),
    }
    wider = study_of(PARTIES, runs=runs + 1, rounds=rounds + 4, bytes=f"{mebis + 2}Mi", expires=END)
    assert {each.field for each in exceeded(wider, used, manifest, at)} <= over


def test_the_privacy_of_all_runs_together_is_bounded() -> None:
    privacy = {"mechanism": "skellam", "epsilon": 2.0, "delta": 1e-6, "unit": "member", "parameters": 1000}
    spec = {"privacy": privacy}
    study = study_of(PARTIES, spec=spec, epsilon=3.5, runs=9, rounds=100)
    manifest = run_of(PARTIES, study, spec=spec)
    over = [bool(exceeded(study, Used(runs=count), manifest, now())) for count in range(4)]
    assert over == [False, False, True, True], "two runs of 2.0 cost less than 3.5 together, and three more"
    wider = study_of(PARTIES, spec=spec, epsilon=20.0, runs=9, rounds=100)
    assert not exceeded(wider, Used(runs=3), manifest, now())


# --------------------------------------------------------------------------------------------------------------- documents


def text(**changes: Any) -> str:
    spec = {"job": SPEC, **BOUNDS, "expires": END, **changes}
    return json.dumps({"apiVersion": "concord/v1", "kind": "Study", "metadata": {"name": "s"}, "spec": spec})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"runs": 0}, "spec.runs"),
        ({"runs": True}, "spec.runs"),
        ({"runs": "3"}, "spec.runs"),
        ({"rounds": 10**10}, "spec.rounds"),
        ({"bytes": "many"}, "spec.bytes"),
        ({"bytes": "999999999999999Ti"}, "spec.bytes"),
        ({"expires": "2027-01-31"}, "spec.expires"),
        ({"epsilon": 3}, "spec.epsilon"),
        ({"more": 1}, "spec.more: unknown field"),
        ({"vary": {"rate": {}}}, "needs least and most, or values"),
        ({"vary": {"rate": {"least": 1}}}, "needs least and most, or values"),
        ({"vary": {"rate": {"least": 2, "most": 1}}}, "has a least above its most"),
        ({"vary": {"rate": {"least": 0, "most": 1, "values": [1]}}}, "needs least and most, or values"),
        ({"vary": {"rate": {"values": []}}}, "spec.vary.rate.values"),
        ({"job": {**SPEC, "localSteps": 3}, "vary": {"local-steps": {"least": 1, "most": 2}}}, "spec.vary.local-steps"),
        ({"job": {**SPEC, "participants": {"minMembers": 9, "maxMembers": 3}}}, "spec.job.participants.maxMembers"),
        ({"job": {name: value for name, value in SPEC.items() if name != "app"}}, "spec.job.app"),
        ({"job": {**SPEC, "runConfigFloats": ["rate"]}}, "spec.job.runConfigFloats"),
    ],
)
def test_a_study_that_is_not_in_order_is_refused_with_its_field(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidManifest) as caught:
        load_study(text(**changes), "study.yaml")
    assert caught.value.message.startswith("study.yaml:1: ")
    assert told in caught.value.message


@pytest.mark.parametrize(
    "document",
    [
        "kind: Study\nkind: Study\n",
        "a: &x [1]\nb: *x\n",
        "metadata: {<<: {}}\n",
        "spec: {runs: 1e3}\n",
        "spec: !!str x\n",
        "[]",
        "",
    ],
)
def test_the_text_of_a_study_is_read_as_strictly_as_a_jobs(document: str) -> None:
    with pytest.raises(InvalidManifest):
        load_study(document, "study.yaml")


@pytest.mark.parametrize(
    ("bounds", "told"),
    [
        ({"vary": {"colour": {"values": ["red"]}}}, "spec.vary.colour: the job has no such setting"),
        ({"vary": {"rate": {"least": 2, "most": 3}}}, "the study's own job lies outside: 1.0 is not from 2 to 3"),
        ({"vary": {"kind": {"least": 2, "most": 3}}}, "a range is of numbers"),
        ({"vary": {"deep": {"least": 0, "most": 1}}}, "a range is of numbers"),
        ({"vary": {"size": {"values": [10, 20.5]}}}, "20.5 is no whole number"),
        ({"vary": {"size": {"values": [10, "x"]}}}, "x is no whole number"),
        ({"rounds": 3}, "spec.rounds: not one run fits"),
        ({"expires": "2026-01-01T00:00:00Z"}, "spec.expires: not one run fits"),
        ({"expires": moment_text(now() + timedelta(days=400))}, "goes on for more than 366 days"),
    ],
)
def test_a_study_that_no_run_could_be_of_is_not_signed_or_not_opened(bounds: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidManifest) as caught:
        study_of(PARTIES, **bounds)
    assert told in caught.value.message


@pytest.mark.parametrize("page", ["docs/reference/study.md", "docs/how-to/consent.md"])
def test_the_examples_of_the_pages_are_studies_and_runs_of_them(page: str) -> None:
    blocks = [block.split("```")[0] for block in (ROOT / page).read_text().split("```yaml\n")[1:]]
    study = next(load_study(block, page) for block in blocks if "kind: Study" in block)
    spec = study.spec
    assert (spec.runs * 11, spec.rounds) == (220, 220), "ten rounds and the final evaluation"
    for block in blocks:
        if "kind: TrainingJob" in block:
            settings = load_job(
                block.replace("study: digits-search", f"study: '{bytes(32).hex()}'"), page
            ).spec.run_config
            said = {name: vary.beyond(type(settings[name])(32), settings[name]) for name, vary in spec.vary.items()}
            assert "learning-rate" in said
            assert len(said) == 2
            assert set(said.values()) == {""}


def test_the_signed_form_is_canonical_complete_and_the_same_each_time() -> None:
    at = now()
    first, second = sealed_study(PARTIES, created=at), sealed_study(PARTIES, created=at)
    assert first == second
    opened = open_envelope(first, "study")
    assert opened.payload == canonical(opened.document)
    assert open_study(first, PARTIES.roll) == open_study(first, PARTIES.roll)
    assert open_study(first, PARTIES.roll).digest == opened.digest
    assert bytes_bound(first) == 1 << 20


def resealed(change: Any, key: SigningKey | None = None) -> bytes:
    document = json.loads(json.dumps(open_envelope(STUDY.envelope, "study").document))
    change(document)
    return seal(document, "study", (key or PARTIES.lead_key,))


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document["spec"]["job"].pop("rounds"),
        lambda document: document["spec"].pop("vary"),
        lambda document: document["spec"]["job"].pop("bundle"),
        lambda document: document["spec"]["job"].update(app="./tiny"),
        lambda document: document.update(kind="TrainingJob"),
        lambda document: document.update(more=1),
        lambda document: document.pop("nonce"),
        lambda document: document.update(federation="other"),
        lambda document: document["metadata"].update(study="00" * 32),
        lambda document: document["spec"]["vary"].update(colour={"values": ["red"]}),
        lambda document: document["spec"].update(rounds=1),
    ],
)
def test_a_signed_study_that_is_not_complete_is_refused(change: Any) -> None:
    with pytest.raises(InvalidManifest):
        open_study(resealed(change), PARTIES.roll)


def test_a_study_is_its_leads_own_and_no_manifest() -> None:
    with pytest.raises(InvalidIdentity, match="not signed by the lead"):
        open_study(resealed(lambda _document: None, SigningKey.generate()), PARTIES.roll)
    with pytest.raises(InvalidIdentity):
        open_study(run().envelope, PARTIES.roll)
