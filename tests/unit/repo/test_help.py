"""What `--help` of each command prints, as it is: whoever changes it sees the change, and so does whoever reviews it.

Written anew by ``python -m tests.unit.repo.test_help``.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any
from unittest import mock

import typer

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "tests" / "golden" / "help"


def commands() -> dict[str, Any]:
    """Every command by its full name, and the three programs themselves."""
    made = runpy.run_path(str(ROOT / "docs" / "reference" / "generate.py"))
    programs = {name: typer.main.get_command(app) for name, app in made["PROGRAMS"].items()}
    return {**programs, **made["commands"]()}


def shown(name: str, command: Any) -> str:
    """At 80 columns, without colour; the place of a person's own home does not matter."""
    from click.testing import CliRunner

    environment = {
        "COLUMNS": "80",
        "TERMINAL_WIDTH": "80",
        "NO_COLOR": "1",
        "TERM": "dumb",
        "_TYPER_FORCE_DISABLE_TERMINAL": "1",
    }
    with mock.patch("typer.rich_utils.MAX_WIDTH", 80):
        answer = CliRunner().invoke(command, ["--help"], prog_name=name, env=environment)
    assert answer.exit_code == 0, answer.output
    return "\n".join(line.rstrip() for line in answer.output.splitlines()).strip("\n") + "\n"


def file_of(name: str) -> Path:
    return GOLDEN / f"{name.replace(' ', '-')}.txt"


def test_help_is_what_it_was() -> None:
    changed = [
        name for name, command in commands().items()
        if not file_of(name).exists() or file_of(name).read_text() != shown(name, command)
    ]  # fmt: skip
    assert changed == [], "if it is meant: python -m tests.unit.repo.test_help"


def test_there_is_no_help_of_a_command_that_is_gone() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {file_of(name).name for name in commands()}


def test_every_command_says_what_it_does_in_one_sentence() -> None:
    for name, command in commands().items():
        assert command.help, name
        assert command.help.strip().splitlines()[0], name


if __name__ == "__main__":
    for old in GOLDEN.glob("*.txt"):
        old.unlink()
    for title, each in commands().items():
        file_of(title).write_text(shown(title, each))
