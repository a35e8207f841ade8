"""skeleton of the member's machine (final signatures)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from federation.secagg.events import MemberEvent, MemberInstruction
from federation.secagg.messages import Seat
from federation.secagg.parameters import Terms


class Credential(Protocol):
    """What ``federation.identity`` says about a credential that is signed by an officer on the roll."""

    @property
    def member(self) -> str: ...
    @property
    def node(self) -> str: ...
    @property
    def jurisdiction(self) -> str: ...
    @property
    def identity_key(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Me:
    member: str
    node: str
    credential: bytes
    weight: int
    min_cohort: int | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where the member stands: for Hello and for people. ``round`` 0: no state yet."""

    epoch: int
    roster_hash: bytes
    round: int
    state_digest: bytes


class MemberMachine:
    def __init__(
        self,
        terms: Terms,
        me: Me,
        sign: Callable[[bytes], bytes],
        verify_credential: Callable[[bytes], Credential],
        random: Callable[[int], bytes] = os.urandom,
    ) -> None: ...

    def restore(self, records: Mapping[str, bytes]) -> None: ...

    def handle(self, event: MemberEvent, now: float) -> list[MemberInstruction]:
        raise NotImplementedError

    @property
    def position(self) -> Place:
        raise NotImplementedError

    @property
    def seats(self) -> tuple[Seat, ...]:
        raise NotImplementedError

    @property
    def index(self) -> int:
        """This member's place in the roster, from 1; 0 while there is none."""
        raise NotImplementedError
