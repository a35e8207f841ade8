"""The seconds of a round's phases, as people and metrics see them."""

from __future__ import annotations

import pytest

from coordinator.rounds.views import RoundViews
from federation.secagg.events import PhaseChanged


class Story:
    def __init__(self, stored: tuple[bytes, ...] = ()) -> None:
        self.views = RoundViews(stored)

    def at(self, now: float, phase: str, number: int = 1, attempt: int = 1) -> None:
        self.views.change(PhaseChanged(1, number, attempt, phase, ("br", "fr"), ""), ("br", "fr", "in"), now)

    def seconds(self, number: int = 1, attempt: int = 1) -> dict[str, float]:
        return dict(self.views.views[number, attempt].phase_seconds)


def test_the_time_before_an_announcement_is_the_phase_in_which_members_gather() -> None:
    story = Story()
    story.at(100.0, "forming")
    for now, phase in ((103.0, "announced"), (103.0, "collecting"), (110.0, "certifying"), (111.0, "aborted")):
        story.at(now, phase)
    for now, phase in (
        (131.0, "announced"),
        (131.0, "collecting"),
        (132.0, "certifying"),
        (134.0, "revealing"),
        (137.5, "closed"),
    ):
        story.at(now, phase, attempt=2)
    assert story.seconds() == {"gathering": 3, "collecting": 7, "certifying": 1}
    assert story.seconds(attempt=2) == {"gathering": 20, "collecting": 1, "certifying": 2, "revealing": 3.5}
    assert story.views.views[1, 2].seconds == pytest.approx(6.5), "a round's own time begins with its announcement"


def test_a_roster_that_is_formed_beside_the_rounds_begins_nothing() -> None:
    story = Story()
    story.at(0.0, "forming")
    for now, phase in ((1.0, "announced"), (1.0, "collecting"), (2.0, "closed")):
        story.at(now, phase)
    story.at(7.0, "forming", number=2)
    story.at(9.0, "announced", number=2)
    assert story.seconds(2) == {"gathering": 7}


def test_after_a_start_of_the_coordinator_nobody_knows_how_long_they_had_gathered() -> None:
    story = Story()
    for now, phase in ((1.0, "announced"), (1.0, "collecting"), (2.0, "closed")):
        story.at(now, phase)
    again = Story(tuple(view.SerializeToString() for view in story.views.views.values()))
    again.at(5000.0, "announced", number=2)
    again.at(5000.0, "collecting", number=2)
    again.at(5001.0, "certifying", number=2)
    assert again.seconds(2) == {"collecting": 1}
    assert again.seconds(1) == {"collecting": 1}
