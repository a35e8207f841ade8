"""Whether a job's final model may be released: its gates, from the manifest and from the figures that q members signed.

A pure function in exact arithmetic: members, coordinator and any verifier come to the same verdict to the last bit. A gate that
cannot be judged, for want of a figure or of examples, has failed. Nobody can pass a failed gate: not the lead, not a vote.

Figures are means over the cohort by its members' public weights, or sums of shares: where each member reports of a group the
share of its examples, the ratio of two means is the ratio over the cohort. What a gate cannot tell is whether tasks told the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Final

from federation.manifest.gates import Calibration, Gates, Membership, WorstGroup, groups_of
from federation.secagg.figures import exact_means
from federation.secagg.parameters import Terms

EVALUATE: Final = "evaluate/"


@dataclass(frozen=True, slots=True)
class Verdict:
    gate: str
    """which one: "quality eval_acc", "worst group accuracy" """
    passed: bool
    value: float | None
    """None: it could not be judged"""
    bound: float
    at_least: bool
    where: str
    """the group that decided, or why it could not be judged"""

    @property
    def words(self) -> str:
        """Such as "quality eval_acc: 0.91 < 0.95"."""
        if self.value is None:
            return f"{self.gate}: not to be judged, {self.where}"
        sign = (">=" if self.at_least else "<=") if self.passed else ("<" if self.at_least else ">")
        group = f" ({self.where})" if self.where else ""
        return f"{self.gate}: {_shown(self.value, self.bound)} {sign} {self.bound:g}{group}"


class _UnjudgedError(Exception):
    """Why a gate cannot be judged."""


def judge(gates: Gates | None, words: Sequence[int], terms: Terms) -> tuple[Verdict, ...]:
    """One verdict for each gate, in the order of the manifest. ``words``: of a receipt of the last round."""
    if gates is None:
        return ()
    means = exact_means(words, terms)
    figures = {name.removeprefix(EVALUATE): mean for name, mean in means.items() if name.startswith(EVALUATE)}
    declared = [name.removeprefix(EVALUATE) for name in terms.metrics if name.startswith(EVALUATE)]
    return tuple(_judged(gates, _Figures(figures, declared)))


def withheld(verdicts: Sequence[Verdict]) -> str:
    """Why there is no release, in a sentence; empty when every gate has passed."""
    failed = [f"gate {verdict.words}" for verdict in verdicts if not verdict.passed]
    return f"release withheld: {'; '.join(failed)}" if failed else ""


@dataclass(frozen=True, slots=True)
class _Figures:
    means: Mapping[str, Fraction]
    declared: Sequence[str]

    def of(self, name: str) -> Fraction:
        if name not in self.means:
            raise _UnjudgedError(f"no member has the figure {name}")
        return self.means[name]

    def family(self, name: str) -> dict[str, Fraction]:
        return {group: self.of(f"{name}/{group}") for group in groups_of(name, self.declared)}


def _judged(gates: Gates, figures: _Figures) -> Iterator[Verdict]:
    for quality in gates.quality:
        least, most = quality.at_least, quality.at_most
        yield _verdict(f"quality {quality.figure}", least, most, partial(_figure, quality.figure, figures))
    for groups in gates.worst_group:
        name = f"worst group {groups.figures}"
        yield _verdict(name, groups.at_least, groups.at_most, partial(_worst, groups, figures))
    if (calibration := gates.calibration) is not None:
        yield _verdict("calibration", None, calibration.at_most, partial(_calibration_error, calibration, figures))
    if (canaries := gates.canaries) is not None:
        yield _verdict("canaries", None, canaries.at_most, partial(_figure, canaries.figure, figures))
    if (membership := gates.membership) is not None:
        yield _verdict("membership", None, membership.at_most, partial(_attack, membership, figures))


def _verdict(
    gate: str, at_least: float | None, at_most: float | None, compute: Callable[[], tuple[Fraction, str]]
) -> Verdict:
    bound = at_most if at_least is None else at_least
    if bound is None or (at_least is not None and at_most is not None):  # open_manifest refuses such a document
        return Verdict(gate, False, None, 0.0, at_least is not None, "it has not exactly one of atLeast and atMost")
    try:
        value, where = compute()
    except _UnjudgedError as reason:
        return Verdict(gate, False, None, bound, at_least is not None, str(reason))
    passed = value <= Fraction(bound) if at_least is None else value >= Fraction(bound)
    return Verdict(gate, passed, float(value), bound, at_least is not None, where)


def _figure(name: str, figures: _Figures) -> tuple[Fraction, str]:
    return figures.of(name), ""


def _worst(gate: WorstGroup, figures: _Figures) -> tuple[Fraction, str]:
    values = figures.family(gate.figures)
    if gate.per is not None:
        shares = figures.family(gate.per)
        if empty := [group for group in values if shares[group] <= 0]:
            raise _UnjudgedError(f"no examples of group {empty[0]}")
        values = {group: value / shares[group] for group, value in values.items()}
    chosen = (max if gate.at_least is None else min)(values, key=lambda group: values[group])
    return values[chosen], f"group {chosen}"


def _calibration_error(gate: Calibration, figures: _Figures) -> tuple[Fraction, str]:
    """Expected calibration error: over all bins, how far confidence is from hits, by the bins' shares of examples (Naeini et al.,
    AAAI 2015). A bin's figure is that gap and that share in one."""
    return sum((abs(gap) for gap in figures.family(gate.bins).values()), Fraction()), ""


def _attack(gate: Membership, figures: _Figures) -> tuple[Fraction, str]:
    """The area under the curve of the attack that calls an example a training example when its loss lies below a threshold
    (Yeom et al., CSF 2018), over all thresholds between bins; read the other way round where that serves the attacker."""
    members, others = figures.family(gate.members), figures.family(gate.others)
    all_members, all_others = sum(members.values(), Fraction()), sum(others.values(), Fraction())
    if all_members <= 0 or all_others <= 0:
        raise _UnjudgedError("no examples in its bins")
    below, area = Fraction(), Fraction()
    for group, share in members.items():
        area += others[group] * (below + share / 2)
        below += share
    area /= all_members * all_others
    return max(area, 1 - area), ""


def _shown(value: float, bound: float) -> str:
    """So many digits that the value is not shown as the bound, unless it is."""
    return next((text for digits in range(3, 17) if float(text := f"{value:.{digits}g}") != bound), f"{value:g}")
