"""Jobs, rounds and nodes as people read them."""

from __future__ import annotations

import sys

from coordinator.client.terminal import amount, as_yaml, coloured, data, fields, table
from coordinator.client.views import FederationState, Job, Round
from federation.errors import FederationError
from federation.identity.envelope import open_envelope
from federation.secagg.parameters import Quorums

ROUND_HEADINGS = ("ROUND", "PHASE", "COHORT", "LOSS", "ACCURACY", "UP", "SECONDS", "LOST")


def jobs_table(jobs: list[Job]) -> None:
    table(
        ("NAME", "STATE", "ROUNDS", "LEAD", "DIGEST", "REASON"),
        [
            (
                job.name,
                job.state,
                f"{job.rounds_closed}/{job.rounds_total}",
                job.lead,
                job.digest.hex()[:12],
                job.reason,
            )
            for job in jobs
        ],
    )


def nodes_table(state: FederationState) -> None:
    table(
        ("MEMBER", "NODE", "JURISDICTION", "STATE", "CONNECTED", "OFFERS"),
        [
            (node.member, node.node, node.jurisdiction, node.state, "yes" if node.connected else "no", node.offer)
            for node in state.nodes
        ],
    )


def round_row(item: Round) -> tuple[str, ...]:
    return (
        str(item.round) + (f".{item.attempt}" if item.attempt else ""),
        item.phase,
        " ".join(item.cohort or item.ready),
        "" if item.loss is None else f"{item.loss:.4f}",
        "" if item.accuracy is None else f"{item.accuracy:.4f}",
        amount(item.bytes_up),
        f"{item.seconds:.2f}",
        " ".join(item.lost),
    )


def what_n_gives(members: int) -> str:
    """What a roster of ``members`` protects against, in a sentence."""
    try:
        q = Quorums.of(members)
    except FederationError as error:
        return error.message
    colluding = f"{q.f} may collude with the coordinator" if q.f else "no member may collude with the coordinator"
    smallest = f"the smallest sum has {q.m} members, {q.m - q.f} of them honest"
    return f"{members} members: {colluding}; {q.q} signatures certify; {smallest}"


def describe_job(job: Job) -> None:
    fields(
        {
            "name": job.name,
            "digest": job.digest.hex(),
            "state": job.state,
            "why": job.reason,
            "lead": job.lead,
            "created": job.created,
            "rounds": f"{job.rounds_closed} of {job.rounds_total}",
        }
    )
    if job.roster:
        data(f"roster: {', '.join(job.roster)} (epoch {job.epoch})")
        data(f"  {what_n_gives(len(job.roster))}")
    data("consents:")
    for consent in job.consents:
        data(f"  {consent.member}/{consent.node}: {coloured(consent.state, sys.stdout)}")
        for reason in consent.reasons:
            data(f"    {reason}")
    if job.rounds:
        data("rounds:")
        table(ROUND_HEADINGS, [round_row(item) for item in job.rounds], indent="  ")
    data("manifest, with all defaults:")
    document = dict(open_envelope(job.manifest, "manifest").document)
    bundle = document["spec"]["bundle"]
    bundle["files"] = f"{len(bundle['files'])} files"
    data("  " + as_yaml(document).replace("\n", "\n  "))
    if job.lines:
        data("story:")
        for line in job.lines:
            data(f"  {line}")
