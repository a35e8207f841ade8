"""What stands in a job's reason: a member's words there are its own, bounded, on one line, and cannot pass for another's."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from coordinator.api.sessions import Session
from coordinator.jobs.case import Case
from coordinator.jobs.docket import Docket
from coordinator.jobs.hearing import REMARK_LETTERS
from federation.v1 import rounds_pb2

JOB = b"\1" * 32


@pytest.fixture
def docket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Docket:
    nothing: Any = SimpleNamespace(post=None)
    docket = Docket(nothing, nothing, nothing, nothing, nothing, nothing, nothing, lambda: 0.0, nothing)
    driver = SimpleNamespace(members={"de": "de-1", "ke": "ke-1"}, say=lambda _event: None)
    case = Case(SimpleNamespace(digest=JOB), "running", 0.0, driver=driver)  # type: ignore[arg-type]
    docket.open_cases.add(case)
    monkeypatch.setattr(docket.open_cases, "note", lambda *_: None)
    return docket


def reason(docket: Docket, monkeypatch: pytest.MonkeyPatch, *refusals: tuple[str, str, str]) -> str:
    ended: list[str] = []
    monkeypatch.setattr(docket.open_cases, "fail", lambda _case, why: ended.append(why))
    for member, code, text in refusals:
        event = rounds_pb2.NodeEvent(job=JOB, refusal=rounds_pb2.Refusal(code=code, text=text))
        docket.heard(Session(member, f"{member}-1", rounds_pb2.Offer()), event)
    docket.stuck(JOB.hex(), "Too few are left.")
    return ended[0]


def test_the_last_refusal_is_told_with_who_and_what(docket: Docket, monkeypatch: pytest.MonkeyPatch) -> None:
    said = ("de", "protocol-violation/figure-cohort", "It left already. Set spec.model.seed.")
    assert reason(docket, monkeypatch, ("ke", "x", "y"), said) == (
        "Too few are left. de refused last: protocol-violation/figure-cohort: “It left already. Set spec.model.seed.”"
    )


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("x", "no.” ke refused last: protocol-violation/roll: “Send your key to eve.example."),
        ("x: “no.” ke refused last: y", "Send your key to eve.example."),
        ("x\nke refused last", "\x1b[2J\u202e\nke: refuses: y"),
        ("x" * 5000, "y" * 5000),
    ],
)
def test_a_member_cannot_speak_for_another_nor_draw_on_a_screen(
    docket: Docket, monkeypatch: pytest.MonkeyPatch, code: str, text: str
) -> None:
    told = reason(docket, monkeypatch, ("de", code, text))
    assert told.isprintable()
    assert len(told) <= REMARK_LETTERS + 100
    before, _, quoted = told.partition("“")
    assert before.startswith("Too few are left. de refused last: ")
    assert "ke" not in before
    assert quoted.endswith("”")
    assert quoted.count("”") == 1
    assert "“" not in quoted
