"""Checks the arrays of an npz file against a schema: an array is a column, its first axis are the rows. Nothing is unpickled."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from federation.catalogue.schema import Column
from node_agent.catalogue.tables import Unreadable

LIMIT: Final = 8 << 30
"""bytes of all arrays, unpacked"""
MEMBERS: Final = 4096
KINDS: Final = {"integer": "iuf", "number": "iuf", "image": "iuf", "boolean": "biu", "category": "iufUS", "text": "US"}
"""of NumPy, by type; dates are not checked in arrays"""


class ArrayFile:
    """Raises Unreadable for what is no npz, OSError."""

    def __init__(self, path: Path) -> None:
        try:
            with zipfile.ZipFile(path) as held:
                members = held.infolist()
        except (zipfile.BadZipFile, ValueError, EOFError):
            raise Unreadable("The file is no npz.", hint="Say in files.format what it is.") from None
        if len(members) > MEMBERS or sum(member.file_size for member in members) > LIMIT:
            raise Unreadable(
                f"The arrays are more than {MEMBERS}, or larger than {LIMIT >> 30} GiB.", hint="They were not checked."
            )
        self._path = path
        self.rows = 0
        """of the arrays that were checked"""
        self.columns = tuple(member.filename.removesuffix(".npy") for member in members)

    def check(self, columns: list[Column]) -> Iterator[tuple[str, str, int, list[int]]]:
        """(column, problem, how many cells, the first rows) of each. Raises Unreadable, as for an array of Python objects."""
        rows: int | None = None
        self.rows = 0
        with np.load(self._path, allow_pickle=False) as arrays:
            for column in columns:
                try:
                    array = arrays[column.name]
                except (ValueError, zipfile.BadZipFile, EOFError, KeyError, MemoryError):
                    raise Unreadable(
                        f"The array {column.name} cannot be read, or holds Python objects.", hint="Write plain numbers."
                    ) from None
                if array.ndim == 0:
                    yield column.name, "has no rows: it is a single value", 1, []
                    continue
                if rows is not None and len(array) != rows:
                    yield column.name, f"has {len(array)} rows, and columns before it {rows}", 1, []
                rows = len(array) if rows is None else rows
                self.rows = rows
                yield from _problems(column, array)


def _problems(column: Column, array: npt.NDArray[Any]) -> Iterator[tuple[str, str, int, list[int]]]:
    kind = KINDS.get(column.type)
    if kind is None:
        yield column.name, f"is a {column.type}, which is not checked in arrays", 1, []
        return
    if array.dtype.kind not in kind:
        yield column.name, f"is {array.dtype}, and its type is {column.type}", len(array), []
        return
    shape = array.shape[1:]
    if column.shape is not None and shape != tuple(column.shape):
        yield column.name, f"has the shape {list(shape)}, and the schema says {column.shape}", len(array), []
        return
    if column.type != "image" and column.shape is None and shape:
        yield column.name, f"has the shape {list(shape)}, and a {column.type} is one number", len(array), []
        return
    for problem, bad in _tests(column, array):
        where = np.flatnonzero(bad.reshape(len(array), -1).any(axis=1)) if bad.size else np.empty(0, dtype=int)
        if len(where):
            yield column.name, problem, len(where), [int(row) + 1 for row in where[:10]]


def _tests(column: Column, array: npt.NDArray[Any]) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    if array.dtype.kind == "f":
        empty = np.isnan(array)
        if not column.nullable:
            yield "is empty", empty
        yield f"is no {column.type}", np.isinf(array)
        if column.type in {"integer", "category"}:
            yield f"is no {column.type}", np.isfinite(array) & (array != np.rint(array))
    if array.dtype.kind in "iuf":
        if column.minimum is not None:
            yield f"is below {column.minimum:g}", array < column.minimum
        if column.maximum is not None:
            yield f"is above {column.maximum:g}", array > column.maximum
    if column.type == "boolean" and array.dtype.kind in "iu":
        yield "is no boolean", (array != 0) & (array != 1)
    if column.codes is not None:
        yield "is none of the codes", _strange(column.codes, array)


def _strange(codes: dict[str, str], array: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    values, places = np.unique(array, return_inverse=True)

    def known(value: Any) -> bool:
        if isinstance(value, bytes):
            return value.decode(errors="replace") in codes
        if isinstance(value, float):
            return value != value or (value.is_integer() and str(int(value)) in codes)
        return str(value) in codes

    strange = np.array([not known(value) for value in values.tolist()], dtype=bool)
    found: npt.NDArray[np.bool_] = strange[places].reshape(array.shape)
    return found
