"""What a job document's fields must be to one another: minima that can be reached, levels that suffice, one first model."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from math import sqrt
from typing import TYPE_CHECKING, Final

from federation.manifest.gates import problems_of_gates
from federation.manifest.strategy import DEFAULTS
from federation.privacy.sensitivity import rounded_bound
from federation.privacy.terms import (
    DISCRETE_GAUSSIAN,
    DP_SGD,
    FIGURE_LEVELS,
    LEAST_VARIANCE,
    MEMBER,
    MOST_VARIANCE,
    RECORD,
    SIGMAS,
    givers,
)
from federation.secagg.parameters import MAX_MEMBERS, Encoding, Quorums, noise_room

if TYPE_CHECKING:
    from federation.manifest.document import Privacy, Spec

MIN_LEVELS: Final = 7
"""with fewer, rounding is coarser than most updates"""
MAX_RATE: Final = 1e6
MOST_INFLATION: Final = 8
"""of the noise, by what rounding may add to an update's norm"""
OWN_IN_MESSAGES: Final = frozenset({"server-round", "proximal-mu", "local-steps"})

Problems = Iterator[tuple[str, tuple[str, ...], str]]
"""(what is wrong, the field under spec, what to do)"""


def problems(spec: Spec) -> Problems:
    yield from _participants(spec)
    yield from _ring(spec)
    yield from _privacy(spec)
    yield from _model(spec)
    yield from _release(spec)
    yield from problems_of_gates(spec)
    yield from _settings(spec)
    yield from _strategy(spec)


def _most_members(spec: Spec) -> int:
    people = spec.participants
    return min(people.max_members, len(people.members)) if people.members else people.max_members


def _participants(spec: Spec) -> Problems:
    people = spec.participants
    if people.max_members < people.min_members:
        yield "is below minMembers.", ("participants", "maxMembers"), "Raise it, or lower minMembers."
    if people.members and len(people.members) < people.min_members:
        yield (
            f"names {len(people.members)} members, but minMembers is {people.min_members}: the minimum cannot be reached.",
            ("participants", "members"),
            "Name more members, or lower minMembers.",
        )
    if people.min_jurisdictions > min(_most_members(spec), len(people.jurisdictions) or MAX_MEMBERS):
        yield (
            "cannot be reached with the members and jurisdictions named.",
            ("participants", "minJurisdictions"),
            "Lower it, or name more.",
        )


def _ring(spec: Spec) -> Problems:
    ring, most = spec.secure_aggregation, _most_members(spec)
    if not ring.min_scale_exponent <= ring.scale_exponent <= ring.max_scale_exponent:
        yield (
            "lies outside minScaleExponent..maxScaleExponent.",
            ("secureAggregation", "scaleExponent"),
            "Move it or the bounds.",
        )
    noised = spec.privacy is not None and spec.privacy.mechanism != DP_SGD
    bits = ring.ring_bits - noised  # half of the ring is for the noise
    levels = Encoding.level_bound_of(bits, most)
    if levels < MIN_LEVELS:
        yield (
            f"{ring.ring_bits} bits leave {levels} levels to each of up to {most} members; it takes {MIN_LEVELS}.",
            ("secureAggregation", "ringBits"),
            f"Use 16, or set participants.maxMembers to {Encoding.level_bound_of(bits, MIN_LEVELS)} or less.",
        )


