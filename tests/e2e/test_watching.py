"""What operators watch: /metrics, /healthz and /readyz of both services, before, during and after a job."""

import json
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import yaml
from prometheus_client.parser import text_string_to_metric_families

from coordinator.client.views import Job
from examples.local_federation import Service
from tests.e2e.commands import eventually, said
from tests.e2e.runs import Runs

ROUNDS = 3
MEMBERS = 3
BOUNDED_LABELS = {
    *("version", "state", "outcome", "phase", "check", "le", "reason", "level", "method", "certificate"),
    *("job", "data_set", "gpu", "code"),
}
"""none of a member: the charter lists no figure"""
Samples = dict[tuple[str, tuple[str, ...]], float]


def web_address(service: Service) -> str:
    return str(json.loads((service.home / "run.json").read_text())["metrics"])


def fetched(address: str, path: str, *, seconds: float = 5.0) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=seconds) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def samples(service: Service) -> Samples:
    """Every sample by its name and its labels' values; the text must parse, and no label may be unbounded."""
    status, text = fetched(web_address(service), "/metrics")
    assert status == 200
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, f"{family.name} has no help text"
        for sample in family.samples:
            assert sample.name.startswith("concord_")
            assert set(sample.labels) <= BOUNDED_LABELS, sample
            found[sample.name, tuple(value for name, value in sorted(sample.labels.items()))] = sample.value
    return found


def grown(before: Samples, after: Samples, name: str, *labels: str) -> float:
    return after[name, labels] - before.get((name, labels), 0.0)


def test_what_a_job_does_is_in_the_metrics_of_both_services(three: Runs) -> None:
    coordinator, node = three.local.coordinator, three.local.nodes["be"]
    before, node_before = samples(coordinator), samples(node)
    assert before["concord_nodes", ("connected",)] == MEMBERS
    assert before["concord_nodes", ("away",)] == 0
    assert node_before["concord_node_connected", ()] == 1
    running: list[tuple[float, float]] = []

    def each(job: Job) -> None:
        if job.state == "running" and not running:
            running.append((samples(coordinator)["concord_jobs", ("running",)], samples(node)["concord_node_jobs", ()]))

    document = three.document("watched", rounds=ROUNDS, run_config={"pause": 0.3})
    job = three.run(document, each=each)
    assert job.state == "finished", job.reason
    assert running == [(1.0, 1.0)]
    eventually(lambda: samples(node)["concord_node_jobs", ()] == 0)
    after, node_after = samples(coordinator), samples(node)
    assert after["concord_jobs", ("running",)] == 0
    assert grown(before, after, "concord_rounds_total", "closed") == ROUNDS + 1  # the last one carries figures alone
    assert grown(before, after, "concord_jobs_ended_total", "finished") == 1
    assert grown(before, after, "concord_consents_total", "granted") == MEMBERS
    assert grown(before, after, "concord_cohort_members_count") == ROUNDS + 1
    assert grown(before, after, "concord_cohort_members_sum") == (ROUNDS + 1) * MEMBERS
    sent = sum(item.bytes_up for item in job.rounds)
    assert grown(before, after, "concord_update_received_bytes_total") == sent > 0
    phases = {labels[0] for name, labels in after if name == "concord_round_phase_seconds_count"}
    assert len(phases) >= 3
    for phase in phases:
        assert grown(before, after, "concord_round_phase_seconds_count", phase) <= ROUNDS + 1
    assert grown(before, after, "concord_round_phase_seconds_sum", "gathering") > 0
    assert grown(node_before, node_after, "concord_node_rounds_total") == ROUNDS + 1
    assert grown(node_before, node_after, "concord_node_rpc_seconds_count", "ok", "AuditLog/Head") > 0
    assert grown(node_before, node_after, "concord_node_rpc_seconds_sum", "ok", "Blobs/Get") > 0
    assert grown(node_before, node_after, "concord_node_contributions_total") == ROUNDS + 1
    assert grown(node_before, node_after, "concord_node_consents_granted_total") == 1
    assert grown(node_before, node_after, "concord_node_refusals_total") == 0


