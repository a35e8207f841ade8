"""The collector's side of the setup of one epoch: it carries messages until all n have confirmed, or forms again.

Members that stay silent past the window are left out and named, and the setup starts again with those that answered
when they are enough, else with all that were invited, a bounded number of times. The setup of a later epoch runs beside
the rounds of the present one. (docs/protocol/secure-aggregation.md, "Setup".)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from federation.errors import ProtocolViolation
from federation.secagg import transcripts
from federation.secagg.certificate import Bench, Verify, violation
from federation.secagg.events import (
    Candidates,
    CollectorInstruction,
    Confirmations,
    Form,
    Openings,
    Roster,
    RosterCertificate,
    Tell,
    Windows,
)
from federation.secagg.messages import Confirmation, Encapsulation, KeyMessage, Opening, RosterSignature, Seat
from federation.secagg.parameters import MIN_MEMBERS, Terms
from federation.secagg.setup import (
    VerifyCredential,
    bench_of,
    check_confirmations,
    check_encapsulation,
    check_successor,
    seat_of,
    seats_of,
)

Said = KeyMessage | Encapsulation | RosterSignature | Opening | Confirmation
Out = list[CollectorInstruction]

STAGES: Final[dict[type, str]] = {
    KeyMessage: "keys",
    Encapsulation: "encapsulations",
    RosterSignature: "signatures",
    Opening: "openings",
    Confirmation: "confirmations",
}
"""The stage in which a message is awaited; at any other it is late, and dropped."""


@dataclass(slots=True, repr=False)
class FormationBook:
    """All that is known of one setup, as plain values."""

    epoch: int
    predecessor: bytes
    invited: tuple[str, ...]
    formation: int = 0
    stage: str = "keys"
    """keys, encapsulations, signatures, openings, confirmations, formed, failed"""
    since: float = 0.0
    why: str = ""
    broke: set[str] = field(default_factory=set)
    """refused in this stage: not waited for"""
    candidates: tuple[str, ...] = ()
    keys: dict[str, KeyMessage] = field(default_factory=dict)
    listed: tuple[KeyMessage, ...] = ()
    encapsulations: dict[int, Encapsulation] = field(default_factory=dict)
    signatures: dict[int, RosterSignature] = field(default_factory=dict)
    openings: dict[int, Opening] = field(default_factory=dict)
    confirmations: dict[int, Confirmation] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, repr=False)
class Standing:
    """An epoch that all n have confirmed."""

    roster: Roster
    certificate: RosterCertificate
    confirmations: Confirmations


class Formation:
    """``waiting``: who of some members is still waited for, since when, for how long, and until when."""

    def __init__(
        self,
        book: FormationBook,
        terms: Terms,
        windows: Windows,
        verify_credential: VerifyCredential,
        verify: Verify,
        before: Bench | None,
        waiting: Callable[[Iterable[str], set[str], float, float, float], tuple[list[str], float | None]],
    ) -> None:
        self.book = book
        self._terms, self._windows = terms, windows
        self._verify_credential, self._verify = verify_credential, verify
        self._before, self._waiting = before, waiting
        self.deadline: float | None = None
        self._seats: tuple[Seat, ...] = ()
        self._bench: Bench | None = None
        if book.listed:
            self._seats = self._seats_of()
        if book.stage not in ("keys", "encapsulations", "failed"):
            self._bench = self._bench_of()

    # ----------------------------------------------------------------------------------------------------- from outside

    def start(self, now: float) -> Out:
        return self._form(self.book.invited, now)

    def take(self, member: str, message: Said) -> None:
        """Raises ProtocolViolation. What is of another stage, formation or epoch is late, and dropped."""
        book = self.book
        if member not in book.candidates or STAGES[type(message)] != book.stage:
            return
        if isinstance(message, KeyMessage):
            self._take_key(member, message)
            return
        if not 1 <= message.index <= len(self._seats) or self._seats[message.index - 1].member != member:
            raise violation("impersonation", f"{member} sent a message in another member's place.")
        if isinstance(message, Encapsulation):
            self._take_encapsulation(member, message)
            return
        if message.roster_hash != self._certain.roster_hash:
            return
        if isinstance(message, RosterSignature):
            self._certain.check_roster_signature(message)
            book.signatures[message.index] = message
        elif isinstance(message, Opening):
            self._take_opening(member, message)
        else:
            self._certain.check_confirmation(message)
            book.confirmations[message.index] = message

    def refused(self, member: str) -> None:
        if member in self.book.candidates:
            self.book.broke.add(member)

    def step(self, now: float) -> Out | None:
        """What follows from what has come, or None while there is something to wait for."""
        steps = {
            "keys": self._keys,
            "encapsulations": self._encapsulations,
            "signatures": self._signatures,
            "openings": self._openings,
            "confirmations": self._confirmations,
        }
        self.deadline = None
        step = steps.get(self.book.stage)
        return None if step is None else step(now)

    def tell_again(self, member: str) -> Out:
        """The message of the present stage, for a member that has (re)connected."""
        book = self.book
        if member not in book.candidates:
            return []
        only = (member,)
        if book.stage == "keys":
            return [Tell(only, Form(book.epoch, book.formation, book.predecessor))]
        if book.stage == "encapsulations":
            return [Tell(only, Candidates(book.epoch, book.formation, book.listed))]
        if book.stage == "signatures":
            return [Tell(only, self._roster_for(self._place(member)))]
        if book.stage == "openings":
            return [Tell(only, self._certificate())]
        if book.stage == "confirmations":
            return [Tell(only, self._openings_for(self._place(member)))]
        return []

    @property
    def bench(self) -> Bench:
        return self._certain

    def standing(self) -> Standing:
        """Of a setup that is formed."""
        book = self.book
        confirmations = tuple(book.confirmations[index] for index in sorted(book.confirmations))
        return Standing(
            self.roster(),
            self._certificate(),
            Confirmations(book.epoch, self._certain.roster_hash, confirmations),
        )

    def roster(self) -> Roster:
        """Without any ciphertext: what strangers check."""
        book = self.book
        shown = tuple(replace(book.encapsulations[index], ciphertexts=()) for index in sorted(book.encapsulations))
        return Roster(book.epoch, book.formation, book.listed, shown, ())

    # ------------------------------------------------------------------------------------------------------------ steps

    def _form(self, candidates: tuple[str, ...], now: float) -> Out:
        book = self.book
        book.candidates, book.keys, book.listed = candidates, {}, ()
        book.encapsulations, book.signatures, book.openings, book.confirmations = {}, {}, {}, {}
        self._seats, self._bench = (), None
        self._enter("keys", now)
        return [Tell(candidates, Form(book.epoch, book.formation, book.predecessor))]

    def _enter(self, stage: str, now: float) -> None:
        self.book.stage, self.book.since, self.book.broke = stage, now, set()

    def _again(self, left: tuple[str, ...], now: float, why: str) -> Out:
        """With those that answered, when they are enough; else with everybody."""
        book = self.book
        book.formation += 1
        book.why = why
        if book.formation >= self._windows.formation_attempts:
            book.stage, book.listed, book.candidates = "failed", (), ()
            return []
        enough = len(left) < len(book.candidates) and len(left) >= max(MIN_MEMBERS, self._terms.min_members)
        return self._form(left if enough else book.invited, now)

    def _awaited(self, have: Iterable[str], now: float) -> tuple[tuple[str, ...], bool]:
        """(who has answered, whether somebody else is still waited for)"""
        book = self.book
        answered = set(have)
        missing = [member for member in book.candidates if member not in answered]
        waiting, self.deadline = self._waiting(missing, book.broke, book.since, self._windows.formation, now)
        return tuple(sorted(answered)), bool(waiting)

    def _silent(self, answered: tuple[str, ...], what: str) -> str:
        silent = sorted(set(self.book.candidates) - set(answered))
        return f"too few members {what} ({', '.join(silent)} did not)"

    def _keys(self, now: float) -> Out | None:
        book = self.book
        answered, waiting = self._awaited(book.keys, now)
        if waiting:
            return None
        book.listed = tuple(book.keys[member] for member in answered)
        try:
            self._seats = self._seats_of()
        except ProtocolViolation as wrong:
            why = self._silent(answered, "answered") if wrong.check == "roster-size" else wrong.message
            return self._again(tuple(book.invited), now, why)
        book.candidates = answered
        self._enter("encapsulations", now)
        return [Tell(answered, Candidates(book.epoch, book.formation, book.listed))]

    def _encapsulations(self, now: float) -> Out | None:
        book = self.book
        answered, waiting = self._awaited(self._names(book.encapsulations), now)
        if waiting:
            return None
        if len(answered) < len(self._seats):
            return self._again(answered, now, self._silent(answered, "encapsulated their keys"))
        try:
            self._bench = self._bench_of()
            if self._before is not None:
                check_successor(self._bench, self._before)
        except ProtocolViolation as wrong:
            return self._again(tuple(book.invited), now, wrong.message)
        self._enter("signatures", now)
        return [Tell((seat.member,), self._roster_for(seat.index)) for seat in self._seats]

    def _signatures(self, now: float) -> Out | None:
        book = self.book
        answered, waiting = self._awaited(self._names(book.signatures), now)
        if waiting:
            return None
        if len(answered) < len(self._seats):
            return self._again(answered, now, self._silent(answered, "signed the roster"))
        self._enter("openings", now)
        return [Tell(book.candidates, self._certificate())]

    def _openings(self, now: float) -> Out | None:
        book = self.book
        answered, waiting = self._awaited(self._names(book.openings), now)
        if waiting:
            return None
        if len(answered) < len(self._seats):
            return self._again(answered, now, self._silent(answered, "opened their part of the keys"))
        self._enter("confirmations", now)
        return [Tell((seat.member,), self._openings_for(seat.index)) for seat in self._seats]

    def _confirmations(self, now: float) -> Out | None:
        book = self.book
        answered, waiting = self._awaited(self._names(book.confirmations), now)
        if waiting:
            return None
        if len(answered) < len(self._seats):
            # Who refuses here was sent a bad part, or says so: nobody can tell which. All are asked again.
            return self._again(tuple(book.invited), now, self._silent(answered, "confirmed the group key"))
        made = tuple(book.confirmations[index] for index in sorted(book.confirmations))
        try:
            check_confirmations(self._certain, book.epoch, self._certain.roster_hash, made)
        except ProtocolViolation as wrong:
            return self._again(tuple(book.invited), now, wrong.message)
        self._enter("formed", now)
        return []

    # ---------------------------------------------------------------------------------------------------------- messages

    def _take_key(self, member: str, message: KeyMessage) -> None:
        book = self.book
        if (message.epoch, message.formation, message.predecessor) != (book.epoch, book.formation, book.predecessor):
            return
        seat = seat_of(self._terms, message, 1, self._verify_credential, self._verify)
        if seat.member != member:
            raise violation("impersonation", f"{member} sent the credential of {seat.member}.")
        for other, key in book.keys.items():
            if other != member and (
                key.exchange_key == message.exchange_key
                or key.kem_key == message.kem_key
                or key.credential == message.credential
            ):
                raise violation("duplicate", f"{member} sent a key that {other} has sent.")
        book.keys.setdefault(member, message)

    def _take_encapsulation(self, member: str, message: Encapsulation) -> None:
        keys_hash = transcripts.keys_hash(self._terms.job, self.book.listed)
        if message.keys_hash != keys_hash:
            return
        check_encapsulation(self._terms.job, self._seats, keys_hash, message, self._verify)
        if len(message.ciphertexts) != len(message.hashes):
            raise violation("encapsulation", f"{member} sent another number of ciphertexts than it signed.")
        for place, (ciphertext, expected) in enumerate(
            zip(message.ciphertexts, message.hashes, strict=True), start=message.index + 1
        ):
            if transcripts.ciphertext_hash(keys_hash, message.index, place, ciphertext) != expected:
                raise violation("ciphertext", f"{member} sent another ciphertext than it signed.")
        self.book.encapsulations.setdefault(message.index, message)

    def _take_opening(self, member: str, message: Opening) -> None:
        self._certain.check_opening(message)
        holders = [seat.index for seat in self._seats if seat.index != message.index]
        if [box.holder for box in message.boxes] != holders:
            raise violation("openings", f"{member} did not seal its part of the group key for everybody.")
        self.book.openings.setdefault(message.index, message)

    # ----------------------------------------------------------------------------------------------------------- inside

    @property
    def _certain(self) -> Bench:
        assert self._bench is not None
        return self._bench

    def _seats_of(self) -> tuple[Seat, ...]:
        book = self.book
        return seats_of(
            self._terms,
            book.epoch,
            book.formation,
            book.predecessor,
            book.listed,
            self._verify_credential,
            self._verify,
        )

    def _bench_of(self) -> Bench:
        roster = self.roster()
        return bench_of(
            self._terms,
            roster.epoch,
            roster.formation,
            roster.keys,
            roster.encapsulations,
            self._verify_credential,
            self._verify,
        )

    def _names(self, indices: Iterable[int]) -> list[str]:
        return [self._seats[index - 1].member for index in indices]

    def _place(self, member: str) -> int:
        return next(seat.index for seat in self._seats if seat.member == member)

    def _roster_for(self, index: int) -> Roster:
        encapsulations = self.book.encapsulations
        ciphertexts = tuple(
            encapsulations[lower].ciphertexts[index - lower - 1] for lower in sorted(encapsulations) if lower < index
        )
        return replace(self.roster(), ciphertexts=ciphertexts)

    def _certificate(self) -> RosterCertificate:
        signatures = self.book.signatures
        return RosterCertificate(
            self.book.epoch, self._certain.roster_hash, tuple(signatures[index] for index in sorted(signatures))
        )

    def _openings_for(self, index: int) -> Openings:
        openings = self.book.openings
        return Openings(
            self.book.epoch,
            self._certain.roster_hash,
            tuple(
                replace(openings[each], boxes=tuple(box for box in openings[each].boxes if box.holder == index))
                for each in sorted(openings)
            ),
        )
