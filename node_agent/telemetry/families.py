"""Every metric of a node, declared once: for what records and reads them, and for docs/reference/metrics.md.

They are the lab's own, for its own Prometheus; nothing of them goes to the coordinator, and ``metrics: ""`` in node.yaml exports
none. No label names a job, a lead, a round or a digest: they are a few words, the lab's data sets with a privacy budget, and the
numbers of its GPUs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

Kind = Literal["counter", "gauge", "histogram"]

SECONDS: Final = (0.01, 0.05, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0)
"""of phases and stops: from the tenths of a second of a small model to the hours of a large one"""
STOP_SECONDS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0)
CALL_SECONDS: Final = (0.001, 0.005, 0.025, 0.1, 0.5, 2.0, 10.0, 60.0, 600.0, 3600.0)
"""from a question on a local network to the transfer of a large model"""


@dataclass(frozen=True, slots=True)
class Family:
    name: str
    """without ``_total``"""
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    """values of the one label that are there from the start, so that the first event is seen as a growth"""
    buckets: tuple[float, ...] = field(default=(), repr=False)

    @property
    def exposed(self) -> str:
        return f"{self.name}_total" if self.kind == "counter" else self.name


COUNTED: Final = {
    "contributions": "Masked updates that were made.",
    "rounds": "Certified sums that were applied.",
    "task_failures": "Failures of jobs' own code.",
    "audits": "Sums of which a place was compared with what its members signed, and was right.",
    "refusals": "Messages of the coordinator that were refused.",
    "evidence": "Refused messages that were kept.",
    "consents_granted": "Jobs that this lab consented to.",
    "consents_denied": "Jobs that this lab denied.",
    "log_missing": "Statements of this node that the public log did not hold in time.",
    "log_stops": "Times that the public log's witness stopped this node.",
    "link_dials": "Streams to the coordinator that were begun.",
    "transfers_resumed": "Transfers that went on where they had broken off.",
    "transfers_retried": "Transfers that were tried again.",
    "worker_starts": "Worker processes that were started.",
    "worker_restarts": "Worker processes that took the place of one of the same job that had ended.",
}
"""counters without labels, ``concord_node_<name>_total``"""

RECORDED: Final = (
    Family("concord_node_build_info", "gauge", "Version of this node.", ("version",)),
    *(Family(f"concord_node_{name}", "counter", text) for name, text in COUNTED.items()),
    Family("concord_node_update_sent_bytes", "counter", "Bytes of masked updates that left."),
    Family(
        "concord_node_denials", "counter",
        "Reasons of denials, by the word that each begins with: a rule's of the policy, or budget, data, runtime and the like.",
        ("reason",),
    ),
    Family(
        "concord_node_consents_ended", "counter", "Consents that ended before their job: by a person, by rules, or by themselves.",
        ("reason",), ("person", "expired", "data", "rules"),
    ),
    Family(
        "concord_node_contribution_seconds", "histogram",
        "How long the parts of a contribution took: the task's own work in the worker, and clipping, encoding and masking.",
        ("phase",), ("task", "encode"), SECONDS,
    ),
    Family(
        "concord_node_halt_seconds", "histogram",
        "From an order of a halt until the last process was gone and the last file erased.", buckets=STOP_SECONDS,
    ),
    Family(
        "concord_node_rpc_seconds", "histogram",
        "How long calls to the coordinator took that end by themselves, by how they ended.", ("method", "code"),
        buckets=CALL_SECONDS,
    ),
)  # fmt: skip

SURVEYED: Final = (
    Family("concord_node_connected", "gauge", "1 while the stream to the coordinator is open."),
    Family("concord_node_jobs", "gauge", "Jobs that this node works on."),
    Family("concord_node_halt_level", "gauge", "What halts this lab as a whole: 0 nothing, 1 hold, 2 drain, 3 stop."),
    Family("concord_node_log_entries", "gauge", "Entries under the newest head of the public log that this node checked."),
    Family(
        "concord_node_log_checked_timestamp_seconds", "gauge",
        "When the public log was last found to continue; 0: never.",
    ),
    Family("concord_node_log_awaited", "gauge", "Statements of this node that are still to appear in the public log."),
    Family("concord_node_log_stopped", "gauge", "1 while the public log's witness keeps this node stopped."),
    Family(
        "concord_node_privacy_budget_spent_ratio", "gauge",
        "Part of a data set's privacy budget that left, or may have; 1 is all of it.", ("data_set",),
    ),
    Family(
        "concord_node_privacy_budget_held_ratio", "gauge",
        "Part of a data set's privacy budget that is spent, or reserved by jobs under way.", ("data_set",),
    ),
    Family(
        "concord_node_certificate_start_timestamp_seconds", "gauge", "From when on this node's paper is good.",
        ("certificate",), ("transport", "credential", "metrics"),
    ),
    Family(
        "concord_node_certificate_expiry_timestamp_seconds", "gauge", "When this node's paper ends.",
        ("certificate",), ("transport", "credential", "metrics"),
    ),
    Family("concord_node_spool_bytes", "gauge", "Models and masked updates of jobs on disk."),
    Family("concord_node_spool_disk_bytes", "gauge", "Size of the file system that the node's home is on."),
    Family("concord_node_spool_disk_free_bytes", "gauge", "What is free of the file system that the node's home is on."),
    Family("concord_node_workers", "gauge", "Worker processes that run."),
    Family("concord_node_worker_memory_bytes", "gauge", "Memory that workers and their children hold, without mapped files."),
    Family("concord_node_gpu_utilisation_ratio", "gauge", "How busy a GPU was lately; 1 is all the time.", ("gpu",)),
    Family("concord_node_gpu_memory_bytes", "gauge", "Memory of a GPU.", ("gpu",)),
    Family("concord_node_gpu_memory_used_bytes", "gauge", "Memory of a GPU that is taken, by whomever.", ("gpu",)),
    Family("concord_node_gpu_temperature_celsius", "gauge", "How warm a GPU is.", ("gpu",)),
)  # fmt: skip

FAMILIES: Final = {family.name: family for family in (*RECORDED, *SURVEYED)}
