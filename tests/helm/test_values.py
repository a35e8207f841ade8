"""Every value of a chart is commented and in the schema, which is closed; and the schema says what the comments say."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from pydantic.alias_generators import to_camel

from federation.policy.schema import VOCABULARY, NodeRules, PackDocument, PackMetadata, PolicyDocument, Rules
from tests.helm.charts import LEAST, ROOT, Document

CHARTS = sorted(LEAST)
FREE = {
    "global": {""},
}
"""what Kubernetes or the node checks itself"""


def schema_of(chart: str) -> Document:
    return dict(json.loads((ROOT / "helm" / chart / "values.schema.json").read_text()))


def commented(text: str) -> dict[tuple[str, ...], str]:
    """Path of each key with the comment lines right above it."""
    found, stack, held = {}, [""] * 0, []
    for line in text.splitlines():
        key = re.match(r"^( *)([A-Za-z]+):", line)
        comment = re.match(r"^ *# ?(.*)$", line)
        if comment:
            held.append(comment[1].strip())
            continue
        if key:
            stack = [*stack[: len(key[1]) // 2], key[2]]
            found[tuple(stack)] = " ".join(held)
        held = []
    return found


def leaves(values: Document, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in values.items():
        if isinstance(value, dict) and value and name not in {"labels", "podLabels", "policy", "resources"}:
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name)


def described(schema: Document, path: tuple[str, ...]) -> Document:
    for name in path:
        schema = schema["properties"][name]
    return schema


def objects(schema: Any, path: str = "") -> Iterator[tuple[str, Document]]:
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield path, schema
        for name, part in schema.items():
            yield from objects(part, f"{path}/{name}")
    elif isinstance(schema, list):
        for number, part in enumerate(schema):
            yield from objects(part, f"{path}/{number}")


@pytest.mark.parametrize("chart", CHARTS)
def test_every_value_has_a_comment_that_the_schema_repeats(chart: str) -> None:
    text = (ROOT / "helm" / chart / "values.yaml").read_text()
    comments, schema = commented(text), schema_of(chart)
    for path in leaves(yaml.safe_load(text)):
        told = comments[path]
        assert len(told) > 8, f"{'.'.join(path)} is not commented"
        assert told.endswith(described(schema, path)["description"]), ".".join(path)


@pytest.mark.parametrize("chart", CHARTS)
def test_the_schema_is_closed_and_has_every_value(chart: str) -> None:
    schema = schema_of(chart)
    values = yaml.safe_load((ROOT / "helm" / chart / "values.yaml").read_text())
    assert set(schema["properties"]) == set(values) | {"global"}
    for path, part in objects(schema):
        names = path.split("/properties/")
        if len(names) > 1 and names[1] in FREE and (names[-1] in FREE[names[1]] or names[1:] == ["global"]):
            continue
        assert "additionalProperties" in part, path
        more = part["additionalProperties"]
        assert more is False or (isinstance(more, dict) and more), path


def test_what_both_charts_say_they_say_in_the_same_words() -> None:
    """A chart can hold no template of another; what one refuses or confines, the other must, too."""
    for name in ("_helpers.tpl", "_common.tpl", "servicemonitor.yaml", "dashboards.yaml"):
        first, second = ((ROOT / "helm" / chart / "templates" / name).read_text() for chart in CHARTS)
        assert first == second, name
    first, second = (schema_of(chart)["$defs"] for chart in CHARTS)
    assert len(first.keys() & second.keys()) > 20
    assert {name: first[name] for name in first.keys() & second.keys()}.items() <= second.items()


def test_the_schema_knows_the_words_of_a_policy_that_the_node_knows() -> None:
    policy = described(schema_of("node-agent"), ("policy",))
    assert set(policy["properties"]) == {to_camel(name) for name in PolicyDocument.model_fields}
    assert set(described(policy, ("rules",))["properties"]) == {to_camel(name) for name in NodeRules.model_fields}
    (pack,) = described(schema_of("node-agent"), ("policyPacks",))["patternProperties"].values()
    assert set(pack["properties"]) == {to_camel(name) for name in PackDocument.model_fields}
    assert set(described(pack, ("rules",))["properties"]) == {to_camel(name) for name in Rules.model_fields}
    assert set(described(pack, ("metadata",))["properties"]) == {to_camel(name) for name in PackMetadata.model_fields}
    for document in (policy, pack):
        assert described(document, ("vocabulary",))["maximum"] == VOCABULARY


@pytest.mark.parametrize("chart", CHARTS)
def test_version_and_image_tag_are_the_products(chart: str) -> None:
    document = yaml.safe_load((ROOT / "helm" / chart / "Chart.yaml").read_text())
    assert document["name"] == f"concord-{chart}"
    assert f'version = "{document["appVersion"]}"' in (ROOT / "pyproject.toml").read_text()
    assert document["kubeVersion"] == ">=1.30.0-0"
