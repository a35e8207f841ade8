"""The worker itself: ``python -m node_agent.runner.worker_process``, started by worker.py, inside the sandbox.

It answers one request at a time on the socket whose number is in CONCORD_CHANNEL: load, initial, evaluate, train,
close. What the job's code prints, and every traceback, goes to stdout and stderr, which the agent writes to the lab's
log. Of an exception only the names of its classes and the place within the bundle are answered, never its text.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

from federation.weights.tensors import UnsupportedTensor, read_arrays
from node_agent.runner.channel import BadFrame, Frame, pack, receive_blocking
from node_agent.runner.tensors import write_new

CHANNEL: Final = "CONCORD_CHANNEL"
OPEN_FILES: Final = 4096
TASKS: Final = 2048
FILE_BYTES: Final = 64 << 30
PR_SET_PDEATHSIG: Final = 1
NAMES_LIMIT: Final = 16
NAME_LIMIT: Final = 64


def main() -> int:
    with socket.socket(fileno=int(os.environ.pop(CHANNEL))) as peer:
        os.set_inheritable(peer.fileno(), False)
        _restrain()
        faulthandler.enable()
        hands = _Hands()
        while (request := receive_blocking(peer)) is not None and request["op"] != "close":
            peer.sendall(_answer(hands.perform, request, hands))
    return 0


def _restrain() -> None:
    """Limits that the code of the job cannot lift: in the sandbox it has no capabilities."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for limit, value in ((resource.RLIMIT_NOFILE, OPEN_FILES), (resource.RLIMIT_FSIZE, FILE_BYTES)):
        _lower(limit, value)
    if os.environ.get("CONCORD_SANDBOX") == "bubblewrap":
        # Counted in the sandbox's own user namespace; outside of one, everything of the lab's user would count.
        _lower(resource.RLIMIT_NPROC, TASKS)
    if sys.platform == "linux":
        # Without a sandbox nothing else ends a task whose agent was killed. (bubblewrap has --die-with-parent.)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _lower(limit: int, value: int) -> None:
    hard = resource.getrlimit(limit)[1]
    wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (wanted, wanted))


class _Hands:
    """What the process holds between requests: the bundle's place and the loaded app."""

    def __init__(self) -> None:
        self.bundle = Path("/nonexistent")

    def perform(self, request: Frame) -> Frame:
        operation: Callable[[Frame], Frame] = {
            "load": self._load,
            "initial": self._initial,
            "evaluate": self._evaluate,
            "train": self._train,
        }[request["op"]]
        return operation(request)

    def _load(self, request: Frame) -> Frame:
        from node_agent.runner.flower_app import FlowerApp

        self.bundle = Path(request["bundle"])
        self._run_config = request["run_config"]
        self._app = FlowerApp(
            self.bundle,
            request["client_app"],
            node_config=request["node_config"],
            run_config=self._run_config,
            weight_key=request["weight_key"],
        )
        return {"ok": True, "evaluates": self._app.evaluates}

    def _initial(self, request: Frame) -> Frame:
        from node_agent.runner.flower_app import initial_arrays

        write_new(Path(request["out"]), initial_arrays(request["factory"], request["seed"], self._run_config))
        return {"ok": True}

    def _evaluate(self, request: Frame) -> Frame:
        outcome = self._app.evaluate(read_arrays(Path(request["model"])), request["config"])
        return {"ok": True, "metrics": outcome.metrics, "examples": outcome.examples}

    def _train(self, request: Frame) -> Frame:
        outcome = self._app.train(read_arrays(Path(request["model"])), request["config"])
        write_new(Path(request["out"]), outcome.arrays)
        return {"ok": True, "metrics": outcome.metrics, "examples": outcome.examples}


def _answer(perform: Callable[[Frame], Frame], request: Frame, hands: _Hands) -> bytes:
    """The packed answer; every exception of the job's code, SystemExit and KeyboardInterrupt too, becomes one."""
    try:
        return pack(perform(request))
    except BaseException as error:
        traceback.print_exception(error)
        return pack(_failure(error, hands.bundle))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _failure(error: BaseException, bundle: Path) -> Frame:
    check = getattr(error, "check", "")
    if isinstance(error, BadFrame):
        check = "reply-size"
    elif isinstance(error, UnsupportedTensor):
        check = "dtype"
    names = [kind.__name__[:NAME_LIMIT] for kind in type(error).__mro__[:NAMES_LIMIT]]
    file, line = _place(error, bundle)
    return {"ok": False, "check": check if isinstance(check, str) else "", "classes": names, "file": file, "line": line}


def _place(error: BaseException, bundle: Path) -> tuple[str, int]:
    """The innermost frame within the bundle, as a path relative to it; ("", 0) when there is none."""
    places = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        places.append((error.filename, error.lineno or 0))
    for file, line in reversed(places):
        try:
            return Path(file).relative_to(bundle).as_posix(), line
        except ValueError:
            continue
    return "", 0


if __name__ == "__main__":
    sys.exit(main())
