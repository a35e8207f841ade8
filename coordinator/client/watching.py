"""`concord watch`: a live table on a terminal; one line for each change elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from coordinator.client.terminal import COLOURS, data, is_live
from coordinator.client.views import ROUND_HEADINGS, ROUND_NUMBERS, Job, Round

SHOWN_ROUNDS = 20
BAR_WIDTH = 50


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
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    def picture(job: Job) -> Group:
        grid = Table(title_justify="left")
        for name in ROUND_HEADINGS:
            grid.add_column(name.lower(), justify="right" if name in ROUND_NUMBERS else "left")
        rows: tuple[Round, ...] = job.rounds[-SHOWN_ROUNDS:]
        for item in rows:
            *cells, lost = item.row(job.rounds_total)
            grid.add_row(*(Text(cell, style=_style(cell)) for cell in cells), Text(lost, style="red"))
        bar = ProgressBar(total=max(1, job.rounds_total), completed=job.rounds_closed, width=BAR_WIDTH)
        line = Table.grid(padding=(0, 1))
        line.add_row(bar, Text(f"{job.rounds_closed} of {job.rounds_total} rounds"))
        head = Text(_head(job))
        head.highlight_words([job.state], style=_style(job.state) or "bold")
        return Group(head, line, *([grid] if rows else []))

    last: Job | None = None
    with Live(console=Console(), auto_refresh=False) as live:
        for last in views:
            live.update(picture(last), refresh=True)
    return last
