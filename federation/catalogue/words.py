"""The closed vocabulary of a data set's description. A word that is not here is refused: two labs that use one mean the same.

Units are codes of UCUM (the Unified Code for Units of Measure, ucum.org), those that tables of members hold; a further one needs a
new version of Concord. Legal bases and licences are those of jobs (``federation.manifest.schema``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field

MOST_COLUMNS: Final = 512
MOST_CODES: Final = 512
"""of one column"""
MOST_TAGS: Final = 32
MOST_PLACES: Final = 64

ColumnType = Literal["integer", "number", "boolean", "category", "text", "date", "datetime", "image"]
NUMBERS: Final = frozenset({"integer", "number"})

Update = Literal["fixed", "appended", "revised"]
"""fixed: never changes; appended: rows or files come, none goes; revised: anything may change"""

VersionRule = Literal["exact", "minor"]
"""what may happen to the data between a consent and the training: nothing; or what was there stays, and more may come"""

UNITS: Final[Mapping[str, str]] = {
    "1": "a ratio or a count, without a unit",
    "%": "per cent",
    "a": "years",
    "mo": "months",
    "wk": "weeks",
    "d": "days",
    "h": "hours",
    "min": "minutes",
    "s": "seconds",
    "ms": "milliseconds",
    "mm": "millimetres",
    "cm": "centimetres",
    "m": "metres",
    "km": "kilometres",
    "m2": "square metres",
    "km2": "square kilometres",
    "har": "hectares",
    "L": "litres",
    "mL": "millilitres",
    "m3": "cubic metres",
    "g": "grams",
    "mg": "milligrams",
    "ug": "micrograms",
    "kg": "kilograms",
    "t": "tonnes",
    "kg/m2": "kilograms per square metre",
    "K": "kelvins",
    "Cel": "degrees Celsius",
    "Pa": "pascals",
    "hPa": "hectopascals",
    "kPa": "kilopascals",
    "mm[Hg]": "millimetres of mercury",
    "/min": "times a minute",
    "Hz": "hertz",
    "kHz": "kilohertz",
    "m/s": "metres per second",
    "km/h": "kilometres per hour",
    "mm/h": "millimetres per hour",
    "mm/d": "millimetres per day",
    "m3/s": "cubic metres per second",
    "deg": "degrees of arc",
    "V": "volts",
    "mV": "millivolts",
    "A": "amperes",
    "W": "watts",
    "kW": "kilowatts",
    "MW": "megawatts",
    "W/m2": "watts per square metre",
    "J": "joules",
    "kW.h": "kilowatt hours",
    "lx": "lux",
    "dB": "decibels",
    "g/L": "grams per litre",
    "g/dL": "grams per decilitre",
    "mg/dL": "milligrams per decilitre",
    "mg/L": "milligrams per litre",
    "ug/L": "micrograms per litre",
    "ng/mL": "nanograms per millilitre",
    "mmol/L": "millimoles per litre",
    "umol/L": "micromoles per litre",
    "U/L": "units per litre",
    "ug/m3": "micrograms per cubic metre",
    "kg/har": "kilograms per hectare",
    "t/har": "tonnes per hectare",
    "By": "bytes",
    "bit": "bits",
}


def _unit(value: Any) -> Any:
    if isinstance(value, str) and value not in UNITS:
        raise ValueError(f"is not one of the units that this version knows ({', '.join(UNITS)})")
    return value


def _column_name(value: str) -> str:
    """People's words in people's letters, but nothing that a spreadsheet runs or a terminal obeys."""
    if not value.isprintable() or value != value.strip() or not (value[0].isalnum() or value[0] == "_"):
        raise ValueError("should begin with a letter, a digit or _, and hold nothing that cannot be shown")
    return value


Unit = Annotated[str, BeforeValidator(_unit)]
ColumnName = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_column_name)]


def is_tag(text: str) -> bool:
    """Whether a job could ask for it."""
    return 0 < len(text) <= 100 and text.isprintable()


def size_class(examples: int) -> int:
    """The public bucket of a count, never the count: the power of two at or below it, as for weights (decision 0003)."""
    if examples < 1:
        raise ValueError("a data set has at least one example")
    return 1 << (examples.bit_length() - 1)


def is_size_class(value: int) -> bool:
    return 0 < value <= 1 << 40 and value & (value - 1) == 0
