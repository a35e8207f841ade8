"""Of what time and of which places data are; and whether that is what a job asks for."""

from __future__ import annotations

import calendar
import re
from datetime import date
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from federation.catalogue.words import MOST_PLACES
from federation.manifest.schema import Jurisdictions, Part

_DAY: Final = re.compile(r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2}))?)?")


def _moment(value: str) -> str:
    first_day(value)
    return value


def first_day(text: str) -> date:
    """1981 begins on 1981-01-01. Raises ValueError for what is no year, month or day."""
    year, month, day = _parts(text)
    return date(year, month or 1, day or 1)


def last_day(text: str) -> date:
    """1981 ends on 1981-12-31."""
    year, month, day = _parts(text)
    return date(year, month or 12, day or calendar.monthrange(year, month or 12)[1])


def _parts(text: str) -> tuple[int, int, int]:
    found = _DAY.fullmatch(text)
    try:
        year, month, day = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
        date(year, month or 1, day or 1)
    except ValueError:
        found = None
    if found is None or found[2] == "00" or found[3] == "00":
        raise ValueError('is not a year, month or day such as "1981", "1981-05" or "1981-05-17"')
    return year, month, day


Moment = Annotated[str, Field(max_length=10), AfterValidator(_moment)]


class Coverage(Part):
    begin: Moment | None = Field(None, alias="from", description='first year, month or day, in quotes: "1981-05"')
    end: Moment | None = Field(None, alias="to", description="last year, month or day, which belongs to it")
    places: Jurisdictions = Field([], max_length=MOST_PLACES, description="ISO 3166 codes: HU, US-OH")

    @property
    def wrong(self) -> str:
        """What does not agree in it; empty when all does."""
        if self.begin is not None and self.end is not None and first_day(self.begin) > last_day(self.end):
            return f"begins on {self.begin}, after its end on {self.end}"
        return ""

    @property
    def words(self) -> str:
        time = f"{self.begin or '…'} to {self.end or '…'}" if self.begin or self.end else ""
        return ", ".join(filter(None, [time, " ".join(self.places)]))


def within(place: str, others: list[str]) -> bool:
    """US-OH lies in US."""
    return any(place == other or place.startswith(f"{other}-") for other in others)


def covers(data: Coverage, wanted: Coverage) -> tuple[str, ...]:
    """Why data do not cover what a job asks for; empty when they do: all of its time, and no place but its places."""
    misses: list[str] = []
    if wanted.begin is not None and (data.begin is None or first_day(data.begin) > first_day(wanted.begin)):
        misses.append(
            f"begins on {data.begin or 'a day that is not told'}, the job asks for data from {wanted.begin} on"
        )
    if wanted.end is not None and (data.end is None or last_day(data.end) < last_day(wanted.end)):
        misses.append(f"ends on {data.end or 'a day that is not told'}, the job asks for data to {wanted.end}")
    if wanted.places:
        outside = [place for place in data.places if not within(place, wanted.places)]
        if outside or not data.places:
            misses.append(
                f"is of {', '.join(outside) or 'places that are not told'}, the job asks for {', '.join(wanted.places)}"
            )
    return tuple(misses)
