"""The sandbox around a worker: bubblewrap's command line, and whether this machine allows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SandboxReport:
    """``kind`` is "bubblewrap" or "none"; ``reason`` and ``hint`` are sentences for the lab, empty when all is well."""

    kind: str
    reason: str = ""
    hint: str = ""


def detect_sandbox() -> SandboxReport:
    """Runs the sandbox once, really, and says what came of it."""
    raise NotImplementedError
