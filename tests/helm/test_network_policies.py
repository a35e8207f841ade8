"""What each NetworkPolicy lets through: members and scrapers in, the coordinator and DNS out, and nothing for a worker."""

import pytest

from tests.helm.charts import NAMESPACE, PROMETHEUS, Document, of_kind, pods, rendered
from tests.helm.policies import End, Outside, Pod, allows

COORDINATOR_IP = Outside("192.0.2.10")
DNS = Pod({"k8s-app": "kube-dns"}, "kube-system")
STRANGER = Pod({"app.kubernetes.io/component": "test"}, "elsewhere")
SCRAPER = Pod({"app.kubernetes.io/name": "prometheus"}, "monitoring")
CLOUD = Outside("169.254.169.254")
INTERNET = Outside("203.0.113.99")
API = Outside("10.96.0.1")
EVERYWHERE: list[End] = [COORDINATOR_IP, DNS, STRANGER, SCRAPER, CLOUD, INTERNET, API, Pod({}, NAMESPACE)]
PORTS = (22, 53, 80, 443, 5432, 6443, 7443, 8080, 9464, 10250)


def sides(chart: str, changes: Document) -> tuple[list[Document], dict[str, Pod]]:
    """The policies, and a pod of each component."""
    documents = rendered(chart, changes)
    found = {labels["app.kubernetes.io/component"]: Pod(labels, NAMESPACE) for _, labels, _ in pods(documents)}
    return of_kind(documents, "NetworkPolicy"), found


def let_through(policies: list[Document], pod: Pod, direction: str) -> set[tuple[End, int, str]]:
    return {
        (end, port, protocol)
        for end in map(_hashable, EVERYWHERE)
        for port in PORTS
        for protocol in ("TCP", "UDP")
        if allows(policies, pod, direction, end, port, protocol)
    }


class _Named(Pod):
    def __hash__(self) -> int:
        return hash((self.namespace, *sorted(self.labels.items())))


def _hashable(end: End) -> End:
    return _Named(end.labels, end.namespace) if isinstance(end, Pod) else _Address(end.address)


class _Address(Outside):
    def __hash__(self) -> int:
        return hash(self.address)


def named(*places: tuple[End, int, str]) -> set[tuple[End, int, str]]:
    return {(_hashable(end), port, protocol) for end, port, protocol in places}


ASKS_DNS = [(DNS, 53, "TCP"), (DNS, 53, "UDP")]


@pytest.mark.parametrize("component", ["agent", "test"])
def test_an_agent_reaches_its_coordinator_and_dns_and_nobody_else(component: str) -> None:
    policies, pod = sides("node-agent", {})
    assert let_through(policies, pod[component], "egress") == named((COORDINATOR_IP, 7443, "TCP"), *ASKS_DNS)
    assert let_through(policies, pod[component], "ingress") == set()


def test_an_agent_behind_a_proxy_reaches_the_proxy_instead() -> None:
    changes = {
        "coordinator": {"cidrs": []},
        "proxy": {"existingSecret": "p", "cidrs": ["203.0.113.99/32"], "port": 8080},
    }
    policies, pod = sides("node-agent", changes)
    assert let_through(policies, pod["agent"], "egress") == named((INTERNET, 8080, "TCP"), *ASKS_DNS)


def test_an_agent_in_the_coordinators_cluster_reaches_that_pod() -> None:
    policies, pod = sides("node-agent", {"coordinator": {"address": "c.hub:443", "cidrs": [], "namespace": "hub"}})
    _, theirs = sides("coordinator", {})
    there = Pod(theirs["coordinator"].labels, "hub")
    assert allows(policies, pod["agent"], "egress", there, 7443)
    assert not allows(policies, pod["agent"], "egress", there, 9464)
    assert not allows(policies, pod["agent"], "egress", Pod(there.labels, "elsewhere"), 7443)
    assert not allows(policies, pod["agent"], "egress", Pod(theirs["test"].labels, "hub"), 7443)


def test_a_scraper_that_is_named_reads_metrics_and_nothing_else() -> None:
    for chart, component in (("node-agent", "agent"), ("coordinator", "coordinator")):
        policies, pod = sides(chart, {"metrics": {"from": PROMETHEUS}})
        assert allows(policies, pod[component], "ingress", SCRAPER, 9464)
        assert not allows(policies, pod[component], "ingress", STRANGER, 9464)
        assert not allows(policies, pod[component], "ingress", INTERNET, 9464)


def test_a_worker_reaches_nothing_and_nobody_reaches_it() -> None:
    policies, pod = sides("node-agent", {"sandbox": {"mode": "bubblewrap"}, "metrics": {"from": PROMETHEUS}})
    assert let_through(policies, pod["worker"], "egress") == set()
    assert let_through(policies, pod["worker"], "ingress") == set()


def test_a_coordinator_is_reached_on_its_one_port_and_dials_nobody() -> None:
    policies, pod = sides("coordinator", {})
    everybody = named(*((end, 7443, "TCP") for end in EVERYWHERE))
    assert let_through(policies, pod["coordinator"], "ingress") == everybody
    assert let_through(policies, pod["coordinator"], "egress") == set()
    assert allows(policies, pod["coordinator"], "ingress", pod["test"], 9464)
    assert let_through(policies, pod["test"], "ingress") == set()
    assert let_through(policies, pod["test"], "egress") == named(*ASKS_DNS)
    for port, good in ((7443, True), (9464, True), (443, False)):
        assert allows(policies, pod["test"], "egress", pod["coordinator"], port) is good


def test_clients_that_are_named_are_the_only_ones_beside_the_test() -> None:
    policies, pod = sides("coordinator", {"networkPolicy": {"clients": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}})
    assert let_through(policies, pod["coordinator"], "ingress") == named((INTERNET, 7443, "TCP"))
    assert allows(policies, pod["coordinator"], "ingress", pod["test"], 7443)


def test_without_metrics_nobody_reaches_their_port() -> None:
    policies, pod = sides("coordinator", {"metrics": {"enabled": False}})
    assert not allows(policies, pod["coordinator"], "ingress", pod["test"], 9464)


def test_a_coordinator_with_postgresql_reaches_it_and_dns() -> None:
    changes = {"database": {"engine": "postgresql", "existingSecret": "d", "cidrs": ["203.0.113.99/32"]}}
    policies, pod = sides("coordinator", changes)
    assert let_through(policies, pod["coordinator"], "egress") == named((INTERNET, 5432, "TCP"), *ASKS_DNS)
