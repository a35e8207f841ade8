"""The pages about policies are true: the file for lawyers means what its page says, the examples of the how-to hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from federation.policy.cases import load_cases
from federation.policy.rules import load_policy, load_rules
from federation.policy.vocabulary import BY_NAME
from node_agent.policy_commands import explained, judged

DOCS = Path(__file__).resolve().parents[3] / "docs"
LAWYERS = (DOCS / "policy-for-lawyers.md").read_text()
HOW_TO = (DOCS / "how-to" / "policy.md").read_text()


def blocks(page: str) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)


def test_the_file_on_the_page_for_lawyers_means_what_the_page_says_and_nothing_more() -> None:
    (text,) = blocks(LAWYERS)
    pack = load_rules(text, "policy.yaml")
    rows = re.findall(r"^\| (\d+) \| (.*) \| (checked|declared|people) \|$", LAWYERS, re.MULTILINE)
    told = [line.split(None, 2) for line in list(explained(pack))[1:]]
    assert [(row[0], row[1]) for row in rows] == [(number, sentence) for _, number, sentence in told]
    kept = {str(pack.lines[name]): BY_NAME[name].kept for name in pack.said}
    assert {row[0]: row[2] for row in rows} == kept


def test_the_lines_that_the_page_speaks_of_are_those() -> None:
    (text,) = blocks(LAWYERS)
    lines = ["", *text.splitlines()]
    for number, word in ((5, "leads"), (6, "jurisdictions"), (7, "dataSets"), (8, "minimumCohort"), (25, "askAbove")):
        assert lines[number].strip().startswith(f"{word}:")
        assert f"(line {number})" in LAWYERS


def test_the_examples_of_the_how_to_hold() -> None:
    cases, text = blocks(HOW_TO)
    document, policy = load_cases(cases, "policy.cases.yaml"), load_policy(text, "policy.yaml")
    assert [(case.name, judged(policy, document, case)[0]) for case in document.cases] == [
        (case.name, "") for case in document.cases
    ]


@pytest.mark.parametrize("page", [LAWYERS, HOW_TO], ids=["lawyers", "how-to"])
def test_every_word_on_the_pages_is_one(page: str) -> None:
    for text in blocks(page):
        if "kind: NodePolicy" in text:
            load_rules(text, "policy.yaml")
