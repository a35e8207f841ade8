"""The figures of a job, round by round, as every picture of it shows them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from coordinator.client.views import Job, Round
from federation.errors import FederationError
from federation.identity.names import checked_label

DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class Point:
    """A round that was closed, with all that is told of it."""

    round: int
    moment: float
    """seconds since 1970: when the job was created, and the rounds since; 0 where the coordinator tells no time"""
    metrics: Mapping[str, float]
    """finite ones; "evaluate/..." is of the model that the round starts from"""
    broken: frozenset[str]
    """names of those that are no number"""
    seconds: float
    phase_seconds: Mapping[str, float]
    cohort: int
    members: tuple[str, ...]
    """those in the sum"""
    lost: tuple[str, ...]
    bytes_up: int

    def scalars(self) -> dict[str, float]:
        """By name, as experiment trackers keep them."""
        return {
            **self.metrics,
            "round/seconds": self.seconds,
            "round/cohort": float(self.cohort),
            "round/lost": float(len(self.lost)),
            "round/bytes_up": float(self.bytes_up),
            **{f"phase/{name}": seconds for name, seconds in self.phase_seconds.items()},
        }


def points_of(job: Job) -> Iterator[Point]:
    """The closed rounds of which all is told, by number."""
    moment = _created(job)
    for item in job.rounds:
        moment += item.seconds if moment and math.isfinite(item.seconds) else 0.0
        if item.phase == "closed" and job.settled(item):
            yield _point(item, moment)


def failed_attempts(job: Job) -> tuple[Round, ...]:
    """What was begun and gave no sum."""
    return tuple(item for item in job.rounds if item.phase in {"aborted", "void"})


def file_name(job: Job, *, exact: bool = False) -> str:
    """For a file about this job: its name, where that is one (it came from a peer); ``exact``: and the digest's first digits."""
    digits = job.digest.hex()[:DIGITS]
    try:
        name = checked_label(job.name, "job")
    except FederationError:
        return digits
    return f"{name}-{digits}" if exact else name


def _point(item: Round, moment: float) -> Point:
    return Point(
        item.round,
        moment,
        {name: value for name, value in item.metrics.items() if math.isfinite(value)},
        frozenset(name for name, value in item.metrics.items() if not math.isfinite(value)),
        item.seconds,
        dict(item.phase_seconds),
        len(item.cohort),
        item.cohort,
        item.lost,
        item.bytes_up,
    )


def _created(job: Job) -> float:
    try:
        return datetime.fromisoformat(job.created).timestamp()
    except ValueError:
        return 0.0
