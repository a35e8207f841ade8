"""What the final model must be before it may be released: thresholds on the figures of the final evaluation.

A gate speaks of figures that the job declares in ``spec.metrics.evaluate``, by their names there. Those are sums over the cohort
that members sign in their receipts; who computes a gate from them, and how, is ``federation.releases.gates``. A family is all
figures of one name and a part after a slash: ``hits/0``, ``hits/1`` are the family ``hits``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field

from federation.manifest.schema import Number, Part

if TYPE_CHECKING:
    from federation.manifest.document import Spec

MOST_GATES: Final = 32
FEWEST_BINS: Final = 2
_NAME: Final = r"^[A-Za-z_][A-Za-z0-9_.\-]{0,63}(/[A-Za-z0-9_.\-]{1,63})?$"
_FAMILY: Final = r"^[A-Za-z_][A-Za-z0-9_.\-]{0,63}$"

Figure = Annotated[str, Field(pattern=_NAME)]
Family = Annotated[str, Field(pattern=_FAMILY)]


class Threshold(Part):
    figure: Figure = Field(description="a figure of metrics.evaluate")
    at_least: Number | None = Field(None, description="the release needs this much or more; state this or atMost")
    at_most: Number | None = Field(None, description="the release needs this much or less")


class WorstGroup(Part):
    figures: Family = Field(
        description="a figure for each group, such as hits for hits/0, hits/1: the worst one counts"
    )
    per: Family | None = Field(
        None,
        description="each is divided by the figure of this name and the same group: shares of hits by shares of examples, so that "
        "a group weighs what it weighs over the cohort. Absent: the figures are taken as they are",
    )
    at_least: Number | None = Field(None, description="the lowest group needs this much; state this or atMost")
    at_most: Number | None = Field(None, description="the highest group may have this much")


class Calibration(Part):
    bins: Family = Field(
        description="for each bin of confidence the sum of confidence less hits, over the member's number of examples"
    )
    at_most: Number = Field(ge=0, le=1, description="the largest expected calibration error")


class Canaries(Part):
    figure: Figure = Field(
        description="mean exposure in bits of the canaries that each member trained on; 1.44 where nothing is memorised"
    )
    at_most: Number = Field(ge=0, le=64, description="the largest mean exposure, in bits")


class Membership(Part):
    members: Family = Field(description="shares of training examples by bins of their loss, lowest first")
    others: Family = Field(description="shares of examples that nobody trained on, in the same bins")
    at_most: Number = Field(
        ge=0.5,
        le=1,
        description="the largest area under the curve of the attack that guesses by the loss; 0.5 is chance",
    )


class Gates(Part):
    quality: list[Threshold] = Field([], max_length=MOST_GATES, description="figures of the whole cohort")
    worst_group: list[WorstGroup] = Field([], max_length=MOST_GATES, description="the worst of several groups")
    calibration: Calibration | None = Field(None, description="expected calibration error; absent: not asked")
    canaries: Canaries | None = Field(None, description="memorisation, by inserted canaries; absent: not asked")
    membership: Membership | None = Field(
        None, description="memorisation, by an attack that tells training examples from others; absent: not asked"
    )

    @property
    def asked(self) -> bool:
        return bool(self.quality or self.worst_group or self.calibration or self.canaries or self.membership)


def groups_of(family: str, names: Iterable[str]) -> tuple[str, ...]:
    """The parts after the slash of the figures of a family: by number where all are numbers, else by name."""
    found = [name.removeprefix(f"{family}/") for name in names if name.startswith(f"{family}/")]
    return tuple(sorted(found, key=int) if all(part.isascii() and part.isdigit() for part in found) else sorted(found))


def problems_of_gates(spec: Spec) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """(what is wrong, the field under spec, what to do): every gate can be judged from what the job declares."""
    gates, declared = spec.gates, spec.metrics.evaluate
    if gates is None or not gates.asked:
        return
    if not (spec.evaluate and spec.final_evaluation):
        yield (
            "judge the final evaluation, which the job does not make.",
            ("gates",),
            "Leave evaluate and finalEvaluation true.",
        )
    if spec.privacy is not None and spec.privacy.figures is None:
        yield (
            "judge figures, and a job with privacy has none.",
            ("gates",),
            "Add privacy.figures: they leave with noise.",
        )
    stated = [("quality", each.at_least, each.at_most) for each in gates.quality]
    stated += [("worstGroup", each.at_least, each.at_most) for each in gates.worst_group]
    for field, least, most in stated:
        if (least is None) == (most is None):
            yield "needs one of atLeast and atMost.", ("gates", field), "State one of the two."
    figures = [("quality", each.figure) for each in gates.quality]
    figures += [("canaries", gates.canaries.figure)] if gates.canaries else []
    for field, figure in figures:
        if figure not in declared:
            yield (
                f"judges {figure}, which metrics.evaluate does not declare.",
                ("gates", field),
                "Declare it, and have the app's evaluate function report it.",
            )
    yield from _families(gates, declared)


def _families(gates: Gates, declared: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...], str]]:
    wanted: list[tuple[str, str, str | None]] = [("worstGroup", each.figures, each.per) for each in gates.worst_group]
    if gates.calibration is not None:
        wanted.append(("calibration", gates.calibration.bins, None))
    if gates.membership is not None:
        wanted.append(("membership", gates.membership.members, gates.membership.others))
    for field, family, other in wanted:
        groups = groups_of(family, declared)
        if len(groups) < FEWEST_BINS:
            yield (
                f"judges the family {family}, of which metrics.evaluate declares {len(groups)}; it takes {FEWEST_BINS}.",
                ("gates", field),
                f"Declare {family}/0, {family}/1 and so on.",
            )
        if other is not None and groups_of(other, declared) != groups:
            yield (
                f"needs {other} for the same groups as {family}.",
                ("gates", field),
                f"Declare {other}/X in metrics.evaluate for each {family}/X.",
            )
