"""What a halt means for a job here, as a pure function; and what the docket asks of the halts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from federation.halt.levels import Level

UNDER_WAY: Final = frozenset({"collecting", "certifying", "revealing", "unmasking"})
"""phases of a round that was begun and has not ended"""


class Halting(Protocol):
    def level(self, job: bytes = b"", member: str = "", node: str = "", lead: str = "") -> Level: ...

    def reason(self, job: bytes, member: str = "", lead: str = "") -> str: ...


@dataclass(frozen=True, slots=True)
class _Nothing:
    def level(self, job: bytes = b"", member: str = "", node: str = "", lead: str = "") -> Level:  # noqa: ARG002
        return Level.none

    def reason(self, job: bytes, member: str = "", lead: str = "") -> str:  # noqa: ARG002
        return ""


NOTHING_HALTED: Final = _Nothing()


def effect(level: Level, state: str, phase: str) -> str:
    """The state that a job of this ``state`` takes; empty when it stays. ``phase``: of its collector, empty without one.

    A job that is not under way yet waits in its state while it is held, and a drain finds nothing in it to finish.
    """
    if level is Level.stop or (level is Level.drain and phase not in UNDER_WAY):
        return "stopped"
    if level is Level.none:
        return "running" if state == "held" else ""
    return "held" if state == "running" else ""
