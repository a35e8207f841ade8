"""What a node lets its operator scrape: text that parses, a fixed set of series, nothing of jobs, leads or data."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partialmethod
from socketserver import BaseServer

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from federation.errors import InvalidUsage
from node_agent.telemetry import metrics
from node_agent.telemetry.metrics import COUNTED, MetricsServer, NodeMetrics

OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"
Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(autouse=True)
def _servers_end_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics.ThreadingHTTPServer, "serve_forever", partialmethod(BaseServer.serve_forever, 0.01))


class Node:
    def __init__(self) -> None:
        self.connected, self.jobs = False, 0
        self.metrics = NodeMetrics("1.2.3", lambda: self.connected, lambda: self.jobs)

    def series(self) -> Series:
        return series(generate_latest(self.metrics.registry).decode())


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


def test_the_page_parses_and_says_what_was_counted() -> None:
    node = Node()
    node.metrics.count("rounds")
    node.metrics.count("rounds")
    node.connected, node.jobs = True, 3
    with served(node) as url:
        status, kind, text = get(f"{url}/metrics")
        assert (status, kind.split(";")[0]) == (200, "text/plain")
        found = series(text)
    assert found["concord_node_rounds_total", ()] == 2
    assert found["concord_node_task_failures_total", ()] == 0
    assert found["concord_node_connected", ()] == 1
    assert found["concord_node_jobs", ()] == 3
    assert found["concord_node_build_info", (("version", "1.2.3"),)] == 1
    families = list(parse(text))
    assert all(family.documentation for family in families)
    assert all(family.name.startswith("concord_node_") for family in families)


def test_openmetrics_is_spoken_to_who_asks_for_it() -> None:
    with served(Node()) as url:
        _, kind, text = get(f"{url}/metrics", Accept=OPEN)
    assert kind.startswith("application/openmetrics-text")
    assert {f"concord_node_{name}" for name in COUNTED} <= {family.name for family in parse_openmetrics(text)}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(sorted(COUNTED)), max_size=60), st.booleans(), st.integers(0, 10_000))
def test_no_work_adds_a_series_or_a_label(counted: list[str], connected: bool, jobs: int) -> None:
    node = Node()
    before = node.series()
    for name in counted:
        node.metrics.count(name)
    node.connected, node.jobs = connected, jobs
    after = node.series()
    assert set(after) == set(before)
    assert {labels for _, labels in after} == {(), (("version", "1.2.3"),)}
    for name in COUNTED:
        assert after[f"concord_node_{name}_total", ()] == counted.count(name)


@given(st.text(max_size=20).filter(lambda name: name not in COUNTED))
@settings(max_examples=30, deadline=None)
def test_what_is_not_on_the_list_cannot_be_counted(name: str) -> None:
    node = Node()
    before = node.series()
    with pytest.raises(KeyError):
        node.metrics.count(name)
    assert node.series() == before


def test_ready_follows_the_link_and_health_does_not() -> None:
    node = Node()
    with served(node) as url:
        for connected in (False, True, False):
            node.connected = connected
            status, _, text = get(f"{url}/readyz")
            assert (status, text) == ((200, "ready\n") if connected else (503, "not connected\n"))
            assert get(f"{url}/healthz")[0] == 200
        status, _, text = get(f"{url}/jobs")
        assert (status, text) == (404, "/metrics, /healthz, /readyz\n")


def test_an_address_that_cannot_be_listened_on_says_what_to_do() -> None:
    node = Node()
    with served(node) as url:
        taken = url.removeprefix("http://")
        for address in (taken, "metrics", "127.0.0.1:http", "127.0.0.1:99999", "203.0.113.1:0"):
            with pytest.raises(InvalidUsage) as said:
                MetricsServer(address, node.metrics.registry, lambda: True)
            assert f"The metrics address {address} cannot be listened on" in said.value.message
            assert "node.yaml" in said.value.hint
    with served(node, taken) as again:
        assert get(f"{again}/healthz")[0] == 200
