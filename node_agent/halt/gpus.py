"""Which processes the NVIDIA driver still counts as holders of GPU memory.

Memory is free when its process is gone: this looks whether the driver says so too. Other makers' drivers are not asked.
"""

from __future__ import annotations

from node_agent.runner.nvml import DRIVER, opened


def holders() -> frozenset[int]:
    """Numbers of all processes with memory on a GPU of this machine; empty where there is no such driver, or it cannot be asked.
    A card that does not tell, or that has gone, is left out: a halt does not fail for it."""
    if not DRIVER.exists():
        return frozenset()
    with opened() as nvml:
        if nvml is None:
            return frozenset()
        library, found = nvml.library, set[int]()
        for _, card in nvml.cards():
            for list_of in (
                library.nvmlDeviceGetComputeRunningProcesses,
                library.nvmlDeviceGetGraphicsRunningProcesses,
            ):
                found |= {int(process.pid) for process in nvml.told(list_of, card) or ()}
        return frozenset(found)
