"""A member's side of the setup of one epoch: keys, ciphertexts, one roster, n-of-n signatures, beacon and group key.

It promises: for one formation it sends one key message, one encapsulation, signs one roster, and opens its nonce only
when all n have signed; a seat comes out only when all n have confirmed the same keys. The setup of a later epoch runs
beside the rounds of the present one and touches nothing of it. (docs/protocol/secure-aggregation.md, "Setup".)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from federation.errors import ProtocolViolation
from federation.secagg import boxes, transcripts
from federation.secagg.certificate import Bench, Verify, violation
from federation.secagg.events import (
    Candidates,
    Confirmations,
    Form,
    MemberInstruction,
    Openings,
    Roster,
    RosterCertificate,
    Send,
)
from federation.secagg.messages import Box, Confirmation, Encapsulation, KeyMessage, Opening, RosterSignature
from federation.secagg.parameters import Terms
from federation.secagg.setup import (
    VerifyCredential,
    bench_of,
    check_confirmations,
    check_roster_certificate,
    check_successor,
    seats_of,
)
from federation.secagg.suite import Suite
from federation.secagg.votes import CANDIDACY, Candidacy, Seated, Votes, seat_key

Event = Form | Candidates | Roster | RosterCertificate | Openings | Confirmations

STAGES: Final[dict[type, frozenset[str]]] = {
    Form: frozenset({"none", "keyed", "encapsulated", "signed", "opened", "confirmed"}),
    Candidates: frozenset({"keyed", "encapsulated"}),
    Roster: frozenset({"encapsulated", "signed"}),
    RosterCertificate: frozenset({"signed", "opened"}),
    Openings: frozenset({"opened", "confirmed"}),
    Confirmations: frozenset({"confirmed"}),
}
"""Which event is legal in which stage. A stage names what this member has said last."""

_NONE: Final[tuple[bytes, ...]] = ()
MAX_CONFIRMED: Final = 64
"""rosters that one member confirms in vain: an honest coordinator starts again after a few"""


@dataclass(frozen=True, slots=True)
class Me:
    member: str
    node: str
    credential: bytes
    weight: int
    """public bucket, as in this member's consent"""
    min_cohort: int | None = None
    """m_i of this lab's policy; it can only raise the protocol's m"""


