"""What the schemas of documents that people write have in common: strict parts, their field types, and errors that help.

Text stays text ("10" is not 10), booleans are not numbers, and a field that nobody knows is an error that names the nearest one.
"""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Any, Final, Literal

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, ValidationError
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo

from federation.errors import InvalidManifest
from federation.identity.names import DATA_SET, DATA_SET_RULE, JURISDICTION, JURISDICTION_RULE, LABEL, LABEL_RULE
from federation.manifest.goals import checked_code
from federation.manifest.yaml_source import Path, Source

LARGEST_WHOLE: Final = 2**53 - 1
"""beyond it a number of canonical JSON (RFC 8785) is not exact"""
QUANTITY: Final = re.compile(r"([0-9]{1,15})(Ki|Mi|Gi|Ti|k|M|G|T)?")
UNITS: Final = {
    None: 1,
    "Ki": 1 << 10,
    "Mi": 1 << 20,
    "Gi": 1 << 30,
    "Ti": 1 << 40,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
}
Scalar = str | int | float | bool


def bytes_of(quantity: str) -> int:
    """Bytes of a Kubernetes-style quantity such as 512Mi or 1G. Raises ValueError."""
    match = QUANTITY.fullmatch(quantity)
    if not match:
        raise ValueError("is not a quantity such as 512Mi, 4Gi or 1G")
    return int(match[1]) * UNITS[match[2]]


def _quantity(value: str) -> str:
    bytes_of(value)
    return value


def _number(value: Any) -> Any:
    """Whole numbers are fine where a fraction may stand (RFC 8785 writes 100.0 as 100); booleans are not."""
    whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST_WHOLE
    return float(value) if whole else value


def _scalar(value: Any) -> Scalar:
    if not isinstance(value, (str, int, float, bool)):
        raise ValueError("should be a text, a number, or true or false")
    if not isinstance(value, (str, bool)) and not abs(value) <= LARGEST_WHOLE:
        raise ValueError("is larger than a signed document can hold exactly; write it as text")
    return value


def _readable(value: str) -> str:
    """People read it in terminals and on pages: no escape sequences, no half characters."""
    if not value.replace("\n", "").isprintable():
        raise ValueError("holds control characters or characters that cannot be shown")
    return value


def _in_one_line(value: str) -> str:
    if not value.isprintable():
        raise ValueError("holds line breaks, control characters, or characters that cannot be shown")
    return value


def _versions(value: str) -> str:
    try:
        SpecifierSet(value)
    except InvalidSpecifier:
        raise ValueError('is not a version range; write it as ">=2.4,<3", or "" for any') from None
    return value


def _once(value: list[str]) -> list[str]:
    for item in value:
        if value.count(item) > 1:
            raise ValueError(f"names {item} twice")
    return value


def _not_a_kind(value: str) -> str:
    """A figure is told from its kind by the first slash: evaluate/loss."""
    if value.partition("/")[0] in {"train", "evaluate"} and "/" in value:
        raise ValueError("begins with the kind of a figure: leave that out here")
    return value


_REFERENCE: Final = r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*"
REFERENCE: Final = re.compile(_REFERENCE)
"""An object in a module: "package.module:name"."""
SNAPSHOT: Final = r"^sha256:[0-9a-f]{64}$"

Label = Annotated[str, Field(pattern=f"^{LABEL.pattern}$")]
DataSetName = Annotated[str, Field(pattern=f"^{DATA_SET.pattern}$")]
DataSetNames = Annotated[list[DataSetName], Field(max_length=16), AfterValidator(_once)]
Labels = Annotated[list[Label], Field(max_length=1000), AfterValidator(_once)]
Reference = Annotated[str, Field(pattern=f"^{_REFERENCE}$", max_length=200)]
Quantity = Annotated[str, AfterValidator(_quantity)]
Number = Annotated[float, BeforeValidator(_number)]
Seconds = Annotated[float, BeforeValidator(_number), Field(gt=0, le=30 * 86_400)]
_HEX32: Final = r"^[0-9a-f]{64}$"
Hex32 = Annotated[str, Field(pattern=_HEX32)]
METRIC: Final = r"^[A-Za-z_][A-Za-z0-9_.\-]{0,63}(/[A-Za-z0-9_.\-]{1,63})?$"
"""One of a family has its own part after a slash: hits/0."""
FIGURE: Final = r"^((train|evaluate)/)?[A-Za-z_][A-Za-z0-9_.\-]{0,63}(/([A-Za-z0-9_.\-]{1,63}|\*))?$"
MetricName = Annotated[str, Field(pattern=METRIC), AfterValidator(_not_a_kind)]
FigureName = Annotated[str, Field(pattern=FIGURE)]
FigureNames = Annotated[list[FigureName], Field(max_length=256), AfterValidator(_once)]
USUAL_FIGURES: Final = ["train_loss", "loss", "eval_loss", "eval_acc", "accuracy"]
"""averages that tasks report under these names; a job lets them leave, and a lab allows them, where neither says otherwise"""
MetricNames = Annotated[list[MetricName], Field(max_length=32), AfterValidator(_once)]
EvaluationNames = Annotated[list[MetricName], Field(max_length=64), AfterValidator(_once)]
"""more: groups and bins of a final evaluation are figures of their own"""
Jurisdiction = Annotated[str, Field(pattern=f"^{JURISDICTION.pattern}$")]
Jurisdictions = Annotated[list[Jurisdiction], Field(max_length=1000), AfterValidator(_once)]
Text = Annotated[str, Field(max_length=2000), AfterValidator(_readable)]
Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_in_one_line)]
Names = Annotated[list[Name], Field(max_length=1000), AfterValidator(_once)]
Versions = Annotated[str, Field(max_length=200), AfterValidator(_versions)]
Setting = Annotated[Scalar, PlainValidator(_scalar)]
PurposeCode = Annotated[str, AfterValidator(checked_code)]
PurposeCodes = Annotated[list[PurposeCode], Field(max_length=200), AfterValidator(_once)]
_SCHEMA: Final = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[1-9][0-9]{0,5}$"
SchemaName = Annotated[str, Field(pattern=_SCHEMA)]
_LICENCE: Final = r"^[A-Za-z0-9][A-Za-z0-9.+\-]{0,63}$"
Licence = Annotated[str, Field(pattern=_LICENCE)]
LegalBasis = Literal[
    "consent",
    "contract",
    "legal-obligation",
    "vital-interests",
    "public-task",
    "legitimate-interests",
    "published-data",
    "no-personal-data",
]
"""The six of Article 6(1) of the GDPR, which other laws have under other numbers; data that is public by law; none personal."""


