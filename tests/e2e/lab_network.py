"""A lab behind a proxy, in network namespaces: ``unshare --user --map-root-user --net python -m tests.e2e.lab_network FOLDER [S]``.

This process is the world outside, with the coordinator and the proxies. The lab is a namespace whose one wire leads to the proxies'
address: there is no route to anywhere else. Prints what happened as one JSON object.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from examples.local_federation import LocalFederation, run_command, services_environment
from tests.e2e.proxies import ConnectProxy
from tests.e2e.runs import members_of

OUTSIDE, LAB = "10.77.0.1", "10.77.0.2"
COORDINATOR: Final = "10.88.0.1:7443"
"""where the proxies find it; from the lab no route leads there"""
IDLE: Final = 30.0
"""seconds: cuts sooner than a proxy that cuts at 60"""
SILENCE: Final = 15.0
PASSWORD: Final = "pa ss"
SECONDS: Final = 60.0


def until(true: Callable[[], bool], what: str, seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.05)


@contextlib.contextmanager
def lab() -> Iterator[list[str]]:
    """The prefix of a command that runs in it."""
    held = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        mine = Path("/proc/self/ns/net").readlink()
        until(lambda: Path(f"/proc/{held.pid}/ns/net").readlink() != mine, "the lab has no namespace")
        enter = ["nsenter", "--target", str(held.pid), "--net"]
        for line in (
            "ip link set lo up",
            f"ip link add world type veth peer name lab netns {held.pid}",
            f"ip addr add {OUTSIDE}/24 dev world",
            "ip link set world up",
        ):
            subprocess.run(line.split(), check=True)
        for line in ("ip link set lo up", f"ip addr add {LAB}/24 dev lab", "ip link set lab up"):
            subprocess.run([*enter, *line.split()], check=True)
        yield enter
    finally:
        held.stdin.close()  # type: ignore[union-attr]
        held.wait(10)


def main(folder: Path, idle: float = IDLE) -> dict[str, Any]:
    """``idle``: seconds of silence after which the proxies cut a connection."""
    local = LocalFederation(
        folder / "federation", "fenced", members_of(folder / "data", ("ar", "AR"), ("be", "BE"), ("ch", "CH"))
    )
    told: dict[str, Any] = {}
    with lab() as enter, contextlib.ExitStack() as stack:
        stack.callback(local.stop)
        local.found()
        local.enrol(local.members[0])
        home = local.nodes["ar"].home
        port = int(
            yaml.safe_load((local.coordinator.home / "coordinator.yaml").read_text())["listen"].rpartition(":")[2]
        )
        opened = stack.enter_context(ConnectProxy({COORDINATOR: port}, listen=OUTSIDE, idle=idle))
        locked = stack.enter_context(ConnectProxy({COORDINATOR: port}, f"lab:{PASSWORD}", listen=OUTSIDE, idle=idle))
        closed = stack.enter_context(ConnectProxy({}, listen=OUTSIDE))
        ticket = folder / "ticket.json"
        from coordinator.main import app as coordinator_app

        run_command(
            coordinator_app,
            *("ticket", "--home", local.coordinator.home, "--member", "ar", "--node", "ar-1"),
            *("--address", COORDINATOR, "--out", ticket),
        )

        def node(*arguments: str | Path, proxy: str = "") -> subprocess.CompletedProcess[str]:
            words = [*enter, sys.executable, "-m", "node_agent.main", *map(str, arguments), "--home", str(home)]
            return subprocess.run(
                words, env=environment(proxy), capture_output=True, text=True, timeout=SECONDS, check=False
            )

        ways = {
            "straight": "",
            "open": f"http://{opened.address}",
            "without credentials": f"http://{locked.address}",
            "with credentials": f"http://lab:{PASSWORD.replace(' ', '%20')}@{locked.address}",
            "closed": f"http://{closed.address}",
        }
        for name, proxy in ways.items():
            ended = node("doctor", "--before-join", "--ticket", ticket, "--json", proxy=proxy)
            told[name] = {"code": ended.returncode, "out": ended.stdout, "err": ended.stderr}
        told["people"] = node("doctor", "--before-join", "--ticket", ticket, proxy=ways["open"]).stdout
        way = ways["with credentials"]
        joined = node("join", "--ticket", ticket, "--credential", local.folder / "ar-1-credential.json", proxy=way)
        told["joined"] = [joined.returncode, joined.stderr]
        locked.asked.clear()
        locked.silences.clear()
        with (folder / "node.log").open("wb") as log, socket.create_connection((OUTSIDE, opened.port)) as silent:
            running = subprocess.Popen(
                [*enter, sys.executable, "-m", "node_agent.main", "run", "--home", str(home)],
                env=environment(way), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
            try:
                silent.sendall(f"CONNECT {COORDINATOR} HTTP/1.1\r\n\r\n".encode())
                until(lambda: (home / "run.json").exists(), "the node is not connected")
                links = locked.passed()
                # What the coordinator tells a node by itself (a new head of the log) goes over one of the two connections only
                # when the log grows: nothing happens now, and the silence is the longest that there can be.
                until(lambda: sum(gap > SILENCE for gap in locked.silences) >= 2, "no connection was silent")
                told["longest silence"] = max(locked.silences)
                until(lambda: opened.cuts > 0, "a silent connection was not cut", SECONDS + idle)
                told["links"] = [links, locked.passed(), locked.cuts, opened.cuts]
                ended = node("doctor", "--json", proxy=way)
                told["running"] = {"code": ended.returncode, "out": ended.stdout, "err": ended.stderr}
            finally:
                running.terminate()
                running.wait(20)
        told["log"] = (folder / "node.log").read_text()
    return told


def environment(proxy: str) -> Mapping[str, str]:
    clean = {name: value for name, value in services_environment().items() if "proxy" not in name.lower()}
    return {**clean, "HTTPS_PROXY": proxy} if proxy else clean


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), *map(float, sys.argv[2:]))), file=os.fdopen(os.dup(1), "w"))
