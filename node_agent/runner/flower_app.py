"""The only place that knows how Flower calls a ClientApp. It runs inside the sandbox, in the worker's process.

A job's code is an unmodified Flower app. This module does for one message what Flower's own SuperNode does: it makes a
``Message`` with metadata and a ``Context`` that lasts as long as the job, calls the app, and takes the reply apart.
Names of Flower that its documentation does not promise, all in this file: ``Message(metadata=...)``, the fields of
``Metadata``, ``ClientApp._registered_funcs`` and ``ClientApp._call``, ``TaskIdentity``, and the .npy bytes inside
``Array``.

What it refuses it names by a stable word (``Refused.check``); sentences for people are in failure.py, on the agent's
side.
"""

from __future__ import annotations

import importlib
import inspect
import random
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, Metadata, RecordDict
from flwr.app.constants import DEFAULT_TTL
from flwr.clientapp import ClientApp
from flwr.supercore.task_identity import TaskIdentity

from federation.weights.tensors import Array as NumpyArray
from federation.weights.tensors import UnsupportedTensor, code_of

NUMPY_STYPE: Final = "numpy.ndarray"
ARRAYS_KEY: Final = "arrays"
CONFIG_KEY: Final = "config"
RUN_ID: Final = 1
TRAIN: Final = "train"
EVALUATE: Final = "evaluate"

Scalar = int | float | str | bool


class Refused(Exception):
    """The app broke the contract; ``check`` is one of failure.CHECKS."""

    def __init__(self, check: str, detail: str = "") -> None:
        super().__init__(detail or check)
        self.check = check


@dataclass(frozen=True, slots=True)
class Outcome:
    arrays: dict[str, NumpyArray]
    metrics: dict[str, float]
    examples: int


class FlowerApp:
    """One loaded app and its Context. ``evaluates`` is False for an app without ``@app.evaluate()``."""

    def __init__(
        self,
        bundle: Path,
        reference: str,
        *,
        node_config: Mapping[str, Scalar],
        run_config: Mapping[str, Scalar],
        weight_key: str,
    ) -> None:
        self._node_id = int(node_config["partition-id"]) + 1
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = RUN_ID, self._node_id, 1
        if str(bundle) not in sys.path:
            sys.path.insert(0, str(bundle))
        importlib.invalidate_caches()
        self._weight_key = weight_key
        self._context = Context(
            run_id=RUN_ID,
            node_id=self._node_id,
            node_config=dict(node_config),
            state=RecordDict(),
            run_config=dict(run_config),
        )
        self._messages = 0
        self._app = None
        if reference:
            self._app = resolve(reference)
            if not isinstance(self._app, ClientApp):
                raise Refused("not-a-client-app")
            if self._app._call is not None:
                raise Refused("client-fn")
            if f"{TRAIN}.default" not in self._app._registered_funcs:
                raise Refused("no-train")
        self.evaluates = self._app is not None and f"{EVALUATE}.default" in self._app._registered_funcs

    def train(self, arrays: Mapping[str, NumpyArray], config: Mapping[str, Scalar]) -> Outcome:
        content = self._call(TRAIN, arrays, config)
        if len(content.array_records) != 1:
            raise Refused("array-records", f"the reply has {len(content.array_records)} ArrayRecords")
        metrics, examples = self._figures(content, weight_required=True)
        record = next(iter(content.array_records.values()))
        return Outcome({name: ndarray_of(array) for name, array in record.items()}, metrics, examples)

    def evaluate(self, arrays: Mapping[str, NumpyArray], config: Mapping[str, Scalar]) -> Outcome:
        metrics, examples = self._figures(self._call(EVALUATE, arrays, config), weight_required=False)
        return Outcome({}, metrics, examples)

    def _call(self, kind: str, arrays: Mapping[str, NumpyArray], config: Mapping[str, Scalar]) -> RecordDict:
        if self._app is None:
            raise Refused("not-a-client-app")
        record = ArrayRecord({name: array_of(array) for name, array in arrays.items()})
        content = RecordDict({ARRAYS_KEY: record, CONFIG_KEY: ConfigRecord(dict(config))})
        self._messages += 1
        metadata = Metadata(
            run_id=RUN_ID,
            message_id=str(self._messages),
            src_node_id=0,
            dst_node_id=self._node_id,
            reply_to_message_id="",
            group_id=str(config.get("server-round", "")),
            created_at=time.time(),
            ttl=DEFAULT_TTL,
            message_type=kind,
        )
        message = Message(metadata=metadata, content=content)  # type: ignore[call-overload]
        reply = self._app(message, self._context)
        if not isinstance(reply, Message):
            raise Refused("not-a-message", f"the app returned {type(reply).__name__}")
        if reply.has_error() or not reply.has_content():
            raise Refused("error-reply")
        return reply.content

    def _figures(self, content: RecordDict, *, weight_required: bool) -> tuple[dict[str, float], int]:
        if len(content.metric_records) != 1:
            raise Refused("metric-records", f"the reply has {len(content.metric_records)} MetricRecords")
        record = next(iter(content.metric_records.values()))
        metrics = {name: _number(value) for name, value in record.items() if not isinstance(value, list)}
        if self._weight_key not in metrics:
            if weight_required:
                raise Refused("no-weight", f"the MetricRecord has no {self._weight_key!r}")
            return metrics, 0
        weight = metrics.pop(self._weight_key)
        if not (weight.is_integer() and 0 <= weight < 2**53) or (weight_required and weight == 0):
            raise Refused("bad-weight", f"{self._weight_key!r} is {weight}")
        return metrics, int(weight)


