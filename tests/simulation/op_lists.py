"""Lists of ops: how they are drawn, and how one that fails is made small.

An op is a name and a few small numbers that always mean something; 0 is the newest, or everybody, so that what shrinks
reads as a story. ``CONCORD_SIMULATIONS`` multiplies how many lists a test draws (1 without it).
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

MANY = int(os.environ.get("CONCORD_SIMULATIONS", "1"))


@dataclass(frozen=True, slots=True)
class Op:
    """``pick``: which, counted back from the newest; ``choice``: how; ``less``, ``spare``: who not, as bits."""

    name: str
    pick: int = 0
    choice: int = 0
    less: int = 0
    spare: int = 0

    def __repr__(self) -> str:
        values = [f"{each.name}={value}" for each in fields(self)[1:] if (value := getattr(self, each.name))]
        return f"Op({', '.join([repr(self.name), *values])})"


Profile = Mapping[str, int]
"""op name -> weight"""


def draw(dice: random.Random, profile: Profile, members: int, length: int) -> list[Op]:
    """Numbers are mostly 0, and sets mostly all or all but one."""

    def but_some() -> int:
        kind = dice.random()
        return 0 if kind < 0.4 else 1 << dice.randrange(members) if kind < 0.7 else dice.randrange(1 << members)

    names, weights = list(profile), list(profile.values())
    return [
        Op(
            dice.choices(names, weights)[0],
            dice.choices((0, 1, 2, 3, 4), (8, 3, 1, 1, 1))[0],
            dice.choices((0, 1, 2, 3), (6, 2, 2, 1))[0],
            but_some(),
            but_some(),
        )
        for _ in range(length)
    ]


def shrunk(ops: Sequence[Op], fails: Callable[[Sequence[Op]], bool]) -> list[Op]:
    """A list that still fails, of which no op can be left out and no number lowered."""
    ops, before = list(ops), None
    while ops != before:
        before = list(ops)
        for smaller in _smaller(ops):
            if fails(smaller):
                ops = smaller
                break
    return ops


def _smaller(ops: list[Op]) -> Iterator[list[Op]]:
    size = len(ops)
    while size := size // 2:
        for start in range(0, len(ops), size):
            yield ops[:start] + ops[start + size :]
    for place, op in enumerate(ops):
        for name in ("pick", "choice", "less", "spare"):
            value = getattr(op, name)
            lower = (
                (value & ~(1 << bit) for bit in range(value.bit_length()))
                if name in ("less", "spare")
                else range(value)
            )
            for each in (0, *lower):
                if each < value:
                    yield [*ops[:place], replace(op, **{name: each}), *ops[place + 1 :]]
