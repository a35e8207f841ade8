"""A coordinator that lies. ``python -m tests.e2e.hostile.coordinator run --home HOME``

It is the real coordinator, with the real protocol, certificates, database and collector, but for one place: what its
collector tells a member goes through a ``Lie``, and so does what members say. The job's name says which:
``withheld-upload-3`` is lied to by ``LIES["withheld-upload"]``; a job of any other name is told the truth.
CONCORD_TEST_COLLUDER names the home of a member's node whose keys the coordinator has: f = 1 of four.
"""

from __future__ import annotations

import os
import re
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import coordinator.api.sessions
import coordinator.jobs.docket
import coordinator.jobs.seating
import coordinator.service
from coordinator.api.services import BlobService
from coordinator.jobs.answers import Answers
from coordinator.main import app
from coordinator.rounds.driver import JobDriver, instruction_bytes
from federation.identity.envelope import open_envelope, seal
from federation.identity.keys import SigningKey
from federation.manifest.manifest import Manifest
from federation.secagg import events
from federation.v1 import blobs_pb2, rounds_pb2
from tests.e2e.hostile.lies import LIES, Lie

NUMBER = re.compile(r"-\d+$")
ENDLESS = 64
"""MiB that are sent in the place of a bundle of a few KiB, before the liar gives up"""


def lie_of(name: str) -> type[Lie]:
    return LIES.get(NUMBER.sub("", name), Lie)


ELSEWHERE: list[LyingDriver] = []


def colluder() -> SigningKey:
    """The identity key of the member on the coordinator's side."""
    return SigningKey.from_pem((Path(os.environ["CONCORD_TEST_COLLUDER"]) / "keys" / "identity.key").read_bytes())


class LyingDriver(JobDriver):
    """Implements ``lies.Mouth``."""

    def __init__(self, desk: Any, manifest: Manifest, roll: Any, placement: Sequence[tuple[str, str]]) -> None:
        self._lie = lie_of(manifest.name)(self, colluder())
        self.sent: dict[str, list[bytes]] = defaultdict(list)
        self._written = b""
        ELSEWHERE.append(self)
        super().__init__(desk, manifest, roll, placement)

    def _tell(self, tell: events.Tell) -> None:
        if type(self._lie) is Lie:
            super()._tell(tell)
            return
        for member in tell.members:
            for message in self._lie.told(member, tell.message):
                self.put(member, message)

    def put(self, member: str, message: Any) -> None:
        """A message of the protocol as a value, as protobuf, or as the bytes of an instruction."""
        if isinstance(message, bytes):
            self._desk.post(member, self._node[member], message)
        elif hasattr(message, "SerializeToString"):
            self._desk.post(member, self._node[member], instruction_bytes(self.manifest.digest, message))
        else:
            super()._tell(events.Tell((member,), message))
            self.sent[member].append(self._written)

    def _instruction(self, proto: object) -> bytes:
        self._written = super()._instruction(proto)
        return self._written

    def sent_elsewhere(self, member: str) -> Iterator[bytes]:
        """What other jobs told ``member``, under this job's name."""
        for other in ELSEWHERE:
            for data in other.sent[member] if other is not self else ():
                instruction = rounds_pb2.Instruction.FromString(data)
                instruction.job = self.manifest.digest
                yield instruction.SerializeToString()

    def say(self, event: events.CollectorEvent) -> None:
        for each in self._lie.heard(event):
            super().say(each)

    def abort(self, reason: str) -> None:
        """The collector gives up the attempt, whatever has been certified."""
        for instruction in self.machine._abort(reason, self._desk.clock()):
            self._perform(instruction)

    def audit(self, context: bytes, leaf: int) -> Iterator[rounds_pb2.AuditPart]:
        return self._lie.shown(super().audit(context, leaf))

    def sum_of(self, close: Any) -> bytes:
        return self._small_sum_of(close.sum_blob)

    def store(self, data: bytes) -> bytes:
        return self._desk.blobs.put(data)

    def stored(self, digest: bytes) -> bytes:
        return self._desk.blobs.path(digest).read_bytes()


class LyingAnswers(Answers):
    """Asks, before the true question, about the same job with other parameters."""

    def ask(self, case: Any, session: Any) -> None:
        if lie_of(case.manifest.name).other_terms:
            document = dict(open_envelope(case.manifest.envelope, "manifest").document)
            terms = {**document["spec"]["secureAggregation"], "clipNorm": 1e9}
            document["spec"] = {**document["spec"], "secureAggregation": terms}
            envelope = seal(document, "manifest", (colluder(),))
            session.send(instruction_bytes(b"\x01" * 32, rounds_pb2.AskConsent(manifest=envelope)))
        super().ask(case, session)

    def keep(self, case: Any, answer: Any) -> None:
        if lie_of(case.manifest.name).takes_no_for_yes and answer.state == "denied":
            answer = replace(answer, state="granted")
        super().keep(case, answer)

    def revoked(self, session: Any, envelope: bytes) -> None:
        job = open_envelope(envelope, "revocation").document["job"]
        if not lie_of(self._cases.row(job).name).hides_revocations:
            super().revoked(session, envelope)


class LyingBlobs(BlobService):
    """A bundle that never ends, once for each node, where the job says so; the true one afterwards."""

    lied: set[tuple[str, bytes]] = set()  # noqa: RUF012 - one coordinator, one process

    async def Get(self, request: blobs_pb2.BlobRequest, context: Any) -> AsyncIterator[blobs_pb2.BlobPart]:
        peer = context.peer()
        for case in self.docket.cases():
            manifest = case.manifest
            key = (peer, manifest.digest)
            lie = lie_of(manifest.name)
            if manifest.bundle_digest == request.digest and lie.endless_bundle and key not in self.lied:
                self.lied.add(key)
                data = bytes((1 << 20) - 64)
                for number in range(ENDLESS):
                    yield blobs_pb2.BlobPart(digest=request.digest, offset=number * len(data), data=data)
                return
        async for part in super().Get(request, context):
            yield part


def main() -> None:
    coordinator.api.sessions.QUEUE_LIMIT = 1 << 20  # type: ignore[misc] - it floods, and is not to be cut off by its own rule
    coordinator.jobs.seating.JobDriver = LyingDriver  # type: ignore[misc]
    coordinator.jobs.docket.Answers = LyingAnswers  # type: ignore[misc]
    coordinator.service.BlobService = LyingBlobs  # type: ignore[misc]
    sys.exit(app(standalone_mode=True))


if __name__ == "__main__":
    main()
