"""docs/reference/policy.md, generated from the schema of a policy; a test compares."""

from __future__ import annotations

from federation.manifest.explain import fields, table
from federation.policy.rules import PolicyDocument


def reference_page() -> str:
    lines = [
        "# A node's policy",
        "",
        "Generated from the schema in `federation/policy/rules.py`; a test compares.",
        "",
        "`policy.yaml` in the node's folder says which jobs this lab takes part in; nobody else can widen or replace it. Every",
        "rule must say yes: `leads`, `jurisdictions`, `dataSets` and `minimumCohort` deny everything while they are absent; every",
        "further rule, or narrower list, only takes away. Where a rule says no, the lead reads its sentence in `concord describe`.",
        "",
        "```yaml",
        "apiVersion: concord/v1",
        "kind: NodePolicy",
        "rules:",
        "  leads: [cardiology]",
        "  jurisdictions: [CH, HU, US]",
        "  dataSets: [heart-disease]",
        "  minimumCohort: 3",
        "```",
        "",
        *table(fields(PolicyDocument, "policy")),
        "",
        "`minimumCohort` and `minimumJurisdictions` are compared with what the job promises (`participants.minMembers` and",
        "`participants.minJurisdictions`), and `jurisdictions` with every member that the job may bring in.",
    ]
    return "\n".join(lines) + "\n"
