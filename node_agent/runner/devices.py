"""What this machine offers to jobs: its accelerators, processors, memory, and sandbox. Never imports torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gpu:
    index: int
    model: str
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Offer:
    """``device``: "cuda", "rocm", "xpu", "mps" or "cpu"; ``python``: "3.11.7"; ``sandbox``: "bubblewrap" or "none"."""

    gpus: tuple[Gpu, ...]
    cpus: int
    memory_bytes: int
    python: str
    device: str
    sandbox: str


def local_offer() -> Offer:
    raise NotImplementedError
