"""What the coordinator's metrics read at each scrape, from the rooms that know it: the families of ``families.SURVEYED``.

Nothing that is shown is kept between scrapes: a job's series are there while it is under way, and gone with it; a member's are
there while the charter of the roll in force lists them. Called in the web server's thread: it copies what the event loop may
change, and reads the database in short transactions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from coordinator.api.sessions import Sessions
from coordinator.audit.book import LogBook
from coordinator.halts.desk import HaltDesk
from coordinator.jobs.lifecycle import ENDED
from coordinator.registry.enrolment import REFUSED_STATES, Registry, state_of
from coordinator.store.database import Database, NodeRow
from coordinator.store.spool import Spool
from coordinator.web.families import SURVEYED, Family
from coordinator.web.metrics import Metrics
from federation.identity.roll import Roll

if TYPE_CHECKING:
    from coordinator.jobs.case import Case
    from coordinator.jobs.docket import Docket

JOBS_LISTED: Final = 100
"""jobs under way that are shown by name; the others are counted"""

AFTERMATH_SECONDS: Final = 3600.0
"""how long an order for one job is shown when that job is over: then it halts nothing more, and nobody has a reason to lift it"""

Values = dict[tuple[str, ...], float]
"""by the values of the labels, in the family's order"""


@dataclass(frozen=True, slots=True)
class Term:
    """From when until when a certificate is good."""

    start: datetime
    end: datetime

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Term:
        return cls(certificate.not_valid_before_utc, certificate.not_valid_after_utc)


@dataclass(frozen=True, slots=True)
class Sources:
    database: Database
    registry: Registry
    sessions: Sessions
    docket: Docket
    halts: HaltDesk
    book: LogBook
    spool: Spool
    certificates: Mapping[str, Term]
    clock: Callable[[], float]


