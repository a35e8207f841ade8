"""How far an order goes, and which steps of a node it still lets through.

hold   nothing new is begun; the round that is under way ends as it would; it goes on when the order is lifted
drain  as hold; and when that round has ended, what is halted is stopped
stop   nothing more, at once: the training process ends, the job's keys and files are erased; final for every job that it reached

Each forbids all that the one before it forbids.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final

from federation.errors import InvalidIdentity


class Level(IntEnum):
    none = 0
    hold = 1
    drain = 2
    stop = 3


class Step(StrEnum):
    """What a node asks before it does it."""

    begin = "begin"
    """consent to a job, make its first model, READY for a round"""
    finish = "finish"
    """of a round that is under way: train, UPLOAD, ACK, REVEAL, RECOVER, and all that else is said in a job"""


PERMITTED_AT: Final = {Step.begin: Level.none, Step.finish: Level.drain}
"""the highest level at which a step is still permitted"""


def permits(level: Level, step: Step) -> bool:
    return level <= PERMITTED_AT[step]


def level_of(word: object) -> Level:
    """A level that somebody may order. Raises InvalidIdentity."""
    if isinstance(word, str) and word in Level.__members__ and word != Level.none.name:
        return Level[word]
    raise InvalidIdentity(f"{str(word)[:40]!r} is no level of a halt.", hint="It is hold, drain or stop.")
