"""Prometheus metrics of the coordinator: base units, ``_total`` counters, bounded labels (never a digest or a round number)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

PHASE_BUCKETS = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 300.0, 1800.0, 7200.0)
COHORT_BUCKETS = (3, 4, 5, 7, 10, 20, 50, 100, 200)


class Metrics:
    def __init__(self, registry: CollectorRegistry, version: str) -> None:
        self.registry = registry
        build = Gauge("concord_build_info", "Version of this coordinator.", ["version"], registry=registry)
        build.labels(version).set(1)
        self._rounds = Counter(
            "concord_rounds", "Attempts of rounds that ended, by outcome.", ["outcome"], registry=registry
        )
        self._phase = Histogram(
            "concord_round_phase_seconds",
            "How long each phase of a round took.",
            ["phase"],
            buckets=PHASE_BUCKETS,
            registry=registry,
        )
        self._cohort = Histogram(
            "concord_cohort_members",
            "Members in the certified cohort of a closed round.",
            buckets=COHORT_BUCKETS,
            registry=registry,
        )
        self._bytes = Counter("concord_update_received_bytes", "Masked update bytes received.", registry=registry)
        self._consents = Counter("concord_consents", "Answers of nodes to jobs.", ["state"], registry=registry)
        self._ended = Counter("concord_jobs_ended", "Jobs that ended, by state.", ["state"], registry=registry)
        self._violations = Counter(
            "concord_protocol_violations", "Messages refused, by check.", ["check"], registry=registry
        )
        self._jobs = Gauge("concord_jobs", "Jobs that have not ended, by state.", ["state"], registry=registry)
        self._nodes = Gauge(
            "concord_nodes", "Enrolled nodes, by whether their stream is open.", ["state"], registry=registry
        )

    def round_over(self, outcome: str, cohort: int, phases: Mapping[str, float], received: int) -> None:
        self._rounds.labels(outcome).inc()
        for phase, seconds in phases.items():
            self._phase.labels(phase).observe(seconds)
        if outcome == "closed":
            self._cohort.observe(cohort)
        self._bytes.inc(received)

    def consents(self, state: str) -> None:
        self._consents.labels(state).inc()

    def job_ended(self, state: str) -> None:
        self._ended.labels(state).inc()

    def violation(self, check: str) -> None:
        self._violations.labels(check).inc()

    def observe(self, jobs: Callable[[], Mapping[str, int]], nodes: Callable[[], Mapping[str, int]]) -> None:
        """Gauges read these at each scrape."""
        for state in ("consulting", "ready", "running", "held"):
            self._jobs.labels(state).set_function(lambda state=state: jobs().get(state, 0))  # type: ignore[misc]
        for state in ("connected", "away"):
            self._nodes.labels(state).set_function(lambda state=state: nodes().get(state, 0))  # type: ignore[misc]
