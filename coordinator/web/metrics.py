"""What the coordinator counts as it goes on: the families of ``families.RECORDED``, in a registry that is handed in.

Words that come from elsewhere (checks, rules of policies) become labels of their own up to ``MOST_WORDS``; beyond that they are
``OTHER``. So the number of series does not grow with jobs, rounds, or a peer's patience.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

from coordinator.web.families import MOST_WORDS, OTHER, RECORDED, Family
from federation.policy.reasons import word_of

FORGED: Final = "log-cosignature"
"""the check that a cosignature of the public log fails"""


class Metrics:
    def __init__(self, registry: CollectorRegistry, version: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry
        self._made: dict[str, Any] = {family.name: made(family, registry) for family in RECORDED}
        self._words: dict[str, set[str]] = defaultdict(set)
        self.members: dict[str, Tally[str]] = defaultdict(Tally)
        """by the charter's word and the member; exported only as far as the charter lists it (``survey``)"""
        self._made["concord_build_info"].labels(version).set(1)
        ProcessCollector(namespace="concord", registry=registry)

    def _word(self, name: str, value: str) -> str:
        seen = self._words[name]
        if value not in seen and len(seen) >= MOST_WORDS:
            return OTHER
        seen.add(value)
        return value

    # ------------------------------------------------------------------------------------------------------------ rounds

    def round_over(self, outcome: str, cohort: Iterable[str], phases: Mapping[str, float], received: int) -> None:
        self._made["concord_rounds"].labels(outcome).inc()
        for phase, seconds in phases.items():
            self._made["concord_round_phase_seconds"].labels(self._word("phase", phase)).observe(seconds)
        self._made["concord_update_received_bytes"].inc(received)
        if outcome == "closed":
            members = tuple(cohort)
            self._made["concord_cohort_members"].observe(len(members))
            self._made["concord_contributions"].inc(len(members))
            self.members["contributions"].update(members)

    def update_resumed(self) -> None:
        self._made["concord_updates_resumed"].inc()

    def stream_opened(self) -> None:
        self._made["concord_streams_opened"].inc()

    def violation(self, check: str, member: str) -> None:
        self._made["concord_protocol_violations"].labels(self._word("check", check)).inc()
        self.members["violations"][member] += 1
        if check == FORGED:
            self._made["concord_log_verification_failures"].inc()

    # -------------------------------------------------------------------------------------------------------------- jobs

    def consents(self, state: str, member: str, reasons: Iterable[str] = ()) -> None:
        """``reasons``: of a denial, sentences of the node's, which are counted by the word that each begins with."""
        self._made["concord_consents"].labels(state).inc()
        if state == "denied":
            self.members["denials"][member] += 1
            for reason in {word_of(reason) for reason in reasons} or {OTHER}:
                self._made["concord_denials"].labels(reason).inc()

    def consent_ended(self, state: str) -> None:
        """Of a job that is running."""
        self._made["concord_running_consents_ended"].labels(state).inc()

    def job_ended(self, state: str) -> None:
        self._made["concord_jobs_ended"].labels(state).inc()

    # ------------------------------------------------------------------------------------------------------- halts, calls

    def halt_carried_out(self, seconds: float) -> None:
        self._made["concord_halt_carried_out_seconds"].observe(max(seconds, 0.0))

    def call(self, method: str, seconds: float) -> None:
        self._made["concord_rpc_seconds"].labels(self._word("method", method)).observe(seconds)

    def call_failed(self, method: str, reason: str) -> None:
        method, reason = self._word("method", method), self._word("call-reason", reason)
        self._made["concord_rpc_failures"].labels(method, reason).inc()


def made(family: Family, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    metric: Counter | Gauge | Histogram
    if family.kind == "counter":
        metric = Counter(family.name, family.help, family.labels, registry=registry)
    elif family.kind == "gauge":
        metric = Gauge(family.name, family.help, family.labels, registry=registry)
    else:
        metric = Histogram(family.name, family.help, family.labels, buckets=family.buckets, registry=registry)
    for word in family.words:
        metric.labels(word)
    return metric
