"""What the three command lines share: an example in each command's --help, commands in groups, and the words of a usage error.

The examples are those of docs/reference/commands.md, which tries each on its command line.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import click
import typer
from typer.models import CommandInfo, TyperInfo

from federation.errors import InvalidUsage, told
from federation.product import product_version


def _print_version(asked: bool) -> None:
    if asked:
        click.echo(product_version())
        raise typer.Exit


VersionOption = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
]
PERHAPS: Final = "Did you mean"
CHOICES: Final = re.compile(r"'(?P<name>\w+):\{[^}]*\}'")
"""how typer names an argument that is one of several words"""
VALUE: Final = re.compile(r"'(?P<value>[^']*)' is not one of")


def with_examples(
    app: typer.Typer, examples: Mapping[str, str], groups: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Adds to each command of ``app`` its example, by its full name; and to what there is on the first level the heading under
    which --help lists it. Raises KeyError for a command without an example, or without a heading where there are some."""
    headings = {name: heading for heading, names in (groups or {}).items() for name in names}
    if groups is not None:
        for command in app.registered_commands:
            command.rich_help_panel = headings[_name(command)]
        for family in app.registered_groups:
            family.rich_help_panel = headings[_name(family)]
    _add(app, str(app.info.name), examples)


def _add(app: typer.Typer, path: str, examples: Mapping[str, str]) -> None:
    for command in app.registered_commands:
        command.epilog = f"Example: {examples[f'{path} {_name(command)}']}"
    for group in app.registered_groups:
        if group.typer_instance is not None:
            _add(group.typer_instance, f"{path} {_name(group)}", examples)


def _name(info: CommandInfo | TyperInfo) -> str:
    if isinstance(info, TyperInfo):
        inner = info.typer_instance.info.name if info.typer_instance is not None else ""
        return str(info.name) if isinstance(info.name, str) else str(inner)
    return info.name or (info.callback.__name__.replace("_", "-") if info.callback is not None else "")


def usage_told(error: click.ClickException) -> list[str]:
    """A usage error in lines, as ``federation.errors.told`` gives them; none for a program without a command, which has shown its
    help."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return []
    context = error.ctx if isinstance(error, click.UsageError) else None
    asked = f"{context.command_path} --help" if context is not None else "the command with --help"
    return told(InvalidUsage(_sentence(error), hint=f"See {asked}."))


def _sentence(error: click.ClickException) -> str:
    """What click says, with what was perhaps meant: once, where click and typer both add it, and for values, too."""
    message = CHOICES.sub(r"\g<name>", error.format_message().rstrip())
    before, *meant = message.split(PERHAPS)
    if meant:
        return f"{before}{PERHAPS}{meant[0]}".rstrip(" (")
    message = message.removesuffix(".")
    kind = error.param.type if isinstance(error, click.BadParameter) and error.param is not None else None
    value = VALUE.search(message)
    if isinstance(kind, click.Choice) and value is not None:
        words = [kind.normalize_choice(choice, None) for choice in kind.choices]
        if close := difflib.get_close_matches(value["value"], words, 1):
            return f"{message}. {PERHAPS} '{close[0]}'?"
    return f"{message}."
