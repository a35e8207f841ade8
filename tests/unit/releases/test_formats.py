"""The files that strangers' tools read: a bill of materials by CycloneDX's own schema, a statement by the pages of in-toto."""

import base64
import hashlib
import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cyclonedx.schema
import jsonschema
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from referencing import Registry, Resource

from federation.releases.listing import BOM, LISTING, MODEL, SEALED, STATEMENT
from federation.releases.statement import PREDICATE_TYPE
from tests.unit.releases.released import BLIND, JOB, VOTED, Files, trained, whole

RICH = JOB.replace(
    "  coordinatorView: sum",
    "  coordinatorView: sum\n  purposes: [health]\n  release: {licence: CC-BY-4.0, audience: public}\n"
    "  gates: {worstGroup: [{figures: hits, atLeast: 0.1}]}",
).replace("evaluate: [accuracy]", "evaluate: [accuracy, hits/0, hits/1]")
SCHEMAS = Path(cyclonedx.schema.__file__).parent / "_res"


@cache
def _made(text: str) -> Files:
    with TemporaryDirectory() as folder:
        world = trained(text=text, charter=VOTED)
        return whole(world.release(Path(folder), decision=world.decided("m1", "m2")))


def schema(name: str) -> dict[str, Any]:
    return dict(json.loads((SCHEMAS / f"{name}.SNAPSHOT.schema.json").read_text()))


@cache
def validator() -> Any:
    resources = [
        (f"http://cyclonedx.org/schema/{name}.SNAPSHOT.schema.json", Resource.from_contents(schema(name)))
        for name in ("spdx", "jsf-0.82")
    ]
    return jsonschema.Draft7Validator(schema("bom-1.6"), registry=Registry().with_resources(resources))


@pytest.mark.parametrize("text", [JOB, BLIND, RICH], ids=["plain", "sealed", "rich"])
def test_the_bill_of_materials_is_valid_by_the_published_schema(text: str) -> None:
    bom = json.loads(_made(text)[BOM])
    assert [error.message for error in validator().iter_errors(bom)] == []
    model = bom["metadata"]["component"]
    assert model["type"] == "machine-learning-model"
    file = SEALED if text == BLIND else MODEL
    assert model["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(_made(text)[file]).hexdigest()}]
    names = {each["name"] for each in model["modelCard"]["modelParameters"]["datasets"]}
    assert names == {"digits"}


def test_the_schema_refuses_what_it_should() -> None:
    bom = json.loads(_made(JOB)[BOM])
    bom["metadata"]["component"]["modelCard"]["accuracy"] = 1
    assert list(validator().iter_errors(bom))


def test_the_bill_says_licence_purpose_and_the_worst_group() -> None:
    model = json.loads(_made(RICH)[BOM])["metadata"]["component"]
    assert model["licenses"] == [{"expression": "CC-BY-4.0"}]
    considerations = model["modelCard"]["considerations"]
    assert considerations["useCases"] == ["health"]
    assert considerations["fairnessAssessments"][0]["groupAtRisk"] == "group 0"
    card = _made(RICH)["README.md"].decode()
    for words in ("Licence: CC\\-BY", "Purpose: health", "| group | hits |", "worst group hits"):
        assert words in card.replace("CC-BY", "CC\\-BY"), words


def test_the_statement_opens_with_nothing_but_the_pages_of_in_toto_and_dsse() -> None:
    files = _made(JOB)
    envelope = json.loads(files[STATEMENT])
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    payload = base64.b64decode(envelope["payload"])
    (signature,) = envelope["signatures"]
    kind = envelope["payloadType"].encode()
    signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    public = bytes.fromhex(signature["keyid"].removeprefix("ed25519:"))
    Ed25519PublicKey.from_public_bytes(public).verify(base64.b64decode(signature["sig"]), signed)
    statement = json.loads(payload)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == PREDICATE_TYPE
    assert statement["predicate"]["approvedBy"] == ["m1", "m2"]
    named = {each["name"]: each["digest"]["sha256"] for each in statement["subject"]}
    rest = {path: data for path, data in files.items() if path not in {LISTING, STATEMENT}}
    assert named == {path: hashlib.sha256(data).hexdigest() for path, data in rest.items()}
