"""Curves against published numbers, and never below what brute force over the real masses says."""

from __future__ import annotations

import math
from collections.abc import Sequence

import mpmath
import numpy as np
import pytest
from dp_accounting import dp_event
from dp_accounting.pld import privacy_loss_distribution as pld
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from federation.errors import InvalidManifest, VerificationFailed
from federation.privacy import accounting
from federation.privacy.accounting import ORDERS, Charge, Query, calibrated, charge_of, epsilon_of, rounded_up
from federation.privacy.noise import MASS_BITS, masses_of
from federation.privacy.terms import (
    DISCRETE_GAUSSIAN,
    DP_SGD,
    FIGURE_LEVELS,
    MEMBER,
    RECORD,
    SKELLAM,
    FigureNoise,
    Privacy,
    givers,
)


def skellam(multiplier: float, sensitivity: float = 50.0) -> Charge:
    return Charge((Query(SKELLAM, MEMBER, multiplier, sensitivity, 3),))


def gaussian(multiplier: float, sensitivity: float = 50.0) -> Charge:
    return Charge((Query(DISCRETE_GAUSSIAN, MEMBER, multiplier, sensitivity, 3),))


def dp_sgd(multiplier: float, rate: float, steps: int) -> Charge:
    return Charge((Query(DP_SGD, RECORD, multiplier, 0.0, 0, rate, steps),))


# ------------------------------------------------------------------------------------------------------ published numbers


def test_the_published_multiplier_of_one_and_a_millionth() -> None:
    """dp-accounting, rdp_privacy_accountant_test.py, test_compute_epsilon_delta_gaussian: 4.530877117 gives (1, 1e-6)
    over fine orders; over whole ones it costs a little more, never less."""
    for charge in (skellam(4.530877117, 1e4), gaussian(4.530877117, 1e4)):
        assert 1.0 <= epsilon_of({charge: 1}, 1e-6, MEMBER) <= 1.001


