"""How a lab describes a data set of its own, ``kind: DataSet``: what it holds, how its files are read, what of it is published.

All of it stays in the lab, but the fields that ``publish`` names; it names none where nothing is to leave.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from federation.catalogue.coverage import Coverage
from federation.catalogue.schema import checked
from federation.catalogue.words import MOST_COLUMNS, MOST_TAGS, ColumnName, Update
from federation.manifest.schema import DataSetName, Jurisdiction, LegalBasis, Licence, Name, Part, SchemaName, Text
from federation.manifest.yaml_source import read_yaml

DESCRIPTION_LIMIT: Final = 1 << 18
Published = Literal[
    "title",
    "description",
    "schema",
    "columns",
    "codes",
    "ranges",
    "size",
    "licence",
    "legalBasis",
    "tags",
    "jurisdiction",
    "coverage",
    "budget",
    "version",
    "updates",
    "releases",
]


def _once(value: list[str]) -> list[str]:
    for item in value:
        if value.count(item) > 1:
            raise ValueError(f"names {item} twice")
    return value


Tags = Annotated[list[Name], Field(max_length=MOST_TAGS), AfterValidator(_once)]


class Files(Part):
    """How the data are read for a check; tasks read them as they like."""

    format: Literal["csv", "npz", "images", "parquet", "other"] = Field(
        "csv", description="csv and npz are read cell by cell, images by their kind; of the others nothing is checked"
    )
    file: Name | None = Field(
        None, description="the table's file within the data set's folder; absent: the path itself"
    )
    header: Annotated[list[ColumnName], Field(max_length=MOST_COLUMNS)] | None = Field(
        None, description="csv: names of the columns, where the file's first line does not hold them"
    )
    delimiter: Literal[",", ";", "\t", "|"] = Field(",", description="csv: what stands between cells")
    encoding: Literal["utf-8", "latin-1", "cp1252"] = Field("utf-8", description="csv: of its letters")
    empty: Annotated[list[Annotated[str, Field(max_length=20)]], Field(max_length=16)] = Field(
        [""], description='csv: cells that hold nothing, such as "", "?" or "NA"'
    )


class Description(Part):
    title: Name | None = Field(None, description="what it is, in one line")
    description: Text = Field("", description="what people who may use it should know")
    schema_name: SchemaName | None = Field(
        None, alias="schema", description="the schema of its rows, whose file lies beside: heart-disease/1"
    )
    files: Files = Field(Files.model_validate({}), description="how its files are read; never published")
    licence: Licence | None = Field(None, description="the licence of the data, by its SPDX identifier")
    legal_basis: LegalBasis | None = Field(None, description="on what the lab holds and uses them")
    tags: Tags = Field([], description="tags that jobs may ask for, with those of node.yaml")
    jurisdiction: Jurisdiction | None = Field(None, description="whose law governs them; absent: the member's")
    coverage: Coverage | None = Field(None, description="of what time and which places they are")
    updates: Update = Field(
        "fixed",
        description="fixed: they stay as they are; appended: rows and files come, none goes; revised: anything may change",
    )
    publish: Annotated[list[Published], Field(max_length=32), AfterValidator(_once)] = Field(
        [], description="what leaves, with the name, when the lab publishes it; codes and ranges need columns"
    )


class DescriptionMetadata(Part):
    name: DataSetName = Field(description="the data set's name in node.yaml")


class DescriptionDocument(Part):
    api_version: Literal["concord/v1"] = Field(description="concord/v1")
    kind: Literal["DataSet"] = Field(description="DataSet")
    metadata: DescriptionMetadata = Field(description="which data set it describes")
    spec: Description = Field(description="what it is")

    @property
    def name(self) -> str:
        return self.metadata.name


def load_description(text: str, source: str) -> DescriptionDocument:
    """Raises InvalidManifest with file, line, field, and what to do."""
    read = read_yaml(text, source)
    if not isinstance(read.value, dict):
        raise read.error("a description is a mapping.", (), "Start with apiVersion: concord/v1 and kind: DataSet.")
    document = checked(read, DescriptionDocument, "See dataSet{field} in docs/reference/data-set.md.")
    spec = document.spec
    if spec.coverage is not None and spec.coverage.wrong:
        raise read.error(f"{spec.coverage.wrong}.", ("spec", "coverage"), "Change places.")
    for word in {"columns", "schema"} & set(spec.publish):
        if spec.schema_name is None:
            raise read.error(f"names {word}, and the data set has no schema.", ("spec", "publish"), "Name its schema.")
    if {"codes", "ranges"} & set(spec.publish) and "columns" not in spec.publish:
        raise read.error(
            "names codes or ranges without columns.", ("spec", "publish"), "Add columns, or leave them out."
        )
    if spec.files.header is not None and len(set(spec.files.header)) != len(spec.files.header):
        raise read.error("names a column twice.", ("spec", "files", "header"), "Names of columns come once.")
    return document
