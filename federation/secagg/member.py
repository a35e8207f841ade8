"""The member's machine: what one lab says, and refuses to say, in a job's rounds.

It promises: a vote is remembered on disk before it is signed away, so a restored member says the same bytes or nothing;
one roster per formation, one contribution, one ACK and one release per attempt; a release (REVEAL, RECOVER) binds the
state to the cohort; after an ABORT nothing more is said of the attempt; with its first READY in a new epoch nothing more
is said in the old one. Whatever the coordinator sends is a claim until its signatures are checked; what fails a check
gives ``Refuse`` and changes nothing. Everything may be told again: the answer is the same. The machine has no I/O and no
clock. (docs/protocol/secure-aggregation.md, "A round".)
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from federation.errors import OutOfOrder, ProtocolViolation
from federation.secagg import boxes, transcripts
from federation.secagg.candidate import Candidate, Me
from federation.secagg.certificate import Announced, Bench, Ed25519Verifier, Verify, violation
from federation.secagg.cohorts import Attempt, CohortRule
from federation.secagg.events import (
    AbortRequest,
    Candidates,
    CatchUp,
    ComputeInitialState,
    Confirmations,
    Contribute,
    ContributionFailed,
    Encoded,
    FetchState,
    FetchSum,
    Forgone,
    Form,
    Lineage,
    Mask,
    MaskPlan,
    MemberEvent,
    MemberInstruction,
    Openings,
    ProvideState,
    PutState,
    Refuse,
    Remember,
    Reopen,
    Roster,
    RosterCertificate,
    RoundSettled,
    Send,
    StateReady,
    StopContributing,
    SumApplied,
    SumRefused,
    TagPlan,
)
from federation.secagg.messages import (
    Abort,
    Ack,
    Announcement,
    Box,
    Certificate,
    Close,
    Ready,
    Receipt,
    Recover,
    RecoverReply,
    Reveal,
    Sealing,
    Seat,
    Survivors,
    Trailer,
    Upload,
    Void,
)
from federation.secagg.parameters import FIRST_ROUND, MAX_ATTEMPTS, Terms
from federation.secagg.setup import (
    FIRST_EPOCH,
    Credential,
    VerifyCredential,
    bench_of,
    check_confirmations,
    check_successor,
)
from federation.secagg.suite import STANDARD, Suite
from federation.secagg.votes import (
    BEFORE,
    HELD,
    PRESENT,
    ROOTED,
    Aborted,
    Bound,
    Contribution,
    Convicted,
    Held,
    Known,
    Present,
    Rooted,
    Seated,
    Votes,
    binding,
    convicted_key,
    seat_key,
    vote,
)

__all__ = ["LEGAL", "Credential", "Me", "MemberMachine", "Place"]

_ANY: Final = frozenset({"new", "seated", "training"})
_IN_EPOCH: Final = frozenset({"seated", "training"})

LEGAL: Final[dict[type, frozenset[str]]] = {
    Form: _ANY,
    Candidates: _ANY,
    Roster: _ANY,
    RosterCertificate: _ANY,
    Openings: _ANY,
    Confirmations: _ANY,
    Lineage: _IN_EPOCH,
    StateReady: _IN_EPOCH,
    Announcement: _IN_EPOCH,
    Survivors: _IN_EPOCH,
    Certificate: _IN_EPOCH,
    Recover: _IN_EPOCH,
    AbortRequest: _IN_EPOCH,
    Reopen: _IN_EPOCH,
    Close: _IN_EPOCH,
    CatchUp: _IN_EPOCH,
    ProvideState: frozenset({"training"}),
    Encoded: frozenset({"training"}),
    ContributionFailed: frozenset({"training"}),
    SumApplied: frozenset({"training"}),
    SumRefused: frozenset({"training"}),
}
"""Which event is legal in which phase. new: in no epoch yet; seated: no state; training: holds a state. Setup events
have stages of their own (``federation.secagg.candidate``)."""

_SETUP: Final = (Form, Candidates, Roster, RosterCertificate, Openings, Confirmations)
_LOCAL: Final = (StateReady, Encoded, ContributionFailed, SumApplied, SumRefused)
_STORY: Final = 24
_CONTEXTS: Final = 16
"""attempts whose announcements are kept"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the member stands: for Hello and for people. ``round`` 0: no state yet; epoch 0: no roster."""

    epoch: int
    roster_hash: bytes
    round: int
    state_digest: bytes


