"""A schema: which columns rows have, of what type, in which unit, by which codes. Labs with one schema can train one model.

It has a name and a version ("heart-disease/1"), and a digest over all that is in it: who means the same has the same digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import Field, ValidationError

from federation.catalogue.words import MOST_CODES, MOST_COLUMNS, NUMBERS, ColumnName, ColumnType, Unit
from federation.identity.envelope import canonical
from federation.manifest.schema import Name, Number, Part, SchemaName, Text, explained
from federation.manifest.yaml_source import Source, read_yaml

SCHEMA_LIMIT: Final = 1 << 20
Problems = Iterator[tuple[str, tuple[str | int, ...], str]]
"""(what is wrong, where, what to do)"""
Document = TypeVar("Document", bound=Part)


class Column(Part):
    name: ColumnName = Field(description="as in the table's first line")
    type: ColumnType = Field(
        description="integer; number; boolean (true, false, 1, 0); category: one of codes; text; date (2026-01-31); datetime "
        "(RFC 3339); image: pixels, or any other array of numbers"
    )
    meaning: Text = Field("", max_length=300, description="what it is, in a few words")
    unit: Unit | None = Field(None, description="of an integer, number or image: a UCUM code such as a, mm[Hg], mg/dL")
    codes: dict[Name, Text] | None = Field(
        None, max_length=MOST_CODES, description="code: its meaning; all that may stand in a category or integer column"
    )
    minimum: Number | None = Field(None, description="of an integer, number or image: nothing lies below")
    maximum: Number | None = Field(None, description="nothing lies above")
    nullable: bool = Field(False, description="whether a cell may be empty")
    shape: Annotated[list[Annotated[int, Field(ge=1, le=1 << 20)]], Field(max_length=4)] | None = Field(
        None, description="of one image or array: such as [28, 28]"
    )


class SchemaBody(Part):
    name: SchemaName = Field(description="name and version: heart-disease/1. Another version is another schema")
    title: Name = Field(description="what rows are, for people")
    source: Text = Field("", max_length=300, description="where it is documented")
    columns: Annotated[list[Column], Field(min_length=1, max_length=MOST_COLUMNS)] = Field(description="in any order")


class Schema(Part):
    """The whole document."""

    api_version: Literal["concord/v1"] = Field(description="concord/v1")
    kind: Literal["DataSchema"] = Field(description="DataSchema")
    spec: SchemaBody = Field(description="what a row is")

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def columns(self) -> dict[str, Column]:
        return {column.name: column for column in self.spec.columns}

    @property
    def digest(self) -> bytes:
        """SHA-256 of its canonical JSON, columns by name: neither the order nor the file's layout is part of a schema."""
        columns = sorted(self.spec.columns, key=lambda column: column.name)
        body = self.spec.model_copy(update={"columns": columns})
        document: dict[str, Any] = body.model_dump(mode="json", by_alias=True, exclude_none=True)
        return hashlib.sha256(canonical(document)).digest()


def load_schema(text: str, source: str) -> Schema:
    """Raises InvalidManifest with file, line, field, and what to do."""
    read = read_yaml(text, source)
    if not isinstance(read.value, dict):
        raise read.error("a schema is a mapping.", (), "Start with apiVersion: concord/v1 and kind: DataSchema.")
    schema = checked(read, Schema, "See schema{field} in docs/reference/data-set.md.")
    for message, path, hint in problems(schema.spec.columns):
        raise read.error(message, ("spec", *path), hint)
    return schema


def checked(read: Source, kind: type[Document], where: str) -> Document:
    """The source's value as ``kind``. Raises InvalidManifest that names the first field that is wrong."""
    try:
        return kind.model_validate(read.value)
    except ValidationError as error:
        raise explained(read, error, kind, where) from error


def problems(columns: list[Column]) -> Problems:
    """What the fields of columns must be to one another."""
    seen: dict[str, int] = {}
    for index, column in enumerate(columns):
        at = ("columns", index)
        if column.name in seen:
            yield f"is the second column {column.name}.", (*at, "name"), "Names of columns come once."
        seen[column.name] = index
        measured = column.type in NUMBERS or column.type == "image"
        for field, value in (("unit", column.unit), ("minimum", column.minimum), ("maximum", column.maximum)):
            if value is not None and not measured:
                yield f"is of an integer, a number or an image, not of a {column.type}.", (*at, field), "Leave it out."
        if column.minimum is not None and column.maximum is not None and column.minimum > column.maximum:
            yield "is above maximum.", (*at, "minimum"), "Change places."
        if column.type == "category" and not column.codes:
            yield "is missing: a category is one of its codes.", (*at, "codes"), 'Such as {"0": no, "1": yes}.'
        if column.codes is not None and column.type not in {"category", "integer"}:
            yield f"is of a category or an integer, not of a {column.type}.", (*at, "codes"), "Leave it out."
        if column.type == "integer" and any(not _whole(code) for code in column.codes or ()):
            yield "names a code that is no whole number.", (*at, "codes"), "Make it a category."
        if column.shape is not None and column.type != "image":
            yield f"is of an image, not of a {column.type}.", (*at, "shape"), "Leave it out."


def _whole(code: str) -> bool:
    digits = code.removeprefix("-")
    return digits.isascii() and digits.isdigit()
