"""Values drawn from a chart's own schema: what a stranger may give, with names that YAML reads as something else."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import jsonschema
from hypothesis import strategies as st

from tests.helm.charts import ROOT, Document

WORDS = (
    *(
        "true",
        "no",
        "on",
        "y",
        "null",
        "~",
        "123",
        "0123",
        "1e3",
        "0x1f",
        "1_0",
        "12:30",
        "inf",
        "nan",
        "1-1",
        "1.5",
        "-1",
    ),
    *("a", "a.b", "a-b", "data", "x" * 50, "x" * 63, "b/c", "example.org/gpu", "nvidia.com/gpu", "kubernetes.io/os"),
    *("2Gi", "500m", "1.5", "30s", "250ms", "10Mi", "20:00-06:00", "hub:7443", "192.0.2.7:443", "[fd00::7]:65535"),
    *("10.0.0.0/8", "192.0.2.10/32", "fd00::/16", "::1/128", "2001:db8::a:1/128", "0.0.0.0/0", "::/0"),
    *("sha256:" + "0" * 64, "images.example.org/concord", "localhost:5000/a/b-c", "0/0", "latest", "v1", "", "web.pem"),
    *("cpu", "memory", "hugepages-2Mi", "profiles/a.json", "ca.crt", "data-sets/x.yaml", "2026/clean", "Unconfined"),
    *("app.kubernetes.io/component", "helm.sh/chart", "container.apparmor.security.beta.kubernetes.io/agent"),
    *(
        "k8s.v1.cni.cncf.io/networks",
        "concord/policy",
        "a: b",
        "{}",
        "# no",
        "- x",
        "'",
        '"',
        "{{ .Values }}",
        "é",
        "a\nb",
    ),
)
RULES: dict[str, st.SearchStrategy[Any]] = {
    "leads": st.lists(st.sampled_from(["ana", "123", "no", "inf"]), unique=True, max_size=2),
    "minimumCohort": st.integers(3, 50),
    "jurisdictions": st.lists(st.sampled_from(["BR", "NO", "KE"]), unique=True, max_size=2),
    "askAbove": st.fixed_dictionaries({"rounds": st.integers(0, 10**12)}),
    "purposes": st.lists(st.sampled_from(["public-health", "1e3"]), unique=True, max_size=2),
}
"""of the vocabulary a few words; what each may be is the node's to say, and other tests' to try"""


@cache
def schema_of(chart: str) -> Document:
    return dict(json.loads((ROOT / "helm" / chart / "values.schema.json").read_text()))


def changes(chart: str, most: int = 6) -> st.SearchStrategy[Document]:
    """A few of a chart's values, each as its schema has it."""
    properties = schema_of(chart)["properties"]
    names = st.lists(st.sampled_from(sorted(properties)), unique=True, max_size=most)
    return names.flatmap(lambda chosen: st.fixed_dictionaries({name: _of(chart, _key(chart, name)) for name in chosen}))


def _key(chart: str, name: str) -> str:
    return json.dumps(schema_of(chart)["properties"][name], sort_keys=True)


@cache
def _of(chart: str, text: str) -> st.SearchStrategy[Any]:
    """``text``: a part of the schema. What it asks beyond types and names (if, not) is asked of what was drawn."""
    schema = json.loads(text)
    if "$ref" in schema:
        return _of(chart, json.dumps(schema_of(chart)["$defs"][schema["$ref"].rpartition("/")[2]], sort_keys=True))
    drawn = _drawn(chart, schema)
    if set(schema) & {"if", "allOf", "not"}:
        validator = jsonschema.Draft202012Validator({**schema, "$defs": schema_of(chart)["$defs"]})
        drawn = drawn.filter(validator.is_valid)
    return drawn


def _drawn(chart: str, schema: Document) -> st.SearchStrategy[Any]:
    def part(inner: Document) -> st.SearchStrategy[Any]:
        return _of(chart, json.dumps(inner, sort_keys=True))

    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        shared = {name: value for name, value in schema.items() if name != "anyOf"}
        return st.one_of([part({**shared, **one}) for one in schema["anyOf"]])
    kind = schema.get("type")
    if kind == "boolean":
        return st.booleans()
    if kind == "integer":
        return st.integers(schema.get("minimum", 0), schema.get("maximum", 1 << 31))
    if kind == "number":
        low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
        numbers = st.floats(low, schema.get("maximum", 1e6), exclude_min="exclusiveMinimum" in schema)
        return numbers.map(lambda value: round(value, 9)).filter(lambda value: value > low)
    if kind == "string":
        return _text(schema)
    if kind == "array":
        return st.lists(
            part(schema["items"]), min_size=schema.get("minItems", 0), max_size=min(schema.get("maxItems", 3), 3),
            unique_by=json.dumps if schema.get("uniqueItems") else None,
        )  # fmt: skip
    assert kind == "object", schema
    return _mapping(schema, part)


def _text(schema: Document) -> st.SearchStrategy[str]:
    pattern, least, most = schema.get("pattern", ""), schema.get("minLength", 0), schema.get("maxLength", 253)
    good = [word for word in WORDS if re.search(pattern, word) and least <= len(word) <= most and _whole(pattern, word)]
    assert good, schema
    return st.sampled_from(good)


def _whole(pattern: str, word: str) -> bool:
    """Python's $ stands before a last newline, too; that of Helm's engine does not."""
    return not (pattern.endswith("$") and word.endswith("\n"))


def _mapping(schema: Document, part: Any) -> st.SearchStrategy[Document]:
    properties, needed = schema.get("properties", {}), set(schema.get("required", ()))
    if set(properties) >= {"leads", "minimumCohort"}:
        return st.fixed_dictionaries({}, optional=RULES)
    if not properties and "patternProperties" in schema:
        ((pattern, inner),) = schema["patternProperties"].items()
        keys = [word for word in WORDS if re.fullmatch(pattern, word)]
        assert keys, pattern
        drawn: st.SearchStrategy[Document] = st.dictionaries(st.sampled_from(keys), part(inner), max_size=3)
        return (
            drawn
            if not needed
            else st.tuples(drawn, *(part(inner) for _ in needed)).map(
                lambda found: {**found[0], **dict(zip(sorted(needed), found[1:], strict=True))}
            )
        )
    if not properties:
        return st.just({})
    required = {name: part(inner) for name, inner in properties.items() if name in needed}
    optional = {name: part(inner) for name, inner in properties.items() if name not in needed}
    return st.fixed_dictionaries(required, optional=optional)
