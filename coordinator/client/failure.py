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
from typing import Final, TextIO

from coordinator.client.terminal import is_live
from federation.errors import FederationError, InvalidUsage, exit_code, told

ADVICE: Final = {
    "internal": "Run it again with CONCORD_DEBUG=1, and report what it prints.",
    "invalid-usage": "See what the command takes: add --help.",
    "not-found": "Check the name.",
    "policy-denied": "Ask whoever made the rule.",
    "budget-exhausted": "Ask the lead of the job.",
    "invalid-manifest": "`concord explain job` describes every field.",
    "invalid-identity": "Check that it is the right file, whole and unaltered; if it is, ask for a fresh one where it came from.",
    "verification-failed": "Do not use it; fetch it again, and tell the members.",
    "protocol-violation": "Tell the operator, and the members.",
    "halted": "Ask whoever stopped it.",
    "round-aborted": "See the story of the job with `concord logs`.",
    "out-of-order": "See what happened with `concord describe`, then try again.",
    "task-failed": "Correct the app and submit it again; `concord-node try` rehearses it in a laboratory.",
    "unavailable": "Try again in a minute.",
}
"""What to do about an error that does not say so itself."""


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
    """A disk that is full or a folder that is closed is nothing unexpected; and nobody is left without advice."""
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return InvalidUsage(
            f"{place}{error.strerror}.",
            hint="Check the path, who may use it, and the room on the disk; then run it again.",
        )
    if isinstance(error, FederationError) and not error.hint:
        error.hint = ADVICE[error.code]
    return error


def lines_of(error: Exception) -> list[str]:
    first, *rest = told(error)
    return [first.replace("error", _label("error"), 1), *rest]


def _label(word: str) -> str:
    return f"\x1b[1;31m{word}\x1b[0m" if is_live(sys.stderr) and not os.environ.get("NO_COLOR") else word
