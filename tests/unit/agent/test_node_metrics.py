"""What a node lets its operator scrape: text that parses, a fixed set of series, nothing of jobs, leads or data."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partialmethod
from pathlib import Path
from socketserver import BaseServer
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from federation.errors import BudgetExhausted, InvalidUsage
from federation.policy.vocabulary import BY_NAME
from federation.privacy.budget import Budget, Entry
from node_agent.halt.gpus import holders
from node_agent.runner.accelerators import chosen
from node_agent.runner.devices import detect_gpus
from node_agent.telemetry import server, survey
from node_agent.telemetry.families import COUNTED, FAMILIES
from node_agent.telemetry.gpus import Reading, readings
from node_agent.telemetry.metrics import NodeMetrics
from node_agent.telemetry.server import MetricsServer
from node_agent.telemetry.survey import Log, Sources, Survey, Term, Workers

OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"
Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(autouse=True)
def _servers_end_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.Server, "serve_forever", partialmethod(BaseServer.serve_forever, 0.01))


NOW = datetime(2026, 11, 25, tzinfo=UTC)


class Node:
    """Its rooms, as far as the survey asks them."""

    def __init__(self, home: Path) -> None:
        self.connected, self.jobs, self.level = False, 0, 0
        self.log = Log(0, 0.0, 0, stopped=False)
        self.entries: tuple[Entry, ...] = ()
        self.gpus: tuple[Reading, ...] = ()
        self.metrics = NodeMetrics("1.2.3")
        term = Term(NOW, NOW + timedelta(hours=24))
        self.sources = Sources(
            connected=lambda: self.connected,
            jobs=lambda: self.jobs,
            halt_level=lambda: self.level,
            log=lambda: self.log,
            ledger=self.ledger,
            budgets={"hearts": Budget(4.0, 1e-5, "record")},
            papers=lambda: {"transport": term, "credential": term},
            home=home,
            spools=(home / "jobs",),
            workers=lambda: Workers(1, 5 << 20),
            gpus=lambda: self.gpus,
        )
        Survey(self.sources).register(self.metrics.registry)

    def ledger(self, data_set: str) -> tuple[Entry, ...]:
        if self.entries is LOST:
            raise BudgetExhausted("Nobody can say what was spent.")
        return self.entries

    def series(self) -> Series:
        return series(generate_latest(self.metrics.registry).decode())


LOST: tuple[Entry, ...] = (Entry(b"l" * 32, "lost", {}, {}, active=False),)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def series(text: str) -> Series:
    samples = [sample for family in parse(text) for sample in family.samples]
    found = {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}
    assert len(found) == len(samples), "a series stands there twice"
    return {key: value for key, value in found.items() if not key[0].endswith("_created")}


@contextmanager
def served(node: Node, address: str = "127.0.0.1:0") -> Iterator[str]:
    with closing(MetricsServer(address, node.metrics.registry, lambda: node.connected)) as server:
        yield f"http://{server.address}"


def get(url: str, **headers: str) -> tuple[int, str, str]:
    request = urllib.request.Request(url, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def test_the_page_parses_and_says_what_was_counted(node: Node) -> None:
    node.metrics.count("rounds")
    node.metrics.count("rounds")
    node.connected, node.jobs = True, 3
    node.log = Log(40, 1000.0, 2, stopped=True)
    with served(node) as url:
        status, kind, text = get(f"{url}/metrics")
        assert (status, kind.split(";")[0]) == (200, "text/plain")
        found = series(text)
    assert found["concord_node_rounds_total", ()] == 2
    assert found["concord_node_task_failures_total", ()] == 0
    assert found["concord_node_connected", ()] == 1
    assert found["concord_node_jobs", ()] == 3
    assert found["concord_node_log_entries", ()] == 40
    assert found["concord_node_log_checked_timestamp_seconds", ()] == 1000
    assert found["concord_node_log_awaited", ()] == 2
    assert found["concord_node_log_stopped", ()] == 1
    assert found["concord_node_build_info", (("version", "1.2.3"),)] == 1
    assert found["concord_node_worker_memory_bytes", ()] == 5 << 20
    ends = found["concord_node_certificate_expiry_timestamp_seconds", (("certificate", "transport"),)]
    assert ends - found["concord_node_certificate_start_timestamp_seconds", (("certificate", "transport"),)] == 86_400
    families = list(parse(text))
    assert all(family.documentation for family in families)
    assert all(family.name.startswith("concord_node_") for family in families)


def test_every_family_is_exported_as_it_is_declared(node: Node) -> None:
    node.gpus = (Reading("0", 0.5, 80 << 30, 20 << 30, 41.0),)
    node.metrics.denied(["rules.maxRounds: too many"])
    node.metrics.called("Blobs/Get", "ok", 0.1)
    exported = {family.name: family for family in node.metrics.registry.collect()}
    for family in FAMILIES.values():
        assert exported[family.name].type == family.kind
        assert exported[family.name].documentation == family.help
        labels = {name for sample in exported[family.name].samples for name in sample.labels} - {"le"}
        assert labels == set(family.labels), family.name
    others = set(exported) - set(FAMILIES)
    assert all(name.startswith("concord_node_process_") for name in others)


def test_openmetrics_is_spoken_to_who_asks_for_it(node: Node) -> None:
    with served(node) as url:
        _, kind, text = get(f"{url}/metrics", Accept=OPEN)
    assert kind.startswith("application/openmetrics-text")
    assert {f"concord_node_{name}" for name in COUNTED} <= {family.name for family in parse_openmetrics(text)}


reasons = st.sampled_from(["rules.maxRounds: 500", "privacyFloor: none", "tasks: no"]) | st.text(max_size=30)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from(sorted(COUNTED)), max_size=60), st.booleans(), st.integers(0, 10_000), st.lists(reasons)
)
def test_no_work_adds_a_series_beyond_the_words_of_the_policies(
    tmp_path_factory: pytest.TempPathFactory, counted: list[str], connected: bool, jobs: int, said: list[str]
) -> None:
    node = Node(tmp_path_factory.getbasetemp())
    before = node.series()
    for name in counted:
        node.metrics.count(name)
    node.connected, node.jobs = connected, jobs
    for reason in said:
        node.metrics.denied([reason])
    after = node.series()
    new = set(after) - set(before)
    assert {name for name, _ in new} <= {"concord_node_denials_total"}
    assert {value for _, labels in new for _, value in labels} <= {*BY_NAME, "other"}
    for name in COUNTED:
        assert after[f"concord_node_{name}_total", ()] == counted.count(name)


@given(st.text(max_size=20).filter(lambda name: name not in COUNTED))
@settings(max_examples=30, deadline=None)
def test_what_is_not_on_the_list_cannot_be_counted(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    node = Node(tmp_path_factory.getbasetemp())
    before = set(node.series())
    with pytest.raises(KeyError):
        node.metrics.count(name)
    assert set(node.series()) == before


def test_a_budget_is_reckoned_again_only_when_its_ledger_has_changed(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    reckoned = []
    standing = SimpleNamespace(spent=1.0, held=3.0)
    monkeypatch.setattr(survey, "account", lambda entries, *_rest: reckoned.append(entries) or standing)
    hearts = (("data_set", "hearts"),)
    spent, held = "concord_node_privacy_budget_spent_ratio", "concord_node_privacy_budget_held_ratio"
    assert node.series()[spent, hearts] == 0
    assert reckoned == [], "an empty ledger needs no reckoning"
    node.entries = (Entry(b"j" * 32, "hearts", {}, {}, active=True),)
    for _ in range(3):
        found = node.series()
        assert (found[spent, hearts], found[held, hearts]) == (0.25, 0.75)
    assert len(reckoned) == 1
    node.entries = (*node.entries, Entry(b"k" * 32, "hearts", {}, {}, active=True))
    node.series()
    assert len(reckoned) == 2


def test_a_budget_of_which_nobody_can_say_what_was_spent_counts_as_spent(node: Node) -> None:
    node.entries = LOST
    assert node.series()["concord_node_privacy_budget_spent_ratio", (("data_set", "hearts"),)] == 1


def test_gpus_are_there_as_far_as_they_tell_and_absent_without_one(node: Node) -> None:
    assert not [name for name, _ in node.series() if "_gpu_" in name]
    node.gpus = (Reading("0", 0.25, 80 << 30, 8 << 30, 41.0), Reading("1", None, 80 << 30, 0, None))
    found = {key: value for key, value in node.series().items() if "_gpu_" in key[0]}
    assert found["concord_node_gpu_utilisation_ratio", (("gpu", "0"),)] == 0.25
    assert found["concord_node_gpu_memory_used_bytes", (("gpu", "1"),)] == 0
    assert found["concord_node_gpu_temperature_celsius", (("gpu", "0"),)] == 41
    assert ("concord_node_gpu_utilisation_ratio", (("gpu", "1"),)) not in found


def test_what_lies_in_the_jobs_folders_is_counted_without_following_links(node: Node, tmp_path: Path) -> None:
    updates = tmp_path / "jobs" / "j" / "updates"
    updates.mkdir(parents=True)
    (updates / "one").write_bytes(b"x" * 1000)
    (tmp_path / "large").write_bytes(b"x" * 100_000)
    (updates / "link").symlink_to(tmp_path / "large")
    assert 1000 <= node.series()["concord_node_spool_bytes", ()] < 2000


def test_a_survey_that_fails_is_an_error_of_the_page_and_not_of_the_node(node: Node, tmp_path: Path) -> None:
    for path in sorted(tmp_path.rglob("*"), reverse=True):
        path.unlink()
    tmp_path.rmdir()
    with served(node) as url:
        assert get(f"{url}/metrics")[0] == 500
        assert get(f"{url}/healthz")[0] == 200
    tmp_path.mkdir()


def test_ready_follows_the_link_and_health_does_not(node: Node) -> None:
    with served(node) as url:
        for connected in (False, True, False):
            node.connected = connected
            status, _, text = get(f"{url}/readyz")
            assert (status, text) == ((200, "ready\n") if connected else (503, "not connected\n"))
            assert get(f"{url}/healthz")[0] == 200
        status, _, text = get(f"{url}/jobs")
        assert (status, text) == (404, "/metrics, /healthz, /readyz\n")


def test_an_address_that_cannot_be_listened_on_says_what_to_do(node: Node) -> None:
    with served(node) as url:
        taken = url.removeprefix("http://")
        for address in (taken, "metrics", "127.0.0.1:http", "127.0.0.1:99999", "203.0.113.1:0"):
            with pytest.raises(InvalidUsage) as said:
                MetricsServer(address, node.metrics.registry, lambda: True)
            assert f"The metrics address {address} cannot be listened on" in said.value.message
            assert "node.yaml" in said.value.hint
    with served(node, taken) as again:
        assert get(f"{again}/healthz")[0] == 200


class Fault(Exception):
    """pynvml.NVMLError"""


def nvml(**changes: Any) -> SimpleNamespace:
    """The driver's library, as far as it is asked: three cards. The second does not tell how busy it is; the third is cut into
    slices, of which its processes see two, and tells of itself only how warm it is."""

    def memory(card: str) -> SimpleNamespace:
        if card == "2":
            raise Fault
        return SimpleNamespace(total=100 << 30, used=len(card) << 30)

    def busy(card: str) -> SimpleNamespace:
        if card != "0":
            raise Fault
        return SimpleNamespace(gpu=37)

    def mode(card: str) -> list[int]:
        if card == "0":
            raise Fault  # a card that knows no slices
        return [int(card == "2"), 0]

    def part(card: str, index: int) -> str:
        if index not in {1, 4}:
            raise Fault
        return f"{card}/{index}"

    calls: dict[str, Any] = {
        "NVMLError": Fault,
        "NVML_TEMPERATURE_GPU": 0,
        "NVML_DEVICE_MIG_ENABLE": 1,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 3,
        "nvmlDeviceGetHandleByIndex": str,
        "nvmlDeviceGetMemoryInfo": memory,
        "nvmlDeviceGetUtilizationRates": busy,
        "nvmlDeviceGetTemperature": lambda card, sensor: 40 + int(card) + sensor,
        "nvmlDeviceGetMigMode": mode,
        "nvmlDeviceGetMaxMigDeviceCount": lambda _card: 7,
        "nvmlDeviceGetMigDeviceHandleByIndex": part,
        "nvmlDeviceGetName": lambda card: f"card {card}",
        "nvmlDeviceGetUUID": lambda card: f"GPU-{card}",
        "nvmlDeviceGetMinorNumber": int,
        "nvmlDeviceGetComputeRunningProcesses": lambda card: [SimpleNamespace(pid=100 + int(card))],
        "nvmlDeviceGetGraphicsRunningProcesses": lambda _card: [],
    }
    return SimpleNamespace(**{**calls, **changes})


def fail(*_arguments: Any) -> Any:
    raise Fault


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(sys.modules, "pynvml", nvml())
    file = tmp_path / "nvidiactl"
    file.touch()
    return file


def test_cards_and_their_slices_are_read_as_far_as_the_driver_tells(driver: Path) -> None:
    assert readings(driver.with_name("none")) == (), "no driver, no question"
    assert readings(driver) == (
        Reading("0", 0.37, 100 << 30, 1 << 30, 40.0),
        Reading("1", None, 100 << 30, 1 << 30, 41.0),
        Reading("2", None, None, None, 42.0),
        Reading("2:1", None, 100 << 30, 3 << 30, None),
        Reading("2:4", None, 100 << 30, 3 << 30, None),
    )


def test_slices_have_series_of_their_own(node: Node, driver: Path) -> None:
    node.gpus = readings(driver)
    found = {(name, dict(labels).get("gpu")) for name, labels in node.series() if "_gpu_" in name}
    assert {gpu for name, gpu in found if name == "concord_node_gpu_memory_used_bytes"} == {"0", "1", "2:1", "2:4"}
    assert {gpu for name, gpu in found if name == "concord_node_gpu_temperature_celsius"} == {"0", "1", "2"}


def test_a_card_that_is_cut_lends_its_slices_and_never_itself(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by the name that CUDA takes, with its own memory and with the card's files."""
    offered = detect_gpus(driver.parent)
    assert [(gpu.index, gpu.address, gpu.is_slice) for gpu in offered] == [
        *((0, "GPU-0", False), (1, "GPU-1", False)),
        *((2 * 1024 + 2, "GPU-2/1", True), (5 * 1024 + 2, "GPU-2/4", True)),
    ]
    assert {gpu.memory_bytes for gpu in offered} == {100 << 30}
    assert offered[2].files[0] == "/dev/nvidia2"
    assert chosen(offered, {0, 1}, 1, 0) == (2050,), "one is enough for a job that asks for one"
    assert chosen(offered, {0}, 2, 0) == (), "and two are not two GPUs"
    monkeypatch.setitem(sys.modules, "pynvml", nvml(nvmlDeviceGetMigDeviceHandleByIndex=fail))
    assert [gpu.index for gpu in detect_gpus(driver.parent)] == [0, 1], "cut, and none of its slices is ours"


