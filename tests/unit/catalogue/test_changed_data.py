"""Data that are not what a lab consented to end its consent; data that only grew do not, where the job lets them grow."""

from __future__ import annotations

from typing import Any

import pytest

from federation.errors import PolicyDenied
from node_agent.consent.decision import decide
from node_agent.consent.standing import ConsentOver, Standing
from tests.unit.agent.homes import manifest_of
from tests.unit.agent.test_consent_decision import PARTIES, SITUATION

CONSENT = decide(manifest_of(PARTIES), SITUATION)
"""It binds 32 zero bytes as the version of digits."""
OTHER = bytes([1] * 32)


def standing(grew: Any) -> Standing:
    return Standing(None, None, None, lambda version: version, grew)  # type: ignore[arg-type]


def test_only_grown_data_are_what_was_consented_to() -> None:
    asked: list[tuple[bytes, str, bytes]] = []

    def grew(*question: Any) -> bool:
        asked.append(question)
        return True

    standing(grew).check_data(CONSENT, {"digits": bytes(32)})
    assert asked == []
    standing(grew).check_data(CONSENT, {"digits": OTHER})
    assert asked == [(CONSENT.job, "digits", bytes(32))]


@pytest.mark.parametrize(
    "today",
    [{"digits": OTHER}, {}, {"ages": bytes(32)}, {"digits": bytes(32), "ages": bytes(32)}],
    ids=["changed", "gone", "another", "one more"],
)
def test_what_changed_ends_the_consent(today: dict[str, bytes]) -> None:
    with pytest.raises(ConsentOver) as said:
        standing(lambda *_: False).check_data(CONSENT, today)
    assert said.value.cause == "data"


def test_data_that_cannot_be_read_are_not_trained_on_and_end_nothing() -> None:
    def gone(*_: Any) -> bool:
        raise OSError("the disk is away")

    for look in (
        lambda: standing(gone).check_data(CONSENT, {"digits": OTHER}),
        lambda: standing(gone).check_data(CONSENT, None),
    ):
        with pytest.raises(PolicyDenied) as said:
            look()
        assert not isinstance(said.value, ConsentOver)
