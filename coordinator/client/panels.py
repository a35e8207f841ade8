"""The six panels of a job's picture: each draws one thing by round, on axes of matplotlib.

Every name and number came from a peer. A name is shortened and never read as a formula; rounds that the job does not have, and
numbers that no axis holds, are left out. Colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), which people
tell apart who see red and green alike; curves differ by their marks as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from coordinator.client.curves import Point, failed_attempts, points_of
from coordinator.client.figures import is_accuracy, is_loss
from coordinator.client.views import Job, Round

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK, GREY = "#E69F00", "#56B4E9", "#000000", "#8a8a8a"
COLOURS: Final = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK, GREY)
MARKS: Final = ("o", "s", "^", "D", "v", "P", "X", "*")
PHASES: Final = {"announced": SKY, "collecting": BLUE, "certifying": ORANGE, "revealing": PURPLE}
"""in the order in which a round goes through them"""
OTHER, WASTED = "other", "attempts without a sum"
ROUNDS_AT_MOST: Final = 100_001
"""of a manifest, with the final evaluation"""
LARGEST: Final = 1e100
MANY_ROUNDS: Final = 60
"""from here on bars touch, and curves have small marks"""
MEMBERS_BY_NAME: Final = 14
LOGARITHMIC_FROM: Final = 1000.0
"""a panel whose largest number is so many times the smallest"""
LEGEND_BELOW: Final = 0.47
"""inches"""
NAME_LENGTH: Final = 34
MEMBER_LENGTH: Final = 14
UNITS: Final = (("seconds", 1.0, 300.0), ("minutes", 60.0, 18_000.0), ("hours", 3600.0, math.inf))
"""each with its seconds, and the time up to which it is taken"""


@dataclass(frozen=True, slots=True)
class Span:
    """What is drawn: closed rounds by number, attempts without a sum, and the last round of the axes."""

    points: tuple[Point, ...]
    failed: tuple[Round, ...]
    rounds_total: int
    roster: tuple[str, ...]

    @classmethod
    def of(cls, job: Job) -> Self:
        last = min(job.rounds_total + 1, ROUNDS_AT_MOST)
        points = {point.round: point for point in points_of(job) if 1 <= point.round <= last}
        failed = tuple(item for item in failed_attempts(job) if 1 <= item.round <= last)
        return cls(tuple(points[each] for each in sorted(points)), failed, job.rounds_total, job.roster)

    @property
    def last(self) -> int:
        return max([self.points[-1].round, *(item.round for item in self.failed)])

    @property
    def many(self) -> bool:
        return self.last > MANY_ROUNDS

    def number(self, axis: Any) -> None:
        """The same rounds below each panel, whole ones, and a mark where an attempt gave no sum."""
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        axis.set_xlim(0.5, self.last + 0.5)
        axis.set_xlabel("round")
        axis.xaxis.set_major_locator(MaxNLocator(nbins=9, integer=True, min_n_ticks=1))
        axis.xaxis.set_major_formatter(
            FuncFormatter(lambda number, _: "final" if number > self.rounds_total else f"{number:.0f}")
        )
        if not self.failed:
            return  # nothing at all, drawn beyond an axis, has no size, and the layout takes it for endless
        rounds = sorted({item.round for item in self.failed})
        axis.plot(rounds, [1.0] * len(rounds), linestyle="", marker="v", markersize=5, color=GREY, clip_on=False,
                  transform=axis.get_xaxis_transform(), label="_failed")  # fmt: skip


def told(span: Span) -> str:
    """What a reader must know of the picture as it is."""
    names = {name for point in span.points for name in (*point.metrics, *point.broken)}
    parts = ["Figures are weighted means over the members in the sum."]
    if any(name.startswith("evaluate/") for name in names):
        parts.append("evaluate/… is of the model with which the round begins.")
    if span.points[-1].round > span.rounds_total:
        parts.append("The final round moves no model: it evaluates the last one.")
    if any(point.broken for point in span.points):
        parts.append("× is no number.")
    if span.failed:
        parts.append("▼ is an attempt that gave no sum.")
    return " ".join(parts)


def short(text: str, length: int) -> str:
    """``text`` or its beginning and end, as matplotlib shows letters: no formula, and nothing that a legend leaves out."""
    half = (length - 1) // 2
    cut = text if len(text) <= length else f"{text[:half]}…{text[-half:]}"
    return (" " if cut.startswith("_") else "") + cut.replace("$", r"\$")


def curves(axes: Sequence[Any], span: Span) -> None:
    """Loss, accuracy and the other metrics, in three panels."""
    names = sorted({name for point in span.points for name in (*point.metrics, *point.broken)})
    losses = [name for name in names if is_loss(name)]
    hits = [name for name in names if is_accuracy(name) and name not in losses]
    others = [name for name in names if name not in {*losses, *hits}]
    _lines(axes[0], span, losses, "Loss")
    drawn = _lines(axes[1], span, hits, "Accuracy", linear=True)
    if drawn and min(drawn) >= 0.0 and max(drawn) <= 1.0:
        axes[1].set_ylim(0, 1.02)
    _lines(axes[2], span, others, "Other declared metrics")


def _lines(axis: Any, span: Span, names: Sequence[str], title: str, *, linear: bool = False) -> list[float]:
    """Returns the numbers drawn. A curve ends where a figure is no number, and goes on after it."""
    axis.set_title(title if len(names) <= len(COLOURS) else f"{title} (the first {len(COLOURS)} of {len(names)})")
    drawn: list[float] = []
    for name, colour, mark in zip(names, COLOURS, MARKS, strict=False):
        told = [point for point in span.points if name in point.metrics or name in point.broken]
        values = [_drawable(point.metrics.get(name, math.nan)) for point in told]
        drawn += [value for value in values if math.isfinite(value)]
        axis.plot([point.round for point in told], values, marker=mark, markersize=1.5 if span.many else 4,
                  linewidth=1.4, color=colour, label=short(name, NAME_LENGTH))  # fmt: skip
        broken = [point.round for point, value in zip(told, values, strict=True) if math.isnan(value)]
        axis.plot(broken, [0.03] * len(broken), linestyle="", marker="x", color=colour, label="_broken",
                  transform=axis.get_xaxis_transform())  # fmt: skip
    if not names:
        _empty(axis, "no such figure was given")
        return drawn
    if not linear and drawn and min(drawn) > 0 and max(drawn) >= LOGARITHMIC_FROM * min(drawn):
        axis.set(yscale="log", ylabel="logarithmic")
    elif not drawn:
        axis.set_yticks([])
    axis.grid(axis="y", color="#e4e4e4", linewidth=0.6)
    _legend(axis, 1 if max(map(len, names)) > NAME_LENGTH // 2 and len(names) <= 3 else 2)
    return drawn


def phases(axis: Any, span: Span) -> None:
    """Where the time of each round went, the attempts that gave no sum included."""
    times: dict[str, dict[int, float]] = {name: {} for name in (*PHASES, OTHER, WASTED)}
    for point in span.points:
        for name, value in point.phase_seconds.items():
            _add(times[name if name in PHASES else OTHER], point.round, value)
    for item in span.failed:
        _add(times[WASTED], item.round, item.seconds)
    rows = {name: found for name, found in times.items() if found}
    rounds = sorted({number for found in rows.values() for number in found})
    longest = max((sum(found.get(number, 0.0) for found in rows.values()) for number in rounds), default=0.0)
    unit, seconds = next((unit, seconds) for unit, seconds, up_to in UNITS if longest <= up_to)
    axis.set(title="Time by phase", ylabel=unit)
    if not longest:
        _empty(axis, "no times were given")
        return
    floor: dict[int, float] = {}
    for name, found in rows.items():
        heights = {number: found.get(number, 0.0) / seconds for number in rounds}
        _bars(axis, span, heights, floor, {**PHASES, OTHER: GREEN, WASTED: GREY}[name], name)
        floor = {number: floor.get(number, 0.0) + heights[number] for number in rounds}
    axis.set_ylim(0, 1.04 * longest / seconds)
    _legend(axis, 3)


def bytes_up(axis: Any, span: Span) -> None:
    """Masked updates, of all members together."""
    largest = max(point.bytes_up for point in span.points)
    power = min(max(0, (largest.bit_length() - 1) // 10), 4)
    axis.set(title="Masked updates received", ylabel=("bytes", "KiB", "MiB", "GiB", "TiB")[power])
    if not largest:
        _empty(axis, "no bytes were counted")
        return
    _bars(axis, span, {point.round: point.bytes_up / 1024**power for point in span.points}, {}, BLUE, "")


def cohort(axis: Any, span: Span) -> None:
    """Who was in each sum: a row for each member, or their number where there are many."""
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch
    from matplotlib.ticker import MaxNLocator

    axis.set_title("Members in the sum")
    members = sorted({*span.roster, *(each for point in span.points for each in (*point.members, *point.lost))})
    if len(members) > MEMBERS_BY_NAME:
        rounds = [point.round for point in span.points]
        axis.step(rounds, [point.cohort for point in span.points], where="mid", color=BLUE, label="in the sum")
        axis.step(rounds, [len(point.lost) for point in span.points], where="mid", color=ORANGE, label="lost", ls="--")
        axis.set(ylabel="members", ylim=(0, len(members) + 1))
        axis.yaxis.set_major_locator(MaxNLocator(integer=True))
        _legend(axis, 2)
        return
    grid = [[0] * span.last for _ in members]
    for point in span.points:
        for row, member in zip(grid, members, strict=True):
            row[point.round - 1] = 1 if member in point.members else 2 if member in point.lost else 0
    axis.imshow(grid, aspect="auto", interpolation="nearest", cmap=ListedColormap(["#ffffff", BLUE, ORANGE]), vmin=0,
                vmax=2, extent=(0.5, span.last + 0.5, len(members) - 0.5, -0.5))  # fmt: skip
    axis.set_yticks(range(len(members)), [short(member, MEMBER_LENGTH) for member in members])
    for edge in range(1, len(members)):
        axis.axhline(edge - 0.5, color="white", linewidth=2)
    for edge in range(1, 0 if span.many else span.last):
        axis.axvline(edge + 0.5, color="white", linewidth=1)
    marks = [Patch(color=BLUE, label="in the sum"), Patch(color=ORANGE, label="lost")]
    marks.append(Patch(facecolor="white", edgecolor=GREY, label="not in it"))
    _legend(axis, 3, marks)


def _bars(
    axis: Any, span: Span, heights: Mapping[int, float], floor: Mapping[int, float], colour: str, name: str
) -> None:
    """One for each round, on what ``floor`` has of it."""
    if not span.many:
        bottoms = [floor.get(number, 0.0) for number in heights]
        axis.bar(list(heights), list(heights.values()), bottom=bottoms, color=colour, label=name or None)
        return
    lower = [floor.get(number, 0.0) for number in range(1, span.last + 1)]
    upper = [low + heights.get(number, 0.0) for number, low in enumerate(lower, 1)]
    edges = [number + 0.5 for number in range(span.last + 1)]
    axis.stairs(upper, edges, baseline=lower, fill=True, color=colour, label=name or None)


def _legend(axis: Any, columns: int, marks: Iterable[Any] | None = None) -> None:
    """Below the panel and the word "round", so that it hides nothing."""
    from matplotlib.transforms import ScaledTranslation

    more = {} if marks is None else {"handles": list(marks)}
    below = axis.transAxes + ScaledTranslation(0, -LEGEND_BELOW, axis.figure.dpi_scale_trans)
    axis.legend(fontsize=8, frameon=False, ncols=columns, loc="upper center", bbox_to_anchor=(0.5, 0.0),
                bbox_transform=below, borderaxespad=0.0, **more)  # fmt: skip


def _empty(axis: Any, words: str) -> None:
    axis.text(0.5, 0.5, words, ha="center", va="center", transform=axis.transAxes, color="#666666")
    axis.set_yticks([])


def _drawable(value: float) -> float:
    return value if math.isfinite(value) and abs(value) < LARGEST else math.nan


def _add(times: dict[int, float], number: int, seconds: float) -> None:
    if math.isfinite(seconds) and 0 <= seconds < LARGEST:
        times[number] = times.get(number, 0.0) + seconds
