"""What people see of a job's rounds: phases and their seconds, cohorts, metrics, bytes. Kept as the RoundView that is sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from federation.secagg.events import PhaseChanged
from federation.v1 import jobs_pb2

OVER = frozenset({"closed", "aborted", "void"})
GATHERING = "gathering"
"""what a view calls the time before a round is announced: from the end of the attempt before it, or the job's beginning"""


class RoundViews:
    """The newest view of each (round, attempt), with the clock of the phase that is open."""

    def __init__(self, stored: Iterable[bytes]) -> None:
        self.views: dict[tuple[int, int], jobs_pb2.RoundView] = {}
        self._since: dict[tuple[int, int], float] = {}
        self._left = False
        self._gathering_since: float | None = None
        """None after a start of the coordinator: nobody saw when it began"""
        for data in stored:
            view = jobs_pb2.RoundView.FromString(data)
            self.views[view.round, view.attempt] = view

    def change(self, event: PhaseChanged, roster: Iterable[str], now: float) -> jobs_pb2.RoundView | None:
        """The view after a change of phase; None for the forming of a roster, which is no round, and after ``leave``."""
        if event.phase == "forming" and not self.views:
            self._gathering_since = now
        if event.phase == "forming" or self._left:
            return None
        key = (event.round, event.attempt)
        view = self.views.setdefault(key, jobs_pb2.RoundView(round=event.round, attempt=event.attempt))
        since = self._since.get(key)
        if event.phase == "announced" and self._gathering_since is not None:
            view.phase_seconds[GATHERING] += now - self._gathering_since
            self._gathering_since = None
        if event.phase in OVER:
            self._gathering_since = now
        if since is not None and view.phase not in {"announced", *OVER}:  # the announcement itself takes no time
            view.phase_seconds[view.phase] += now - since
            view.seconds += now - since
        self._since[key] = now
        view.phase = event.phase
        view.reason = event.reason
        if event.phase in {"announced", "collecting"}:
            view.ready[:] = event.members
        elif event.phase in {"certifying", "revealing", "closed"}:
            view.cohort[:] = event.members
            view.lost[:] = sorted(set(roster) - set(event.members))
        return view

    def leave(self, reason: str, now: float) -> tuple[jobs_pb2.RoundView, ...]:
        """The job ends: attempts that are open count as aborted, and nothing changes any more. Returns what changed."""
        open_views = tuple(view for view in self.views.values() if view.phase not in OVER)
        for view in open_views:
            self.change(PhaseChanged(0, view.round, view.attempt, "aborted", (), reason), (), now)
        self._left = True
        return open_views

    def uploaded(self, key: tuple[int, int], size: int) -> None:
        if key in self.views:
            self.views[key].bytes_up += size

    def figures(self, key: tuple[int, int], metrics: Mapping[str, float]) -> jobs_pb2.RoundView:
        view = self.views[key]
        view.metrics.clear()
        for name, value in metrics.items():
            view.metrics[name] = value
        return view

    def close(self, key: tuple[int, int], weight: int) -> None:
        self.views.setdefault(key, jobs_pb2.RoundView(round=key[0], attempt=key[1])).weight = weight
