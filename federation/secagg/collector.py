"""skeleton of the collector's machine (final signatures)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from federation.secagg.events import CollectorEvent, CollectorInstruction, Windows
from federation.secagg.member import Credential
from federation.secagg.messages import Seat
from federation.secagg.parameters import Terms


class CollectorMachine:
    def __init__(self, terms: Terms, windows: Windows, verify_credential: Callable[[bytes], Credential]) -> None: ...

    def handle(self, event: CollectorEvent, now: float) -> list[CollectorInstruction]:
        raise NotImplementedError

    @property
    def deadline(self) -> float | None:
        """When to say Tick; None: nothing to wait for but messages."""
        raise NotImplementedError

    @property
    def seats(self) -> tuple[Seat, ...]:
        raise NotImplementedError

    @property
    def index_of(self) -> dict[str, int]:
        """member id -> place in the roster, once it is formed."""
        raise NotImplementedError

    @property
    def phase(self) -> str:
        raise NotImplementedError

    def checkpoint(self) -> bytes:
        raise NotImplementedError

    @classmethod
    def from_checkpoint(
        cls, terms: Terms, windows: Windows, verify_credential: Callable[[bytes], Credential], data: bytes
    ) -> Self:
        raise NotImplementedError

    def resume(self, now: float) -> list[CollectorInstruction]:
        """After replay: whatever is pending (Unmask, AskState). All members count as lost until they say Connected."""
        raise NotImplementedError
