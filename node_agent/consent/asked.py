"""What the coordinator asks this lab about, and how the answer leaves: once, within bounds, without the lab's places."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog

from federation.errors import FederationError, PolicyDenied
from federation.v1 import rounds_pb2
from node_agent.link.discretion import Discretion
from node_agent.link.stream import Link
from node_agent.rounds.outbox import event_of
from node_agent.store.journal import ConsentRecord
from node_agent.store.questions import Question
from node_agent.tasks import Tasks
from node_agent.witness.watcher import CONSENT, Witness

log = structlog.get_logger()

Reply = rounds_pb2.ConsentReply | rounds_pb2.ConsentRevocation
Answer = Callable[[bytes, bytes], Coroutine[Any, Any, Reply]]
"""(digest, envelope) of what is asked about"""
ASKED_BYTES: Final = 32 << 20
ASKED_JOBS: Final = 256
"""manifests that are considered at once"""


class Asked:
    """``again``: hears an end of a job that came while the job was considered."""

    def __init__(
        self,
        link: Link,
        witness: Witness,
        tasks: Tasks,
        discreet: Discretion,
        again: Callable[[rounds_pb2.Instruction], None],
    ) -> None:
        self._link, self._witness, self._tasks, self._discreet, self._again = link, witness, tasks, discreet, again
        self._considered: dict[bytes, tuple[asyncio.Task[None], int]] = {}
        """what is being considered, and how large its manifest is"""
        self._meanwhile: dict[bytes, rounds_pb2.Instruction] = {}
        self.one_at_a_time = asyncio.Lock()
        """is held while an answer is decided: what one job reserves another has not"""

    def consider(self, job: bytes, manifest: bytes, answer: Answer) -> None:
        if job in self._considered:
            return
        if (
            sum(size for _, size in self._considered.values()) + len(manifest) > ASKED_BYTES
            or len(self._considered) >= ASKED_JOBS
        ):
            log.warning(
                "consent.crowded", job=job.hex()[:12], detail="Too many jobs are asked about at once: left out."
            )
            return
        self._considered[job] = self._tasks.spawn(self._consider(job, manifest, answer)), len(manifest)

    def hold_back(self, end: rounds_pb2.Instruction) -> None:
        """An end of a job; where the job is being considered, it is heard again afterwards."""
        if end.job in self._considered:
            self._meanwhile[end.job] = end

    async def considered(self, job: bytes) -> None:
        """Returns when this node considers it no more."""
        if (asked := self._considered.get(job)) is not None:
            await asyncio.wait((asked[0],))

    def say(self, job: bytes, answer: bytes) -> None:
        """A signed answer; the public log must hold it."""
        self._link.send(event_of(job, rounds_pb2.ConsentReply(envelope=answer)))
        self._witness.expect(answer, CONSENT, job)

    def tell(self, question: Question, record: ConsentRecord) -> str:
        """What a person decided, or nobody in time: said to the coordinator, and what the person is told. Raises PolicyDenied when
        the lab's rules deny by now what was granted."""
        self.say(record.job, record.envelope)
        if question.state == "granted" and not record.granted:
            raise PolicyDenied(
                f"The lab's rules do not allow {question.name} any more: it is denied.",
                hint="Change policy.yaml, and ask the lead to submit it again.",
                reasons=record.reasons,
            )
        return f"{question.name}: {'granted' if record.granted else 'denied'}, signed and kept."

    async def _consider(self, job: bytes, envelope: bytes, answer: Answer) -> None:
        """Decide once, keep the answer on disk, then say it."""
        try:
            self._witness.check()
            reply = await answer(job, envelope)
            self._link.send(event_of(job, reply))
            if isinstance(reply, rounds_pb2.ConsentReply) and reply.envelope:
                self._witness.expect(reply.envelope, CONSENT, job)
        except FederationError as error:
            log.error("consent.refused", job=job.hex()[:12], code=error.code, detail=error.message)
            text = self._discreet(f"{error.message} {error.hint}")[:1000]
            self._link.send(event_of(job, rounds_pb2.Refusal(code=error.code, text=text)))
        finally:
            self._considered.pop(job, None)
            if (ended := self._meanwhile.pop(job, None)) is not None:
                self._again(ended)
