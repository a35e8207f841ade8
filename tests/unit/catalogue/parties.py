"""A federation with one node a member, whose nodes sign catalogues."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from federation.catalogue.entry import Entry
from federation.catalogue.statement import seal_catalogue, statement_of
from federation.identity.credential import NodeCredential, node_request, sign_credential, verify_credential
from federation.identity.keys import SigningKey
from federation.identity.roll import Roll
from tests.unit.agent.homes import federation_of

NOW = datetime(2027, 1, 15, 12, 0, tzinfo=UTC)
PARTIES = federation_of(("ch", "fr", "ke"), "hearts")
ROLL: Roll = PARTIES.roll


@dataclass(frozen=True)
class Node:
    member: str
    key: SigningKey = field(default_factory=SigningKey.generate)
    officer: SigningKey | None = None
    """who signed its credential; None: its member's officer"""

    @property
    def name(self) -> str:
        return f"{self.member}-1"

    @property
    def envelope(self) -> bytes:
        """Of its credential."""
        request = node_request("hearts", self.member, self.name, self.key)
        officer = self.officer or PARTIES.officers[self.member]
        return sign_credential(
            request, "hearts", officer, self.member, NOW - timedelta(days=1), NOW + timedelta(days=90)
        )

    @property
    def credential(self) -> NodeCredential:
        return verify_credential(self.envelope, ROLL, NOW)

    def publishes(self, *entries: Entry, sequence: int = 1, issued: datetime = NOW) -> bytes:
        return seal_catalogue(statement_of(self.credential, sequence, issued, entries), self.key)