def test_a_consent_that_is_taken_back_in_a_running_job_is_counted_on_both_sides(three: Runs) -> None:
    coordinator, node = three.local.coordinator, three.local.nodes["ch"]
    before, node_before = samples(coordinator), samples(node)
    taken: list[int] = []

    def each(job: Job) -> None:
        if job.state == "running" and job.rounds and not taken:
            taken.append(said("concord-node", "revoke", job.name, "--reason", "x", "--home", node.home).code)

    job = three.run(three.document("left", rounds=50, run_config={"pause": 0.2}), each=each)
    assert (job.state, taken) == ("failed", [0])
    after, node_after = samples(coordinator), samples(node)
    assert grown(before, after, "concord_running_consents_ended_total", "revoked") == 1
    assert grown(before, after, "concord_running_consents_ended_total", "expired") == 0
    assert grown(node_before, node_after, "concord_node_consents_ended_total", "person") == 1


def test_promtool_finds_nothing_wrong_with_the_text_of_a_running_federation(three: Runs) -> None:
    promtool = shutil.which("promtool")
    assert promtool, "promtool is not installed: `make prometheus`, or sudo apt-get install prometheus"
    job = three.run(three.document("linted", rounds=1))
    assert job.state == "finished", job.reason
    for service in (three.local.coordinator, three.local.nodes["be"]):
        _, text = fetched(web_address(service), "/metrics")
        said = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


def test_figures_are_refused_to_the_public_without_tls(three: Runs, tmp_path: Path) -> None:
    """At start, in one sentence with a hint, before anything is opened or listened on."""
    kept = (three.local.coordinator.home / "coordinator.yaml").read_text()
    (tmp_path / "coordinator.yaml").write_text(yaml.safe_dump({**yaml.safe_load(kept), "metrics": "0.0.0.0:0"}))
    told = subprocess.run(
        [sys.executable, "-m", "coordinator.main", "run", "--home", tmp_path],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert told.returncode == 2
    assert told.stderr.startswith("error: metrics: 0.0.0.0:0 would be readable by whoever reaches this machine")
    assert "metrics_certificate" in told.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"coordinator.yaml"}, "nothing was made"


def test_nothing_else_is_served(three: Runs) -> None:
    for service in (three.local.coordinator, three.local.nodes["ar"]):
        address = web_address(service)
        assert fetched(address, "/healthz") == (200, "ok\n")
        assert fetched(address, "/readyz") == (200, "ready\n")
        for path in ("/", "/metrics/..", "/debug", "/%2e%2e/coordinator.yaml"):
            assert fetched(address, path)[0] == 404
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), 5.0) as raw:
            raw.sendall(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            assert b" 501 " in raw.recv(4096).split(b"\r\n")[0]


def test_a_node_is_not_ready_while_its_coordinator_is_away(three: Runs) -> None:
    coordinator, node = three.local.coordinator, three.local.nodes["ch"]
    address = web_address(node)
    coordinator.kill()
    try:
        eventually(lambda: fetched(address, "/readyz") == (503, "not connected\n"))
        assert fetched(address, "/healthz") == (200, "ok\n"), "restarting the node would not help"
        assert samples(node)["concord_node_connected", ()] == 0
    finally:
        coordinator.start()
        coordinator.wait_ready()
    eventually(lambda: fetched(address, "/readyz") == (200, "ready\n"), 20.0)
    for member in three.local.nodes.values():
        eventually(lambda member=member: fetched(web_address(member), "/readyz")[0] == 200, 20.0)  # type: ignore[misc]
    assert fetched(web_address(coordinator), "/readyz") == (200, "ready\n")


def test_the_coordinator_counts_a_node_that_went_away(three: Runs) -> None:
    coordinator, node = three.local.coordinator, three.local.nodes["ar"]
    node.kill()
    try:
        eventually(lambda: samples(coordinator)["concord_nodes", ("away",)] == 1)
        assert samples(coordinator)["concord_nodes", ("connected",)] == MEMBERS - 1
    finally:
        node.start()
        node.wait_ready()
    eventually(lambda: samples(coordinator)["concord_nodes", ("connected",)] == MEMBERS)


def test_a_node_may_export_nothing(three: Runs) -> None:
    node = three.local.nodes["be"]
    path = node.home / "node.yaml"
    kept = path.read_bytes()
    node.stop()
    try:
        path.write_text(yaml.safe_dump({**yaml.safe_load(kept), "metrics": ""}))
        node.start()
        node.wait_ready()
        assert web_address(node) == ""
        assert node.process is not None
        listening = [
            item for item in psutil.Process(node.process.pid).net_connections() if item.status == psutil.CONN_LISTEN
        ]
        assert listening == [], "a node needs no port of its own"
    finally:
        node.stop()
        path.write_bytes(kept)
        node.start()
        node.wait_ready()