RULES: Final = {
    f"^{LABEL.pattern}$": LABEL_RULE,
    f"^{DATA_SET.pattern}$": f"a name of {DATA_SET_RULE}",
    f"^{JURISDICTION.pattern}$": JURISDICTION_RULE,
    METRIC: "a metric such as loss, or one of a family such as hits/0",
    FIGURE: "a metric such as loss, one kind of it such as evaluate/loss, or a family such as hits/*",
    f"^{_REFERENCE}$": 'an object in a module, such as "package.task:Net"',
    _HEX32: "a SHA-256 in 64 lower-case hex digits",
    SNAPSHOT: "sha256: and the 64 hex digits of a file's SHA-256",
    _SCHEMA: "a schema's name and version, such as heart-disease/1",
    _LICENCE: "the SPDX identifier of a licence, such as CC-BY-4.0",
}
"""what people read in place of a pattern"""


class Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, alias_generator=to_camel, allow_inf_nan=False, validate_default=False
    )


def part_type(annotation: Any) -> type[Part] | None:
    """The Part within an annotation such as ``Part | None`` or ``Annotated[Part, ...]``, if there is one."""
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    return next((item for item in candidates if isinstance(item, type) and issubclass(item, Part)), None)


def explained(source: Source, error: ValidationError, root: type[Part], where: str) -> InvalidManifest:
    """The first problem in the text, with its line, its field, and what to do; ``where`` tells people to read on."""
    problem = min(error.errors(include_url=False), key=lambda item: source.line_of(_path(item["loc"], source.value)))
    path = _path(problem["loc"], source.value)
    depth = next(
        (depth for depth in range(len(path)) if path[depth] not in _known_fields(root, path[:depth])), len(path)
    )
    see = where.format(field="".join(f".{part}" for part in path[:depth]))
    if problem["type"] == "extra_forbidden":
        known = sorted(_known_fields(root, path[:-1]))
        close = difflib.get_close_matches(str(path[-1]), known, 1)
        hint = f"Did you mean {close[0]}?" if close else f"Known here: {', '.join(known)}."
        return source.error("unknown field.", path, hint)
    if problem["type"] == "missing":
        return source.error("this field is missing.", path, see)
    shown = _shown(problem.get("input"))
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if problem["type"] == "string_pattern_mismatch" and (rule := RULES.get(problem["ctx"]["pattern"])):
        message = f"should be {rule}"
    elif problem["type"] in {"model_type", "dict_type"}:
        message = "should be a mapping"
    return source.error(f"{message}{shown}.", path, see)


def _shown(got: Any) -> str:
    if isinstance(got, bool):
        return f" (got {str(got).lower()})"
    if isinstance(got, str):
        return f" (got the text {got[:60]!r})"
    return f" (got {got})" if isinstance(got, (int, float)) and abs(got) < 10**30 else ""


def _path(location: tuple[int | str, ...], value: Any) -> Path:
    """Drops the parts that pydantic adds (for unions, for keys); keeps what stands, or is missing, in the document."""
    path: list[str | int] = []
    for part in location:
        in_mapping = isinstance(value, dict) and part in value
        if not in_mapping and not (isinstance(value, list) and isinstance(part, int) and part < len(value)):
            if isinstance(value, dict) and isinstance(part, str) and part not in {"str", "int", "float", "bool"}:
                path.append(part)
            break
        value = value[part]
        path.append(part)
    return tuple(path)


def _known_fields(root: type[Part], path: Path) -> set[str]:
    model: type[Part] | None = root
    for part in path:
        if model is None:
            return set()
        if isinstance(part, int):  # within a list, whose items have the fields of ``model``
            continue
        named = {field_name(name, item): item for name, item in model.model_fields.items()}
        model = part_type(named[part].annotation) if part in named else None
    return {field_name(name, item) for name, item in model.model_fields.items()} if model else set()


def field_name(name: str, field: FieldInfo) -> str:
    """As people write it: ``maxRounds``; or a word that Python keeps for itself, such as ``from``."""
    return field.alias or to_camel(name)
