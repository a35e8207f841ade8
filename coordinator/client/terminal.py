"""What people see: data on stdout as a table, JSON or YAML; everything else on stderr.

Colour and moving bars appear on a terminal only, and never when NO_COLOR is set. Text that came from a peer is shown without its
control characters, so that nobody can rewrite a reader's screen.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Final, TextIO

import yaml

COLOURS: Final = {
    "finished": "32", "closed": "32", "granted": "32", "active": "32", "ok": "32", "running": "36",
    "failed": "31", "denied": "31", "revoked": "31", "suspended": "31", "aborted": "31", "void": "31", "FAILED": "31",
    "stopped": "33", "withdrawn": "33", "held": "33", "expired": "33",
}  # fmt: skip


class Format(StrEnum):
    table = "table"
    json = "json"
    yaml = "yaml"


def plain(text: object) -> str:
    """``text`` on one line, without control characters."""
    return "".join(letter if letter.isprintable() else " " for letter in str(text))


def is_live(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def coloured(word: str, stream: TextIO) -> str:
    code = COLOURS.get(word)
    if code is None or os.environ.get("NO_COLOR") or not is_live(stream):
        return word
    return f"\x1b[{code}m{word}\x1b[0m"


def say(text: str) -> None:
    """A remark for the person, on stderr."""
    print(text, file=sys.stderr, flush=True)


def data(text: str) -> None:
    """A line of the answer, on stdout."""
    print(text, flush=True)


def show(document: object, form: Format, table: Callable[[], None]) -> None:
    """The answer in the asked form; ``table`` prints the one for people."""
    if form is Format.json:
        data(json.dumps(document, indent=2, ensure_ascii=False))
    elif form is Format.yaml:
        data(as_yaml(document))
    else:
        table()


def as_yaml(document: object) -> str:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, default_flow_style=False).rstrip("\n")


def table(headings: Sequence[str], rows: Sequence[Sequence[object]], indent: str = "") -> None:
    """Aligned columns on stdout; the last one is never cut, so that it can be read by a program as well."""
    cells = [[plain(cell) if str(cell) else "-" for cell in row] for row in rows]
    widths = [max(len(line[column]) for line in [list(headings), *cells]) for column in range(len(headings))]
    data(indent + "  ".join(word.ljust(width) for word, width in zip(headings, widths, strict=True)).rstrip())
    for line in cells:
        shown = [
            coloured(word, sys.stdout) + " " * (width - len(word)) for word, width in zip(line, widths, strict=True)
        ]
        data(indent + "  ".join(shown).rstrip())


def fields(pairs: Mapping[str, object], indent: str = "") -> None:
    """``name: value`` lines on stdout, values aligned."""
    width = max((len(name) for name in pairs), default=0) + 2
    for name, value in pairs.items():
        data(f"{indent}{(name + ':').ljust(width)}{coloured(plain(value), sys.stdout)}")


def amount(count: float) -> str:
    """Bytes in words: 1.5 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


@contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr for a transfer of bytes; nothing moves where stderr is no terminal."""
    if not is_live(sys.stderr):
        yield lambda _done, _size: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, size: bar.update(task, completed=done, total=size)
