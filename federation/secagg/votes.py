"""What a member must not forget: its seeds, votes and bindings, as records of its journal.

``put`` writes to this mirror and gives the Remember to perform; the machine decides from the mirror alone, so that a
restored member decides as the one that was killed would have. Votes of settled rounds are erased; a binding of a state
to a cohort never is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from federation.secagg import codec
from federation.secagg.events import Remember, Roster
from federation.secagg.messages import Abort, Ack, KeyMessage, Ready, Receipt, RosterSignature, Upload

T = TypeVar("T")


@dataclass(frozen=True, slots=True, repr=False)
class Formation:
    epoch: int
    formation: int
    private: bytes
    """X25519; empty once the pair roots are derived"""
    key: KeyMessage


@dataclass(frozen=True, slots=True)
class Signed:
    """The one roster that we signed in this formation."""

    roster: Roster
    signature: RosterSignature


@dataclass(frozen=True, slots=True, repr=False)
class Seated:
    """n of n signed. ``roots``: K_ij by index, our own place empty."""

    roots: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Held:
    round: int
    state_digest: bytes


@dataclass(frozen=True, slots=True, repr=False)
class Contribution:
    """Made before training: whatever is sent for this attempt is masked with these seeds, once."""

    context: bytes
    self_seed: bytes
    dither: bytes


@dataclass(frozen=True, slots=True)
class Bound:
    """We released for this state: to this cohort only, in any attempt or epoch, unless that attempt was aborted."""

    epoch: int
    round: int
    attempt: int
    survivors_digest: bytes
    cohort: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Aborted:
    """We were shown q ABORTs of this attempt."""

    attempt: int


FORMATION = "formation"
ROSTER = "roster"
SEATED = "seated"
HELD = "state"

_KINDS: dict[str, type] = {
    FORMATION: Formation,
    ROSTER: Signed,
    SEATED: Seated,
    HELD: Held,
    "ready": Ready,
    "contribution": Contribution,
    "upload": Upload,
    "ack": Ack,
    "abort": Abort,
    "aborted": Aborted,
    "receipt": Receipt,
    "bound": Bound,
}


def vote(kind: str, epoch: int, round_number: int, attempt: int) -> str:
    return f"{kind}/{epoch}/{round_number}/{attempt}"


def binding(state_digest: bytes) -> str:
    return f"bound/{state_digest.hex()}"


class Votes:
    def __init__(self) -> None:
        self._records: dict[str, Any] = {}

    def restore(self, records: Mapping[str, bytes]) -> None:
        """Raises VerificationFailed when a record is damaged or of an unknown kind."""
        self._records = {key: codec.decode(value, _KINDS[key.split("/")[0]]) for key, value in records.items()}

    def get(self, key: str, kind: type[T]) -> T | None:
        record = self._records.get(key)
        assert record is None or isinstance(record, kind)
        return record

    def put(self, key: str, record: Any) -> Remember:
        self._records[key] = record
        return Remember(key, codec.encode(record, _KINDS[key.split("/")[0]]))

    def latest(self, kind: str, epoch: int, round_number: int) -> Any | None:
        """The record of the highest attempt of the round."""
        prefix = f"{kind}/{epoch}/{round_number}/"
        attempts = [int(key[len(prefix) :]) for key in self._records if key.startswith(prefix)]
        return self._records[prefix + str(max(attempts))] if attempts else None

    def bound_in(self, epoch: int, round_number: int, attempt: int) -> bool:
        """Whether any state was released in this attempt."""
        return any(
            isinstance(record, Bound) and (record.epoch, record.round, record.attempt) == (epoch, round_number, attempt)
            for record in self._records.values()
        )

    def settle(self, round_number: int) -> list[Remember]:
        """Forgets the votes of rounds up to this one, except the bindings and the last receipt."""
        old = []
        for key in self._records:
            parts = key.split("/")
            if len(parts) == 4 and int(parts[2]) <= round_number - (parts[0] == "receipt"):
                old.append(key)
        for key in old:
            del self._records[key]
        return [Remember(key, None) for key in old]
