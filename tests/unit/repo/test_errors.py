"""Every error tells a person what to do, and has its place in the table."""

import pytest

from federation.errors import ERRORS, TABLE, FederationError, ProtocolViolation, told

CLASSES = [*ERRORS.values(), ProtocolViolation]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.code)
def test_an_error_without_a_hint_of_its_own_says_what_to_do(kind: type[FederationError]) -> None:
    error = kind("It broke.", check="x") if kind is ProtocolViolation else kind("It broke.")
    lines = told(error)
    assert lines[0] == "error: It broke."
    assert lines[1].startswith("  what to do: ")
    assert len(lines[1]) > 30
    error.hint = "Turn it."
    assert told(error)[1] == "  what to do: Turn it."


def test_each_code_has_one_class_one_status_and_one_remedy() -> None:
    assert {kind.code for kind in CLASSES} == set(TABLE)
    assert len({kind.remedy for kind in CLASSES}) == len(CLASSES)
