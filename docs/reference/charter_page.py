"""The page of the charter: every field of charter.yaml. A field that the code reads and this page lacks is an error here, and so is
one that it does not read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import yaml

from coordinator.client.charter_file import BASE_POLICY_FILE, KIND
from federation.governance.charter import (
    ACTIONS,
    AUDIENCES,
    HALTERS,
    LEADS_BY,
    LEASE_SECONDS,
    MAX_ADDRESSES,
    MAX_BASE_POLICY,
    MAX_OPERATORS,
    MAX_TIERS,
    MAX_WEIGHT,
    MEMBER_METRICS,
    OPTIONAL,
    Charter,
)

DECISIONS: Final = {
    "admission": "a new member, another tier, a member taken back, a new key where the old one is lost",
    "suspension": "a member is suspended",
    "rules": "another charter",
    "release": "a model is released; `none`: no vote, the members' signatures on the model are enough",
    "recall": "a release is recalled; a minority may be enough for it",
    "lift": "a halt of others is lifted",
    "coordinator": "another place, operator or log key",
}
MEANINGS: Final = {
    "charter.tiers": f"kinds of members, {MAX_TIERS} at most, one of them with a vote",
    "charter.tiers.name": "a lower-case label, such as member",
    "charter.tiers.votes": "true or false: whether its members vote",
    "charter.tiers.nodes": "true or false: whether its members may have nodes, and so take part in jobs",
    "charter.tiers.weight": f"of each member's vote, 1 to {MAX_WEIGHT}; 0 in a tier that does not vote",
    "charter.quorums": "which part of the weight of all who have a vote each decision needs: a text such as 2/3, more than half",
    **{f"charter.quorums.{action}": meaning for action, meaning in DECISIONS.items()},
    "charter.halt": "who may halt, beside each member for itself, always; in this order: " + ", ".join(HALTERS),
    "charter.halt.job": "a job",
    "charter.halt.member": f"a member: {' or '.join(HALTERS[1:])}",
    "charter.halt.federation": f"everything: {' or '.join(HALTERS[1:])}",
    "charter.leaseSeconds": "how long a node goes on with a job without hearing that it is not halted: "
    f"{LEASE_SECONDS[0]} to {LEASE_SECONDS[1]}",
    "charter.basePolicy": "the federation's own policy pack as text, which only takes away: nodes apply it beside their own "
    f"rules; {MAX_BASE_POLICY >> 10} KiB at most",
    "charter.basePolicyFile": "in place of it: a file beside the charter",
    "charter.audience": f"to whom releases are served: {', '.join(AUDIENCES)}",
    "charter.leadsBy": f"who admits a lead: {' or '.join(LEADS_BY)}",
    "charter.coordinator": "where the coordinator is; what a file leaves out stays as it was",
    "charter.coordinator.addresses": f"host:port, {MAX_ADDRESSES} at most, in the order in which nodes try "
    "them; none: as the ticket said",
    "charter.coordinator.ca": "SHA-256 of the transport CA's certificate; none: the one that a node joined with",
    "charter.coordinator.operators": f"keys of people who run it, {MAX_OPERATORS} at most, sorted; they have no vote",
    "charter.coordinator.log": "the line in log.key.pub: origin and key of the public log; absent: each node believes "
    "the first that it sees",
    "charter.memberMetrics": "what the coordinator's metrics may say of a member by name, of "
    + ", ".join(MEMBER_METRICS),
}


def charter_page() -> str:
    known = {**dict(_paths(Charter.standard().as_document())), **_optional()}
    if set(known) != set(MEANINGS):
        raise SystemExit(
            f"fields of the charter without a meaning, or the reverse: {sorted(set(known) ^ set(MEANINGS))}"
        )
    if set(DECISIONS) != set(ACTIONS):
        raise SystemExit(f"decisions without a meaning, or the reverse: {sorted(set(DECISIONS) ^ set(ACTIONS))}")
    lines = [
        "# The charter",
        "",
        "Generated from the code by `docs/reference/generate.py`; a test compares. How to write one, and how the members decide",
        "by it: [charter and votes](../how-to/charter.md).",
        "",
        "A charter says who has a vote, and how much each decision needs. It is part of the roll that every member signs. In",
        "`charter.yaml` stands only what differs from the standard one; unknown words are refused, with what there is.",
        "`concord charter check charter.yaml` says what a file means.",
        "",
        "| field | standard | meaning |",
        "|---|---|---|",
        *(f"| `{path}` | {known[path]} | {meaning} |" for path, meaning in MEANINGS.items()),
        "",
        "## The standard charter",
        "",
        "```yaml",
        yaml.safe_dump({**KIND, **Charter.standard().as_document()}, sort_keys=False).rstrip(),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _paths(document: dict[str, Any], prefix: str = "charter") -> Iterator[tuple[str, str]]:
    for name, value in document.items():
        path = f"{prefix}.{name}"
        if isinstance(value, dict):
            yield path, ""
            yield from _paths(value, path)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield path, ", ".join(each["name"] for each in value)
            yield from ((f"{path}.{each}", "") for each in value[0])
        else:
            yield path, _shown(value)


def _optional() -> dict[str, str]:
    """Words that a charter may have, and the standard one has not."""
    return {
        **{f"charter.{name}": "none" for name in OPTIONAL},
        f"charter.{BASE_POLICY_FILE}": "none",
        "charter.coordinator.log": "none",
    }


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(f"`{each}`" for each in value) or "none"
    return "none" if value is None else f"`{value}`"
