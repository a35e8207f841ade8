"""How busy, full and warm NVIDIA's GPUs are. A machine without them has no such figure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node_agent.runner.nvml import DRIVER, Nvml, opened


@dataclass(frozen=True, slots=True)
class Reading:
    """None for what this card does not tell, such as how busy it is while it is cut into slices."""

    gpu: str
    """the card's number; with the slice's after a colon for a slice of it"""
    utilisation: float | None
    """0 to 1"""
    memory: int | None
    """bytes"""
    used: int | None
    """bytes, by whomever"""
    celsius: float | None


def readings(driver: Path = DRIVER) -> tuple[Reading, ...]:
    """From any thread. Empty without such cards, or when the driver cannot be asked; without those that have gone."""
    if not driver.exists():
        return ()
    with opened() as nvml:
        return () if nvml is None else tuple(_each(nvml))


def _each(nvml: Nvml) -> Iterator[Reading]:
    library = nvml.library
    for index, card in nvml.cards():
        yield _of(
            nvml, str(index), card, nvml.told(library.nvmlDeviceGetTemperature, card, library.NVML_TEMPERATURE_GPU)
        )
        for number, part in nvml.slices(card):
            yield _of(nvml, f"{index}:{number}", part, None)


def _of(nvml: Nvml, name: str, card: Any, warm: int | None) -> Reading:
    memory = nvml.told(nvml.library.nvmlDeviceGetMemoryInfo, card)
    busy = nvml.told(nvml.library.nvmlDeviceGetUtilizationRates, card)
    return Reading(
        name,
        None if busy is None else float(busy.gpu) / 100,
        None if memory is None else int(memory.total),
        None if memory is None else int(memory.used),
        None if warm is None else float(warm),
    )
