"""Which processes the NVIDIA driver still counts as holders of GPU memory.

Memory is free when its process is gone: this looks whether the driver says so too. Other makers' drivers are not asked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

DRIVER: Final = Path("/dev/nvidiactl")


def holders() -> frozenset[int]:
    """Numbers of all processes with memory on a GPU of this machine; empty where there is no such driver, or it cannot be asked."""
    if not DRIVER.exists():
        return frozenset()
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return frozenset()
    try:
        found: set[int] = set()
        for index in range(pynvml.nvmlDeviceGetCount()):
            device = pynvml.nvmlDeviceGetHandleByIndex(index)
            for list_of in (pynvml.nvmlDeviceGetComputeRunningProcesses, pynvml.nvmlDeviceGetGraphicsRunningProcesses):
                try:
                    found |= {int(process.pid) for process in list_of(device)}
                except pynvml.NVMLError:  # a device of a kind that does not tell
                    continue
        return frozenset(found)
    finally:
        pynvml.nvmlShutdown()
