"""The peer: Flower's own SuperLink and three SuperNodes, as installed by pip, running FedAvg on the benchmarks' app.

As Flower's guides start it on one machine: without TLS, state in memory, one process per app. So theirs is neither
encrypted nor masked, and ours is both. Installing an app's dependencies at run time is off: it would need the network.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.processes import PeakMemory, Processes, free_ports

APP = Path(__file__).parent / "app"
NODES = 3
START_SECONDS = 60.0


class PeerFailed(RuntimeError):
    """The peer did not run: what its log says."""


@dataclass(frozen=True, slots=True)
class Measured:
    """``seconds`` a round, mean over the rounds after the first; ``peaks`` of memory in bytes, by process."""

    seconds: float
    peaks: dict[str, int]
    detail: dict[str, object]


def command(name: str) -> str:
    """A console script of this environment, wherever PATH points."""
    return str(Path(sys.executable).parent / name)


def flower(folder: Path, parameters: int, rounds: int, limit: float) -> Measured:
    """Runs ``rounds`` rounds after one to warm up. Raises PeerFailed when they take more than ``limit`` seconds."""
    folder.mkdir(parents=True)
    shutil.copytree(APP, folder / "app", ignore=shutil.ignore_patterns("__pycache__"))
    link_port, *node_ports = free_ports(1 + NODES)
    address = f"127.0.0.1:{link_port}"
    home = folder / "home"
    home.mkdir()
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "bench"\n\n[superlink.bench]\naddress = "{address}"\ninsecure = true\n'
    )
    times = folder / "times.jsonl"
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    with Processes(folder, {"FLWR_HOME": str(home), "PATH": path}) as processes:
        link = processes.start(
            "superlink",
            [
                *(command("flower-superlink"), "--insecure", "--host", "127.0.0.1", "--port", str(link_port)),
                "--disable-runtime-dependency-installation",
            ],
        )
        _wait_healthy(processes, link, f"http://{address}/health")
        for index, port in enumerate(node_ports):
            processes.start(
                f"supernode-{index}",
                [
                    *(command("flower-supernode"), "--insecure", "--superlink", address, "--port", str(port)),
                    *("--node-config", f"partition-id={index} num-partitions={NODES}"),
                ],
            )
        with PeakMemory(lambda: _servers(link)) as peak:
            settings = f"times='{times}' parameters={parameters} rounds={1 + rounds}"
            processes.start("run", [command("flwr"), "run", "app", "bench", "--run-config", settings])
            ended = _wait_rounds(processes, times, 1 + rounds, limit)
    training = [
        event.at - ended[event.round - 1] for event in _events(times) if event.event == "trained" and event.round > 1
    ]
    return Measured(
        seconds=(ended[1 + rounds] - ended[1]) / rounds,
        peaks=dict(peak.bytes),
        detail={"peer_training_half": round(sum(training) / len(training), 3)},
    )


@dataclass(frozen=True, slots=True)
class Event:
    """What the ServerApp notes: a round's begin, the end of its training half, its end."""

    event: str
    round: int
    at: float


def _events(times: Path) -> list[Event]:
    if not times.exists():
        return []
    return [Event(**json.loads(line)) for line in times.read_text().splitlines(keepends=True) if line.endswith("\n")]


def _wait_healthy(processes: Processes, link: psutil.Popen, url: str) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and link.is_running():
        with contextlib.suppress(OSError), opener.open(url, timeout=2):
            return
        time.sleep(0.1)
    raise PeerFailed(f"SuperLink did not start:\n{processes.log_tail('superlink')}")


def _wait_rounds(processes: Processes, times: Path, count: int, limit: float) -> dict[int, float]:
    """When each round ended, by round."""
    deadline = time.monotonic() + limit
    ended: dict[int, float] = {}
    while time.monotonic() < deadline:
        ended = {event.round: event.at for event in _events(times) if event.event == "end"}
        if len(ended) >= count:
            return ended
        time.sleep(0.1)
    raise PeerFailed(
        f"Flower ended {len(ended)} of {count} rounds in {limit:.0f} s.\n"
        f"run: {processes.log_tail('run')}\nsuperlink: {processes.log_tail('superlink')}"
    )


def _servers(link: psutil.Popen) -> dict[str, int]:
    """The SuperLink and the ServerApp; the launcher between them is left out, in the peer's favour."""
    found = {"superlink": int(link.pid)}
    with contextlib.suppress(psutil.Error):
        for child in link.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if any(part.endswith("flwr-serverapp") for part in child.cmdline()[:3]):
                    found["serverapp"] = int(child.pid)
    return found
