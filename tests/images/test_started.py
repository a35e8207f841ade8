"""The pods of the charts, and the services of compose.yaml, started from this checkout: the first script, then the service.

What the images' own install steps make is tried by test_replay, which takes minutes; the scripts, settings and probes are the same.
"""

from __future__ import annotations

import contextlib
import json
import re
import runpy
import ssl
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from benchmarks.processes import free_ports
from tests.e2e.commands import eventually
from tests.helm.charts import PACK, Document, over_tls, pod, rendered
from tests.images.containerfile import ROOT, stages
from tests.images.pods import Machine, end, named
from tests.unit.coordinator.test_exposure import papers_in

Start = Callable[[Machine, Document], subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    processes: list[subprocess.Popen[bytes]] = []

    def started(machine: Machine, container: Document) -> subprocess.Popen[bytes]:
        processes.append(machine.start(container, tmp_path / f"{len(processes)}.log"))
        return processes[-1]

    yield started
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            end(process)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "pod", Path(sys.prefix))


def probed(container: Document, kind: str, machine: Machine, papers: Path | None) -> bool:
    """What a kubelet's probe finds: it asks the pod's address, and of a certificate nothing."""
    asked = container[kind]["httpGet"]
    port = next(port["containerPort"] for port in container["ports"] if port["name"] == asked["port"])
    host = f"[{machine.address}]" if ":" in machine.address else machine.address
    scheme = asked.get("scheme", "HTTP").lower()
    context = None
    if papers is not None:
        context = ssl.create_default_context(cafile=str(papers))
        context.check_hostname = False
    try:
        with urllib.request.urlopen(f"{scheme}://{host}:{port}{asked['path']}", timeout=5, context=context) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_metrics_over_tls_on_an_ipv6_pod_are_served_probed_and_tested(
    machine: Machine, tmp_path: Path, start: Start
) -> None:
    members, figures = free_ports(2)
    machine.address, machine.changed = "::1", {"CONCORD_COORDINATOR_LISTEN": f"0.0.0.0:{members}"}
    values = over_tls({"metrics": {"port": figures, "tls": {"serverName": "localhost"}}})
    documents = rendered("coordinator", values)
    machine.files(documents)
    spec, probe = pod(documents, "coordinator"), named(pod(documents, "test"), "reach")
    home, service = named(spec, "home"), named(spec, "coordinator")

    assert "no tls.crt" in machine.run(home).stderr
    certificate, key = papers_in(tmp_path)
    papers = {"tls.crt": certificate.read_text(), "tls.key": key.read_text()}
    machine.put("/run/secrets/web", papers)
    machine.put("/run/web", {"ca.pem": certificate.read_text()})
    assert (made := machine.run(home)).returncode == 0, made.stderr
    held = Path(machine.here("/run/concord/web.key"))
    assert stat.S_IMODE(held.stat().st_mode) == 0o600, (
        "the Secret's own file is open to the group, and would be refused"
    )

    changed = machine.run(
        {**service, "env": [*service["env"], {"name": "CONCORD_COORDINATOR_FEDERATION", "value": "other"}]}
    )
    assert changed.returncode == 2
    assert "CONCORD_COORDINATOR_FEDERATION says other, and this home is one of atlas" in changed.stderr

    running = start(machine, service)
    eventually(lambda: probed(service, "readinessProbe", machine, certificate))
    assert probed(service, "livenessProbe", machine, certificate)
    words = [str(members) if word == "7443" else word for word in probe["command"]]
    words[2] = machine.address
    reached = machine.run(probe, words)
    assert reached.returncode == 0, reached.stderr
    assert "/readyz: ready" in reached.stdout
    words[words.index("localhost")] = "hub.example.org"
    assert "Hostname mismatch" in machine.run(probe, words).stderr
    assert end(running) == 0


def policies(machine: Machine, home: Document, files: dict[str, str]) -> subprocess.CompletedProcess[str]:
    machine.put("/etc/policy", files)
    return machine.run(home)


def test_a_policy_that_the_node_could_not_follow_is_refused_at_start_and_packs_are_those_that_are_given(
    machine: Machine,
) -> None:
    documents = rendered("node-agent", {"policyPacks": {"law": PACK}, "metrics": {"enabled": False}})
    machine.files(documents)
    home = named(pod(documents, "agent"), "home")
    given = {path.name: path.read_text() for path in Path(machine.here("/etc/policy")).iterdir()}
    node = Path(machine.here("/var/lib/concord/node"))
    own, pack = given["policy.yaml"], given["law.yaml"]

    assert "has not joined" in policies(machine, home, given).stderr, "the policy is in order"
    refused = policies(machine, home, {"policy.yaml": own.replace("required", "optional")})
    assert refused.returncode == 2
    assert "beside this node's keys" in refused.stderr
    assert "\n  what to do: Say required, or set sandbox.acceptUnsandboxed." in refused.stderr

    (node / "transport.pem").write_text("joined")
    assert policies(machine, home, given).returncode == 0
    assert (node / "policy.yaml").read_text() == own
    assert (node / "policy.d" / "law.yaml").read_text() == pack
    assert stat.S_IMODE((node / "policy.d" / "law.yaml").stat().st_mode) == 0o600
    assert policies(machine, home, {"policy.yaml": own}).returncode == 0
    assert list((node / "policy.d").iterdir()) == [], "the node misses it, and says so, rather than going on by it"


