"""What waits for a person at this lab: asked once, with a deadline, and decided by a role that the lab has named.

The decision is written down before anything follows from it (``node_agent.store.questions``); what follows is the node's: it asks
its rules once more, signs, and says it. A question that nobody decides in time is denied. One whose job has ended is over: nobody
can decide it any more, and nothing is signed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

import structlog

from federation.errors import FederationError, InvalidIdentity, InvalidUsage, NotFound, PolicyDenied, plain
from federation.identity.consent import Given
from federation.identity.fields import moment, moment_text
from federation.identity.roll import Roll
from federation.identity.withdrawal import open_withdrawal
from federation.manifest.manifest import open_manifest
from node_agent.store.journal import Journal
from node_agent.store.questions import Question, State

log = structlog.get_logger()

MIN_PREFIX: Final = 6
LONGEST: Final = timedelta(days=366)
"""no consent lasts longer"""
HEX: Final = frozenset("0123456789abcdef")
TOLD: Final = 256
"""questions of which the coordinator hears at once whether they have ended"""
LONGEST_WHY: Final = 1000
"""letters"""


class Inbox:
    """``settled``: what follows from a decision that is on disk."""

    def __init__(
        self,
        journal: Journal,
        clock: Callable[[], datetime],
        settled: Callable[[Question], Awaitable[str]],
    ) -> None:
        self._journal, self._clock, self._settled = journal, clock, settled
        self._alarms: dict[bytes, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[str]] = set()

    def resume(self) -> None:
        """After a start: deadlines run on, and what was decided and not said yet is said."""
        for question in self._journal.questions():
            if question.state == "waiting":
                self._watch(question)
            elif question.state != "over" and self._journal.consent(question.job) is None:
                self._follow(question)

    def waiting(self) -> tuple[bytes, ...]:
        """Jobs about which a person is asked, the one that ends first first."""
        asked = (each for each in self._journal.questions() if (each.kind, each.state) == ("job", "waiting"))
        return tuple(question.job for question in asked)[:TOLD]

    def end(self, job: bytes, why: str) -> bool:
        """The question is over, if it waits: on disk when this returns. Whether it waited."""
        if not self._journal.settle(job, "over", moment_text(self._clock()), words=why[:LONGEST_WHY]):
            return False
        if (alarm := self._alarms.pop(job, None)) is not None:
            alarm.cancel()
        log.info("consent.question-over", job=job.hex()[:12], detail=why[:LONGEST_WHY])
        return True

    def withdrawn(self, job: bytes, envelope: bytes, roll: Roll) -> None:
        """Its lead has taken the job back: over, where a question waits and it was that lead who signed."""
        question = self._journal.question(job)
        if question is None or question.state != "waiting":
            return
        try:
            withdrawal = open_withdrawal(envelope, job, open_manifest(question.manifest, roll).lead.key)
        except FederationError as error:
            log.warning("withdrawal.refused", detail=error.message)
            return
        reason = f": {withdrawal.reason}" if withdrawal.reason else ""
        self.end(job, f"its lead has taken the job back{reason}")

    def amended(self, roll: Roll) -> None:
        """A new roll is in force: whose lead stands no more on it asks nothing more."""
        for question in self._journal.questions():
            if question.state == "waiting":
                try:
                    roll.require_lead(question.lead)
                except InvalidIdentity as error:
                    self.end(question.job, error.message)

    def stop(self) -> None:
        for alarm in self._alarms.values():
            alarm.cancel()
        for task in self._tasks:
            task.cancel()

    async def ask(self, question: Question) -> Question:
        """On disk when this returns; as it stands, if it was asked before."""
        standing = await asyncio.to_thread(self._journal.ask, question)
        if standing.state == "waiting":
            self._watch(standing)
        return standing

    async def grant(self, job: str, role: str, until: str) -> str:
        """Raises NotFound, InvalidUsage, PolicyDenied."""
        question = find(self._journal, job)
        settle(self._journal, question, "granted", self._clock(), role=role, until=until)
        return await self._told(question)

    async def deny(self, job: str, role: str, words: str, told: bool) -> str:
        """``told``: the words may leave. Raises NotFound, InvalidUsage, PolicyDenied."""
        question = find(self._journal, job)
        settle(self._journal, question, "denied", self._clock(), role=role, words=words, told=told)
        return await self._told(question)

    async def _told(self, question: Question) -> str:
        if (alarm := self._alarms.pop(question.job, None)) is not None:
            alarm.cancel()
        decided = self._journal.question(question.job)
        assert decided is not None
        return await self._settled(decided)

    def _watch(self, question: Question) -> None:
        if question.job not in self._alarms:
            left = (moment(question.deadline, "deadline") - self._clock()).total_seconds()
            loop = asyncio.get_running_loop()
            self._alarms[question.job] = loop.call_later(max(0.0, left), self._late, question)

    def _late(self, question: Question) -> None:
        self._alarms.pop(question.job, None)
        if self._clock() < moment(question.deadline, "deadline"):
            self._watch(question)  # the clock was set back
        elif self._journal.settle(question.job, "late", moment_text(self._clock())):
            late = self._journal.question(question.job)
            assert late is not None
            self._follow(late)

    def _follow(self, question: Question) -> None:
        task = asyncio.get_running_loop().create_task(_awaited(self._settled(question)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _awaited(work: Awaitable[str]) -> str:
    """Nobody waits for what it tells."""
    try:
        return await work
    except FederationError as error:
        log.error("consent.not-said", code=error.code, detail=error.message, hint=error.hint)
        return ""


def settle(
    journal: Journal,
    question: Question,
    state: State,
    now: datetime,
    *,
    role: str,
    until: str = "",
    words: str = "",
    told: bool = False,
) -> None:
    """A person's decision, on disk when this returns; also while no node runs. Raises InvalidUsage, PolicyDenied."""
    deciders = question.deciders
    role = role or deciders[0]
    if role not in deciders:
        raise PolicyDenied(
            f"The role {role} does not decide at this lab.",
            hint=f"Those that do: {', '.join(deciders)}.",
        )
    ends = ends_at(until, now) if until else None
    if question.state == "waiting" and now >= moment(question.deadline, "deadline"):
        raise PolicyDenied(
            f"The question about {question.name} ended at {question.deadline}: what nobody decides in time is denied.",
            hint="Ask the lead to submit it again.",
        )
    done = journal.settle(
        question.job,
        state,
        moment_text(now),
        role=role,
        until=moment_text(ends) if ends else "",
        words=words,
        told=told,
    )
    if not done:
        standing = journal.question(question.job)
        assert standing is not None
        if standing.state == "over":
            raise InvalidUsage(
                f"The question about {question.name} is over since {standing.decided}: {plain(standing.words)}.",
                hint="Nothing is left to decide. If the lead submits the job anew, it is asked about anew.",
            )
        raise InvalidUsage(
            f"{question.name} is decided already: {standing.state} at {standing.decided}.",
            hint="A consent that was given can be taken back: concord-node revoke.",
        )


