"""Sums of members that add noise: the variance that the manifest names, drop-outs and colluders included, and a header
that the data does not decide."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from federation.errors import InvalidManifest, ProtocolViolation, TaskFailed
from federation.privacy.sensitivity import rounded_bound, squared_norm
from federation.privacy.terms import DISCRETE_GAUSSIAN, FIGURE_LEVELS, MEMBER, SKELLAM, FigureNoise, Privacy, givers
from federation.secagg import encoding as codes
from federation.secagg.events import MaskPlan
from federation.secagg.header import Header, figure_step
from federation.secagg.opening import Sum
from federation.secagg.parameters import Encoding, Quorums, Terms, noise_room
from tests.simulation.harness import terms_of
from tests.whole import added, encode, mean_of, read_sum

SIZE = 20_000
NORM = 2.0
EXPONENT = -6
METRICS = ("train/accuracy", "train/loss")


def noisy_terms(mechanism: str = SKELLAM, *, figures: bool = True, multiplier: float = 1.0, **other: object) -> Terms:
    noise = FigureNoise(8.0, 4.0) if figures else None
    return terms_of(
        clip_norm=NORM,
        metrics=METRICS if figures else (),
        min_scale_exponent=EXPONENT,
        max_scale_exponent=EXPONENT,
        initial_scale_exponent=EXPONENT,
        chunk_parameters=4096,
        privacy=Privacy(mechanism, MEMBER, multiplier, 5.0, 1e-6, noise),
        **other,
    )


def contribution(
    terms: Terms, code: Encoding, difference: np.ndarray, seed: int, metrics: dict[str, float] | None = None
) -> bytes:
    """One member's, not masked: what the masks hide."""
    plan = MaskPlan(bytes(32), (), seed.to_bytes(32, "big"))
    scales = np.full(code.chunks(difference.size), EXPONENT, np.int8)
    header = Header.of(terms, 1, float(np.sum(difference**2)), metrics or {})
    settled = codes.settled_dither(difference, 1, plan, code, scales)
    noises = codes.noises_of(terms, code, plan, difference.size)
    return b"".join(encode(difference, header, settled, code, scales, *noises))


def summed(terms: Terms, code: Encoding, updates: list[bytes], size: int = SIZE) -> Sum:
    return read_sum(added(updates, terms, code), terms, code, len(updates), len(updates), size)


@pytest.mark.parametrize("mechanism", [SKELLAM, DISCRETE_GAUSSIAN])
@pytest.mark.parametrize("n", [3, 4, 7])
def test_the_smallest_cohort_less_its_colluders_has_the_target_variance(mechanism: str, n: int) -> None:
    """The members whose noise nobody who looks on knows: their sum alone meets the target, within 5 standard errors."""
    terms = noisy_terms(mechanism, figures=False)
    code, quorums = codes.encoding_of(terms, n, 1), Quorums.of(n)
    target = (1.0 * rounded_bound(NORM * 2.0**-EXPONENT, SIZE)) ** 2
    still = np.zeros(SIZE, np.float32)
    updates = [contribution(terms, code, still, 100 * n + each) for each in range(givers(quorums.m, quorums.f))]
    levels = np.concatenate(list(summed(terms, code, updates).chunks())).astype(float)
    assert abs(levels.var() / target - 1) < 5 * math.sqrt(2 / SIZE)
    assert abs(levels.mean()) < 5 * math.sqrt(target / SIZE)
    everybody = updates + [contribution(terms, code, still, 900 + each) for each in range(n - len(updates))]
    whole = np.concatenate(list(summed(terms, code, everybody).chunks())).astype(float)
    assert abs(whole.var() / (target * n / len(updates)) - 1) < 5 * math.sqrt(2 / SIZE)


def test_a_noisy_mean_is_the_mean() -> None:
    terms = noisy_terms(figures=False)
    code = codes.encoding_of(terms, 3, 1)
    differences = [np.full(SIZE, (k + 1) / SIZE, np.float32) for k in range(3)]
    read = summed(terms, code, [contribution(terms, code, each, k) for k, each in enumerate(differences)])
    mean = mean_of(read, np.full(code.chunks(SIZE), EXPONENT, np.int8))
    sigma = math.sqrt(code.noise_variance(SIZE) / 3) * 2.0**EXPONENT
    assert abs(mean.mean() - 2 / SIZE) < 5 * sigma / math.sqrt(SIZE)
    assert abs(mean.std() / sigma - 1) < 0.05


