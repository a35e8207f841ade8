"""The agent's end of a worker: starts it in its sandbox, asks one thing at a time, and ends it without leftovers.

Promises: nothing of the worker outlives ``close()``, the agent, or a Ctrl-C; no call outlives its timeout; what the
worker answers is checked before anybody uses it; what it writes is copied out of its reach before it is read. A
worker that broke its word (died, hung, used too much memory, talked nonsense) is ended, and the agent may start
another.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from federation.errors import InvalidUsage, Unavailable
from node_agent.runner import handover
from node_agent.runner.channel import BadFrame, Frame, pack, receive
from node_agent.runner.devices import detect_gpus, device_kind, driver_folders, visible
from node_agent.runner.environment import worker_environment
from node_agent.runner.failure import broken_task, task_failed
from node_agent.runner.lab_log import LabLog
from node_agent.runner.process_tree import descendants, held_bytes, members, runs, signal_group
from node_agent.runner.sandbox import (
    ROOT,
    TEMPORARY_BYTES,
    WORK,
    Mounts,
    check_places,
    data_paths,
    detect_sandbox,
    sandbox_command,
)

Scalar = int | float | str | bool

MODULE: Final = "node_agent.runner.worker_process"
FAREWELL_SECONDS: Final = 1.0
TERM_SECONDS: Final = 0.5
GONE_SECONDS: Final = 5.0
WATCH_SECONDS: Final = 0.5
PROCESS_LIMIT: Final = 512
METRICS_LIMIT: Final = 1024
INITIAL_LIMIT: Final = 64 << 30
REPLY_SLACK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What one job's worker may see and use.

    ``data_sets``: the first is the app's ``data-path``; all are given by name. ``scratch`` is a folder of the
    agent's: models must lie in it (the worker reads them there), and the worker can write nothing but its subfolder
    "work", which is made at the start and erased at the end. ``log`` takes the task's output and tracebacks. ``gpus``
    are indices of this machine's offer. ``memory_bytes`` 0 means no limit. ``sandbox`` "none" is for callers whose
    lab permits it in its policy.
    """

    bundle: Path
    data_sets: Mapping[str, Path]
    scratch: Path
    log: Path
    client_app: str = ""
    run_config: Mapping[str, Scalar] = field(default_factory=dict)
    partition_id: int = 0
    num_partitions: int = 1
    weight_key: str = "num-examples"
    sandbox: str = "bubblewrap"
    gpus: tuple[int, ...] = ()
    memory_bytes: int = 0
    cpus: int = 1
    start_timeout: float = 120.0
    started: Callable[[int], None] = lambda _pid: None
    """hears the number of the worker's first process, which leads its group, at once; what it raises ends the worker"""


@dataclass(frozen=True, slots=True)
class Reply:
    """``metrics``: the scalars of the app's MetricRecord, finite or not, without the weight; ``examples``: the
    weight.
    """

    metrics: dict[str, float]
    examples: int


