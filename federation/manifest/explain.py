"""What each field of a job document means, from its schema: for ``concord explain`` and docs/reference/job.md."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import PydanticUndefined

from federation.errors import NotFound
from federation.manifest.document import JobDocument
from federation.manifest.schema import Part, field_name, part_type

DOCUMENTS: Final = {
    "job": "a TrainingJob document",
    "study": "a Study document",
    "policy": "a NodePolicy document",
    "schema": "a DataSchema document",
    "dataSet": "a DataSet document",
}


@dataclass(frozen=True, slots=True)
class Field:
    path: str
    """dotted, beginning with job"""
    kind: str
    default: str
    """empty: the field is required"""
    meaning: str
    parent: bool


def fields(document: type[Part] = JobDocument, prefix: str = "job") -> tuple[Field, ...]:
    """Every field, parents before children."""
    return tuple(_walk(document, prefix))


def explain(path: str, more: Mapping[str, tuple[Field, ...]] | None = None) -> str:
    """The field at ``path`` (such as job.spec.rounds) and those under it, as text; ``more``: fields of other documents, by the
    word that their paths begin with. What begins with none of these is of a job. Raises NotFound."""
    documents = {"job": fields(), **(more or {})}
    wanted = path.strip().strip(".") or "job"
    root = wanted.partition(".")[0]
    if root not in documents:
        if close := difflib.get_close_matches(wanted, documents, 1):
            raise NotFound(f"There is no document {wanted}.", hint=f"Did you mean {close[0]}?")
        root, wanted = "job", f"job.{wanted}"
    known = {item.path: item for item in documents[root]}
    if wanted != root and wanted not in known:
        close = difflib.get_close_matches(wanted, known, 1)
        raise NotFound(
            f"There is no field {wanted}.",
            hint=f"Did you mean {close[0]}?"
            if close
            else f"Try: concord explain {root}. Documents: {', '.join(documents)}.",
        )
    chosen = [item for item in known.values() if item.path == wanted or item.path.startswith(f"{wanted}.")]
    lines = [] if wanted != root else [f"{root}: {DOCUMENTS.get(root, 'a document')} (apiVersion: concord/v1)"]
    for item in chosen:
        default = f", default {item.default}" if item.default else ("" if item.parent else ", required")
        lines.append(f"{item.path} ({item.kind}{default})\n    {item.meaning}")
    return "\n".join(lines)


def reference_page() -> str:
    """docs/reference/job.md."""
    lines = [
        "# The job document",
        "",
        "Generated from the schema in `federation/manifest/document.py`; a test compares. `concord explain job` prints the same.",
        "",
        "A job states five things of its own; the rest are defaults, which `concord describe` shows:",
        "",
        "```yaml",
        "apiVersion: concord/v1",
        "kind: TrainingJob",
        "metadata: {name: digits}",
        "spec:",
        "  app: ./digits",
        "  dataSet: digits",
        "```",
        "",
        "Of YAML 1.2 the core is read: `no` is a country, `1e-3` a number, `2026-01-31` a text. Refused, with line and field:",
        "unknown or repeated fields, anchors and aliases, merge keys, tags, several documents, numbers that two readers may read",
        "in two ways (`1e3`, `010`, `0x10`, `1_000`, `22:30`: write them out, or in quotes), hidden characters, more than 1 MiB or",
        "32 levels.",
        "",
        *table(fields()),
    ]
    return "\n".join(lines) + "\n"


def table(listed: Iterable[Field]) -> Iterator[str]:
    """Lines of a Markdown table."""
    yield "| field | type | default | meaning |"
    yield "|---|---|---|---|"
    for item in listed:
        default = f"`{item.default}`" if item.default else ("" if item.parent else "required")
        meaning = item.meaning.replace("|", "\\|")
        yield f"| `{item.path}` | {item.kind} | {default} | {meaning} |"


def _walk(model: type[Part], prefix: str) -> Iterator[Field]:
    for name, info in model.model_fields.items():
        path = f"{prefix}.{field_name(name, info)}"
        inner = part_type(info.annotation)
        default = "" if info.default is PydanticUndefined or inner else _shown(info.default)
        yield Field(
            path, "object" if inner else _kind(info.annotation), default, info.description or "", inner is not None
        )
        if inner:
            yield from _walk(inner, path)


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return '""' if value == "" else str(value)


def _kind(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(str(item) for item in arguments)
    if origin is typing.Annotated:
        return _kind(arguments[0])
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(dict.fromkeys(_kind(item) for item in arguments if item is not type(None)))
    if origin is tuple:
        return "[" + ", ".join(_kind(item) for item in arguments) + "]"
    if origin is list:
        return f"list of {_kind(arguments[0])}"
    if origin is dict:
        return f"mapping to {_kind(arguments[1])}"
    names = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return names.get(annotation, "object")
