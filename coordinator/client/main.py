"""`concord`: the command line. Data goes to stdout, the rest to stderr; an error says what, why, and what to do."""

from __future__ import annotations

import typer

app = typer.Typer(name="concord", no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def concord() -> None:
    """Train models together as equals: found a federation, submit jobs, follow them, verify what comes out."""


def main() -> int:
    app()
    return 0
