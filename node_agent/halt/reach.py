"""Which orders and lifts bind this node: its own and those that the members' roll gives power to. Another node's bind it not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from federation.halt.order import SignedLift, SignedOrder
from federation.halt.powers import check_lift, check_order, decide, lease_seconds
from federation.identity.keys import SigningKey
from federation.identity.roll import Roll
from node_agent.halt.folder import HaltFolder
from node_agent.halt.halts import Halts
from node_agent.settings import Home, NodeSettings


@dataclass(frozen=True, slots=True)
class Reach:
    roll: Callable[[], Roll]
    """the roll in force"""
    settings: NodeSettings
    key: SigningKey

    def check_order(self, signed: SignedOrder) -> None:
        """Also one that was given under a key of before: a node that was away, or is new, must not refuse what stands."""
        check_order(signed, self.roll(), self._node_key, former=True)

    def check_lift(self, signed: SignedLift) -> None:
        check_lift(signed, self.roll(), decide, self._node_key)

    def lease_seconds(self) -> float:
        """The charter's, or less where the lab wants less."""
        return min(lease_seconds(self.roll()), self.settings.lease_seconds or float("inf"))

    def _node_key(self, member: str, node: str) -> bytes | None:
        """This node knows its own alone."""
        return self.key.public if (member, node) == (self.settings.member, self.settings.node) else None


def halts_of(home: Home, settings: NodeSettings, key: SigningKey, roll: Callable[[], Roll]) -> Halts:
    reach = Reach(roll, settings, key)
    return Halts(
        HaltFolder(home.halts),
        settings.member,
        settings.node,
        reach.lease_seconds,
        reach.check_order,
        reach.check_lift,
    )
