"""Every pod of every case is one that a security team takes unchanged, but for the one container that makes sandboxes."""

import pytest

from tests.helm.charts import CASES, EVERY, containers, manifests, of_kind, pods

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
