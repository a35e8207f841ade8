"""All 42 attacks and faults, and those on sovereignty, are tests, by name."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.attacks.catalogue import ATTACKS, Attack, page

ROOT = Path(__file__).resolve().parents[2]


@cache
def functions_in(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_the_catalogue_holds_all_42() -> None:
    assert [attack.number for attack in ATTACKS if attack.who != "sovereignty"] == [*range(1, 43), 61]
    assert [attack.number for attack in ATTACKS if attack.who == "coordinator"] == list(range(1, 24))
    assert [attack.number for attack in ATTACKS if attack.who == "members"] == [*range(24, 32), 61]
    assert len({attack.title for attack in ATTACKS}) == len(ATTACKS)


def test_those_on_sovereignty_have_numbers_of_their_own_in_order() -> None:
    numbers = [(attack.number, attack.letter) for attack in ATTACKS if attack.who == "sovereignty"]
    assert numbers == sorted(set(numbers))
    assert all(number >= 43 for number, _ in numbers)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"{attack.number}{attack.letter}")
def test_every_test_of_an_attack_exists(attack: Attack) -> None:
    assert attack.tests
    for each in attack.tests:
        path, _, name = each.partition("::")
        assert name in functions_in(path), each


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"{attack.number}{attack.letter}")
def test_every_attack_is_a_test_on_the_machines(attack: Attack) -> None:
    assert any(each.startswith(("tests/attacks/", "tests/simulation/")) for each in attack.tests)


def test_the_page_of_the_attacks_is_that_of_the_catalogue() -> None:
    assert (ROOT / "docs/protocol/attacks.md").read_text(encoding="utf-8") == page(), (
        "make it again: python -m tests.attacks.catalogue > docs/protocol/attacks.md"
    )
