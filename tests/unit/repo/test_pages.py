"""The pages say what is there: links lead somewhere, decisions keep their form, errors and targets are explained."""

import re
from pathlib import Path

import pytest

from federation.errors import TABLE

ROOT = Path(__file__).resolve().parents[3]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))


def pages() -> list[Path]:
    rooms = ("docs", "models", "examples", "benchmarks", "tests", "protos")
    return [*ROOT.glob("*.md"), *(page for room in rooms for page in (ROOT / room).rglob("*.md"))]


def anchors(page: Path) -> set[str]:
    """As the usual renderers make them: lower case, punctuation dropped, spaces to hyphens."""
    headings = re.findall(r"^#+\s+(.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_every_link_leads_somewhere() -> None:
    broken = []
    for page in pages():
        for target in LINK.findall(re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            aim = (page.parent / path).resolve() if path else page
            if not aim.exists() or (anchor and aim.suffix == ".md" and anchor not in anchors(aim)):
                broken.append(f"{page.relative_to(ROOT)} -> {target}")
    assert broken == []


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_tells_context_decision_and_consequences(page: Path) -> None:
    text = page.read_text()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
    assert len(text.split()) < 700, "a decision is one page"
    assert page.name in (page.parent / "README.md").read_text()


def test_decisions_are_numbered_in_order() -> None:
    numbers = [int(page.name[:4]) for page in DECISIONS]
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 1


def test_every_error_is_explained_where_it_points() -> None:
    assert set(TABLE) <= anchors(ROOT / "docs" / "reference" / "errors.md")


def test_the_makefile_explains_every_target() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = set(re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split()) - {"sandbox"}  # type: ignore[index]
    explained = set(
        re.findall(r"make ([a-z-]+)", "\n".join(line for line in text.splitlines() if line.startswith("#")))
    )
    assert targets <= explained
