"""Values that are unknown, contradictory or dangerous are refused: by their path, in one sentence, with what to do."""

import json
import re
from collections.abc import Iterator

import helm_python
import pytest
import yaml

from tests.helm.charts import BUDGET, LEAST, PACK, PROMETHEUS, ROOT, SCANS, Document, over, refusal

NAMED = {"key": "kubernetes.io/metadata.name", "operator": "Exists"}
MONITORED = {"metrics": {"serviceMonitor": {"enabled": True}, "from": PROMETHEUS}}

BY_THE_SCHEMA: list[tuple[str, Document, str, str]] = [
    ("coordinator", {"federaton": "atlas"}, "''", "federaton"),
    ("coordinator", {"metrics": {"tls": True}}, "/metrics/tls", "object"),
    ("coordinator", {"replicas": 2}, "''", "replicas"),
    ("coordinator", {"replicaCount": 0}, "''", "replicaCount"),
    ("coordinator", {"keys": {"ca.key": "MC4CAQ"}}, "/keys", "ca.key"),
    ("coordinator", {"storage": {"hostPath": "/srv"}}, "/storage", "hostPath"),
    ("coordinator", {"image": {"tag": "latest"}}, "/image/tag", "not"),
    ("coordinator", {"image": {"repository": "images.example.org/concord:latest"}}, "/image/repository", "pattern"),
    ("coordinator", {"image": {"repository": "Images/Concord"}}, "/image/repository", "pattern"),
    ("coordinator", {"podLabels": {"team": "a b"}}, "/podLabels/team", "pattern"),
    ("coordinator", {"metrics": {"port": 80}}, "/metrics/port", "minimum"),
    (
        "coordinator",
        {"metrics": {"from": [{"ipBlock": {"cidr": "10.0.0.0/33"}}]}},
        "/metrics/from/0/ipBlock/cidr",
        "pat",
    ),
    (
        "coordinator",
        {"metrics": {"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}]}},
        "/metrics/from/0",
        "maxProperties",
    ),
    ("coordinator", {"resources": {"limits": {"memory": None}}}, "/resources/limits", "memory"),
    ("coordinator", {"resources": {"limits": {"memory": "0"}}}, "/resources/limits/memory", "pattern"),
    ("coordinator", {"resources": {"limits": {"memroy": "2Gi"}}}, "/resources/limits", "memroy"),
    ("coordinator", {"storage": {"size": "0Gi"}}, "/storage/size", "pattern"),
    (
        "coordinator",
        {"tolerations": [{"operator": "Exists", "value": "x"}]},
        "/tolerations/0/value",
        "const|value must",
    ),
    ("coordinator", {"affinity": {"nodeAfinity": {}}}, "/affinity", "nodeAfinity"),
    ("coordinator", {"affinity": {"podAffinity": {"hard": []}}}, "/affinity/podAffinity", "hard"),
    (
        "coordinator",
        {
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "minDomains": 2}
            ]
        },
        "/topologySpreadConstraints/0/whenUnsatisfiable",
        "DoNotSchedule",
    ),
    ("coordinator", {"terminationGracePeriodSeconds": 0}, "/terminationGracePeriodSeconds", "minimum"),
    ("coordinator", {"address": "concord.example.org; rm -rf /:7443"}, "/address", "pattern"),
    ("coordinator", {"address": "concord.example.org:70000"}, "/address", "pattern"),
    ("coordinator", {"keys": {"existingSecret": "a..b"}}, "/keys/existingSecret", "pattern"),
    ("coordinator", {"metrics": {"serviceMonitor": {"interval": "0s"}}}, "/metrics/serviceMonitor/interval", "pattern"),
    ("coordinator", {"dataSets": {"scans": SCANS}}, "''", "dataSets"),
    ("coordinator", {"extraVolumes": []}, "''", "extraVolumes"),
    ("coordinator", {"federation": "Atlas!"}, "/federation", "pattern"),
    ("coordinator", {"database": {"url": "postgresql://u:p@h/d"}}, "/database", "url"),
    ("coordinator", {"database": {"engine": "mysql"}}, "/database/engine", "sqlite"),
    ("coordinator", {"metrics": {"port": 94640}}, "/metrics/port", "65,?535"),
    ("coordinator", {"image": {"digest": "latest"}}, "/image/digest", "pattern"),
    ("coordinator", {"podDisruptionBudget": {"maxUnavailable": 2}}, "/podDisruptionBudget/maxUnavailable", "0, 1"),
    ("coordinator", {"metrics": {"from": [{}]}}, "/metrics/from/0", "minProperties"),
    ("coordinator", {"storage": {"size": "large"}}, "/storage/size", "pattern"),
    ("coordinator", {"resources": {"limits": {"memory": "2 GB"}}}, "/resources/limits/memory", "pattern"),
    ("coordinator", {"settings": {"certificateHours": 100000}}, "/settings/certificateHours", "2,?160"),
    ("node-agent", {"securityContext": {"privileged": True}}, "''", "securityContext"),
    ("node-agent", {"sandbox": {"mode": "privileged"}}, "/sandbox/mode", "bubblewrap"),
    ("node-agent", {"sandbox": {"seccompProfile": "/etc/passwd"}}, "/sandbox/seccompProfile", "pattern"),
    ("node-agent", {"sandbox": {"seccompProfile": "../profile.json"}}, "/sandbox/seccompProfile", "pattern"),
    ("node-agent", {"dataSets": {"scans": {**SCANS, "hostPath": "/srv"}}}, "/dataSets/scans", "hostPath"),
    ("node-agent", {"dataSets": {"scans": {"existingClaim": "s"}}}, "/dataSets/scans", "examples"),
    ("node-agent", {"dataSets": {"scans": {**SCANS, "subPath": "../keys"}}}, "/dataSets/scans/subPath", "pattern"),
    ("node-agent", {"dataSets": {"Scans!": SCANS}}, "/dataSets", "Scans!"),
    (
        "node-agent",
        {"dataSets": {"s": {**SCANS, "privacyBudget": {**BUDGET, "unit": "ward"}}}},
        "/dataSets/s/privacyBudget/unit",
        "record",
    ),
    ("node-agent", {"policy": {"leads": ["ana"]}}, "/policy", "leads"),
    ("node-agent", {"policy": {"rules": {"minimumCohorts": 3}}}, "/policy/rules", "minimumCohorts"),
    ("node-agent", {"policyPacks": {"law": {"rules": {}}}}, "/policyPacks/law", "metadata"),
    (
        "node-agent",
        {"policyPacks": {"law": over(PACK, {"metadata": {"layer": "base"}})}},
        "/policyPacks/law/metadata/layer",
        "national",
    ),
    ("node-agent", {"leaseSeconds": 0.5}, "/leaseSeconds", "minimum"),
    ("node-agent", {"dataSets": {"s": {**SCANS, "examples": 1 << 41}}}, "/dataSets/s/examples", "maximum"),
    ("node-agent", {"coordinator": {"cidrs": ["192.0.2.300/32"]}}, "/coordinator/cidrs/0", "pattern"),
    (
        "node-agent",
        {"sandbox": {"seccompProfile": "Unconfined\nprivileged: true"}},
        "/sandbox/seccompProfile",
        "pattern",
    ),
    ("node-agent", {"hostNetwork": True}, "''", "hostNetwork"),
    ("node-agent", {"policy": {"sandbox": "off"}}, "/policy/sandbox", "required"),
    ("node-agent", {"coordinator": {"address": "concord.example.org"}}, "/coordinator/address", "pattern"),
    ("node-agent", {"coordinator": {"cidrs": ["concord.example.org"]}}, "/coordinator/cidrs/0", "pattern"),
    ("node-agent", {"gpu": {"count": -1}}, "/gpu/count", "minimum"),
    ("node-agent", {"gpu": {"count": "two"}}, "/gpu/count", "integer"),
    ("node-agent", {"gpu": {"libraryPath": "nvidia/lib64"}}, "/gpu/libraryPath", "pattern"),
    (
        *("coordinator", {"metrics": {"prometheusRule": {"runbooks": "javascript:alert(1)"}}}),
        *("/metrics/prometheusRule/runbooks", "pattern"),
    ),
    ("node-agent", {"gpu": {"libraryPath": "/opt/driver:"}}, "/gpu/libraryPath", "pattern"),
    ("node-agent", {"deciders": []}, "/deciders", "minItems"),
]

