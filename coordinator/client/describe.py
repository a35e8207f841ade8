"""Jobs, rounds and nodes as people read them."""

from __future__ import annotations

from typing import Any

from coordinator.client.terminal import as_yaml, data, fields, plain, table
from coordinator.client.views import NODE_HEADINGS, ROUND_HEADINGS, ROUND_NUMBERS, FederationState, Job, Jobs
from federation.errors import FederationError
from federation.identity.roll import Roll
from federation.manifest.document import Recipient
from federation.sealing import key_id_of
from federation.secagg.parameters import Quorums


def jobs_table(jobs: Jobs) -> None:
    table(Jobs.HEADINGS, jobs.rows())


def nodes_table(state: FederationState) -> None:
    table(NODE_HEADINGS, [node.row for node in state.nodes])


def members_table(roll: Roll) -> None:
    table(
        ("ID", "JURISDICTION", "TIER", "STATE", "VOTE", "NAME", "LEADS", "REVOKED"),
        [
            (
                member.id,
                member.jurisdiction,
                member.tier,
                member.state,
                str(roll.voters.get(member.id, "-")),
                member.name,
                " ".join(leads_of(roll, member.id)),
                " ".join(revoked_of(roll, member.id)),
            )
            for member in roll.members
        ],
    )


def members_document(roll: Roll) -> list[dict[str, object]]:
    return [
        {
            "id": member.id,
            "jurisdiction": member.jurisdiction,
            "name": member.name,
            "tier": member.tier,
            "state": member.state,
            "weight": roll.voters.get(member.id, 0),
            "officerKey": f"ed25519:{member.officer_key.hex()}",
            "leads": leads_of(roll, member.id),
            "revokedNodes": revoked_of(roll, member.id),
        }
        for member in roll.members
    ]


def leads_of(roll: Roll, member: str) -> list[str]:
    """Those who are suspended are marked."""
    own = (lead for lead in roll.leads if lead.member == member)
    return [lead.id + ("" if lead.active else " (suspended)") for lead in own]


def revoked_of(roll: Roll, member: str) -> list[str]:
    """Nodes whose key is revoked; another key may be a node of the same name."""
    return [entry.node for entry in roll.revoked if entry.member == member]


def what_n_gives(members: int) -> str:
    """What a roster of ``members`` protects against, in a sentence."""
    try:
        q = Quorums.of(members)
    except FederationError as error:
        return error.message
    colluding = f"{q.f} may collude with the coordinator" if q.f else "no member may collude with the coordinator"
    smallest = f"the smallest sum has {q.m} members, {q.m - q.f} of them honest"
    return f"{members} members: {colluding}; {q.q} signatures certify; {smallest}"


def describe_job(job: Job, roll: Roll | None) -> None:
    """``roll``: the one that the reader trusts; the manifest's signature is checked against it."""
    fields(
        {
            "name": job.name,
            "digest": job.digest.hex(),
            "state": job.state,
            "why": job.reason,
            "lead": _lead(job.lead, roll),
            "created": job.created,
            "rounds": f"{job.rounds_closed} of {job.rounds_total}",
            "release": job.release.hex() if job.release else "none",
        }
    )
    if job.roster:
        data("")
        data(f"roster: {', '.join(job.roster)} (epoch {job.epoch})")
        data(f"  {what_n_gives(len(job.roster))}")
    data("")
    data("consents:")
    if job.consents:
        table(("NODE", "STATE", "REASONS"), [consent.row for consent in job.consents], indent="  ")
    else:
        data("  no node was asked yet")
    if job.rounds:
        data("")
        data("rounds:")
        table(ROUND_HEADINGS, [item.row(job.rounds_total) for item in job.rounds], "  ", ROUND_NUMBERS)
        for item in job.rounds:
            if item.reason:
                data(f"  round {item.round}.{item.attempt} {item.phase}: {item.reason}")
    data("")
    _manifest(job, roll)
    if job.lines:
        data("")
        data("story:")
        for line in job.lines:
            data(f"  {line}")


def _manifest(job: Job, roll: Roll | None) -> None:
    try:
        document = job.signed_document()
    except FederationError as error:
        data(f"manifest: not shown, it does not check: {plain(error.message)}")
        return
    data(f"manifest, with all defaults ({_whose(job, roll)}):")
    bundle = document.get("spec", {}).get("bundle")
    if isinstance(bundle, dict) and isinstance(bundle.get("files"), list):
        bundle["files"] = f"{len(bundle['files'])} files"
    release = document.get("spec", {}).get("release")
    if isinstance(release, dict) and isinstance(release.get("recipients"), list):
        release["recipients"] = [_recipient(each) for each in release["recipients"]]
    data("  " + as_yaml(document).replace("\n", "\n  "))


def _recipient(entry: Any) -> str:
    """A name, and the digest that `concord release key` shows."""
    try:
        recipient = Recipient.model_validate(entry)
        return f"{recipient.name} (key {key_id_of(bytes.fromhex(recipient.key or ''))[:16]})"
    except ValueError:
        return "unreadable"


def _lead(name: str, roll: Roll | None) -> str:
    """With a remark, where the reader's roll does not let it submit jobs now."""
    try:
        if roll is not None:
            roll.require_lead(name)
    except FederationError as error:
        return f"{name} ({plain(error.message)})"
    return name


def _whose(job: Job, roll: Roll | None) -> str:
    """Who signed it, as far as the reader can tell."""
    if roll is None:
        return "its signature was not checked: you have no roll"
    from federation.manifest.manifest import open_manifest

    try:
        return f"signed by {open_manifest(job.manifest, roll).lead.id}, a lead on your roll"
    except FederationError as error:
        return f"IT DOES NOT CHECK against your roll: {plain(error.message)}"
