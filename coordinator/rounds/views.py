"""What people see of a job's rounds: phases and their seconds, cohorts, metrics, bytes. Kept as the RoundView that is sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from federation.secagg.events import PhaseChanged
from federation.v1 import jobs_pb2

OVER = frozenset({"closed", "aborted", "void"})


class RoundViews:
    """The newest view of each (round, attempt), with the clock of the phase that is open."""

    def __init__(self, stored: Iterable[bytes]) -> None:
        self.views: dict[tuple[int, int], jobs_pb2.RoundView] = {}
        self._since: dict[tuple[int, int], float] = {}
        for data in stored:
            view = jobs_pb2.RoundView.FromString(data)
            self.views[view.round, view.attempt] = view

    def change(self, event: PhaseChanged, roster: Iterable[str], now: float) -> jobs_pb2.RoundView | None:
        """The view after a change of phase; None for the forming of a roster, which is no round."""
        if event.phase == "forming":
            return None
        key = (event.round, event.attempt)
        view = self.views.setdefault(key, jobs_pb2.RoundView(round=event.round, attempt=event.attempt))
        since = self._since.get(key)
        if since is not None and view.phase not in OVER:
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

    def uploaded(self, key: tuple[int, int], size: int) -> None:
        if key in self.views:
            self.views[key].bytes_up += size

    def close(self, key: tuple[int, int], metrics: Mapping[str, float], weight: int) -> None:
        view = self.views.setdefault(key, jobs_pb2.RoundView(round=key[0], attempt=key[1]))
        view.metrics.clear()
        for name, value in metrics.items():
            view.metrics[name] = value
        view.weight = weight
