"""How busy, full and warm NVIDIA's GPUs are, by NVML. A machine without them has no such figure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

DRIVER: Final = Path("/dev/nvidiactl")


@dataclass(frozen=True, slots=True)
class Reading:
    """None for what this card does not tell, such as how busy a slice of a shared one is."""

    index: int
    utilisation: float | None
    """0 to 1"""
    memory: int | None
    """bytes"""
    used: int | None
    """bytes, by whomever"""
    celsius: float | None


def readings(driver: Path = DRIVER) -> tuple[Reading, ...]:
    """From any thread. Empty without such cards, or when the driver cannot be asked."""
    if not driver.exists():
        return ()
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        return tuple(_each(pynvml))
    except pynvml.NVMLError:
        return ()
    finally:
        pynvml.nvmlShutdown()


def _each(nvml: Any) -> Iterator[Reading]:
    for index in range(nvml.nvmlDeviceGetCount()):
        card = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = _told(nvml, nvml.nvmlDeviceGetMemoryInfo, card)
        busy = _told(nvml, nvml.nvmlDeviceGetUtilizationRates, card)
        warm = _told(nvml, nvml.nvmlDeviceGetTemperature, card, nvml.NVML_TEMPERATURE_GPU)
        yield Reading(
            index,
            None if busy is None else float(busy.gpu) / 100,
            None if memory is None else int(memory.total),
            None if memory is None else int(memory.used),
            None if warm is None else float(warm),
        )


def _told(nvml: Any, question: Any, *arguments: Any) -> Any:
    try:
        return question(*arguments)
    except nvml.NVMLError:
        return None
