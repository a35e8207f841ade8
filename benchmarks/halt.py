"""How long a halt takes, from the command to the last process gone: real coordinator, nodes, workers and commands.

    python -m benchmarks.halt [reachable|stubborn|local|cut-off] [--times N] [--lease SECONDS]

`reachable`: every node is connected, workers train. `stubborn`: the workers and their children ignore SIGTERM. `local`: the
coordinator is dead, and the lab halts its own node. `cut-off`: the coordinator is suspended, so that nothing arrives and no
connection breaks; the nodes stop when their lease ends. The clock starts before the order is signed and stops when the kernel has
no process of any worker left, which is looked for from outside every few milliseconds. The goal is the figure that it is held
against (`peer`): one second, or the lease.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import yaml

from benchmarks.ours import PLACES, RunFailed
from benchmarks.processes import QUIET
from benchmarks.reading import Reading
from coordinator.client.halts import HaltCalls, make_order
from coordinator.client.sdk import Federation
from examples.local_federation import DataSet, LocalFederation, Member, end_on_signals
from federation.errors import FederationError
from federation.governance.charter import Charter
from federation.halt.levels import Level
from node_agent.halt.commands import own_hand
from node_agent.settings import Home as NodeHome

ROOT = Path(__file__).resolve().parents[1]
TINY, FAULTY = ROOT / "tests" / "apps" / "tiny", ROOT / "tests" / "apps" / "faulty"
GOAL_SECONDS = 1.0
LEASE_SECONDS = 3.0
"""of the nodes that are cut off, unless --lease says otherwise: a charter's default is ten times as long, and no other in kind"""
MORE_SECONDS = 0.75
"""what may pass after a lease has ended: the watch looks every 0.05 s, SIGTERM has 0.25 s"""
TIMES = {"reachable": 40, "stubborn": 12, "local": 12, "cut-off": 4}
PATIENCE_SECONDS = 90.0
LOOK_SECONDS = 0.003
STUBBORN = {"fault": "hang-with-children"}
TRAINING = {"pause": 600.0}


def quantile(values: list[float], share: float) -> float:
    """The smallest value that ``share`` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(len(ordered) * share * 1000) // 1000) - 1)]


class Scene:
    def __init__(self, local: LocalFederation, federation: Federation, folder: Path) -> None:
        self.local, self.federation, self.folder = local, federation, folder
        self.count = 0

    def training(self, app: Path, config: dict[str, object]) -> tuple[str, bytes]:
        """A job whose every node trains."""
        self.count += 1
        name = f"halted-{self.count}"
        path = self.folder / f"{name}.yaml"
        spec = {
            "app": str(app),
            "dataSet": "nothing",
            "rounds": 2,
            "model": {"seed": self.count},
            "runConfig": config,
            "deadlines": {"roundSeconds": 3600},
        }
        document = {"apiVersion": "concord/v1", "kind": "TrainingJob", "metadata": {"name": name}, "spec": spec}
        path.write_text(yaml.safe_dump(document))
        submitted = self.federation.submit(path)
        self.until(lambda: self._busy() and self._collecting(name), "no node trains")
        return name, submitted.digest

    def _collecting(self, name: str) -> bool:
        job = self.federation.job(name)
        if job.ended:
            raise RunFailed(f"{name} is {job.state}: {job.reason}")
        return job.current is not None and job.current.phase == "collecting"

    def _busy(self) -> bool:
        return all(self.workers(member) for member in self.local.nodes)

    def workers(self, member: str) -> list[psutil.Process]:
        """What a node has started and what that has, as long as it runs."""
        process = self.local.nodes[member].process
        if process is None:
            return []
        found = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if child.status() != psutil.STATUS_ZOMBIE:
                        found.append(child)
        return found

    def everything(self, *members: str) -> list[psutil.Process]:
        """All processes of these nodes' workers, or of all nodes'."""
        return [process for member in members or tuple(self.local.nodes) for process in self.workers(member)]

    @staticmethod
    def last_gone(running: list[psutil.Process], began: float, seconds: float) -> float:
        """Seconds from ``began`` until none of them is left; each is looked for by itself, whoever its parent is by then."""
        deadline = began + seconds
        while True:
            running = [process for process in running if _runs(process)]
            if not running:
                return time.monotonic() - began
            if time.monotonic() > deadline:
                raise RunFailed(f"{len(running)} processes still run after {seconds:g} s")
            time.sleep(LOOK_SECONDS)

    def until(self, holds: Callable[[], bool], why: str) -> None:
        """Raises RunFailed when it does not come true in time."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            if time.monotonic() > deadline:
                raise RunFailed(f"{why} after {PATIENCE_SECONDS:.0f} s")
            time.sleep(0.02)

    def ended(self, name: str) -> None:
        self.until(lambda: self.federation.job(name).ended, f"{name} did not end")

    def withdraw(self, name: str) -> None:
        """As soon as the coordinator answers again."""

        def taken() -> bool:
            try:
                self.federation.withdraw(name, "the next one")
            except FederationError:
                return False
            return True

        self.until(taken, "the coordinator did not come back")


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@contextlib.contextmanager
def scene(folder: Path, lease: float | None = None) -> Iterator[Scene]:
    folder.mkdir(parents=True, exist_ok=True)
    members = []
    for member, code in PLACES:
        data = folder / f"data-{member}"
        data.mkdir()
        members.append(Member(member, member.upper(), code, {"nothing": DataSet(data, 1)}))
    local = LocalFederation(folder / "federation", "bench", members, environment=QUIET)
    with contextlib.ExitStack() as stack:
        with contextlib.redirect_stderr(io.StringIO()):
            stack.enter_context(local)
        if lease is not None:
            for node in local.nodes.values():
                settings = node.home / "node.yaml"
                settings.write_text(yaml.safe_dump({**yaml.safe_load(settings.read_text()), "leaseSeconds": lease}))
                node.stop()
            local.start_nodes()
        yield Scene(local, stack.enter_context(local.client()), folder)


