"""Reads a CSV table row by row: whatever the file holds, in bounded memory, and with the line of what cannot be read on."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from federation.catalogue.description import Files
from federation.errors import VerificationFailed

LINE_LIMIT: Final = 1 << 20
RECORD_LINES: Final = 1000
"""that one row may run over, in quotes"""
CELLS: Final = 4096


class Unreadable(VerificationFailed):
    """The file is no table of its format."""


@dataclass(frozen=True, slots=True)
class CsvTable:
    path: Path
    files: Files
    columns: tuple[str, ...]

    @classmethod
    def open(cls, path: Path, files: Files) -> CsvTable:
        """Reads the header. Raises Unreadable; OSError."""
        if files.header is not None:
            return cls(path, files, tuple(files.header))
        with path.open("rb") as stream:
            first = next(_records(stream, files), None)
        if first is None:
            raise Unreadable("The table is empty: it has no header.", hint="Name its columns in files.header.")
        names = tuple(cell.strip() for cell in first)
        if len(set(names)) != len(names) or "" in names:
            raise Unreadable(
                "line 1: the header names a column twice, or one without a name.",
                hint="Correct it, or name the columns in files.header if the first line is a row.",
            )
        return cls(path, files, names)

    def rows(self) -> Iterator[list[str]]:
        """The cells of each row after the header. Raises Unreadable, with the line, for what cannot be read on."""
        with self.path.open("rb") as stream:
            records = _records(stream, self.files)
            if self.files.header is None:
                next(records, None)
            yield from records


def _records(stream: BinaryIO, files: Files) -> Iterator[list[str]]:
    """The cells of each line, or of several where quotes run over them; empty lines are left out."""
    lines = _Lines(stream, files.encoding)
    reader = csv.reader(lines, delimiter=files.delimiter, strict=True)
    while True:
        lines.begin()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise Unreadable(
                f"line {lines.number}: {error}.", hint="Is the delimiter right, and is each quote closed?"
            ) from None
        if len(cells) > CELLS:
            raise Unreadable(f"line {lines.number}: more than {CELLS} cells.", hint="Is the delimiter right?")
        if cells:
            yield cells


class _Lines:
    """Lines of text out of bytes that may be anything."""

    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        self._stream, self._encoding = stream, encoding
        self.number = 0
        self._begun = 0

    def begin(self) -> None:
        self._begun = self.number

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        data = self._stream.readline(LINE_LIMIT + 1)
        if not data:
            raise StopIteration
        self.number += 1
        if len(data) > LINE_LIMIT:
            raise Unreadable(f"line {self.number}: longer than {LINE_LIMIT:,} bytes.", hint="Is it a table at all?")
        if b"\0" in data:
            raise Unreadable(f"line {self.number}: holds a NUL byte.", hint="Is it a table at all, and in UTF-8?")
        if self.number - self._begun > RECORD_LINES:
            raise Unreadable(
                f"line {self._begun + 1}: a quote is opened there, and not closed within {RECORD_LINES} lines.",
                hint="Close it, or write it twice within quotes.",
            )
        if self.number == 1 and self._encoding == "utf-8":
            data = data.removeprefix(b"\xef\xbb\xbf")
        try:
            return data.decode(self._encoding)
        except UnicodeDecodeError as error:
            raise Unreadable(
                f"line {self.number}: byte {error.start + 1} is not {self._encoding}.",
                hint="Say in files.encoding how the file was written.",
            ) from None
