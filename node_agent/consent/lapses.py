"""Jobs that this lab had consented to when it was put out: suspended by the members, or its node revoked.

Such a consent has lapsed. It was given under a roll that is over, by a lab that the members did not want for a while; when they
take the lab back, it is asked anew, and may say something else. What the job's machine remembers stays on disk: a member that came
back without its votes could say the opposite of what it had said, and nobody could count how many have forgotten
(docs/decisions/0031-a-suspended-member-comes-back-with-its-memory-and-a-fresh-consent.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from federation.errors import FederationError
from federation.identity.consent import open_consent
from federation.identity.credential import NodeCredential
from federation.identity.roll import Roll
from federation.secagg.votes import HELD, Held, Votes
from federation.v1 import rounds_pb2
from node_agent.store.journal import Journal


@dataclass(frozen=True, slots=True)
class Lapses:
    journal: Journal
    credential: NodeCredential
    roll: Callable[[], Roll]

    def why(self, job: bytes) -> str:
        """Why this lab's consent to the job has lapsed; empty while it holds. Whether the node heard of it in time plays no part:
        each roll since the one that the consent binds is asked."""
        record = self.journal.consent(job)
        if record is None or not record.granted:
            return ""
        node = self.credential
        try:
            consent = open_consent(record.envelope, node)
        except FederationError:
            return ""  # it holds nothing up, and is refused where it is used
        since = consent.binds.roll if consent.binds is not None else b""
        return self.roll().put_out_since(since, node.member, node.identity_key)

    def lapsed(self, job: bytes) -> bool:
        record = self.journal.job(job)
        return record is not None and record.state == "suspended"

    def positions(self) -> list[rounds_pb2.Position]:
        """Where each of them stands, so that whoever returns is helped on from there."""
        return [self._position(record.job) for record in self.journal.jobs("suspended")]

    def _position(self, job: bytes) -> rounds_pb2.Position:
        votes = Votes()
        votes.restore(self.journal.records(job))
        held = votes.get(HELD, Held) or Held(0, b"")
        return rounds_pb2.Position(job=job, round=held.round, state_digest=held.state_digest)
