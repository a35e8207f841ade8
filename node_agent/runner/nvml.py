"""NVIDIA's management library (NVML), asked so that no fault of a driver or of one card becomes a fault of the node.

A driver may be absent, be updated under a running process, or go away; a card may fall off the bus; a card that is cut into
slices (MIG), or lent to a virtual machine, does not tell everything. Each of these is an answer that is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

DRIVER: Final = Path("/dev/nvidiactl")


class Nvml:
    """The library while it is open. What a handle is, is the library's affair."""

    def __init__(self, library: Any) -> None:
        self.library = library

    def told(self, question: Callable[..., Any], *arguments: Any) -> Any:
        """The answer; None where there is none."""
        try:
            return question(*arguments)
        except self.library.NVMLError:
            return None

    def cards(self) -> Iterator[tuple[int, Any]]:
        """(number, handle) of each card that can be asked."""
        library = self.library
        for index in range(self.told(library.nvmlDeviceGetCount) or 0):
            card = self.told(library.nvmlDeviceGetHandleByIndex, index)
            if card is not None:
                yield index, card

    def is_cut(self, card: Any) -> bool:
        """Whether the card is cut into slices; it may have none at the moment."""
        mode = self.told(self.library.nvmlDeviceGetMigMode, card)
        return mode is not None and mode[0] == self.library.NVML_DEVICE_MIG_ENABLE

    def slices(self, card: Any) -> Iterator[tuple[int, Any]]:
        """(number, handle) of each slice of a card that is cut into slices."""
        library = self.library
        if not self.is_cut(card):
            return
        for index in range(self.told(library.nvmlDeviceGetMaxMigDeviceCount, card) or 0):
            part = self.told(library.nvmlDeviceGetMigDeviceHandleByIndex, card, index)
            if part is not None:
                yield index, part


@contextmanager
def opened() -> Iterator[Nvml | None]:
    """None where there is no such driver, or it cannot be asked. From any thread."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield Nvml(pynvml)
    finally:
        with suppress(pynvml.NVMLError):  # the driver may have gone since
            pynvml.nvmlShutdown()
