"""Questions and policies for tests: a job that a wide policy grants, and one change at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from federation.policy.pack import Pack, load_pack
from federation.policy.question import DataFacts, Question
from federation.policy.rules import Policy, load_policy
from tests.unit.identity.parties import JOB, found

PARTIES = found()
MANIFEST = PARTIES.job()
WIDE: dict[str, Any] = {
    "leads": ["lead"],
    "jurisdictions": ["CH", "FR", "KE", "NO", "US"],
    "dataSets": ["digits"],
    "minimumCohort": 3,
    "figures": ["train_loss", "loss", "eval_loss", "eval_acc", "accuracy"],
}
FACTS = (DataFacts("digits", ("scans", "adults"), "public-task"),)


def question(text: str = JOB, **changes: Any) -> Question:
    fields: dict[str, Any] = {
        "manifest": MANIFEST if text == JOB else PARTIES.job(text),
        "roll": PARTIES.roll,
        "member": "fr",
        "data_sets": ("digits",),
        "now": "12:00",
        "sandbox": "bubblewrap",
        "date": "2026-07-01",
        "facts": FACTS,
        "runtime": "bb" * 32,
    }
    return Question(**(fields | changes))


def policy_text(rules: Mapping[str, Any] = WIDE, **more: Any) -> str:
    return yaml.safe_dump(
        {"apiVersion": "concord/v1", "kind": "NodePolicy", "rules": dict(rules), **more}, sort_keys=False
    )


def policy(rules: Mapping[str, Any] = WIDE, **more: Any) -> Policy:
    return load_policy(policy_text(rules, **more), "policy.yaml")


def pack_text(
    rules: Mapping[str, Any], name: str = "ke-law", layer: str = "national", serial: int = 1, **more: Any
) -> str:
    document = {
        "apiVersion": "concord/v1",
        "kind": "PolicyPack",
        "metadata": {"name": name, "layer": layer, "serial": serial},
        "rules": dict(rules),
        **more,
    }
    return yaml.safe_dump(document, sort_keys=False)


def pack(rules: Mapping[str, Any], name: str = "ke-law", layer: str = "national", serial: int = 1, **more: Any) -> Pack:
    return load_pack(pack_text(rules, name, layer, serial, **more), f"{name}.yaml")
