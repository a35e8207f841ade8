"""Whether enough members have consented: asked after each answer and when a window ends. Ready, failed, or waiting still."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from coordinator.api.sessions import Sessions
from coordinator.jobs import revocations
from coordinator.jobs.case import ANSWERED, UNABLE, Case
from coordinator.jobs.cases import Cases
from coordinator.jobs.seating import Seating
from coordinator.registry.enrolment import REFUSED_STATES, Registry, state_of
from coordinator.store.database import Database
from federation.manifest.invitation import invited, is_invited


class Consultation:
    def __init__(
        self,
        cases: Cases,
        database: Database,
        sessions: Sessions,
        registry: Registry,
        seating: Seating,
        clock: Callable[[], float],
    ) -> None:
        self._cases, self._database, self._sessions = cases, database, sessions
        self._registry, self._seating, self._clock = registry, seating, clock

    def schedule(self, case: Case) -> None:
        """Consider again now and when the windows end: offline nodes are waited for shortly, connected ones longer."""
        limits = case.manifest.spec.deadlines
        self.consider(case)
        if case.state == "consulting":
            passed = self._clock() - case.submitted
            waits = [limit - passed for limit in (limits.reconnect_seconds, limits.consent_seconds) if limit > passed]
            if waits:
                case.timer = asyncio.get_running_loop().call_later(min(waits) + 0.01, self.schedule, case)

    def consider(self, case: Case) -> None:
        if case.state != "consulting":
            self._seating.place_all()
            return
        limits, people = case.manifest.spec.deadlines, case.manifest.spec.participants
        roll = self._registry.roll()
        granted = {member for (member, _node), answer in case.answers.items() if answer.state == "granted"}
        places = {roll.member(member).jurisdiction for member in granted}
        enough = len(granted) >= people.min_members and len(places) >= people.min_jurisdictions
        over = self._clock() - case.submitted >= limits.consent_seconds
        if not over and (not enough or self._still_asked(case)):
            if not self._still_asked(case) and not self._may_still_come(case):
                self._cases.fail(case, _refused(case, granted))
            return
        if not enough:
            self._cases.fail(case, _refused(case, granted))
            return
        self._cases.become(case, "ready", "the members have consented; waiting for a place")
        self._seating.place_all()

    def _still_asked(self, case: Case) -> bool:
        """Whether an enrolled node that is invited has not answered and is worth waiting for."""
        limits = case.manifest.spec.deadlines
        waited = self._clock() - case.submitted
        roll = self._registry.roll()
        with self._database.transaction() as change:
            nodes = change.nodes()
        for node in nodes:
            if not is_invited(case.manifest.spec.participants, roll.member(node.member)):
                continue
            if state_of(node, roll) in REFUSED_STATES:
                continue
            answer = case.answers.get((node.member, node.node))
            if answer is not None and answer.state in ANSWERED | {UNABLE}:
                continue
            if answer is not None and answer.reasons and waited < limits.consent_seconds:
                return True  # a person decides, whether the node is connected or not
            connected = self._sessions.get(node.member, node.node) is not None
            if waited < (limits.consent_seconds if connected else limits.reconnect_seconds):
                return True
        return False

    def _may_still_come(self, case: Case) -> bool:
        """Whether members that have not denied could still make up the minimum."""
        roll = self._registry.roll()
        gone = revocations.OVER | {"denied"}
        denied = {member for (member, _node), answer in case.answers.items() if answer.state in gone}
        people = case.manifest.spec.participants
        left = [member for member in invited(people, roll) if member.id not in denied]
        return (
            len(left) >= people.min_members
            and len({member.jurisdiction for member in left}) >= people.min_jurisdictions
        )


def _refused(case: Case, granted: set[str]) -> str:
    said: dict[str, list[str]] = {"denied": [], "revoked": [], UNABLE: [], "asked": []}
    for answer in sorted(case.answers.values(), key=lambda answer: (answer.member, answer.node)):
        if answer.state in said:
            said[answer.state].append(": ".join(filter(None, (answer.member, "; ".join(answer.reasons)))))
    parts = [f"{len(granted)} members consented, and {case.manifest.spec.participants.min_members} are needed"]
    titles = {
        "denied": "denied by",
        "revoked": "taken back by",
        UNABLE: "could not be decided by",
        "asked": "no answer from",
    }
    parts += [f"{title} {' | '.join(said[state])}" for state, title in titles.items() if said[state]]
    return "; ".join(parts)
