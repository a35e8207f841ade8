"""One cohort for the figures of one model on one lab's data: the seam between a member's machine and its lab's journal.

Sums over two cohorts that differ by one member differ by that member's own figure, to the last bit. So a lab lets exact figures
of a model out for one cohort only, over all its jobs. (docs/protocol/secure-aggregation.md, "Figures".)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from federation.secagg.events import RememberFigures


UPDATE: Final = "update"
"""the name of what leaves of a training round besides its metrics"""


@dataclass(frozen=True, slots=True)
class Attempt:
    """Of a round, as the members of one epoch try it."""

    epoch: int
    round: int
    attempt: int
    state_digest: bytes


@dataclass(frozen=True, slots=True)
class FigureEntry:
    """Figures that left, or are about to leave, as exact sums over a cohort."""

    weights: bytes
    """digest of the model that they were computed from, without round and optimiser"""
    data: bytes
    """digest of this lab's data set"""
    epoch: int
    round: int
    attempt: int
    cohort: tuple[str, ...]
    """member ids"""
    figures: tuple[str, ...]
    """for people: a name says nothing of what the code put under it"""
    opened: bool
    """we released for it, are bound to it, or checked its sum; else it was acknowledged or told, and may never be opened"""


class CohortRule(Protocol):
    """What a lab lets out of one job, with regard to all that it let out before. Whatever it gives back to remember
    is on disk before anything else is said."""

    def check(self, attempt: Attempt, cohort: tuple[str, ...]) -> None:
        """Raises ProtocolViolation when figures of this model left over another cohort."""

    def enter(self, attempt: Attempt, cohort: tuple[str, ...], *, opened: bool) -> list[RememberFigures]:
        """Checks, and keeps that they leave over this one."""

    def keep(self, attempt: Attempt, cohort: tuple[str, ...], *, opened: bool) -> list[RememberFigures]:
        """They leave over this certified cohort, whether this lab would have it or not."""

    def close(self, attempt: Attempt, cohort: tuple[str, ...]) -> list[RememberFigures]:
        """The sum over this cohort was checked: attempts that were acknowledged and gave none are forgotten."""

    def retract(self, attempt: Attempt) -> list[RememberFigures]:
        """q members aborted it: nothing left."""
