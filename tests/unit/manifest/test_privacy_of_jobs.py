"""What a lead states of privacy, what apply calculates, and what no document may say; and that no member believes a number."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from federation.errors import InvalidManifest
from federation.manifest.document import load_job
from federation.manifest.manifest import Manifest
from federation.manifest.privacy import charges_of, privacy_of, round_charge, settled, stated_too_low
from federation.privacy.accounting import epsilon_of
from federation.privacy.sensitivity import rounded_bound
from federation.privacy.terms import LEAST_VARIANCE, MEMBER, MOST_VARIANCE, givers
from federation.secagg.encoding import encoding_of
from federation.secagg.parameters import Quorums, noise_room
from tests.unit.identity.parties import JOB, found

PARTIES = found()


def text_of(privacy: str, ring: str = "clipNorm: 4", *more: str) -> str:
    lines = [f"  secureAggregation: {{{ring}}}", f"  privacy: {{{privacy}}}", *more]
    return JOB + "\n".join(lines) + "\n"


def signed(privacy: str, ring: str = "clipNorm: 4", *more: str) -> Manifest:
    return PARTIES.job(text_of(privacy, ring, *more))


@settings(deadline=None, max_examples=12)
@example(epsilon=2.0, mechanism="discrete_gaussian", clip=0.08150625851220045, most=116, size=(16, 1024))
@example(epsilon=1.0, mechanism="discrete_gaussian", clip=0.0625, most=68, size=(16, 1024))
@given(
    epsilon=st.floats(0.5, 20),
    mechanism=st.sampled_from(["skellam", "discrete_gaussian"]),
    clip=st.floats(0.01, 1000),
    most=st.integers(3, 200),
    size=st.sampled_from([(16, 10), (16, 1 << 10), (32, 10), (32, 1 << 20)]),
)
def test_a_settled_job_keeps_its_epsilon_and_fits_its_ring(
    epsilon: float, mechanism: str, clip: float, most: int, size: tuple[int, int]
) -> None:
    bits, parameters = size
    stated = f"unit: member, mechanism: {mechanism}, epsilon: {epsilon}, delta: 1e-6, parameters: {parameters}"
    text = text_of(stated, f"clipNorm: {clip}, ringBits: {bits}", f"  participants: {{maxMembers: {most}}}")
    spec = settled(load_job(text, "job.yaml")).spec
    privacy, ring = privacy_of(spec), spec.secure_aggregation
    assert privacy is not None
    assert epsilon_of(charges_of(spec, privacy), 1e-6, MEMBER) <= epsilon
    assert stated_too_low(spec) == 0.0
    assert ring.scale_exponent == ring.min_scale_exponent == ring.max_scale_exponent
    sensitivity = rounded_bound(clip * 2.0**-ring.scale_exponent, parameters)
    for n in range(3, most + 1):
        quorums = Quorums.of(n)
        each = (privacy.noise_multiplier * sensitivity) ** 2 / givers(quorums.m, quorums.f)
        assert 10 * math.sqrt(n * each) <= noise_room(bits)
        assert each <= MOST_VARIANCE
        assert mechanism == "skellam" or each >= LEAST_VARIANCE


def test_the_signed_manifest_says_it_all_and_reads_back() -> None:
    manifest = signed("unit: member, noiseMultiplier: 2, delta: 1e-6")
    privacy, terms = manifest.privacy, manifest.terms()
    assert privacy is not None
    assert (privacy.mechanism, privacy.unit, privacy.noise_multiplier) == ("skellam", "member", 2.0)
    assert privacy.epsilon == pytest.approx(epsilon_of(charges_of(manifest.spec, privacy), 1e-6, MEMBER), rel=1e-5)
    assert terms.privacy == privacy
    assert terms.min_scale_exponent == terms.initial_scale_exponent == terms.max_scale_exponent
    assert manifest.figures == () == terms.metrics
    assert not terms.final_evaluation
    code = encoding_of(terms, 5, 1)
    assert 5 * code.level_bound + 10 * math.sqrt(5 * code.noise_variance(1000)) <= 2**15 - 1


def test_noised_figures_are_charged_and_need_not_be_public() -> None:
    manifest = signed("unit: member, noiseMultiplier: 2, delta: 1e-6, figures: {noiseMultiplier: 8, bound: 10}")
    privacy = manifest.privacy
    assert privacy is not None
    assert len(manifest.figures) == 6
    assert manifest.exact_figures == ()
    assert manifest.terms().final_evaluation
    assert len(round_charge(manifest, header_only=False).queries) == 2
    assert len(round_charge(manifest, header_only=True).queries) == 1
    assert sum(charges_of(manifest.spec, privacy).values()) == manifest.spec.rounds + 1
    bare = signed("unit: member, noiseMultiplier: 2, delta: 1e-6").privacy
    assert bare is not None
    assert privacy.epsilon > bare.epsilon


def test_a_records_job_is_calibrated_by_the_step() -> None:
    more = "unit: record, mechanism: dp_sgd, epsilon: 3, delta: 1e-5, sampleRate: 0.05, recordClip: 1"
    manifest = signed(more, "clipNorm: 4", "  localSteps: 20")
    privacy = manifest.privacy
    assert privacy is not None
    assert (privacy.steps, privacy.sample_rate, privacy.record_clip, privacy.distributed) == (20, 0.05, 1.0, False)
    assert 2.9 < epsilon_of(charges_of(manifest.spec, privacy), 1e-5, "record") <= 3
    assert manifest.figures == ()
    terms = manifest.terms()
    assert terms.min_scale_exponent < terms.max_scale_exponent  # no noise of ours: scales may follow


def test_an_understated_epsilon_is_found_out() -> None:
    manifest = signed("unit: member, noiseMultiplier: 2, delta: 1e-6")
    spec = manifest.spec
    assert spec.privacy is not None
    lying = spec.model_copy(update={"privacy": spec.privacy.model_copy(update={"epsilon": 0.1})})
    assert stated_too_low(lying) == pytest.approx(manifest.privacy.epsilon if manifest.privacy else 0, rel=1e-4)


@pytest.mark.parametrize(
    ("privacy", "field", "words"),
    [
        ("unit: member, delta: 1e-6", "spec.privacy", "neither epsilon nor noiseMultiplier"),
        ("epsilon: 3, delta: 1e-6", "spec.privacy.unit", "missing"),
        ("unit: member, epsilon: 3", "spec.privacy.delta", "missing"),
        ("unit: member, epsilon: 0, delta: 1e-6", "spec.privacy.epsilon", "greater than 0"),
        ("unit: member, epsilon: 3, delta: 0", "spec.privacy.delta", "greater than or equal to 0.000000000001"),
        ("unit: record, epsilon: 3, delta: 1e-6", "spec.privacy.unit", "skellam hides a member"),
        ("unit: member, mechanism: dp_sgd, epsilon: 3, delta: 1e-6", "spec.privacy.unit", "dp_sgd hides a record"),
        ("unit: member, mechanism: laplace, epsilon: 3, delta: 1e-6", "spec.privacy.mechanism", "skellam"),
        ("unit: member, epsilon: 3, delta: 1e-6, sampleRate: 0.1", "spec.privacy.sampleRate", "is of dp_sgd"),
        (
            "unit: record, mechanism: dp_sgd, epsilon: 3, delta: 1e-6, recordClip: 1",
            "spec.privacy.sampleRate",
            "missing",
        ),
        (
            "unit: record, mechanism: dp_sgd, epsilon: 3, delta: 1e-6, recordClip: 1, sampleRate: 0.1",
            "spec.localSteps",
            "charged by the step",
        ),
        (
            "unit: member, epsilon: 3, delta: 1e-6, figures: {noiseMultiplier: 500, bound: 1}",
            "spec.privacy.figures.noiseMultiplier",
            "beyond what the sampler draws",
        ),
        ("unit: member, epsilon: 3, delta: 1e-6, noise: 3", "spec.privacy.noise", "unknown field"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_field_and_line(privacy: str, field: str, words: str) -> None:
    with pytest.raises(InvalidManifest, match=words) as said:
        load_job(text_of(privacy), "job.yaml")
    assert said.value.field == field
    assert said.value.line == (8 if field.startswith("spec.privacy") else 4)
    assert said.value.hint


@pytest.mark.parametrize(
    ("ring", "words"),
    [
        ("clipNorm: 4, scaleExponent: -6, minScaleExponent: -8", "must be one scale"),
        ("clipNorm: 4, scaleExponent: -20", "leaves no room for the noise in 16 bits"),
        ("clipNorm: 4, scaleExponent: -20, ringBits: 32", "finer than the sampler"),
    ],
)
def test_a_scale_that_does_not_fit_is_refused(ring: str, words: str) -> None:
    with pytest.raises(InvalidManifest, match=words):
        settled(load_job(text_of("unit: member, noiseMultiplier: 2, delta: 1e-6", ring), "job.yaml"))


def test_a_scale_that_the_lead_chose_stands() -> None:
    manifest = signed("unit: member, noiseMultiplier: 2, delta: 1e-6", "clipNorm: 4, scaleExponent: -4")
    ring = manifest.spec.secure_aggregation
    assert (ring.scale_exponent, ring.min_scale_exponent, ring.max_scale_exponent) == (-4, -4, -4)


def test_an_epsilon_that_figures_alone_exceed_is_refused_at_apply() -> None:
    loud = "unit: member, epsilon: 0.1, delta: 1e-6, figures: {noiseMultiplier: 1, bound: 1}"
    with pytest.raises(InvalidManifest, match="cannot be kept"):
        signed(loud)


def test_a_model_too_large_for_its_bits_is_refused_at_apply() -> None:
    with pytest.raises(InvalidManifest, match="so coarse that rounding 100000000 parameters takes"):
        signed("unit: member, noiseMultiplier: 2, delta: 1e-6, parameters: 100000000")
