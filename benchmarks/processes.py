"""Child processes of a benchmark: quiet environment, free ports, peak memory, and none left behind.

Peak memory is the kernel's high-water mark of resident memory (VmHWM) where there is one, read until the process ends;
elsewhere the largest resident size seen. Both count mapped files, for ours as for the peer.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "RAY_USAGE_STATS_ENABLED": "0"}
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
STOP_SECONDS = 5.0


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """This environment without proxies (everything is on loopback) and without anybody's telemetry."""
    kept = {name: value for name, value in os.environ.items() if name.lower() not in PROXIES}
    return {**kept, **QUIET, "PYTHONUNBUFFERED": "1", **more}


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now; all are held until the last is found, so they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [int(item.getsockname()[1]) for item in sockets]


def resident_peak(pid: int) -> int:
    """Bytes; 0 once the process is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    with contextlib.suppress(psutil.Error):
        return int(psutil.Process(pid).memory_info().rss)
    return 0


class PeakMemory:
    """``with PeakMemory(find) as peak``: ``find`` names the processes to watch, again and again, as some start late."""

    def __init__(self, find: Callable[[], Mapping[str, int]], interval: float = 0.05) -> None:
        self._find = find
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.bytes: dict[str, int] = {}

    def _look(self) -> None:
        for name, pid in self._find().items():
            self.bytes[name] = max(self.bytes.get(name, 0), resident_peak(pid))

    def _watch(self) -> None:
        while not self._stop.wait(self._interval):
            self._look()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._look()


class Processes:
    """Starts processes, and at the end ends them and everything that they started."""

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self.folder = folder
        self.variables = environment(variables)
        self._started: list[psutil.Popen] = []

    def start(self, name: str, command: Sequence[str]) -> psutil.Popen:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = psutil.Popen(
                list(command), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.variables
            )
        self._started.append(process)
        return process

    def log_tail(self, name: str, characters: int = 2000) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace")[-characters:] if path.exists() else ""

    def end(self) -> None:
        """Asks every process, then insists. Children are listed first: once their parent is gone, nobody knows them."""
        family: list[psutil.Process] = []
        for process in self._started:
            with contextlib.suppress(psutil.Error):
                family += [process, *process.children(recursive=True)]
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.terminate()
        _, stubborn = psutil.wait_procs(family, timeout=STOP_SECONDS)
        for process in stubborn:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(stubborn, timeout=STOP_SECONDS)
        self._started.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
