"""A model as one flat vector: its floating entries in order. Integer buffers are not summed and keep the round's value."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from federation.errors import TaskFailed
from federation.weights.tensors import Array

REST_BYTES: Final = 64 << 20
REST_PER_PARAMETER: Final = 8


def rest_limit(parameters: int) -> int:
    """Bytes of all arrays that are not summed, beside so many numbers that are: counters, masks, indices."""
    return REST_BYTES + REST_PER_PARAMETER * parameters


@dataclass(frozen=True, slots=True)
class Entry:
    name: str
    start: int
    stop: int
    """its place in the flat vector"""
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    entries: tuple[Entry, ...]
    size: int
    """parameters that are summed"""

    @staticmethod
    def of(arrays: Mapping[str, Array]) -> Layout:
        entries, at = [], 0
        for name, array in arrays.items():
            if is_floating(array):
                entries.append(Entry(name, at, at + array.size, array.shape))
                at += array.size
        return Layout(tuple(entries), at)

    def check_rest(self, arrays: Mapping[str, Array]) -> None:
        """Raises TaskFailed when what is not summed is so large that the file of a state is beyond what peers take."""
        rest = sum(array.nbytes for array in arrays.values() if not is_floating(array))
        if rest > rest_limit(self.size):
            raise TaskFailed(
                f"The model's arrays of whole numbers hold {rest:,} bytes: more than the {rest_limit(self.size):,} that go with "
                f"{self.size:,} parameters.",
                hint="Keep what is not trained out of the model's arrays: ship it with the app, or compute it.",
                phase="initial-model",
            )

    def split(self, flat: npt.NDArray[np.floating]) -> Iterator[tuple[Entry, npt.NDArray[np.floating]]]:
        """Each entry with its part of ``flat``, shaped as the entry: views."""
        for entry in self.entries:
            yield entry, flat[entry.start : entry.stop].reshape(entry.shape)


def is_floating(array: Array) -> bool:
    return bool(np.issubdtype(array.dtype, np.floating))


class Difference:
    """trained - base as one flat float32 vector, computed part by part when it is asked for: nothing of model size is held.

    Raises TaskFailed for other names, shapes or types. What is NaN or infinite stays so: ``secagg.levels.clipped`` sees it.
    """

    def __init__(self, trained: Mapping[str, Array], base: Mapping[str, Array]) -> None:
        _same_arrays(trained, base)
        layout = Layout.of(base)
        self.size = layout.size
        self._starts = [entry.start for entry in layout.entries]
        self._pairs = [
            (np.asarray(trained[entry.name]).reshape(-1), np.asarray(base[entry.name]).reshape(-1))
            for entry in layout.entries
        ]

    def part(self, start: int, stop: int, out: npt.NDArray[np.float32], /) -> npt.NDArray[np.float32]:
        """float32[stop - start], in ``out``; any number of threads, each with its own ``out``."""
        place = bisect_right(self._starts, start) - 1
        at = start
        with np.errstate(over="ignore", invalid="ignore"):
            while at < stop:
                trained, base = self._pairs[place]
                first = at - self._starts[place]
                count = min(stop - at, base.size - first)
                np.subtract(
                    trained[first : first + count],
                    base[first : first + count],
                    out=out[at - start : at - start + count],
                    casting="same_kind",
                )
                at, place = at + count, place + 1
        return out[: stop - start]


def _same_arrays(trained: Mapping[str, Array], base: Mapping[str, Array]) -> None:
    if list(trained) != list(base):
        missing, extra = [name for name in base if name not in trained], [name for name in trained if name not in base]
        what = (
            f"lacks {', '.join(missing[:3])}"
            if missing
            else "has arrays that the model does not have"
            if extra
            else "has another order"
        )
        raise _wrong(f"The trained model {what}.", f"Besides: {', '.join(extra[:3])}. " if extra else "")
    for name, array in base.items():
        if trained[name].shape != array.shape or trained[name].dtype != array.dtype:
            raise _wrong(
                f"The trained array {name} is of another type or shape than the model's {array.dtype}{list(array.shape)}.",
                f"It is {trained[name].dtype}{list(trained[name].shape)}. ",
            )


def _wrong(text: str, detail: str) -> TaskFailed:
    """``text`` goes to the lead and names nothing that the task chose; the hint stays in the lab."""
    hint = "A training reply holds the model's own arrays: same names, order, shapes and types."
    return TaskFailed(text, hint=detail + hint, phase="reply")
