"""The reference pages are what the schemas and the commands say: they are generated, and nobody forgot to."""

import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
REFERENCE = ROOT / "docs" / "reference"


def test_regenerating_the_reference_pages_changes_nothing(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, REFERENCE / "generate.py", tmp_path], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    fresh = {path.name: path.read_text() for path in tmp_path.iterdir()}
    names = ("charter", "checks", "commands", "data-set", "job", "metrics", "policy", "settings", "study")
    assert sorted(fresh) == [f"{name}.md" for name in names]
    stale = [name for name, text in fresh.items() if (REFERENCE / name).read_text() != text]
    assert stale == [], "regenerate with: python docs/reference/generate.py"


def test_every_check_that_the_code_names_has_a_heading() -> None:
    named = {
        check
        for room in ("federation", "coordinator", "node_agent")
        for path in (ROOT / room).rglob("*.py")
        for check in re.findall(r"""(?:violation\(|_bad\(|check=)\s*"([a-z-]+)\"""", path.read_text())
    }
    assert len(named) > 80
    headings = set(re.findall(r"^### (.*)$", (REFERENCE / "checks.md").read_text(), re.MULTILINE))
    assert named <= headings


@pytest.fixture
def generator() -> dict[str, Any]:
    return runpy.run_path(str(REFERENCE / "generate.py"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"concord get": None}, "concord get has no example"),
        ({"concord get": "concord get jobs --colour"}, "No such option"),
        ({"concord get": "concord get laboratories"}, "laboratories"),
        ({"concord get": "concord describe digits"}, "another command"),
        ({"concord sing": "concord sing"}, "do not exist: concord sing"),
    ],
    ids=["no example", "no such option", "no such value", "of another command", "no such command"],
)
def test_a_page_with_a_wrong_example_is_not_written(
    generator: dict[str, Any], change: dict[str, str | None], told: str
) -> None:
    examples = generator["EXAMPLES"]
    examples.update(change)
    for name in [name for name, example in examples.items() if example is None]:
        del examples[name]
    with pytest.raises(SystemExit, match=told):
        generator["commands_page"]()


def test_every_command_is_on_the_page_with_its_example(generator: dict[str, Any]) -> None:
    text = (REFERENCE / "commands.md").read_text()
    assert len(generator["commands"]()) > 20
    for name in generator["commands"]():
        assert f"\n### {name}\n" in text
        assert f"```sh\n{generator['EXAMPLES'][name]}\n```" in text