def test_levels_never_exceed_the_sensitivity_that_the_noise_is_for() -> None:
    """Integers, as they are rounded; for an update that rounding favours and one beyond the clip norm."""
    terms = noisy_terms(figures=False)
    code = codes.encoding_of(terms, 3, 1)
    scales = np.full(code.chunks(SIZE), EXPONENT, np.int8)
    bare = codes.encoding_of(terms_of(chunk_parameters=4096, clip_norm=NORM, metrics=()), 3, 1)
    plan = MaskPlan(bytes(32), (), bytes(32))
    halves = np.full(SIZE, 0.5 * 2.0**EXPONENT, np.float32)
    halves *= NORM / np.linalg.norm(halves)
    settled = codes.settled_dither(halves, 1, plan, code, scales)
    data = b"".join(encode(halves, Header.of(terms, 1, 0.0, {}), settled, bare, scales))
    levels = np.frombuffer(data[: 2 * SIZE], "<i2")
    assert 0 < squared_norm([levels]) <= code.sensitivity(SIZE) ** 2
    wild = np.full(SIZE, 1.0, np.float32)  # an agent that forgot to clip
    with pytest.raises(TaskFailed, match="within its sensitivity"):
        codes.settled_dither(wild, 1, plan, code, scales)


def test_the_header_says_nothing_that_the_data_decides() -> None:
    """Norm, saturation, and which figures a member has: the same words for any data, noise aside."""
    terms, still = noisy_terms(figures=False), np.zeros(SIZE, np.float32)
    code = codes.encoding_of(terms, 3, 1)
    loud = np.zeros(SIZE, np.float32)
    loud[0] = NORM
    for update in (contribution(terms, code, still, 1), contribution(terms, code, loud, 2)):
        words = np.frombuffer(update, "<i8", offset=2 * SIZE)
        assert words.tolist() == [1, 0, 0, 0, 0, 0, 0]
    noised = noisy_terms()
    shares = [
        np.frombuffer(contribution(noised, codes.encoding_of(noised, 3, 1), still, 3, has), "<i8", offset=2 * SIZE)
        for has in ({}, {"train/loss": 3.0}, {"train/loss": 3.0, "train/accuracy": 0.5})
    ]
    assert [words[4] for words in shares] == [1 << 32] * 3
    assert [words[6] for words in shares] == [1 << 32] * 3


def test_noised_figures_have_the_variance_of_their_own_multiplier() -> None:
    terms, n = noisy_terms(), 4
    code, quorums = codes.encoding_of(terms, n, 1), Quorums.of(n)
    giving = givers(quorums.m, quorums.f)
    step, values = figure_step(4.0), []
    for trial in range(800):
        updates = [contribution(terms, code, np.zeros(0, np.float32), trial * 10 + k) for k in range(giving)]
        read = summed(terms, code, updates, 0)
        values += [read.header[3] / step, read.header[5] / step]
    target = (8.0 * FIGURE_LEVELS) ** 2 * len(METRICS)
    assert abs(np.var(values) / target - 1) < 5 * math.sqrt(2 / len(values))
    assert stats.pearsonr(values[0::2], values[1::2]).pvalue > 1e-6


def test_figures_are_held_within_their_bound() -> None:
    terms = noisy_terms()
    code = codes.encoding_of(terms, 3, 1)
    step, bare = figure_step(4.0), Header.of(terms, 1, 0.0, {"train/loss": 1e9, "train/accuracy": -1e9})

    class Silent:
        def add(self, levels: np.ndarray, index: int) -> None:
            assert index == 2**64 - 1

    assert bare.words(code, 0, Silent())[3::2].tolist() == [-FIGURE_LEVELS * step, FIGURE_LEVELS * step]


