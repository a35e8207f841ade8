"""A job that is stopped while every node trains: who has stopped, and how long it took until the last process was gone."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Final

import psutil
import yaml
from rich.console import Console

from coordinator.client.halts import HaltCalls, make_order
from coordinator.client.sdk import Federation
from examples.local_federation import LocalFederation
from federation.errors import FederationError
from federation.halt.levels import Level

NAME: Final = "to-be-stopped"
ROUNDS: Final = 50
SECONDS: Final = 30.0
LOOK_SECONDS: Final = 0.005


def show_halt(
    console: Console, local: LocalFederation, federation: Federation, job: Path, folder: Path
) -> tuple[float, str]:
    """Submits ``job`` anew, stops it in its second round, prints what each node signs. Seconds until no process of a worker was
    left, from before the order was signed; and the state that the job has taken."""
    document = yaml.safe_load(job.read_text())
    document["metadata"] = {"name": NAME}
    spec = document["spec"]
    spec["app"] = os.path.relpath(job.parent / spec["app"], folder)
    spec |= {"rounds": ROUNDS, "model": {**spec.get("model", {}), "seed": 4711}}
    path = folder / f"{NAME}.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    local.concord("apply", "-f", path)
    digest = b""
    for view in federation.watch(NAME):
        if view.current is not None and view.current.round >= 2:
            digest = view.digest
            break
    if not digest:
        raise FederationError(f"The job {NAME} ended before it could be stopped.", hint=f"See the logs in {folder}.")
    running = _workers(local)
    began = time.monotonic()
    signed = make_order(federation.home, local.name, Level.stop, "a demonstration", job=digest)
    calls = HaltCalls(federation)
    calls.give(signed)
    while any(_runs(process) for process in running):
        if time.monotonic() - began > SECONDS:
            raise FederationError(
                f"Processes still train {SECONDS:.0f} s after the stop.", hint=f"See the logs in {folder}."
            )
        time.sleep(LOOK_SECONDS)
    seconds = time.monotonic() - began
    last = None
    for last in calls.follow(signed.digest, SECONDS):
        if not last.awaited:
            break
    for answer in last.answers if last is not None else ():
        if answer.said is not None:
            console.print(
                f"   {answer.member}: stopped after {answer.said.took_microseconds / 1e6:.3f} s, signed by its node",
                highlight=False,
                soft_wrap=True,
            )
    console.print(
        f"   from the command to the last of {len(running)} processes gone: {seconds:.3f} s",
        highlight=False,
        soft_wrap=True,
    )
    deadline = time.monotonic() + SECONDS
    while (state := federation.job(NAME).state) != "stopped" and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    return seconds, state


def _workers(local: LocalFederation) -> list[psutil.Process]:
    found = []
    for service in local.nodes.values():
        if service.process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                found += psutil.Process(service.process.pid).children(recursive=True)
    return [process for process in found if _runs(process)]


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
