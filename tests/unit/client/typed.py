"""Commands as people type them: through the installed entry point, or in this process where starting Python anew would add up."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from coordinator.client.main import main
from federation.errors import FederationError, exit_code

ROOT = Path(__file__).resolve().parents[3]
BIN = Path(sys.executable).parent


@dataclass(frozen=True, slots=True)
class Said:
    code: int
    out: str
    err: str


def typed(program: str, *words: str | Path, folder: Path, text: bytes = b"") -> Said:
    """Runs an installed command in ``folder``, with nothing of Concord in its environment and ``text`` on its stdin."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CONCORD_")}
    command = [BIN / program, *(str(word) for word in words)]
    done = subprocess.run(
        command, cwd=folder, env=environment, input=text, capture_output=True, timeout=60, check=False
    )
    return Said(done.returncode, done.stdout.decode(), done.stderr.decode())


class Stdin(io.StringIO):
    """Text as a process reads it from a pipe: the bytes are at ``buffer``."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.buffer = io.BytesIO(data)


def concord(*words: str | Path, text: bytes = b"") -> Said:
    """The same inside this process."""
    return inside(main, "concord", *words, text=text)


def inside(entry: Callable[[], int | None], program: str, *words: str | Path, text: bytes = b"") -> Said:
    """``entry``: the entry point's own function."""
    out, err = io.StringIO(), io.StringIO()
    arguments = [program, *(str(word) for word in words)]
    with (
        mock.patch.object(sys, "argv", arguments),
        mock.patch.object(sys, "stdin", Stdin(text)),
        mock.patch.dict(os.environ),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        for name in [name for name in os.environ if name.startswith("CONCORD_")]:
            del os.environ[name]
        try:
            code = entry() or 0
        except SystemExit as end:
            code = int(end.code or 0)
    return Said(code, out.getvalue(), err.getvalue())


def done(answer: Said) -> Said:
    assert answer.code == 0, answer
    return answer


def refused(answer: Said, kind: type[FederationError], *words: str) -> Said:
    """It ended with this error: the exit code of the table; what happened, what to do, where to read on; no trace, no answer."""
    assert answer.out == "", answer
    return told_of(answer, kind, *words)


def told_of(answer: Said, kind: type[FederationError], *words: str) -> Said:
    """As ``refused``, for a command that answers and then ends with an error."""
    assert answer.code == exit_code(kind("")), answer
    lines = answer.err.strip().splitlines()
    start = next((place for place, line in enumerate(lines) if line.startswith("error: ")), None)
    assert start is not None, answer
    error = lines[start:]
    assert any(line.startswith("  what to do: ") for line in error), answer
    assert error[-1] == f"  see: docs/reference/errors.md#{kind.code}", answer
    assert "Traceback" not in answer.err, answer
    for word in words:
        assert word in "\n".join(error), f"{word!r} is not in: {answer.err}"
    return answer


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder``, for "nothing was changed"."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777
