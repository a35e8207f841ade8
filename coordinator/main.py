"""`concord-coordinator`: make a home, take the members' roll, hand out tickets, run."""

from __future__ import annotations

import asyncio
import json
import math
import os
import sys
import traceback
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

# Flower is loaded for its outer step's arithmetic in some tools; nothing of it may call home from a service.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

import click
import typer

from coordinator.audit.keys import check_named, make_log_key
from coordinator.database_commands import database_app
from coordinator.examples import EXAMPLES
from coordinator.registry.authority import Authority
from coordinator.registry.enrolment import principal_for
from coordinator.service import check_settings, open_registry, serve
from coordinator.settings import Home, Settings, write_private
from coordinator.store.database import Database
from coordinator.store.place import place_of
from federation.audit.checkpoint import log_key
from federation.audit.named_key import log_key_of
from federation.command_lines import VersionOption, usage_told, with_examples
from federation.errors import INTERRUPTED_EXIT_CODE, InvalidIdentity, InvalidUsage, NotFound, exit_code, told
from federation.exposure import check_exposure, listened
from federation.identity.keys import SigningKey
from federation.identity.names import checked_label
from federation.identity.roll import Roll
from federation.log_events import speak
from federation.manifest.yaml_source import write_yaml
from federation.product import product_version

app = typer.Typer(name="concord-coordinator", no_args_is_help=True, pretty_exceptions_enable=False, add_completion=True)
app.add_typer(database_app, name="database")
UNNAMED: Final = (
    "warning: the members' charter names no key for the public log: every node believes the first that it is shown. "
    "The members name it by vote: concord propose coordinator --log-key log.key.pub"
)
EVERYWHERE: Final = frozenset({"0.0.0.0", "[::]", "*"})  # noqa: S104 - told apart, not listened on
EXPOSED: Final = "Name 127.0.0.1 or a private address; for others see metrics_certificate in docs/how-to/observe.md."
HomeOption = Annotated[
    Path, typer.Option("--home", help="The coordinator's home folder.", envvar="CONCORD_COORDINATOR_HOME")
]


@app.callback()
def concord_coordinator(version: VersionOption = False) -> None:
    """The coordinator: it schedules rounds, carries messages between the members' nodes, and decides nothing for them."""


@app.command()
def init(
    home: HomeOption,
    federation: Annotated[str, typer.Option(help="The federation's name: a lower-case DNS label.")],
    listen: Annotated[
        str, typer.Option(help="Host and port for nodes and leads; port 0: a free one.")
    ] = "127.0.0.1:7443",
    metrics: Annotated[
        str, typer.Option(help="Host and port for /metrics, /healthz and /readyz; empty: none.")
    ] = "127.0.0.1:9464",
) -> None:
    """Make the home: settings, the transport authority's key, the release key, and the key of the public log."""
    place = Home(home)
    checked_label(federation, "federation")
    _checked_address(listen, "--listen")
    if metrics:
        _checked_address(metrics, "--metrics")
        check_exposure(metrics, tls=False, setting="--metrics", hint=EXPOSED)
    if place.settings.exists():
        raise InvalidUsage(f"{home} is a coordinator's home already.", hint="Nothing was changed. Use another folder.")
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = Authority.create(federation, datetime.now(UTC))
    write_private(place.key("ca"), authority.key.to_pem())
    write_private(place.key("release"), SigningKey.generate().to_pem())
    write_private(place.ca_certificate, authority.certificate_pem)
    make_log_key(place, federation)
    document = {"federation": federation, "listen": listen, "metrics": metrics}
    write_private(place.settings, write_yaml(document).encode())
    typer.echo(
        f"made {home}; whoever drafts the roll names the log's key: concord roll draft --log-key {place.log_key}",
        err=True,
    )
    typer.echo(f"then: concord-coordinator found --home {home} --roll roll.json", err=True)


@app.command()
def found(home: HomeOption, roll: Annotated[Path, typer.Option(help="The roll that every member has signed.")]) -> None:
    """Take the membership roll. Only the members' signatures make it valid."""
    place, settings = _opened(home)
    try:
        data = roll.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(
            f"The roll {roll} does not exist.", hint="Name the roll that every member has signed."
        ) from error
    except OSError as error:
        raise InvalidUsage(f"{roll} cannot be read: {error.strerror}.", hint="Name the signed roll.") from error
    try:
        if (named := log_key_of(Roll.open(data))) is not None:
            check_named(log_key(settings.federation, SigningKey.from_pem(place.read_key("log")).public), named)
        with closing(Database(place_of(place, settings))) as database:
            accepted = open_registry(place, settings, database).found(data)
    except InvalidIdentity as error:
        hint = error.hint or "Name the roll as the members signed it; `concord roll verify` tells more."
        raise InvalidIdentity(f"{roll}: {error.message}", hint=hint) from error
    typer.echo(
        f"federation {accepted.federation}: {len(accepted.members)} members, roll {accepted.digest.hex()[:16]}",
        err=True,
    )
    if named is None:
        typer.echo(UNNAMED, err=True)


