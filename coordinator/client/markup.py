"""SDK objects as HTML tables, for notebooks. Every text is escaped: it came from a peer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Final

from coordinator.client.terminal import COLOURS

SHADES: Final = {"31": "#b3261e", "32": "#1b7f3b", "33": "#9a6700", "36": "#0b6e80"}
"""of the terminal's colours, behind white letters: so they are read on a light page and on a dark one"""

BADGE: Final = "color:#fff;border-radius:3px;padding:0 5px"


def cell(word: object, *, tag: str = "td", right: bool = False) -> str:
    text = str(word)
    style = "text-align:right" if right else "text-align:left"
    shade = SHADES.get(COLOURS.get(text, ""))
    if shade is not None:
        return f'<{tag} style="{style}"><span style="{BADGE};background:{shade}">{escape(text)}</span></{tag}>'
    return f'<{tag} style="{style}">{escape(text)}</{tag}>'


def table(
    headings: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "", numbers: Sequence[str] = ()
) -> str:
    """``numbers``: the headings of columns that stand to the right."""
    named = f'<caption style="text-align:left"><b>{escape(caption)}</b></caption>' if caption else ""
    head = "".join(cell(heading, tag="th", right=heading in numbers) for heading in headings)
    lines = (
        "".join(cell(word, right=heading in numbers) for heading, word in zip(headings, row, strict=True))
        for row in rows
    )
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table>{named}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def fields(pairs: Mapping[str, object], caption: str = "") -> str:
    """One row for each name and value."""
    named = f'<caption style="text-align:left"><b>{escape(caption)}</b></caption>' if caption else ""
    body = "".join(f"<tr>{cell(name, tag='th')}{cell(value)}</tr>" for name, value in pairs.items())
    return f"<table>{named}<tbody>{body}</tbody></table>"