class Survey(Collector):
    def __init__(self, metrics: Metrics, sources: Sources) -> None:
        self._metrics, self._from = metrics, sources
        self._over: set[bytes] = set()
        """jobs that orders name and that have ended, which is for good"""

    def register(self, registry: CollectorRegistry) -> None:
        registry.register(self)

    def describe(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """So that to register does not yet read anything."""
        return (empty(family) for family in SURVEYED)

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        values = self._values()
        for family in SURVEYED:
            if found := values.get(family.name):
                filled = empty(family)
                for labels, value in found.items():
                    filled.add_metric(labels, value)
                yield filled

    def _values(self) -> dict[str, Values]:
        source = self._from
        roll = source.registry.roll()
        with source.database.transaction() as change:
            nodes = change.nodes()
            entries, cosigned = change.log.frontier().size, change.log.cosigned_size(0)
        head = source.book.standing
        usage = source.spool.usage()
        values: dict[str, Values] = {
            "concord_log_entries": {(): entries},
            "concord_log_cosigned_entries": {(): cosigned or 0},
            "concord_log_head_entries": {(): head.size},
            "concord_log_head_timestamp_seconds": {(): head.signed},
            "concord_spool_bytes": {(): usage.held},
            "concord_spool_disk_bytes": {(): usage.disk},
            "concord_spool_disk_free_bytes": {(): usage.free},
        }
        values |= self._of_nodes(roll, nodes)
        values |= self._of_jobs(source.docket.cases())
        values |= self._of_halts()
        values |= self._of_members(roll, nodes)
        for name, term in source.certificates.items():
            starts = values.setdefault("concord_certificate_start_timestamp_seconds", {})
            ends = values.setdefault("concord_certificate_expiry_timestamp_seconds", {})
            starts[name,], ends[name,] = term.start.timestamp(), term.end.timestamp()
        return values

    def _of_nodes(self, roll: Roll, nodes: tuple[NodeRow, ...]) -> dict[str, Values]:
        states: Counter[str] = Counter({"connected": 0, "away": 0, "suspended": 0, "revoked": 0})
        away = []
        for row in nodes:
            state = state_of(row, roll)
            if state not in REFUSED_STATES:
                state = "away" if self._from.sessions.get(row.member, row.node) is None else "connected"
                if state == "away":
                    away.append(row.last_seen)
            states[state] += 1
        members = Counter({"active": 0, "suspended": 0})
        members.update(member.state for member in roll.members)
        return {
            "concord_nodes": {(state,): count for state, count in states.items()},
            "concord_members": {(state,): count for state, count in members.items()},
            "concord_nodes_away_since_timestamp_seconds": {(): min(away)} if away else {},
        }

    @staticmethod
    def _of_jobs(cases: tuple[Case, ...]) -> dict[str, Values]:
        states = Counter({"consulting": 0, "ready": 0, "running": 0, "held": 0})
        states.update(case.state for case in cases)
        values: dict[str, Values] = {"concord_jobs": {(state,): count for state, count in states.items()}}
        under_way = [case for case in cases if case.driver is not None]
        values["concord_jobs_unlisted"] = {(): max(len(under_way) - JOBS_LISTED, 0)}
        for case in under_way[:JOBS_LISTED]:
            for name, labelled, value in _of_job(case):
                values.setdefault(name, {})[case.manifest.name, *labelled] = value
        return values

    def _of_halts(self) -> dict[str, Values]:
        levels = Counter({"hold": 0, "drain": 0, "stop": 0})
        highest = 0
        now = self._from.clock()
        for order, came in self._from.halts.standing():
            if order.job and now - came > AFTERMATH_SECONDS and self._is_over(order.job):
                continue
            levels[order.level.name] += 1
            highest = max(highest, int(order.level))
        return {
            "concord_halt_orders": {(level,): count for level, count in levels.items()},
            "concord_halt_level": {(): highest},
        }

    def _is_over(self, job: bytes) -> bool:
        if job not in self._over:
            with self._from.database.transaction() as change:
                row = change.job(job.hex())
            if row is None or row.state not in ENDED:
                return False
            self._over.add(job)
        return True

    def _of_members(self, roll: Roll, nodes: tuple[NodeRow, ...]) -> dict[str, Values]:
        """By name, and so only what the members have put into their charter."""
        seen: dict[str, float] = {}
        for row in nodes:
            seen[row.member] = max(seen.get(row.member, 0.0), row.last_seen)
        connected = {session.member for session in self._from.sessions.all()}
        now, counts = self._from.clock(), self._metrics.members
        figures: dict[str, Mapping[str, float]] = {
            "connected": {member.id: float(member.id in connected) for member in roll.members},
            "lastSeen": {member: now if member in connected else when for member, when in seen.items()},
            **{word: dict(counts[word]) for word in ("contributions", "denials", "violations")},
        }
        on_roll = {member.id for member in roll.members}
        values: dict[str, Values] = {}
        for family in SURVEYED:
            if family.charter in roll.charter.member_metrics:
                shown = figures[family.charter]
                if family.kind == "counter":
                    shown = {member: shown.get(member, 0.0) for member in sorted(on_roll)}
                values[family.name] = {(member,): value for member, value in shown.items() if member in on_roll}
        return values


def _of_job(case: Case) -> Iterator[tuple[str, tuple[str, ...], float]]:
    """(family, labels beyond the job's name, value)"""
    assert case.driver is not None
    machine, windows = case.driver.machine, case.manifest.windows()
    yield "concord_job_rounds", (), case.manifest.spec.rounds
    yield "concord_job_rounds_closed", (), min(case.rounds_closed, case.manifest.spec.rounds)
    yield "concord_job_phase", (machine.phase,), 1
    yield "concord_job_round_limit_seconds", (), windows.ready + windows.round + 3 * windows.phase
    if case.state == "running" and not case.proposed:
        yield "concord_job_progress_timestamp_seconds", (), case.progressed
    bench, present = machine.bench, set(machine.present)
    if bench is not None:
        seated = {seat.member for seat in bench.seats}
        yield "concord_job_roster_members", (), len(seated)
        yield "concord_job_present_members", (), len(seated & present)
        yield "concord_job_quorum_members", (), max(bench.quorums.q, bench.quorums.m)


def empty(family: Family) -> GaugeMetricFamily | CounterMetricFamily:
    kind: Any = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    made: GaugeMetricFamily | CounterMetricFamily = kind(family.name, family.help, labels=family.labels)
    return made
