"""What a person sees who types a command wrongly: one error in the words of all errors, with what was perhaps meant, said once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType

import pytest
import typer

import coordinator.client.main
import coordinator.main
import node_agent.main
from federation.command_lines import with_examples
from federation.errors import TABLE, InvalidUsage

WRONG = [
    (coordinator.client.main, "concord", ["wach"], "No such command 'wach'. Did you mean 'watch'?", "concord"),
    (coordinator.client.main, "concord", ["release", "fech"], "No such command 'fech'. Did you mean 'fetch'?", "concord release"),
    (coordinator.client.main, "concord", ["get", "jbs"], "'halts', 'studies'. Did you mean 'jobs'?", "concord get"),
    (coordinator.client.main, "concord", ["watch"], "Missing argument 'JOB'.", "concord watch"),
    (coordinator.client.main, "concord", ["halt", "x", "--level", "stopp"], "Did you mean 'stop'?", "concord halt"),
    (node_agent.main, "concord-node", ["dta"], "No such command 'dta'. Did you mean 'data'?", "concord-node"),
    (node_agent.main, "concord-node", ["run", "--hom", "x"], "No such option '--hom'", "concord-node run"),
    (coordinator.main, "concord-coordinator", ["tiket"], "Did you mean 'ticket'?", "concord-coordinator"),
]  # fmt: skip


def ended(main: Callable[[], object]) -> object:
    """The exit code, whether it is returned or raised."""
    try:
        return main()
    except SystemExit as end:
        return end.code


@pytest.mark.parametrize(
    ("module", "program", "words", "said", "helped"), WRONG, ids=[" ".join(row[2]) for row in WRONG]
)
def test_what_was_typed_wrongly_is_named_with_what_to_do(
    module: ModuleType, program: str, words: list[str], said: str, helped: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "argv", [program, *words])
    assert ended(module.main) == TABLE[InvalidUsage.code].exit_code
    shown = capsys.readouterr()
    first, *rest = shown.err.strip().splitlines()
    assert first.startswith("error: ")
    assert said in first
    assert first.count("Did you mean") <= 1
    assert rest == [f"  what to do: See {helped} --help.", "  see: docs/reference/errors.md#invalid-usage"]
    assert shown.out == ""


def test_a_program_without_a_command_shows_its_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["concord", "release"])
    assert ended(coordinator.client.main.main) == TABLE[InvalidUsage.code].exit_code
    shown = capsys.readouterr()
    assert "Usage: concord release" in shown.out + shown.err
    assert "error:" not in shown.err


def test_a_command_without_an_example_or_a_heading_is_noticed() -> None:
    app = typer.Typer(name="concord-made-up")

    @app.command()
    def sing() -> None:
        """Sing."""

    with pytest.raises(KeyError, match="concord-made-up sing"):
        with_examples(app, {})
    with pytest.raises(KeyError, match="sing"):
        with_examples(app, {"concord-made-up sing": "concord-made-up sing"}, {"Songs": ()})
