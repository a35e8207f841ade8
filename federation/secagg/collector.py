"""The collector's machine: it carries messages, counts signatures, and finds the masks that are left in a sum.

It is trusted for availability only: whatever it asks for, members check. It promises: a phase closes as soon as
everyone that can still answer has answered; with too few members it waits for them to return rather than fail; a member
that connects is told again whatever it can still use; the same stored events give the same machine. It verifies every
signature before it counts it, and names who sent a bad one.

The driver stores each event, with ``now``, before it performs what ``handle`` returns. At a start it replays the stored
events (or those after a checkpoint), ignoring instructions, performs ``resume()``, then handles, as stored events,
``Lost`` for each of ``present``. (docs/protocol/secure-aggregation.md, "The collector".)

Members that join later come in with a new epoch, whose setup runs beside the rounds; at the next round boundary the
roster changes hands. A member that was left out of the roster is told nothing of its rounds.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, Self

from federation.errors import OutOfOrder, ProtocolViolation, VerificationFailed
from federation.secagg import codec, recovery, transcripts
from federation.secagg.certificate import Announced, Bench, Ed25519Verifier, Verify, violation
from federation.secagg.conviction import Conviction, Statement
from federation.secagg.events import (
    AbortRequest,
    Begin,
    CatchUp,
    CollectorEvent,
    CollectorInstruction,
    Connected,
    ContributionLost,
    Discard,
    From,
    JobDone,
    JobStuck,
    Join,
    Left,
    Lineage,
    Lost,
    Misconduct,
    PhaseChanged,
    ProvideState,
    Readmitted,
    Reopen,
    Roster,
    RosterFormed,
    RoundClosed,
    StateCertified,
    StateGiven,
    StateRefused,
    StateStored,
    SumFailed,
    SumReady,
    TaskBroke,
    Tell,
    Unmask,
    Windows,
)
from federation.secagg.false_seed import FalseSeed
from federation.secagg.formation import Formation, FormationBook
from federation.secagg.formation import Said as SetupSaid
from federation.secagg.ledger import NOT_YET, Ledger
from federation.secagg.messages import (
    Abort,
    Ack,
    Announcement,
    Certificate,
    Close,
    Ready,
    Receipt,
    Recover,
    RecoverReply,
    Reveal,
    Seat,
    SurvivorEntry,
    Survivors,
    Unmasked,
    Upload,
    Void,
)
from federation.secagg.parameters import FIRST_ROUND, MIN_MEMBERS, Terms
from federation.secagg.setup import FIRST_EPOCH, GENESIS, VerifyCredential, bench_of, kept_seats

_ROUND: Final = frozenset({"gathering", "collecting", "certifying", "revealing", "unmasking", "aborting", "finishing"})
_OVER: Final = frozenset({"done", "stuck"})

LEGAL: Final[dict[type, frozenset[str]]] = {
    Ready: _ROUND,
    Receipt: _ROUND,
    Upload: frozenset({"collecting", "certifying", "revealing", "unmasking"}),
    Ack: frozenset({"certifying", "revealing", "unmasking"}),
    Reveal: frozenset({"revealing"}),
    RecoverReply: frozenset({"revealing"}),
    Abort: frozenset({"aborting", "revealing", "unmasking"}),
    Begin: frozenset({"new"}),
    SumReady: frozenset({"unmasking"}),
    SumFailed: frozenset({"unmasking"}),
}
"""Which event is legal in which phase. What may come at any time (Connected, Join, Lost, TaskBroke, StateGiven, Tick, ..) is
not listed; messages of a setup have stages of their own (``federation.secagg.formation``). Uploads and ACKs that come too late to
count are still held against what their member said before."""

_LATE: Final[dict[type, frozenset[str]]] = {
    Ready: frozenset(),
    Receipt: frozenset(),
    Upload: _ROUND,
    Ack: _ROUND,
    Reveal: _ROUND,
    RecoverReply: _ROUND,
    Abort: _ROUND,
}
"""Where an honest member's message may arrive too late: it is dropped without a word."""

_STORY: Final = 24
_PROOF_BYTES: Final = 16 << 20
"""of the proofs that one message shows"""
_NEVER: Final = float("-inf")
_NOBODY: Final = codec.encode(set(), set[str])
_NOTHING_GIVEN: Final = _NOBODY + 3 * codec.encode({}, dict[str, bytes])
_NOT_ASKED: Final = codec.encode(NOT_YET, float) + _NOBODY + _NOTHING_GIVEN

Out = list[CollectorInstruction]


