"""The files in which a lab describes its data sets: ``data-sets/NAME.yaml`` in the node's home, ``data-sets/schemas/`` beside them.

A file that is not in order is an error and no description: a node does not start with half of what its lab wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from federation.catalogue.description import DESCRIPTION_LIMIT, Description, DescriptionDocument, load_description
from federation.catalogue.schema import SCHEMA_LIMIT, Schema, load_schema
from federation.errors import InvalidManifest, InvalidUsage, NotFound
from node_agent.store.files import private_folder, write_together

FOLDER: Final = "data-sets"


@dataclass(frozen=True, slots=True)
class Described:
    """What a lab's files say of a data set; nothing where it wrote none."""

    description: Description | None = None
    schema: Schema | None = None


UNDESCRIBED: Final = Described()


def read_description(root: Path, name: str, file: str | None) -> Described:
    """``file``: as in node.yaml, from ``root``. Raises InvalidManifest or InvalidUsage that says what and where."""
    if file is None:
        return UNDESCRIBED
    path = root / file
    document = _for(name, load_description(read_text(path, DESCRIPTION_LIMIT), str(path)), path)
    wanted = document.spec.schema_name
    if wanted is None:
        return Described(document.spec)
    place = schema_file(path.parent, wanted)
    try:
        text = read_text(place, SCHEMA_LIMIT)
    except NotFound as error:
        raise NotFound(
            f"{path} names the schema {wanted}, and {place} is missing.",
            hint=f"Give it once: concord-node data describe {name} --schema FILE",
        ) from error
    schema = load_schema(text, str(place))
    if schema.name != wanted:
        raise InvalidManifest(
            f"{place} holds the schema {schema.name}, and {wanted} belongs there.",
            hint="Put back the file that was there.",
        )
    return Described(document.spec, schema)


def schema_file(folder: Path, name: str) -> Path:
    """``name``: checked, such as heart-disease/1; it leads nowhere else."""
    word, _, version = name.partition("/")
    return folder / "schemas" / f"{word}-{version}.yaml"


def keep(root: Path, name: str, description: Path | None, schemas: tuple[Path, ...]) -> tuple[str, Described]:
    """Copies what people wrote into the home, once it is in order. Returns what node.yaml says of it, and what it says.

    Raises InvalidManifest, InvalidUsage or NotFound, and changes nothing then.
    """
    folder = root / FOLDER
    fresh: dict[Path, bytes] = {}
    known: dict[str, Schema] = {}
    for path in schemas:
        text = read_text(path, SCHEMA_LIMIT)
        schema = load_schema(text, str(path))
        place = schema_file(folder, schema.name)
        _unchanged(place, schema)
        known[schema.name] = schema
        fresh[place] = text.encode()
    held = folder / f"{name}.yaml"
    source = description or held
    if description is None and not held.exists():
        raise NotFound(
            f"The data set {name} has no description yet.",
            hint=f"Write one (docs/how-to/describe-data.md), then: concord-node data describe {name} --description FILE",
        )
    text = read_text(source, DESCRIPTION_LIMIT)
    document = _for(name, load_description(text, str(source)), source)
    fresh[held] = text.encode()
    described = _with_schema(document, known, folder, name)
    private_folder(folder / "schemas")
    write_together(fresh)
    return f"{FOLDER}/{name}.yaml", described


def _with_schema(document: DescriptionDocument, known: Mapping[str, Schema], folder: Path, name: str) -> Described:
    wanted = document.spec.schema_name
    if wanted is None:
        return Described(document.spec)
    if wanted in known:
        return Described(document.spec, known[wanted])
    place = schema_file(folder, wanted)
    if not place.exists():
        raise NotFound(
            f"The description of {name} names the schema {wanted}, which this node does not have.",
            hint="Give its file, too: --schema FILE",
        )
    return Described(document.spec, load_schema(read_text(place, SCHEMA_LIMIT), str(place)))


def _unchanged(place: Path, schema: Schema) -> None:
    """A version of a schema never changes: other columns are another version."""
    if place.exists() and load_schema(read_text(place, SCHEMA_LIMIT), str(place)).digest != schema.digest:
        raise InvalidUsage(
            f"This node has a schema {schema.name} already, with other columns.",
            hint="Raise the version in its name, or take the file that the other laboratories have.",
        )


def _for(name: str, document: DescriptionDocument, path: Path) -> DescriptionDocument:
    if document.name != name:
        raise InvalidManifest(
            f"{path}: metadata.name: describes {document.name}, and the data set is {name}.",
            hint="Write the name by which this node knows the data set.",
            field="metadata.name",
        )
    return document


def read_text(path: Path, limit: int) -> str:
    """Raises NotFound, or InvalidUsage for what is too large or no UTF-8."""
    try:
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise NotFound(f"{path} cannot be read: {error.strerror}.", hint="Give a file that is there.") from None
    if len(data) > limit:
        raise InvalidUsage(f"{path} is larger than {limit >> 10} KiB.", hint="Is it the right file?")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidUsage(f"{path} is not UTF-8 text.", hint="Save it as UTF-8.") from None
