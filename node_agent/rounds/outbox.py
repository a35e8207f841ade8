"""What this lab says of one job: at once, or when a halt is lifted or the lease renewed; nothing once its consent is taken back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from federation.halt.levels import Step
from federation.v1 import rounds_pb2
from node_agent.rounds.lab import Lab

KEPT: Final = 256
"""messages that wait for a halt or a lease"""


class Outbox:
    """``consents``: whether the lab's consent stands now."""

    def __init__(self, lab: Lab, job: bytes, consents: Callable[[], bool]) -> None:
        self._lab, self._job, self._consents = lab, job, consents
        self._kept: deque[Any] = deque(maxlen=KEPT)
        """what may not be said now, in order"""

    def send(self, proto: Any) -> None:
        self._kept.append(proto)
        self.go_on()

    def go_on(self) -> None:
        """Says what may be said, in order; a READY that waits for a hold's end holds back nothing of a round that is under way."""
        waiting = list(self._kept)
        self._kept.clear()
        if self._lab.standing.revocations.revoked(self._job):
            return  # for good: what waits is dropped
        for proto in waiting:
            if isinstance(proto, rounds_pb2.Ready) and not self._consents():
                continue  # it may have waited for a hold's end
            if self._lab.gate.permits(self._job, _step_of(proto)):
                self._lab.way.send(event_of(self._job, proto))
            else:
                self._kept.append(proto)

    def close(self) -> None:
        """What waits is not said any more."""
        self._kept.clear()


def _step_of(proto: Any) -> Step:
    return Step.begin if isinstance(proto, rounds_pb2.Ready) else Step.finish


def event_of(job: bytes, proto: Any) -> rounds_pb2.NodeEvent:
    """A NodeEvent that carries ``proto`` in the field of its kind."""
    kind = type(proto).__name__
    field = {"KeyMessage": "key", "ConsentReply": "consent", "CatalogueStatement": "catalogue"}.get(kind) or "".join(
        f"_{letter.lower()}" if letter.isupper() else letter for letter in kind
    ).lstrip("_")
    return rounds_pb2.NodeEvent(job=job, **{field: proto})