def ordered(at: Scene, digest: bytes) -> None:
    """What `concord halt JOB --level stop` does until the coordinator has taken it."""
    home = at.federation.home
    signed = make_order(home, "bench", Level.stop, "a benchmark", job=digest)
    HaltCalls(at.federation).give(signed)


def reachable(folder: Path, times: int) -> Reading:
    with scene(folder) as at:
        seconds = [_ordered_once(at, TINY, dict(TRAINING)) for _ in range(times)]
    return reading("halt-reachable", seconds, GOAL_SECONDS, {"nodes": len(PLACES)})


def stubborn(folder: Path, times: int) -> Reading:
    with scene(folder) as at:
        seconds = [_ordered_once(at, FAULTY, dict(STUBBORN)) for _ in range(times)]
    return reading("halt-ignores-sigterm", seconds, GOAL_SECONDS, {"nodes": len(PLACES), "children_of_each_worker": 3})


def _ordered_once(at: Scene, app: Path, config: dict[str, object]) -> float:
    name, digest = at.training(app, config)
    running = at.everything()
    began = time.monotonic()
    ordered(at, digest)
    took = at.last_gone(running, began, PATIENCE_SECONDS)
    at.ended(name)
    return took


def local_halt(folder: Path, times: int) -> Reading:
    """The coordinator is killed for each, and started again afterwards."""
    seconds = []
    member = PLACES[0][0]
    with scene(folder) as at:
        for _ in range(times):
            name, digest = at.training(FAULTY, dict(STUBBORN))
            at.local.coordinator.kill()
            home, running = NodeHome(at.local.nodes[member].home), at.everything(member)
            began = time.monotonic()
            own_hand(home).halt(Level.stop, "a benchmark", digest)
            seconds.append(at.last_gone(running, began, PATIENCE_SECONDS))
            at.local.start_coordinator()
            at.withdraw(name)
    return reading("halt-local", seconds, GOAL_SECONDS, {"nodes": 1, "coordinator": "killed"})


def cut_off(folder: Path, times: int, lease: float = LEASE_SECONDS) -> Reading:
    """The coordinator is suspended: connections stay open, and nothing comes. The order waits in the kernel's buffers."""
    seconds = []
    of_the_charter = Charter.standard().lease_seconds
    with scene(folder, None if lease == of_the_charter else lease) as at:
        process = at.local.coordinator.process
        if process is None:
            raise RunFailed("The coordinator was never started.")
        for _ in range(times):
            name, _digest = at.training(TINY, dict(TRAINING))
            running = at.everything()
            os.kill(process.pid, signal.SIGSTOP)
            began = time.monotonic()
            try:
                seconds.append(at.last_gone(running, began, PATIENCE_SECONDS))
            finally:
                os.kill(process.pid, signal.SIGCONT)
            at.withdraw(name)
    return reading("halt-cut-off", seconds, lease + MORE_SECONDS, {"nodes": len(PLACES), "lease": lease})


def reading(name: str, seconds: list[float], limit: float, detail: dict[str, object]) -> Reading:
    p50, p99, worst = quantile(seconds, 0.5), quantile(seconds, 0.99), max(seconds)
    return Reading(
        benchmark=name,
        ours=p99,
        peer=limit,
        unit="s",
        goal=f"p99 <= {limit:g} s",
        holds=p99 <= limit,
        detail={
            "p50": round(p50, 4),
            "p99": round(p99, 4),
            "worst": round(worst, 4),
            "times": len(seconds),
            "peer_is": "the goal",
            **detail,
        },
    )


BENCHMARKS: dict[str, Callable[[Path, int], Reading]] = {
    "reachable": reachable,
    "stubborn": stubborn,
    "local": local_halt,
    "cut-off": cut_off,
}


def main(arguments: list[str] | None = None) -> int:
    end_on_signals()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.halt", description=__doc__.splitlines()[0])
    parser.add_argument("benchmark", nargs="*", choices=[*BENCHMARKS, []], help="which (default: all)")
    parser.add_argument("--times", type=int, help="how often each (default: by benchmark)")
    parser.add_argument(
        "--lease",
        type=float,
        default=LEASE_SECONDS,
        help="of nodes that are cut off (at most 30, which is the default of a charter)",
    )
    chosen = parser.parse_args(arguments)
    benchmarks: dict[str, Callable[[Path, int], Reading]] = {
        **BENCHMARKS,
        "cut-off": partial(cut_off, lease=chosen.lease),
    }
    held = True
    for name in chosen.benchmark or BENCHMARKS:
        with tempfile.TemporaryDirectory(prefix="concord-bench-") as folder:
            found = benchmarks[name](Path(folder), chosen.times or TIMES[name])
            held = held and found.holds
            print(found.line(), flush=True)
    return 0 if held else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
