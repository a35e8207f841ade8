"""`concord plot`: a job's rounds as one picture, written as PNG and as SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from coordinator.client.curves import Point, failed_attempts, points_of
from coordinator.client.views import Job
from federation.errors import InvalidUsage

BLUE, RED, GREEN, GREY = "#1f4e9c", "#b5482a", "#2a7f3f", "#8a8a8a"
COLOURS: Final = (BLUE, RED, GREEN, "#7a4aa0", "#c08a1e", "#2f8f9c", "#444444", "#d06a9c")
FORMATS: Final = ("png", "svg")
MEGABYTE: Final = 1e6


@dataclass(frozen=True, slots=True)
class Picture:
    """A job's curves; an image in a notebook."""

    figure: Any
    """of matplotlib"""

    def _repr_png_(self) -> bytes:
        image = io.BytesIO()
        self.figure.savefig(image, format="png", dpi=90)
        return image.getvalue()


def picture_of(job: Job) -> Picture:
    """Raises InvalidUsage before a round has been closed, and without matplotlib."""
    return Picture(_figure(job, _points(job)))


def plot(job: Job, stem: Path) -> tuple[Path, ...]:
    """Writes ``stem``.png and ``stem``.svg, both or neither, in place of older ones; returns where they lie.

    Raises InvalidUsage before a round has been closed, for a folder that is not there, and without matplotlib.
    """
    if not stem.parent.is_dir():
        raise InvalidUsage(f"The folder {stem.parent} is not there.", hint="Make it, or name another with --out.")
    figure = picture_of(job).figure
    places = tuple(stem.with_name(f"{stem.name}.{form}") for form in FORMATS)
    fresh = [place.with_name(f".{place.name}.new") for place in places]
    try:
        for form, path in zip(FORMATS, fresh, strict=True):
            figure.savefig(path, format=form, dpi=140)
        for path, place in zip(fresh, places, strict=True):
            path.replace(place)
    except OSError as error:
        raise InvalidUsage(
            f"The picture cannot be written to {stem.parent}: {error.strerror}.", hint="Name another place with --out."
        ) from None
    finally:
        for path in fresh:
            path.unlink(missing_ok=True)
    return places


def _points(job: Job) -> list[Point]:
    points = list(points_of(job))
    if not points:
        raise InvalidUsage(
            f"No round of job/{job.name} has been closed yet, so there is nothing to draw.",
            hint=f"It is {job.state}. Follow it with: concord watch {job.name}",
        )
    return points


def _figure(job: Job, points: Sequence[Point]) -> Any:
    """A matplotlib figure: loss, accuracy, the other declared metrics; seconds by phase, bytes, cohort; all by round."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise InvalidUsage(
            "matplotlib is not installed, and pictures need it.",
            hint='Install it: pip install "concord-federation[pictures]"',
        ) from None
    figure = Figure(figsize=(13, 7.2), layout="constrained")
    FigureCanvasAgg(figure)
    (loss, accuracy, others), (phases, traffic, cohort) = figure.subplots(2, 3)
    figure.suptitle(f"job/{job.name}: {job.state}, {job.rounds_closed} of {job.rounds_total} rounds")
    named = sorted({name for point in points for name in point.metrics})
    losses = [name for name in named if "loss" in name]
    hits = [name for name in named if "acc" in name and name not in losses]
    _lines(loss, points, losses, "Loss")
    _lines(accuracy, points, hits, "Accuracy")
    if hits:
        accuracy.set_ylim(0, 1.02)
    _lines(others, points, [name for name in named if name not in {*losses, *hits}], "Other declared metrics")
    _phases(phases, points)
    rounds = [point.round for point in points]
    traffic.bar(rounds, [point.bytes_up / MEGABYTE for point in points], color=BLUE)
    traffic.set(title="Masked updates received", ylabel="MB")
    cohort.step(rounds, [point.cohort for point in points], where="mid", color=BLUE, marker="o")
    cohort.set(title="Members in the sum", ylabel="members", ylim=(0, max(point.cohort for point in points) + 1))
    for point in points:
        if point.lost:
            cohort.annotate("without " + ", ".join(point.lost), (point.round, point.cohort), fontsize=7, color=RED,
                            rotation=45, xytext=(0, 6), textcoords="offset points")  # fmt: skip
    for axis in (loss, accuracy, others, phases, traffic, cohort):
        for failed in failed_attempts(job):
            axis.axvline(failed.round, color=GREY, linewidth=0.8, linestyle=":")
        axis.set_xlabel("round")
        axis.xaxis.get_major_locator().set_params(integer=True)
    return figure


def _lines(axis: Any, points: Sequence[Point], names: Sequence[str], title: str) -> None:
    axis.set_title(title)
    for name, colour in zip(names, COLOURS, strict=False):
        known = [(point.round, point.metrics[name]) for point in points if name in point.metrics]
        axis.plot([x for x, _ in known], [y for _, y in known], marker="o", markersize=3.5, color=colour, label=name)
    if names:
        axis.legend(fontsize=8)
    else:
        axis.text(0.5, 0.5, "the job declares none", ha="center", va="center", transform=axis.transAxes, color=GREY)
    if len(names) > len(COLOURS):
        axis.set_title(f"{title} (the first {len(COLOURS)} of {len(names)})")


def _phases(axis: Any, points: Sequence[Point]) -> None:
    rounds, floor = [point.round for point in points], [0.0] * len(points)
    names = list(dict.fromkeys(name for point in points for name in point.phase_seconds))
    for name, colour in zip(names, COLOURS, strict=False):
        heights = [point.phase_seconds.get(name, 0.0) for point in points]
        axis.bar(rounds, heights, bottom=floor, color=colour, label=name)
        floor = [low + high for low, high in zip(floor, heights, strict=True)]
    axis.set(title="Time by phase", ylabel="seconds")
    if names:
        axis.legend(fontsize=8)
