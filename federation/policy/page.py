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
        "  figures: [train/loss, accuracy]",
        "```",
        "",
        *table(fields(PolicyDocument, "policy")),
        "",
        "`minimumCohort` and `minimumJurisdictions` are compared with what the job promises (`participants.minMembers` and",
        "`participants.minJurisdictions`), and `jurisdictions` with every member that the job may bring in.",
        "",
        "`figures` are what this lab declares public in its consent: metrics that may leave as exact sums over a cohort. Name",
        "means here, such as a loss or an accuracy, and no counts: a sum of `rows` over a cohort, and over the same cohort without",
        "one member, differ by that member's count. The node lets figures of one model out over one cohort only, in all jobs",
        '([protocol](../protocol/secure-aggregation.md), "Figures"); `concord-node try` warns of figures that are whole numbers.',
    ]
    return "\n".join(lines) + "\n"