class Candidate:
    def __init__(
        self,
        terms: Terms,
        me: Me,
        sign: Callable[[bytes], bytes],
        verify_credential: VerifyCredential,
        random: Callable[[int], bytes],
        verify: Verify,
        suite: Suite,
        votes: Votes,
    ) -> None:
        self._terms, self._me, self._sign = terms, me, sign
        self._verify_credential, self._random, self._verify = verify_credential, random, verify
        self._suite, self._votes = suite, votes
        self._handlers: dict[type, Callable[..., list[MemberInstruction]]] = {
            Candidates: self._candidates,
            Roster: self._roster,
            RosterCertificate: self._certificate,
            Openings: self._openings,
            Confirmations: self._confirmations,
        }

    @property
    def stage(self) -> str:
        held = self._held
        if held is None:
            return "none"
        if held.encapsulation is None:
            return "keyed"
        if held.signature is None:
            return "encapsulated"
        if held.opening is None:
            return "signed"
        return "opened" if held.confirmation is None else "confirmed"

    @property
    def epoch(self) -> int:
        return 0 if self._held is None else self._held.epoch

    def handle(self, event: Event, present: Bench | None) -> list[MemberInstruction]:
        """``present``: the epoch that this member is in. Raises ProtocolViolation; what is raised changed nothing."""
        if self.stage not in STAGES[type(event)]:
            raise violation(
                "out-of-order",
                f"The coordinator sent {type(event).__name__} to a candidate whose stage is {self.stage}.",
            )
        if isinstance(event, Form):
            return self._form(event, present)
        held = self._certain
        if event.epoch != held.epoch:
            raise violation("formation", f"{type(event).__name__} is of epoch {event.epoch}, our keys of {held.epoch}.")
        if isinstance(event, Candidates | Roster) and event.formation != held.formation:
            raise violation("formation", f"{type(event).__name__} is of another formation than our keys.")
        if isinstance(event, Roster):
            return self._roster(event, present)
        return self._handlers[type(event)](event)

    # ----------------------------------------------------------------------------------------------------------- inside

    @property
    def _held(self) -> Candidacy | None:
        return self._votes.get(CANDIDACY, Candidacy)

    @property
    def _certain(self) -> Candidacy:
        held = self._held
        assert held is not None
        return held

    def _bench(self, held: Candidacy) -> Bench:
        return Bench(self._terms.job, held.epoch, held.roster_hash, held.key.predecessor, held.seats, self._verify)

    def _own(self, held: Candidacy) -> int:
        return next(seat.index for seat in held.seats if seat.member == self._me.member)

    def _form(self, event: Form, present: Bench | None) -> list[MemberInstruction]:
        known, confirmed = self._held, _NONE
        if known is not None:
            if (event.epoch, event.formation, event.predecessor) == (
                known.epoch,
                known.formation,
                known.key.predecessor,
            ):
                return [Send(known.key)]
            if (event.epoch, event.formation) <= (known.epoch, known.formation):
                raise violation("formation", "The coordinator asked for a formation that is over.")
            confirmed = known.confirmed + ((known.roster_hash,) if known.confirmation is not None else ())
            if event.predecessor in (known.roster_hash, *confirmed):
                raise violation(
                    "formation", "The next roster is to follow one whose confirmations have not come here yet."
                )
            if len(confirmed) > MAX_CONFIRMED:
                raise violation(
                    "formation", "Too many rosters were confirmed here, and none of them was said to stand."
                )
        if present is not None:
            if event.epoch <= present.epoch:
                raise violation("formation", "The coordinator asked for a formation that is over.")
            if event.epoch == present.epoch + 1 and event.predecessor != present.roster_hash:
                raise violation(
                    "predecessor", "The next roster is to follow another epoch than the one that this member is in."
                )
        private = self._suite.generate(self._random)
        exchange_key, kem_key = self._suite.public(private)
        nonce, part = self._random(32), self._random(32)
        key = KeyMessage(
            epoch=event.epoch,
            formation=event.formation,
            predecessor=event.predecessor,
            credential=self._me.credential,
            exchange_key=exchange_key,
            kem_key=kem_key,
            nonce_hash=transcripts.nonce_hash(self._terms.job, self._me.member, nonce),
            group_hash=transcripts.group_part_hash(self._terms.job, self._me.member, part),
            weight=self._me.weight,
            signature=b"",
        )
        key = replace(key, signature=self._sign(transcripts.key_transcript(self._terms.job, key)))
        record = Candidacy(event.epoch, event.formation, private, nonce, part, key, confirmed=confirmed)
        return [self._votes.put(CANDIDACY, record), Send(key)]

    def _candidates(self, event: Candidates) -> list[MemberInstruction]:
        held = self._certain
        keys_hash = transcripts.keys_hash(self._terms.job, event.keys)
        if held.encapsulation is not None:
            if held.encapsulation.keys_hash == keys_hash:
                return [Send(held.encapsulation)]
            raise violation("two-rosters", "The coordinator showed a second list of keys for one formation.")
        self._check_own_entry(held, event.keys)
        seats = seats_of(
            self._terms,
            held.epoch,
            held.formation,
            held.key.predecessor,
            event.keys,
            self._verify_credential,
            self._verify,
        )
        index = next(seat.index for seat in seats if seat.member == self._me.member)
        wanted = self._me.min_cohort or 0
        if wanted > len(seats):
            raise violation(
                "min-cohort",
                f"This lab's policy asks for cohorts of {wanted}, and the roster has {len(seats)} members.",
                hint="Lower rules.minimumCohort in policy.yaml, or wait for a job with more members.",
            )
        secrets, ciphertexts = [b""] * len(seats), []
        for seat in seats[index:]:
            try:
                secret, ciphertext = self._suite.encapsulate(seat.kem_key)
            except ValueError as error:
                raise violation(
                    "encapsulation-key", f"The encapsulation key of {seat.member} is not usable."
                ) from error
            secrets[seat.index - 1] = secret
            ciphertexts.append(ciphertext)
        hashes = tuple(
            transcripts.ciphertext_hash(keys_hash, index, place, ciphertext)
            for place, ciphertext in enumerate(ciphertexts, start=index + 1)
        )
        message = Encapsulation(index, keys_hash, hashes, tuple(ciphertexts), b"")
        message = replace(message, signature=self._sign(transcripts.encapsulation_transcript(self._terms.job, message)))
        record = replace(held, secrets=tuple(secrets), encapsulation=message)
        return [self._votes.put(CANDIDACY, record), Send(message)]

    def _check_own_entry(self, held: Candidacy, keys: tuple[KeyMessage, ...]) -> None:
        if keys.count(held.key) != 1:
            raise violation("own-entry", "The roster does not hold our own key message as we sent it.")

    def _roster(self, event: Roster, present: Bench | None) -> list[MemberInstruction]:
        held = self._certain
        bench = bench_of(
            self._terms,
            event.epoch,
            event.formation,
            event.keys,
            event.encapsulations,
            self._verify_credential,
            self._verify,
        )
        if held.signature is not None:
            if held.roster_hash == bench.roster_hash:
                return [Send(held.signature)]
            raise violation("two-rosters", "The coordinator showed a second roster for one formation.")
        self._check_own_entry(held, event.keys)
        own = held.encapsulation
        assert own is not None
        if event.encapsulations.count(replace(own, ciphertexts=())) != 1:
            raise violation("own-entry", "The roster does not hold our own encapsulation as we sent it.")
        if present is not None and present.epoch == event.epoch - 1:
            check_successor(bench, present)
        roots = tuple(
            b"" if seat.index == own.index else self._root(held, bench, event, own.index, seat.index)
            for seat in bench.seats
        )
        message = RosterSignature(
            own.index,
            bench.roster_hash,
            self._sign(transcripts.roster_transcript(bench.job, bench.epoch, own.index, bench.roster_hash)),
        )
        record = replace(
            held,
            private=b"",
            secrets=(),
            seats=bench.seats,
            roster_hash=bench.roster_hash,
            roots=roots,
            signature=message,
        )
        return [self._votes.put(CANDIDACY, record), Send(message)]

    def _root(self, held: Candidacy, bench: Bench, event: Roster, own: int, peer: int) -> bytes:
        seat = bench.seats[peer - 1]
        try:
            agreed = self._suite.agree(held.private, seat.exchange_key)
        except ValueError as error:
            raise ProtocolViolation(
                f"The exchange key of {seat.member} is not usable.",
                check="exchange-key",
                hint="The roster is formed without it.",
            ) from error
        if own < peer:
            encapsulated = held.secrets[peer - 1]
        else:
            if len(event.ciphertexts) != own - 1:
                raise violation("ciphertexts", "The roster does not come with a ciphertext of each lower place.")
            ciphertext = event.ciphertexts[peer - 1]
            expected = event.encapsulations[peer - 1].hashes[own - peer - 1]
            if transcripts.ciphertext_hash(event.encapsulations[peer - 1].keys_hash, peer, own, ciphertext) != expected:
                raise violation(
                    "ciphertext",
                    f"The ciphertext that came for us is not the one that {seat.member} signed.",
                    evidence=ciphertext[:64],
                )
            encapsulated = self._suite.decapsulate(held.private, ciphertext)
        return boxes.pair_root(self._suite, agreed, encapsulated, bench.roster_hash, own, peer)

    def _certificate(self, event: RosterCertificate) -> list[MemberInstruction]:
        held = self._certain
        check_roster_certificate(self._bench(held), event.epoch, event.roster_hash, event.signatures)
        if held.opening is not None:
            return [Send(held.opening)]
        own = self._own(held)
        sealed = tuple(
            Box(
                seat.index,
                boxes.seal_part(self._suite, held.roots[seat.index - 1], held.roster_hash, own, seat.index, held.part),
            )
            for seat in held.seats
            if seat.index != own
        )
        opening = Opening(own, held.roster_hash, held.nonce, sealed, b"")
        opening = replace(opening, signature=self._sign(transcripts.opening_transcript(self._terms.job, opening)))
        return [self._votes.put(CANDIDACY, replace(held, opening=opening)), Send(opening)]

    def _openings(self, event: Openings) -> list[MemberInstruction]:
        held = self._certain
        bench = self._bench(held)
        if event.roster_hash != held.roster_hash:
            raise violation("two-rosters", "The openings are for another roster than the one we signed.")
        if held.confirmation is not None:
            return [Send(held.confirmation)]
        if [each.index for each in event.openings] != [seat.index for seat in held.seats]:
            raise violation("openings", "Not every member of the roster has opened.")
        own, parts = self._own(held), []
        for each, seat in zip(event.openings, held.seats, strict=True):
            bench.check_opening(each)
            if seat.index == own:
                parts.append(held.part)
                continue
            if [box.holder for box in each.boxes] != [own]:
                raise violation("openings", f"The part of the group key that {seat.member} sealed for us is missing.")
            part = boxes.unseal_part(
                self._suite, held.roots[seat.index - 1], held.roster_hash, seat.index, own, each.boxes[0].ciphertext
            )
            if transcripts.group_part_hash(self._terms.job, seat.member, part) != seat.group_hash:
                raise violation(
                    "group-part",
                    f"{seat.member} sent another part of the group key than it committed to.",
                    hint="The member is faulty or hostile. The setup starts again.",
                )
            parts.append(part)
        group = boxes.group_key(self._suite, parts, held.roster_hash)
        beacon = transcripts.beacon(held.roster_hash, [each.nonce for each in event.openings])
        message = Confirmation(own, held.roster_hash, beacon, transcripts.group_key_hash(group), b"")
        text = transcripts.confirmation_transcript(self._terms.job, message)
        message = replace(message, signature=self._sign(text))
        record = replace(held, part=b"", nonce=b"", group_key=group, confirmation=message)
        return [self._votes.put(CANDIDACY, record), Send(message)]

    def _confirmations(self, event: Confirmations) -> list[MemberInstruction]:
        """The seat of the epoch, beside that of the present one; the machine decides when to move to it."""
        held = self._certain
        check_confirmations(self._bench(held), event.epoch, event.roster_hash, event.confirmations)
        own = held.confirmation
        if own is None or event.confirmations[own.index - 1] != own:
            raise violation("own-entry", "The confirmations do not hold our own as we sent it.")
        seat = Seated(
            epoch=held.epoch,
            predecessor=held.key.predecessor,
            roster_hash=held.roster_hash,
            seats=held.seats,
            beacon=own.beacon,
            round=1,
            roots=held.roots,
            group_key=held.group_key,
        )
        return [self._votes.put(seat_key(held.epoch), seat), self._votes.erase(CANDIDACY)]
