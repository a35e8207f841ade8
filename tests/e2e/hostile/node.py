"""A node that lies. ``python -m tests.e2e.hostile.node run --home HOME``

It is the real agent with its true keys, but for its machine of the protocol: that of a job named after a lie says one thing more,
or one thing less, than it should. ``dealer-3`` is lied to by ``LIES["dealer"]``; a job of any other name is told the truth.
"""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from typing import Any

import node_agent.jobs
import node_agent.rounds.driver
from federation.secagg import events, transcripts
from federation.secagg.member import MemberMachine
from federation.secagg.messages import Reveal, Trailer
from node_agent.main import main
from node_agent.rounds.driver import JobDriver

NUMBER = re.compile(r"-\d+$")
LYING = (2, 0)
"""the round and the attempt in which it lies"""


class Liar(MemberMachine):
    """Keeps to the protocol, remembers what it said, and signs it; what it says of its own seed is up to the lie."""

    _lying: bytes = b""
    """the context that it lies in"""

    def _trailer(self, announced: Any, seeds: Any) -> Trailer:
        honest = super()._trailer(announced, seeds)
        if (announced.round, announced.attempt) != LYING:
            return honest
        self._lying = announced.context
        return self.dealt(honest)

    def handle(self, event: events.MemberEvent, now: float) -> list[events.MemberInstruction]:
        out: list[events.MemberInstruction] = []
        for each in super().handle(event, now):
            if (
                isinstance(each, events.Send)
                and isinstance(each.message, Reveal)
                and each.message.context == self._lying
            ):
                out += [events.Send(said) for said in self.revealed(each.message)]
            else:
                out.append(each)
        return out

    def dealt(self, trailer: Trailer) -> Trailer:
        raise NotImplementedError

    def revealed(self, reveal: Reveal) -> list[Reveal]:
        raise NotImplementedError


class Dealer(Liar):
    """Deals shares of another seed than the one it commits to, and falls silent, so that they are needed."""

    def dealt(self, trailer: Trailer) -> Trailer:
        return replace(trailer, secret_hashes=(bytes(32), *trailer.secret_hashes[1:]))

    def revealed(self, reveal: Reveal) -> list[Reveal]:
        return []


class FalseSeed(Liar):
    """Reveals another seed than the one it commits to, and dealt boxes that nobody can open."""

    def dealt(self, trailer: Trailer) -> Trailer:
        return replace(
            trailer, boxes=tuple(replace(box, ciphertext=bytes(len(box.ciphertext))) for box in trailer.boxes)
        )

    def revealed(self, reveal: Reveal) -> list[Reveal]:
        other = replace(reveal, self_seed=bytes(32))
        return [replace(other, signature=self._sign(transcripts.reveal_transcript(other)))]


LIES: dict[str, type[MemberMachine]] = {"dealer": Dealer, "false-seed": FalseSeed}


class LyingDriver(JobDriver):
    def __init__(self, lab: Any, manifest: Any, *rest: Any) -> None:
        machine = LIES.get(NUMBER.sub("", manifest.name), MemberMachine)
        node_agent.rounds.driver.MemberMachine = machine  # type: ignore[misc]
        super().__init__(lab, manifest, *rest)


if __name__ == "__main__":
    node_agent.jobs.JobDriver = LyingDriver  # type: ignore[misc]
    sys.exit(main())