BY_THE_TEMPLATES: list[tuple[str, Document, str, str]] = [
    ("coordinator", {"federation": ""}, "federation", "it is empty"),
    ("coordinator", {"image": {"repository": ""}}, "image.repository", "it is empty"),
    ("coordinator", {"metrics": {"service": {"type": "LoadBalancer"}}}, "metrics.service.type", "without TLS"),
    ("coordinator", {"metrics": {"service": {"type": "NodePort"}}}, "metrics.service.type", "without TLS"),
    ("coordinator", {"networkPolicy": {"enabled": False}}, "networkPolicy.enabled", "no TLS"),
    ("coordinator", {"metrics": {"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}}, "metrics.from.0", "everybody"),
    ("coordinator", {"metrics": {"from": [{"ipBlock": {"cidr": "128.0.0.0/1"}}]}}, "metrics.from.0", "everybody"),
    ("coordinator", {"metrics": {"from": [*PROMETHEUS, {"ipBlock": {"cidr": "::/0"}}]}}, "metrics.from.1", "everybody"),
    ("coordinator", {"metrics": {"from": [{"namespaceSelector": {}}]}}, "metrics.from.0", "whole cluster"),
    (
        "coordinator",
        {"metrics": {"from": [{"namespaceSelector": {"matchLabels": {}}, "podSelector": {"matchLabels": {}}}]}},
        "metrics.from.0",
        "whole cluster",
    ),
    (
        "coordinator",
        {"metrics": {"from": [{"namespaceSelector": {"matchExpressions": [NAMED]}}]}},
        "metrics.from.0",
        "whole cluster",
    ),
    ("coordinator", {"metrics": {"port": 7443}}, "metrics.port", "port of the members"),
    ("coordinator", {"metrics": {"enabled": False, "from": PROMETHEUS}}, "metrics.from", "no metrics"),
    (
        "coordinator",
        {"metrics": {"enabled": False, "tls": {"existingSecret": "web"}}},
        "metrics.tls.existingSecret",
        "no metrics",
    ),
    ("coordinator", {"metrics": {"tls": {"serverName": "hub"}}}, "metrics.tls.serverName", "existingSecret alone"),
    (
        "coordinator",
        {"metrics": {"service": {"type": "NodePort"}, "tls": {"existingSecret": "web"}}},
        "metrics.service.type",
        "whoever comes",
    ),
    (
        "coordinator",
        {"networkPolicy": {"enabled": False, "clients": PROMETHEUS}, "metrics": {"enabled": False}},
        "networkPolicy.clients",
        "keeps nobody out",
    ),
    (
        "coordinator",
        {"networkPolicy": {"dns": {"podLabels": {"k8s-app": None}}}},
        "networkPolicy.dns.podLabels",
        "every",
    ),
    ("coordinator", {"networkPolicy": {"dns": {"cidrs": ["0.0.0.0/0"]}}}, "networkPolicy.dns.cidrs", "data be told"),
    (
        "coordinator",
        {"database": {"engine": "postgresql", "existingSecret": "d", "cidrs": ["0.0.0.0/0"]}},
        "database.cidrs",
        "nearly everything",
    ),
    ("coordinator", {"database": {"port": 5433}}, "database.port", "engine sqlite"),
    ("coordinator", {"database": {"key": "dsn"}}, "database.key", "engine sqlite"),
    ("coordinator", {"service": {"externalTrafficPolicy": "Local"}}, "service.externalTrafficPolicy", "ClusterIP"),
    (
        "coordinator",
        {"podDisruptionBudget": {"maxUnavailable": 0}},
        "podDisruptionBudget.maxUnavailable",
        "no drain",
    ),
    (
        "coordinator",
        {"resources": {"requests": {"memory": "2.5Gi"}}},
        "resources.requests.memory",
        "more than the limit",
    ),
    (
        "coordinator",
        {"resources": {"requests": {"cpu": 1}, "limits": {"cpu": "900m"}}},
        "resources.requests.cpu",
        "more than the limit",
    ),
    (
        "coordinator",
        {
            "topologySpreadConstraints": 2
            * [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}]
        },
        "topologySpreadConstraints.1",
        "already",
    ),
    ("coordinator", {"metrics": {"serviceMonitor": {"enabled": True}}}, "metrics.from", "keep Prometheus out"),
    ("coordinator", over(MONITORED, {"metrics": {"enabled": False}}), "metrics.serviceMonitor.enabled", "no metrics"),
    (
        "coordinator",
        {"metrics": {"enabled": False, "prometheusRule": {"enabled": True}}},
        "metrics.prometheusRule.enabled",
        "no metrics",
    ),
    (
        "coordinator",
        {"metrics": {"enabled": False, "dashboards": {"enabled": True}}},
        "metrics.dashboards.enabled",
        "no metrics",
    ),
    ("coordinator", {"database": {"engine": "postgresql"}}, "database.existingSecret", "needs the Secret"),
    (
        "coordinator",
        {"database": {"engine": "postgresql", "existingSecret": "d"}},
        "database.cidrs",
        "keep the coordinator from",
    ),
    ("coordinator", {"database": {"existingSecret": "d"}}, "database.existingSecret", "engine sqlite"),
    ("coordinator", {"database": {"cidrs": ["192.0.2.1/32"]}}, "database.cidrs", "engine sqlite"),
    ("coordinator", {"database": {"caKey": "ca.crt"}}, "database.caKey", "engine sqlite"),
    (
        "coordinator",
        {"storage": {"existingClaim": "c", "storageClass": "fast"}},
        "storage.storageClass",
        "class already",
    ),
    ("coordinator", {"service": {"nodePort": 30443}}, "service.nodePort", "ClusterIP"),
    (
        "coordinator",
        {"service": {"loadBalancerSourceRanges": ["192.0.2.0/24"]}},
        "service.loadBalancerSourceRanges",
        "ClusterIP",
    ),
    (
        "coordinator",
        {"podLabels": {"app.kubernetes.io/component": "free"}},
        "podLabels.app.kubernetes.io/component",
        "policies",
    ),
    (
        "coordinator",
        {"metrics": {"dashboards": {"labels": {"helm.sh/chart": "x"}}}},
        "metrics.dashboards.labels.helm.sh/chart",
        "own label",
    ),
    ("coordinator", {"podAnnotations": {"concord/prepared-by": "me"}}, "podAnnotations.concord/prepared-by", "own"),
    (
        "coordinator",
        {"podAnnotations": {"container.apparmor.security.beta.kubernetes.io/coordinator": "unconfined"}},
        "podAnnotations.container.apparmor.security.beta.kubernetes.io/coordinator",
        "loosens",
    ),
    (
        "node-agent",
        {"podAnnotations": {"k8s.v1.cni.cncf.io/networks": "wan"}},
        "podAnnotations.k8s.v1.cni.cncf.io/networks",
        "no NetworkPolicy guards",
    ),
    ("node-agent", {"policyPacks": {"node": PACK}}, "policyPacks.node", "another file"),
    ("node-agent", {"member": ""}, "member", "it is empty"),
    ("node-agent", {"coordinator": {"address": ""}}, "coordinator.address", "it is empty"),
    ("node-agent", {"coordinator": {"cidrs": []}}, "coordinator.cidrs", "keep the agent from its coordinator"),
    ("node-agent", {"coordinator": {"cidrs": ["0.0.0.0/0"]}}, "coordinator.cidrs", "reach nearly everything"),
    ("node-agent", {"coordinator": {"cidrs": ["0.0.0.0/1", "128.0.0.0/1"]}}, "coordinator.cidrs", "nearly everything"),
    ("node-agent", {"podDisruptionBudget": {"maxUnavailable": 0}}, "podDisruptionBudget.maxUnavailable", "no drain"),
    (
        "node-agent",
        {"gpu": {"count": 1}, "resources": {"limits": {"nvidia.com/gpu": 2}}},
        "gpu.count",
        "nvidia.com/gpu",
    ),
    ("node-agent", {"proxy": {"port": 8080}}, "proxy.port", "no proxy"),
    ("node-agent", {"coordinator": {"address": "203.0.113.5:7443"}}, "coordinator.cidrs", "is none of them"),
    (
        "node-agent",
        {"keys": {"existingSecret": "br"}, "metrics": {"tls": {"existingSecret": "br"}}},
        "metrics.tls.existingSecret",
        "private keys",
    ),
    ("node-agent", {"policyFrom": {"existingConfigMap": "a", "existingSecret": "b"}}, "policyFrom", "two sources"),
    (
        "node-agent",
        {"policyFrom": {"existingConfigMap": "a"}, "policy": {"rules": {"leads": ["ana"]}}},
        "policy",
        "passed over",
    ),
    (
        "node-agent",
        {"policyFrom": {"existingSecret": "a"}, "policyPacks": {"law": PACK}},
        "policyPacks",
        "passed over",
    ),
    ("node-agent", {"policyPacks": {"law": PACK, "more": PACK}}, "policyPacks.more.metadata.name", "another pack"),
    (
        "node-agent",
        {"sandbox": {"mode": "bubblewrap", "appArmorProfile": "RuntimeDefault"}},
        "sandbox.appArmorProfile",
        "forbids the mounts",
    ),
    ("node-agent", {"coordinator": {"namespace": "hub"}}, "coordinator", "three ways"),
    ("node-agent", {"proxy": {"cidrs": ["192.0.2.3/32"]}}, "proxy.existingSecret", "no proxy"),
    (
        "node-agent",
        {"coordinator": {"cidrs": []}, "proxy": {"existingSecret": "p"}},
        "proxy.cidrs",
        "keep the agent from its proxy",
    ),
    (
        "node-agent",
        {"coordinator": {"cidrs": []}, "proxy": {"existingSecret": "p", "cidrs": ["::/0"]}},
        "proxy.cidrs",
        "reach nearly everything",
    ),
    ("node-agent", {"metrics": {"service": {"type": "LoadBalancer"}}}, "metrics.service.type", "without TLS"),
    ("node-agent", {"metrics": {"from": [{"ipBlock": {"cidr": "::/0"}}]}}, "metrics.from.0", "everybody"),
    ("node-agent", {"networkPolicy": {"enabled": False}}, "networkPolicy.enabled", "no TLS"),
    (
        "node-agent",
        {"dataSets": {"scans": {**SCANS, "existingClaim": "home-hub-concord-coordinator-0"}}},
        "dataSets.scans.existingClaim",
        "volume of a coordinator",
    ),
    (
        "node-agent",
        {"dataSets": {"scans": {**SCANS, "existingClaim": "home-rel-concord-node-agent-0"}}},
        "dataSets.scans.existingClaim",
        "own home and keys",
    ),
    (
        "node-agent",
        {"storage": {"existingClaim": "mine"}, "dataSets": {"scans": {**SCANS, "existingClaim": "mine"}}},
        "dataSets.scans.existingClaim",
        "own home and keys",
    ),
    ("node-agent", {"dataSets": {"a": {**SCANS, "privacyBudget": BUDGET}, "b": SCANS}}, "dataSets.b", "privacy budget"),
    (
        "node-agent",
        {"dataSets": {"a": {**SCANS, "subPath": "x/y", "privacyBudget": BUDGET}, "b": {**SCANS, "subPath": "x"}}},
        "dataSets.b",
        "privacy budget",
    ),
    ("node-agent", {"policy": {"rules": {"dataSets": ["scans"]}}}, "policy.rules.dataSets", "no data set scans"),
    ("node-agent", {"policy": {"sandbox": "optional"}}, "policy.sandbox", "beside this node's keys"),
    ("node-agent", {"sandbox": {"appArmorProfile": "Unconfined"}}, "sandbox.appArmorProfile", "bubblewrap alone"),
]


@pytest.mark.parametrize(("chart", "changes", "path", "word"), BY_THE_SCHEMA)
def test_the_schema_refuses_by_path(chart: str, changes: Document, path: str, word: str) -> None:
    said = refusal(chart, over(LEAST[chart], changes))
    where = path if path == "''" else f"'{path}'"
    assert f"at {where}: " in said, said
    assert re.search(word, said), said


def closed(schema: Document, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every place of a chart's values where the names are fixed."""
    if schema.get("additionalProperties") is False and "patternProperties" not in schema:
        yield path
    for name, part in schema.get("properties", {}).items():
        yield from closed(part, (*path, name))


@pytest.mark.parametrize("chart", LEAST)
def test_an_unknown_name_is_refused_wherever_it_stands(chart: str) -> None:
    places = list(closed(json.loads((ROOT / "helm" / chart / "values.schema.json").read_text())))
    assert len(places) > 15
    for path in places:
        changes: Document = {"unheardOf": 1}
        for name in reversed(path):
            changes = {name: changes}
        said = refusal(chart, over(LEAST[chart], changes))
        where = "".join(f"/{name}" for name in path)
        assert f"at '{where}': additional properties 'unheardOf' not allowed" in said


def groups(values: Document, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every value that a chart has by default, groups of them too; not what is inside labels, a policy or resources."""
    for name, value in values.items():
        yield (*path, name)
        if isinstance(value, dict) and name not in {"labels", "podLabels", "policy", "resources"}:
            yield from groups(value, (*path, name))


@pytest.mark.parametrize("chart", LEAST)
def test_a_value_that_is_taken_away_is_missed_by_its_path(chart: str) -> None:
    """Helm takes null for "as if it had no default", and a template would then fail over nothing that has a name."""
    places = list(groups(yaml.safe_load((ROOT / "helm" / chart / "values.yaml").read_text())))
    assert len(places) > 50
    for path in places:
        changes: Document = {path[-1]: None}
        for name in reversed(path[:-1]):
            changes = {name: changes}
        said = refusal(chart, over(LEAST[chart], changes))
        where = "".join(f"/{name}" for name in path[:-1])
        assert f"at '{where}': missing property '{path[-1]}'" in said


@pytest.mark.parametrize(("chart", "changes", "path", "words"), BY_THE_TEMPLATES)
def test_the_templates_refuse_by_path_with_a_sentence_and_a_hint(
    chart: str, changes: Document, path: str, words: str
) -> None:
    said = refusal(chart, over(LEAST[chart], changes)).partition("): ")[2]
    told, _, rest = said.partition(": ")
    assert told == path
    assert words in rest
    sentence, _, hint = rest.partition(". ")
    assert len(sentence) > 10, said
    assert len(hint) > 10, said
    assert hint.endswith(("atlas", ".")), said


def test_a_budget_beside_other_files_of_one_claim_is_taken() -> None:
    sets = {"a": {**SCANS, "subPath": "x", "privacyBudget": BUDGET}, "b": {**SCANS, "subPath": "xy"}}
    chart = helm_python.Chart.load(ROOT / "helm" / "node-agent")
    assert chart.render(over(LEAST["node-agent"], {"dataSets": sets}))


@pytest.mark.parametrize(("version", "old"), [("v1.32.4", True), ("v1.33.0", False)])
def test_a_sandbox_asks_for_user_namespaces_of_pods(version: str, old: bool, capfd: pytest.CaptureFixture[str]) -> None:
    """The engine takes another version for lint alone, which logs what would stop an installation."""
    values = over(LEAST["node-agent"], {"sandbox": {"mode": "bubblewrap"}})
    helm_python.lint(ROOT / "helm" / "node-agent", values, strict=True, kube_version=version)
    assert ("sandbox.mode: bubblewrap needs user namespaces" in capfd.readouterr().err) is old