class Worker:
    """One warm process of one job. Calls do not overlap: a second waits for the first."""

    def __init__(self, spec: WorkerSpec, process: asyncio.subprocess.Process, log: LabLog) -> None:
        self._spec = spec
        self._process = process
        self._log = log
        self._turn = asyncio.Lock()
        self._exited = asyncio.create_task(process.wait(), name=f"worker {process.pid} exits")
        self._greedy = asyncio.create_task(self._watch(), name=f"worker {process.pid} limits")
        self._ended: asyncio.Task[None] | None = None
        self._files = 0
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self.evaluates = False

    @classmethod
    async def start(cls, spec: WorkerSpec) -> Worker:
        """Raises TaskFailed when the app cannot be loaded, Unavailable when the process or its sandbox cannot start."""
        data = data_paths(spec.data_sets, sandboxed=spec.sandbox != "none")
        environment, command = await asyncio.to_thread(_prepare, spec)
        ours, theirs = socket.socketpair()
        log: LabLog | None = None
        try:
            log = LabLog(spec.log)
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log.sink,
                stderr=log.sink,
                env={**environment, "CONCORD_CHANNEL": str(theirs.fileno())},
                pass_fds=(theirs.fileno(),),
                cwd=spec.scratch / WORK,
                start_new_session=True,  # Ctrl-C goes to the agent, which closes the worker
            )
        except OSError as error:
            ours.close()
            if log is not None:
                log.close()
            raise Unavailable(
                f"The worker process cannot start: {error.strerror}.", hint="See the node's log; is the disk full?"
            ) from None
        finally:
            theirs.close()
        log.close_sink()
        worker = cls(spec, process, log)
        try:
            spec.started(process.pid)
            worker._reader, worker._writer = await asyncio.open_connection(sock=ours)
            answer = await worker._ask(_load_request(spec, data), spec.start_timeout, "load")
        except BaseException:
            if not hasattr(worker, "_writer"):
                ours.close()
            await worker.close()
            raise
        worker.evaluates = answer.get("evaluates") is True
        return worker

    async def initial_model(self, factory: str, seed: int, out: Path, timeout: float = 600.0) -> None:
        """Writes the model that ``factory`` ("pkg.task:Net") makes under ``seed`` to ``out``, order in the header."""
        name = self._next_name()
        request = {"op": "initial", "factory": factory, "seed": seed, "out": self._inside(f"{WORK}/{name}")}
        await self._ask(request, timeout, "initial-model")
        await self._take(name, out, INITIAL_LIMIT, "initial-model")

    async def evaluate(self, model: Path, config: Mapping[str, Scalar], timeout: float) -> Reply:
        """The app's figures on ``model``; no figures and no examples from an app that does not evaluate."""
        if not self.evaluates:
            return Reply({}, 0)
        request = {"op": "evaluate", "model": self._model(model), "config": dict(config)}
        return _reply(await self._ask(request, timeout, "evaluate"), "evaluate")

    async def train(self, model: Path, out: Path, config: Mapping[str, Scalar], timeout: float) -> Reply:
        """Trains on ``model``; the app's arrays, in its order, are in ``out`` afterwards (names and shapes
        unchecked).
        """
        name = self._next_name()
        request = {
            "op": "train",
            "model": self._model(model),
            "out": self._inside(f"{WORK}/{name}"),
            "config": dict(config),
        }
        reply = _reply(await self._ask(request, timeout, "train"), "train")
        await self._take(name, out, 2 * model.stat().st_size + REPLY_SLACK, "train")
        return reply

    async def close(self) -> None:
        """Idempotent; afterwards no process of the worker is left, and its folder "work" is erased."""
        if self._ended is None:
            self._ended = asyncio.create_task(self._end(polite=not self._turn.locked()))
        await asyncio.shield(self._ended)

    @property
    def alive(self) -> bool:
        return self._ended is None and not self._exited.done()

    @property
    def pid(self) -> int:
        """The process that the agent started: bubblewrap's, or the worker's own without a sandbox."""
        return self._process.pid

    async def _ask(self, request: Frame, timeout: float, phase: str) -> Frame:
        async with self._turn:
            if not self.alive:
                raise Unavailable("The worker is not running.", hint="The agent starts another.")
            answer = asyncio.create_task(self._exchange(request))
            try:
                await asyncio.wait(
                    {answer, self._exited, self._greedy}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
                )
                if self._exited.done() and not answer.done():  # its last words may still be in the socket
                    await asyncio.wait({answer}, timeout=0.1)
                if answer.done() and isinstance(answer.exception(), EOFError):  # how it died is known in a moment
                    await asyncio.wait({self._exited}, timeout=1.0)
                frame = self._judge(answer, phase, timeout)
            except BaseException:
                # Broken or abandoned in the middle: what the worker would say next belongs to nobody.
                answer.cancel()
                await asyncio.gather(answer, return_exceptions=True)
                if self._ended is None:
                    self._ended = asyncio.create_task(self._end(polite=False))
                await asyncio.shield(self._ended)
                raise
        if frame.get("ok") is not True:
            raise task_failed(frame, phase, self._spec.bundle, self._spec.log)
        return frame

    async def _exchange(self, request: Frame) -> Frame:
        self._writer.write(pack(request))
        await self._writer.drain()
        return await receive(self._reader)

    def _judge(self, answer: asyncio.Task[Frame], phase: str, timeout: float) -> Frame:
        if not answer.done():
            if self._greedy.done():
                what, exception, hint = self._greedy.result()
                raise broken_task(what, phase, exception=exception, hint=hint)
            if self._exited.done():
                raise self._death(phase)
            raise broken_task(
                f"it took longer than {timeout:g} s",
                phase,
                exception="Timeout",
                hint="Give the job longer deadlines, or its app less to do.",
            )
        error = answer.exception()
        if error is None:
            return answer.result()
        if isinstance(error, BadFrame):
            raise broken_task(
                "the worker's answer is not well-formed",
                phase,
                exception="BadFrame",
                hint="The app writes to descriptors that are not its own.",
            ) from None
        if isinstance(error, OSError | EOFError):
            raise self._death(phase) from None
        raise error

    def _death(self, phase: str) -> Unavailable:
        status = self._exited.result() if self._exited.done() else None
        how = "" if status is None else f" ({_status(status)})"
        return Unavailable(
            f"The worker process died in {phase}{how}.",
            hint=f"The agent starts another; {self._spec.log.name} on the node says more.",
        )

    async def _watch(self) -> tuple[str, str, str]:
        """Ends when the worker holds more than it may: what happened, its name, and a hint.

        Looked at from outside, because the kernel's own limits do not do: one on address space breaks CUDA and torch,
        and one on processes does not bind an agent that runs as root.
        """
        limit = self._spec.memory_bytes
        while True:
            tree = descendants(self.pid)
            if len(tree) > PROCESS_LIMIT:
                return (
                    f"it started more than {PROCESS_LIMIT} processes",
                    "ProcessLimit",
                    "Start fewer processes, such as data loaders.",
                )
            if limit and held_bytes(tree) > limit:
                hint = f"The limit is {limit} bytes: ask for more in spec.resources.memory."
                return "it used more memory than the job may", "MemoryLimit", hint
            await asyncio.sleep(WATCH_SECONDS)

    async def _end(self, *, polite: bool) -> None:
        tree = descendants(self.pid) if not self._exited.done() else ()
        if polite and hasattr(self, "_writer"):
            with contextlib.suppress(OSError):
                self._writer.write(pack({"op": "close"}))
            await asyncio.wait({self._exited}, timeout=FAREWELL_SECONDS)
        if not self._exited.done():
            signal_group(self.pid, signal.SIGTERM)
            await asyncio.wait({self._exited}, timeout=TERM_SECONDS)
        tree += members(self.pid)  # what a worker without a sandbox left behind
        signal_group(self.pid, signal.SIGKILL)
        await self._exited
        await _gone(tree)
        self._greedy.cancel()
        await asyncio.gather(self._greedy, return_exceptions=True)
        if hasattr(self, "_writer"):
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
        self._log.close()
        await asyncio.to_thread(handover.remove_tree, self._spec.scratch / WORK)

    async def _take(self, name: str, out: Path, limit: int, phase: str) -> None:
        folder = self._spec.scratch / WORK
        try:
            if limit <= 4 * REPLY_SLACK:
                handover.take_file(folder, name, out, limit)
            else:
                await asyncio.to_thread(handover.take_file, folder, name, out, limit)
        except handover.BadHandover as error:
            raise task_failed({"check": error.check}, phase, self._spec.bundle, self._spec.log) from None

    def _next_name(self) -> str:
        self._files += 1
        return f"reply-{self._files}.safetensors"

    def _model(self, path: Path) -> str:
        if not path.is_relative_to(self._spec.scratch) or path.is_relative_to(self._spec.scratch / WORK):
            raise InvalidUsage(f"{path} is not in the job's scratch folder.", hint="Write the model there.")
        return self._inside(str(path.relative_to(self._spec.scratch)))

    def _inside(self, relative: str) -> str:
        root = self._spec.scratch if self._spec.sandbox == "none" else ROOT / "job"
        return str(root / relative)


