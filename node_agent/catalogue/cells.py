"""Whether a cell is what its column's schema says. The answer is a kind of problem, or none; the cell itself goes nowhere."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import date, datetime
from typing import Final

from federation.catalogue.schema import Column

NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
INSTANT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
BOOLEANS: Final = frozenset({"true", "false", "0", "1"})
LONGEST: Final = 10_000
"""letters of a cell of text"""
RUNS: Final = ("=", "+", "-", "@", "\t", "\r")
"""what a spreadsheet takes for the beginning of a formula"""

FORMULA: Final = "begins as a formula does, should a spreadsheet open it"

Check = Callable[[str], str]
"""a cell -> what is wrong with it, or "\""""


def check_of(column: Column, empty: frozenset[str]) -> Check:
    """``empty``: the cells that hold nothing."""
    inner = _KINDS[column.type](column)

    def check(cell: str) -> str:
        bare = cell.strip()
        if bare in empty:
            return "" if column.nullable else "is empty"
        if column.type != "text" and len(bare) > 100:
            return f"is no {column.type}"
        return inner(bare)

    return check


def _number(column: Column) -> Check:
    low = column.minimum if column.minimum is not None else -math.inf
    high = column.maximum if column.maximum is not None else math.inf
    whole = column.type == "integer"

    def check(cell: str) -> str:
        if not NUMBER.fullmatch(cell):
            return f"is no {column.type}"
        value = float(cell)
        if not math.isfinite(value) or (whole and not value.is_integer()):
            return f"is no {column.type}"
        if value < low:
            return f"is below {low:g}"
        if value > high:
            return f"is above {high:g}"
        if column.codes is not None and f"{int(value)}" not in column.codes:
            return "is none of the codes"
        return ""

    return check


def _category(column: Column) -> Check:
    codes = frozenset(column.codes or ())

    def check(cell: str) -> str:
        """A code that is a number may be written 1 or 1.0."""
        if cell in codes:
            return ""
        if NUMBER.fullmatch(cell) and math.isfinite(float(cell)) and float(cell).is_integer():
            return "" if f"{int(float(cell))}" in codes else "is none of the codes"
        return "is none of the codes"

    return check


def _boolean(_column: Column) -> Check:
    return lambda cell: "" if cell.lower() in BOOLEANS else "is no boolean"


def _date(_column: Column) -> Check:
    return lambda cell: "" if DAY.fullmatch(cell) and _parses(date.fromisoformat, cell) else "is no date"


def _datetime(_column: Column) -> Check:
    return lambda cell: "" if INSTANT.fullmatch(cell) and _parses(datetime.fromisoformat, cell) else "is no datetime"


def _parses(parse: Callable[[str], object], cell: str) -> bool:
    try:
        parse(cell)
    except ValueError:
        return False
    return True


def _text(_column: Column) -> Check:
    def check(cell: str) -> str:
        if len(cell) > LONGEST:
            return f"is longer than {LONGEST:,} letters"
        return FORMULA if cell.startswith(RUNS) else ""

    return check


def _image(_column: Column) -> Check:
    return lambda _cell: "is an image in the schema, and a cell here"


_KINDS: Final[dict[str, Callable[[Column], Check]]] = {
    "integer": _number,
    "number": _number,
    "category": _category,
    "boolean": _boolean,
    "date": _date,
    "datetime": _datetime,
    "text": _text,
    "image": _image,
}
