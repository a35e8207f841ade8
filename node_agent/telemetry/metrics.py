"""What a node counts as it goes on: the families of ``families.RECORDED``. Its registry is its own; a node can export nothing.

What is no word of ``federation.policy.reasons`` is counted under ``OTHER``: the number of series does not grow with jobs, rounds,
or a coordinator's patience.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

from federation.policy.reasons import OTHER, word_of
from node_agent.telemetry.families import COUNTED, RECORDED, Family


class NodeMetrics:
    def __init__(self, version: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._made: dict[str, Any] = {family.name: made(family, self.registry) for family in RECORDED}
        self._counters = {name: self._made[f"concord_node_{name}"] for name in COUNTED}
        self._made["concord_node_build_info"].labels(version).set(1)
        ProcessCollector(namespace="concord_node", registry=self.registry)

    def count(self, name: str) -> None:
        """One more of ``COUNTED``."""
        self._counters[name].inc()

    def sent(self, size: int) -> None:
        """Bytes of a masked update."""
        self._made["concord_node_update_sent_bytes"].inc(size)

    def denied(self, reasons: Iterable[str]) -> None:
        for reason in {word_of(reason) for reason in reasons} or {OTHER}:
            self._made["concord_node_denials"].labels(reason).inc()

    def consent_ended(self, cause: str) -> None:
        self._made["concord_node_consents_ended"].labels(cause).inc()

    def took(self, phase: str, seconds: float) -> None:
        """A part of a contribution: "task" or "encode"."""
        self._made["concord_node_contribution_seconds"].labels(phase).observe(seconds)

    def called(self, method: str, code: str, seconds: float) -> None:
        """A call to the coordinator. Both words are of the program (``link.timing``), not of what came over the wire."""
        self._made["concord_node_rpc_seconds"].labels(method, code).observe(seconds)

    def halt_took(self, seconds: float) -> None:
        self._made["concord_node_halt_seconds"].observe(seconds)


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
