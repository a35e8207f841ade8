"""A job that one member's rules put before a person: it waits, somebody decides by the commands that people type, it runs."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import yaml
from rich.console import Console

from coordinator.client.sdk import Federation
from coordinator.client.views import Job
from examples.local_federation import LocalFederation, run_command
from federation.errors import FederationError, OutOfOrder
from federation.identity.consent import MAX_ENVELOPE, read_consent
from federation.identity.envelope import open_envelope
from node_agent.main import app as node_app

NAME: Final = "asked"
ROUNDS: Final = 2
ROLE: Final = "data-officer"
SECONDS: Final = 90.0
SHOWN: Final = ("who asks", "data", "training", "release")
"""the lines of `concord-node show` that the demo prints"""


def show_person(
    console: Console, local: LocalFederation, federation: Federation, job: Path, folder: Path, member: str
) -> dict[str, object]:
    """Submits ``job`` anew while ``member`` asks a person about every job, prints what that person sees, and grants it.

    What the node signed: who answered, how, in which role; and in how many rounds the member took part.
    """

    def say(*lines: str) -> None:
        for line in lines:
            console.print(f"   {line}", highlight=False, soft_wrap=True)

    home = local.nodes[member].home
    policy = home / "policy.yaml"
    before = policy.read_text()
    document = yaml.safe_load(before)
    document["rules"] |= {"askAlways": True, "deputies": [ROLE]}
    policy.write_text(yaml.safe_dump(document, sort_keys=False))
    local.concord("apply", "-f", _written(job, folder))
    waiting = _until(federation, lambda view: any(each.reasons for each in view.consents if each.member == member))
    asked = next(each for each in waiting.consents if each.member == member)
    say(f"{member}: {asked.state}, {asked.reasons[0]}", "$ concord-node inbox")
    say(*run_command(node_app, "inbox", "--home", home).splitlines(), f"$ concord-node show {NAME}")
    shown = run_command(node_app, "show", NAME, "--home", home).splitlines()
    say(*(line for line in shown if line.startswith(SHOWN)), f"$ concord-node grant {NAME} --as {ROLE}")
    run_command(node_app, "grant", NAME, "--as", ROLE, "--home", home)
    done = _until(federation, lambda view: view.rounds_closed >= ROUNDS or view.ended)
    if done.rounds_closed < ROUNDS:
        raise FederationError(f"The job {NAME} came to no sum: {done.reason}", hint=f"See the logs in {folder}.")
    answer = next(each for each in done.consents if each.member == member)
    given = read_consent(open_envelope(answer.envelope, "consent", MAX_ENVELOPE)).given
    if answer.state != "granted" or given is None:
        raise FederationError(f"{member} has not consented to {NAME}: it is {answer.state}.")
    rounds = sum(item.phase == "closed" and member in item.cohort for item in done.rounds)
    say(f"{member}: {answer.state} by a {given.how} ({given.by}), signed by its node; in {rounds} of {ROUNDS} rounds")
    with contextlib.suppress(OutOfOrder):  # it has ended meanwhile
        local.concord("cancel", NAME, "--reason", "it was asked about, and that was all")
    policy.write_text(before)
    return {"member": member, "how": given.how, "by": given.by, "rounds": rounds}


def _written(job: Path, folder: Path) -> Path:
    document = yaml.safe_load(job.read_text())
    document["metadata"] = {"name": NAME}
    spec = document["spec"]
    spec.pop("gates", None)
    spec["app"] = os.path.relpath(job.parent / spec["app"], folder)
    spec |= {"rounds": ROUNDS, "model": {**spec.get("model", {}), "seed": 4712}}
    path = folder / f"{NAME}.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def _until(federation: Federation, holds: Callable[[Job], bool]) -> Job:
    deadline = time.monotonic() + SECONDS
    for view in federation.watch(NAME):
        if holds(view):
            return view
        if time.monotonic() > deadline:
            break
    raise FederationError(f"The job {NAME} took too long.")
