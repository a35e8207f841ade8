"""The life of a job as a table. Illegal steps raise with the job's story."""

from __future__ import annotations

from typing import Final

from federation.errors import OutOfOrder

STEPS: Final[dict[str, frozenset[str]]] = {
    "submitted": frozenset({"consulting", "withdrawn", "failed", "stopped"}),
    "consulting": frozenset({"ready", "withdrawn", "failed", "stopped"}),
    "ready": frozenset({"consulting", "running", "withdrawn", "failed", "stopped"}),
    "running": frozenset({"finished", "failed", "withdrawn", "held", "stopped"}),
    # What was under way when it was held ends as it would, and may be the job's last.
    "held": frozenset({"running", "finished", "failed", "withdrawn", "stopped"}),
    "finished": frozenset(),
    "failed": frozenset(),
    "withdrawn": frozenset(),
    "stopped": frozenset(),
}
ENDED: Final = frozenset(state for state, following in STEPS.items() if not following)


def step(state: str, to: str, story: tuple[str, ...] = ()) -> str:
    """``to``, when a job that is ``state`` may become so. Raises OutOfOrder."""
    if to not in STEPS[state]:
        raise OutOfOrder(f"A job that is {state} cannot become {to}.", hint="Nothing was changed.", story=story)
    return to
