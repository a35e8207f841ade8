"""Whether Kubernetes takes a manifest: strictly, by the schemas of three versions; and by names, labels, networks, ports."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from ipaddress import ip_network
from typing import Any, Final
from unittest.mock import patch

import jsonschema
import kubernetes_validate
from kubernetes_validate import utils

from tests.helm.charts import VERSIONS, Document

LABELS = {"type": "object", "additionalProperties": {"type": "string"}}
STRINGS = {"type": "array", "items": {"type": "string"}}


def closed(optional: Document | None = None, **properties: Any) -> Document:
    every = {**properties, **(optional or {})}
    return {"type": "object", "additionalProperties": False, "properties": every, "required": list(properties)}


RULE = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "alert": {"type": "string"},
        "record": {"type": "string"},
        "expr": {"type": ["string", "integer"]},
        "for": {"type": "string", "pattern": "^[0-9]+[smhd]"},
        "keep_firing_for": {"type": "string"},
        "labels": LABELS,
        "annotations": LABELS,
    },
    "required": ["expr"],
}
OPERATOR: dict[str, Document] = {
    "ServiceMonitor": closed(
        selector=closed(matchLabels=LABELS),
        namespaceSelector=closed(matchNames=STRINGS),
        endpoints={
            "type": "array",
            "minItems": 1,
            "items": closed(
                {
                    "scheme": {"const": "https"},
                    "tlsConfig": closed(
                        {"ca": closed(secret=closed(name={"type": "string"}, key={"type": "string"}))},
                        serverName={"type": "string"},
                    ),
                },
                port={"type": "string"},
                honorLabels={"const": True},
                path={"const": "/metrics"},
                interval={"pattern": "^[0-9]+(ms|s|m)$"},
            ),
        },
    ),
    "PrometheusRule": closed(
        groups={
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "name": {"type": "string"},
                    "interval": {"type": "string"},
                    "rules": {"type": "array", "minItems": 1, "items": RULE},
                },
                "required": ["name", "rules"],
            },
        }
    ),
}
"""Kinds of the Prometheus operator, which Kubernetes has no schema of: those fields of monitoring.coreos.com/v1 that we write."""

_contents = cache(utils.schema_contents)
"""the validator reads its definitions anew for each manifest; they do not change"""
NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
VALUE: Final = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
KEY: Final = re.compile(rf"({NAME.pattern}/)?[A-Za-z0-9]([A-Za-z0-9._-]{{0,61}}[A-Za-z0-9])?")
PORTS: Final = {"port", "containerPort", "nodePort"}
CALLED: Final = {
    "secretName",
    "claimName",
    "serviceName",
    "serviceAccountName",
    "priorityClassName",
    "runtimeClassName",
}


def check_valid(document: Document) -> None:
    """Raises where a server would refuse."""
    if document["apiVersion"] == "monitoring.coreos.com/v1":
        assert set(document) == {"apiVersion", "kind", "metadata", "spec"}
        jsonschema.validate(document["spec"], OPERATOR[document["kind"]])
    else:
        for version in VERSIONS:
            valid(json.dumps(document, sort_keys=True), version)
    name = document["metadata"]["name"]
    assert LABEL.fullmatch(name), name
    assert document["kind"] != "Service" or name[0].isalpha(), name
    for path, key, value in leaves(document):
        if path.endswith(("labels", "matchLabels", "nodeSelector")):
            assert KEY.fullmatch(key), f"{path}: {key!r}"
            assert VALUE.fullmatch(value), f"{path}: {value!r}"
        elif path.endswith("annotations"):
            assert KEY.fullmatch(key), f"{path}: {key!r}"
            assert isinstance(value, str), f"{path}: {value!r}"
        elif key in CALLED:
            assert NAME.fullmatch(value), f"{path}.{key}: {value!r}"
        elif key == "cidr":
            ip_network(value, strict=False)
        elif key in PORTS and isinstance(value, int):
            assert 0 < value < 65_536, f"{path}.{key}: {value}"


@cache
def valid(text: str, version: str) -> None:
    """Manifests that many cases share are looked at once."""
    with patch.object(utils, "schema_contents", _contents):
        kubernetes_validate.validate(json.loads(text), version, strict=True)


def leaves(part: Any, path: str = "") -> Iterator[tuple[str, str, Any]]:
    """Each value that is no mapping and no list, with its name and where it is."""
    if isinstance(part, dict):
        for key, value in part.items():
            if isinstance(value, dict | list):
                yield from leaves(value, f"{path}.{key}")
            else:
                yield path, key, value
    elif isinstance(part, list):
        for item in part:
            yield from leaves(item, path)
