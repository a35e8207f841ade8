"""What sums cost: Renyi divergences of the mechanisms at fixed orders, which add up, and (epsilon, delta) from them.

Skellam, for integer vectors that move by at most Delta in the L2 norm under noise of variance mu (arXiv 2110.04995,
theorem 3.1 and its multi-dimensional form, for integer orders a):
    a Delta^2 / (2 mu) + min(((2a - 1) Delta^2 + 6 Delta_1) / (4 mu^2), 3 Delta_1 / (2 mu)),  Delta_1 <= Delta^2.
Sum of n discrete Gaussians of variance s^2 each (arXiv 2102.06387, theorem 1): 1/2 e^2-concentrated with
    e = min(sqrt(Delta^2 / (n s^2) + tau d / 2), Delta / (sqrt(n) s) + tau sqrt(d)),
    tau = 10 sum_{k=1}^{n-1} exp(-2 pi^2 s^2 k / (k + 1)).
The task's own DP-SGD is a Poisson-sampled Gaussian for each step, as dp-accounting has it. dp-accounting (imported where
it is used) also turns the sum of the curves into epsilon at a delta.

Neighbours: for the unit member, one member's update against none (zero-out; the cohort and its weights are public); for
the unit record, one record more or less. A record lies within its member's update, and changes it by at most twice the
clip norm: so what a job with the unit member costs a budget with the unit record is counted with twice the sensitivity.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache
from math import exp, inf, isfinite, pi, sqrt
from typing import Final

from federation.errors import InvalidManifest, VerificationFailed
from federation.privacy.terms import (
    DISCRETE_GAUSSIAN,
    DP_SGD,
    FIGURE_LEVELS,
    MECHANISMS,
    MEMBER,
    MOST_PARAMETERS,
    RECORD,
    SKELLAM,
    UNITS,
    Privacy,
)

ORDERS: Final = (*range(2, 65), *range(68, 129, 4), *range(144, 257, 16), 320, 384, 512, 768, 1024)
"""whole numbers: Skellam's bound holds for these"""
SLACK: Final = 2.0**-54
"""delta that each sum leaves to the sampler (2^-75 for each, times e^epsilon, epsilon below 14)"""
MOST_TERMS: Final = 200
LEAST_MULTIPLIER: Final = 0.05
MOST_MULTIPLIER: Final = 1e5
_DIGITS: Final = 6

Curve = tuple[float, ...]
"""Renyi divergence at each of ORDERS"""


@dataclass(frozen=True, slots=True, order=True)
class Query:
    """One noisy answer about the data: the update of a round, its figures, or the steps that a task takes in it."""

    mechanism: str
    unit: str
    noise_multiplier: float
    sensitivity: float
    """L2, in levels, at least (more only helps); 0 for dp_sgd"""
    givers: int = 0
    """how many members' noise the sum has at least"""
    sample_rate: float = 0.0
    steps: int = 0

    def curve(self) -> Curve:
        return _curve(self)


@dataclass(frozen=True, slots=True, order=True)
class Charge:
    """All that one sum says of a member."""

    queries: tuple[Query, ...]

    def text(self) -> str:
        return json.dumps([asdict(query) for query in self.queries], sort_keys=True)

    @staticmethod
    def read(text: str) -> Charge:
        """Raises VerificationFailed."""
        try:
            queries = tuple(Query(**each) for each in json.loads(text))
        except (ValueError, TypeError):
            queries = ()
        if not queries or any(each.mechanism not in MECHANISMS or each.unit not in UNITS for each in queries):
            raise VerificationFailed(
                "An entry of the privacy ledger cannot be read.",
                hint="Put back the journal as it was; nothing is charged, and no job with noise runs, until then.",
            )
        return Charge(queries)


def charge_of(privacy: Privacy, sensitivity: float, givers: int, figures: int, *, header_only: bool = False) -> Charge:
    """Of one round. ``sensitivity``: of an update in levels, before rounding. ``givers``: in the largest roster that may be
    formed, where each gives least. ``figures``: how many the job declares."""
    queries: list[Query] = []
    if not privacy.distributed:
        if not header_only:
            queries.append(
                Query(DP_SGD, privacy.unit, privacy.noise_multiplier, 0.0, 0, privacy.sample_rate, privacy.steps)
            )
        return Charge(tuple(queries))
    if not header_only:
        queries.append(Query(privacy.mechanism, privacy.unit, privacy.noise_multiplier, sensitivity, givers))
    if privacy.figures is not None and figures:
        queries.append(Query(privacy.mechanism, privacy.unit, privacy.figures.noise_multiplier, FIGURE_LEVELS, givers))
    return Charge(tuple(queries))


