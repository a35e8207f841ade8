"""What a node's metrics read at each scrape: the families of ``families.SURVEYED``.

Called in the web server's thread. What a data set's budget has spent is reckoned again only when its ledger has changed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from federation.errors import FederationError
from federation.privacy.budget import Budget, Entry, account
from node_agent.telemetry import gpus
from node_agent.telemetry.families import SURVEYED, Family

Values = dict[tuple[str, ...], float]
NO_ACCOUNT: Final = 1.0
"""of a budget when nobody can say what was spent: nothing more may be"""


@dataclass(frozen=True, slots=True)
class Term:
    """From when until when a paper is good."""

    start: datetime
    end: datetime

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Term:
        return cls(certificate.not_valid_before_utc, certificate.not_valid_after_utc)


@dataclass(frozen=True, slots=True)
class Log:
    """What this node's witness holds of the public log."""

    entries: int
    checked: float
    awaited: int
    stopped: bool


@dataclass(frozen=True, slots=True)
class Workers:
    count: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Sources:
    connected: Callable[[], bool]
    jobs: Callable[[], int]
    halt_level: Callable[[], int]
    log: Callable[[], Log]
    ledger: Callable[[str], tuple[Entry, ...]]
    """of a data set. Raises FederationError when nobody can say what was spent"""
    budgets: Mapping[str, Budget]
    papers: Callable[[], Mapping[str, Term]]
    home: Path
    """on the file system that is looked at"""
    spools: tuple[Path, ...]
    """folders in which models and updates lie"""
    workers: Callable[[], Workers]
    gpus: Callable[[], tuple[gpus.Reading, ...]] = gpus.readings


class Survey(Collector):
    def __init__(self, sources: Sources) -> None:
        self._from = sources
        self._reckoned: dict[str, tuple[tuple[Entry, ...], float, float]] = {}

    def register(self, registry: CollectorRegistry) -> None:
        registry.register(self)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """So that to register does not yet read anything."""
        return (empty(family) for family in SURVEYED)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        values = self._values()
        for family in SURVEYED:
            if found := values.get(family.name):
                filled = empty(family)
                for labels, value in found.items():
                    filled.add_metric(labels, value)
                yield filled

    def _values(self) -> dict[str, Values]:
        source = self._from
        log, workers = source.log(), source.workers()
        disk = shutil.disk_usage(source.home)
        values: dict[str, Values] = {
            "concord_node_connected": {(): float(source.connected())},
            "concord_node_jobs": {(): source.jobs()},
            "concord_node_halt_level": {(): source.halt_level()},
            "concord_node_log_entries": {(): log.entries},
            "concord_node_log_checked_timestamp_seconds": {(): log.checked},
            "concord_node_log_awaited": {(): log.awaited},
            "concord_node_log_stopped": {(): float(log.stopped)},
            "concord_node_spool_bytes": {(): sum(map(held, source.spools))},
            "concord_node_spool_disk_bytes": {(): disk.total},
            "concord_node_spool_disk_free_bytes": {(): disk.free},
            "concord_node_workers": {(): workers.count},
            "concord_node_worker_memory_bytes": {(): workers.memory_bytes},
        }
        papers = source.papers()
        values["concord_node_certificate_start_timestamp_seconds"] = {
            (name,): term.start.timestamp() for name, term in papers.items()
        }
        values["concord_node_certificate_expiry_timestamp_seconds"] = {
            (name,): term.end.timestamp() for name, term in papers.items()
        }
        spent: Values = {}
        reserved: Values = {}
        for name, budget in source.budgets.items():
            spent[name,], reserved[name,] = self._ratios(name, budget)
        values["concord_node_privacy_budget_spent_ratio"] = spent
        values["concord_node_privacy_budget_held_ratio"] = reserved
        return values | _of_gpus(source.gpus())

    def _ratios(self, name: str, budget: Budget) -> tuple[float, float]:
        """(spent, spent and reserved), of the budget's epsilon."""
        try:
            entries = self._from.ledger(name)
        except FederationError:
            return NO_ACCOUNT, NO_ACCOUNT
        if not entries:  # nothing is to be reckoned, and nothing loaded for it
            return 0.0, 0.0
        known = self._reckoned.get(name)
        if known is None or known[0] != entries:
            standing = account(entries, budget, budget.delta, budget.unit)
            known = (entries, standing.spent / budget.epsilon, standing.held / budget.epsilon)
            self._reckoned[name] = known
        return known[1], known[2]


def _of_gpus(found: tuple[gpus.Reading, ...]) -> dict[str, Values]:
    values: dict[str, Values] = {}
    for card in found:
        figures = {
            "concord_node_gpu_utilisation_ratio": card.utilisation,
            "concord_node_gpu_memory_bytes": card.memory,
            "concord_node_gpu_memory_used_bytes": card.used,
            "concord_node_gpu_temperature_celsius": card.celsius,
        }
        for name, value in figures.items():
            if value is not None:
                values.setdefault(name, {})[card.gpu,] = value
    return values


def held(folder: Path) -> int:
    """Bytes of the files below it. Those that go meanwhile are not counted; links are not followed."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118 - one call for each file
    return total


def empty(family: Family) -> GaugeMetricFamily:
    return GaugeMetricFamily(family.name, family.help, labels=family.labels)
