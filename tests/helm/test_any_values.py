"""Whatever a chart's schema admits is rendered as Kubernetes takes it, confined and closed as ever, or refused by its path."""

from __future__ import annotations

from typing import Any

import helm_python
import pytest
import yaml
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from federation.policy.pack import load_pack
from federation.policy.rules import load_policy
from node_agent.settings import parse_settings
from tests.helm.admitted import changes, schema_of
from tests.helm.charts import LEAST, NAMESPACE, WATCHED, Document, loaded, of_kind, over, over_tls, pods
from tests.helm.pod_security import broken
from tests.helm.policies import Outside, Pod, allows
from tests.helm.validity import check_valid

RELEASES = ("rel", "true", "null", "on", "y", "concord-coordinator", "x" * 53, "a.b")
PATIENT = (HealthCheck.too_slow, HealthCheck.filter_too_much)


class OnceEach(yaml.SafeLoader):
    """A mapping that says one thing twice is no manifest: which of the two counts is nobody's promise."""


def _mapping(loader: OnceEach, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    names = [loader.construct_object(key, deep=True) for key, _ in node.value]
    assert len(names) == len(set(names)), f"said twice: {names}"
    return yaml.SafeLoader.construct_mapping(loader, node, deep)


OnceEach.add_constructor(
    yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, lambda loader, node: _mapping(loader, node, True)
)


def rendered(chart: str, given_values: Document, release: str) -> list[Document] | str:
    """The manifests, or what the templates or the schema say against the values."""
    try:
        texts = loaded(chart).render(over(LEAST[chart], given_values), name=release, namespace=NAMESPACE)
    except (helm_python.HelmValuesError, helm_python.HelmRenderError) as error:
        return str(error.detail)
    every = (yaml.load_all(text, OnceEach) for path, text in texts.items() if path.endswith(".yaml"))
    return [document for documents in every for document in documents if document]


def check_refusal(chart: str, said: str) -> None:
    """By the path of a value, in a sentence, with what to do."""
    assert said.startswith("execution error at (") or "don't meet the specifications" in said, said
    if said.startswith("execution error at ("):
        path, _, rest = said.partition("): ")[2].partition(": ")
        assert path.split(".")[0] in schema_of(chart)["properties"], said
        sentence, _, hint = rest.partition(". ")
        assert len(sentence) > 10, said
        assert len(hint) > 10, said


def check_manifests(chart: str, documents: list[Document], values: Document) -> None:
    policies = of_kind(documents, "NetworkPolicy")
    guarded = over(LEAST[chart], values).get("networkPolicy", {}).get("enabled", True)
    assert bool(policies) is guarded
    for document in documents:
        check_valid(document)
    for name, labels, spec in pods(documents):
        check_pod(chart, name, labels, spec, values)
        if guarded:
            pod = Pod(labels, NAMESPACE)
            check_network(policies, pod, labels["app.kubernetes.io/component"], values)


def check_pod(chart: str, name: str, labels: Document, spec: Document, values: Document) -> None:
    mode = values.get("sandbox", {}).get("mode", "none")
    sandboxes = chart == "node-agent" and mode == "bubblewrap"
    stands = sandboxes and labels["app.kubernetes.io/component"] in {"agent", "worker"}
    found = broken({}, spec)
    if stands:
        assert spec["hostUsers"] is False
        profile = values["sandbox"].get("appArmorProfile", "")
        assert set(found) == {"/proc Mount Type"} | ({"AppArmor"} if profile == "Unconfined" else set())
    else:
        assert found == {}, name
    for container in [*spec.get("initContainers", ()), *spec["containers"]]:
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["resources"]["limits"]["memory"]
    assert spec["automountServiceAccountToken"] is False


STRANGERS = [Outside("169.254.169.254"), Outside("8.8.8.8"), Outside("2606:4700::1"), Pod({"app": "x"}, "elsewhere")]


def check_network(policies: list[Document], pod: Pod, component: str, values: Document) -> None:
    """No named network of the drawn ones holds a stranger, so nothing that was drawn may let one through."""
    for stranger in STRANGERS:
        for port in (53, 443, 7443, 5432, 9464):
            assert not allows(policies, pod, "egress", stranger, port)
            if not (component == "coordinator" and port == 7443):
                assert not allows(policies, pod, "ingress", stranger, port)
    if component == "worker":
        for protocol in ("TCP", "UDP"):
            dns = Pod({"k8s-app": "kube-dns"}, "kube-system")
            assert not allows(policies, pod, "egress", dns, 53, protocol)


def check_node_reads(documents: list[Document]) -> None:
    files = {name: text for item in of_kind(documents, "ConfigMap") for name, text in item["data"].items()}
    settings_file = parse_settings(files["node.yaml"].encode(), "node.yaml")
    assert settings_file.federation == "atlas"
    if "policy.yaml" in files:
        load_policy(files["policy.yaml"], "policy.yaml")
    for name, text in files.items():
        if name.endswith(".yaml") and name not in {"node.yaml", "policy.yaml"}:
            load_pack(text, name)


def check_many(chart: str, count: int, *, anew: bool) -> None:
    @settings(deadline=None, max_examples=count, derandomize=not anew, suppress_health_check=PATIENT, database=None)
    @given(changes(chart), st.sampled_from(RELEASES))
    @example({}, "123")
    @example({"fullnameOverride": "true"}, "rel")
    @example(over_tls(WATCHED), "null")
    @example({"podLabels": {"team": "true", "123": "1e3"}, "nodeSelector": {"a": "on"}}, "1e3")
    def holds(values: Document, release: str) -> None:
        values = {name: value for name, value in values.items() if name not in LEAST[chart] or isinstance(value, dict)}
        documents = rendered(chart, values, release)
        if isinstance(documents, str):
            event("refused")
            check_refusal(chart, documents)
            return
        event("admitted")
        check_manifests(chart, documents, values)
        if chart == "node-agent":
            check_node_reads(documents)

    holds()


@pytest.mark.parametrize("chart", LEAST)
def test_whatever_is_admitted_is_valid_confined_and_closed(chart: str) -> None:
    check_many(chart, 20, anew=False)


@pytest.mark.soak
@pytest.mark.parametrize("chart", LEAST)
def test_of_many_more_values_too(chart: str) -> None:
    check_many(chart, 300, anew=True)