class CollectorMachine:
    def __init__(
        self,
        terms: Terms,
        windows: Windows,
        verify_credential: VerifyCredential,
        *,
        verify: Verify | None = None,
    ) -> None:
        self._terms = terms
        self._windows = windows
        self._verify_credential = verify_credential
        self._verify = verify or Ed25519Verifier()
        self._book = Ledger()
        self._bench: Bench | None = None
        self._before: Bench | None = None
        self._formation: Formation | None = None
        self._announced: Announced | None = None
        self._steps: dict[str, Callable[[float], Out | None]] = {
            "forming": self._step_forming,
            "gathering": self._step_gathering,
            "collecting": self._step_collecting,
            "certifying": self._step_certifying,
            "revealing": self._step_revealing,
            "aborting": self._step_aborting,
            "finishing": self._step_finishing,
        }
        self._takers: dict[type, Callable[..., Out]] = {
            Ready: self._take_ready,
            Receipt: self._take_receipt,
            Upload: self._take_upload,
            Ack: self._take_ack,
            Reveal: self._take_reveal,
            RecoverReply: self._take_reply,
            Abort: self._take_abort,
        }

    # ----------------------------------------------------------------------------------------------------- from outside

    def handle(self, event: CollectorEvent, now: float) -> Out:
        """Raises OutOfOrder for what the driver may not say; a member's bad message gives Misconduct and changes
        nothing."""
        if isinstance(event, From):
            out = self._from(event)
        else:
            legal = LEGAL.get(type(event))
            if legal is not None and self._book.phase not in legal:
                raise OutOfOrder(
                    f"{type(event).__name__} does not fit a collector that is {self._book.phase}.",
                    story=self._book.story,
                )
            out = self._local(event, now)
        while self._book.phase not in _OVER and (more := self._step(now)) is not None:
            out += more
        if self._book.phase in _OVER:
            self._book.deadline = None
        return out

    @property
    def deadline(self) -> float | None:
        """When to say Tick; None: there is nothing to wait for but messages."""
        return self._book.deadline

    @property
    def seats(self) -> tuple[Seat, ...]:
        return self._bench.seats if self._bench is not None else ()

    def unmasked(self, context: bytes) -> list[tuple[str, Unmasked]]:
        """(member, how its masks came off), by index, of the round that was closed last, if this is its context."""
        close = self._book.close
        if close is None or close.context != context:
            return []
        return sorted(self._book.unmasked.items(), key=lambda item: item[1].index)

    @property
    def bench(self) -> Bench | None:
        """Of the present epoch."""
        return self._bench

    @property
    def index_of(self) -> dict[str, int]:
        """member id -> place in the roster, once it is formed."""
        return {seat.member: seat.index for seat in self.seats}

    @property
    def phase(self) -> str:
        """new, forming, gathering, collecting, certifying, revealing, unmasking, aborting, finishing, done,
        stuck."""
        return self._book.phase

    @property
    def round(self) -> int:
        return self._book.round

    @property
    def attempt(self) -> int:
        return self._book.attempt

    @property
    def present(self) -> tuple[str, ...]:
        return tuple(sorted(self._book.present))

    @property
    def announced(self) -> Announced | None:
        """The open attempt: its context and R_r."""
        return self._announced

    @property
    def left(self) -> frozenset[str]:
        """Members that have taken back their consent, or were suspended and have given none since."""
        return frozenset(self._book.left)

    @property
    def story(self) -> tuple[str, ...]:
        return self._book.story

    def checkpoint(self) -> bytes:
        return codec.encode(self._book, Ledger)

    @classmethod
    def from_checkpoint(
        cls,
        terms: Terms,
        windows: Windows,
        verify_credential: VerifyCredential,
        data: bytes,
        *,
        verify: Verify | None = None,
    ) -> Self:
        """Raises VerificationFailed when the checkpoint is damaged."""
        machine = cls(terms, windows, verify_credential, verify=verify)
        machine._book = book = _ledger_of(data)
        if book.before is not None:
            machine._before = machine._bench_of(book.before.roster)
        if book.standing is not None:
            machine._bench = machine._bench_of(book.standing.roster)
        if book.forming is not None:
            machine._formation = machine._formation_of(book.forming)
        if book.announcement is not None:
            machine._announced = machine._certain.check_announcement(book.announcement, machine._before)
        return machine

    def resume(self, now: float) -> Out:  # noqa: ARG002 - the seam keeps the time
        """What is pending and would not come by itself: the unmasking, or a state that was asked for. Changes
        nothing."""
        book = self._book
        if book.phase == "unmasking":
            return [self._unmask()]
        common = self._common
        if book.asked and common is not None and common[1] == book.asked_digest:
            return [Tell((book.asked,), ProvideState(self._epoch, common[0], book.asked_digest))]
        return []

    def validate(self) -> None:
        """Invariants, for tests: raises AssertionError."""
        book = self._book
        if self._bench is not None:
            quorums = self._certain.quorums
            assert set(book.uploads) <= set(self._announced.ready if self._announced else ())
            if book.survivors is not None:
                assert set(book.survivors.cohort) <= set(book.uploads)
                assert len(book.survivors.cohort) >= quorums.m
            if book.certificate is not None:
                assert len(book.certificate.acks) >= quorums.q
                assert set(book.reveals) <= set(book.certificate.survivors.cohort)
            else:
                assert not book.reveals
                assert not book.replies
        assert book.phase not in _OVER or book.deadline is None

    # ----------------------------------------------------------------------------------------------------- local events

    def _local(self, event: CollectorEvent, now: float) -> Out:
        book = self._book
        if isinstance(event, Begin):
            book.invited = tuple(sorted(member for member, _ in event.candidates))
            if not book.present:
                book.present = set(book.invited)
            self._enter("forming", now)
            return [self._changed("forming", book.invited), *self._form(FIRST_EPOCH, GENESIS, book.invited, now)]
        if isinstance(event, Left):
            return self._leave(event.member, now)
        if isinstance(event, Readmitted):
            book.left.discard(event.member)
            book.tolerated.discard(event.member)
            return []
        if isinstance(event, Join | Connected) and event.member in book.left:
            return []
        if isinstance(event, Join):
            book.joining.add(event.member)
            return []
        if isinstance(event, Connected):
            book.present.add(event.member)
            book.lost_at.pop(event.member, None)
            book.given_up.discard(event.member)
            book.unhelpful.discard(event.member)
            book.unable.pop(event.member, None)
            book.position[event.member] = (event.round, event.state_digest)
            self._back(event.member)
            if self._bench is not None and event.member not in self.index_of:
                book.joining.add(event.member)  # was left out of the roster, and is back
            return self._tell_again(event.member, now)
        if isinstance(event, Lost):
            if event.member in book.present:
                book.present.discard(event.member)
                book.lost_at[event.member] = now
            return self._ask_another(event.member)
        if isinstance(event, TaskBroke):
            book.broke.add(event.member)
            if self._formation is not None and book.phase == "forming":
                self._formation.refused(event.member)
            if not event.refused and not book.position.get(event.member, (0, b""))[1]:
                book.unable[event.member] = event.reason
            if book.asked == event.member:
                book.unhelpful.add(event.member)
            return self._ask_another(event.member)
        if isinstance(event, ContributionLost):
            if book.phase == "collecting":
                book.broke.add(event.member)
            return []  # of a round that is closed, told again to who returns: no reason not to wait for it in the next
        if isinstance(event, StateGiven):
            return self._given(event)
        if isinstance(event, StateRefused):
            return self._refused(event)
        if isinstance(event, StateStored):
            if self._terms.blind and event.epoch != self._epoch:
                return self._help_behind()
            book.blobs[event.state_digest] = event.blob
            if event.state_digest == book.asked_digest:
                book.asked = ""
            return self._help_behind()
        if isinstance(event, SumReady):
            return self._sum_ready(event, now)
        if isinstance(event, SumFailed) and event.context == self._round_context:
            return self._void(event.reason, now)
        return []

    def _leave(self, member: str, now: float) -> Out:
        book = self._book
        book.left.add(member)
        book.present.discard(member)
        book.joining.discard(member)
        book.lost_at.setdefault(member, now)
        if self._formation is not None:
            self._formation.refused(member)
        return self._ask_another(member)

    def _step(self, now: float) -> Out | None:
        book, formation = self._book, self._formation
        book.deadline = None
        if formation is not None and (out := formation.step(now)) is not None:
            return out
        if formation is None and self._may_form():
            return self._form(self._epoch + 1, self._certain.roster_hash, self._next_members, now)
        step = self._steps.get(book.phase)
        out = None if step is None else step(now)
        if out is None and self._formation is not None and self._formation.deadline is not None:
            book.deadline = min(self._formation.deadline, book.deadline or self._formation.deadline)
        return self._asked_in_vain(now) if out is None else out

    # ---------------------------------------------------------------------------------------------------------- waiting

    def _enter(self, phase: str, now: float) -> None:
        book = self._book
        book.phase, book.since, book.broke, book.deadline = phase, now, set(), None
        book.story = (*book.story, f"round {book.round}.{book.attempt}: {phase}")[-_STORY:]

    def _waiting(self, missing: Iterable[str], window: float, now: float, absent: float | None = None) -> list[str]:
        """Who of ``missing`` is still waited for; sets the deadline. ``absent``: how long for those whose stream
        broke."""
        book = self._book
        until = {}
        for member in missing:
            if member in book.broke or member in book.left or (member in book.unable and book.phase == "gathering"):
                until[member] = _NEVER
            elif member in book.present:
                until[member] = book.since + window
            elif absent is not None:
                until[member] = max(book.since, book.lost_at.get(member, book.since)) + absent
            else:
                until[member] = book.lost_at.get(member, book.since) + self._windows.reconnect
        waiting = [member for member, moment in until.items() if moment > now]
        book.deadline = min((until[member] for member in waiting), default=None)
        return waiting

    def _stuck(self, reason: str) -> Out:
        self._book.phase, self._book.deadline = "stuck", None
        return [JobStuck(reason)]

    def _changed(self, phase: str, members: Iterable[int | str] = (), reason: str = "") -> PhaseChanged:
        book = self._book
        names = tuple(self._name(member) if isinstance(member, int) else member for member in members)
        return PhaseChanged(self._epoch, book.round, book.attempt, phase, names, reason)

    # ----------------------------------------------------------------------------------------------------------- epochs

    def _form(self, epoch: int, predecessor: bytes, members: tuple[str, ...], now: float) -> Out:
        self._book.forming = FormationBook(epoch, predecessor, members)
        self._formation = self._formation_of(self._book.forming)
        return self._formation.start(now)

    def _formation_of(self, book: FormationBook) -> Formation:
        return Formation(
            book, self._terms, self._windows, self._verify_credential, self._verify, self._bench, self._setup_waits
        )

    def _setup_waits(
        self, missing: Iterable[str], broke: set[str], since: float, window: float, now: float
    ) -> tuple[list[str], float | None]:
        book, until = self._book, {}
        for member in missing:
            if member in broke or member in book.left:
                continue
            lost = since if member in book.present else book.lost_at.get(member, since)
            until[member] = max(since, lost) + window
        waiting = [member for member, moment in until.items() if moment > now]
        return waiting, min((until[member] for member in waiting), default=None)

    def _may_form(self) -> bool:
        """Whether somebody waits for a next epoch, and there are rounds left for it."""
        book = self._book
        return bool(
            self._rooted
            and book.phase in _ROUND
            and book.phase != "finishing"
            and book.round < self._terms.last_round
            and ((book.joining - book.convicted) & book.present or self._expelled)
            and len(self._next_members) >= max(MIN_MEMBERS, self._terms.min_members)
        )

    @property
    def _next_members(self) -> tuple[str, ...]:
        """Whom a next epoch invites."""
        book = self._book
        members = {seat.member for seat in self.seats} | (book.joining & book.present)
        return tuple(sorted(members - book.convicted - book.left))

    @property
    def _expelled(self) -> set[str]:
        """Seats that a next epoch is formed to be rid of."""
        book = self._book
        return ((book.convicted | book.left) - book.tolerated) & set(self._everyone)

    @property
    def _rooted(self) -> bool:
        """Whether the present epoch has certified a state of its own: only then may another follow it, since a member
        looks one epoch back and no further. Members must have seen it, too: an announcement tells them."""
        if self._bench is None:
            return False
        if self._epoch == FIRST_EPOCH:
            return True
        known = self._book.announcement or self._book.closed
        return bool(known and known.receipts and known.receipts[0].epoch == self._epoch)

    def _step_forming(self, now: float) -> Out | None:
        formation = self._formation
        assert formation is not None
        if formation.book.stage == "failed":
            return self._stuck(f"No roster after {formation.book.formation} attempts: {formation.book.why}.")
        return self._install(now) if formation.book.stage == "formed" else None

    def _install(self, now: float) -> Out:
        """The roster that has been formed takes over, at a round boundary."""
        book, formation = self._book, self._formation
        assert formation is not None
        old = book.standing
        book.before = Lineage(old.roster, old.confirmations) if old is not None else None
        self._before, self._bench = self._bench, formation.bench
        book.standing = standing = formation.standing()
        book.forming = self._formation = None
        book.joined = book.joining & set(self._everyone)
        book.joining -= set(formation.book.invited)
        book.readies, book.blobs = {}, {}
        book.want_state(b"")
        self._enter("gathering", now)
        out: Out = [
            RosterFormed(
                self._epoch, self._certain.roster_hash, self._certain.seats, standing.roster, standing.certificate
            ),
            Tell(self._everyone, standing.confirmations),
        ]
        if newcomers := self._newcomers:
            assert book.before is not None
            out.append(Tell(newcomers, book.before))
        return out

    @property
    def _newcomers(self) -> tuple[str, ...]:
        """Those in this epoch that were not in the one before, or know nothing of it any more."""
        if self._before is None:
            return ()
        kept = set(kept_seats(self._certain, self._before))
        joined = self._book.joined
        return tuple(seat.member for seat in self._certain.seats if seat.index not in kept or seat.member in joined)

    def _next_epoch(self, now: float) -> Out | None:
        """At a round boundary: moves to the roster that has been formed, or gives up one that could not be."""
        book, formation = self._book, self._formation
        if formation is None or book.attempt or book.void is not None or not self._rooted:
            return None
        if formation.book.stage == "failed":
            book.joining -= set(formation.book.invited)
            book.tolerated |= book.convicted | book.left
            book.forming = self._formation = None
            return []
        return self._install(now) if formation.book.stage == "formed" else None

    # -------------------------------------------------------------------------------------------------------- gathering

    def _step_gathering(self, now: float) -> Out | None:
        book = self._book
        if book.round > FIRST_ROUND and not book.certified:
            return self._certify_state(now)
        if (moved := self._next_epoch(now)) is not None:
            return moved
        if book.round == FIRST_ROUND:
            votes = Counter(ready.state_digest for ready in book.readies.values())
            book.state_digest = min(votes, key=lambda digest: (-votes[digest], digest), default=b"")
        ready = {
            index: message
            for index, message in book.readies.items()
            if message.state_digest == book.state_digest and self._name(index) in book.present
        }
        if gone := [self._name(index) for index in book.bound if self._name(index) in book.left]:
            return self._stuck(
                f"Round {book.round} was certified and gave no sum, and {', '.join(gone)} of its cohort has left: "
                "no other may be summed."
            )
        if book.bound:
            there = set(book.bound) <= {index for index, each in ready.items() if each.min_cohort <= len(book.bound)}
            return self._announce(ready, set(book.bound), now) if there else None
        chosen = self._prune(set(ready), {index: message.min_cohort for index, message in ready.items()})
        if chosen is not None and not self._moved(chosen):
            chosen = None
        if chosen is None:
            book.opened = None
            unable = [f"{member} ({why})" for member, why in sorted(book.unable.items()) if member in self._everyone]
            if len(self._certain.seats) - len(unable) < self._certain.quorums.m:
                return self._stuck(f"Too few members can start the task: {', '.join(unable)}")
            return None
        if book.opened is None:
            book.opened = now
        book.since = book.opened
        missing = {seat.member for seat in self._certain.seats if seat.index not in ready}
        # Whoever was lost since the last announcement gets one window more: a node that was started again misses no
        # second round. Whoever let that window pass holds up nobody until it returns.
        if self._waiting(missing - book.given_up, self._windows.ready, now, absent=self._windows.reconnect):
            return None
        book.given_up |= missing - book.present
        return self._announce(ready, chosen, now)

    def _moved(self, chosen: set[int]) -> bool:
        """Whether q of the epoch before are among them, where the state is certified by it, or by nobody yet."""
        book, before = self._book, self._before
        if before is None or (book.certified and book.certified[0].epoch == self._epoch):
            return True
        return len(chosen & set(kept_seats(self._certain, before))) >= before.quorums.q

    def _announce(self, ready: dict[int, Ready], chosen: set[int], now: float) -> Out:
        book = self._book
        announcement = Announcement(
            epoch=self._epoch,
            round=book.round,
            attempt=book.attempt,
            readies=tuple(ready[index] for index in sorted(chosen)),
            receipts=book.certified,
            aborts=book.ended,
            void=book.void,
        )
        self._announced = self._certain.check_announcement(announcement, self._before)
        book.announcement = announcement
        self._enter("collecting", now)
        return [
            self._changed("announced", self._announced.ready),
            Tell(self._everyone, announcement),
            self._changed("collecting", self._announced.ready),
        ]

    def _prune(self, members: set[int], minimum: dict[int, int]) -> set[int] | None:
        """The largest set in which nobody asks for more members than it has; None when it is smaller than m."""
        chosen = set(members)
        while demanding := {index for index in chosen if minimum[index] > len(chosen)}:
            chosen -= {max(demanding, key=lambda index: (minimum[index], index))}
        return chosen if len(chosen) >= self._certain.quorums.m else None

    def _agreeing(self) -> tuple[tuple[Receipt, ...], int]:
        """The receipts of the largest group that agrees, and the size of that group plus all that may still come."""
        groups: dict[bytes, list[Receipt]] = {}
        for index in sorted(self._book.receipts):
            receipt = self._book.receipts[index]
            groups.setdefault(receipt.state_digest, []).append(receipt)
        best = max(groups.values(), key=len, default=[])
        return tuple(best), len(best) + len(self._certain.seats) - len(self._book.receipts)

    def _certify_state(self, now: float) -> Out | None:
        book = self._book
        best, possible = self._agreeing()
        if possible < self._certain.quorums.q:
            return self._stuck(f"The members computed different models from the sum of round {book.round - 1}.")
        if len(best) < self._certain.quorums.q:
            refused = {member for member in book.broke | book.left if self.index_of.get(member, 0) not in book.receipts}
            if possible - len(refused) < self._certain.quorums.q:
                if now >= book.since + self._windows.phase:
                    return self._reopen(f"too many members refused the sum of round {book.round - 1}", now)
                book.deadline = book.since + self._windows.phase
            return None
        book.certified, book.state_digest = best, best[0].state_digest
        return [StateCertified(book.round - 1, book.state_digest, best), *self._help_behind()]

    # -------------------------------------------------------------------------------------------- upload to certificate

    def _step_collecting(self, now: float) -> Out | None:
        book = self._book
        announced = self._open
        missing = [self._name(index) for index in announced.ready if index not in book.uploads]
        waiting = self._waiting(missing, self._windows.round, now)
        possible = set(book.uploads) | {self._certain_index(member) for member in waiting}
        if waiting and self._prune(possible, announced.minimum) is not None:
            return None
        chosen = self._prune(set(book.uploads), announced.minimum)
        if book.bound and chosen != set(book.bound):
            chosen = None  # members that a void attempt binds acknowledge no other
        without = self._without(set(missing) - set(waiting))
        if chosen is None:
            most = f"at most {len(possible)} of {len(announced.ready)} members can upload"
            return self._abort(f"{most} ({without})", now)
        entries = []
        for index in sorted(chosen):
            upload = book.uploads[index]
            entries.append(
                SurvivorEntry(index, upload.root, transcripts.trailer_hash(upload.trailer), upload.signature)
            )
        book.survivors = Survivors(announced.context, tuple(entries))
        self._enter("certifying", now)
        return [self._changed("certifying", sorted(chosen), without), Tell(self._everyone, book.survivors)]

    def _without(self, members: Iterable[str]) -> str:
        """Why each of ``members`` is not waited for any longer."""
        book = self._book
        return ", ".join(
            f"{member} failed"
            if member in book.broke
            else f"{member} sent nothing within {self._windows.round:g} s"
            if member in book.present
            else f"{member} lost its connection"
            for member in sorted(members)
        )

    def _step_certifying(self, now: float) -> Out | None:
        book = self._book
        q = self._certain.quorums.q
        assert book.survivors is not None
        if len(book.acks) < q:
            missing = [seat.member for seat in self._certain.seats if seat.index not in book.acks]
            if self._waiting(missing, self._windows.phase, now):
                return None
            if len(book.present & set(self._everyone)) < q:
                book.deadline = None
                return None
            return self._abort(f"only {len(book.acks)} members acknowledged the cohort", now)
        book.certificate = Certificate(book.survivors, tuple(book.acks[index] for index in sorted(book.acks)[:q]))
        self._enter("revealing", now)
        return [
            self._changed("revealing", book.survivors.cohort),
            Tell(self._everyone, book.certificate),
        ]

    # ------------------------------------------------------------------------------------------------ reveal to the sum

    @property
    def _gone(self) -> tuple[int, ...]:
        certificate = self._book.certificate
        assert certificate is not None
        return tuple(index for index in self._open.ready if index not in certificate.survivors.cohort)

    def _step_revealing(self, now: float) -> Out | None:
        book = self._book
        assert book.certificate is not None
        silent = [index for index in book.certificate.survivors.cohort if index not in book.reveals]
        new = set(silent) - book.recovering
        if new:
            waiting = {
                self._certain_index(member)
                for member in self._waiting([self._name(index) for index in new], self._windows.phase, now)
            }
            if fresh := new - waiting:
                book.recovering |= fresh
                book.recovering_since = now
                out: Out = []
                for owner in sorted(fresh):
                    out += self._ask_shares(owner, [seat.index for seat in self._certain.seats])
                return out
            if waiting:
                return None
        missing: list[int] = []
        try:
            for owner in silent:
                if self._rebuilt(owner) is None:
                    missing.append(owner)
        except ProtocolViolation as wrong:
            return [*self._misdealt(owner, wrong), *self._void(wrong.message, now)]
        if missing:
            # Whoever is silent may return. Who has lied, and whose boxes do not open, is not waited for.
            if not set(missing) <= set(book.proofs):
                return None
            until = book.recovering_since + self._windows.phase
            if now < until:
                book.deadline = until
                return None
            liars = ", ".join(self._name(owner) for owner in missing)
            return self._void(f"{liars} revealed a false seed, and its shares do not open", now)
        self._enter("unmasking", now)
        return [self._unmask()]

    def _ask_shares(self, owner: int, holders: Iterable[int]) -> Out:
        book = self._book
        assert book.certificate is not None
        trailer = book.uploads[owner].trailer
        sealed = {box.holder: box.ciphertext for box in trailer.boxes}
        return [
            Tell((self._name(holder),), Recover(book.certificate, owner, trailer.edges, sealed[holder]))
            for holder in holders
            if holder != owner and (owner, holder) not in book.replies
        ]

    def _rebuilt(self, owner: int) -> dict[int, bytes] | None:
        book = self._book
        t = self._certain.quorums.t
        replies = [reply for (of, _), reply in book.replies.items() if of == owner]
        return recovery.rebuild(replies, book.uploads[owner], self._gone, t) if len(replies) >= t else None

    def _misdealt(self, owner: int, wrong: ProtocolViolation) -> Out:
        """t good shares rebuild another seed than the owner committed to."""
        book = self._book
        upload, t = book.uploads[owner], self._certain.quorums.t
        replies = [reply for (of, _), reply in book.replies.items() if of == owner]
        found = recovery.misdealt(replies, upload, self._gone, t)
        assert found is not None
        peer, shares = found
        return self._false_seed(owner, FalseSeed(self._key_of(owner), upload, peer, None, shares), wrong)

    def _false_seed(self, owner: int, found: FalseSeed, wrong: ProtocolViolation) -> Out:
        """What an upload's own trailer convicts its owner of."""
        book, member = self._book, self._name(owner)
        found.check(self._verify)
        book.convicted.add(member)
        book.proofs[owner] = evidence = found.to_bytes()
        named = violation(wrong.check, wrong.message, evidence=evidence)
        return [Misconduct(member, named, proof=True)]

    def _key_of(self, index: int) -> bytes:
        return self._certain.seats[index - 1].identity_key

    def _unmask(self) -> Unmask:
        book = self._book
        announced = self._open
        assert book.certificate is not None
        seeds = {
            each.index: dict(each.seeds)
            if each.reveal is None
            else {0: each.reveal.self_seed, **dict(each.reveal.edges)}
            for each in self._unmasked()
        }
        cohort = book.certificate.survivors.cohort
        return Unmask(
            round=book.round,
            attempt=book.attempt,
            plan=recovery.unmask_plan(announced.context, seeds, self._terms.cipher),
            cohort=cohort,
            total_weight=self._certain.weight_of(cohort),
            members=len(self._certain.seats),
            header_only=self._terms.header_only(book.round),
        )

    def _unmasked(self) -> tuple[Unmasked, ...]:
        """How the masks of each member of the cohort come off."""
        book = self._book
        assert book.certificate is not None
        found = []
        for owner in book.certificate.survivors.cohort:
            reveal = book.reveals.get(owner)
            if reveal is not None:
                found.append(Unmasked(owner, reveal, None, ()))
            else:
                seeds = tuple(sorted((self._rebuilt(owner) or {}).items()))
                found.append(Unmasked(owner, None, book.uploads[owner], seeds))
        return tuple(found)

    def _no_more_audits(self) -> Out:
        """Of the round that was closed last."""
        close, self._book.unmasked = self._book.close, {}
        return [Discard(close.context)] if close is not None else []

    def _sum_ready(self, event: SumReady, now: float) -> Out:
        book = self._book
        if event.context != self._round_context:
            return []
        certificate = book.certificate
        assert certificate is not None
        digest = transcripts.survivors_digest(certificate.survivors)
        audited = self._no_more_audits()
        book.unmasked = {self._name(each.index): each for each in self._unmasked()}
        book.close = Close(book.round, event.context, digest, event.blob, event.size, certificate)
        book.closed, book.closed_proofs = book.announcement, book.proofs
        book.voids = tuple(each for each in book.voids if each.round == book.round)
        out: Out = [
            RoundClosed(
                book.round,
                book.attempt,
                event.context,
                certificate,
                self._certain.weight_of(certificate.survivors.cohort),
                event.blob,
            ),
            self._changed("closed", certificate.survivors.cohort),
            Tell(self._everyone, book.close),
            *audited,
        ]
        book.clear_attempt()
        self._announced = None
        book.readies, book.receipts, book.certified = {}, {}, ()
        book.ended, book.void, book.bound = (), None, ()
        book.round, book.attempt, book.state_digest = book.round + 1, 0, b""
        self._enter("gathering" if book.round <= self._terms.last_round else "finishing", now)
        return out

    def _void(self, reason: str, now: float) -> Out:
        """A certified attempt without a good sum: its certificate opens the next, for the same cohort, less the
        convicted."""
        book = self._book
        certificate, announced = book.certificate, self._open
        assert certificate is not None
        context = announced.context
        proofs = self._against(certificate, announced.minimum, book.proofs)
        void = Void(book.attempt, announced.ready, certificate, proofs)
        changed = self._changed("void", reason=reason)
        book.clear_attempt()
        self._announced = None
        return [changed, Discard(context), *self._open_again(void, reason, now)]

    def _reopen(self, reason: str, now: float) -> Out:
        """The round before was closed with a sum that its members refuse."""
        book = self._book
        assert book.close is not None
        assert book.closed is not None
        last = book.closed
        minimum = {ready.index: ready.min_cohort for ready in last.readies}
        certificate = book.close.certificate
        proofs = self._against(certificate, minimum, book.closed_proofs)
        void = Void(last.attempt, tuple(ready.index for ready in last.readies), certificate, proofs)
        book.round, book.attempt = last.round, last.attempt
        book.certified, book.state_digest = last.receipts, last.readies[0].state_digest
        audited = self._no_more_audits()
        book.closed = book.close = None
        book.closed_proofs = {}
        book.receipts = {}
        return [self._changed("void", reason=reason), *audited, *self._open_again(void, reason, now)]

    def _against(
        self, certificate: Certificate, minimum: dict[int, int], proofs: dict[int, bytes]
    ) -> tuple[bytes, ...]:
        """The proofs with which a void attempt goes on: against as many of the cohort as may be left out, those first that
        are not there, as they are waited for in vain."""
        book, quorums = self._book, self._certain.quorums
        left = set(certificate.survivors.cohort)
        shown: dict[int, bytes] = {}
        room = quorums.f - len({each for past in book.voids if past.round == book.round for each in past.void.proofs})
        for index in sorted(set(proofs) & left, key=lambda index: (self._name(index) in book.present, index)):
            rest = left - {index}
            smallest = max([quorums.m, *(minimum[each] for each in rest)])
            size = sum(len(each) for each in (*shown.values(), proofs[index]))
            if len(shown) < room and len(rest) >= smallest and size <= _PROOF_BYTES:
                left, shown[index] = rest, proofs[index]
        return tuple(shown[index] for index in sorted(shown))

    def _open_again(self, void: Void, reason: str, now: float) -> Out:
        book = self._book
        book.readies, book.ended, book.attempt = {}, (), book.attempt + 1
        convicted = self._certain.convicted(void, void.certificate.survivors.context)
        book.void = void
        book.bound = tuple(index for index in void.certificate.survivors.cohort if index not in convicted)
        reopen = Reopen(self._epoch, book.round, void)
        book.voids = (*book.voids, reopen)
        if book.attempt >= self._windows.attempts:
            return self._stuck(f"Round {book.round} is void after {book.attempt} attempts: {reason}.")
        self._enter("gathering", now)
        return [Tell(self._everyone, reopen)]

    def _step_finishing(self, now: float) -> Out | None:
        book = self._book
        best, possible = self._agreeing()
        if possible < self._certain.quorums.q:
            return self._stuck("The members computed different final models.")
        refused = {member for member in book.broke | book.left if self.index_of.get(member, 0) not in book.receipts}
        if possible - len(refused) < self._certain.quorums.q:
            if now >= book.since + self._windows.phase:
                return self._reopen(f"too many members refused the sum of round {book.round - 1}", now)
            book.deadline = book.since + self._windows.phase
            return None
        # Who was not ready for the last round has no model to sign for: the release does not wait for it.
        ready = {message.index for message in book.closed.readies} if book.closed else set()
        missing = [self._name(index) for index in sorted(ready - set(book.receipts))]
        if len(best) < self._certain.quorums.q or self._waiting(missing, self._windows.phase, now):
            return None
        book.phase = "done"
        digest = best[0].state_digest
        return [StateCertified(book.round - 1, digest, best), *self._no_more_audits(), JobDone(digest, best)]

    # ------------------------------------------------------------------------------------------------------------ abort

    def _abort(self, reason: str, now: float) -> Out:
        book = self._book
        book.readies, book.why_aborted = {}, reason
        self._enter("aborting", now)
        request = AbortRequest(self._epoch, book.round, book.attempt)
        return [self._changed("aborted", reason=reason), Tell(self._everyone, request)]

    def _step_aborting(self, now: float) -> Out | None:
        book = self._book
        if len(book.aborts) < self._certain.quorums.q:
            return None
        context = self._round_context
        ended = tuple(book.aborts[index] for index in sorted(book.aborts))
        book.clear_attempt()
        self._announced = None
        book.ended, book.void, book.attempt = ended, None, book.attempt + 1
        if book.attempt >= self._windows.attempts:
            attempts = f"{book.attempt} attempt{'s' * (book.attempt > 1)}"
            return self._stuck(f"Round {book.round} did not succeed in {attempts}: {book.why_aborted}.")
        self._enter("gathering", now)
        return [Discard(context)]

    # -------------------------------------------------------------------------------------------- messages from members

    def _from(self, event: From) -> Out:
        kind, message = type(event.message), event.message
        phase = self._book.phase
        if phase in _OVER or event.member in self._book.left:
            return []
        try:
            if isinstance(message, SetupSaid):
                if self._formation is not None:
                    self._formation.take(event.member, message)
                return []
            if phase in _LATE[kind] - LEGAL[kind]:
                return []
            if phase not in LEGAL[kind]:
                raise violation("out-of-order", f"{event.member} sent {kind.__name__} while the job is {phase}.")
            if isinstance(message, Ready | Receipt | Abort):
                if message.epoch < self._epoch:
                    return []  # of an epoch that is over
            elif message.context != self._round_context:
                return []
            if not 1 <= message.index <= len(self._certain.seats):
                raise violation("stranger", f"{event.member} names a place that the roster does not have.")
            if self._name(message.index) != event.member:
                raise violation("impersonation", f"{event.member} sent a message in another member's place.")
            return self._takers[kind](event.member, message)
        except ProtocolViolation as refused:
            return [Misconduct(event.member, refused, proof=False)]

    def _take_ready(self, member: str, message: Ready) -> Out:
        book = self._book
        self._certain.check_ready(message)
        self._holds(member, message.round, message.state_digest)
        wanted = book.attempt + (book.phase == "aborting")
        if (message.round, message.attempt) == (book.round, wanted) and book.phase in ("gathering", "aborting"):
            book.readies[message.index] = message
            book.unable.pop(member, None)
        return self._help_behind()

    def _take_receipt(self, member: str, message: Receipt) -> Out:
        book = self._book
        self._certain.check_receipt(message)
        if message.round != book.round - 1 or book.close is None:
            return []
        if (message.context, message.survivors_digest) != (book.close.context, book.close.survivors_digest):
            raise violation("receipt", f"{member} signed a receipt for another sum.")
        known = book.receipts.setdefault(message.index, message)
        first, second = (
            Statement(transcripts.receipt_transcript(self._terms.job, self._certain.roster_hash, each), each.signature)
            for each in (known, message)
        )
        if first.text != second.text:
            # Of the two the one counts that says what others say: a liar does not hold up those that it agrees with.
            others = [each.state_digest for index, each in book.receipts.items() if index != message.index]
            if others.count(message.state_digest) > others.count(known.state_digest):
                book.receipts[message.index] = message
            return self._convict(member, first, second, book.closed_proofs)
        self._holds(member, message.round + 1, message.state_digest)
        return self._help_behind()

    def _holds(self, member: str, round_number: int, state_digest: bytes) -> None:
        if state_digest == self._book.asked_digest:
            self._book.told.pop(member, None)
        if round_number >= self._book.position.get(member, (0, b""))[0]:
            self._book.position[member] = (round_number, state_digest)

    def _take_upload(self, member: str, message: Upload) -> Out:
        book = self._book
        self._certain.check_upload(message, self._open)
        if book.phase != "collecting" and message.index not in book.uploads:
            return []  # too late to count
        known = book.uploads.setdefault(message.index, message)
        if known == message:
            return []
        first, second = (
            Statement(
                transcripts.upload_transcript(
                    each.context, each.index, each.root, transcripts.trailer_hash(each.trailer)
                ),
                each.signature,
            )
            for each in (known, message)
        )
        if first.text == second.text:
            return []  # another signature on the same upload
        return self._convict(member, first, second, book.proofs)

    def _take_ack(self, member: str, message: Ack) -> Out:
        book = self._book
        assert book.survivors is not None
        self._certain.check_ack(message)
        before = book.strays.get(message.index) or book.acks.get(message.index)
        if before is not None and before.survivors_digest != message.survivors_digest:
            text = transcripts.ack_transcript
            return self._convict(
                member,
                Statement(text(before), before.signature),
                Statement(text(message), message.signature),
                book.proofs,
            )
        if message.survivors_digest != transcripts.survivors_digest(book.survivors):
            book.strays[message.index] = message
            raise violation("acks", f"{member} acknowledged other survivors.")
        book.acks[message.index] = message
        return []

    def _convict(self, member: str, first: Statement, second: Statement, proofs: dict[int, bytes]) -> Out:
        """Two statements that contradict each other: whoever signed both is left out of the next epoch. ``proofs``: of
        the attempt that they are of."""
        index = self._certain_index(member)
        conviction = Conviction(self._key_of(index), first, second)
        conviction.check(self._verify)
        self._book.convicted.add(member)
        proofs[index] = conviction.to_bytes()
        wrong = violation(
            f"two-{conviction.kind}s",
            f"{member} signed two statements that contradict each other, and is left out of the next epoch.",
            evidence=conviction.to_bytes(),
        )
        return [Misconduct(member, wrong, proof=True)]

    def _take_reveal(self, member: str, message: Reveal) -> Out:
        book = self._book
        assert book.certificate is not None
        if message.index not in book.certificate.survivors.cohort:
            raise violation("reveal", f"{member} is not in the cohort and reveals all the same.")
        self._certain.check_reveal(message)
        try:
            recovery.check_reveal(message, book.uploads[message.index], self._gone)
        except ProtocolViolation as wrong:
            book.broke.add(member)
            upload = book.uploads[message.index]
            peer = recovery.false_seed(message, upload)
            if peer is None:
                return [Misconduct(member, wrong, proof=True)]
            found = FalseSeed(self._key_of(message.index), upload, peer, message, ())
            return self._false_seed(message.index, found, wrong)
        book.reveals[message.index] = message
        return []

    def _take_reply(self, member: str, message: RecoverReply) -> Out:  # noqa: ARG002
        book = self._book
        if message.owner not in book.recovering:
            return []
        self._certain.check_reply(message)
        recovery.check_reply(message, book.uploads[message.owner], self._gone)
        book.replies[message.owner, message.index] = message
        return []

    def _take_abort(self, member: str, message: Abort) -> Out:
        book = self._book
        if (message.round, message.attempt) != (book.round, book.attempt):
            return []
        self._certain.check_abort(message)
        if book.phase == "aborting":
            book.aborts[message.index] = message
            return []
        released = [
            transcripts.reveal_transcript(each) + each.signature
            for index, each in book.reveals.items()
            if index == message.index
        ] + [
            transcripts.recover_transcript(each) + each.signature
            for (_, holder), each in book.replies.items()
            if holder == message.index
        ]
        if not released:
            return []  # it may still sign it, and is asked by nobody
        text = transcripts.abort_transcript(self._terms.job, self._certain.roster_hash, message)
        book.convicted.add(member)
        wrong = violation(
            "abort-after-release",
            f"{member} signed the ABORT of an attempt for which it had released.",
            evidence=released[0] + text + message.signature,
        )
        return [Misconduct(member, wrong, proof=True)]

    # -------------------------------------------------------------------------------- members that return or are behind

    def _tell_again(self, member: str, now: float) -> Out:  # noqa: ARG002
        book = self._book
        only = (member,)
        out: Out = []
        forming: Out = [] if self._formation is None else self._formation.tell_again(member)
        index = self.index_of.get(member)
        if index is None or book.phase not in _ROUND:
            return forming
        assert book.standing is not None
        out.append(Tell(only, book.standing.confirmations))
        if member in self._newcomers and book.before is not None:
            out.append(Tell(only, book.before))
        held = book.position.get(member, (0, b""))[0]
        if book.phase in ("gathering", "finishing"):
            if book.close is not None and book.closed is not None and self._told_of_close and held == book.close.round:
                out += [Tell(only, book.closed), Tell(only, book.close)]
            out += self._voids_again(member)
            if book.void is None and book.attempt > 0:
                out.append(Tell(only, AbortRequest(self._epoch, book.round, book.attempt - 1)))
        else:
            assert book.announcement is not None
            out += [*self._voids_again(member), Tell(only, book.announcement)]
            if book.phase == "aborting":
                out.append(Tell(only, AbortRequest(self._epoch, book.round, book.attempt)))
            elif book.certificate is not None:
                out.append(Tell(only, book.certificate))
                for owner in sorted(book.recovering - set(book.reveals)):
                    out += self._ask_shares(owner, [index])
            elif book.survivors is not None:
                out.append(Tell(only, book.survivors))
        return [*out, *self._help_behind(member), *forming]

    def _voids_again(self, member: str) -> Out:
        """Every void attempt of this round, in order: each binds, less those that are convicted in it."""
        return [Tell((member,), each) for each in self._book.voids if each.round == self._book.round]

    @property
    def _common(self) -> tuple[int, bytes, tuple[Receipt, ...]] | None:
        """The newest state that q members have signed: its round, its digest, their receipts. Until the state of this round
        is certified it is the one before, from which a member that was away applies the sum itself: its receipt may be one
        of the q that are missing. None: there is no such state, or members of this epoch cannot go on from it."""
        book = self._book
        if book.certified:
            return book.round, book.state_digest, book.certified
        if book.phase in ("gathering", "finishing") and book.closed is not None and self._told_of_close:
            return book.closed.round, book.closed.readies[0].state_digest, book.closed.receipts
        return None

    def _behind(self, member: str) -> bool:
        """Whether the member holds an older state than the newest certified one, or another, and will not get there by
        itself."""
        book, common = self._book, self._common
        if common is None or not common[2] or member not in book.present:
            return False
        held, state_digest = book.position.get(member, (0, b""))
        if held == common[0]:
            return state_digest != common[1]
        applying = book.phase == "gathering" and held == book.round - 1 and self._told_of_close
        return 0 < held < common[0] and not applying

    @property
    def _told_of_close(self) -> bool:
        """Whether the sum of the round before belongs to this epoch, so that members can apply it themselves."""
        return self._book.closed is not None and self._book.closed.epoch == self._epoch

    def _help_behind(self, only: str | None = None) -> Out:
        """CatchUp for those that are behind, and with a state of the round before its sum; when the state is not among the
        blobs, somebody who holds it, or went on from it, is asked first."""
        book, common = self._book, self._common
        members = tuple(seat.member for seat in self.seats if only in (None, seat.member) and self._behind(seat.member))
        if not members or common is None:
            return []
        round_number, state_digest, receipts = common
        if book.asked_digest != state_digest:
            book.want_state(state_digest)
        out: Out = []
        files = {member: self._file_for(member, state_digest) for member in members}
        for blob in sorted(set(files.values()) - {b""}):
            told = tuple(member for member in members if files[member] == blob)
            for member in told:
                before, times, *_ = book.told.get(member, (b"", 0))
                book.told[member] = (blob, 1 + times * (before == blob), *book.position.get(member, (0, b"")))
                book.position[member] = (round_number, state_digest)  # corrected when it refuses it, or connects again
            out.append(Tell(told, CatchUp(self._epoch, round_number, state_digest, blob, receipts)))
            if round_number < book.round:
                assert book.closed is not None
                assert book.close is not None
                out += [Tell(told, book.closed), Tell(told, book.close)]
        return out if all(files.values()) else out + self._ask_for_state(round_number, state_digest)

    def _file_for(self, member: str, state_digest: bytes) -> bytes:
        """The file of this state that this member is told of; empty: there is none, or none that it has not tried."""
        book = self._book
        if (blob := book.blobs.get(state_digest)) is not None:
            return blob
        votes = Counter(book.given.values())
        files = sorted(votes, key=lambda blob: (-votes[blob], blob))
        return next((blob for blob in files if self._is_right(blob) or (member, blob) not in book.doubts), b"")

    def _is_right(self, blob: bytes) -> bool:
        """Whether a file holds the state that it was given for, whatever anybody says: the coordinator has read it, or, where it
        is blind, more have given these same bytes than can lie."""
        if not self._terms.blind:
            return True
        return list(self._book.given.values()).count(blob) > max(1, self._certain.quorums.f)

    def _ask_for_state(self, round_number: int, state_digest: bytes) -> Out:
        """One after another of those that hold it; nobody twice that has given a file of it."""
        book = self._book
        if book.asked in book.present:
            return []
        holders = self._holders(round_number, state_digest)
        if not holders:
            return []
        if book.unhelpful.issuperset(holders):
            book.unhelpful = set()  # each was asked in vain: once more, from the first
        book.asked = next(member for member in holders if member not in book.unhelpful)
        book.asked_at = NOT_YET
        book.ever_asked.add(book.asked)
        return [Tell((book.asked,), ProvideState(self._epoch, round_number, state_digest))]

    def _holders(self, round_number: int, state_digest: bytes) -> list[str]:
        """Who may be asked for it: they hold it, or went on from it."""
        book = self._book
        held = {seat.member: book.position.get(seat.member, (0, b"")) for seat in self.seats}
        return [
            member
            for member, (of, digest) in held.items()
            if member in book.present
            and member not in book.broke
            and member not in book.given
            and member not in book.told
            and ((of, digest) == (round_number, state_digest) or round_number < of == book.round)
        ]

    def asked_for(self, member: str, state_digest: bytes) -> bool:
        """Whether this member was asked for this state, and has given no file of it yet. Of nobody else is one taken."""
        book = self._book
        asked = book.ever_asked | {book.asked}
        return state_digest == book.asked_digest and member in asked and member not in book.given

    def told_of(self, member: str, state_digest: bytes, blob: bytes) -> bool:
        """Whether this member was told that this file holds this state, and has not shown since that it holds it."""
        told = self._book.told.get(member)
        return told is not None and (state_digest, blob) == (self._book.asked_digest, told[0])

    def _given(self, event: StateGiven) -> Out:
        book = self._book
        if self._terms.blind and event.epoch != self._epoch:
            return self._help_behind()  # sealed under a key that the members of this epoch do not look for
        if not self.asked_for(event.member, event.state_digest):
            return []
        book.given[event.member] = event.blob
        if event.member == book.asked:
            book.asked = ""
        return self._help_behind()

    def _refused(self, event: StateRefused) -> Out:
        """It counts for the member that says so alone: a liar delays nobody else."""
        book = self._book
        if not self.told_of(event.member, event.state_digest, event.blob) or self._is_right(event.blob):
            return []
        self._doubt(event.member, event.blob)
        _, _, held, state_digest = book.told.pop(event.member)
        book.position[event.member] = (held, state_digest)
        return self._help_behind()

    def _back(self, member: str) -> None:
        """A member that was told of a file has connected again. A stream may break once; whoever comes back twice without the state
        may not have been able to say that it is another."""
        book, common = self._book, self._common
        told = book.told.get(member)
        if told is None or common is None or not self._behind(member):
            book.told.pop(member, None)
        elif told[1] > 1 and not self._is_right(told[0]):
            self._doubt(member, told[0])
            if not self._file_for(member, common[1]) and not set(self._holders(common[0], common[1])):
                book.doubts = {doubt for doubt in book.doubts if doubt[0] != member}  # all were tried: once more

    def _doubt(self, member: str, blob: bytes) -> None:
        book = self._book
        book.doubts.add((member, blob))
        book.unhelpful |= {giver for giver, given in book.given.items() if given == blob}
        book.blobs = {digest: other for digest, other in book.blobs.items() if other != blob}

    def _ask_another(self, member: str) -> Out:
        if self._book.asked != member:
            return []
        self._book.asked = ""
        return self._help_behind()

    def _asked_in_vain(self, now: float) -> Out | None:
        """Whoever was asked for a state, and gave none in time: another is."""
        book = self._book
        if not book.asked:
            return None
        if book.asked_at == NOT_YET:
            book.asked_at = now
        until = book.asked_at + self._windows.phase
        if now < until:
            book.deadline = min(until, until if book.deadline is None else book.deadline)
            return None
        book.unhelpful.add(book.asked)
        return self._ask_another(book.asked)

    # ----------------------------------------------------------------------------------------------------------- inside

    def _bench_of(self, roster: Roster) -> Bench:
        return bench_of(
            self._terms,
            roster.epoch,
            roster.formation,
            roster.keys,
            roster.encapsulations,
            self._verify_credential,
            self._verify,
        )

    @property
    def _epoch(self) -> int:
        return self._bench.epoch if self._bench is not None else FIRST_EPOCH

    @property
    def _certain(self) -> Bench:
        assert self._bench is not None
        return self._bench

    @property
    def _open(self) -> Announced:
        assert self._announced is not None
        return self._announced

    @property
    def _round_context(self) -> bytes:
        return self._announced.context if self._announced is not None else b""

    @property
    def _everyone(self) -> tuple[str, ...]:
        return tuple(seat.member for seat in self._certain.seats)

    def _name(self, index: int) -> str:
        return self._certain.seats[index - 1].member

    def _certain_index(self, member: str) -> int:
        return next(seat.index for seat in self._certain.seats if seat.member == member)


def _ledger_of(checkpoint: bytes) -> Ledger:
    """Also of a version before it was kept who gave which file of a state, before those that are asked for one were given a time,
    or before anybody could leave."""
    for missing in (b"", _NOTHING_GIVEN, _NOT_ASKED):
        with contextlib.suppress(VerificationFailed):
            known: Ledger = codec.decode(checkpoint + missing, Ledger)
            return known
    first: Ledger = codec.decode(checkpoint + _NOBODY + _NOT_ASKED, Ledger)
    return first
