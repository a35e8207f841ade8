"""Whether a data set is what a job asks for: one pure function, at the node over all that its lab knows, and for whoever reads the
catalogue over what is published. Only the node's answer counts; a catalogue explains.

Each field that the job names must fit. What is not told does not fit at the node, and is left open for a reader.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from federation.catalogue.coverage import covers
from federation.catalogue.entry import Entry
from federation.manifest.document import DataSet

Answer = Literal["yes", "no", "perhaps"]
NOT_TOLD: Final = "is not described"
MOST_SENTENCES: Final = 32


@dataclass(frozen=True, slots=True)
class Miss:
    """One thing that does not fit."""

    field: str
    """of the job's dataSet: name, tags, schema, columns, coverage"""
    sentence: str
    """goes on from "data set X: \""""
    told: bool
    """False: the entry does not say, and so it may fit"""


@dataclass(frozen=True, slots=True)
class Choice:
    """``name``: the first data set that fits, by name; empty when none does. ``misses``: why not, of each of the others."""

    name: str
    misses: Mapping[str, tuple[Miss, ...]]


def misses(wanted: DataSet, entry: Entry) -> tuple[Miss, ...]:
    """Every reason why ``entry`` is not what the job asks for; none when it is."""
    return (
        *_name(wanted, entry),
        *_tags(wanted, entry),
        *_schema(wanted, entry),
        *_columns(wanted, entry),
        *_coverage(wanted, entry),
    )


def answer_of(found: Iterable[Miss]) -> Answer:
    """What a reader of the catalogue can say."""
    told = [miss.told for miss in found]
    return "yes" if not told else "no" if any(told) else "perhaps"


def choose(wanted: DataSet, entries: Iterable[Entry]) -> Choice:
    """The same whatever the order of the entries."""
    found = {entry.name: misses(wanted, entry) for entry in entries}
    fitting = sorted(name for name, why in found.items() if not why)
    return Choice(fitting[0] if fitting else "", {name: found[name] for name in sorted(found) if found[name]})


def told(wanted: DataSet, published: Iterable[Entry]) -> tuple[str, ...]:
    """Why none of what a lab publishes fits, in sentences that a lead may read: they say nothing that the catalogue does not."""
    named = (entry for entry in published if wanted.name in {None, entry.name})
    sentences = [
        f"data set {name}: {miss.sentence}"
        for name, why in choose(wanted, named).misses.items()
        for miss in why
        if miss.told
    ]
    return tuple(sentences[:MOST_SENTENCES])


def asked(wanted: DataSet) -> str:
    """What the job asks for, on one line."""
    words = [wanted.name] if wanted.name else []
    words += [f"tag:{tag}" for tag in wanted.tags]
    words += [f"schema:{wanted.schema_name}"] if wanted.schema_name else []
    words += [f"column:{column.name}" for column in wanted.columns]
    words += [f"of {wanted.coverage.words}"] if wanted.coverage is not None and wanted.coverage.words else []
    return " ".join(words)


def _name(wanted: DataSet, entry: Entry) -> Iterable[Miss]:
    if wanted.name is not None and wanted.name != entry.name:
        yield Miss("name", f"the job asks for {wanted.name}", told=True)


def _tags(wanted: DataSet, entry: Entry) -> Iterable[Miss]:
    if wanted.tags and entry.tags is None:
        yield Miss("tags", f"{NOT_TOLD} by tags", told=False)
    elif lacking := [tag for tag in wanted.tags if tag not in (entry.tags or ())]:
        yield Miss("tags", f"has no tag {', '.join(lacking)}", told=True)


def _schema(wanted: DataSet, entry: Entry) -> Iterable[Miss]:
    if wanted.schema_name is None:
        return
    held = entry.schema_reference
    if held is None:
        yield Miss("schema", f"{NOT_TOLD} by a schema, the job asks for {wanted.schema_name}", told=False)
    elif held.name != wanted.schema_name:
        yield Miss("schema", f"its schema is {held.name}, the job asks for {wanted.schema_name}", told=True)
    elif wanted.schema_digest is not None and held.digest != wanted.schema_digest:
        yield Miss(
            "schema",
            f"its schema {held.name} has the digest {held.digest[:12]}, the job's {wanted.schema_digest[:12]}: "
            "their columns differ",
            told=True,
        )


def _columns(wanted: DataSet, entry: Entry) -> Iterable[Miss]:
    columns = entry.by_name
    if wanted.columns and columns is None:
        yield Miss("columns", f"{NOT_TOLD} by columns", told=False)
        return
    for column in wanted.columns:
        held = (columns or {}).get(column.name)
        if held is None:
            yield Miss("columns", f"has no column {column.name}", told=True)
        elif column.type is not None and column.type != held.type:
            yield Miss(
                "columns", f"column {column.name} is of type {held.type}, the job reads {column.type}", told=True
            )
        elif column.unit is not None and column.unit != held.unit:
            unit = held.unit or "no unit"
            yield Miss("columns", f"column {column.name} is in {unit}, the job reads {column.unit}", told=True)


def _coverage(wanted: DataSet, entry: Entry) -> Iterable[Miss]:
    if wanted.coverage is None or not wanted.coverage.words:
        return
    if entry.coverage is None:
        yield Miss("coverage", f"{NOT_TOLD} by time and place", told=False)
    else:
        yield from (Miss("coverage", why, told=True) for why in covers(entry.coverage, wanted.coverage))
