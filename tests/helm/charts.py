"""The charts as a Helm engine renders them, offline: manifests as documents, pods, and what a refusal says."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "lab"
RELEASE = "rel"
VERSIONS = ("1.30.0", "1.33.0", "1.37.0")
"""the oldest that the charts take, the first with user namespaces for pods, the newest that kubernetes-validate knows"""

Document = dict[str, Any]
PROMETHEUS = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
SCANS = {"existingClaim": "scans", "examples": 1797, "tags": ["scans"]}
BUDGET = {"epsilon": 8, "delta": 1.0e-6, "unit": "record"}
PACK: Document = {
    "apiVersion": "concord/v1",
    "kind": "PolicyPack",
    "metadata": {"name": "ke-computing", "layer": "national", "serial": 20260101},
    "rules": {"askAbove": {"rounds": 5_000_000}},
}
LEAST: dict[str, Document] = {
    "coordinator": {"federation": "atlas", "image": {"repository": "images.example.org/concord-coordinator"}},
    "node-agent": {
        "federation": "atlas",
        "member": "br",
        "node": "br-1",
        "image": {"repository": "images.example.org/concord-node-agent"},
        "coordinator": {"address": "concord.example.org:7443", "cidrs": ["192.0.2.10/32"]},
    },
}
"""what has no default"""

WATCHED: Document = {
    "metrics": {
        "from": PROMETHEUS,
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboards": {"enabled": True},
    }
}
PLACED: Document = {
    "priorityClassName": "important",
    "runtimeClassName": "nvidia",
    "nodeSelector": {"pool": "gpu"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "podLabels": {"team": "research"},
    "podAnnotations": {"example.org/owner": "research"},
    "image": {"digest": "sha256:" + "0" * 64, "pullSecrets": ["registry"]},
}


def over(values: Mapping[str, Any], changes: Mapping[str, Any]) -> Document:
    merged = copy.deepcopy(dict(values))
    for name, value in changes.items():
        held = merged.get(name)
        merged[name] = over(held, value) if isinstance(held, dict) and isinstance(value, Mapping) else value
    return merged


def over_tls(values: Document) -> Document:
    return over(values, {"metrics": {"tls": {"existingSecret": "web"}}})


CASES: dict[str, dict[str, Document]] = {
    "coordinator": {
        "least": {},
        "watched": WATCHED,
        "placed": PLACED,
        "keys given": {"keys": {"existingSecret": "keys"}, "storage": {"existingClaim": "mine"}},
        "postgresql": {
            "database": {
                "engine": "postgresql",
                "existingSecret": "db",
                "caKey": "ca.crt",
                "cidrs": ["198.51.100.7/32"],
            }
        },
        "no metrics": {"metrics": {"enabled": False}},
        "metrics over tls": over_tls(WATCHED),
        "bare": {
            "metrics": {"enabled": False},
            "networkPolicy": {"enabled": False},
            "podDisruptionBudget": {"enabled": False},
            "topologySpreadConstraints": [],
        },
        "load balancer": {
            "service": {"type": "LoadBalancer", "port": 443, "loadBalancerSourceRanges": ["203.0.113.0/24"]},
            "networkPolicy": {
                "clients": [{"ipBlock": {"cidr": "203.0.113.0/24"}}],
                "dns": {"cidrs": ["169.254.20.10/32"]},
            },
        },
        "node port": {
            "service": {"type": "NodePort", "nodePort": 30443},
            "storage": {"storageClass": "fast", "size": "1Ti"},
        },
    },
    "node-agent": {
        "least": {},
        "watched": WATCHED,
        "placed": PLACED,
        "sandboxed": {"sandbox": {"mode": "bubblewrap", "appArmorProfile": "Unconfined"}},
        "sandboxed by a profile": {"sandbox": {"mode": "bubblewrap", "appArmorProfile": "concord-bwrap"}},
        "working": {
            "sandbox": {"mode": "bubblewrap"},
            "gpu": {"count": 2},
            "join": {"existingSecret": "join"},
            "keys": {"existingSecret": "keys"},
            "storage": {"existingClaim": "mine"},
            "dataSets": {
                "scans": {**SCANS, "privacyBudget": BUDGET},
                "x-rays.2026": {
                    "existingClaim": "x",
                    "subPath": "2026/clean",
                    "examples": 9,
                    "description": "data-sets/x.yaml",
                },
            },
            "policy": {"rules": {"leads": ["ana"], "dataSets": ["scans"], "minimumCohort": 3}, "hours": "20:00-06:00"},
            "consent": "person",
            "deciders": ["officer", "deputy"],
            "leaseSeconds": 120,
        },
        "by proxy": {
            "coordinator": {"address": "concord.example.org:7443", "cidrs": []},
            "proxy": {"existingSecret": "proxy", "cidrs": ["198.51.100.3/32"], "port": 8080},
        },
        "same cluster": {
            "coordinator": {"address": "rel-concord-coordinator.hub:7443", "cidrs": [], "namespace": "hub"}
        },
        "no metrics": {"metrics": {"enabled": False}},
        "metrics over tls": over_tls(WATCHED),
        "packs": {
            "policyPacks": {"law": PACK},
            "podDisruptionBudget": {"maxUnavailable": 0, "acceptBlockedDrains": True},
        },
        "policy of another": {"policyFrom": {"existingConfigMap": "lab-policy"}},
        "secret policy": {"policyFrom": {"existingSecret": "lab-policy"}, "verdictDays": 365},
        "unsandboxed": {"policy": {"sandbox": "optional"}, "sandbox": {"acceptUnsandboxed": True}},
        "bare": {
            "metrics": {"enabled": False},
            "networkPolicy": {"enabled": False},
            "podDisruptionBudget": {"enabled": False},
            "topologySpreadConstraints": [],
        },
    },
}
EVERY = [(chart, case) for chart, cases in CASES.items() for case in cases]


@cache
def loaded(chart: str) -> helm_python.Chart:
    return helm_python.Chart.load(ROOT / "helm" / chart)


def values_of(chart: str, case: str) -> Document:
    return over(LEAST[chart], CASES[chart][case])


@cache
def _text(chart: str, values: str) -> dict[str, str]:
    return loaded(chart).render(json.loads(values), name=RELEASE, namespace=NAMESPACE)


def rendered(chart: str, changes: Mapping[str, Any]) -> list[Document]:
    """Every manifest, with what has no default filled in."""
    texts = _text(chart, json.dumps(over(LEAST[chart], changes), sort_keys=True))
    manifests = (yaml.safe_load_all(text) for path, text in texts.items() if path.endswith(".yaml"))
    return [document for documents in manifests for document in documents if document]


def manifests(chart: str, case: str) -> list[Document]:
    return rendered(chart, CASES[chart][case])


def notes(chart: str, changes: Mapping[str, Any]) -> str:
    texts = _text(chart, json.dumps(over(LEAST[chart], changes), sort_keys=True))
    (text,) = (text for path, text in texts.items() if path.endswith("NOTES.txt"))
    return text


def refusal(chart: str, values: Mapping[str, Any]) -> str:
    """What the engine says to values that it must not take."""
    try:
        loaded(chart).render(dict(values), name=RELEASE, namespace=NAMESPACE)
    except (helm_python.HelmValuesError, helm_python.HelmRenderError) as error:
        return error.detail
    raise AssertionError(f"{chart} takes {values}")


def of_kind(documents: list[Document], kind: str) -> list[Document]:
    return [document for document in documents if document["kind"] == kind]


def pods(documents: list[Document]) -> Iterator[tuple[str, Document, Document]]:
    """(name, labels, spec) of every pod that would run, tests included."""
    for document in documents:
        if document["kind"] == "Pod":
            yield document["metadata"]["name"], document["metadata"]["labels"], document["spec"]
        elif "template" in document.get("spec", {}):
            template = document["spec"]["template"]
            yield document["metadata"]["name"], template["metadata"]["labels"], template["spec"]


def containers(spec: Document) -> list[Document]:
    return [*spec.get("initContainers", ()), *spec["containers"]]


def pod(documents: list[Document], component: str) -> Document:
    (spec,) = (spec for _, labels, spec in pods(documents) if labels["app.kubernetes.io/component"] == component)
    return spec
