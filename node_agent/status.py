"""`concord-node status`: whether this node takes part in the federation now, by its own roll, and what it works on. It reads the
home and asks nobody."""

from __future__ import annotations

import json
import os
from typing import Any

from federation.errors import InvalidUsage, plain
from federation.identity.keys import SigningKey
from node_agent.membership import Membership
from node_agent.settings import Home
from node_agent.store.journal import Journal


def status_of(home: Home) -> dict[str, Any]:
    """Raises InvalidUsage where no node's home is, NotFound before it has joined."""
    settings = home.settings()
    membership = Membership(home, settings, SigningKey.from_pem(home.read(home.identity_key)))
    roll, jobs, waiting = membership.roll, [], 0
    if home.journal.exists() and home.journal.stat().st_size:
        with Journal(home.journal, read_only=True) as journal:
            names = {record.job: record.name for record in journal.consents()}
            jobs = [
                {"job": each.job.hex(), "name": names.get(each.job, ""), "state": each.state, "reason": each.reason}
                for state in ("active", "suspended")
                for each in journal.jobs(state)
            ]
            waiting = sum(question.state == "waiting" for question in journal.questions())
    member = next((each for each in roll.members if each.id == settings.member), None)
    return {
        "federation": settings.federation,
        "member": settings.member,
        "node": settings.node,
        "tier": member.tier if member is not None else "",
        "takesPart": not membership.suspended,
        "why": membership.suspended,
        "roll": roll.version,
        "forked": membership.forked,
        "coordinator": list(membership.places),
        "running": _runs(home),
        "jobs": jobs,
        "waitingForAPerson": waiting,
    }


def _runs(home: Home) -> bool:
    """Whether the process lives that wrote run.json when the coordinator had answered it."""
    try:
        os.kill(int(json.loads(home.run_file.read_bytes())["pid"]), 0)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return True


def print_status(home: Home, output: str) -> None:
    if output not in {"table", "json"}:
        raise InvalidUsage(f"There is no output {output!r}.", hint="Use table or json.")
    said = status_of(home)
    if output == "json":
        print(json.dumps(said, indent=2))
        return
    print(f"node {said['node']} of {said['member']} ({said['tier'] or 'not on the roll'}), {said['federation']}")
    print(f"  takes part:   {'yes' if said['takesPart'] else 'no: ' + plain(said['why'])}")
    other = "; another roll of a version that it holds lies in roll-fork.json: no new job is taken"
    print(f"  roll:         version {said['roll']}{other if said['forked'] else ''}")
    reached = "the node runs, and has reached it" if said["running"] else "the node does not run, or has not reached it"
    print(f"  coordinator:  {plain(', '.join(said['coordinator']))} ({reached})")
    print(f"  for a person: {said['waitingForAPerson'] or 'nothing'} waits")
    for job in said["jobs"]:
        why = f": {plain(job['reason'])}" if job["reason"] else ""
        print(f"  job {plain(job['name'])}  {job['job'][:12]}  {job['state']}{why}")
    if not said["jobs"]:
        print("  no job")