def _privacy(spec: Spec) -> Problems:
    privacy, ring = spec.privacy, spec.secure_aggregation
    if privacy is None:
        return
    if (privacy.unit == RECORD) != (privacy.mechanism == DP_SGD):
        yield (
            f"is {privacy.unit}, and {privacy.mechanism} hides a {RECORD if privacy.mechanism == DP_SGD else MEMBER}.",
            ("privacy", "unit"),
            "A member is hidden by skellam or discrete_gaussian, a record by dp_sgd.",
        )
    if privacy.epsilon is None and privacy.noise_multiplier is None:
        yield "states neither epsilon nor noiseMultiplier.", ("privacy",), "State one; concord apply writes the other."
    if privacy.mechanism == DP_SGD:
        yield from _steps(spec, privacy)
        return
    for field, value in (("sampleRate", privacy.sample_rate), ("recordClip", privacy.record_clip)):
        if value is not None:
            yield f"is of dp_sgd, not of {privacy.mechanism}.", ("privacy", field), "Leave it out."
    if privacy.figures is not None:
        count = len({*spec.metrics.train}) + (len({*spec.metrics.evaluate}) if spec.evaluate else 0)
        target = (privacy.figures.noise_multiplier * FIGURE_LEVELS) ** 2 * count
        giving = [givers(quorums.m, quorums.f) for quorums in map(Quorums.of, rosters(spec))]
        if count and not LEAST_VARIANCE <= target / max(giving) <= target / min(giving) <= MOST_VARIANCE:
            yield (
                "is beyond what the sampler draws.",
                ("privacy", "figures", "noiseMultiplier"),
                f"For {count} figures at most {sqrt(MOST_VARIANCE * min(giving) / count) / FIGURE_LEVELS:.0f}.",
            )
    stated = {"scale_exponent", "min_scale_exponent", "max_scale_exponent"} & ring.model_fields_set
    if stated and len({getattr(ring, name) for name in stated}) > 1:
        yield (
            "must be one scale, fixed for all rounds, where updates carry noise: a scale that follows the data tells of it.",
            ("secureAggregation", "minScaleExponent"),
            "Leave scaleExponent and its bounds out: concord apply chooses them.",
        )
    elif stated and privacy.noise_multiplier is not None and (problem := unfit(spec)):
        yield (
            problem,
            ("secureAggregation", "scaleExponent"),
            "Leave it and its bounds out: concord apply chooses them.",
        )


def _steps(spec: Spec, privacy: Privacy) -> Problems:
    for field, value in (("sampleRate", privacy.sample_rate), ("recordClip", privacy.record_clip)):
        if value is None:
            yield "is missing: dp_sgd needs it.", ("privacy", field), "See concord explain job.spec.privacy."
    if spec.local_steps is None:
        yield "is missing: dp_sgd is charged by the step.", ("localSteps",), "State how many steps a round has."
    if privacy.figures is not None:
        yield (
            "are noised where updates are, and dp_sgd leaves the updates to the task.",
            ("privacy", "figures"),
            "Leave it out: the job then has no figures.",
        )


def rosters(spec: Spec) -> range:
    """The sizes that the job's roster may have."""
    return range(spec.participants.min_members, _most_members(spec) + 1)


def unfit(spec: Spec) -> str:
    """Why a fixed scale does not fit the noise in a model of the size that the job names; empty when it does. A member checks
    again when it has the model."""
    assert spec.privacy is not None
    ring, privacy = spec.secure_aggregation, spec.privacy
    exponents = {"scale_exponent", "min_scale_exponent", "max_scale_exponent"} & ring.model_fields_set
    norm = ring.clip_norm * 2.0 ** -getattr(ring, min(exponents))
    multiplier = privacy.noise_multiplier or 0.0
    bound = rounded_bound(norm, privacy.parameters)
    if bound > MOST_INFLATION * norm:
        return (
            f"is so coarse that rounding {privacy.parameters} parameters takes {bound / norm:.3g} times the noise; "
            f"{MOST_INFLATION} times is the most."
        )
    sigma = multiplier * bound
    for n in rosters(spec):
        quorums = Quorums.of(n)
        giving = givers(quorums.m, quorums.f)
        if SIGMAS * sigma * sqrt(n / giving) > noise_room(ring.ring_bits):
            return (
                f"leaves no room for the noise in {ring.ring_bits} bits, for {privacy.parameters} parameters: {sigma:.4g} levels "
                f"is the standard deviation of a sum, and {n} members' noise must lie within {noise_room(ring.ring_bits)}."
            )
        if sigma * sigma / giving > MOST_VARIANCE:
            return f"is finer than the sampler: one member's noise would have a variance of {sigma * sigma / giving:.4g} levels."
        if privacy.mechanism == DISCRETE_GAUSSIAN and (multiplier * norm) ** 2 / giving < LEAST_VARIANCE:
            return (
                f"is too coarse for discrete_gaussian: one member's noise would have a variance of "
                f"{(multiplier * norm) ** 2 / giving:.3g} levels, and it takes {LEAST_VARIANCE:g}."
            )
    return ""


