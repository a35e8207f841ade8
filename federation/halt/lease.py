"""How long a node goes on without hearing that it is not halted.

The node asks, the coordinator answers with the orders that stand. An answer is good for some seconds from the moment at which the
node *asked*, by the node's own clock, which goes on while the machine sleeps: so an answer that was delayed, buffered or replayed
is worth no more than it was. It renews the lease only where the node holds every order that it names.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

ASKED_AT_ONCE: Final = 64


@dataclass(slots=True)
class Lease:
    """``seconds``: the charter's, or less where the node's own settings say so. Times are seconds of one clock that only grows."""

    seconds: float
    ends: float = float("-inf")
    _asked: dict[int, float] = field(default_factory=dict)
    _number: int = 0

    def ask(self, now: float) -> int:
        """A new question's number."""
        self._number += 1
        self._asked[self._number] = now
        while len(self._asked) > ASKED_AT_ONCE:
            del self._asked[next(iter(self._asked))]
        return self._number

    def answered(self, number: int, standing: Collection[bytes], held: Collection[bytes]) -> bool:
        """Whether this renewed the lease. ``standing``: digests that the coordinator names; ``held``: those that the node has."""
        asked = self._asked.get(number)
        if asked is None or not set(standing) <= set(held):
            return False
        for known in [known for known in self._asked if known <= number]:
            del self._asked[known]
        self.ends = max(self.ends, asked + self.seconds)
        return True

    def forget(self) -> None:
        """A new stream: what was asked on the old one is answered by nobody."""
        self._asked.clear()

    def holds(self, now: float) -> bool:
        return now < self.ends
