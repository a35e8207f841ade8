"""A job that has not ended, as the coordinator holds it: where it stands, who answered what, who has a seat."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from coordinator.jobs import revocations
from coordinator.rounds.driver import JobDriver
from coordinator.store.database import ConsentRow
from federation.manifest.manifest import Manifest

ANSWERED: Final = frozenset({"granted", "denied"}) | revocations.OVER
UNABLE: Final = "refused"
"""The node could not decide, for instance since its policy file is not in order. It is asked again when it connects again."""
UNDER_WAY: Final = frozenset({"running", "held"})


@dataclass(slots=True, eq=False)
class Case:
    manifest: Manifest
    state: str
    submitted: float
    answers: dict[tuple[str, str], ConsentRow] = field(default_factory=dict)
    placement: tuple[tuple[str, str], ...] = ()
    driver: JobDriver | None = None
    timer: asyncio.TimerHandle | None = None
    publishing: bool = False
    progressed: float = 0.0
    """when it began to run, closed a round, or went on after a halt"""
    rounds_closed: int = 0
    proposed: bool = False
    """its rounds are over, and its release waits for a vote: it takes no room"""
    remarks: Counter[str] = field(default_factory=Counter)
    """lines of the story, by member"""
    answered: Counter[tuple[str, str]] = field(default_factory=Counter)
    """signed answers since the coordinator's start, by member and node"""
    refused: str = ""
    """who refused last, and why, in that member's own words"""

    @property
    def digest(self) -> str:
        return self.manifest.digest.hex()

    @property
    def names(self) -> dict[str, object]:
        """As lines of the log say them: job, name, and the round while there is one."""
        if self.driver is not None:
            return dict(self.driver.names)
        return {"job": self.digest[:12], "name": self.manifest.name}

    def driver_of(self, member: str, node: str) -> JobDriver | None:
        """The driver, where this node holds a seat of the job."""
        return self.driver if self.driver is not None and self.driver.members.get(member) == node else None

    def may_join(self, member: str) -> bool:
        """Whether a job that is under way takes another member in."""
        placed = {name for name, _ in self.placement}
        return (
            self.state == "running"
            and self.driver is not None
            and self.driver.takes_members
            and member not in placed
            and len(placed) < self.manifest.spec.participants.max_members
        )

    def was_put_out(self, key: tuple[str, str]) -> bool:
        """Whether this node was in the job when a roll put it out, and has not consented anew. Its answer was made void then."""
        answer = self.answers.get(key)
        return self.state in UNDER_WAY and key in self.placement and answer is not None and answer.state == UNABLE

    def is_over_for(self, key: tuple[str, str]) -> bool:
        """Whether this node's consent was taken back, or has ended."""
        return revocations.over(self.answers.get(key))

    @property
    def consents(self) -> dict[str, bytes]:
        """What those that have a seat signed, by member."""
        return {
            answer.member: answer.envelope
            for answer in self.answers.values()
            if (answer.member, answer.node) in self.placement
        }
