"""Draws federation.svg, the picture on the first pages, from what is written below; a test compares.

Drawn anew by ``python docs/pictures/drawing.py [FILE]``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

TITLE: Final = "A federation"
TOLD: Final = (
    "Each laboratory keeps its data, its keys and its policy on its own machine. Its node dials out to the coordinator, "
    "which carries job documents, masked updates and votes between the nodes. A lead submits jobs and gets releases; officers "
    "vote and halt; anybody verifies releases and the public log without asking the coordinator."
)
SIZE: Final = (1030, 478)
BLUE, ORANGE, GREEN, INK, GREY = "#0072B2", "#D55E00", "#00795a", "#1b1b1b", "#5f5f5f"


@dataclass(frozen=True, slots=True)
class Box:
    x: int
    y: int
    width: int
    height: int
    title: str
    lines: tuple[str, ...] = ()
    colour: str = BLUE
    inner: bool = False


@dataclass(frozen=True, slots=True)
class Words:
    text: str
    x: int
    """of their middle"""
    y: int


@dataclass(frozen=True, slots=True)
class Arrow:
    """From one point to another; both ways where it says so."""

    start: tuple[int, int]
    end: tuple[int, int]
    words: tuple[Words, ...] = ()
    both: bool = False


BOXES: Final = (
    Box(16, 16, 310, 318, "A laboratory, in Brazil"),
    Box(32, 56, 278, 60, "Data", ("records never leave this machine",), GREEN, inner=True),
    Box(32, 134, 278, 74, "Worker", ("trains the job's code on the data", "in a sandbox without network"), ORANGE, inner=True),
    Box(32, 226, 278, 92, "Node", (
        "decides by the lab's own policy", "masks and signs the update", "checks all that it is told",
    ), inner=True),
    Box(16, 352, 310, 48, "Another, in Kenya", inner=True),
    Box(16, 414, 310, 48, "Another, in India", inner=True),
    Box(510, 150, 200, 150, "Coordinator", (
        "orders the rounds", "carries messages", "adds masked numbers", "keeps the public log", "has no vote",
    ), GREY),
    Box(810, 16, 204, 76, "Research lead", ("signs jobs, gets models",), ORANGE),
    Box(810, 187, 204, 76, "Members' officers", ("admit, vote, halt",), BLUE),
    Box(810, 386, 204, 76, "Anybody", ("verifies, offline",), GREEN),
)  # fmt: skip
ARROWS: Final = (
    Arrow((171, 116), (171, 134)),
    Arrow((171, 208), (171, 226)),
    Arrow((326, 225), (510, 225), (
        Words("masked updates, signed", 418, 211), Words("one port, TLS, dialled", 418, 246), Words("by the laboratory", 418, 262),
    ), both=True),
    Arrow((326, 376), (532, 300), both=True),
    Arrow((326, 438), (580, 300), both=True),
    Arrow((810, 54), (660, 150), (Words("jobs, signed", 690, 76), Words("models, sealed", 690, 92)), both=True),
    Arrow((810, 225), (710, 225), (Words("votes,", 760, 196), Words("halts", 760, 212)), both=True),
    Arrow((660, 300), (810, 420), (Words("releases,", 690, 376), Words("public log", 690, 392)),),
)  # fmt: skip


def drawing() -> str:
    """The SVG: letters only from the reader's own fonts, nothing fetched, read aloud by its title and description."""
    width, height = SIZE
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-labelledby="title told"',
        '     font-family="system-ui, sans-serif" font-size="13">',
        f'  <title id="title">{escape(TITLE)}</title>',
        f'  <desc id="told">{escape(TOLD)}</desc>',
        '  <defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8"',
        f'    orient="auto-start-reverse"><path d="M0 0 L8 4 L0 8 z" fill="{INK}"/></marker></defs>',
        f'  <rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>',
        *(line for box in BOXES for line in _box(box)),
        *(line for arrow in ARROWS for line in _arrow(arrow)),
        "</svg>",
    ]) + "\n"  # fmt: skip


def _box(box: Box) -> Iterator[str]:
    fill = "#ffffff" if box.inner else "#f4f6f8"
    yield f'  <rect x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="6" fill="{fill}"'
    yield f'        stroke="{box.colour}" stroke-width="2"/>'
    yield _text(box.x + 12, box.y + 24, box.title, weight="600")
    for number, line in enumerate(box.lines):
        yield _text(box.x + 12, box.y + 46 + 18 * number, line)


def _arrow(arrow: Arrow) -> Iterator[str]:
    (x, y), (to_x, to_y) = arrow.start, arrow.end
    start = ' marker-start="url(#tip)"' if arrow.both else ""
    yield f'  <line x1="{x}" y1="{y}" x2="{to_x}" y2="{to_y}" stroke="{INK}" stroke-width="1.5"{start} marker-end="url(#tip)"/>'
    for words in arrow.words:
        yield _text(words.x, words.y, words.text, anchor="middle", colour=GREY)


def _text(x: int, y: int, words: str, *, weight: str = "400", anchor: str = "start", colour: str = INK) -> str:
    return (
        f'  <text x="{x}" y="{y}" font-weight="{weight}" text-anchor="{anchor}" fill="{colour}">{escape(words)}</text>'
    )


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("federation.svg")
    place.write_text(drawing())
