"""Commands as people run them, with what they say; run inside this process, since each Python start costs half a second."""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import coordinator.client.main as concord
import coordinator.main as concord_coordinator
import node_agent.main as concord_node
from federation.errors import FederationError, exit_code, told

COMMANDS: dict[str, Callable[[], int | None]] = {
    "concord": concord.main,
    "concord-coordinator": concord_coordinator.main,
    "concord-node": concord_node.main,
}


@dataclass(frozen=True, slots=True)
class Said:
    code: int
    out: str
    err: str


def said(command: str, *arguments: str | Path) -> Said:
    """Runs a command whole: its exit code, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    words = [command, *(str(argument) for argument in arguments)]
    with mock.patch.object(sys, "argv", words), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = COMMANDS[command]()
        except SystemExit as end:
            code = int(end.code or 0)
    return Said(code or 0, out.getvalue(), err.getvalue())


def refused(answer: Said, kind: type[FederationError], *words: str) -> None:
    """The command ended with this error: its exit code, what happened, what to do, where to read on; nothing on stdout."""
    assert answer.code == exit_code(kind("")), answer
    assert answer.out == "", answer
    remarks, error, rest = answer.err.partition("error: ")
    assert "Traceback" not in remarks
    clear((error + rest).strip().splitlines(), kind, *words)


def clear(lines: list[str], kind: type[FederationError], *words: str) -> None:
    assert lines[0].startswith("error: "), lines
    assert any(line.startswith("  what to do: ") for line in lines), lines
    assert lines[-1] == f"  see: docs/reference/errors.md#{kind.code}", lines
    text = "\n".join(lines)
    assert "Traceback" not in text
    for word in words:
        assert word in text, f"{word!r} is not in: {text}"


def says(error: BaseException, kind: type[FederationError], *words: str) -> None:
    """As ``refused``, for an error that a call of the SDK raised."""
    assert type(error) is kind, repr(error)
    clear(told(error), kind, *words)


def eventually(holds: Callable[[], object], seconds: float = 30.0) -> None:
    """Fails unless ``holds`` becomes true in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"did not come true within {seconds:g} s"
        time.sleep(0.02)