@pytest.mark.parametrize("name", ["nvmlInit", "nvmlDeviceGetCount"])
def test_a_driver_that_is_broken_is_no_card(driver: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(**{name: fail}))
    monkeypatch.setattr("node_agent.halt.gpus.DRIVER", driver)
    assert readings(driver) == ()
    assert detect_gpus(driver.parent) == ()
    assert holders() == frozenset()


def test_a_driver_that_goes_away_while_it_is_asked_leaves_the_page_whole(
    node: Node, driver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every question fails from some call on, the end of the conversation too."""
    node.sources = replace(node.sources, gpus=lambda: readings(driver))
    registry = CollectorRegistry()
    Survey(node.sources).register(registry)
    names = [name for name in vars(nvml()) if name.startswith("nvml") and name != "nvmlInit"]
    for first in range(len(names)):
        monkeypatch.setitem(sys.modules, "pynvml", nvml(**dict.fromkeys((*names[first:], "nvmlShutdown"), fail)))
        assert "concord_node_jobs" in generate_latest(registry).decode()


def test_a_card_that_has_fallen_off_takes_no_other_away(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its metrics, its place among what jobs may have, and its holders go; the other cards stay, and a halt does not fail."""
    gone = nvml(nvmlDeviceGetHandleByIndex=lambda index: fail() if index == 0 else str(index))
    monkeypatch.setitem(sys.modules, "pynvml", gone)
    monkeypatch.setattr("node_agent.halt.gpus.DRIVER", driver)
    assert [reading.gpu for reading in readings(driver)] == ["1", "2", "2:1", "2:4"]
    assert [gpu.address for gpu in detect_gpus(driver.parent)] == ["GPU-1", "GPU-2/1", "GPU-2/4"]
    assert detect_gpus(driver.parent)[0].index == 1, "as before"
    assert holders() == {101, 102}