class MemberMachine:
    """``sign`` takes a transcript; ``verify_credential`` raises a FederationError for what no officer on the roll
    signed; ``cohorts`` is the lab's rule over all its jobs, without which figures leave over any certified cohort."""

    def __init__(
        self,
        terms: Terms,
        me: Me,
        sign: Callable[[bytes], bytes],
        verify_credential: VerifyCredential,
        random: Callable[[int], bytes] = os.urandom,
        *,
        verify: Verify | None = None,
        suite: Suite = STANDARD,
        cohorts: CohortRule | None = None,
    ) -> None:
        self._terms = terms
        self._me = me
        self._sign = sign
        self._verify_credential = verify_credential
        self._random = random
        self._verify = verify or Ed25519Verifier()
        self._suite = suite
        self._cohorts = cohorts
        self._votes = Votes()
        self._candidate = Candidate(terms, me, sign, verify_credential, random, self._verify, suite, self._votes)
        self._bench: Bench | None = None
        self._before: Bench | None = None
        self._index = 0
        self._announced: dict[bytes, Announced] = {}
        self._computing: bytes | None = None
        self._applying: FetchSum | None = None
        self._waiting_close: Close | None = None
        self._catching_up: CatchUp | None = None
        self._settled = 0
        self._story: deque[str] = deque(maxlen=_STORY)
        self._handlers: dict[type, Callable[..., list[MemberInstruction]]] = {
            **dict.fromkeys(_SETUP, self._setup),
            Lineage: self._lineage,
            Reopen: self._reopen,
            ProvideState: self._provide_state,
            StateReady: self._state_ready,
            Announcement: self._announcement,
            Encoded: self._encoded,
            ContributionFailed: self._contribution_failed,
            Survivors: self._survivors,
            Certificate: self._certificate,
            Recover: self._recover,
            AbortRequest: self._abort_request,
            Close: self._close,
            SumApplied: self._sum_applied,
            SumRefused: self._sum_refused,
            CatchUp: self._catch_up,
        }

    # ----------------------------------------------------------------------------------------------------- from outside

    def restore(self, records: Mapping[str, bytes]) -> None:
        """Takes up the journal of a member that was stopped or killed. An attempt that was not uploaded is forfeit."""
        self._votes.restore(records)
        self._sit()
        self._note("restored")

    def handle(self, event: MemberEvent, now: float) -> list[MemberInstruction]:  # noqa: ARG002 - room for budgets in time
        """Refuses what a peer may not say now; raises OutOfOrder for what this lab's own driver may not."""
        name = type(event).__name__
        if self.phase not in LEGAL[type(event)]:
            self._note(f"{name} refused while {self.phase}")
            if isinstance(event, _LOCAL):
                raise OutOfOrder(f"{name} does not fit a member that is {self.phase}.", story=tuple(self._story))
            return [Refuse(violation("out-of-order", f"The coordinator sent {name} to a member that is {self.phase}."))]
        try:
            instructions = self._handlers[type(event)](event)
        except ProtocolViolation as refused:
            self._note(f"{name} refused: {refused.check}")
            return [Refuse(refused)]
        self._note(f"{name} while {self.phase}")
        return instructions

    @property
    def phase(self) -> str:
        if self._bench is None:
            return "new"
        return "seated" if self._votes.get(HELD, Held) is None else "training"

    @property
    def stage(self) -> str:
        """Of the setup that is under way: none, keyed, encapsulated, signed, opened, confirmed."""
        return self._candidate.stage

    @property
    def position(self) -> Place:
        held = self._held
        if self._bench is None:
            return Place(0, b"", 0, b"")
        return Place(self._bench.epoch, self._bench.roster_hash, held.round, held.state_digest)

    @property
    def seats(self) -> tuple[Seat, ...]:
        return self._bench.seats if self._bench is not None else ()

    @property
    def bench(self) -> Bench | None:
        """Of the epoch that this member is in."""
        return self._bench

    @property
    def index(self) -> int:
        """This member's place in the roster, from 1; 0 while there is none."""
        return self._index

    @property
    def story(self) -> tuple[str, ...]:
        return tuple(self._story)

    def validate(self) -> None:
        """Invariants, for tests: raises AssertionError."""
        held = self._held
        if self._bench is not None:
            assert self._bench.seats[self._index - 1].member == self._me.member
        if self._computing is not None:
            assert self._announced[self._computing].round == held.round
        if self._applying is not None:
            assert self._applying.close.round == held.round
        if held.round:
            contribution = self._votes.latest("contribution", self._epoch, held.round)
            upload = self._votes.latest("upload", self._epoch, held.round)
            assert upload is None or contribution is not None

    # ------------------------------------------------------------------------------------------------------------ setup

    def _setup(
        self, event: Form | Candidates | Roster | RosterCertificate | Openings | Confirmations
    ) -> list[MemberInstruction]:
        if isinstance(event, Confirmations) and (seat := self._votes.get(seat_key(event.epoch), Seated)) is not None:
            check_confirmations(self._bench_of(seat), event.epoch, event.roster_hash, event.confirmations)
            return self._entered(event.epoch)
        newest = self._votes.get(seat_key(max(self._votes.epochs(), default=0)), Seated)
        if newest is not None and event.epoch <= newest.epoch:
            raise violation("formation", f"Epoch {event.epoch} stands already: no other roster is formed for it.")
        if newest is not None and newest.epoch > max(FIRST_EPOCH, self._rooted):
            raise violation(
                "formation", f"Epoch {newest.epoch} has certified no state of its own yet: no other follows it."
            )
        out = self._candidate.handle(event, self._bench_of(newest) if newest is not None else None)
        return [*out, *self._entered(event.epoch)] if isinstance(event, Confirmations) else out

    def _entered(self, epoch: int) -> list[MemberInstruction]:
        """All n have confirmed this epoch: the first begins; a later one is moved to when nothing binds us. Who holds no
        state makes the first one: it is the state, or the layout, that the others are at."""
        if self._bench is not None and self._certain.epoch == epoch:
            return self._again() if self._held.round else [ComputeInitialState()]
        out = self._move()
        if not out:
            return []
        return [*out, *(self._again() if self._held.round else [ComputeInitialState()])]

    def _move(self) -> list[MemberInstruction]:
        """To the newest epoch that all have confirmed, unless what we released, for our state or for one that we do not hold
        yet, is still open in the present one."""
        newest = max(self._votes.epochs(), default=0)
        if newest <= self._epoch:
            return []
        if any(not self._over(bound) for bound in self._votes.bindings_since(self._held.round)):
            return []
        out: list[MemberInstruction] = [*self._stop()]
        for epoch in sorted(self._votes.epochs())[:-1]:
            old = self._votes.get(seat_key(epoch), Seated)
            assert old is not None
            if epoch == newest - 1:
                out.append(self._votes.put(BEFORE, Known(old.epoch, old.predecessor, old.roster_hash, old.seats)))
            out.append(self._votes.erase(seat_key(epoch)))
        out.append(self._votes.put(PRESENT, Present(newest)))
        self._announced.clear()
        self._applying = self._waiting_close = None
        self._settled = 0
        self._sit()
        return out + self._ratchet(max(self._held.round, FIRST_ROUND))

    def _sit(self) -> None:
        """Takes the place that the records say."""
        present = self._votes.get(PRESENT, Present)
        if present is None:
            return
        seat = self._votes.get(seat_key(present.epoch), Seated)
        assert seat is not None
        self._bench = self._bench_of(seat)
        self._index = next(each.index for each in seat.seats if each.member == self._me.member)
        known = self._votes.get(BEFORE, Known)
        self._before = None
        if known is not None and known.roster_hash == seat.predecessor:
            self._before = Bench(
                self._terms.job, known.epoch, known.roster_hash, known.predecessor, known.seats, self._verify
            )

    @property
    def _rooted(self) -> int:
        record = self._votes.get(ROOTED, Rooted)
        return record.epoch if record is not None else 0

    def _root_in(self, receipts: Sequence[Receipt]) -> list[MemberInstruction]:
        """q receipts, which have been checked: the epoch that they are of has certified a state of its own."""
        epoch = receipts[0].epoch
        return [self._votes.put(ROOTED, Rooted(epoch))] if epoch > self._rooted else []

    def _bench_of(self, seat: Seated) -> Bench:
        return Bench(self._terms.job, seat.epoch, seat.roster_hash, seat.predecessor, seat.seats, self._verify)

    def _lineage(self, event: Lineage) -> list[MemberInstruction]:
        """The epoch before ours, for a member that was not in it: its hash is in the roster that all n signed, and all of its own
        members have confirmed it. A roster that never stood is no epoch: its members were elsewhere, and may be so still."""
        roster = event.roster
        if self._before is not None or self._certain.epoch == FIRST_EPOCH:
            return []
        bench = bench_of(
            self._terms,
            roster.epoch,
            roster.formation,
            roster.keys,
            roster.encapsulations,
            self._verify_credential,
            self._verify,
        )
        check_successor(self._certain, bench)
        said = event.confirmations
        check_confirmations(bench, said.epoch, said.roster_hash, said.confirmations)
        record = Known(bench.epoch, bench.predecessor, bench.roster_hash, bench.seats)
        remembered = self._votes.put(BEFORE, record)
        self._sit()
        return [remembered]

    def _ratchet(self, round_number: int) -> list[MemberInstruction]:
        """Keys of ``round_number``; those of the rounds before are erased."""
        seat = self._seat
        if seat.round >= round_number:
            return []
        record = replace(
            seat,
            round=round_number,
            roots=tuple(self._at(seat.round, root, round_number) if root else b"" for root in seat.roots),
            group_key=self._at(seat.round, seat.group_key, round_number),
        )
        return [self._votes.put(seat_key(seat.epoch), record)]

    def _at(self, since: int, key: bytes, round_number: int) -> bytes:
        """A key of round ``since``, ratcheted forward to ``round_number``. Raises ProtocolViolation: it is erased."""
        if since > round_number:
            raise violation("stale-round", f"The keys of round {round_number} are erased here.")
        for each in range(since + 1, round_number + 1):
            key = boxes.ratchet(self._suite, key, each)
        return key

    # ------------------------------------------------------------------------------------------------------------ state

    def _state_ready(self, event: StateReady) -> list[MemberInstruction]:
        held = self._held
        if (event.round, event.state_digest) == (held.round, held.state_digest):
            return self._again()
        catch_up = self._catching_up
        if event.round < max(held.round, catch_up.round if catch_up is not None else 0):
            return []  # a later state overtook it
        if catch_up is not None and (event.round, event.state_digest) == (catch_up.round, catch_up.state_digest):
            self._catching_up = None
        elif held.round or event.round != FIRST_ROUND:
            raise OutOfOrder(
                f"The state of round {event.round} is not what this member waits for (it holds round {held.round}).",
                hint="Say StateReady for machine.position, or after FetchState.",
                story=tuple(self._story),
            )
        out: list[MemberInstruction] = [*self._stop(), self._hold(event.round, event.state_digest)]
        if catch_up is not None and event.round > FIRST_ROUND:
            out += self._settle(event.round - 1)
        return [*out, *self._move(), *self._ready(0), *self._waited_for()]

    def _catch_up(self, event: CatchUp) -> list[MemberInstruction]:
        seat = self._votes.get(seat_key(event.epoch), Seated)
        if seat is None or event.epoch < self._epoch:
            raise violation("epoch", f"A state is offered in epoch {event.epoch}, in which this member has no place.")
        if event.epoch == self._epoch:
            certifier = self._certain.certifier(event.receipts, self._before)
        else:  # we are bound in the present epoch, and the others have moved on
            certifier = self._bench_of(seat).certifier(event.receipts, self._certain)
        if certifier.check_receipts(event.receipts, event.round - 1) != event.state_digest:
            raise violation("receipts", "The receipts certify another state than the one that is offered.")
        held = self._held
        if event.round < held.round:
            return []
        rooted = self._root_in(event.receipts)
        if (event.round, event.state_digest) == (held.round, held.state_digest):
            return [*rooted, *self._settle(event.round - 1)]
        if self._catching_up is not None and event.round < self._catching_up.round:
            return rooted  # a later one is on its way
        key = self._state_key(seat, event)
        self._catching_up = event
        return [*rooted, FetchState(event.round, event.state_digest, event.state_blob, key)]

    def _state_key(self, seat: Seated, state: CatchUp | ProvideState) -> bytes:
        group = self._at(seat.round, seat.group_key, state.round)
        if not self._terms.blind:
            return b""
        return boxes.state_key(self._suite, group, state.state_digest)

    def release_key(self, state_digest: bytes) -> bytes:
        """Under which the final state is sealed for its recipients; empty while that state is not held, or not blind."""
        held = self._votes.get(HELD, Held)
        if held is None or (held.round, held.state_digest) != (self._terms.last_round + 1, state_digest):
            return b""
        return self._state_key(self._seat, ProvideState(self._epoch, held.round, state_digest))

    def final_figures(self, receipts: Sequence[Receipt], state_digest: bytes) -> tuple[int, ...]:
        """Those of the last round, as q members signed them with that state. Raises ProtocolViolation."""
        certifier = self._certain.certifier(receipts, self._before)
        if certifier.check_receipts(receipts, self._terms.last_round) != state_digest:
            raise violation("receipts", "The receipts certify another final state than the one that is asked for.")
        return receipts[0].figures

    def sealing(self, state_digest: bytes, sealed_blob: bytes, wrapped: tuple[bytes, ...]) -> Sealing:
        """Our word that the file ``sealed_blob`` holds that state, under the key that is wrapped."""
        said = Sealing(self._index, self._epoch, state_digest, sealed_blob, wrapped, b"")
        text = transcripts.sealing_transcript(self._terms.job, self._certain.roster_hash, said)
        return replace(said, signature=self._sign(text))

    def _provide_state(self, event: ProvideState) -> list[MemberInstruction]:
        """For a member that is behind; in blind mode sealed, so that the coordinator carries what it cannot read."""
        if event.epoch != self._epoch:
            raise violation(
                "epoch", f"A state is asked for in epoch {event.epoch}, and this member is in {self._epoch}."
            )
        if (event.round, event.state_digest) not in self._given or self._seat.round > event.round:
            return []  # we have moved on: somebody else is asked
        return [PutState(self._epoch, event.round, event.state_digest, self._state_key(self._seat, event))]

    @property
    def _given(self) -> set[tuple[int, bytes]]:
        """The states that we give: ours, and the one that we went on from, until q have signed ours. Its key is erased then."""
        held = self._held
        given = {(held.round, held.state_digest)}
        ready = self._votes.latest("ready", self._epoch, held.round - 1)
        return given if ready is None else given | {(ready.round, ready.state_digest)}

    def _hold(self, round_number: int, state_digest: bytes) -> Remember:
        self._applying = None
        return self._votes.put(HELD, Held(round_number, state_digest))

    def _ready(self, attempt: int) -> list[MemberInstruction]:
        """READY for our round: once per attempt, unless q receipts have replaced the state that we computed."""
        held = self._held
        if held.round > self._terms.last_round:
            return []
        key = vote("ready", self._epoch, held.round, attempt)
        known = self._votes.get(key, Ready)
        if known is not None and known.state_digest == held.state_digest:
            return [Send(known)]
        if self._votes.get(vote("contribution", self._epoch, held.round, attempt), Contribution) is not None:
            return []
        ready = Ready(
            index=self._index,
            epoch=self._epoch,
            round=held.round,
            attempt=attempt,
            state_digest=held.state_digest,
            min_cohort=max(self._certain.quorums.m, self._me.min_cohort or 0),
            signature=b"",
        )
        text = transcripts.ready_transcript(self._terms.job, self._certain.roster_hash, ready)
        ready = replace(ready, signature=self._sign(text))
        return [self._votes.put(key, ready), Send(ready)]

    def _again(self) -> list[MemberInstruction]:
        """The last receipt and the last READY, as the coordinator may have missed them."""
        held = self._held
        receipt = self._votes.get(vote("receipt", self._epoch, held.round - 1, 0), Receipt)
        out: list[MemberInstruction] = [] if receipt is None else [Send(receipt)]
        ready = self._votes.latest("ready", self._epoch, held.round)
        return [*out, *self._ready(0 if ready is None else ready.attempt)]

    def _settle(self, round_number: int) -> list[MemberInstruction]:
        if self._settled >= round_number:
            return []
        self._settled = round_number
        for context in [known.context for known in self._announced.values() if known.round <= round_number]:
            del self._announced[context]
        return [*self._votes.settle(round_number), *self._ratchet(round_number + 1), RoundSettled(round_number)]

    # ----------------------------------------------------------------------------------------------------------- upload

    def _announcement(self, event: Announcement) -> list[MemberInstruction]:
        announced = self._certain.check_announcement(event, self._before)
        held = self._held
        if announced.round < held.round:
            return []
        if announced.round == held.round and announced.state_digest != held.state_digest:
            raise violation(
                "different-models",
                f"Round {announced.round} is announced for another model than the one this member computed.",
                hint="The member takes no part until it has the state that a quorum signs.",
            )
        for other in self._announced.values():
            if other.round == announced.round and other.attempt > announced.attempt:
                raise violation("stale-attempt", f"Attempt {announced.attempt} of the round is over.")
        known = self._votes.get(vote("contribution", self._epoch, announced.round, announced.attempt), Contribution)
        if known is not None and known.context != announced.context:
            raise violation("second-announcement", "One attempt was announced with two different sets of members.")
        out: list[MemberInstruction] = []
        if event.void is not None:
            out += self._see_void(event.void, announced.round, announced.state_digest)
        elif announced.attempt > 0:
            out += self._see_aborted(announced.round, announced.attempt - 1)
        while len(self._announced) >= _CONTEXTS:
            del self._announced[next(iter(self._announced))]
        self._announced[announced.context] = announced
        if announced.round != held.round:
            return out
        if announced.round > FIRST_ROUND:
            out += self._root_in(event.receipts)
            out += self._settle(announced.round - 1)
        return out if self._said_abort(announced) else out + self._contribute(announced)

    def _see_aborted(self, round_number: int, attempt: int) -> list[MemberInstruction]:
        key = vote("aborted", self._epoch, round_number, attempt)
        if self._votes.get(key, Aborted) is not None:
            return []
        over = [
            known.context
            for known in self._announced.values()
            if (known.round, known.attempt) == (round_number, attempt)
        ]
        stopped = self._stop() if self._computing in over else []
        retracted: list[MemberInstruction] = []
        if self._cohorts is not None:
            retracted += self._cohorts.retract(self._attempt(round_number, attempt, self._held.state_digest))
        forgone = self._forgone(round_number, attempt)
        return [self._votes.put(key, Aborted(attempt)), *retracted, *stopped, *forgone]

    def _forgone(self, round_number: int, attempt: int) -> list[MemberInstruction]:
        made = self._votes.get(vote("contribution", self._epoch, round_number, attempt), Contribution)
        if made is None or self._votes.bound_in(self._epoch, round_number, attempt):
            return []
        return [Forgone(made.context)]

    def _see_void(self, void: Void, round_number: int, state_digest: bytes) -> list[MemberInstruction]:
        """A certified attempt gave no sum: whoever learns of it is bound to its cohort, as if it had released, and to it
        less the members that are proved to have lied in it (``Bench.check_void`` has checked the proofs)."""
        cohort = tuple(self._name(index) for index in void.certificate.survivors.cohort)
        context = void.certificate.survivors.context
        key = binding(state_digest, self._epoch, void.attempt)
        new = self._votes.get(key, Bound) is None
        if self._votes.get(vote("aborted", self._epoch, round_number, void.attempt), Aborted) is not None:
            raise violation("aborted", "A quorum aborted this attempt: its certificate opens nothing.")
        if new and self._votes.attempt_of("ack", self._epoch, round_number) > void.attempt:
            raise violation("stale-attempt", "We acknowledged a cohort in a later attempt: this one is over for us.")
        known = self._votes.convicted(state_digest)
        convicted = known | {self._name(index) for index in self._certain.convicted(void, context)}
        if len(convicted) > self._certain.quorums.f:
            raise violation("proof", f"{len(convicted)} members are convicted at one state: more than may lie.")
        here = (self._epoch, void.attempt)
        for bound in self._votes.bindings(state_digest):
            there = (bound.epoch, bound.attempt)
            earlier, later = (cohort, bound.cohort) if there > here else (bound.cohort, cohort)
            fits = earlier == later if there == here else _less(earlier, later, convicted)
            if not fits and not self._over(bound):
                raise violation(
                    "bound-cohort",
                    "We released for this state already: only the same cohort may be summed, less the convicted.",
                )
        applying = self._applying
        if applying is not None and applying.close.round == round_number:
            of = self._announced.get(applying.close.context)
            if of is None or of.attempt <= void.attempt:
                self._applying = None
        out: list[MemberInstruction] = []
        computing = self._announced.get(self._computing) if self._computing is not None else None
        if computing is not None and computing.attempt <= void.attempt:
            out += self._stop()
        if convicted > known:
            out.append(self._votes.put(convicted_key(state_digest), Convicted(tuple(sorted(convicted)))))
        if new:
            digest = transcripts.survivors_digest(void.certificate.survivors)
            if self._cohorts is not None and round_number == self._held.round:
                attempt = self._attempt(round_number, void.attempt, state_digest)
                out += self._cohorts.keep(attempt, cohort, opened=True)
            out.append(self._votes.put(key, Bound(self._epoch, round_number, void.attempt, digest, cohort)))
        return out

    def _reopen(self, event: Reopen) -> list[MemberInstruction]:
        """The coordinator shows that attempt a was certified and gave no sum: READY for a + 1, for the same cohort, less the
        convicted."""
        held = self._held
        if event.epoch != self._epoch or event.round != held.round:
            raise violation("stale-round", "The coordinator asked to open a round again that is not open.")
        cohort = self._certain.check_void(event.void, held.round, event.void.attempt + 1, held.state_digest)
        out = self._see_void(event.void, held.round, held.state_digest)
        return out if self._index not in cohort else out + self._ready(event.void.attempt + 1)

    def _over(self, bound: Bound) -> bool:
        """Whether we were shown the ABORT of the attempt that bound us."""
        return self._votes.get(vote("aborted", bound.epoch, bound.round, bound.attempt), Aborted) is not None

    def _contribute(self, announced: Announced) -> list[MemberInstruction]:
        if self._index not in announced.ready:
            return []
        key = vote("contribution", self._epoch, announced.round, announced.attempt)
        known = self._votes.get(key, Contribution)
        if known is None:
            if (refused := self._kept_in(announced)) is not None:
                return [Refuse(refused)]  # said, not raised, as below
            seeds = Contribution(announced.context, self._random(32), self._random(32))
            self._computing = announced.context
            return [self._votes.put(key, seeds), self._work(announced, seeds)]
        upload = self._votes.get(vote("upload", self._epoch, announced.round, announced.attempt), Upload)
        if upload is not None:
            return [Send(upload)]
        if self._computing == announced.context:
            return []
        lost = violation(
            "contribution-lost",
            f"This node lost its contribution to round {announced.round} (it restarted, or its task failed).",
            hint="Nothing to do: the round goes on without it, and it takes part in the next one.",
        )
        return [
            Refuse(lost),
            Forgone(announced.context),
        ]  # said, not raised: the attempt is known all the same, and this member can ACK it

    def _attempt(self, round_number: int, attempt: int, state_digest: bytes) -> Attempt:
        return Attempt(self._epoch, round_number, attempt, state_digest)

    def _leave(self, announced: Announced, cohort: tuple[int, ...], *, opened: bool) -> list[MemberInstruction]:
        """Our figures are about to leave over this cohort: as the lab's rule allows. Raises ProtocolViolation. Whoever is behind
        answers for others against a certificate all the same: q members that hold the model have entered it."""
        if self._cohorts is None or (opened and announced.round != self._held.round):
            return []
        attempt = self._attempt(announced.round, announced.attempt, announced.state_digest)
        return [*self._cohorts.enter(attempt, tuple(map(self._name, cohort)), opened=opened)]

    def _kept_in(self, announced: Announced) -> ProtocolViolation | None:
        """Why nothing of ours is uploaded for this attempt: our figures of this model have left over another cohort."""
        if self._cohorts is None:
            return None
        try:
            attempt = self._attempt(announced.round, announced.attempt, announced.state_digest)
            self._cohorts.check(attempt, tuple(map(self._name, announced.ready)))
        except ProtocolViolation as refused:
            return refused
        return None

    def _work(self, announced: Announced, seeds: Contribution) -> Contribute:
        masks = [Mask(seeds.self_seed, +1)]
        for peer in announced.ready:
            if peer != self._index:
                masks.append(Mask(self._seed(peer, announced), +1 if peer > self._index else -1))
        group, context = self._group_key(announced.round), announced.context
        if self._index in self._blinders(announced):
            masks.append(Mask(boxes.blind_seed(self._suite, group, context, self._index), +1))
        tag = TagPlan(
            boxes.tag_key(self._suite, group, context), (boxes.tag_pad(self._suite, group, context, self._index),)
        )
        return Contribute(
            round=announced.round,
            attempt=announced.attempt,
            plan=MaskPlan(context, tuple(masks), seeds.dither, self._terms.cipher, tag),
            weight=self.seats[self._index - 1].weight,
            weight_unit=self._certain.weight_unit,
            members=len(self.seats),
            header_only=self._terms.header_only(announced.round),
        )

    def _blinders(self, announced: Announced) -> tuple[int, ...]:
        """The first |R_r| - m + 1 of R_r: one at least is in every cohort of m, whoever drops."""
        if not self._terms.blind:
            return ()
        return announced.ready[: len(announced.ready) - self._certain.quorums.m + 1]

    def _plan_of_sum(self, announced: Announced, cohort: tuple[int, ...]) -> MaskPlan:
        """What the cohort put on that only members can take off, and its pads."""
        group, context = self._group_key(announced.round), announced.context
        blinders = self._blinders(announced)
        masks = tuple(
            Mask(boxes.blind_seed(self._suite, group, context, index), -1) for index in cohort if index in blinders
        )
        pads = tuple(boxes.tag_pad(self._suite, group, context, index) for index in cohort)
        tag = TagPlan(boxes.tag_key(self._suite, group, context), pads)
        return MaskPlan(context, masks, b"", self._terms.cipher, tag)

    def _encoded(self, event: Encoded) -> list[MemberInstruction]:
        announced = self._announced.get(event.context)
        if announced is None or self._computing != event.context:
            return []  # the attempt ended while the driver was at work
        key = vote("upload", self._epoch, announced.round, announced.attempt)
        known = self._votes.get(key, Upload)
        if known is not None:
            if known.root != event.root:
                raise OutOfOrder("The attempt was encoded twice, with different bytes.", story=tuple(self._story))
            return [Send(known)]
        seeds = self._votes.get(vote("contribution", self._epoch, announced.round, announced.attempt), Contribution)
        assert seeds is not None
        trailer = self._trailer(announced, seeds)
        text = transcripts.upload_transcript(
            announced.context, self._index, event.root, transcripts.trailer_hash(trailer)
        )
        upload = Upload(self._index, announced.context, event.root, trailer, self._sign(text))
        return [self._votes.put(key, upload), Send(upload)]

    def _trailer(self, announced: Announced, seeds: Contribution) -> Trailer:
        """Backup shares of b_i and of every s_ij, one sealed box for each other member of the roster."""
        edges = tuple(peer for peer in announced.ready if peer != self._index)
        holders = tuple(seat.index for seat in self.seats if seat.index != self._index)
        secrets = [(0, seeds.self_seed), *((peer, self._seed(peer, announced)) for peer in edges)]
        threshold = self._certain.quorums.t
        shares = [self._suite.split(secret, threshold, holders, self._random) for _, secret in secrets]
        context = announced.context
        return Trailer(
            boxes=tuple(
                Box(
                    holder,
                    boxes.seal(
                        self._suite,
                        self._root(holder, announced.round),
                        context,
                        self._index,
                        holder,
                        edges,
                        [share[holder] for share in shares],
                    ),
                )
                for holder in holders
            ),
            edges=edges,
            secret_hashes=tuple(
                transcripts.secret_hash(context, self._index, peer, secret) for peer, secret in secrets
            ),
            share_hashes=tuple(
                transcripts.share_hash(context, self._index, holder, peer, share[holder])
                for holder in holders
                for (peer, _), share in zip(secrets, shares, strict=True)
            ),
        )

    def _contribution_failed(self, event: ContributionFailed) -> list[MemberInstruction]:
        if self._computing == event.context:
            self._computing = None
        return []

    def _stop(self) -> list[MemberInstruction]:
        if self._computing is None:
            return []
        context, self._computing = self._computing, None
        return [StopContributing(context)]

    # --------------------------------------------------------------------------------------------- ack, reveal, recover

    def _attempt_of(self, context: bytes) -> Announced:
        announced = self._announced.get(context)
        if announced is None:
            raise violation(
                "context", "The message is of an attempt that was not announced to this member, or is over."
            )
        if announced.round < self._held.round:
            raise violation("stale-round", f"Round {announced.round} is over for this member.")
        if self._said_abort(announced):
            raise violation("aborted", "We signed an ABORT for this attempt: nothing more is said of it.")
        self._check_latest(announced)
        return announced

    def _check_latest(self, announced: Announced) -> None:
        """An ACK ends the attempts before it: else two halves of the members could open two cohorts of one state."""
        if self._votes.attempt_of("ack", self._epoch, announced.round) > announced.attempt:
            raise violation("stale-attempt", "We acknowledged a cohort in a later attempt: this one is over for us.")

    def _said_abort(self, announced: Announced) -> bool:
        key = vote("abort", self._epoch, announced.round, announced.attempt)
        seen = vote("aborted", self._epoch, announced.round, announced.attempt)
        return self._votes.get(key, Abort) is not None or self._votes.get(seen, Aborted) is not None

    def _own_entry(self, survivors: Survivors, announced: Announced) -> None:
        for entry in survivors.entries:
            if entry.index != self._index:
                continue
            upload = self._votes.get(vote("upload", self._epoch, announced.round, announced.attempt), Upload)
            if (
                upload is None
                or upload.context != announced.context
                or (upload.root, transcripts.trailer_hash(upload.trailer)) != (entry.root, entry.trailer_hash)
            ):
                raise violation("own-entry", "The survivors name an upload of ours that we did not make.")

    def _survivors(self, event: Survivors) -> list[MemberInstruction]:
        announced = self._attempt_of(event.context)
        digest = self._certain.check_survivors(event, announced)
        self._own_entry(event, announced)
        key = vote("ack", self._epoch, announced.round, announced.attempt)
        known = self._votes.get(key, Ack)
        if known is not None:
            if known.survivors_digest != digest:
                raise violation("two-survivor-sets", "The coordinator showed a second survivor set for one attempt.")
            return [Send(known)]
        self._check_binding(announced, digest, event.cohort)
        entered = self._leave(announced, event.cohort, opened=False)
        ack = Ack(self._index, announced.context, digest, b"")
        ack = replace(ack, signature=self._sign(transcripts.ack_transcript(ack)))
        return [*entered, self._votes.put(key, ack), Send(ack), *self._left_out(event.cohort, announced)]

    def _left_out(self, cohort: tuple[int, ...], announced: Announced) -> list[MemberInstruction]:
        return self._stop() if self._computing == announced.context and self._index not in cohort else []

    def _check_binding(self, announced: Announced, digest: bytes, cohort: tuple[int, ...]) -> None:
        names = tuple(map(self._name, cohort))
        here = (self._epoch, announced.round, announced.attempt)
        convicted = self._votes.convicted(announced.state_digest)
        for bound in self._votes.bindings(announced.state_digest):
            if (bound.epoch, bound.round, bound.attempt) == here:
                if bound.survivors_digest != digest:
                    raise violation("bound-cohort", "We released for this attempt already, to other survivors.")
            elif not _less(bound.cohort, names, convicted) and not self._over(bound):
                raise violation(
                    "bound-cohort",
                    "We released for this state already: only the same cohort may be summed, less the convicted.",
                )

    def _bind(self, announced: Announced, digest: bytes, cohort: tuple[int, ...]) -> list[MemberInstruction]:
        self._check_binding(announced, digest, cohort)
        key = binding(announced.state_digest, self._epoch, announced.attempt)
        if self._votes.get(key, Bound) is not None:
            return []
        entered = self._leave(announced, cohort, opened=True)
        names = tuple(map(self._name, cohort))
        return [*entered, self._votes.put(key, Bound(self._epoch, announced.round, announced.attempt, digest, names))]

    def _certificate(self, event: Certificate) -> list[MemberInstruction]:
        announced = self._attempt_of(event.survivors.context)
        digest = self._certain.check_certificate(event, announced)
        self._own_entry(event.survivors, announced)
        cohort = event.survivors.cohort
        if self._index not in cohort:
            return self._left_out(cohort, announced)
        bind = self._bind(announced, digest, cohort)
        seeds = self._votes.get(vote("contribution", self._epoch, announced.round, announced.attempt), Contribution)
        assert seeds is not None
        gone = [peer for peer in announced.ready if peer not in cohort]
        edges = tuple((peer, self._seed(peer, announced)) for peer in gone)
        reveal = Reveal(self._index, announced.context, seeds.self_seed, edges, b"")
        return [*bind, Send(replace(reveal, signature=self._sign(transcripts.reveal_transcript(reveal))))]

    def _recover(self, event: Recover) -> list[MemberInstruction]:
        announced = self._attempt_of(event.certificate.survivors.context)
        digest = self._certain.check_certificate(event.certificate, announced)
        cohort = event.certificate.survivors.cohort
        if event.owner not in cohort or event.owner == self._index:
            raise violation(
                "recover-owner", f"Member {event.owner} is not in the certified cohort: its shares stay here."
            )
        if event.edges != tuple(peer for peer in announced.ready if peer != event.owner):
            raise violation("recover-edges", "The edges are not those of the owner in this attempt.")
        opened = boxes.unseal(
            self._suite,
            self._root(event.owner, announced.round),
            announced.context,
            event.owner,
            self._index,
            event.edges,
            event.box,
        )
        shares = tuple(
            (peer, share)
            for peer, share in zip((0, *event.edges), opened, strict=True)
            if peer == 0 or peer not in cohort
        )
        bind = self._bind(announced, digest, cohort)
        reply = RecoverReply(self._index, announced.context, event.owner, shares, b"")
        return [*bind, Send(replace(reply, signature=self._sign(transcripts.recover_transcript(reply))))]

    def _abort_request(self, event: AbortRequest) -> list[MemberInstruction]:
        held = self._held
        last = min(held.round + 1, self._terms.last_round)
        if event.epoch != self._epoch or not held.round <= event.round <= last:
            raise violation("stale-round", "The coordinator asked to abort a round that is not open.")
        if event.attempt > MAX_ATTEMPTS:
            raise violation("stale-attempt", f"A round has no attempt {event.attempt}.")
        key = vote("abort", self._epoch, event.round, event.attempt)
        abort = self._votes.get(key, Abort)
        out: list[MemberInstruction] = []
        if abort is None:
            if self._votes.bound_in(event.epoch, event.round, event.attempt):
                raise violation(
                    "bound-cohort", "We have released for this attempt: it can only be closed, not aborted."
                )
            abort = Abort(self._index, self._epoch, event.round, event.attempt, b"")
            text = transcripts.abort_transcript(self._terms.job, self._certain.roster_hash, abort)
            abort = replace(abort, signature=self._sign(text))
            out.append(self._votes.put(key, abort))
        out.append(Send(abort))
        computing = self._announced.get(self._computing) if self._computing is not None else None
        if computing is not None and (computing.round, computing.attempt) == (event.round, event.attempt):
            out += self._stop()
        if event.round == held.round:
            out += self._ready(event.attempt + 1)
        return out

    # ------------------------------------------------------------------------------------------------------------ close

    def _close(self, event: Close) -> list[MemberInstruction]:
        held = self._held
        if event.round > held.round:
            self._waiting_close = event  # checked when the state is here
            return []
        if event.round == held.round - 1:
            return self._again()
        if event.round < held.round:
            raise violation("stale-round", f"Round {event.round} is over for this member.")
        announced = self._announced.get(event.context)
        if announced is None or announced.round != event.round:
            raise violation("context", "The sum is of an attempt that was not announced to this member.")
        if announced.state_digest != held.state_digest:
            raise violation("different-models", "The sum is for another model than the one this member holds.")
        if self._votes.get(vote("aborted", self._epoch, announced.round, announced.attempt), Aborted) is not None:
            raise violation("aborted", "A quorum aborted this attempt: its sum is not applied.")
        digest = self._certain.check_certificate(event.certificate, announced)
        if digest != event.survivors_digest:
            raise violation("acks", "The sum names other survivors than its certificate.")
        if self._applying is not None and self._applying.close == event:
            return []
        cohort = event.certificate.survivors.cohort
        self._applying = FetchSum(
            close=event,
            plan=self._plan_of_sum(announced, cohort),
            cohort=cohort,
            total_weight=self._certain.weight_of(cohort),
            weight_unit=self._certain.weight_unit,
            members=len(self.seats),
            ready=announced.ready,
        )
        kept: list[MemberInstruction] = []
        if self._cohorts is not None:
            attempt = self._attempt(announced.round, announced.attempt, announced.state_digest)
            kept += self._cohorts.keep(attempt, tuple(map(self._name, cohort)), opened=False)
        return [*kept, *self._left_out(cohort, announced), self._applying]

    def _sum_applied(self, event: SumApplied) -> list[MemberInstruction]:
        applying = self._applying
        if applying is None or applying.close.context != event.context:
            return []  # a certified state overtook it
        close = applying.close
        receipt = Receipt(
            index=self._index,
            epoch=self._epoch,
            round=close.round,
            context=close.context,
            survivors_digest=close.survivors_digest,
            state_digest=event.state_digest,
            figures=event.figures,
            signature=b"",
        )
        text = transcripts.receipt_transcript(self._terms.job, self._certain.roster_hash, receipt)
        receipt = replace(receipt, signature=self._sign(text))
        key = vote("receipt", self._epoch, close.round, 0)
        out: list[MemberInstruction] = [*self._stop(), *self._opened(close), self._votes.put(key, receipt)]
        out += [self._hold(close.round + 1, event.state_digest), Send(receipt)]
        return [*out, *self._move(), *self._ready(0), *self._waited_for()]

    def _opened(self, close: Close) -> list[MemberInstruction]:
        """The sum was checked, and a place of it audited: it was opened, and no other attempt of its round was. What is only
        told may be no sum at all."""
        announced = self._announced.get(close.context)
        if self._cohorts is None or announced is None:
            return []
        attempt = self._attempt(announced.round, announced.attempt, announced.state_digest)
        return [*self._cohorts.close(attempt, tuple(map(self._name, close.certificate.survivors.cohort)))]

    def _waited_for(self) -> list[MemberInstruction]:
        """The sum of our round, which was told while we were still behind."""
        waiting = self._waiting_close
        if waiting is None or waiting.round != self._held.round:
            return []
        self._waiting_close = None
        try:
            return self._close(waiting)
        except ProtocolViolation as refused:
            return [Refuse(refused)]

    def _sum_refused(self, event: SumRefused) -> list[MemberInstruction]:
        if self._applying is None or self._applying.close.context != event.context:
            return []
        self._applying = None
        if event.ours:
            raise violation(
                "sum-not-applied",
                f"This lab could not apply the certified sum: {event.reason}",
                hint="It takes the sum when it is told again, or the state that the others certify.",
            )
        raise violation(
            "sum-refused",
            f"The certified sum was refused: {event.reason}",
            hint="A member sent garbage, or the coordinator altered the sum. The job cannot go on from this round.",
        )

    # ----------------------------------------------------------------------------------------------------------- inside

    @property
    def _certain(self) -> Bench:
        assert self._bench is not None
        return self._bench

    @property
    def _epoch(self) -> int:
        return self._bench.epoch if self._bench is not None else 0

    @property
    def _held(self) -> Held:
        return self._votes.get(HELD, Held) or Held(0, b"")

    @property
    def _seat(self) -> Seated:
        seat = self._votes.get(seat_key(self._epoch), Seated)
        assert seat is not None
        return seat

    def _name(self, index: int) -> str:
        return self._certain.seats[index - 1].member

    def _root(self, peer: int, round_number: int) -> bytes:
        """K_ij of a round. A member that is behind answers for rounds to which its records have not moved on yet."""
        seat = self._seat
        return self._at(seat.round, seat.roots[peer - 1], round_number)

    def _group_key(self, round_number: int) -> bytes:
        seat = self._seat
        return self._at(seat.round, seat.group_key, round_number)

    def _seed(self, peer: int, announced: Announced) -> bytes:
        return boxes.mask_seed(self._suite, self._root(peer, announced.round), announced.context)

    def _note(self, line: str) -> None:
        self._story.append(line)


def _less(cohort: tuple[str, ...], other: tuple[str, ...], convicted: frozenset[str]) -> bool:
    """Whether ``other`` is the cohort, or it less convicted members."""
    return set(other) <= set(cohort) and set(cohort) - set(other) <= convicted
