"""The roll that this node holds: which one it believes, on its own disk, and what it says of it.

Whoever offers a roll proves nothing by it: the node checks the whole chain, from the founding that it joined under, with every
decision, and takes what is newer than the roll that it holds. It is on disk before anything follows from it. An older one is
refused. Two rolls that members decided on beside each other are a fork: the node keeps the other one as evidence (roll-fork.json
beside roll.json), and takes no new job until a person has moved that file away.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog

from federation.errors import FederationError, InvalidIdentity, ProtocolViolation
from federation.governance.history import MAX_HISTORY, succeeds
from federation.governance.holding import Holding, seal_holding
from federation.identity.keys import SigningKey
from federation.identity.roll import Roll
from node_agent.settings import Home, NodeSettings
from node_agent.store.files import write_whole

log = structlog.get_logger()

ROLL_LIMIT: Final = max(MAX_HISTORY, 4 << 20)


@dataclass(frozen=True, slots=True)
class Adoption:
    before: Roll
    after: Roll


class Membership:
    def __init__(self, home: Home, settings: NodeSettings, key: SigningKey) -> None:
        """Raises NotFound or InvalidIdentity when the home holds no good roll."""
        self._home, self._settings, self._key = home, settings, key
        self.roll = Roll.open(home.read(home.roll, ROLL_LIMIT))

    @property
    def forked(self) -> bool:
        """Whether another roll, which members decided on beside ours, lies here."""
        return self._home.roll_fork.exists()

    def check_may_decide(self) -> None:
        """Raises InvalidIdentity while the node cannot tell who the members are, or is not of them."""
        if self.forked:
            raise InvalidIdentity(
                "This node has seen two different rolls of one version, and takes no new job.",
                hint="Show roll.json and roll-fork.json of its home to the members; move the latter away when they have decided.",
            )
        self.roll.require_node(self._settings.member, self._key.public)

    @property
    def places(self) -> tuple[str, ...]:
        """Where the coordinator may be: where the ticket said, as long as the charter allows it; then the charter's others."""
        return self.roll.charter.coordinator.places(self._settings.address)

    def check_coordinator(self, ca: bytes) -> None:
        """``ca``: fingerprint of the CA that this node joined under. Raises InvalidIdentity when the charter names another."""
        seat = self.roll.charter.coordinator
        if seat.ca is not None and seat.ca != ca:
            raise InvalidIdentity(
                f"The members have moved the coordinator: the roll, version {self.roll.version}, names the CA "
                f"{seat.ca.hex()[:16]} at {', '.join(seat.addresses) or 'an address that is not named'}.",
                hint="Ask its operator there for a ticket, and run `concord-node join`; keys and credential stay.",
            )

    @property
    def suspended(self) -> str:
        """Why this node is no node of the federation now; empty while it is."""
        try:
            self.roll.require_node(self._settings.member, self._key.public)
        except InvalidIdentity as error:
            return error.message
        return ""

    def offer(self, data: bytes, source: str) -> Adoption | None:
        """Takes a newer roll, and returns when it is on disk. None when nothing changes: it is the same, or was refused.

        ``source``: who offered it, for the log.
        """
        try:
            if len(data) > ROLL_LIMIT:
                raise InvalidIdentity(f"The roll is larger than {ROLL_LIMIT} bytes.")
            offered = self.roll if data == self.roll.envelope else Roll.open(data)
            if not succeeds(self.roll, offered):
                return None
        except ProtocolViolation as error:
            log.error("roll.refused", source=source, check=error.check, detail=error.message, hint=error.hint)
            if error.check == "forked-roll" and not self.forked:
                write_whole(self._home.roll_fork, data)
            return None
        except FederationError as error:
            log.error("roll.refused", source=source, code=error.code, detail=error.message, hint=error.hint)
            return None
        write_whole(self._home.roll, data)
        before, self.roll = self.roll, offered
        log.info("roll.adopted", source=source, version=offered.version, digest=offered.digest.hex()[:16])
        return Adoption(before, offered)

    def statement(self) -> bytes:
        """Which roll this node holds, signed by it."""
        return seal_holding(
            Holding(
                self.roll.federation,
                self._settings.member,
                self._settings.node,
                self.roll.version,
                self.roll.digest,
                datetime.now(UTC),
            ),
            self._key,
        )
