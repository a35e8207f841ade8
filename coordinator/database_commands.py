"""`concord-coordinator database move`: from SQLite to PostgreSQL, from there back, or to another server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from coordinator.settings import Home, holds_password, read_private
from coordinator.store.database import Database
from coordinator.store.engines import ServerUrl
from coordinator.store.moving import move as move_all
from coordinator.store.place import place_of
from federation.errors import InvalidUsage

SQLITE: Final = "sqlite"
database_app = typer.Typer(no_args_is_help=True)


@database_app.callback()
def database() -> None:
    """The coordinator's database."""


@database_app.command()
def move(
    home: Annotated[
        Path, typer.Option("--home", help="The coordinator's home folder.", envvar="CONCORD_COORDINATOR_HOME")
    ],
    to: Annotated[str, typer.Option(help="A PostgreSQL URL without a password, or sqlite: the file in the home.")],
    password_file: Annotated[
        Path | None, typer.Option(help="The file that holds the password of --to, readable by you alone.")
    ] = None,
) -> None:
    """Move everything into another, empty database, compare, and mark the old one, which stays. The coordinator must be stopped."""
    place = Home(home)
    settings = place.load()
    here, there = place_of(place, settings), _target(place, to, password_file)
    if here == there or (isinstance(here, ServerUrl) and str(here) == str(there)):
        raise InvalidUsage(f"The coordinator's state is in {here} already.", hint="Name another with --to.")
    with place.locked(), closing(Database(here, sole=True)) as source, _opened(there) as target:
        told = move_all(source, target, time.time(), lambda line: typer.echo(line, err=True))
    rows = sum(each.rows for each in told.contents.values())
    typer.echo(
        f"moved to {there}: {rows} rows, {told.entries} entries of the public log, root {told.root.hex()[:16]}",
        err=True,
    )
    said = "database: (take the line out, or unset its variable)" if to == SQLITE else f"database: {to}"
    typer.echo(f"now change {place.settings}, or the environment: {said}", err=True)
    if password_file is not None:
        typer.echo(f"and: database_password_file: {password_file.absolute()}", err=True)
    typer.echo(f"{here} is as it was, and marked: no coordinator starts on it any more", err=True)


def _target(home: Home, to: str, password_file: Path | None) -> Path | ServerUrl:
    if to == SQLITE:
        if password_file is not None:
            raise InvalidUsage("A file has no password.", hint="Leave --password-file out.")
        return home.database
    if holds_password(to):
        raise InvalidUsage(
            "A command line is no place for a password: everybody on this machine can read it.",
            hint="Take it out of the URL, change it, and name a file that holds it: --password-file.",
        )
    password = ""
    if password_file is not None:
        password = read_private(password_file, "The database's password").decode(errors="replace").strip()
    return ServerUrl.parse(to, password)


@contextmanager
def _opened(place: Path | ServerUrl) -> Iterator[Database]:
    """A file that this made is away again when the move fails."""
    fresh = isinstance(place, Path) and not place.exists()
    try:
        try:
            opened = Database(place, sole=True)
        except InvalidUsage as error:
            if fresh or not isinstance(place, Path):
                raise
            raise InvalidUsage(
                error.message,
                hint=f"The file of before is in the way. Keep it under another name: mv {place} {place}.before",
            ) from error
        with closing(opened) as target:
            yield target
    except BaseException:
        if fresh and isinstance(place, Path):
            for suffix in ("", "-wal", "-shm"):
                place.with_name(place.name + suffix).unlink(missing_ok=True)
        raise
