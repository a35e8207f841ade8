"""What a newcomer watches: one row per round while it happens, on a terminal in place, elsewhere one line per closed round."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from coordinator.client.views import Job, Round

COLUMNS = ("round", "phase", "cohort", "loss", "accuracy", "MB up", "seconds", "")


def figure(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def row_of(item: Round, note: str, rounds_total: int) -> tuple[str, ...]:
    """The round after the last one trains nothing: it judges the final model."""
    cohort = " ".join(item.cohort or item.ready)
    number = "final" if item.round > rounds_total else str(item.round)
    return (
        number + (f".{item.attempt}" if item.attempt else ""),
        item.phase,
        cohort,
        figure(item.loss, ".3f"),
        figure(item.accuracy, ".1%"),
        f"{item.bytes_up / 1e6:.2f}",
        f"{item.seconds:.2f}",
        note,
    )


class Board:
    """``with Board(console) as board: board.show(job)`` for each view of the job. ``notes`` are remarks by round."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.notes: dict[int, str] = {}
        self._job: Job | None = None
        self._printed: set[tuple[int, int]] = set()
        self._live = Live(console=console, auto_refresh=False, transient=False) if console.is_terminal else None

    def show(self, job: Job) -> None:
        self._job = job
        if self._live is not None:
            self._live.update(self._table(job), refresh=True)
            return
        for item in job.rounds:
            if job.settled(item) and (item.round, item.attempt) not in self._printed:
                if not self._printed:
                    self.console.print(self._line(COLUMNS), highlight=False, soft_wrap=True)
                self._printed.add((item.round, item.attempt))
                self.console.print(
                    self._line(row_of(item, self.notes.get(item.round, ""), job.rounds_total)),
                    highlight=False,
                    soft_wrap=True,
                )

    def note(self, round_number: int, text: str) -> None:
        before = self.notes.get(round_number)
        self.notes[round_number] = f"{before}; {text}" if before else text
        if self._job is not None:
            self.show(self._job)

    def _table(self, job: Job) -> Table:
        table = Table(title="Rounds under secure aggregation", title_justify="left")
        for name in COLUMNS:
            table.add_column(
                name, justify="right" if name in {"round", "loss", "accuracy", "MB up", "seconds"} else "left"
            )
        for item in job.rounds:
            table.add_row(*row_of(item, self.notes.get(item.round, ""), job.rounds_total))
        return table

    @staticmethod
    def _line(cells: Sequence[str]) -> str:
        widths = (5, 10, 16, 7, 9, 6, 8, 0)
        return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
