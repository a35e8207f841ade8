"""`concord-node consents`: what this node was asked, and what it answered."""

from __future__ import annotations

from federation.errors import plain
from node_agent.settings import Home
from node_agent.store.journal import Journal
from node_agent.store.revocations import Revocations


def print_consents(home: Home) -> None:
    """Raises InvalidUsage where no node's home is."""
    home.settings()
    if not home.journal.exists() or not home.journal.stat().st_size:
        print("nothing was asked yet")
        return
    with Journal(home.journal, read_only=True) as journal:
        records = journal.consents()
        used = {each.job: journal.study_used(each.job) for each in records if journal.study(each.job) is not None}
        verdicts = {record.job for record in records if journal.verdicts(record.job)}
    if not records:
        print("nothing was asked yet")
    revocations = Revocations(home.revocations)
    for record in records:
        verdict = "granted" if record.granted else "denied"
        if record.granted and revocations.revoked(record.job):
            verdict = (
                "revoked" if revocations.noted(record.job) else "revoked, and the coordinator has not confirmed it"
            )
        print(f"{record.answered}  {record.name}  {record.job.hex()[:12]}  lead {record.lead}  {verdict}")
        if (taken := used.get(record.job)) is not None:
            print(f"    study: {taken.runs} runs, {taken.rounds} rounds and {taken.bytes:,} bytes counted")
        for reason in record.reasons:
            print(f"    {plain(reason)}")
        if record.job in verdicts:
            print(f"    by which rules, word for word: concord-node explain {record.job.hex()[:12]}")
        if words := revocations.words(record.job):
            print(f"    revoked: {plain(words)}")
