"""Reads YAML that people write, and remembers the line of every field.

A small part of YAML is enough and the rest is dangerous: duplicate keys, anchors and aliases, tags, several documents,
non-text keys, NaN and infinities are refused, as are documents over 1 MiB or deeper than 32 levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import yaml

from federation.errors import InvalidManifest

MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 32

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """``value``: mappings, lists and scalars. ``lines``: the line (from 1) of each path."""

    name: str
    value: Any
    lines: dict[Path, int]

    def line_of(self, path: Path) -> int:
        """The line of ``path``, or of the nearest parent that stands in the text."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def error(self, message: str, path: Path, hint: str = "") -> InvalidManifest:
        line = self.line_of(path)
        field = dotted(path)
        place = f"{self.name}:{line}: {field}: " if field else f"{self.name}:{line}: "
        return InvalidManifest(place + message, hint=hint, field=field, line=line)


def dotted(path: Path) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else part)
    return text


class _Loader(yaml.SafeLoader):
    """SafeLoader that turns only plain scalars into bool, int, float, null; dates stay text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(text: str, name: str) -> Source:
    """Raises InvalidManifest with the line and what to do."""
    if len(text.encode(errors="replace")) > MAX_BYTES:
        raise InvalidManifest(f"{name} is larger than {MAX_BYTES} bytes.", hint="A job document is a few dozen lines.")
    loader = None
    try:
        _refuse_anchors(text, name)
        loader = _Loader(text)
        node = loader.get_single_node()
        lines: dict[Path, int] = {}
        if node is None:
            raise InvalidManifest(f"{name} is empty.", hint="Start with apiVersion: concord/v1.", line=1)
        value = _convert(loader, node, (), lines, name)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = (mark.line + 1) if mark else 1
        raise InvalidManifest(
            f"{name}:{line}: not valid YAML: {error.problem or error.context}.",
            hint="Check indentation, colons and quotes there.",
            line=line,
        ) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InvalidManifest(
            f"{name} is not valid YAML.", hint="It must be UTF-8 text without control characters."
        ) from error
    finally:
        if loader is not None:
            loader.dispose()
    return Source(name, value, lines)


def _refuse_anchors(text: str, name: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise InvalidManifest(
                f"{name}:{line}: anchors and aliases are not allowed.",
                hint="Write the value out where it is used.",
                line=line,
            )
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise InvalidManifest(f"{name}:{line}: nested deeper than {MAX_DEPTH} levels.", line=line)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _convert(loader: _Loader, node: yaml.Node, path: Path, lines: dict[Path, int], name: str) -> Any:
    line = node.start_mark.line + 1
    lines.setdefault(path, line)
    if isinstance(node, yaml.MappingNode):
        return _mapping(loader, node, path, lines, name)
    if isinstance(node, yaml.SequenceNode):
        return [_convert(loader, child, (*path, index), lines, name) for index, child in enumerate(node.value)]
    allowed = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null")}
    if node.tag not in allowed:
        raise InvalidManifest(
            f"{name}:{line}: {dotted(path)}: the tag {node.tag} is not allowed.", hint="Write a plain value.", line=line
        )
    value = loader.construct_object(node)
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidManifest(
            f"{name}:{line}: {dotted(path)}: not a finite number.",
            hint="Write a number.",
            field=dotted(path),
            line=line,
        )
    return value


def _mapping(loader: _Loader, node: yaml.MappingNode, path: Path, lines: dict[Path, int], name: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
            raise InvalidManifest(
                f"{name}:{line}: a field name is not text.",
                hint="Put it in quotes if it is meant as a name.",
                line=line,
            )
        key = str(key_node.value)
        child = (*path, key)
        if key in result:
            raise InvalidManifest(
                f"{name}:{line}: {dotted(child)} stands twice (first on line {lines[child]}).",
                hint="Keep one of the two.",
                field=dotted(child),
                line=line,
            )
        lines[child] = line
        result[key] = _convert(loader, value_node, child, lines, name)
    return result
