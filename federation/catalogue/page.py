"""docs/reference/data-set.md, generated from the schemas of the catalogue; a test compares."""

from __future__ import annotations

from collections.abc import Iterator

from federation.catalogue.description import DescriptionDocument
from federation.catalogue.entry import MAX_ENTRY, Entry
from federation.catalogue.schema import Schema
from federation.catalogue.statement import LASTS, MOST_ENTRIES
from federation.catalogue.words import MOST_CODES, MOST_COLUMNS, UNITS
from federation.manifest.explain import fields, table


def reference_page() -> str:
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield from (
        "# Data sets",
        "",
        "Generated from the schemas in `federation/catalogue/`; a test compares. How to use them:",
        "[describe a data set](../how-to/describe-data.md).",
        "",
        "A lab describes a data set in two documents, which stay in its node's home: what its rows are (`DataSchema`, the same",
        "file at every lab that means the same), and what it holds of them (`DataSet`). Of these it publishes an **entry**, whose",
        "fields it chooses. Of YAML the same core is read as for [a job](job.md), and unknown fields are refused.",
        "",
        "## A schema",
        "",
        "Two schemas with one name are one schema where their digests agree: a SHA-256 over the canonical JSON of `spec`, with its",
        f"columns in the order of their names. At most {MOST_COLUMNS} columns, and {MOST_CODES} codes of each.",
        "",
        "```yaml",
        "apiVersion: concord/v1",
        "kind: DataSchema",
        "spec:",
        "  name: heart-disease/1",
        "  title: Patients who were examined for heart disease, one a row",
        "  columns:",
        "    - {name: age, type: integer, unit: a, minimum: 0, maximum: 120}",
        '    - {name: sex, type: category, codes: {"0": female, "1": male}}',
        "    - {name: chol, type: number, unit: mg/dL, nullable: true}",
        "```",
        "",
        *table(fields(Schema, "schema")),
        "",
        "## A description",
        "",
        "```yaml",
        "apiVersion: concord/v1",
        "kind: DataSet",
        "metadata: {name: hearts}",
        "spec:",
        "  title: Hearts of one town",
        "  schema: heart-disease/1",
        "  legalBasis: public-task",
        '  coverage: {from: "1981-05", to: "1987", places: [HU]}',
        "  publish: [title, schema, columns, size, legalBasis]",
        "```",
        "",
        *table(fields(DescriptionDocument, "dataSet")),
        "",
        "## An entry",
        "",
        "What leaves, signed by the node in one document of all its entries; a data set that is no longer in it is withdrawn. At",
        f"most {MOST_ENTRIES} entries of {MAX_ENTRY >> 10} KiB. The document ends after {LASTS.days} days; a running node signs a",
        "new one before.",
        "",
        *table(fields(Entry, "entry")),
        "",
        "## Units",
        "",
        "Codes of [UCUM](https://ucum.org), these and no others:",
        "",
        "| unit | meaning |",
        "|---|---|",
        *(f"| `{code}` | {meaning} |" for code, meaning in UNITS.items()),
    )
