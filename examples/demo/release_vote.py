"""The demo's vote: the charter asks two thirds of the members before a model is released, and officers give it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Console

from coordinator.client.views import Job
from examples.local_federation import LocalFederation

CHARTER: Final = {"quorums": {"release": "2/3"}}


class Voting:
    """``watch`` sees each view of the job; once the release is proposed, as many officers as it takes approve it."""

    def __init__(self, console: Console, local: LocalFederation, members: Sequence[str]) -> None:
        self._console, self._local, self._members = console, local, tuple(members)
        self._done = False

    def watch(self, job: Job) -> None:
        if self._done or "is proposed" not in job.reason:
            return
        self._done = True
        needed = -(-2 * len(self._members) // 3)
        for member in self._members[:needed]:
            self._local.login_officer(member)
            self._local.officer(member, "release", "approve", job.name)
            self._say(f"the officer of {member} checked gates and evidence, and approved the release")

    def _say(self, line: str) -> None:
        self._console.print(f"   {line}", highlight=False, soft_wrap=True)