@pytest.mark.parametrize(
    ("rate", "multiplier", "order"),
    # Of dp-accounting's own cases (test_compute_log_a_equals_mp) those at whole orders.
    [(1e-6, 1.0, 27), (1e-3, 1.0, 2), (0.01, 10.0, 20)],
)
def test_a_sampled_step_is_the_binomial_sum_in_many_digits(rate: float, multiplier: float, order: int) -> None:
    with mpmath.workdps(60):
        moment = sum(
            mpmath.binomial(order, k)
            * mpmath.mpf(1 - rate) ** (order - k)
            * mpmath.mpf(rate) ** k
            * mpmath.exp(mpmath.mpf(k * k - k) / (2 * mpmath.mpf(multiplier) ** 2))
            for k in range(order + 1)
        )
        true = float(mpmath.log(moment) / (order - 1))
    curve = dp_sgd(multiplier, rate, 1).queries[0].curve()
    assert curve[ORDERS.index(order)] == pytest.approx(true, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize(("rate", "multiplier", "steps"), [(0.0025, 1.3, 6000), (0.05, 1.0, 200), (1.0, 3.0, 5)])
def test_dp_sgd_is_near_the_loss_distribution_and_never_below_it(rate: float, multiplier: float, steps: int) -> None:
    loss = pld.from_gaussian_mechanism(
        multiplier, sampling_prob=rate, value_discretization_interval=1e-3, use_connect_dots=True
    )
    true = float(loss.self_compose(steps).get_epsilon_for_delta(1e-5))
    assert true * 0.999 <= epsilon_of({dp_sgd(multiplier, rate, steps): 1}, 1e-5, RECORD) <= true * 1.25


def test_the_gaussian_in_the_limit_of_fine_levels() -> None:
    """With many levels to the norm, both cost what dp-accounting has for the Gaussian, at the same orders."""
    for multiplier, times in ((1.0, 1), (4.0, 100), (0.7, 3)):
        accountant = RdpAccountant(ORDERS)
        accountant.compose(dp_event.GaussianDpEvent(multiplier), times)
        true = accountant.get_epsilon(1e-6)
        for charge in (skellam(multiplier, 1e4), gaussian(multiplier, 1e4)):
            assert true <= epsilon_of({charge: times}, 1e-6, MEMBER) <= true * 1.0001


def test_skellams_extra_cost_is_as_the_paper_has_it() -> None:
    """arXiv 2110.04995, theorem 3.1, written out for one order: a D^2/(2 mu) + min(((2a-1)D^2 + 6D)/(4 mu^2), 3D/(2 mu)),
    for D = D_1 = 1; and with coarse levels it costs more than with fine ones."""
    mu, order = 4.0, 8
    curve = skellam(2.0, 1.0).queries[0].curve()
    assert curve[ORDERS.index(order)] == pytest.approx(order / (2 * mu) + min((15 + 6) / (4 * mu * mu), 3 / (2 * mu)))
    costs = [epsilon_of({skellam(2.0, sensitivity): 10}, 1e-5, MEMBER) for sensitivity in (1.0, 2.0, 8.0, 1000.0)]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > 1.02 * costs[-1]


def test_a_sum_of_discrete_gaussians_by_its_theorem() -> None:
    """arXiv 2102.06387, theorem 1: tau is negligible from a variance of 8 on, and is not where levels are coarse."""
    fine = gaussian(2.0, math.sqrt(8 * 3) / 2.0).queries[0].curve()
    assert fine[0] == pytest.approx(2 * 0.25 / 2, rel=1e-9)
    coarse = gaussian(2.0, math.sqrt(1.0 * 3) / 2.0).queries[0].curve()
    assert coarse[0] > 10 * fine[0]


# --------------------------------------------------------------------------------------------------- against brute force


def pmf_of(mechanism: str, variance: float, members: int) -> dict[int, float]:
    """Masses of the sum of so many members' noise, by convolution."""
    masses = np.array([mass / 2**MASS_BITS for mass in masses_of(mechanism, variance)])
    total = masses
    for _ in range(members - 1):
        total = np.convolve(total, masses)
    reach = len(total) // 2
    return {k - reach: float(mass) for k, mass in enumerate(total) if mass > 1e-300}


def brute_force(pmf: dict[int, float], shift: Sequence[int], times: int, delta: float) -> float:
    """Epsilon of ``times`` sums that move by ``shift``: coordinates are independent, so their loss distributions compose."""
    whole = None
    for move in shift:
        moved = {k + move: math.log(mass) for k, mass in pmf.items() if k + move in pmf}
        still = {k: math.log(mass) for k, mass in pmf.items() if k in moved}
        both = pld.from_two_probability_mass_functions(still, moved, value_discretization_interval=1e-4)
        whole = both if whole is None else whole.compose(both)
    assert whole is not None
    return float(whole.self_compose(times).get_epsilon_for_delta(delta))


@settings(deadline=None, max_examples=25)
@given(
    mechanism=st.sampled_from([SKELLAM, DISCRETE_GAUSSIAN]),
    shift=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    multiplier=st.floats(1.0, 6.0),
    times=st.integers(1, 12),
    members=st.integers(1, 3),
)
def test_never_below_brute_force(mechanism: str, shift: list[int], multiplier: float, times: int, members: int) -> None:
    sensitivity = math.sqrt(sum(move * move for move in shift))
    each = (multiplier * sensitivity) ** 2 / members
    query = Query(mechanism, MEMBER, multiplier, sensitivity, members)
    true = brute_force(pmf_of(mechanism, each, members), shift, times, 1e-5)
    assert epsilon_of({Charge((query,)): times}, 1e-5, MEMBER) >= true * (1 - 1e-3)


@pytest.mark.parametrize("mu", [0.5, 2.0, 30.0])
@pytest.mark.parametrize("move", [1, 2, 5])
def test_skellams_divergence_is_below_its_bound_at_every_order(mu: float, move: int) -> None:
    """Renyi divergences summed over the real masses, at orders where double precision holds."""
    reach = np.arange(-400, 401)
    p, q = stats.skellam.logpmf(reach, mu / 2, mu / 2), stats.skellam.logpmf(reach - move, mu / 2, mu / 2)
    keep = (p > -600) & (q > -600)
    query = Query(SKELLAM, MEMBER, math.sqrt(mu) / move, float(move), 1)
    for order, bound in zip(ORDERS[:15], query.curve(), strict=False):
        terms = order * p[keep] + (1 - order) * q[keep]
        true = (terms.max() + math.log(np.exp(terms - terms.max()).sum())) / (order - 1)
        assert true <= bound * (1 + 1e-6)


# ------------------------------------------------------------------------------------------------ composition and units


def test_costs_add_up_in_any_order_and_grow_with_every_charge() -> None:
    both = epsilon_of({skellam(2.0): 3, gaussian(5.0): 2}, 1e-6, MEMBER)
    assert both == epsilon_of({gaussian(5.0): 2, skellam(2.0): 3}, 1e-6, MEMBER)
    assert (
        epsilon_of({skellam(2.0): 3}, 1e-6, MEMBER)
        < both
        < epsilon_of({skellam(2.0): 4, gaussian(5.0): 2}, 1e-6, MEMBER)
    )
    assert epsilon_of({}, 1e-6, MEMBER) == 0.0


def test_a_members_job_costs_records_twice_the_sensitivity_and_a_records_job_promises_members_nothing() -> None:
    fine = skellam(2.0, 1e4)
    assert epsilon_of({fine: 1}, 1e-6, RECORD) == pytest.approx(epsilon_of({skellam(1.0, 2e4): 1}, 1e-6, MEMBER))
    assert epsilon_of({dp_sgd(1.0, 0.1, 10): 1}, 1e-6, MEMBER) == math.inf


def test_a_delta_below_the_samplers_own_distance_buys_nothing() -> None:
    assert epsilon_of({skellam(2.0): 100_000}, 1e-12, MEMBER) == math.inf
    assert epsilon_of({skellam(200.0): 1000}, 1e-12, MEMBER) < math.inf


@settings(deadline=None, max_examples=20)
@given(epsilon=st.floats(0.1, 20), rounds=st.integers(1, 500), exponent=st.integers(4, 9))
def test_a_calibrated_multiplier_keeps_its_target_and_wastes_nothing(
    epsilon: float, rounds: int, exponent: int
) -> None:
    delta = 10.0**-exponent
    found = calibrated(epsilon, delta, MEMBER, lambda multiplier: {skellam(multiplier): rounds})
    assert epsilon_of({skellam(found): rounds}, delta, MEMBER) <= epsilon
    assert epsilon_of({skellam(found * 0.9999): rounds}, delta, MEMBER) > epsilon


def test_an_epsilon_that_the_figures_alone_exceed_cannot_be_kept() -> None:
    loud = Query(SKELLAM, MEMBER, 0.5, 256.0, 3)
    with pytest.raises(InvalidManifest, match="cannot be kept"):
        calibrated(1.0, 1e-6, MEMBER, lambda multiplier: {Charge((*skellam(multiplier).queries, loud)): 5})


def test_charges_of_a_round() -> None:
    privacy = Privacy(SKELLAM, MEMBER, 2.0, 1.0, 1e-6, FigureNoise(8.0, 10.0))
    both = charge_of(privacy, 100.0, 4, 3)
    assert [(query.noise_multiplier, query.sensitivity) for query in both.queries] == [
        (2.0, 100.0),
        (8.0, FIGURE_LEVELS),
    ]
    assert charge_of(privacy, 100.0, 4, 3, header_only=True).queries == both.queries[1:]
    assert charge_of(privacy, 100.0, 4, 0).queries == both.queries[:1]
    steps = Privacy(DP_SGD, RECORD, 1.1, 1.0, 1e-6, sample_rate=0.1, record_clip=1.0, steps=20)
    assert charge_of(steps, 100.0, 4, 3).queries == (Query(DP_SGD, RECORD, 1.1, 0.0, 0, 0.1, 20),)
    assert charge_of(steps, 100.0, 4, 3, header_only=True).queries == ()


def test_a_charge_is_read_as_it_was_written_and_damage_is_said() -> None:
    charge = Charge((*skellam(2.0).queries, *gaussian(1 / 3).queries))
    assert Charge.read(charge.text()) == charge
    for text in ("", "[]", "[{}]", charge.text().replace("skellam", "laplace"), charge.text()[:-2]):
        with pytest.raises(VerificationFailed, match="cannot be read"):
            Charge.read(text)


@given(value=st.floats(1e-3, 1e5))
def test_a_stated_epsilon_is_never_less_than_it_is(value: float) -> None:
    assert value <= rounded_up(value) <= value * (1 + 2e-5)


def test_noise_that_nobody_in_a_cohort_knows() -> None:
    """A member knows its own noise, so at least one member's is left out even where no collusion is tolerated."""
    assert [givers(3, 0), givers(4 - 1, 1), givers(7, 3)] == [2, 2, 4]


def test_dp_accountings_curve_is_where_we_read_it() -> None:
    """It has no public name: this fails where a new release moves it."""
    curve = Query(DP_SGD, RECORD, 1.0, 0.0, 0, 1.0, 1).curve()
    assert curve == pytest.approx([order / 2 for order in ORDERS])
    assert 2.0**-75 * math.exp(14) < accounting.SLACK
