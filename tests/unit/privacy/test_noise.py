"""The sampler draws exactly the masses of its table, and those are Skellam's and the discrete Gaussian's.

Statistical tests have fixed keys; each would fail by chance, for another key, with a probability of about 1e-6.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from scipy import stats

from federation.errors import InvalidManifest
from federation.privacy.noise import MASS_BITS, Noise, Table, masses_of, table_of
from federation.privacy.terms import DISCRETE_GAUSSIAN, MOST_VARIANCE, SKELLAM

MECHANISMS = (SKELLAM, DISCRETE_GAUSSIAN)
VARIANCES = (0.3, 9.0, 2500.5)
CHANCE = 1e-6
KEY = bytes(range(32))


def drawn(mechanism: str, variance: float, count: int = 1 << 19, key: bytes = KEY) -> np.ndarray:
    noise = Noise(mechanism, variance, key)
    return np.concatenate([noise.draw(index, 1 << 16) for index in range(count >> 16)])


@pytest.mark.parametrize("variance", [*VARIANCES, MOST_VARIANCE])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_table_holds_the_masses_to_the_last_of_128_bits(mechanism: str, variance: float) -> None:
    masses = masses_of(mechanism, variance)
    table = Table(mechanism, variance)
    cells = len(table.packed)
    capacity = 1 << (MASS_BITS - table.bits)
    held = [0] * cells
    for cell, entry in enumerate(table.packed.tolist()):
        threshold = ((entry >> 32) << 96) + table.rest[cell]
        assert 0 <= threshold < capacity
        held[cell] += threshold
        held[entry & 0xFFFFFFFF] += capacity - threshold
    assert held == masses + [0] * (cells - len(masses))
    assert sum(masses) == 1 << MASS_BITS
    assert masses == masses[::-1]


@pytest.mark.parametrize("variance", VARIANCES)
def test_masses_are_those_of_another_implementation(variance: float) -> None:
    """scipy's have some 13 digits; ours have 38."""
    masses = masses_of(SKELLAM, variance)
    reach = len(masses) // 2
    near = np.arange(-min(reach, int(6 * variance**0.5)), min(reach, int(6 * variance**0.5)) + 1)
    ours = np.array([masses[reach + k] / 2**MASS_BITS for k in near.tolist()])
    np.testing.assert_allclose(ours, stats.skellam.pmf(near, variance / 2, variance / 2), rtol=1e-9)

    masses = masses_of(DISCRETE_GAUSSIAN, variance)
    reach = len(masses) // 2
    weights = [math.exp(-k * k / (2 * variance)) for k in range(-reach, reach + 1)]
    whole = math.fsum(weights)
    np.testing.assert_allclose([mass / 2**MASS_BITS for mass in masses], [w / whole for w in weights], atol=1e-15)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_what_a_table_leaves_out_is_below_its_stated_distance(mechanism: str) -> None:
    """The distance is at most the tail beyond the table and one unit for each mass: 2^-110 together."""
    for variance in (0.3, 2500.5, MOST_VARIANCE):
        masses = masses_of(mechanism, variance)
        reach = len(masses) // 2
        exponent = reach * reach / (2 * (variance + reach / 3))  # Bernstein
        assert 2 * math.exp(-exponent) + len(masses) * 2.0**-MASS_BITS <= 2.0**-110


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_draws_follow_the_distribution(mechanism: str, variance: float) -> None:
    sample = drawn(mechanism, variance)
    masses = masses_of(mechanism, variance)
    reach = len(masses) // 2
    expected = np.array([mass / 2**MASS_BITS for mass in masses]) * sample.size
    counts = np.bincount(sample + reach, minlength=len(masses)).astype(float)
    often = expected >= 10
    seen = np.append(counts[often], counts[~often].sum())
    wanted = np.append(expected[often], expected[~often].sum())
    if wanted[-1] < 5:
        seen, wanted = np.append(seen[:-2], seen[-2:].sum()), np.append(wanted[:-2], wanted[-2:].sum())
    assert stats.chisquare(seen, wanted).pvalue > CHANCE


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_moments_and_tails(mechanism: str) -> None:
    variance, count = 400.0, 1 << 20
    sample = drawn(mechanism, variance, count).astype(float)
    widest = stats.norm.isf(CHANCE / 2)
    assert abs(sample.mean()) < widest * math.sqrt(variance / count)
    assert abs(sample.var() / variance - 1) < widest * math.sqrt(2.1 / count)
    for sigmas in (2, 3, 4):
        masses = masses_of(mechanism, variance)
        reach = len(masses) // 2
        edge = int(sigmas * 20)
        beyond = 2 * sum(masses[reach + edge + 1 :]) / 2**MASS_BITS
        assert stats.binomtest(int((abs(sample) > edge).sum()), count, beyond).pvalue > CHANCE


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_chunks_keys_and_neighbours_are_independent(mechanism: str) -> None:
    one, other = Noise(mechanism, 100.0, KEY), Noise(mechanism, 100.0, bytes(32))
    first, second, third = one.draw(0, 1 << 16), one.draw(1, 1 << 16), other.draw(0, 1 << 16)
    for a, b in ((first, second), (first, third), (first[:-1], first[1:])):
        assert stats.pearsonr(a, b).pvalue > CHANCE
        signs = np.histogram2d(np.sign(a), np.sign(b), bins=3)[0]
        assert stats.chi2_contingency(signs).pvalue > CHANCE


