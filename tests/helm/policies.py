"""What a set of NetworkPolicies lets through, by the rules of networking.k8s.io/v1.

A pod that no policy selects for a direction is open in it. A selected one lets through what any rule of any of these policies
does; a rule without peers is for everybody, without ports for every port; a peer with two selectors asks for both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Pod:
    labels: Mapping[str, str]
    namespace: str


@dataclass(frozen=True)
class Outside:
    """An address that is no pod of the cluster."""

    address: str
    labels: Mapping[str, str] = field(default_factory=dict)


End = Pod | Outside


def allows(policies: Iterable[Document], pod: Pod, direction: str, peer: End, port: int, protocol: str = "TCP") -> bool:
    """Whether ``pod`` may talk with ``peer``; ``port`` is that of whoever is called. ``direction``: ingress or egress."""
    selecting = [
        policy
        for policy in policies
        if policy["metadata"].get("namespace", pod.namespace) == pod.namespace
        and matches(policy["spec"]["podSelector"], pod.labels)
        and direction.title() in policy["spec"]["policyTypes"]
    ]
    if not selecting:
        return True
    rules = [rule for policy in selecting for rule in policy["spec"].get(direction) or ()]
    side = "from" if direction == "ingress" else "to"
    return any(_port(rule, port, protocol) and _peer(rule.get(side), peer, pod.namespace) for rule in rules)


def matches(selector: Document, labels: Mapping[str, str]) -> bool:
    for name, value in selector.get("matchLabels", {}).items():
        if labels.get(name) != value:
            return False
    for expression in selector.get("matchExpressions", ()):
        held, values = labels.get(expression["key"]), expression.get("values", ())
        answer = {
            "In": held in values,
            "NotIn": held not in values,
            "Exists": held is not None,
            "DoesNotExist": held is None,
        }[expression["operator"]]
        if not answer:
            return False
    return True


def _port(rule: Document, port: int, protocol: str) -> bool:
    ports = rule.get("ports")
    return not ports or any(item["port"] == port and item.get("protocol", "TCP") == protocol for item in ports)


def _peer(peers: list[Document] | None, end: End, namespace: str) -> bool:
    if not peers:
        return True
    return any(_one(peer, end, namespace) for peer in peers)


def _one(peer: Document, end: End, namespace: str) -> bool:
    if "ipBlock" in peer:
        if isinstance(end, Pod):
            return False
        address, block = ip_address(end.address), peer["ipBlock"]
        within = address in ip_network(block["cidr"])
        return within and not any(address in ip_network(left_out) for left_out in block.get("except", ()))
    if isinstance(end, Outside):
        return False
    if "namespaceSelector" in peer:
        if not matches(peer["namespaceSelector"], {"kubernetes.io/metadata.name": end.namespace}):
            return False
    elif end.namespace != namespace:
        return False
    return matches(peer.get("podSelector", {}), end.labels)
