"""Goes wrong in the way that run config ``fault`` names.

Run config: ``fault`` (a key of FAULTS, "none", or "evaluate-raise"; "a,b,c": one a round), ``fault-partition`` (-1: all
nodes), ``fault-round`` (0: every round), ``path`` (what "write-outside" and "read" aim at), ``port`` (what "socket" dials).
A message's own config may name ``fault`` and ``path`` (a port, for "socket") too, for tests that try many with one worker.
"""

import ctypes
import multiprocessing
import os
import signal
import socket
import sys
import time
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

SECRET = "patient-4711"

app = ClientApp()


class RowRefused(Exception):
    """Its message holds a row of data, as careless code does."""


def initial_arrays():
    """``steps`` follows from the job's seed and stays: models of jobs with other seeds are other models."""
    return {"vector": np.zeros(10, dtype=np.float32), "steps": np.random.randint(2**31, size=(), dtype=np.int64)}


def _path(message, context):
    return message.content["config"].get("path", context.run_config["path"])


def _raise(message, context):
    raise RowRefused(f"cannot read row {SECRET}")


def _raise_secret_class(message, context):
    raise type("Leak" + SECRET.replace("-", "_"), (RowRefused,), {})(SECRET)


def _raise_in_library(message, context):
    np.zeros(3).reshape(2, 2)


def _exit(message, context):
    sys.exit(0)


def _os_exit(message, context):
    os._exit(3)


def _segfault(message, context):
    ctypes.string_at(0)


def _hang(message, context):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(0.01)


def _hang_with_children(message, context):
    for _ in range(3):
        if os.fork() == 0:
            while True:
                time.sleep(0.01)
    return _hang(message, context)


def _print_secrets(message, context):
    print(f"stdout {SECRET}")
    print(f"stderr {SECRET}", file=sys.stderr)


def _print_forever(message, context):
    line = "x" * 65536
    for _ in range(400):
        print(line)


def _socket(message, context):
    port = message.content["config"].get("path") or context.run_config["port"]
    socket.create_connection(("127.0.0.1", int(port)), timeout=2).close()


def _write_outside(message, context):
    Path(_path(message, context)).write_text(SECRET)


def _write_data(message, context):
    (Path(context.node_config["data-path"]) / "new").write_text(SECRET)


def _write_bundle(message, context):
    (Path(__file__).parent / "new.py").write_text(SECRET)


def _read(message, context):
    Path(_path(message, context)).read_bytes()


def _memory(message, context):
    held = [np.ones(1 << 20) for _ in range(1 << 12)]
    time.sleep(60)
    return held


def _files(message, context):
    held = []
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    finally:
        for fd in held:
            os.close(fd)


def _fork_bomb(message, context):
    started = []
    try:
        for _ in range(5000):
            pid = os.fork()
            if pid == 0:
                time.sleep(60)
                os._exit(0)
            started.append(pid)
    finally:
        for pid in started:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _namespaces(message, context):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x10000000) != 0:  # CLONE_NEWUSER
        raise PermissionError(ctypes.get_errno(), "unshare")


def _daemon(message, context):
    """Leaves a child behind that keeps every inherited descriptor open, and dies."""
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,)).start()
    os.kill(os.getpid(), signal.SIGKILL)


def _forge(message, context):
    """Writes rubbish into every descriptor it can find: a worker's channel keeps the number it has in the agent."""
    for fd in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        try:
            if fd > 2:
                os.write(fd, b"\xff" * 4096)
        except OSError:
            continue
    time.sleep(60)


FAULTS = {
    "raise": _raise,
    "raise-secret-class": _raise_secret_class,
    "raise-in-library": _raise_in_library,
    "exit": _exit,
    "os-exit": _os_exit,
    "segfault": _segfault,
    "hang": _hang,
    "hang-with-children": _hang_with_children,
    "print-secrets": _print_secrets,
    "print-forever": _print_forever,
    "socket": _socket,
    "write-outside": _write_outside,
    "write-data": _write_data,
    "write-bundle": _write_bundle,
    "read": _read,
    "memory": _memory,
    "files": _files,
    "fork-bomb": _fork_bomb,
    "namespaces": _namespaces,
    "daemon": _daemon,
    "forge": _forge,
}


def _reply(message, fault):
    given = message.content["arrays"]
    vector, steps = given["vector"].numpy(), given["steps"].numpy()
    trained = vector + np.float32(1)
    metrics = {"train_loss": 0.5, "num-examples": 10}
    if fault == "other-shapes":
        trained = np.zeros((2, 5), dtype=np.float32)
    elif fault == "nan":
        trained[3] = np.nan
    elif fault == "inf":
        trained[3] = np.inf
    elif fault == "nan-metric":
        metrics["train_loss"] = float("nan")
    elif fault == "no-weight":
        del metrics["num-examples"]
    elif fault == "negative-weight":
        metrics["num-examples"] = -1
    elif fault == "many-metrics":
        metrics |= {f"m{i}": 0.0 for i in range(200_000)}
    arrays = ArrayRecord({"vector": Array(trained), "steps": Array(steps)})
    if fault == "missing-array":
        del arrays["steps"]
    if fault == "huge":
        arrays["more"] = Array(np.zeros(1 << 24, dtype=np.float32))
    if fault == "secret-array":
        arrays[SECRET] = Array(trained)
    content = RecordDict({"arrays": arrays, "metrics": MetricRecord(metrics)})
    if fault == "two-arrays":
        content["again"] = ArrayRecord({"vector": Array(trained)})
    elif fault == "two-metrics":
        content["again"] = MetricRecord({"x": 1.0})
    elif fault == "no-metrics":
        del content["metrics"]
    elif fault == "not-a-message":
        return {"arrays": arrays}
    return Message(content, reply_to=message)


def _applies(context, message):
    config, round_ = context.run_config, int(message.content["config"].get("server-round", 0))
    here = config["fault-partition"] in (-1, context.node_config["partition-id"])
    return here and config["fault-round"] in (0, round_)


@app.train()
def train(message: Message, context: Context) -> Message:
    config = message.content["config"]
    faults = str(config.get("fault", context.run_config["fault"])).split(",")
    fault = faults[(int(config.get("server-round", 1)) - 1) % len(faults)] if _applies(context, message) else "none"
    if fault in FAULTS:
        FAULTS[fault](message, context)
    return _reply(message, fault)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    if context.run_config["fault"] == "evaluate-raise" and _applies(context, message):
        _raise(message, context)
    seen = context.state.get("calls")
    calls = int(seen["n"]) + 1 if seen is not None else 1
    context.state["calls"] = MetricRecord({"n": calls})
    metrics = MetricRecord({"eval_loss": 0.25, "calls": calls, "num-examples": 10})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
