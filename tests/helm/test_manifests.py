"""Each chart in a matrix of values: a real Helm engine lints and renders it, three versions of Kubernetes take every manifest."""

import helm_python
import kubernetes_validate
import pytest
import yaml

from tests.helm.charts import (
    CASES,
    EVERY,
    LEAST,
    NAMESPACE,
    RELEASE,
    ROOT,
    VERSIONS,
    Document,
    containers,
    manifests,
    notes,
    of_kind,
    over,
    pod,
    pods,
    rendered,
    values_of,
)
from tests.helm.validity import check_valid


@pytest.mark.parametrize(("chart", "case"), EVERY)
def test_every_manifest_is_strictly_valid(chart: str, case: str) -> None:
    documents = manifests(chart, case)
    assert len(documents) >= 4
    for document in documents:
        check_valid(document)


def test_validation_has_teeth() -> None:
    (service,) = of_kind(manifests("node-agent", "least"), "Service")
    service["spec"]["selectors"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="selectors"):
        kubernetes_validate.validate(service, VERSIONS[0], strict=True)


@pytest.mark.parametrize(("chart", "case"), EVERY)
def test_lint_finds_nothing(chart: str, case: str) -> None:
    report = helm_python.lint(ROOT / "helm" / chart, values_of(chart, case), strict=True)
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] > 1] == []


@pytest.mark.parametrize(("chart", "case"), EVERY)
def test_names_are_of_the_release_and_selectors_find_the_pods(chart: str, case: str) -> None:
    documents = manifests(chart, case)
    names = [(document["kind"], document["metadata"]["name"]) for document in documents]
    assert len(names) == len(set(names))
    assert all(name.startswith(f"{RELEASE}-concord-{chart}") for _, name in names)
    labels = [labels for _, labels, _ in pods(documents)]
    for kind in ("Service", "PodDisruptionBudget"):
        for document in of_kind(documents, kind):
            selector = document["spec"]["selector"]
            wanted = (selector.get("matchLabels") or selector).items()
            assert sum(wanted <= held.items() for held in labels) == 1, document["metadata"]["name"]
    for _, held, spec in pods(documents):
        for constraint in spec.get("topologySpreadConstraints", ()):
            assert constraint["labelSelector"]["matchLabels"].items() <= held.items()


@pytest.mark.parametrize(("chart", "case"), EVERY)
def test_every_mount_has_its_volume_and_every_file_is_there(chart: str, case: str) -> None:
    documents = manifests(chart, case)
    files = {document["metadata"]["name"]: set(document["data"]) for document in of_kind(documents, "ConfigMap")}
    claims = {
        claim["metadata"]["name"]
        for document in of_kind(documents, "StatefulSet")
        for claim in document["spec"].get("volumeClaimTemplates", ())
    }
    for name, _, spec in pods(documents):
        volumes = {volume["name"]: volume for volume in spec.get("volumes", ())}
        mounted = {mount["name"] for container in containers(spec) for mount in container.get("volumeMounts", ())}
        assert mounted - set(volumes) <= (claims if name == f"{RELEASE}-concord-{chart}" else set())
        assert set(volumes) <= mounted
        for container in containers(spec):
            for word in container["command"]:
                if word.startswith("/etc/concord/"):
                    assert word.rpartition("/")[2] in files[volumes["files"]["configMap"]["name"]]


def test_gpus_runtime_class_and_tolerations_reach_the_agent() -> None:
    documents = rendered(
        "node-agent", over(CASES["node-agent"]["placed"], {"gpu": {"count": 2, "resource": "amd.com/gpu"}})
    )
    spec = pod(documents, "agent")
    (agent,) = spec["containers"]
    assert agent["resources"]["limits"] == {"memory": "8Gi", "amd.com/gpu": "2"}
    assert spec["runtimeClassName"] == "nvidia"
    assert spec["priorityClassName"] == "important"
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert agent["image"].endswith("@sha256:" + "0" * 64)
    assert "amd.com/gpu" not in str(spec["initContainers"])
    assert "LD_LIBRARY_PATH" not in str(spec)