@app.command()
def evidence(
    home: HomeOption,
    out: Annotated[Path | None, typer.Option(help="A folder to write each piece to, named by its digest.")] = None,
) -> None:
    """List what members did wrong under their signature: time, member, check, and whether it convicts by itself."""
    from coordinator.rounds.misconduct import shown, write

    place, settings = _opened(home)
    with closing(Database(place_of(place, settings))) as database:
        pieces = shown(database)
    for piece in pieces:
        proof = "convicts" if piece.convicts else "signed"
        typer.echo(f"{piece.digest[:12]}  {piece.time}  {piece.job[:12]}  {piece.member}  {piece.check}  {proof}")
    if out is not None:
        write(pieces, out)
    if not pieces:
        typer.echo("no member has done wrong under its signature", err=True)


@app.command()
def ticket(
    home: HomeOption,
    out: Annotated[Path, typer.Option(help="Where to write the ticket; only you may read it.")],
    member: Annotated[str, typer.Option(help="For a node: its member.")] = "",
    node: Annotated[str, typer.Option(help="For a node: its name within the member.")] = "",
    lead: Annotated[str, typer.Option(help="For a research lead: the id on the roll.")] = "",
    officer: Annotated[str, typer.Option(help="For a member's officer, who votes: the member's id.")] = "",
    operator: Annotated[str, typer.Option(help="For an operator: a name.")] = "",
    address: Annotated[
        str, typer.Option(help="Host and port at which this one reaches the coordinator; else what it listens on.")
    ] = "",
    hours: Annotated[float, typer.Option(help="How long it is good.", min=0.01, max=24 * 14)] = 24.0,
) -> None:
    """Write a one-time ticket, with which one node, lead, officer or operator gets its transport certificate."""
    place, settings = _opened(home)
    principal = principal_for(member, node, lead, operator, officer)
    reached = _checked_address(address, "--address") if address else _reached(place, settings)
    if not math.isfinite(hours):
        raise InvalidUsage(f"--hours {hours} is no number of hours.", hint="It is 24 unless you say otherwise.")
    if out.exists():  # write_private would say so too, but only after the ticket was made
        raise InvalidUsage(f"{out} is there already.", hint="Nothing was changed. Name another file, or move it away.")
    with closing(Database(place_of(place, settings))) as database:
        write_private(out, open_registry(place, settings, database).ticket(principal, reached, hours))
    typer.echo(
        f"ticket for {principal.kind} {principal.node or principal.name}: {out} (good once, for {hours:g} h)", err=True
    )


@app.command()
def run(home: HomeOption) -> None:
    """Run the coordinator until SIGTERM or Ctrl-C."""
    place, settings = _opened(home)
    check_settings(place, settings)  # what is wrong is said before anything is made
    speak({"federation": settings.federation, "service": "coordinator"}, sys.stderr)
    with place.locked():
        asyncio.run(serve(place, settings))


@app.command()
def doctor(
    home: HomeOption, as_json: Annotated[bool, typer.Option("--json", help="The findings as JSON.")] = False
) -> None:
    """Say what is wrong with this coordinator or its machine, and what to do. Exit code 1 when something is."""
    from coordinator.doctor import print_findings

    if not print_findings(home, as_json=as_json):
        raise typer.Exit(1)


@app.command("version")
def version_command() -> None:
    """Print the version."""
    typer.echo(product_version())


def _reached(place: Home, settings: Settings) -> str:
    """What a ticket says when nobody says otherwise: where the coordinator listens."""
    address = settings.listen
    if address.endswith(":0"):
        try:
            address = str(json.loads(place.run_file.read_bytes())["address"])
        except (FileNotFoundError, ValueError, KeyError) as error:
            raise InvalidUsage(
                "The address is chosen at start, and the coordinator is not running.", hint="Start it first."
            ) from error
    if address.rpartition(":")[0] in EVERYWHERE:
        raise InvalidUsage(
            f"The coordinator listens on every address ({address}), and a ticket names the one that others reach.",
            hint="Name it: --address concord.example.org:7443",
        )
    return address


def _checked_address(address: str, option: str) -> str:
    try:
        listened(address)
    except ValueError as error:
        raise InvalidUsage(f"{option} {error}.", hint="It is like concord.example.org:7443.") from None
    return address


def _opened(home: Path) -> tuple[Home, Settings]:
    place = Home(home)
    return place, place.load()


with_examples(app, EXAMPLES)


def main() -> None:
    """Entry point: errors are sentences, exit codes are those of federation.errors."""
    try:
        code = app(prog_name="concord-coordinator", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(INTERRUPTED_EXIT_CODE)
    except click.ClickException as error:
        for line in usage_told(error):
            print(line, file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        if os.environ.get("CONCORD_DEBUG") == "1":
            traceback.print_exception(error)
        print("\n".join(told(error)), file=sys.stderr)
        sys.exit(exit_code(error))
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