def _model(spec: Spec) -> Problems:
    model = spec.model
    wanted = spec.data_set
    if wanted.name is None and not wanted.tags and wanted.schema_name is None:
        yield "names no data set.", ("dataSet",), "Give a name, a schema, or tags."
    if wanted.schema_digest is not None and wanted.schema_name is None:
        yield "is of no schema.", ("dataSet", "schemaDigest"), "Name the schema, or leave the digest out."
    if len({column.name for column in wanted.columns}) != len(wanted.columns):
        yield "names a column twice.", ("dataSet", "columns"), "Name each once."
    if wanted.coverage is not None and wanted.coverage.wrong:
        yield f"{wanted.coverage.wrong}.", ("dataSet", "coverage"), "Change places."
    if spec.data_set.name in spec.extra_data_sets:
        yield "names the data set of dataSet again.", ("extraDataSets",), "Name further ones only."
    if model.snapshot and model.snapshot_file:
        yield "stands beside snapshotFile.", ("model", "snapshot"), "Keep one of the two."
    if (model.snapshot or model.snapshot_file) and model.factory:
        yield "stands beside a snapshot.", ("model", "factory"), "A job starts from one of the two."


def _release(spec: Spec) -> Problems:
    path, recipients = ("release", "recipients"), spec.release.recipients
    if recipients and spec.coordinator_view != "blind":
        yield "are named, and the coordinator sees the model.", path, "Leave them out, or set coordinatorView: blind."
    for each in recipients:
        if (each.key is None) == (each.key_file is None):
            yield f"{each.name} needs one of key and keyFile.", path, "concord release key writes one's own."
    keys = [each.key for each in recipients if each.key is not None]
    if len(set(keys)) != len(keys):
        yield "name one key twice.", path, "Name each recipient once."


def _settings(spec: Spec) -> Problems:
    for name, floats, values in (
        ("runConfig", spec.run_config_floats, spec.run_config),
        ("messageConfig", spec.message_config_floats, spec.message_config),
    ):
        for key in floats:
            value = values.get(key)
            if not isinstance(value, int) or isinstance(value, bool):
                yield f"{key} is not a whole number of {name}.", (f"{name}Floats",), "Submit it with concord apply."
    for key in sorted(OWN_IN_MESSAGES & set(spec.message_config)):
        yield "is set by Concord itself.", ("messageConfig", key), "Leave it out."


def _strategy(spec: Spec) -> Problems:
    defaults = DEFAULTS[spec.strategy.name]
    for key, value in (spec.strategy.model_extra or {}).items():
        path = ("strategy", key)
        if key not in defaults:
            close = difflib.get_close_matches(key, defaults, 1)
            known = f"Its parameters: {', '.join(defaults)}." if defaults else "It has no parameters."
            yield f"is no parameter of {spec.strategy.name}.", path, f"Did you mean {close[0]}?" if close else known
        elif isinstance(defaults[key], bool) != isinstance(value, bool) or not isinstance(value, (bool, int, float)):
            wanted = "true or false" if isinstance(defaults[key], bool) else "a number"
            yield f"must be {wanted} (got {str(value)[:60]!r}).", path, "See concord explain job.spec.strategy."
        elif not isinstance(value, bool) and not _fits(key, value):
            yield (
                f"is out of range (got {str(value)[:60]}).",
                path,
                f"Betas and momentum are from 0 to below 1, tau is above 0, rates are 0 to {MAX_RATE:.0f}.",
            )


def _fits(key: str, value: float) -> bool:
    if key == "tau":
        return 0 < value <= MAX_RATE
    return 0 <= value < 1 if key.startswith("beta") or key == "serverMomentum" else 0 <= value <= MAX_RATE
