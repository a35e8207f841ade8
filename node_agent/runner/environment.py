"""The whole environment of a worker, built from nothing: the agent's own variables, which may hold secrets, never
reach it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SILENCE: Final[Mapping[str, str]] = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}
"""Nothing that we start reports to anybody. The first two are Flower's (flwr.supercore.telemetry, .constant, 1.41)."""

THREADS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def worker_environment(
    *, home: str, temporary: str, library: str, cpus: int, sandbox: str, devices: Mapping[str, str]
) -> dict[str, str]:
    """``library``: the folder that holds node_agent; ``devices``: what devices.visible() gives."""
    return {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "USER": "worker",
        "LOGNAME": "worker",
        "HOME": home,
        "TMPDIR": temporary,
        "PYTHONPATH": library,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONHASHSEED": "0",  # members must make the same initial model
        "CONCORD_SANDBOX": sandbox,
        **dict.fromkeys(THREADS, str(max(1, cpus))),
        **SILENCE,
        **devices,
    }
