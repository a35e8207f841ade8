"""An entry: what a lab publishes of a data set. Its fields are the closed list below; a count, a path or a row has no field.

A node makes the same entry with every field for itself, and matches jobs against that; what leaves is the part that its lab chose.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AfterValidator, Field, ValidationError

from federation.catalogue.coverage import Coverage
from federation.catalogue.description import Description, Published
from federation.catalogue.schema import Column, Schema, problems
from federation.catalogue.words import MOST_COLUMNS, Update, is_size_class, size_class
from federation.errors import InvalidIdentity
from federation.identity.envelope import canonical
from federation.manifest.schema import (
    DataSetName,
    Hex32,
    Jurisdiction,
    LegalBasis,
    Licence,
    Name,
    Names,
    Number,
    Part,
    SchemaName,
    Text,
)
from federation.privacy.budget import Budget

MAX_ENTRY: Final = 1 << 17
EVERYTHING: Final[tuple[str, ...]] = get_args(Published)


def _size(value: int) -> int:
    if not is_size_class(value):
        raise ValueError("is not a size class: a power of two")
    return value


class PublishedBudget(Part):
    epsilon: Number = Field(gt=0, le=1e6, description="what all jobs together may spend")
    delta: Number = Field(gt=0, lt=1, description="the chance that it does not hold")
    unit: Annotated[str, Field(pattern="^(member|record)$")] = Field(description="whose traces it hides")


class EntrySchema(Part):
    name: SchemaName = Field(description="name and version")
    digest: Hex32 = Field(description="of all that is in it")


class Entry(Part):
    name: DataSetName = Field(description="the data set's name at this node")
    title: Name | None = Field(None, description="what it is, in one line")
    description: Text | None = Field(None, description="what people who may use it should know")
    schema_reference: EntrySchema | None = Field(None, alias="schema", description="the schema of its rows")
    columns: Annotated[list[Column], Field(max_length=MOST_COLUMNS)] | None = Field(
        None, description="its columns, by name; with codes and ranges where those are published"
    )
    size: Annotated[int, AfterValidator(_size)] | None = Field(
        None, description="a power of two: the data set has so many examples or more, and less than twice as many"
    )
    licence: Licence | None = Field(None, description="SPDX identifier")
    legal_basis: LegalBasis | None = Field(None, description="on what the lab holds and uses it")
    tags: Names | None = Field(None, description="tags that jobs may ask for")
    jurisdiction: Jurisdiction | None = Field(None, description="whose law governs it")
    coverage: Coverage | None = Field(None, description="of what time and which places it is")
    budget: PublishedBudget | None = Field(None, description="what jobs with differential privacy may spend")
    version: Hex32 | None = Field(None, description="changes when the data do; nobody but the lab can compute it")
    updates: Update | None = Field(None, description="fixed, appended or revised")
    releases: Literal[True] | None = Field(None, description="this entry may stand in releases that are for the public")

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return document

    @property
    def canonical(self) -> bytes:
        return canonical(self.document)

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.canonical).digest()

    @property
    def by_name(self) -> dict[str, Column] | None:
        """Its columns; None: not told."""
        return None if self.columns is None else {column.name: column for column in self.columns}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a node knows of a data set besides its description."""

    name: str
    examples: int
    tags: tuple[str, ...]
    jurisdiction: str
    """the member's; empty: not known"""
    budget: Budget | None = None
    version: bytes | None = None
    """as it may leave; None: not looked at"""


def entry_of(facts: Facts, description: Description | None, schema: Schema | None) -> Entry:
    """All that is known, for the lab's own eyes. Without a description: name, size, tags, jurisdiction and budget."""
    about = description or Description.model_validate({})
    budget = facts.budget
    document: dict[str, Any] = {
        "name": facts.name,
        "title": about.title,
        "description": about.description or None,
        "size": size_class(facts.examples),
        "licence": about.licence,
        "legalBasis": about.legal_basis,
        "tags": sorted({*facts.tags, *about.tags}),
        "jurisdiction": about.jurisdiction or facts.jurisdiction or None,
        "coverage": about.coverage,
        "version": facts.version.hex() if facts.version is not None else None,
        "updates": about.updates if description is not None else None,
        "releases": True if "releases" in about.publish else None,
    }
    if budget is not None:
        document["budget"] = {"epsilon": budget.epsilon, "delta": budget.delta, "unit": budget.unit}
    if schema is not None:
        document["schema"] = {"name": schema.name, "digest": schema.digest.hex()}
        document["columns"] = sorted(schema.spec.columns, key=lambda column: column.name)
    return Entry.model_validate(document)


def published(entry: Entry, words: Iterable[str]) -> Entry:
    """What leaves of ``entry``: its name, and the fields that ``words`` name. Fewer words never give more."""
    wanted = set(words)
    document = entry.document
    kept = {"name": document["name"]} | {
        field: value for field, value in document.items() if field in wanted and field in EVERYTHING
    }
    if "columns" in kept:
        dropped = {"codes"} - wanted | ({"minimum", "maximum"} if "ranges" not in wanted else set())
        kept["columns"] = [
            {field: value for field, value in column.items() if field not in dropped} for column in kept["columns"]
        ]
    return Entry.model_validate(kept)


def read_entry(document: object) -> Entry:
    """An entry out of a signed document, which a peer wrote. Raises InvalidIdentity."""
    try:
        entry = Entry.model_validate(document)
    except (ValidationError, RecursionError) as error:
        first = error.errors(include_url=False, include_input=False)[0] if isinstance(error, ValidationError) else None
        field = ".".join(str(part) for part in first["loc"])[:80] if first is not None else ""
        raise InvalidIdentity(
            f"An entry of the catalogue is malformed{f' ({field})' if field else ''}.",
            hint="It may come from another version of Concord.",
        ) from None
    if len(entry.canonical) > MAX_ENTRY:
        raise InvalidIdentity(f"An entry of the catalogue is larger than {MAX_ENTRY} bytes.")
    columns = entry.columns or []
    if [column.name for column in columns] != sorted({column.name for column in columns}):
        raise InvalidIdentity("The columns of an entry of the catalogue are not in order, each once.")
    # Codes may be left out where only columns are published.
    wrong = [message for message, path, _ in problems(columns) if path[-1] != "codes" or "missing" not in message]
    if wrong or (entry.coverage is not None and entry.coverage.wrong) or document != entry.document:
        raise InvalidIdentity("An entry of the catalogue contradicts itself, or leaves fields to their defaults.")
    return entry
