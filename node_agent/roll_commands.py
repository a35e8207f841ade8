"""`concord-node roll`: which roll this node holds, and taking a newer one from a file, past a coordinator that keeps it back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from federation.errors import InvalidIdentity, InvalidUsage, plain
from federation.governance.history import amendments_of, succeeds
from federation.identity.keys import SigningKey
from federation.identity.roll import Roll
from node_agent.membership import ROLL_LIMIT, Membership
from node_agent.settings import Home

roll_app = typer.Typer(no_args_is_help=True, help="The members' roll that this node holds.")
HomePath = Annotated[Path, typer.Option("--home", help="The node's home folder.", envvar="CONCORD_NODE_HOME")]


@roll_app.command("show")
def show(home: HomePath) -> None:
    """Print the roll that this node believes: version, members, and what each change was."""
    membership = _membership(Home(home))
    roll = membership.roll
    print(f"{roll.federation} version {roll.version} {roll.digest.hex()}")
    for member in roll.members:
        weight = roll.voters.get(member.id, 0)
        print(
            f"  {member.id}  {member.jurisdiction}  {member.tier}, {member.state}, vote {weight}  {plain(member.name)}"
        )
    for step in amendments_of(roll.envelope):
        print(f"  version {step.roll.version}: {plain('; '.join(change.what for change in step.changes))}")
    if membership.suspended:
        print(f"this node takes part in nothing: {plain(membership.suspended)}")
    if membership.forked:
        print("another roll of a version that this node holds lies in roll-fork.json: no new job is taken")


@roll_app.command("take")
def take(roll: Annotated[Path, typer.Argument(help="The roll, with its history.")], home: HomePath) -> None:
    """Take a newer roll from a file. The node verifies all of it, as it does the coordinator's. It must be stopped."""
    from node_agent.service import locked

    place = Home(home)
    data = place.read(roll, ROLL_LIMIT)
    with locked(place):
        membership = _membership(place)
        before = membership.roll.version
        if not succeeds(membership.roll, Roll.open(data)):
            raise InvalidUsage(f"This node holds version {before} already.", hint="Nothing was changed.")
        if membership.offer(data, "file") is None:
            raise InvalidIdentity("The roll was not taken.", hint="The node's log says why.")
    print(f"took version {membership.roll.version} in place of {before}: {membership.roll.digest.hex()}")


def _membership(home: Home) -> Membership:
    return Membership(home, home.settings(), SigningKey.from_pem(home.read(home.identity_key)))
