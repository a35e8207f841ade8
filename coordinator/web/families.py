"""Every metric of the coordinator, declared once.

What records (``metrics``), what reads at each scrape (``survey``) and docs/reference/metrics.md are made from this table. Names
have the prefix ``concord_`` and base units, counters end in ``_total``. A label is one of the few words below, or the name of a job
that has not ended, or of a member where the charter allows it: never a digest, a round's number, a node, or a text that somebody
sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

Kind = Literal["counter", "gauge", "histogram"]

SECONDS: Final = (0.01, 0.05, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0)
"""of phases and stops: from the tenths of a second of a small model to the hours of a large one"""
CALL_SECONDS: Final = (0.001, 0.005, 0.025, 0.1, 0.5, 2.0, 10.0, 60.0, 600.0)
COHORT_MEMBERS: Final = (3, 4, 5, 7, 10, 20, 50, 100, 200)
PHASES: Final = ("gathering", "collecting", "certifying", "revealing")
MOST_WORDS: Final = 128
"""values that one label may take on; whatever comes beyond is counted under ``OTHER``"""
OTHER: Final = "other"


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
    charter: str = ""
    """the word of the charter's ``memberMetrics`` without which it is not exported"""

    @property
    def exposed(self) -> str:
        return f"{self.name}_total" if self.kind == "counter" else self.name


RECORDED: Final = (
    Family("concord_build_info", "gauge", "Version of this coordinator.", ("version",)),
    Family(
        "concord_rounds", "counter", "Attempts of rounds that ended, by outcome.",
        ("outcome",), ("closed", "aborted", "void"),
    ),
    Family(
        "concord_round_phase_seconds", "histogram",
        "How long each phase of a round took; gathering: from the end of the attempt before until enough members were ready.",
        ("phase",), PHASES, SECONDS,
    ),
    Family(
        "concord_cohort_members", "histogram", "Members in the certified cohort of a closed round.",
        buckets=COHORT_MEMBERS,
    ),
    Family("concord_contributions", "counter", "Masked updates that counted in a closed round."),
    Family("concord_update_received_bytes", "counter", "Bytes of masked updates that were received and counted."),
    Family("concord_updates_resumed", "counter", "Uploads that went on where they had broken off."),
    Family("concord_streams_opened", "counter", "Streams that nodes opened: the first, and one more after each break."),
    Family(
        "concord_consents", "counter", "Answers of nodes to jobs.",
        ("state",), ("asked", "granted", "denied", "refused", "revoked", "expired"),
    ),
    Family(
        "concord_denials", "counter",
        "Reasons of denials, by the word that each begins with: a rule's of the policy, or budget, data, runtime and the like.",
        ("reason",),
    ),
    Family(
        "concord_running_consents_ended", "counter",
        "Consents that ended while their job was running: taken back by a person, or over by themselves.",
        ("reason",), ("revoked", "expired"),
    ),
    Family(
        "concord_jobs_ended", "counter", "Jobs that ended, by state.",
        ("state",), ("finished", "failed", "withdrawn", "stopped"),
    ),
    Family(
        "concord_protocol_violations", "counter", "Messages of nodes that were refused, by the check that they failed.",
        ("check",), (OTHER,),
    ),
    Family(
        "concord_log_verification_failures", "counter",
        "Cosignatures of the public log by nodes that are not over a head that was shown, or not by that node.",
    ),
    Family(
        "concord_halt_carried_out_seconds", "histogram",
        "From the order of a halt until a node it reaches had said, signed, that it is carried out.", buckets=SECONDS,
    ),
    Family("concord_rpc_seconds", "histogram", "How long calls with one answer took.", ("method",),
           buckets=CALL_SECONDS),
    Family("concord_rpc_failures", "counter", "Calls with one answer that were answered with an error.", ("method", "reason")),
)  # fmt: skip

SURVEYED: Final = (
    Family("concord_members", "gauge", "Members on the roll, by state.", ("state",), ("active", "suspended")),
    Family(
        "concord_nodes", "gauge", "Enrolled nodes: with an open stream, without one, or put out by the roll.",
        ("state",), ("connected", "away", "suspended", "revoked"),
    ),
    Family(
        "concord_nodes_away_since_timestamp_seconds", "gauge",
        "When the node that has been away for longest was seen last; absent while none is away.",
    ),
    Family(
        "concord_jobs", "gauge", "Jobs that have not ended, by state.",
        ("state",), ("consulting", "ready", "running", "held"),
    ),
    Family("concord_job_rounds", "gauge", "Rounds that a job under way asks for.", ("job",)),
    Family("concord_job_rounds_closed", "gauge", "Rounds of a job under way that are closed.", ("job",)),
    Family("concord_job_phase", "gauge", "1 for the phase in which a job under way is.", ("job", "phase")),
    Family(
        "concord_job_progress_timestamp_seconds", "gauge",
        "When a job that is running last began to run, closed a round, or went on after a halt.", ("job",),
    ),
    Family(
        "concord_job_round_limit_seconds", "gauge",
        "How long one attempt of a round may take by the job's own deadlines.", ("job",),
    ),
    Family("concord_job_roster_members", "gauge", "Members of the roster that stands.", ("job",)),
    Family("concord_job_present_members", "gauge", "Members of the roster that are connected.", ("job",)),
    Family("concord_job_quorum_members", "gauge", "Members of the roster that a round takes.", ("job",)),
    Family("concord_jobs_unlisted", "gauge", "Jobs under way beyond those that are listed by name."),
    Family(
        "concord_halt_orders", "gauge", "Orders that halt something now, by level; one for a job that is over counts for an hour.",
        ("level",), ("hold", "drain", "stop"),
    ),
    Family("concord_halt_level", "gauge", "The highest level of orders that halt something: 0 none, 1 hold, 2 drain, 3 stop."),
    Family("concord_log_entries", "gauge", "Entries of the public log."),
    Family("concord_log_head_entries", "gauge", "Entries under the head that was signed last."),
    Family("concord_log_head_timestamp_seconds", "gauge", "When the head was signed that was signed last."),
    Family("concord_log_cosigned_entries", "gauge", "Entries under the newest head with a cosignature of a node."),
    Family(
        "concord_certificate_start_timestamp_seconds", "gauge", "From when on a certificate of the coordinator is good.",
        ("certificate",), ("authority", "server", "metrics"),
    ),
    Family(
        "concord_certificate_expiry_timestamp_seconds", "gauge", "When a certificate of the coordinator ends.",
        ("certificate",), ("authority", "server", "metrics"),
    ),
    Family("concord_spool_bytes", "gauge", "Masked updates on disk that wait for their sum."),
    Family("concord_spool_disk_bytes", "gauge", "Size of the file system that the spool is on."),
    Family("concord_spool_disk_free_bytes", "gauge", "What is free of the file system that the spool is on."),
    Family(
        "concord_member_connected", "gauge", "1 while a node of this member has an open stream.", ("member",),
        charter="connected",
    ),
    Family(
        "concord_member_seen_timestamp_seconds", "gauge", "When a node of this member was seen last.", ("member",),
        charter="lastSeen",
    ),
    Family(
        "concord_member_contributions", "counter", "Masked updates of this member that counted.", ("member",),
        charter="contributions",
    ),
    Family("concord_member_denials", "counter", "Jobs that this member denied.", ("member",), charter="denials"),
    Family(
        "concord_member_violations", "counter", "Messages of this member that were refused.", ("member",),
        charter="violations",
    ),
)  # fmt: skip

FAMILIES: Final = {family.name: family for family in (*RECORDED, *SURVEYED)}
