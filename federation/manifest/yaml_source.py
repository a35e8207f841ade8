"""Reads YAML that people write, and remembers the line of every field.

A small part of YAML is enough and the rest is dangerous: duplicate keys, anchors and aliases, merge keys, tags, directives, several
documents, non-text keys, NaN and infinities are refused, as are documents over 1 MiB or deeper than 32 levels. So is what two
readers may read in two ways: numbers that YAML 1.1 and 1.2 read differently or that are not written plainly (1e3, 0x10, 010, 1_000,
22:30), and characters that people do not see, or that turn what follows (Unicode's bidirectional controls).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Final

import yaml

from federation.errors import InvalidManifest

MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 32
MAX_DIGITS: Final = 400
HIDDEN: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\U000e0000-\U000e0fff]|\r(?!\n)"
)
"""Controls, what is not shown, what turns the direction of text, and line breaks that only some programs see. Joiners (U+200C and
U+200D) belong to the writing of many languages."""
CANONICAL: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE]-[0-9]+)?")
NUMBERS: Final = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"  # decimal
    r"|[-+]?0[xX][0-9a-fA-F_]+|[-+]?0[oO][0-7_]+|[-+]?0[bB][01_]+"  # of another base
    r"|[-+]?[0-9][0-9_]*_[0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?|[-+]?[0-9]+\.[0-9]*_[0-9_]*([eE][-+]?[0-9]+)?"
    r"|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"  # of base sixty
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
"""what some reader of YAML takes for a number"""
PLAINLY: Final = "Write it out, such as 1000, 0.5 or 1e-6; in quotes if it is meant as text."
MERGE: Final = "<<"

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
    """SafeLoader with the plain scalars of YAML 1.2's core schema.

    YAML 1.1 would read the country code NO as false, 1e-3 as text, 010 as eight, and 22:30 as a number of minutes.
    """


_Loader.yaml_implicit_resolvers = {}
TAG: Final = "tag:yaml.org,2002:"
PLAIN: Final = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
)
for _kind, _pattern, _first in PLAIN:
    _Loader.add_implicit_resolver(TAG + _kind, re.compile(f"^(?:{_pattern})$"), list(_first))


def read_yaml(text: str, name: str) -> Source:
    """Raises InvalidManifest with the line and what to do."""
    if len(text.encode(errors="replace")) > MAX_BYTES:
        raise InvalidManifest(f"{name} is larger than {MAX_BYTES} bytes.", hint="A job document is a few dozen lines.")
    _refuse_hidden(text, name)
    loader = None
    try:
        _refuse_events(text, name)
        loader = _Loader(text)
        node = loader.get_single_node()
        lines: dict[Path, int] = {}
        if node is None:
            raise InvalidManifest(f"{name} is empty.", hint="Start with apiVersion: concord/v1.", line=1)
        value = _convert(node, (), lines, name)
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


class _Dumper(yaml.SafeDumper):
    """Quotes each text that some reader would take for a number, or for a merge key."""


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "'" if NUMBERS.fullmatch(text) or text == MERGE else None
    return dumper.represent_scalar(TAG + "str", text, style=style)


_Dumper.add_representer(str, _text_node)


def write_yaml(document: Any) -> str:
    """What ``read_yaml`` reads back as it was, for documents that programs write."""
    text = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False) if HIDDEN.search(text) else text


def _refuse_hidden(text: str, name: str) -> None:
    if (found := HIDDEN.search(text)) is not None:
        line = text.count("\n", 0, found.start()) + 1
        raise InvalidManifest(
            f"{name}:{line}: not valid YAML: it holds the hidden character U+{ord(found[0][0]):04X}.",
            hint="Delete it: people would read the line otherwise than the node.",
            line=line,
        )


def _refuse_events(text: str, name: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise InvalidManifest(
                f"{name}:{line}: anchors and aliases are not allowed.",
                hint="Write the value out where it is used.",
                line=line,
            )
        if (tag := getattr(event, "tag", None)) is not None:
            raise InvalidManifest(
                f"{name}:{line}: the tag {str(tag).replace(TAG, '!!')[:80]} is not allowed: what a tag names, a plain value "
                "is by itself.",
                hint="Take the tag out.",
                line=line,
            )
        if isinstance(event, yaml.DocumentStartEvent) and (event.version or event.tags):
            raise InvalidManifest(f"{name}:{line}: directives are not allowed.", hint="Take the line out.", line=line)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise InvalidManifest(
                    f"{name}:{line}: nested deeper than {MAX_DEPTH} levels.", hint="Nest less.", line=line
                )
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _convert(node: yaml.Node, path: Path, lines: dict[Path, int], name: str) -> Any:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode) and node.tag == TAG + "map":
        return _mapping(node, path, lines, name)
    if isinstance(node, yaml.SequenceNode) and node.tag == TAG + "seq":
        return [_convert(child, (*path, index), lines, name) for index, child in enumerate(node.value)]
    try:
        return _scalar(node)
    except ValueError as error:
        line = node.start_mark.line + 1
        field = dotted(path)
        raise InvalidManifest(
            f"{name}:{line}: {field}: {error}." if field else f"{name}:{line}: {error}.",
            hint=PLAINLY,
            field=field,
            line=line,
        ) from None


def _scalar(node: yaml.Node) -> str | int | float | bool | None:
    text, kind = str(node.value), node.tag.removeprefix(TAG)
    if not isinstance(node, yaml.ScalarNode) or kind not in {"str", "int", "float", "bool", "null"}:
        raise ValueError(f"the tag {node.tag[:80]} is not allowed")
    plain = node.style is None
    if plain and NUMBERS.fullmatch(text) and not CANONICAL.fullmatch(text):
        finite = "not a finite number" if "n" in text.lower() else "a number that is not written plainly"
        raise ValueError(f"{text[:60]} is {finite}")
    if kind == "str":
        return text
    if not any(name == kind and re.fullmatch(pattern, text) for name, pattern, _ in PLAIN):
        raise ValueError(f"{text[:60]!r} is not a value of the type that its tag names")
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if len(text) > MAX_DIGITS:
        raise ValueError("the number has too many digits")
    if kind == "int":
        return int(text)
    value = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    if not math.isfinite(value):
        raise ValueError("not a finite number")
    return value


def _mapping(node: yaml.MappingNode, path: Path, lines: dict[Path, int], name: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != TAG + "str":
            raise InvalidManifest(
                f"{name}:{line}: a field name is not text.",
                hint="Put it in quotes if it is meant as a name.",
                line=line,
            )
        key = str(key_node.value)
        if key == MERGE and key_node.style is None:
            raise InvalidManifest(
                f"{name}:{line}: merge keys are not allowed.", hint="Write the fields out where they belong.", line=line
            )
        child = (*path, key)
        if key in result:
            raise InvalidManifest(
                f"{name}:{line}: {dotted(child)[:200]} stands twice (first on line {lines[child]}).",
                hint="Keep one of the two.",
                field=dotted(child),
                line=line,
            )
        lines[child] = line
        result[key] = _convert(value_node, child, lines, name)
    return result