def _prepare(spec: WorkerSpec) -> tuple[dict[str, str], list[str]]:
    """The environment and the command line; makes the worker's folder. Blocking: it tries the sandbox and asks for
    GPUs.
    """
    work = spec.scratch / WORK
    gpus = [gpu for gpu in detect_gpus() if gpu.index in spec.gpus] if spec.gpus else []
    if len(gpus) != len(spec.gpus):
        raise Unavailable("A GPU that the job was given is not there.", hint="Look at nvidia-smi; restart the agent.")
    drivers = driver_folders(os.environ.get("LD_LIBRARY_PATH", "")) if device_kind(gpus) == "cuda" else ()
    arguments = [sys.executable, "-P", "-s", "-m", MODULE]
    handover.fresh_folder(work)
    (work / "home").mkdir(mode=0o700)
    if spec.sandbox == "none":
        (work / "tmp").mkdir(mode=0o700)
        library = str(Path(__file__).resolve().parents[2])
        home, temporary, command = str(work / "home"), str(work / "tmp"), arguments
    elif spec.sandbox == "bubblewrap":
        report = detect_sandbox()
        if report.kind != "bubblewrap":
            raise Unavailable(f"No sandbox: {report.reason}", hint=report.hint)
        check_places(spec.scratch, spec.log, drivers=drivers)
        devices = [file for gpu in gpus for file in gpu.files]
        mounts = Mounts(spec.bundle, spec.scratch, spec.data_sets, tuple(dict.fromkeys(devices)), drivers)
        space = min(spec.memory_bytes or TEMPORARY_BYTES, TEMPORARY_BYTES)
        library, home, temporary = str(ROOT / "lib"), str(ROOT / "job" / WORK / "home"), "/tmp"  # noqa: S108
        command = sandbox_command(mounts, arguments, report, space)
    else:
        raise InvalidUsage(f"{spec.sandbox!r} is no sandbox.", hint="It is bubblewrap or none.")
    environment = worker_environment(
        home=home,
        temporary=temporary,
        library=library,
        cpus=spec.cpus,
        sandbox=spec.sandbox,
        devices=visible(gpus, drivers),
    )
    return environment, command


