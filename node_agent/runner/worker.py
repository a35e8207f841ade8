"""The agent's end of a worker: starts it in its sandbox, asks one thing at a time, and ends it without leftovers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

Scalar = int | float | str | bool


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What one job's worker may see and use.

    ``data_sets``: the first is the app's ``data-path``; further ones are given by name. ``scratch`` is the one folder that
    the worker can write; models and trained arrays must lie in it. ``log`` takes the task's output and tracebacks.
    ``memory_bytes`` 0 means no limit; ``gpus`` are indices of this machine.
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


@dataclass(frozen=True, slots=True)
class Reply:
    """``metrics``: every finite or non-finite scalar of the app's MetricRecord but the weight; ``examples``: the weight."""

    metrics: dict[str, float]
    examples: int


class Worker:
    """One warm process of one job. Calls do not overlap."""

    @classmethod
    async def start(cls, spec: WorkerSpec) -> Worker:
        """Raises TaskFailed when the app cannot be loaded, Unavailable when the process or its sandbox cannot start."""
        raise NotImplementedError

    async def initial_model(self, factory: str, seed: int, out: Path, timeout: float = 600.0) -> None:
        """Writes the model that ``factory`` ("pkg.task:Net") makes under ``seed`` to ``out``, order in the header."""
        raise NotImplementedError

    async def evaluate(self, model: Path, config: Mapping[str, Scalar], timeout: float) -> Reply:
        raise NotImplementedError

    async def train(self, model: Path, out: Path, config: Mapping[str, Scalar], timeout: float) -> Reply:
        raise NotImplementedError

    async def close(self) -> None:
        """Idempotent; afterwards no process of the worker is left."""
        raise NotImplementedError

    @property
    def alive(self) -> bool:
        raise NotImplementedError

    @property
    def pid(self) -> int:
        raise NotImplementedError
