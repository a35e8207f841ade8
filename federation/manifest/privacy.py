"""A job's privacy, settled: what the lead left open is calculated at ``concord apply``, and stands in the signed manifest.

With epsilon the noise multiplier is calibrated, with a multiplier epsilon is counted, and the one scale of all chunks is
chosen as fine as the ring has room for. Members check both again before they consent (``stated_too_low``).
"""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import TYPE_CHECKING, Final

from federation.errors import InvalidManifest
from federation.manifest.coherence import rosters, unfit
from federation.privacy.accounting import Charge, calibrated, charge_of, epsilon_of, repeated, rounded_up
from federation.privacy.sensitivity import rounded_bound
from federation.privacy.terms import MOST_VARIANCE, SIGMAS, FigureNoise, Privacy, givers
from federation.secagg.parameters import Quorums, noise_room

if TYPE_CHECKING:
    from federation.manifest.document import JobDocument, Spec
    from federation.manifest.manifest import Manifest

SCALES: Final = (-60, 20)


def privacy_of(spec: Spec) -> Privacy | None:
    """As the rounds need it. Of a settled job."""
    stated = spec.privacy
    if stated is None:
        return None
    figures = stated.figures
    return Privacy(
        mechanism=stated.mechanism,
        unit=stated.unit,
        noise_multiplier=stated.noise_multiplier or 0.0,
        epsilon=stated.epsilon or 0.0,
        delta=stated.delta,
        figures=FigureNoise(figures.noise_multiplier, figures.bound) if figures is not None else None,
        sample_rate=stated.sample_rate or 0.0,
        record_clip=stated.record_clip or 0.0,
        steps=spec.local_steps or 0,
    )


def charges_of(spec: Spec, privacy: Privacy, exponent: int | None = None) -> dict[Charge, int]:
    """What the job as a whole costs a member: each round's charge, and how often. ``exponent``: of the scale."""
    last = spec.evaluate and spec.final_evaluation
    return repeated(
        [
            (_round(spec, privacy, exponent, header_only=False), spec.rounds),
            (_round(spec, privacy, exponent, header_only=True), int(last)),
        ]
    )


def _round(spec: Spec, privacy: Privacy, exponent: int | None, *, header_only: bool) -> Charge:
    ring = spec.secure_aggregation
    exponent = ring.scale_exponent if exponent is None else exponent
    figures = len({*spec.metrics.train}) + (len({*spec.metrics.evaluate}) if spec.evaluate else 0)
    giving = max(givers(quorums.m, quorums.f) for quorums in map(Quorums.of, rosters(spec)))
    return charge_of(privacy, ring.clip_norm * 2.0**-exponent, giving, figures, header_only=header_only)


def round_charge(manifest: Manifest, *, header_only: bool) -> Charge:
    """What one upload costs; no query where the job has no privacy."""
    privacy = manifest.privacy
    return Charge(()) if privacy is None else _round(manifest.spec, privacy, None, header_only=header_only)


def settled(document: JobDocument) -> JobDocument:
    """Raises InvalidManifest when no noise, or no scale, does what the lead wants."""
    spec = document.spec
    if spec.privacy is None:
        return document
    stated = privacy_of(spec)
    assert stated is not None
    if not stated.distributed:
        return _with(document, _multiplier(spec, spec.secure_aggregation.scale_exponent), None)
    ring = spec.secure_aggregation
    fixed = {"scale_exponent", "min_scale_exponent", "max_scale_exponent"} & ring.model_fields_set
    exponent = getattr(ring, min(fixed)) if fixed else SCALES[0]
    for _ in () if fixed else range(3):  # where the scale is fine, the noise hardly depends on it
        exponent = _finest(spec, _multiplier(spec, exponent))
    done = _with(document, _multiplier(spec, exponent), exponent)
    if problem := unfit(done.spec):
        raise InvalidManifest(
            f"spec.secureAggregation.scaleExponent {problem}",
            hint="Use more ringBits, fewer members at most, or another mechanism.",
            field="spec.secureAggregation.scaleExponent",
        )
    return done


def _multiplier(spec: Spec, exponent: int) -> float:
    assert spec.privacy is not None
    stated, privacy = spec.privacy, privacy_of(spec)
    assert privacy is not None
    if stated.noise_multiplier is not None:
        return stated.noise_multiplier
    assert stated.epsilon is not None
    return calibrated(
        stated.epsilon,
        stated.delta,
        stated.unit,
        lambda multiplier: charges_of(spec, replace(privacy, noise_multiplier=multiplier), exponent),
    )


def _finest(spec: Spec, multiplier: float) -> int:
    """The exponent of the finest scale whose noise the ring and the sampler have room for, in a model of the size that
    the job names; the coarsest where there is none."""
    ring, privacy = spec.secure_aggregation, spec.privacy
    assert privacy is not None
    giving = [(quorums.n, givers(quorums.m, quorums.f)) for quorums in map(Quorums.of, rosters(spec))]
    for exponent in range(*SCALES):
        sigma = multiplier * rounded_bound(ring.clip_norm * 2.0**-exponent, privacy.parameters)
        fits = (
            SIGMAS * sigma * sqrt(n / each) <= noise_room(ring.ring_bits) and sigma * sigma / each <= MOST_VARIANCE
            for n, each in giving
        )
        if all(fits):
            return exponent
    return SCALES[1]


def _with(document: JobDocument, multiplier: float, exponent: int | None) -> JobDocument:
    spec = document.spec
    assert spec.privacy is not None
    stated = spec.privacy.model_copy(update={"noise_multiplier": multiplier})
    if exponent is not None:
        one = {"scale_exponent": exponent, "min_scale_exponent": exponent, "max_scale_exponent": exponent}
        spec = spec.model_copy(update={"secure_aggregation": spec.secure_aggregation.model_copy(update=one)})
    spec = spec.model_copy(update={"privacy": stated})
    privacy = privacy_of(spec)
    assert privacy is not None
    if stated.epsilon is None:
        cost = rounded_up(epsilon_of(charges_of(spec, privacy), stated.delta, stated.unit))
        if not cost < 1e6:
            raise InvalidManifest(
                f"spec.privacy.noiseMultiplier: {multiplier:g} protects nobody at delta {stated.delta:g}.",
                hint="Raise it.",
                field="spec.privacy.noiseMultiplier",
            )
        spec = spec.model_copy(update={"privacy": stated.model_copy(update={"epsilon": cost})})
    return document.model_copy(update={"spec": spec})


def check_settled(spec: Spec) -> None:
    """Raises InvalidManifest when a signed job leaves something open."""
    if spec.privacy is None:
        return
    if spec.privacy.epsilon is None or spec.privacy.noise_multiplier is None:
        raise InvalidManifest(
            "The manifest leaves its privacy open.", hint="Submit it with concord apply.", field="spec.privacy"
        )


def stated_too_low(spec: Spec) -> float:
    """What the job really costs, where the lead states less; 0 where the statement holds."""
    privacy = privacy_of(spec)
    if privacy is None:
        return 0.0
    cost = epsilon_of(charges_of(spec, privacy), privacy.delta, privacy.unit)
    return cost if cost > privacy.epsilon * (1 + 1e-9) else 0.0
