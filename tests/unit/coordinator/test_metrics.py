"""The coordinator's metrics: what is declared is exported, the number of series is bounded, and of members only what they allow."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from coordinator.api.sessions import Session, Sessions
from coordinator.api.timing import Timing
from coordinator.audit.book import Standing
from coordinator.store.database import Database, NodeRow
from coordinator.store.spool import Spool
from coordinator.web.families import FAMILIES, MOST_WORDS, OTHER, SURVEYED
from coordinator.web.metrics import Metrics
from coordinator.web.survey import AFTERMATH_SECONDS, JOBS_LISTED, Sources, Survey, Term
from federation.governance.charter import MEMBER_METRICS, Charter
from federation.halt.levels import Level
from federation.identity.envelope import seal
from federation.identity.keys import SigningKey, key_id
from federation.secagg.parameters import Quorums
from federation.v1 import rounds_pb2
from tests.unit.agent.test_node_metrics import NOW

MEMBERS = ("br", "fr", "in", "jp")
KEY = SigningKey.generate()
CREDENTIAL = seal({"identityKey": key_id(KEY.public)}, "node-credential", (KEY,))
Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Roster:
    """The registry, as far as the survey asks it."""

    def __init__(self) -> None:
        self.words: tuple[str, ...] = ()
        self.states: dict[str, str] = {}

    def roll(self) -> Any:
        states = {name: self.states.get(name, "active") for name in MEMBERS}
        members = {
            name: SimpleNamespace(id=name, state=state, active=state == "active") for name, state in states.items()
        }
        return SimpleNamespace(
            members=tuple(members.values()),
            charter=replace(Charter.standard(), member_metrics=self.words),
            member=members.__getitem__,
            tier_of=lambda _member: SimpleNamespace(nodes=True),
            node_revoked=lambda member, key: states[member] == "revoked" and key == KEY.public,
        )


class Open:
    """Sessions."""

    def __init__(self) -> None:
        self.members: set[str] = set(MEMBERS)

    def get(self, member: str, _node: str) -> Any:
        return object() if member in self.members else None

    def all(self) -> tuple[Any, ...]:
        return tuple(SimpleNamespace(member=member) for member in sorted(self.members))


class Coordinator:
    def __init__(self, folder: Path) -> None:
        self.now = 1000.0
        self.database = Database(folder / "coordinator.db")
        with self.database.transaction() as change:
            for place, name in enumerate(MEMBERS):
                change.put_node(NodeRow(name, f"{name}-1", CREDENTIAL, "enrolled", 100.0 + place))
        self.registry, self.sessions, self.cases = Roster(), Open(), []
        self.orders: list[Any] = []
        self.metrics = Metrics(CollectorRegistry(), "1.2.3")
        term = Term(NOW, NOW)
        sources = Sources(
            self.database,
            self.registry,
            self.sessions,
            SimpleNamespace(cases=lambda: tuple(self.cases)),
            SimpleNamespace(standing=lambda: tuple(self.orders)),
            SimpleNamespace(standing=Standing(7, 990.0)),
            Spool(folder / "spool", 1 << 20),
            {"server": term, "authority": term},
            lambda: self.now,
        )  # type: ignore[arg-type]
        Survey(self.metrics, sources).register(self.metrics.registry)

    def series(self) -> Series:
        found = {}
        for family in text_string_to_metric_families(generate_latest(self.metrics.registry).decode()):
            for sample in family.samples:
                found[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
        return found

    def case(self, name: str, state: str = "running") -> Any:
        seats = [SimpleNamespace(member=member) for member in MEMBERS]
        bench = SimpleNamespace(seats=seats, quorums=Quorums.of(len(MEMBERS)))
        machine = SimpleNamespace(phase="collecting", present=("br", "fr", "zz"), bench=bench)
        manifest = SimpleNamespace(
            name=name,
            spec=SimpleNamespace(rounds=10),
            windows=lambda: SimpleNamespace(ready=10.0, round=100.0, phase=30.0),
        )
        case = SimpleNamespace(
            manifest=manifest,
            driver=SimpleNamespace(machine=machine),
            state=state,
            proposed=False,
            progressed=900.0,
            rounds_closed=4,
        )
        self.cases.append(case)
        return case


@pytest.fixture
def coordinator(tmp_path: Path) -> Any:
    made = Coordinator(tmp_path)
    yield made
    made.database.close()


def names(series: Series) -> Counter[str]:
    return Counter(name for name, _ in series)


def test_every_family_is_exported_as_it_is_declared(coordinator: Coordinator) -> None:
    coordinator.case("digits")
    coordinator.registry.words = MEMBER_METRICS
    coordinator.sessions.members = {"br"}
    coordinator.metrics.consents("denied", "br", ["rules.maxRounds: too many"])
    coordinator.metrics.call("Jobs/Get", 0.1)
    coordinator.metrics.call_failed("Jobs/Get", "not_found")
    exported = {family.name: family for family in coordinator.metrics.registry.collect()}
    for family in FAMILIES.values():
        assert exported[family.name].type == family.kind, family.name
        assert exported[family.name].documentation == family.help
        labels = {name for sample in exported[family.name].samples for name in sample.labels} - {"le"}
        assert labels == set(family.labels), family.name
    assert all(name.startswith("concord_process_") for name in set(exported) - set(FAMILIES))


def test_a_thousand_jobs_of_a_thousand_rounds_leave_no_series_behind(coordinator: Coordinator) -> None:
    def work(number: int) -> None:
        metrics = coordinator.metrics
        metrics.round_over("closed", MEMBERS, {"collecting": 0.1 * number, "certifying": 0.1}, 1000)
        metrics.round_over("aborted", (), {"gathering": 0.1}, 0)
        metrics.consents("denied", "br", [f"rules.maxRounds: job {number}", f"what job {number} is"])
        metrics.violation("update-root", "br")
        metrics.job_ended("finished")
        metrics.halt_carried_out(0.1)
        metrics.call("NodeLink/PutUpdate", 0.1)

    work(0)
    before = coordinator.series()
    for number in range(1000):
        case = coordinator.case(f"job-{number}")
        work(number)
        if number % 250 == 0:
            shown = {value for _, labels in coordinator.series() for name, value in labels if name == "job"}
            assert shown == {f"job-{number}"}
        coordinator.cases.remove(case)
    after = coordinator.series()
    assert set(after) == set(before)
    assert after["concord_rounds_total", (("outcome", "closed"),)] == 1001


def test_jobs_beyond_those_that_are_listed_are_counted(coordinator: Coordinator) -> None:
    for number in range(JOBS_LISTED + 5):
        coordinator.case(f"job-{number}")
    found = coordinator.series()
    assert names(found)["concord_job_rounds"] == JOBS_LISTED
    assert found["concord_jobs_unlisted", ()] == 5
    assert found["concord_jobs", (("state", "running"),)] == JOBS_LISTED + 5


def test_words_of_peers_become_labels_up_to_a_number(coordinator: Coordinator) -> None:
    for number in range(10 * MOST_WORDS):
        coordinator.metrics.violation(f"check-{number}", "br")
        coordinator.metrics.consents("denied", "br", [f"words {number}"])
        coordinator.metrics.call_failed(f"Method/{number}", "internal")
    found = coordinator.series()
    counted = names(found)
    assert counted["concord_protocol_violations_total"] <= MOST_WORDS + 1
    assert counted["concord_rpc_failures_total"] <= MOST_WORDS + 1
    assert counted["concord_denials_total"] == 1
    assert found["concord_protocol_violations_total", (("check", OTHER),)] == 9 * MOST_WORDS
    assert found["concord_denials_total", (("reason", OTHER),)] == 10 * MOST_WORDS


@pytest.mark.parametrize("words", [(), *[(word,) for word in MEMBER_METRICS], MEMBER_METRICS])
def test_of_members_by_name_only_what_the_charter_lists_is_exported(
    coordinator: Coordinator, words: tuple[str, ...]
) -> None:
    coordinator.metrics.round_over("closed", ("br", "in"), {}, 10)
    coordinator.metrics.consents("denied", "fr", ["rules.maxRounds: no"])
    coordinator.metrics.violation("ack", "jp")
    coordinator.metrics.violation("ack", "zz")
    coordinator.sessions.members = {"br"}
    coordinator.registry.words = words
    found = coordinator.series()
    by_name = {name for name, labels in found if "member" in dict(labels)}
    assert by_name == {family.exposed for family in SURVEYED if family.charter and family.charter in words}
    assert {value for _, labels in found for name, value in labels if name == "member"} <= set(MEMBERS)
    text = generate_latest(coordinator.metrics.registry).decode()
    if not words:
        assert not any(f'"{member}"' in text or f"{member}-1" in text for member in MEMBERS)
    if "contributions" in words:
        assert found["concord_member_contributions_total", (("member", "in"),)] == 1
        assert found["concord_member_contributions_total", (("member", "jp"),)] == 0
    if "lastSeen" in words:
        assert found["concord_member_seen_timestamp_seconds", (("member", "br"),)] == 1000
        assert found["concord_member_seen_timestamp_seconds", (("member", "jp"),)] == 103


def test_the_charter_of_the_roll_in_force_decides_at_each_scrape(coordinator: Coordinator) -> None:
    coordinator.registry.words = ("connected",)
    assert names(coordinator.series())["concord_member_connected"] == len(MEMBERS)
    coordinator.registry.words = ()
    assert names(coordinator.series())["concord_member_connected"] == 0


def test_nodes_are_told_apart_and_the_longest_absence_is_known(coordinator: Coordinator) -> None:
    found = coordinator.series()
    assert found["concord_nodes", (("state", "connected"),)] == 4
    assert ("concord_nodes_away_since_timestamp_seconds", ()) not in found
    coordinator.sessions.members = {"br"}
    coordinator.registry.states = {"fr": "suspended"}
    found = coordinator.series()
    assert found["concord_nodes", (("state", "away"),)] == 2
    assert found["concord_nodes", (("state", "suspended"),)] == 1
    assert found["concord_nodes_away_since_timestamp_seconds", ()] == 102, "of those that may connect"


def test_a_job_that_is_held_or_waits_for_a_vote_does_not_count_as_stalled(coordinator: Coordinator) -> None:
    case = coordinator.case("digits")
    progress = ("concord_job_progress_timestamp_seconds", (("job", "digits"),))
    found = coordinator.series()
    assert found[progress] == 900
    assert found["concord_job_round_limit_seconds", (("job", "digits"),)] == 200
    assert found["concord_job_present_members", (("job", "digits"),)] == 2, "who is not on the roster does not count"
    assert found["concord_job_quorum_members", (("job", "digits"),)] == 3
    assert found["concord_job_phase", (("job", "digits"), ("phase", "collecting"))] == 1
    case.state = "held"
    assert progress not in coordinator.series()
    case.state, case.proposed = "running", True
    assert progress not in coordinator.series()


def order(level: Level, job: bytes = b"") -> Any:
    return SimpleNamespace(level=level, job=job)


def test_an_order_for_a_job_that_is_over_is_shown_for_an_hour(coordinator: Coordinator) -> None:
    """Whoever stops a job for good has no reason to lift the order: without this, its alert would fire for ever."""
    over, runs, unknown = (bytes([number]) * 32 for number in (1, 2, 3))
    with coordinator.database.transaction() as change:
        for job, state in ((over, "stopped"), (runs, "held")):
            change.add_job(job.hex(), "digits", b"{}", 1.0)
            change.update_job(job.hex(), state=state, reason="")
    came = coordinator.now
    coordinator.orders = [
        (order(Level.stop, over), came),
        (order(Level.drain, unknown), came),
        (order(Level.hold, runs), came),
    ]

    def shown() -> dict[str, float]:
        found = coordinator.series()
        levels = {level: found["concord_halt_orders", (("level", level),)] for level in ("hold", "drain", "stop")}
        return levels | {"highest": found["concord_halt_level", ()]}

    assert shown() == {"hold": 1, "drain": 1, "stop": 1, "highest": 3}
    coordinator.now = came + AFTERMATH_SECONDS
    assert shown()["stop"] == 1
    coordinator.now += 1
    assert shown() == {"hold": 1, "drain": 1, "stop": 0, "highest": 2}, "a job that nobody knows may still be submitted"
    with coordinator.database.transaction() as change:
        change.update_job(runs.hex(), state="finished", reason="")
    assert shown() == {"hold": 0, "drain": 1, "stop": 0, "highest": 2}


def test_an_order_for_a_member_or_the_federation_is_shown_until_it_is_lifted(coordinator: Coordinator) -> None:
    coordinator.orders = [(order(Level.hold), coordinator.now)]
    coordinator.now += 1e8
    assert coordinator.series()["concord_halt_orders", (("level", "hold"),)] == 1
    coordinator.orders = []
    assert coordinator.series()["concord_halt_level", ()] == 0


def test_a_stream_that_ends_while_a_scrape_looks_does_not_break_it() -> None:
    """The scrape has a thread of its own: what it looks at is copied first."""
    sessions = Sessions()
    for name in MEMBERS:
        sessions.add(Session(name, f"{name}-1", rounds_pb2.Offer()))

    class Leaving(dict[tuple[str, str], Session]):
        """The node whose name comes last ends its stream as soon as the keys were read."""

        def __iter__(self) -> Any:
            keys = list(super().__iter__())
            self.pop(keys[-1])
            return iter(keys)

    sessions._open = Leaving(sessions._open)
    assert [session.member for session in sessions.all()][:3] == ["br", "fr", "in"]


def test_a_log_cosignature_that_does_not_fit_is_a_verification_failure(coordinator: Coordinator) -> None:
    coordinator.metrics.violation("ack", "br")
    assert coordinator.series()["concord_log_verification_failures_total", ()] == 0
    coordinator.metrics.violation("log-cosignature", "br")
    assert coordinator.series()["concord_log_verification_failures_total", ()] == 1


def test_calls_are_timed_and_a_name_that_is_no_method_is_not(coordinator: Coordinator) -> None:
    async def good(_request: bytes, _context: Any) -> bytes:
        return b"ok"

    async def bad(_request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.NOT_FOUND, "no")
        return b""

    async def broken(_request: bytes, _context: Any) -> bytes:
        raise ValueError

    async def many(_request: bytes, _context: Any) -> Any:
        yield b"one"

    async def story() -> None:
        server = grpc.aio.server(interceptors=(Timing(coordinator.metrics),))
        methods = {
            "Good": grpc.unary_unary_rpc_method_handler(good),
            "Bad": grpc.unary_unary_rpc_method_handler(bad),
            "Broken": grpc.unary_unary_rpc_method_handler(broken),
            "Many": grpc.unary_stream_rpc_method_handler(many),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("federation.v1.Jobs", methods),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            for _ in range(2):
                assert await channel.unary_unary("/federation.v1.Jobs/Good")(b"") == b"ok"
            for name in ("Bad", "Broken", "Nothing"):
                with pytest.raises(grpc.aio.AioRpcError):
                    await channel.unary_unary(f"/federation.v1.Jobs/{name}")(b"")
            assert [part async for part in channel.unary_stream("/federation.v1.Jobs/Many")(b"")] == [b"one"]
        await server.stop(None)

    asyncio.run(story())
    found = coordinator.series()
    counts = {
        dict(labels)["method"]: value for (name, labels), value in found.items() if name == "concord_rpc_seconds_count"
    }
    assert counts == {"Jobs/Good": 2, "Jobs/Bad": 1, "Jobs/Broken": 1}
    failed = {labels: value for (name, labels), value in found.items() if name == "concord_rpc_failures_total"}
    assert failed == {
        (("method", "Jobs/Bad"), ("reason", "not_found")): 1,
        (("method", "Jobs/Broken"), ("reason", "unknown")): 1,
    }