def test_without_noise_nothing_is_encoded_and_a_sum_beyond_ten_sigmas_is_refused() -> None:
    terms = noisy_terms(figures=False)
    code = codes.encoding_of(terms, 3, 1)
    scales, still = np.full(5, EXPONENT, np.int8), np.zeros(SIZE, np.float32)
    with pytest.raises(TaskFailed, match="no noise"):
        list(encode(still, Header.of(terms, 1, 0.0, {}), MaskPlan(bytes(32), ()), code, scales))
    most = 3 * code.level_bound + int(10 * math.sqrt(3 * code.noise_variance(SIZE)))
    header = np.array([3, 0, 0, 0, 0, 0, 0], "<i8").tobytes()
    for value, fine in ((most, True), (most + 1, False), (-most - 1, False)):
        levels = np.zeros(SIZE, "<i2")
        levels[7] = value
        if fine:
            read_sum(levels.tobytes() + header, terms, code, 3, 3, SIZE)
        else:
            with pytest.raises(ProtocolViolation, match="out of range"):
                read_sum(levels.tobytes() + header, terms, code, 3, 3, SIZE)


def test_a_model_too_large_for_the_scale_is_refused_before_anything_wraps() -> None:
    terms = noisy_terms(figures=False, multiplier=4.0)
    code = codes.encoding_of(terms, 7, 1)
    assert 7 * code.level_bound + 10 * math.sqrt(7 * code.noise_variance(1000)) <= 2**15 - 1
    assert 10 * math.sqrt(7 * code.noise_variance(1000)) <= noise_room(16)
    with pytest.raises(InvalidManifest, match="more noise than 16 bits have room for"):
        code.noise_variance(100_000_000)


@pytest.mark.parametrize("lanes", [2, 3])
def test_threads_change_no_bit_of_a_noised_update(lanes: int) -> None:
    terms = replace(noisy_terms(), chunk_parameters=256)
    code = codes.encoding_of(terms, 5, 1)
    values = np.random.default_rng(2).normal(0, 0.01, 256 * 41 + 3).astype(np.float32)
    scales = np.full(code.chunks(values.size), EXPONENT, np.int8)
    plan = MaskPlan(bytes(32), (), bytes(range(32)))
    header = Header.of(terms, 1, 1.0, {"train/loss": 0.5, "train/accuracy": 0.25})
    updates = []
    for threads in (1, lanes):
        settled = codes.settled_dither(values, 1, plan, code, scales, threads)
        noises = codes.noises_of(terms, code, plan, values.size)
        updates.append(list(encode(values, header, settled, code, scales, *noises, lanes=threads)))
    assert updates[0] == updates[1]


def test_a_discrete_gaussian_too_small_for_its_sums_is_refused() -> None:
    """A roster larger than the job planned for, where each gives less: the closeness of sums was counted from 8 on."""
    terms = noisy_terms(DISCRETE_GAUSSIAN, figures=False, multiplier=0.1)
    assert codes.encoding_of(terms, 3, 1).noise_variance(10) > 8
    with pytest.raises(InvalidManifest, match="too small for discrete_gaussian"):
        codes.encoding_of(terms, 200, 1).noise_variance(10)


@pytest.mark.parametrize("mechanism", [SKELLAM, DISCRETE_GAUSSIAN])
def test_noise_is_the_same_for_any_number_of_threads(mechanism: str) -> None:
    """A chunk's noise is its own, whichever thread makes it; and each chunk's is another."""
    terms = noisy_terms(mechanism)
    code = codes.encoding_of(terms, 3, 1)
    size = 40 * 4096 + 7
    difference = np.linspace(-1, 1, size, dtype=np.float32) * np.float32(NORM / math.sqrt(size))
    plan, scales = MaskPlan(bytes(32), (), bytes(32)), np.full(code.chunks(size), EXPONENT, np.int8)
    header = Header.of(terms, 1, 0.0, {"train/loss": 1.0})
    made = []
    for lanes in (1, 2, 3):
        settled = codes.settled_dither(difference, 1, plan, code, scales, lanes)
        noises = codes.noises_of(terms, code, plan, size)
        made.append(b"".join(encode(difference, header, settled, code, scales, *noises, lanes=lanes)))
    assert made[0] == made[1] == made[2]
    chunks = np.frombuffer(made[0][: 40 * 4096 * 2], "<i2").reshape(40, 4096)
    assert len({chunk.tobytes() for chunk in chunks}) == 40
