"""Every pod of every case is one that a security team takes unchanged, but for the one container that makes sandboxes."""

import pytest

from tests.helm.charts import (
    CASES,
    EVERY,
    NAMESPACE,
    PACK,
    Document,
    containers,
    manifests,
    of_kind,
    over,
    pod,
    pods,
    rendered,
)
from tests.helm.pod_security import CONTROLS, broken

NAMESPACES_OF_ITS_OWN = {"agent", "sandbox"}
"""the agent's container, and the test that stands in for it; with sandbox.mode bubblewrap alone"""
PLAIN = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}


@pytest.mark.parametrize(("chart", "case"), EVERY)
def test_every_pod_is_confined(chart: str, case: str) -> None:
    sandboxed = CASES[chart][case].get("sandbox", {}).get("mode") == "bubblewrap"
    seen = 0
    for _, _, spec in pods(manifests(chart, case)):
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] == context["runAsGroup"] == context["fsGroup"] == 65532
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert context["fsGroupChangePolicy"] == "OnRootMismatch"
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & set(spec)
        for volume in spec.get("volumes", ()):
            assert set(volume) & {"configMap", "emptyDir", "secret", "persistentVolumeClaim"}, volume
        for container in containers(spec):
            seen += 1
            more = dict(container["securityContext"])
            if sandboxed and container["name"] in NAMESPACES_OF_ITS_OWN:
                assert more.pop("procMount") == "Unmasked"
                assert spec["hostUsers"] is False
                profile = more.pop("seccompProfile")
                assert profile == {"type": "Localhost", "localhostProfile": "profiles/concord-node-agent.json"}
                more.pop("appArmorProfile", None)
            assert more == PLAIN, container["name"]
            assert container["resources"]["limits"]["memory"]
    assert seen >= 3


@pytest.mark.parametrize(("chart", "case"), EVERY)
def test_every_pod_is_within_the_restricted_standard(chart: str, case: str) -> None:
    """Mode bubblewrap is outside in one control, and where the lab says Unconfined in two: decision 0032."""
    sandbox = CASES[chart][case].get("sandbox", {})
    beyond = {"/proc Mount Type"} | ({"AppArmor"} if sandbox.get("appArmorProfile") == "Unconfined" else set())
    for document in manifests(chart, case):
        template = document if document["kind"] == "Pod" else document.get("spec", {}).get("template")
        if template is not None:
            component = template["metadata"]["labels"]["app.kubernetes.io/component"]
            sandboxes = sandbox.get("mode") == "bubblewrap" and component in {"agent", "worker"}
            assert set(broken(template["metadata"], template["spec"])) == (beyond if sandboxes else set())


