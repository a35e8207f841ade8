"""`concord watch`: a live table on a terminal; one line for each change elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from coordinator.client.describe import ROUND_HEADINGS, round_row
from coordinator.client.terminal import data, is_live, plain
from coordinator.client.views import Job, Round

SHOWN_ROUNDS = 20


def watch(views: Iterable[Job]) -> Job | None:
    """Shows each view; returns the last."""
    return _live(views) if is_live(sys.stdout) else _lines(views)


def exit_code_of(job: Job | None) -> int:
    """0 finished, 7 withdrawn or stopped, 1 failed or unknown."""
    if job is None or job.state == "failed":
        return 1
    return 7 if job.state in {"withdrawn", "stopped"} else 0


def _lines(views: Iterable[Job]) -> Job | None:
    last: Job | None = None
    seen: dict[tuple[int, int], str] = {}
    for job in views:
        if last is None or (job.state, job.reason) != (last.state, last.reason):
            data(f"job/{plain(job.name)} {job.state}: {plain(job.reason)}")
        for item in job.rounds:
            if seen.get((item.round, item.attempt)) != item.phase:
                seen[item.round, item.attempt] = item.phase
                data(
                    "  "
                    + "  ".join(
                        f"{name.lower()} {plain(cell)}"
                        for name, cell in zip(ROUND_HEADINGS, round_row(item), strict=True)
                        if cell
                    )
                )
        last = job
    return last


def _live(views: Iterable[Job]) -> Job | None:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    def picture(job: Job) -> Group:
        grid = Table(title_justify="left")
        for name in ROUND_HEADINGS:
            grid.add_column(
                name.lower(), justify="right" if name in {"ROUND", "LOSS", "ACCURACY", "UP", "SECONDS"} else "left"
            )
        rows: tuple[Round, ...] = job.rounds[-SHOWN_ROUNDS:]
        for item in rows:
            grid.add_row(*(Text(plain(cell)) for cell in round_row(item)))
        head = Text(f"job/{plain(job.name)}  {job.state}  {plain(job.reason)}")
        return Group(head, ProgressBar(total=max(1, job.rounds_total), completed=job.rounds_closed, width=60), grid)

    last: Job | None = None
    with Live(console=Console(), auto_refresh=False) as live:
        for last in views:
            live.update(picture(last), refresh=True)
    return last
