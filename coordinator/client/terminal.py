"""What people see: data on stdout as a table, JSON or YAML; everything else on stderr.

Colour and moving bars appear on a terminal only, and never when NO_COLOR is set. Text that came from a peer is shown without its
control characters (or, in JSON and YAML, with these escaped), so that nobody can rewrite a reader's screen.
"""

from __future__ import annotations

import json
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Final, TextIO

import typer
import yaml

from federation.errors import plain as plain

COLOURS: Final = {
    "finished": "32", "closed": "32", "granted": "32", "active": "32", "ok": "32", "running": "36",
    "failed": "31", "denied": "31", "revoked": "31", "suspended": "31", "aborted": "31", "void": "31", "FAILED": "31",
    "stopped": "33", "withdrawn": "33", "held": "33", "expired": "33",
}  # fmt: skip


class Format(StrEnum):
    table = "table"
    json = "json"
    yaml = "yaml"


def is_live(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def coloured(word: str, stream: TextIO) -> str:
    code = COLOURS.get(word)
    if code is None or os.environ.get("NO_COLOR") or not is_live(stream):
        return word
    return f"\x1b[{code}m{word}\x1b[0m"


def say(text: str) -> None:
    """A remark for the person, on stderr."""
    print(plain(text), file=sys.stderr, flush=True)


def data(text: str) -> None:
    """A line of the answer, on stdout. What a peer wrote in it has gone through ``plain``."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Whoever read stdout has had enough, as `head` has. What is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None


def show(document: object, form: Format, table: Callable[[], None]) -> None:
    """The answer in the asked form; ``table`` prints the one for people."""
    if form is Format.json:
        data(as_json(document))
    elif form is Format.yaml:
        data(as_yaml(document))
    else:
        table()


def as_json(document: object) -> str:
    """Indented, with the letters of every language, and every character escaped that is none."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    return re.sub(r"[^\n -~]", lambda found: _letter(found.group()), text)


def _letter(letter: str) -> str:
    return letter if letter.isprintable() else json.dumps(letter)[1:-1]


def as_yaml(document: object) -> str:
    text = _yaml(document, unicode=True)
    if any(not letter.isprintable() and letter != "\n" for letter in text):
        text = _yaml(document, unicode=False)
    return text


def _yaml(document: object, *, unicode: bool) -> str:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=unicode, default_flow_style=False, width=120).rstrip(
        "\n"
    )


def width_of(text: str) -> int:
    """How many columns a terminal gives to ``text``: two for a wide letter, none for an accent that combines."""
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def table(
    headings: Sequence[str], rows: Sequence[Sequence[object]], indent: str = "", numbers: Sequence[str] = ()
) -> None:
    """Aligned columns on stdout, those of ``numbers`` to the right; the last one is never cut, so that programs can read it."""
    cells = [[plain(cell) if str(cell) else "-" for cell in row] for row in rows]
    lines = [list(headings), *cells]
    widths = [max(width_of(line[column]) for line in lines) for column in range(len(headings))]
    for line in lines:
        shown = []
        for heading, word, width in zip(headings, line, widths, strict=True):
            room = " " * (width - width_of(word))
            text = coloured(word, sys.stdout)
            shown.append(room + text if heading in numbers else text + room)
        data(indent + "  ".join(shown).rstrip())


def fields(pairs: Mapping[str, object], indent: str = "") -> None:
    """``name: value`` lines on stdout, values aligned."""
    width = max((len(name) for name in pairs), default=0) + 2
    for name, value in pairs.items():
        data(f"{indent}{(name + ':').ljust(width)}{coloured(plain(value), sys.stdout)}".rstrip())


def amount(count: float) -> str:
    """Bytes in words: 1.5 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


@contextmanager
def progress(label: str, *, counted: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr for a transfer of bytes, or of things that are ``counted``; nothing moves where stderr is no terminal."""
    if not is_live(sys.stderr):
        yield lambda _done, _size: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TransferSpeedColumn,
    )

    amounts: tuple[ProgressColumn, ...] = (DownloadColumn(), TransferSpeedColumn())
    columns = (TextColumn("{task.description}"), BarColumn(), *((MofNCompleteColumn(),) if counted else amounts))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, size: bar.update(task, completed=done, total=size)
