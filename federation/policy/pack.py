"""A policy file as it was read: which words it says, on which lines, which pack it is. Unknown words are refused, not skipped."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final, TypeVar

from pydantic import ValidationError
from pydantic.alias_generators import to_camel

from federation.errors import InvalidManifest
from federation.identity.envelope import canonical
from federation.manifest.schema import Part, explained, part_type
from federation.manifest.yaml_source import Path, Source, dotted, read_yaml
from federation.policy.schema import VOCABULARY, PackDocument, PolicyDocument
from federation.policy.verdict import Layer, PackReference
from federation.policy.vocabulary import WORDS

SEE: Final = "See policy{field} in docs/reference/policy.md."
MAX_PACKS: Final = 64
Document = TypeVar("Document", bound=Part)


@dataclass(frozen=True, slots=True)
class Pack:
    name: str
    layer: Layer
    serial: int
    """0: the lab's own file"""
    digest: bytes = field(repr=False)
    """SHA-256 of what it says: two texts that say the same have one digest"""
    values: Mapping[str, Any]
    """each word that it says, as ``vocabulary`` names it"""
    lines: Mapping[str, int] = field(repr=False)
    vocabulary: int
    said: frozenset[str]
    """those of ``values`` that stand in the text; the others are defaults"""
    title: str = ""

    @property
    def reference(self) -> PackReference:
        return PackReference(self.name, self.layer, self.serial, self.digest)


@dataclass(frozen=True, slots=True)
class Unread:
    """A pack that this node has and cannot follow: until it can, every job is denied."""

    source: str
    layer: Layer
    sentence: str


def load_pack(text: str, source: str) -> Pack:
    """A ``PolicyPack``. Raises InvalidManifest with file, line, field, and what to do; "update needed" where it is in a newer
    vocabulary, or in a word that this node does not know."""
    read = checked(text, source, PackDocument)
    document = validated(read, PackDocument)
    about = document.metadata
    return pack_of(read, document, about.name, about.layer, about.serial, about.title)


def load_base_pack(data: bytes, source: str) -> Pack:
    """The pack of a charter, as members adopt it. Raises InvalidManifest also for a pack of another layer."""
    try:
        pack = load_pack(data.decode(), source)
    except UnicodeDecodeError:
        raise InvalidManifest(f"{source} is not UTF-8 text.", hint="Save it as UTF-8.") from None
    if pack.layer != "base":
        raise InvalidManifest(
            f"{source}: its layer is {pack.layer}, and that of a charter's pack is base.", hint="Say layer: base."
        )
    return pack


def pack_of(
    read: Source,
    document: PackDocument | PolicyDocument,
    name: str,
    layer: Layer,
    serial: int,
    title: str = "",
) -> Pack:
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for word in WORDS:
        holder: Part = document if word.at_top else document.rules
        value = getattr(holder, _field(holder, word.name))
        if value is not None:
            values[word.name] = value
            lines[word.name] = read.line_of((word.name,) if word.at_top else ("rules", word.name))
    said = {
        "name": name,
        "layer": layer,
        "serial": serial,
        "vocabulary": document.vocabulary,
        "words": {word: _said(value) for word, value in values.items()},
    }
    digest = hashlib.sha256(canonical(said)).digest()
    stated = frozenset(
        word.name for word in WORDS if ((word.name,) if word.at_top else ("rules", word.name)) in read.lines
    )
    return Pack(name, layer, serial, digest, values, lines, document.vocabulary, stated, title)


def _said(value: Any) -> Any:
    """As canonical JSON takes it; lists are sets."""
    if isinstance(value, Part):
        parts = value.model_dump(by_alias=True, exclude_none=True)
        return {name: _said(part) for name, part in parts.items()}
    return sorted((_said(item) for item in value), key=repr) if isinstance(value, list) else value


def checked(text: str, source: str, model: type[Part]) -> Source:
    """The YAML, in a vocabulary and in words that this node knows, each with a value."""
    read = read_yaml(text, source)
    if not isinstance(read.value, dict):
        raise read.error("a policy is a mapping.", (), "Start with apiVersion: concord/v1 and kind: NodePolicy.")
    written = read.value.get("vocabulary", 1)
    if isinstance(written, int) and not isinstance(written, bool) and written > VOCABULARY:
        raise read.error(
            f"update needed: it is written in vocabulary {written}, and this node knows {VOCABULARY}.",
            ("vocabulary",),
            "Update this node; until then it agrees to nothing under this file.",
        )
    for path, known in sorted(_unknown(read.value, model, ()), key=lambda found: read.line_of(found[0])):
        close = difflib.get_close_matches(str(path[-1]), known, 1)
        hint = f"Did you mean {close[0]}?" if close else f"Known here: {', '.join(known)}."
        if model is PolicyDocument:
            newer = f"If it is newer than this node, an update is needed: this one knows vocabulary {VOCABULARY}."
            raise read.error("unknown field.", path, f"{hint} {newer}")
        unknown = f"update needed: {dotted(path)[:120]} is an unknown field, no word of vocabulary {VOCABULARY}."
        raise read.error(unknown, path, hint)
    for path in _empty(read.value, ()):
        raise read.error(
            "stands there without a value.", path, "Give it one, or take the word out: a rule is not half said."
        )
    return read


def validated(read: Source, model: type[Document]) -> Document:
    try:
        return model.model_validate(read.value)
    except ValidationError as error:
        raise explained(read, error, model, SEE) from error


def own_name(source: str) -> str:
    """A file's name without the folders of the lab."""
    return PurePosixPath(source).name or source


def _field(part: Part, name: str) -> str:
    return next(field for field in type(part).model_fields if to_camel(field) == name)


def _unknown(value: Any, model: type[Part] | None, path: Path) -> Iterator[tuple[Path, list[str]]]:
    if model is None or not isinstance(value, dict):
        return
    named = {to_camel(name): info for name, info in model.model_fields.items()}
    for key, inner in value.items():
        if key not in named:
            yield (*path, key), sorted(named)
        else:
            yield from _unknown(inner, part_type(named[key].annotation), (*path, key))


def _empty(value: Any, path: Path) -> Iterator[Path]:
    if value is None:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _empty(inner, (*path, key))
