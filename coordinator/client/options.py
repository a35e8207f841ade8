"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coordinator.client.home import DEFAULT_HOME
from coordinator.client.terminal import Format

HomeOption = Annotated[
    Path,
    typer.Option("--home", envvar="CONCORD_HOME", help="The folder with your keys.", show_default=False),
]
FormatOption = Annotated[Format, typer.Option("--output", "-o", help="How to print the answer.")]
DEFAULT_HOME_PATH = Path(DEFAULT_HOME)