def resolve(reference: str) -> Any:
    """The object that "package.module:name.name" names, in the bundle or in the lab's Python."""
    module, _, attributes = reference.partition(":")
    if not module or not attributes:
        raise Refused("bad-reference", f"{reference!r} is not of the form package.module:name")
    found: Any = importlib.import_module(module)
    for attribute in attributes.split("."):
        found = getattr(found, attribute)
    return found


def initial_arrays(factory: str, seed: int, run_config: Mapping[str, Scalar]) -> dict[str, NumpyArray]:
    """What ``factory`` makes right after every generator was seeded: the same on every node with the same versions.

    The factory is a module class or a function, called with the run config if it needs one argument, else with none.
    It may give an ``nn.Module``, an ``ArrayRecord``, a mapping of tensors or arrays, or a list of them.
    """
    make = resolve(factory)
    if not callable(make):
        raise Refused("bad-factory", f"{factory!r} is not callable")
    arguments = (dict(run_config),) if _wants_run_config(make) else ()
    had_torch = "torch" in sys.modules
    _seed_everything(seed)
    made = make(*arguments)
    if not had_torch and "torch" in sys.modules:  # imported by the call itself, so not seeded before it
        _seed_everything(seed)
        made = make(*arguments)
    state = made.state_dict() if callable(getattr(made, "state_dict", None)) else made
    if isinstance(state, ArrayRecord):
        return {name: ndarray_of(array) for name, array in state.items()}
    if isinstance(state, list | tuple):
        state = {str(index): array for index, array in enumerate(state)}
    if not isinstance(state, Mapping) or not state:
        raise Refused("bad-factory", f"{factory!r} gave {type(made).__name__}")
    return {str(name): _ndarray(value) for name, value in state.items()}


def _wants_run_config(make: Any) -> bool:
    try:
        parameters = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p for p in parameters if p.kind in positional and p.default is inspect.Parameter.empty]
    return len(needed) == 1


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)


def _ndarray(value: Any) -> NumpyArray:
    """A tensor or array as a NumPy array that a file can hold; Refused("dtype") for bfloat16 and its like."""
    try:
        if hasattr(value, "detach"):
            value = value.detach().cpu().numpy()
        array = np.asarray(value)
        code_of(array.dtype)
    except (TypeError, UnsupportedTensor) as error:
        raise Refused("dtype", str(error)) from None
    return array


def array_of(array: NumpyArray) -> Array:
    """Flower's Array of a contiguous NumPy array: byte for byte what ``Array(array)`` makes, with one copy fewer."""
    head = BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(array))
    return Array(
        array.dtype.name, tuple(array.shape), NUMPY_STYPE, b"".join((head.getbuffer(), array.reshape(-1).data))
    )


def ndarray_of(array: Array) -> NumpyArray:
    """A read-only view of the Array's bytes, without a copy where they are in C order."""
    if array.stype != NUMPY_STYPE:
        raise Refused("dtype", f"an array is serialised as {array.stype!r}, not {NUMPY_STYPE!r}")
    data = BytesIO(array.data)
    if np.lib.format.read_magic(data) != (1, 0):
        return _ndarray(array.numpy())
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(data)
    if fortran or dtype.hasobject:
        return _ndarray(array.numpy())
    count = int(np.prod(shape, dtype=np.int64))
    return _ndarray(np.frombuffer(array.data, dtype=dtype, count=count, offset=data.tell()).reshape(shape))


def _number(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
