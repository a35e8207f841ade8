"""The files of vectors as the tests take them, and what a refusal is."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from federation.errors import FederationError, ProtocolViolation
from federation.secagg.certificate import Bench, Ed25519Verifier
from federation.secagg.events import Refuse
from federation.secagg.setup import bench_of
from tests.plain.wire import FIELDS
from tests.vectors import product
from tests.vectors.subjects.federations import JOB, epoch, rounds

HERE = Path(__file__).parent


@cache
def load(subject: str) -> Any:
    return json.loads((HERE / f"{subject}.json").read_text())


def cases(subject: str, part: str = "cases", **only: Any) -> Any:
    """Of a file, as parameters of a test."""
    found = [case for case in load(subject)[part] if all(case.get(key) == value for key, value in only.items())]
    assert found, (subject, part, only)
    return pytest.mark.parametrize("case", found, ids=lambda case: case["name"])


def b(text: str) -> bytes:
    return bytes.fromhex(text)


def bs(texts: list[str]) -> list[bytes]:
    return [bytes.fromhex(text) for text in texts]


def ints(texts: list[Any]) -> list[int]:
    return [int(text) for text in texts]


def unhexed(fields: Any, kind: str) -> dict[str, Any]:
    """Fields as JSON has them, as the plain implementation has them: bytes where the wire has bytes."""
    found = {}
    for _, name, type_ in FIELDS[kind]:
        value = fields[name]
        inner = type_.rstrip("*")
        if inner == "bytes":
            found[name] = bs(value) if type_ == "bytes*" else b(value)
        elif inner in FIELDS and value is not None:
            found[name] = [unhexed(each, inner) for each in value] if type_ != inner else unhexed(value, inner)
        else:
            found[name] = value
    return found


def message(kind: str, fields: Any) -> Any:
    return product.message(kind, unhexed(fields, kind))


def fails(case: dict[str, Any], act: Callable[[], Any]) -> None:
    with pytest.raises(FederationError) as found:
        act()
    if "error" in case:
        assert found.value.code == case["error"]
    if "check" in case:
        assert isinstance(found.value, ProtocolViolation)
        assert found.value.check == case["check"]


def referred(value: Any, source: Any) -> Any:
    """With references to a setup's or a round's own messages resolved."""
    if isinstance(value, dict) and set(value) == {"ref"}:
        kind, index = value["ref"].split("/")
        found = next(each for place, each in enumerate(source[kind], start=1) if each.get("index", place) == int(index))
        return {**found, "ciphertexts": []} if kind == "encapsulations" else found
    if isinstance(value, dict):
        return {key: referred(each, source) for key, each in value.items()}
    return [referred(each, source) for each in value] if isinstance(value, list) else value


@cache
def bench(name: str) -> Bench:
    made = epoch(name)
    roster = product.message("Roster", made.roster(0))
    terms = product.terms_of(JOB, rounds()["three"].attempt.rules)
    return bench_of(
        terms,
        roster.epoch,
        0,
        roster.keys,
        roster.encapsulations,
        product.credentials_of(made.members),
        Ed25519Verifier(),
    )


def refuses(lab: product.Lab, told: Any, check: str) -> None:
    """Says nothing, remembers nothing, and gives the check."""
    before = dict(lab.machine._votes._records)
    found = lab.hears(told)
    assert len(found) == 1, found
    assert isinstance(found[0], Refuse), found
    assert found[0].violation.check == check
    assert lab.machine._votes._records == before
