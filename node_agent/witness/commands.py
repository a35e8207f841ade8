"""`concord-node witness`: the commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from node_agent.settings import Home

witness_app = typer.Typer(name="witness", no_args_is_help=True, help="This node as a witness of the public log.")
HomePath = Annotated[Path, typer.Option("--home", envvar="CONCORD_NODE_HOME", help="The node's home folder.")]


@witness_app.command(name="show")
def witness_show(
    home: HomePath, output: Annotated[str, typer.Option("--output", "-o", help="table or json.")] = "table"
) -> None:
    """Show the last head of the public log that this node checked, who else cosigned, what is missing, and why it stopped."""
    from node_agent.witness.shown import print_state

    print_state(Home(home), output)


@witness_app.command(name="reset")
def witness_reset(
    home: HomePath,
    yes: Annotated[bool, typer.Option("--yes", help="The lab has looked, and the node may go on.")] = False,
    new_key: Annotated[bool, typer.Option("--new-key", help="Accept whatever key the log has next, too.")] = False,
) -> None:
    """Go on after the witness has stopped the node: it begins anew with the log that it is shown next. Evidence stays."""
    from node_agent.witness.shown import begin_anew

    begin_anew(Home(home), yes=yes, new_key=new_key)
    print("This node begins anew as a witness. Start it with `concord-node run`.", file=sys.stderr)
