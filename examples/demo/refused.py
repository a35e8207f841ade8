"""A job that two members' rules deny: one by its own policy, one by a pack of its country; and what the lead reads of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from rich.console import Console

from coordinator.client.sdk import Federation
from examples.local_federation import LocalFederation
from federation.errors import FederationError

NAME: Final = "too-much"
OWN_RULES: Final[Mapping[str, Mapping[str, Any]]] = {"fr": {"coordinatorView": ["blind"]}}
"""beside what every member's policy says"""
PACKS: Final[Mapping[str, str]] = {
    "ke": """\
apiVersion: concord/v1
kind: PolicyPack
metadata: {name: ke-computing, layer: national, serial: 1}
rules:
  maxRounds: 100
"""
}
ANSWERED: Final = frozenset({"granted", "denied", "refused"})


def hand_out_packs(local: LocalFederation) -> None:
    """A running node reads them when it is next asked."""
    for member, text in PACKS.items():
        folder = local.nodes[member].home / "policy.d"
        folder.mkdir(exist_ok=True)
        (folder / "law.yaml").write_text(text)


def show_refusals(
    console: Console, local: LocalFederation, federation: Federation, job: Path, folder: Path
) -> dict[str, list[str]]:
    """Submits ``job`` with more than two members allow, prints what each says, withdraws it. The reasons of those that deny."""
    document = yaml.safe_load(job.read_text())
    document["metadata"] = {"name": NAME}
    spec = document["spec"]
    spec["app"] = os.path.relpath(job.parent / spec["app"], folder)
    spec |= {"rounds": 500, "coordinatorView": "sum", "participants": {"minMembers": len(local.nodes)}}
    path = folder / f"{NAME}.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    local.concord("apply", "-f", path)
    answered = None
    for view in federation.watch(NAME):
        if len(view.consents) == len(local.nodes) and all(consent.state in ANSWERED for consent in view.consents):
            answered = view
            break
    if answered is None:
        raise FederationError(f"The job {NAME} ended before every member had answered.")
    if not answered.ended:
        local.concord("cancel", NAME, "--reason", "two members deny it")
    denied = {consent.member: list(consent.reasons) for consent in answered.consents if consent.state == "denied"}
    for consent in sorted(answered.consents, key=lambda consent: consent.member):
        reasons = "; ".join(consent.reasons) if consent.member in denied else ""
        line = f"   {consent.member}: {consent.state}{f' ({reasons})' if reasons else ''}"
        console.print(line, highlight=False, soft_wrap=True)
    return denied