OWN = "apiVersion: concord/v1\nkind: NodePolicy\nrules: {}\n"
LAW = yaml.safe_dump(PACK)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "There is no policy.yaml"),
        ({"policy.yaml": OWN + "sandbox: optional\n"}, "beside this node's keys"),
        ({"policy.yaml": OWN + "leads: [ana]\n"}, "policy.yaml:4: leads: unknown field"),
        ({"policy.yaml": "rules: ["}, "not valid YAML"),
        ({"policy.yaml": OWN, "law.yaml": LAW.replace("5000000", "many")}, "rules.askAbove.rounds: should be"),
        ({"policy.yaml": OWN, "law.yaml": LAW, "more.yaml": LAW}, "are both the pack ke-computing"),
        ({"policy.yaml": OWN, "law.yaml": LAW.replace("national", "base")}, "comes with the membership roll"),
    ],
)
def test_what_is_wrong_with_a_policy_is_said_by_file_and_line_with_what_to_do(
    files: dict[str, str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(sys, "argv", ["policy.py", str(tmp_path), ""])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "helm" / "node-agent" / "files" / "policy.py"))
    said = str(ended.value.code)
    assert said.startswith("error: ")
    assert words in said
    assert "\n  what to do: " in said
    assert not said.endswith("None")


VARIABLES = {
    "CONCORD_FEDERATION": "atlas",
    "CONCORD_MEMBER": "br",
    "CONCORD_NODE": "br-1",
    "CONCORD_BASE_DIGEST": "sha256:0",
}


def composed(name: str) -> Document:
    """A service of compose.yaml as a container; the merge keys of YAML are worked out, and variables are these."""
    text = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: VARIABLES[found[1]], (ROOT / "compose.yaml").read_text())
    service = yaml.safe_load(text)["services"][name]
    _, found = stages(
        ROOT / "images" / ("coordinator" if name.startswith("coordinator") else "node-agent") / "Containerfile"
    )
    command = service.get("entrypoint") or json.loads(found[-1].all("ENTRYPOINT")[0]) + json.loads(
        found[-1].all("CMD")[0]
    )
    return {
        **service,
        "command": command,
        "env": [{"name": key, "value": value} for key, value in service["environment"].items()],
    }


def mounted(machine: Machine, service: Document) -> None:
    """Of its volumes the files of this checkout."""
    for item in service["volumes"]:
        source, target, *_ = item.split(":")
        if source.startswith("./helm/"):
            place = Path(machine.here(target))
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text((ROOT / source).read_text())


def test_the_services_of_the_compose_file_start_and_are_healthy(machine: Machine, start: Start) -> None:
    """Its ports are fixed, as in a container that has its own; here they are others."""
    members, figures = free_ports(2)
    machine.changed = {
        "CONCORD_COORDINATOR_LISTEN": f"127.0.0.1:{members}",
        "CONCORD_COORDINATOR_METRICS": f"127.0.0.1:{figures}",
    }
    machine.files([])
    mounted(machine, composed("coordinator-home"))
    assert (made := machine.run(composed("coordinator-home"))).returncode == 0, made.stderr
    service = composed("coordinator")
    running = start(machine, service)
    how, *check = service["healthcheck"]["test"]
    assert how == "CMD"
    words = [word.replace(":9464", f":{figures}") for word in check]
    eventually(lambda: machine.run(service, words).returncode == 0)
    assert end(running) == 0
    assert machine.run(service, words).returncode != 0, "the check notices"

    home = composed("node-home")
    mounted(machine, home)
    settings = "federation: atlas\nmember: br\nnode: br-1\naddress: coordinator:7443\n"
    policy = "apiVersion: concord/v1\nkind: NodePolicy\nrules: {}\n"
    machine.put("/etc/concord/settings", {"node.yaml": settings, "policy.yaml": policy})
    waits = machine.run(home)
    assert waits.returncode == 2
    assert "has not joined" in waits.stderr, waits.stderr
    assert json.loads(waits.stdout.splitlines()[-1])