def test_a_chunk_is_made_by_itself() -> None:
    noise = Noise(SKELLAM, 9.0, KEY)
    noise.draw(0, 1000)
    again = noise.draw(7, 1000)
    assert np.array_equal(Noise(SKELLAM, 9.0, KEY).draw(7, 1000), again)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_against_a_plain_reading_of_128_bit_words_ties_included(mechanism: str) -> None:
    """With 2^17 cells 15 bits of the first word are left for the threshold, so ties happen; they are decided exactly."""
    count, ties = 1 << 16, 0
    table = table_of(mechanism, MOST_VARIANCE)
    stream = Cipher(AES(KEY), CTR((3).to_bytes(8, "big") + bytes(8))).encryptor()
    words = stream.update(bytes(4 * count))
    plain = []
    for place in range(count):
        word = int.from_bytes(words[4 * place : 4 * place + 4], "little")
        cell, low = word >> (32 - table.bits), word & ((1 << (32 - table.bits)) - 1)
        alias, threshold = int(table.packed[cell]) & 0xFFFFFFFF, int(table.packed[cell]) >> 32
        if low == threshold:
            ties += 1
            more = int.from_bytes(stream.update(bytes(12)), "little")
            low, threshold = more, table.rest[cell]
        plain.append((cell if low < threshold else alias) - table.zero)
    assert ties > 0
    assert Noise(mechanism, MOST_VARIANCE, KEY).draw(3, count).tolist() == plain


def test_levels_wrap_as_the_ring_does_and_no_noise_changes_nothing() -> None:
    levels = np.full(1000, 127, np.int8)
    Noise(SKELLAM, 100.0, KEY).add(levels, 0)
    assert np.array_equal(levels, (127 + Noise(SKELLAM, 100.0, KEY).draw(0, 1000)).astype(np.int8))
    untouched = np.arange(5, dtype=np.int16)
    Noise(SKELLAM, 0.0, KEY).add(untouched, 0)
    assert untouched.tolist() == [0, 1, 2, 3, 4]


def test_a_key_is_not_shown_and_a_variance_out_of_range_is_refused() -> None:
    assert KEY.hex() not in repr(Noise(SKELLAM, 1.0, KEY))
    for variance in (-1.0, MOST_VARIANCE * 1.01):
        with pytest.raises(InvalidManifest, match="out of range"):
            Noise(SKELLAM, variance, KEY)
