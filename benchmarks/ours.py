"""Ours: a real coordinator and three real node agents over mutual TLS, the whole protocol, on the benchmarks' app."""

from __future__ import annotations

import contextlib
import io
import json
import time
from pathlib import Path

import yaml

from benchmarks.flower import APP, NODES, Measured
from benchmarks.processes import QUIET, PeakMemory
from examples.local_federation import DataSet, LocalFederation, Member
from node_agent.runner.sandbox import detect_sandbox

PLACES = (("be", "BE"), ("cl", "CL"), ("dz", "DZ"))


class RunFailed(RuntimeError):
    """Our own job did not finish: why, and what the coordinator told."""


def concord(folder: Path, parameters: int, rounds: int, limit: float) -> Measured:
    """Runs ``rounds`` rounds after one to warm up. Raises RunFailed when they take more than ``limit`` seconds."""
    folder.mkdir(parents=True)
    members = []
    for member, jurisdiction in PLACES[:NODES]:
        data = folder / f"data-{member}"
        data.mkdir()
        members.append(Member(member, member.upper(), jurisdiction, {"nothing": DataSet(data, 1)}))
    job = folder / "job.yaml"
    job.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "concord/v1",
                "kind": "TrainingJob",
                "metadata": {"name": "overhead"},
                "spec": {
                    "app": str(APP),
                    "dataSet": "nothing",
                    "rounds": 1 + rounds,
                    "runConfig": {"parameters": parameters},
                },
            }
        )
    )
    local = LocalFederation(folder / "federation", "bench", members, environment=QUIET)
    with contextlib.ExitStack() as stack:
        # The commands of the founding tell people what they did; here nobody reads it.
        with contextlib.redirect_stderr(io.StringIO()):
            stack.enter_context(local)
        process = local.coordinator.process
        if process is None:
            raise RunFailed("The coordinator was never started.")
        pids = {"coordinator": process.pid}
        with PeakMemory(lambda: pids) as peak, local.client() as federation:
            submitted = federation.submit(job)
            closed: list[tuple[int, float]] = []
            deadline = time.monotonic() + limit
            for view in federation.watch(submitted.name):
                done = min(view.rounds_closed, 1 + rounds)
                if done and (not closed or done > closed[-1][0]):
                    closed.append((done, time.monotonic()))
                if done == 1 + rounds:
                    break
                if view.ended or time.monotonic() > deadline:
                    raise RunFailed(f"{view.state} after {done} rounds: {view.reason}\n" + "\n".join(view.lines[-20:]))
            reported = [item.seconds for item in view.rounds if item.phase == "closed"][1 : 1 + rounds]
    if len(closed) < 2:
        raise RunFailed(f"The rounds went by unseen: {json.dumps(closed)}")
    (first, start), (last, end) = closed[0], closed[-1]
    by_round = [round(item, 4) for item in reported]
    detail: dict[str, object] = {"ours_by_round": by_round, "sandbox": detect_sandbox().kind}
    return Measured(seconds=(end - start) / (last - first), peaks=dict(peak.bytes), detail=detail)
