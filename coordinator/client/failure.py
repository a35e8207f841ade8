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

from coordinator.client.terminal import is_live
from federation.errors import InvalidUsage, exit_code, told


def report(error: Exception, stream: TextIO | None = None) -> int:
    """Prints ``error`` on ``stream`` (stderr) and returns the exit code of the command."""
    out = stream or sys.stderr
    if os.environ.get("CONCORD_DEBUG") == "1":
        traceback.print_exception(error, file=out)
    meant = _meant(error)
    for line in lines_of(meant):
        print(line, file=out)
    return exit_code(meant)


def _meant(error: Exception) -> Exception:
    """A disk that is full or a folder that is closed is nothing unexpected."""
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return InvalidUsage(
            f"{place}{error.strerror}.",
            hint="Check the path, who may use it, and the room on the disk; then run it again.",
        )
    return error


def lines_of(error: Exception) -> list[str]:
    first, *rest = told(error)
    return [first.replace("error", _label("error"), 1), *rest]


def _label(word: str) -> str:
    return f"\x1b[1;31m{word}\x1b[0m" if is_live(sys.stderr) and not os.environ.get("NO_COLOR") else word