def _load_request(spec: WorkerSpec, data: Mapping[str, str]) -> Frame:
    node: dict[str, Scalar] = {**data, "partition-id": spec.partition_id, "num-partitions": spec.num_partitions}
    if data:
        node["data-path"] = next(iter(data.values()))
    return {
        "op": "load",
        "bundle": str(spec.bundle if spec.sandbox == "none" else ROOT / "app"),
        "client_app": spec.client_app,
        "node_config": node,
        "run_config": dict(spec.run_config),
        "weight_key": spec.weight_key,
    }


def _reply(frame: Frame, phase: str) -> Reply:
    """The frame's figures, checked: the worker runs code that nobody trusts."""
    metrics, examples = frame.get("metrics"), frame.get("examples")
    sound = isinstance(metrics, dict) and len(metrics) <= METRICS_LIMIT and type(examples) is int and examples >= 0
    if not sound or not all(isinstance(value, float) for value in metrics.values()):  # type: ignore[union-attr]
        raise broken_task(
            "the worker's figures are not well-formed",
            phase,
            exception="BadFrame",
            hint=f"A reply holds at most {METRICS_LIMIT} scalar metrics.",
        )
    figures: dict[str, Any] = metrics  # type: ignore[assignment]
    return Reply(figures, int(examples))  # type: ignore[arg-type]


def _status(status: int) -> str:
    number = -status if status < 0 else status - 128
    if number > 0:
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(number).name}"
    return f"exit status {status}"


async def _gone(tree: tuple[int, ...]) -> None:
    """Waits until the kernel has removed what was killed; what escaped its group without a sandbox is killed here."""
    deadline = asyncio.get_running_loop().time() + GONE_SECONDS
    left = [pid for pid in tree if runs(pid)]
    while left and asyncio.get_running_loop().time() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.005)
        left = [pid for pid in left if runs(pid)]