def ends_at(until: str, now: datetime) -> datetime:
    """2026-12-31T18:00:00Z, or 2026-12-31 (its first moment, UTC). Raises InvalidUsage."""
    try:
        ends = moment(until if "T" in until else f"{until}T00:00:00Z", "until")
    except InvalidIdentity as error:
        raise InvalidUsage(
            f"{until!r} is no time.", hint="Write it as 2026-12-31 or 2026-12-31T18:00:00Z (UTC)."
        ) from error
    if ends <= now:
        raise InvalidUsage(f"{until} has passed.", hint="Give a time in the future, or none.")
    if ends > now + LONGEST:
        raise InvalidUsage(f"No consent lasts longer than {LONGEST.days} days.", hint="Give an earlier time.")
    return ends


def find(journal: Journal, wanted: str) -> Question:
    """By name (the newest), digest, or its first digits. Raises NotFound."""
    known = journal.questions()
    found = [question for question in known if question.name == wanted]
    if found:
        return max(found, key=lambda question: (question.state == "waiting", question.asked))
    if len(wanted) >= MIN_PREFIX and set(wanted) <= HEX:
        found = [question for question in known if question.job.hex().startswith(wanted)]
    if len(found) == 1:
        return found[0]
    raise NotFound(f"Nothing like {wanted[:80]!r} was asked of a person here.", hint="See: concord-node inbox")


def given_by(question: Question) -> Given:
    """How the answer to a question that is decided came about."""
    return Given("rule", "policy") if question.state in {"late", "over"} else Given("person", question.role)


def why_denied(question: Question) -> str:
    """What leaves: never a person's words, unless the person said so."""
    if question.state == "late":
        return f"consent: nobody at the lab decided until {question.deadline}"
    if question.state == "over":
        return "consent: the question was over before anybody had decided"
    words = f": {question.words}" if question.told and question.words else ""
    return f"consent: a person at the lab ({question.role}) denied{words}"