LOOSER: dict[str, Document] = {
    "HostProcess": {"securityContext": {"windowsOptions": {"hostProcess": True}}},
    "Host Namespaces": {"hostPID": True},
    "Volume Types": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]},
    "SELinux": {"securityContext": {"seLinuxOptions": {"type": "spc_t"}}},
    "Sysctls": {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
    "Running as Non-root": {"securityContext": {"runAsNonRoot": False}},
    "Running as Non-root user": {"securityContext": {"runAsUser": 0}},
    "Seccomp": {"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
}
LOOSER_CONTAINER: dict[str, Document] = {
    "Privileged Containers": {"securityContext": {"privileged": True}},
    "Capabilities": {"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}},
    "Host Ports": {"ports": [{"containerPort": 1, "hostPort": 1}]},
    "Host Probes and Lifecycle Hooks": {"livenessProbe": {"httpGet": {"host": "192.0.2.1", "port": 80}}},
    "AppArmor": {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}},
    "/proc Mount Type": {"securityContext": {"procMount": "Unmasked"}},
    "Privilege Escalation": {"securityContext": {"allowPrivilegeEscalation": True}},
}


@pytest.mark.parametrize("control", CONTROLS)
def test_each_control_of_the_standard_has_teeth(control: str) -> None:
    spec = next(spec for _, _, spec in pods(manifests("coordinator", "least")))
    assert broken({}, spec) == {}
    looser = over(spec, LOOSER.get(control, {}))
    first = over(looser["containers"][0], LOOSER_CONTAINER.get(control, {}))
    assert control in broken({}, {**looser, "containers": [first]})


@pytest.mark.parametrize("chart", CASES)
def test_a_key_of_metrics_is_copied_into_memory_and_the_test_gets_the_authority_alone(chart: str) -> None:
    documents = manifests(chart, "metrics over tls")
    spec = pod(documents, "coordinator" if chart == "coordinator" else "agent")
    readers = [item["name"] for item in containers(spec) if "web" in {mount["name"] for mount in item["volumeMounts"]}]
    assert readers == ["home"]
    (service,) = spec["containers"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert service[probe]["httpGet"]["scheme"] == "HTTPS"
    for volume in pod(documents, "test")["volumes"]:
        if "secret" in volume:
            assert volume["secret"]["items"] == [{"key": "ca.crt", "path": "ca.pem"}]
    (monitor,) = of_kind(documents, "ServiceMonitor")
    (endpoint,) = monitor["spec"]["endpoints"]
    services = {item["metadata"]["name"]: item["spec"] for item in of_kind(documents, "Service")}
    name, namespace, domain = endpoint["tlsConfig"]["serverName"].split(".")
    assert services[name]["clusterIP"] == "None"
    assert (namespace, domain) == (NAMESPACE, "svc")


@pytest.mark.parametrize(
    ("chart", "changes"),
    [
        ("coordinator", {"settings": {"logHeadSeconds": 9}}),
        ("coordinator", {"metrics": {"tls": {"existingSecret": "web"}}}),
        ("node-agent", {"consent": "person"}),
        ("node-agent", {"policy": {"rules": {"minimumCohort": 3}}}),
        ("node-agent", {"policyPacks": {"law": PACK}}),
        ("node-agent", {"policyFrom": {"existingSecret": "lab"}}),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_a_changed_setting_is_a_new_pod_and_the_volume_stays(chart: str, changes: Document) -> None:
    component = "coordinator" if chart == "coordinator" else "agent"
    before, after = (
        [item for item in rendered(chart, values) if item["kind"] == "StatefulSet"] for values in ({}, changes)
    )
    assert before[0]["spec"]["template"] != after[0]["spec"]["template"]
    assert pod(rendered(chart, changes), component)
    for document in (*before, *after):
        assert document["spec"]["persistentVolumeClaimRetentionPolicy"] == {
            "whenDeleted": "Retain",
            "whenScaled": "Retain",
        }
        assert document["spec"]["replicas"] == 1
    kept = ("volumeClaimTemplates", "selector", "serviceName", "podManagementPolicy")
    assert [before[0]["spec"][name] for name in kept] == [after[0]["spec"][name] for name in kept], "what cannot change"


@pytest.mark.parametrize(("chart", "case"), EVERY)
def test_no_account_has_a_token_or_a_right(chart: str, case: str) -> None:
    documents = manifests(chart, case)
    (account,) = of_kind(documents, "ServiceAccount")
    assert account["automountServiceAccountToken"] is False
    assert {document["kind"] for document in documents} & {
        "Role",
        "RoleBinding",
        "ClusterRole",
        "ClusterRoleBinding",
    } == set()
    for _, _, spec in pods(documents):
        assert spec["serviceAccountName"] == account["metadata"]["name"]


@pytest.mark.parametrize("chart", CASES)
def test_given_keys_stay_in_memory(chart: str) -> None:
    """The Secret is read by the first container alone; what it copies lies in memory, and the service sees nothing else of it."""
    case = "keys given" if chart == "coordinator" else "working"
    for name, _, spec in pods(manifests(chart, case)):
        volumes = {volume["name"]: volume for volume in spec.get("volumes", ())}
        if name.endswith(chart):
            assert volumes["memory"]["emptyDir"]["medium"] == "Memory"
            assert volumes["keys"]["secret"] == {"secretName": "keys", "defaultMode": 0o440}
        readers = [
            container["name"]
            for container in containers(spec)
            if "keys" in {mount["name"] for mount in container.get("volumeMounts", ())}
        ]
        assert readers == (["home"] if name.endswith(chart) else [])


@pytest.mark.parametrize(("chart", "case"), EVERY)
def test_metrics_are_served_on_the_pods_own_address(chart: str, case: str) -> None:
    for _, _, spec in pods(manifests(chart, case)):
        for container in containers(spec):
            for item in container.get("env", ()):
                if item["name"].endswith("METRICS"):
                    assert item["value"] in ("", "[$(POD_IP)]:9464")
    for service in of_kind(manifests(chart, case), "Service"):
        ports = {port["name"] for port in service["spec"].get("ports", ())}
        if "metrics" in ports:
            assert service["spec"]["type"] == "ClusterIP"