@lru_cache(maxsize=256)
def _curve(query: Query) -> Curve:
    return _CURVES[query.mechanism](query)


def _skellam(query: Query) -> Curve:
    squared = query.sensitivity**2
    mu = query.noise_multiplier**2 * squared
    return tuple(
        order * squared / (2 * mu)
        + min(((2 * order - 1) * squared + 6 * squared) / (4 * mu * mu), 3 * squared / (2 * mu))
        for order in ORDERS
    )


def _discrete_gaussian(query: Query) -> Curve:
    scale = 1 / query.noise_multiplier
    each = (query.noise_multiplier * query.sensitivity) ** 2 / query.givers
    tau = 10 * sum(exp(-2 * pi**2 * each * k / (k + 1)) for k in range(1, MOST_TERMS))
    e = min(sqrt(scale * scale + tau * MOST_PARAMETERS / 2), scale + tau * sqrt(MOST_PARAMETERS))
    return tuple(order * e * e / 2 for order in ORDERS)


def _dp_sgd(query: Query) -> Curve:
    from dp_accounting import dp_event
    from dp_accounting.rdp import RdpAccountant

    step: dp_event.DpEvent = dp_event.GaussianDpEvent(query.noise_multiplier)
    if query.sample_rate < 1:
        step = dp_event.PoissonSampledDpEvent(query.sample_rate, step)
    accountant = RdpAccountant(ORDERS)
    accountant.compose(step, query.steps)
    return tuple(float(value) for value in accountant._rdp)  # it gives its curve by no public name


_CURVES: Final[dict[str, Callable[[Query], Curve]]] = {
    SKELLAM: _skellam,
    DISCRETE_GAUSSIAN: _discrete_gaussian,
    DP_SGD: _dp_sgd,
}


def as_unit(query: Query, unit: str) -> Query | None:
    """The same query as a budget with ``unit`` sees it; None: it promises that unit nothing."""
    if query.unit == unit:
        return query
    if query.unit == MEMBER and unit == RECORD:
        return replace(
            query, unit=RECORD, noise_multiplier=query.noise_multiplier / 2, sensitivity=2 * query.sensitivity
        )
    return None


def epsilon_of(charges: Mapping[Charge, int], delta: float, unit: str) -> float:
    """Of all of them together, each so many times; infinite when one promises ``unit`` nothing, or delta is too small."""
    from dp_accounting.rdp import compute_epsilon

    total, count = [0.0] * len(ORDERS), 0
    for charge, times in charges.items():
        for query in charge.queries if times else ():
            seen = as_unit(query, unit)
            if seen is None:
                return inf
            count += times
            for place, value in enumerate(seen.curve()):
                total[place] += times * value
    if not count:
        return 0.0
    if delta <= 2 * count * SLACK:
        return inf
    epsilon = float(compute_epsilon(ORDERS, total, delta - count * SLACK)[0])
    return epsilon if isfinite(epsilon) else inf


def calibrated(epsilon: float, delta: float, unit: str, charges: Callable[[float], Mapping[Charge, int]]) -> float:
    """The least noise multiplier, of six digits, with which ``charges(multiplier)`` cost at most ``epsilon``.

    Raises InvalidManifest when none does.
    """
    low, high = LEAST_MULTIPLIER, MOST_MULTIPLIER
    if epsilon_of(charges(high), delta, unit) > epsilon:
        raise InvalidManifest(
            f"spec.privacy.epsilon: {epsilon:g} at delta {delta:g} cannot be kept, however much noise the updates carry.",
            hint="Raise epsilon, plan fewer rounds, or give the figures more noise.",
            field="spec.privacy.epsilon",
        )
    while high - low > low * 10**-_DIGITS:
        middle = sqrt(low * high)
        low, high = (low, middle) if epsilon_of(charges(middle), delta, unit) <= epsilon else (middle, high)
    return _rounded_up(high)


def _rounded_up(value: float) -> float:
    exact = Decimal(value)
    return float(exact.quantize(Decimal(1).scaleb(exact.adjusted() - _DIGITS + 1), ROUND_CEILING))


def rounded_up(epsilon: float) -> float:
    """An epsilon as people state it: six digits, never less than it is."""
    return _rounded_up(epsilon) if 0 < epsilon < inf else epsilon


def repeated(charges: Iterable[tuple[Charge, int]]) -> dict[Charge, int]:
    """Counts of equal charges, added up; those of no query are left out."""
    counts: dict[Charge, int] = {}
    for charge, times in charges:
        if charge.queries and times:
            counts[charge] = counts.get(charge, 0) + times
    return counts