def test_a_driver_in_a_place_of_its_own_is_named_to_the_agent_alone() -> None:
    place = "/usr/local/nvidia/lib64:/opt/driver"
    spec = pod(rendered("node-agent", over(CASES["node-agent"]["placed"], {"gpu": {"libraryPath": place}})), "agent")
    (agent,) = spec["containers"]
    assert {"name": "LD_LIBRARY_PATH", "value": place} in agent["env"]
    assert "LD_LIBRARY_PATH" not in str(spec["initContainers"])


def test_data_sets_are_mounted_read_only_where_node_yaml_says() -> None:
    documents = manifests("node-agent", "working")
    spec = pod(documents, "agent")
    (agent,) = spec["containers"]
    (config,) = (document for document in of_kind(documents, "ConfigMap") if "node.yaml" in document["data"])
    settings = yaml.safe_load(config["data"]["node.yaml"])
    mounts = {mount["mountPath"]: mount for mount in agent["volumeMounts"]}
    claims = {volume["name"]: volume.get("persistentVolumeClaim") for volume in spec["volumes"]}
    for name, held in settings["dataSets"].items():
        mount = mounts[held["path"]]
        assert mount["readOnly"]
        assert claims[mount["name"]] == {"claimName": {"scans": "scans", "x-rays.2026": "x"}[name], "readOnly": True}
    assert mounts["/data/x-rays.2026"]["subPath"] == "2026/clean"
    assert not any("/data" in mount["mountPath"] for mount in spec["initContainers"][0]["volumeMounts"])


def test_a_database_url_comes_from_the_secret_alone_and_of_it_the_authority_as_a_file() -> None:
    database = {"engine": "postgresql", "existingSecret": "db", "caKey": "ca.crt", "cidrs": ["198.51.100.7/32"]}
    spec = pod(rendered("coordinator", {"database": database}), "coordinator")
    (service,) = spec["containers"]
    (given,) = (item for item in service["env"] if item["name"] == "CONCORD_COORDINATOR_DATABASE")
    assert given["valueFrom"] == {"secretKeyRef": {"name": "db", "key": "url"}}
    (volume,) = (volume for volume in spec["volumes"] if volume["name"] == "database")
    assert volume["secret"]["items"] == [{"key": "ca.crt", "path": "ca.pem"}]
    assert {"name": "database", "mountPath": "/run/database", "readOnly": True} in service["volumeMounts"]
    assert "CONCORD_COORDINATOR_DATABASE" not in str(manifests("coordinator", "least"))


@pytest.mark.parametrize(
    ("chart", "changes", "words"),
    [
        (
            "coordinator",
            {"address": "concord.example.org:7443"},
            [
                "concord-coordinator found",
                "--address concord.example.org:7443",
                "helm -n lab test rel",
                "concord-coordinator doctor",
                "keys.tar",
            ],
        ),
        (
            "node-agent",
            {},
            [
                "-c home | grep",
                "sign-node",
                "--set join.existingSecret=rel-join",
                "concord-node doctor",
                "denies every job",
            ],
        ),
        (
            "node-agent",
            {"join": {"existingSecret": "j"}, "sandbox": {"mode": "bubblewrap"}},
            ["logs rel-concord-node-agent-0 -c agent", "-c agent -- concord-node doctor", "does the sandbox run"],
        ),
    ],
    ids=["coordinator", "node that must join", "node that joins"],
)
def test_the_notes_end_with_the_next_command(chart: str, changes: Document, words: list[str]) -> None:
    text = notes(chart, changes)
    for word in words:
        assert word in text


def test_helm_test_stands_where_the_service_stands() -> None:
    """What a test pod may do must be what the pod that it speaks for may do."""
    documents = manifests("node-agent", "sandboxed")
    agent, probe = pod(documents, "agent"), pod(documents, "worker")
    assert probe["containers"][0]["securityContext"] == agent["containers"][0]["securityContext"]
    assert probe["securityContext"] == agent["securityContext"]
    assert probe["hostUsers"] is agent["hostUsers"] is False
    for chart in LEAST:
        for document in of_kind(manifests(chart, "least"), "Pod"):
            assert document["metadata"]["annotations"]["helm.sh/hook"] == "test"
            assert document["metadata"].get("namespace", NAMESPACE) == NAMESPACE
