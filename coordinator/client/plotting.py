"""`concord plot`: a job's rounds as one picture, written as PNG and as SVG."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from coordinator.client.panels import Span, bytes_up, cohort, curves, phases, short, told
from coordinator.client.views import Job
from federation.errors import InvalidUsage

FORMATS: Final = ("png", "svg")
INCHES: Final = (13.0, 8.0)
REASON_LENGTH: Final = 120


@dataclass(frozen=True, slots=True)
class Picture:
    """A job's curves; an image in a notebook."""

    figure: Any
    """of matplotlib"""

    def _repr_png_(self) -> bytes:
        image = io.BytesIO()
        with any_letter():
            self.figure.savefig(image, format="png", dpi=90)
        return image.getvalue()


def picture_of(job: Job) -> Picture:
    """Raises InvalidUsage before a round has been closed, and without matplotlib."""
    return Picture(_figure(job, _span(job)))


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
            with any_letter():
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


def _span(job: Job) -> Span:
    span = Span.of(job)
    if not span.points:
        raise InvalidUsage(
            f"No round of job/{job.name} has been closed yet, so there is nothing to draw.",
            hint=f"It is {job.state}. Follow it with: concord watch {job.name}",
        )
    return span


def _figure(job: Job, span: Span) -> Any:
    """A matplotlib figure: loss, accuracy, the other declared metrics; time by phase, bytes, cohort; all by round."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise InvalidUsage(
            "matplotlib is not installed, and pictures need it.",
            hint='Install it: pip install "concord-federation[pictures]"',
        ) from None
    figure = Figure(figsize=INCHES, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(_title(job))
    upper, lower = figure.subplots(2, 3)
    curves(upper, span)
    phases(lower[0], span)
    bytes_up(lower[1], span)
    cohort(lower[2], span)
    for axis in (*upper, *lower):
        span.number(axis)
    figure.supxlabel(told(span), fontsize=8)
    return figure


def _title(job: Job) -> str:
    title = f"job/{short(job.name, 63)}: {job.state}, {job.rounds_closed} of {job.rounds_total} rounds"
    return title if job.state in {"finished", "running"} else f"{title}\n{short(job.reason, REASON_LENGTH)}"


@contextmanager
def any_letter() -> Iterator[None]:
    """A letter that the font lacks is drawn as a box; nobody can do anything about it, so nothing is said."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+", UserWarning)
        yield
