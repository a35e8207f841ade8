"""The one place where a command's error becomes words and an exit code.

    error: what happened
      what to do: the hint
      see: docs/reference/errors.md#code

A person never sees a trace unless CONCORD_DEBUG=1 is set.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import TextIO

from coordinator.client.terminal import is_live, plain
from federation.errors import FederationError, InvalidManifest, PolicyDenied, exit_code


def report(error: Exception, stream: TextIO | None = None) -> int:
    """Prints ``error`` on ``stream`` (stderr) and returns the exit code of the command."""
    out = stream or sys.stderr
    if os.environ.get("CONCORD_DEBUG") == "1":
        traceback.print_exception(error, file=out)
    for line in lines_of(error):
        print(line, file=out)
    return exit_code(error)


def lines_of(error: Exception) -> list[str]:
    if not isinstance(error, FederationError):
        return [
            f"error: something unexpected happened: {type(error).__name__}: {plain(error)}",
            "  what to do: run it again with CONCORD_DEBUG=1 and report what it prints",
            "  see: docs/reference/errors.md#internal",
        ]
    first, *more = str(error.message).splitlines() or [""]
    lines = [f"{_label('error')}: {_place(error, first)}{plain(first)}", *(f"  {plain(line)}" for line in more)]
    if isinstance(error, PolicyDenied):
        lines += [f"  because: {plain(reason)}" for reason in error.reasons]
    for number, line in enumerate(error.hint.splitlines()):
        lines.append(f"  what to do: {plain(line)}" if number == 0 else f"    {plain(line)}")
    lines.append(f"  see: {error.anchor}")
    return lines


def _label(word: str) -> str:
    return f"\x1b[1;31m{word}\x1b[0m" if is_live(sys.stderr) and not os.environ.get("NO_COLOR") else word


def _place(error: FederationError, message: str) -> str:
    """The field of a job document, unless the sentence already begins with its place."""
    if isinstance(error, InvalidManifest) and error.field and error.field not in message:
        return f"{error.field}: "
    return ""
