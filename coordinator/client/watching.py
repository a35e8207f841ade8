"""`concord watch`: a live table on a terminal; one line for each change elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Literal

from coordinator.client.terminal import COLOURS, data, is_live, width_of
from coordinator.client.views import ROUND_HEADINGS, ROUND_NUMBERS, Job, Round

if TYPE_CHECKING:
    from rich.console import RenderableType

SHOWN_ROUNDS: Final = 20
BAR_WIDTH: Final = 50
WIDE: Final = 80
"""columns, from which on bytes and seconds are shown"""
OTHER_LINES: Final = 6
"""of the picture: state, bar, headings, a remark, and room for the cursor"""


def watch(views: Iterable[Job]) -> Job | None:
    """Shows each view; returns the last."""
    return _live(views) if is_live(sys.stdout) else _lines(views)


def exit_code_of(job: Job | None) -> int:
    """0 finished, 7 withdrawn or stopped, 1 failed or unknown."""
    if job is None or job.state == "failed":
        return 1
    return 7 if job.state in {"withdrawn", "stopped"} else 0


def _lines(views: Iterable[Job]) -> Job | None:
    """The rounds before the state, so that the last line tells how the job ended."""
    last: Job | None = None
    seen: dict[tuple[int, int], str] = {}
    for job in views:
        for item in job.rounds:
            if item.phase == "closed" and not job.settled(item):
                continue
            if seen.get((item.round, item.attempt)) != item.phase:
                seen[item.round, item.attempt] = item.phase
                data("  " + _words(item, job.rounds_total))
        if last is None or (job.state, job.reason) != (last.state, last.reason):
            data(_head(job))
        last = job
    return last


def _words(item: Round, rounds_total: int) -> str:
    """Loss, bytes and seconds only once there are some."""
    number, phase, *cells = item.row(rounds_total)
    figures = [f"{name.lower()} {cell}" for name, cell in zip(ROUND_HEADINGS[2:], cells, strict=True) if cell]
    if not item.bytes_up and item.phase != "closed":
        figures = [words for words in figures if words.startswith(("cohort", "lost"))]
    return "  ".join([f"round {number} {phase}", *figures, *([item.reason] if item.reason else [])])


def _head(job: Job) -> str:
    return f"job/{job.name} {job.state}" + (f": {job.reason}" if job.reason else "")


def _style(word: str) -> str:
    """As on a table of this client; none where NO_COLOR is set, which the console sees to."""
    return {"31": "red", "32": "green", "33": "yellow", "36": "cyan"}.get(COLOURS.get(word, ""), "")


def _live(views: Iterable[Job]) -> Job | None:
    from rich.console import Console
    from rich.live import Live

    console = Console()
    last: Job | None = None
    with Live(console=console, auto_refresh=False) as live:
        for last in views:
            live.update(_picture(last, console.width, console.height), refresh=True)
    return last


def _picture(job: Job, width: int, height: int) -> RenderableType:
    """A line for each round, the newest ones that fit; where it is narrow, without bytes and seconds, and cohorts as numbers."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    rounds = job.rounds[-max(1, min(SHOWN_ROUNDS, height - OTHER_LINES)) :]
    rows = [dict(zip(ROUND_HEADINGS, item.row(job.rounds_total), strict=True)) for item in rounds]
    headings = [name for name in ROUND_HEADINGS if width >= WIDE or name not in {"UP", "SECONDS"}]
    widths = {name: max(map(width_of, [name, *(row[name] for row in rows)])) for name in headings}
    room = width - 2 * (len(headings) - 1) - sum(widths[name] for name in headings if name not in {"COHORT", "LOST"})
    if widths["COHORT"] + widths["LOST"] > room:
        rows = [{**row, "COHORT": str(len(item.cohort or item.ready))} for row, item in zip(rows, rounds, strict=True)]
        widths |= {"COHORT": len("COHORT"), "LOST": max(len("LOST"), room - len("COHORT"))}
    grid = Table(box=None, padding=(0, 1, 0, 1), pad_edge=False, header_style="bold")
    for name in headings:
        side: Literal["left", "right"] = "right" if name in ROUND_NUMBERS else "left"
        grid.add_column(name.lower(), justify=side, no_wrap=True, overflow="ellipsis", width=widths[name])
    for row in rows:
        grid.add_row(*(Text(row[name], style="red" if name == "LOST" else _style(row[name])) for name in headings))
    bar = ProgressBar(
        total=max(1, job.rounds_total), completed=job.rounds_closed, width=max(10, min(BAR_WIDTH, width - 24))
    )
    line = Table.grid(padding=(0, 1))
    line.add_row(bar, Text(f"{job.rounds_closed} of {job.rounds_total} rounds"))
    head = Text(_head(job), no_wrap=True, overflow="ellipsis")
    head.highlight_words([job.state], style=_style(job.state) or "bold")
    why = next((f"round {item.round} {item.phase}: {item.reason}" for item in reversed(rounds) if item.reason), "")
    remark = [Text(why, style="dim", no_wrap=True, overflow="ellipsis")] if why else []
    return Group(head, line, *([grid] if rows else []), *remark)
