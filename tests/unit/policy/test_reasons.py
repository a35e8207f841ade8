"""Reasons of denials are counted by the word that they begin with, whatever they say."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.policy.reasons import OTHER, OWN, WORDS, word_of

CONSENT = Path(__file__).resolve().parents[3] / "node_agent" / "consent"


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        (
            "rules.maxRounds: the job has 500 rounds, this lab allows 100 (national pack ke-computing, line 5)",
            "maxRounds",
        ),
        ("budget: The privacy budget of data set hearts is too small for this job", "budget"),
        ("data set hearts: its path does not exist on this node", "data"),
        ("runtime: this node lacks torch 3; nothing is installed for a job", "runtime"),
        ("study: this lab has revoked its consent to it", "study"),
        ("consent: a person at the lab (data-officer) denied", "consent"),
        ("rules.rounds: 7", OTHER),
        ("gossip: br has 7 patients", OTHER),
        ("maxRounds", OTHER),
        ("data set x", OTHER),
        ("", OTHER),
    ],
)
def test_the_word_of_a_reason(reason: str, word: str) -> None:
    assert word_of(reason) == word


@given(st.text() | st.builds("{}: {}".format, st.text(max_size=40), st.text()))
def test_whatever_is_written_no_word_beyond_these_comes_of_it(reason: str) -> None:
    assert word_of(reason) in WORDS


def beginnings() -> Iterator[str]:
    """What the sentences of a decision begin with, where that is a word and a colon."""
    for name in ("decision.py", "inbox.py", "studies.py"):
        for node in ast.walk(ast.parse((CONSENT / name).read_text())):
            if isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
                text = str(node.values[0].value)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            else:
                continue
            if match := re.match(r"([a-z]+): ", text):
                yield match[1]


def test_every_word_with_which_a_node_s_decision_begins_a_reason_is_counted_under_its_own_name() -> None:
    found = set(beginnings())
    assert {"budget", "privacy", "runtime", "consent", "study"} <= found
    assert found <= OWN, found - OWN
