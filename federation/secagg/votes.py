"""What a member must not forget: its seeds, votes and bindings, as records of its journal.

``put`` writes to this mirror and gives the Remember to perform; the machine decides from the mirror alone, so that a
restored member decides as the one that was killed would have. Votes of settled rounds are erased; a binding of a state
to a cohort, and who was convicted at it, never are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from federation.secagg import codec
from federation.secagg.events import Remember
from federation.secagg.messages import (
    Abort,
    Ack,
    Confirmation,
    Encapsulation,
    KeyMessage,
    Opening,
    Ready,
    Receipt,
    RosterSignature,
    Seat,
    Upload,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, repr=False)
class Candidacy:
    """What this member has said and made in the setup of one epoch. Secrets are emptied as soon as they have served."""

    epoch: int
    formation: int
    private: bytes
    nonce: bytes
    part: bytes
    """of the group key"""
    key: KeyMessage
    secrets: tuple[bytes, ...] = ()
    """encapsulated to each higher place"""
    encapsulation: Encapsulation | None = None
    seats: tuple[Seat, ...] = ()
    roster_hash: bytes = b""
    roots: tuple[bytes, ...] = ()
    signature: RosterSignature | None = None
    opening: Opening | None = None
    group_key: bytes = b""
    confirmation: Confirmation | None = None
    confirmed: tuple[bytes, ...] = ()
    """rosters of earlier formations that this member confirmed: they may stand, and it was not shown that they do"""


@dataclass(frozen=True, slots=True, repr=False)
class Seated:
    """A place in an epoch. ``roots``: K_ij of ``round`` by index, our own place empty; ``group_key``: KG of it."""

    epoch: int
    predecessor: bytes
    roster_hash: bytes
    seats: tuple[Seat, ...]
    beacon: bytes
    round: int
    roots: tuple[bytes, ...]
    group_key: bytes


@dataclass(frozen=True, slots=True)
class Known:
    """The epoch before ours, as a bench: its receipts say where the job stood."""

    epoch: int
    predecessor: bytes
    roster_hash: bytes
    seats: tuple[Seat, ...]


@dataclass(frozen=True, slots=True)
class Present:
    """The epoch in which this member speaks."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Rooted:
    """The newest epoch of which we saw q receipts: only then may another follow it."""

    epoch: int


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
    cohort: tuple[str, ...]
    """member ids: an index changes with the epoch"""


@dataclass(frozen=True, slots=True)
class Aborted:
    """We were shown q ABORTs of this attempt."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Convicted:
    """Whom we saw convicted of a lie in an attempt at one state: a cohort that binds us may go on without them."""

    members: tuple[str, ...]


CANDIDACY = "candidacy"
PRESENT = "epoch"
BEFORE = "before"
ROOTED = "rooted"
HELD = "state"

_KINDS: dict[str, type] = {
    CANDIDACY: Candidacy,
    PRESENT: Present,
    BEFORE: Known,
    ROOTED: Rooted,
    "seat": Seated,
    HELD: Held,
    "ready": Ready,
    "contribution": Contribution,
    "upload": Upload,
    "ack": Ack,
    "abort": Abort,
    "aborted": Aborted,
    "receipt": Receipt,
    "bound": Bound,
    "convicted": Convicted,
}


def vote(kind: str, epoch: int, round_number: int, attempt: int) -> str:
    return f"{kind}/{epoch}/{round_number}/{attempt}"


def seat_key(epoch: int) -> str:
    return f"seat/{epoch}"


def binding(state_digest: bytes, epoch: int, attempt: int) -> str:
    """One for each attempt: a release in a later attempt, for the same cohort, does not undo an earlier one."""
    return f"bound/{state_digest.hex()}.{epoch}.{attempt}"


def convicted_key(state_digest: bytes) -> str:
    return f"convicted/{state_digest.hex()}"


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

    def erase(self, key: str) -> Remember:
        del self._records[key]
        return Remember(key, None)

    def epochs(self) -> list[int]:
        """Those in which we have a seat."""
        return [int(key.removeprefix("seat/")) for key in self._records if key.startswith("seat/")]

    def latest(self, kind: str, epoch: int, round_number: int) -> Any | None:
        """The record of the highest attempt of the round."""
        attempt = self.attempt_of(kind, epoch, round_number)
        return self._records[vote(kind, epoch, round_number, attempt)] if attempt >= 0 else None

    def attempt_of(self, kind: str, epoch: int, round_number: int) -> int:
        """The highest attempt of the round with such a record; -1: none."""
        prefix = f"{kind}/{epoch}/{round_number}/"
        return max((int(key[len(prefix) :]) for key in self._records if key.startswith(prefix)), default=-1)

    def bindings(self, state_digest: bytes) -> list[Bound]:
        """What this state was released for."""
        prefix = f"bound/{state_digest.hex()}."
        return [self._records[key] for key in sorted(self._records) if key.startswith(prefix)]

    def bindings_since(self, round_number: int) -> list[Bound]:
        """What was released for any state of this round or a later one: a member answers for rounds that it has not reached."""
        bound = [record for record in self._records.values() if isinstance(record, Bound)]
        return [record for record in bound if record.round >= round_number]

    def convicted(self, state_digest: bytes) -> frozenset[str]:
        record = self.get(convicted_key(state_digest), Convicted)
        return frozenset(record.members) if record is not None else frozenset()

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
