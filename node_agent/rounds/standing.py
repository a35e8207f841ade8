"""Whom the roll has put out is in no attempt that this node takes part in, whatever the coordinator announces."""

from __future__ import annotations

from collections.abc import Sequence

from federation.errors import InvalidIdentity, ProtocolViolation
from federation.identity.roll import Roll
from federation.secagg.messages import Announcement, Seat


class Door:
    """Of one job. Attempts that were let in before the roll changed go on to their end."""

    def __init__(self) -> None:
        self._let_in: set[tuple[int, int, int]] = set()

    def refuses(self, announced: Announcement, seats: Sequence[Seat], roll: Roll) -> ProtocolViolation | None:
        """``seats``: of the present epoch. None: all who are ready are members with nodes in good standing."""
        attempt = (announced.epoch, announced.round, announced.attempt)
        if attempt in self._let_in:
            return None
        for ready in announced.readies:
            if not 1 <= ready.index <= len(seats):
                return None  # the machine says what is wrong with it
            seat = seats[ready.index - 1]
            try:
                roll.require_node(seat.member, seat.identity_key)
            except InvalidIdentity as error:
                return ProtocolViolation(
                    f"Round {announced.round} is announced with {seat.member}. {error.message}",
                    check="suspended-member",
                    hint="The node takes part in the next attempt without it. If it stays so, ask the operator why.",
                )
        self._let_in = {each for each in self._let_in if each[1] >= announced.round} | {attempt}
        return None
