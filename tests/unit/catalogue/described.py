"""Descriptions, schemas and entries for the tests of the catalogue."""

from __future__ import annotations

from typing import Any

import yaml

from federation.catalogue.description import DescriptionDocument, load_description
from federation.catalogue.entry import Entry, Facts, entry_of
from federation.catalogue.schema import Schema, load_schema
from federation.manifest.document import DataSet

COLUMNS: list[dict[str, Any]] = [
    {"name": "age", "type": "integer", "unit": "a", "minimum": 0, "maximum": 120},
    {"name": "chol", "type": "number", "unit": "mg/dL", "minimum": 0, "nullable": True},
    {"name": "sex", "type": "category", "codes": {"0": "female", "1": "male"}},
    {"name": "seen", "type": "date"},
]
SPEC: dict[str, Any] = {
    "title": "Hearts of one town",
    "description": "Every patient of the ward.",
    "schema": "heart-disease/1",
    "licence": "CC-BY-4.0",
    "legalBasis": "public-task",
    "tags": ["cardiology"],
    "jurisdiction": "HU",
    "coverage": {"from": "1981-05", "to": "1987", "places": ["HU"]},
    "updates": "appended",
}


def schema_text(columns: list[dict[str, Any]] | None = None, name: str = "heart-disease/1") -> str:
    spec = {"name": name, "title": "Patients", "columns": COLUMNS if columns is None else columns}
    return yaml.safe_dump({"apiVersion": "concord/v1", "kind": "DataSchema", "spec": spec})


def schema(columns: list[dict[str, Any]] | None = None, name: str = "heart-disease/1") -> Schema:
    return load_schema(schema_text(columns, name), "schema.yaml")


def description_text(spec: dict[str, Any] | None = None, name: str = "szivek") -> str:
    document = {"apiVersion": "concord/v1", "kind": "DataSet", "metadata": {"name": name}}
    return yaml.safe_dump({**document, "spec": SPEC if spec is None else spec})


def description(name: str = "szivek", **changes: Any) -> DescriptionDocument:
    return load_description(description_text({**SPEC, **changes}, name), "szivek.yaml")


def entry(name: str = "szivek", **changes: Any) -> Entry:
    """All that a lab knows of a described data set."""
    about = description(name, **changes).spec
    facts = Facts(name, 1000, ("ward",), "HU", version=bytes(range(32)))
    return entry_of(facts, about, schema(name=about.schema_name) if about.schema_name else None)


def wanted(**words: Any) -> DataSet:
    return DataSet.model_validate(words)
