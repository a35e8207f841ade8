"""A data set against its own schema, on the lab's own machine: which rows and columns do not keep it. Nothing of this leaves.

What is checked of a CSV table or the arrays of an npz: that each column is there, and of each cell its type, its code, its range,
and whether it may be empty. A unit cannot be read off a number: that it is what the schema says remains the lab's word. Of images,
that each file is one by its first bytes. Of other formats, nothing; the result says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from federation.catalogue.description import Files
from federation.catalogue.schema import Column
from federation.errors import InvalidUsage, NotFound
from node_agent.catalogue.arrays import ArrayFile
from node_agent.catalogue.cells import FORMULA, check_of
from node_agent.catalogue.tables import CsvTable, Unreadable
from node_agent.settings import DataSet

FIRST: Final = 10
"""rows that are told of each problem"""
UNITS: Final = "units: a number does not show its own; they are the lab's word"
KINDS_OF_IMAGES: Final = (
    *((0, b"\x89PNG\r\n\x1a\n"), (0, b"\xff\xd8\xff"), (0, b"GIF8"), (0, b"BM"), (0, b"II*\0"), (0, b"MM\0*")),
    *((128, b"DICM"), (8, b"WEBP")),
)


@dataclass(frozen=True, slots=True)
class Finding:
    column: str
    """empty: the row as a whole"""
    problem: str
    count: int
    rows: tuple[int, ...]
    """the first of them, from 1"""
    fails: bool = True

    @property
    def words(self) -> str:
        where = f"column {self.column}" if self.column else "rows"
        if not self.rows:
            return f"{where} {self.problem}"
        more = "" if self.count <= len(self.rows) else f" and {self.count - len(self.rows)} more"
        return f"{where} {self.problem} in row{'s' * (self.count > 1)} {', '.join(map(str, self.rows))}{more}"


@dataclass(frozen=True, slots=True)
class Checked:
    format: str
    rows: int
    columns: tuple[str, ...]
    """whose cells were read"""
    findings: tuple[Finding, ...]
    not_checked: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not any(finding.fails for finding in self.findings)


@dataclass(slots=True)
class _Findings:
    """How often what was found, and where first: as many as there are kinds of problems, whatever the table holds."""

    _found: dict[tuple[str, str], tuple[int, list[int]]] = field(default_factory=dict)

    def add(self, column: str, problem: str, row: int) -> None:
        count, rows = self._found.setdefault((column, problem), (0, []))
        if len(rows) < FIRST:
            rows.append(row)
        self._found[column, problem] = count + 1, rows

    def all(self) -> Iterator[Finding]:
        for (column, problem), (count, rows) in self._found.items():
            yield Finding(column, problem, count, tuple(rows), problem != FORMULA)


def check(held: DataSet, reads: tuple[str, ...] = ()) -> Checked:
    """``reads``: the columns that count; none: all of the schema. Raises NotFound, InvalidUsage, Unreadable."""
    described = held.described
    files = described.description.files if described.description is not None else Files.model_validate({})
    schema = described.schema
    if schema is None:
        return Checked(files.format, 0, (), (), ("anything: the data set names no schema",))
    wanted = [column for name, column in schema.columns.items() if not reads or name in reads]
    try:
        path = table_of(held, files)
        if files.format == "csv":
            return _csv(path, files, wanted)
        if files.format == "npz":
            return _npz(path, wanted)
        if files.format == "images":
            return _images(path)
    except OSError as error:
        raise NotFound(f"The data cannot be read: {error.strerror}.", hint="See that the node may read them.") from None
    return Checked(files.format, 0, (), (), (f"anything: there is no reader for the format {files.format}",))


def table_of(held: DataSet, files: Files) -> Path:
    """The file of the data set that holds its table. Raises InvalidUsage, NotFound."""
    place = Path(held.path)
    if not place.exists():
        raise NotFound(f"{place} is missing.", hint="concord-node data add NAME --path PATH says where it is.")
    if files.format in {"images", "parquet", "other"} or not place.is_dir():
        return place
    if files.file is None:
        raise InvalidUsage(f"{place} is a folder.", hint="Name its table in the description, as spec.files.file.")
    path = place / files.file
    if not path.resolve().is_relative_to(place.resolve()):
        raise InvalidUsage(f"spec.files.file leads out of {place}.", hint="Name a file within the data set's folder.")
    return path


def _csv(path: Path, files: Files, wanted: list[Column]) -> Checked:
    table = CsvTable.open(path, files)
    found, empty = _Findings(), frozenset(files.empty)
    missing = [Finding(column.name, "is missing", 1, ()) for column in wanted if column.name not in table.columns]
    checks = [
        (table.columns.index(column.name), column.name, check_of(column, empty))
        for column in wanted
        if column.name in table.columns
    ]
    rows = 0
    for rows, cells in enumerate(table.rows(), 1):
        if len(cells) != len(table.columns):
            found.add("", f"have more or fewer cells than the {len(table.columns)} columns", rows)
            continue
        for place, name, check_cell in checks:
            if problem := check_cell(cells[place]):
                found.add(name, problem, rows)
    left = tuple(name for name in table.columns if name not in {column.name for column in wanted})
    not_checked = (UNITS, *((f"columns that are not read: {', '.join(left[:20])}",) if left else ()))
    return Checked("csv", rows, tuple(name for _, name, _ in checks), (*missing, *found.all()), not_checked)


def _npz(path: Path, wanted: list[Column]) -> Checked:
    held = ArrayFile(path)
    missing = [Finding(column.name, "is missing", 1, ()) for column in wanted if column.name not in held.columns]
    there = [column for column in wanted if column.name in held.columns]
    found = [Finding(name, problem, count, tuple(rows)) for name, problem, count, rows in held.check(there)]
    return Checked("npz", held.rows, tuple(column.name for column in there), (*missing, *found), (UNITS,))


def _images(place: Path) -> Checked:
    found, count = _Findings(), 0
    for folder, folders, names in os.walk(place):
        folders.sort()
        for name in sorted(names):
            count += 1
            with (Path(folder) / name).open("rb") as stream:
                head = stream.read(132)
            if not any(head[at : at + len(mark)] == mark for at, mark in KINDS_OF_IMAGES):
                found.add("", "are no images that this check knows", count)
    not_checked = ("what the images show, their size, and their labels",)
    return Checked("images", count, (), tuple(found.all()), not_checked)


__all__ = ["Checked", "Finding", "Unreadable", "check", "table_of"]
