"""What must hold however messages are ordered, lost, repeated and forged, whoever crashes, and whatever f members do.

I1  exact sum or clean abort    a sum that an honest member applies is the plain integer sum over its certified cohort
I2  one word each               for one (epoch, round, attempt) an honest member masks one vector, uploads once, ACKs one
                                cohort, releases for one, and says nothing after its ABORT; who has released for an
                                attempt never signs its ABORT; for one state it releases for one cohort, in any attempt or
                                epoch, unless q ABORTs ended the attempt before; one receipt for a round. Two cohorts that
                                differ in liars alone are one: the convicted are left out
I3  who may be unmasked         b_i leaves only for i in a certified cohort U, by its own REVEAL or by shares; s_ij only
                                for i in U and j outside it; no message carries any other secret
I4  nothing of one member       what the coordinator and f members have seen determines, of the honest members' vectors,
                                sums over cohorts and nothing else: one for a state, of m - f honest members at least
I5  one certificate             of one (epoch, round, attempt) at most one cohort can have q ACKs, liars' included
I6  on disk before it is said   a vote is in the member's journal before its signature leaves; after a crash the member
                                has what it remembered, and nothing else
I7  machines hold together      ``validate()`` after every step, and no peer's message makes a machine raise

``Watch`` is told of everything that leaves honest members and checks I2 to I6; whoever runs the machines checks I1 and I7.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from federation.secagg import boxes, shamir, transcripts
from federation.secagg.events import MaskPlan
from federation.secagg.member import MemberMachine
from federation.secagg.messages import (
    Abort,
    Ack,
    Announcement,
    Ready,
    Receipt,
    RecoverReply,
    Reveal,
    Seat,
    Survivors,
    Upload,
)
from federation.secagg.parameters import Quorums
from federation.secagg.shamir import SHARE_BYTES
from tests.simulation.knowledge import Observation, Vector, determined

INVARIANTS = ("I1", "I2", "I3", "I4", "I5", "I6", "I7")


class Broken(AssertionError):
    def __init__(self, invariant: str, text: str) -> None:
        assert invariant in INVARIANTS
        super().__init__(f"{invariant}: {text}")
        self.invariant = invariant


def hold(invariant: str, condition: bool, text: str) -> None:
    if not condition:
        raise Broken(invariant, text)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a context stands for. Members by name: an index changes with the epoch."""

    epoch: int
    round: int
    number: int
    state: bytes
    ready: frozenset[str]
    seats: tuple[str, ...]

    @property
    def key(self) -> tuple[int, int, int]:
        return self.epoch, self.round, self.number

    @property
    def quorums(self) -> Quorums:
        return Quorums.of(len(self.seats))


@dataclass(frozen=True, slots=True)
class Secret:
    """A seed of one context: b of one member, or s of a pair."""

    context: bytes
    ends: frozenset[str]


class Watch:
    """``colluders``: members whose keys, votes and shares are the adversary's."""

    def __init__(self, job: bytes, colluders: frozenset[str] = frozenset()) -> None:
        self.job = job
        self.colluders = colluders
        self.rosters: dict[int, tuple[bytes, tuple[str, ...]]] = {}
        self.attempts: dict[bytes, Attempt] = {}
        self.cohorts: dict[bytes, tuple[bytes, frozenset[str]]] = {}
        """survivors digest -> (context, U)"""
        self.said: dict[tuple[Any, ...], Any] = {}
        self.acks: defaultdict[bytes, set[str]] = defaultdict(set)
        """survivors digest -> honest members that signed it"""
        self.aborts: defaultdict[tuple[int, int, int], set[str]] = defaultdict(set)
        self.released: defaultdict[str, list[tuple[bytes, frozenset[str]]]] = defaultdict(list)
        """member -> (context, U) of each release, in order"""
        self.secrets: dict[bytes, Secret] = {}
        self.dealt: dict[bytes, tuple[bytes, str, bytes, int]] = {}
        """share -> (context, owner, seed, holder)"""
        self.shares: defaultdict[tuple[str, bytes], dict[int, bytes]] = defaultdict(dict)
        """(owner, seed) -> the shares that the adversary has, by holder"""
        self.known: set[bytes] = set()
        self.seen: list[Observation] = []
        self.forgetful: set[str] = set()
        """honest members whose journal was lost, or put back from a copy and so void: they count among the f, and their
        vectors are protected all the same"""
        self._judged = (-1, -1)

    # ------------------------------------------------------------------------------------------------ what is announced

    def seated(self, epoch: int, roster_hash: bytes, seats: Sequence[Seat]) -> None:
        self.rosters[epoch] = roster_hash, tuple(seat.member for seat in seats)

    def announced(self, message: Announcement) -> None:
        """What any announcement that may reach a member would mean."""
        if message.epoch not in self.rosters or not message.readies:
            return
        roster_hash, seats = self.rosters[message.epoch]
        ready, state = [each.index for each in message.readies], message.readies[0].state_digest
        context = transcripts.context(
            self.job, message.epoch, roster_hash, ready, message.round, message.attempt, state
        )
        self.attempts[context] = Attempt(
            message.epoch,
            message.round,
            message.attempt,
            state,
            frozenset(seats[index - 1] for index in ready if index <= len(seats)),
            seats,
        )

    def shown(self, survivors: Survivors) -> None:
        """A survivor set that may reach a member."""
        attempt = self.attempts.get(survivors.context)
        if attempt is not None:
            cohort = frozenset(attempt.seats[index - 1] for index in survivors.cohort)
            self.cohorts[transcripts.survivors_digest(survivors)] = survivors.context, cohort

    # ------------------------------------------------------------------------------------------------- what is observed

    def contributed(self, member: str, machine: MemberMachine, plan: MaskPlan) -> None:
        """The first masked bytes may leave from here on."""
        context = plan.context
        attempt = self.attempts[context]
        self._once(("contribution", member, attempt.key), (context, plan.masks), "masks two vectors for one attempt")
        hold("I2", ("contributed", member, attempt.key) not in self.said, f"{member} trains twice for {attempt.key}")
        self.said["contributed", member, attempt.key] = context
        edges = {}
        for peer in attempt.ready - {member}:
            seed = machine._seed(attempt.seats.index(peer) + 1, machine._announced[context])
            edges[seed] = peer
            self.secrets[seed] = Secret(context, frozenset((member, peer)))
            if peer in self.colluders:
                self.known.add(seed)
        blind = boxes.blind_seed(machine._suite, machine._group_key(attempt.round), context, machine.index)
        self.known.add(blind)  # whoever has one colluder has KG; without one the sum is noise on top of this
        for mask in plan.masks:
            if mask.seed not in edges and mask.seed != blind:
                hold("I4", mask.seed not in self.secrets, f"{member} masks with a seed that has served before")
                self.secrets[mask.seed] = Secret(context, frozenset((member,)))
        self.seen.append(
            Observation(Vector(member, attempt.state), tuple((mask.seed, mask.sign) for mask in plan.masks))
        )

    def dealt_by(
        self, member: str, upload: Upload, machine: MemberMachine, opened: Mapping[int, Sequence[bytes]]
    ) -> None:
        """``opened``: what each holder's box holds, b first and then the edges in order."""
        attempt = self.attempts[upload.context]
        context = upload.context
        owned = [seed for seed, secret in self.secrets.items() if secret == Secret(context, frozenset((member,)))]
        hold("I2", len(owned) == 1, f"{member} has {len(owned)} self seeds for one attempt")
        announced = machine._announced[context]
        seeds = [owned[0], *(machine._seed(peer, announced) for peer in upload.trailer.edges)]
        for holder, shares in opened.items():
            for seed, share in zip(seeds, shares, strict=True):
                self.dealt[share] = context, member, seed, holder
                if attempt.seats[holder - 1] in self.colluders:
                    self._have(member, seed, holder, share, attempt)

    def _have(self, owner: str, seed: bytes, holder: int, share: bytes, attempt: Attempt) -> None:
        held = self.shares[owner, seed]
        held[holder] = share
        t = attempt.quorums.t
        if len(held) == t:
            rebuilt = shamir.rebuild(dict(islice(held.items(), t)))
            hold("I1", rebuilt == seed, f"t shares of {owner} rebuild another seed")
            self.known.add(seed)

    # --------------------------------------------------------------------------------------------------- what is signed

    def sent(self, member: str, message: Any, journal: Mapping[str, bytes]) -> None:
        """Something left an honest member; ``journal`` is its disk at this moment."""
        if member in self.colluders:
            return
        self._on_disk(member, message, journal)
        kind = type(message).__name__
        if isinstance(message, Ready):
            key = (message.epoch, message.round, message.attempt)
            self._once((kind, member, key, message.state_digest), message, "signs two READYs")
        elif isinstance(message, Receipt):
            self._once((kind, member, message.round), message, "signs two receipts for one round")
        elif isinstance(message, Abort):
            self._aborted(member, message)
        elif isinstance(message, Upload | Ack | Reveal | RecoverReply):
            attempt = self.attempts[message.context]
            hold(
                "I2",
                isinstance(message, Upload) or member not in self.aborts[attempt.key],
                f"{member} says {kind} for {attempt.key} after its ABORT",
            )
            if isinstance(message, Upload):
                self._once((kind, member, attempt.key), message, "uploads twice for one attempt")
            elif isinstance(message, Ack):
                self._acked(member, message, attempt)
            elif isinstance(message, Reveal):
                self._revealed(member, message, attempt)
            else:
                self._replied(member, message, attempt)

    def _once(self, key: tuple[Any, ...], value: Any, text: str) -> None:
        hold("I2", self.said.setdefault(key, value) == value, f"{key[1]} {text}: {key[2]}")

    def _on_disk(self, member: str, message: Any, journal: Mapping[str, bytes]) -> None:
        if isinstance(message, Reveal | RecoverReply):
            digests = [digest for digest, (context, _) in self.cohorts.items() if context == message.context]
            bound = b"".join(value for key, value in journal.items() if key.startswith("bound"))
            found = any(digest in bound for digest in digests)
        else:
            found = any(message.signature in value for value in journal.values())
        hold("I6", found, f"{member} says {type(message).__name__}, and it is not on its disk")

    def _aborted(self, member: str, message: Abort) -> None:
        key = (message.epoch, message.round, message.attempt)
        released = [context for context, _ in self.released[member] if self.attempts[context].key == key]
        hold("I2", not released, f"{member} signs the ABORT of {key}, for which it has released")
        self.aborts[key].add(member)

    def _acked(self, member: str, message: Ack, attempt: Attempt) -> None:
        self._once(("Ack", member, attempt.key), message, "ACKs two cohorts of one attempt")
        self.acks[message.survivors_digest].add(member)
        certified = self.certified(attempt.key)
        hold("I5", len(certified) <= 1, f"{len(certified)} cohorts of {attempt.key} are certified")

    def certified(self, key: tuple[int, int, int]) -> list[bytes]:
        """Survivors digests that the coordinator can show q ACKs for, with every colluder's."""
        found = []
        for digest, signers in self.acks.items():
            attempt = self.attempts[self.cohorts[digest][0]]
            liars = self.colluders & set(attempt.seats)
            if attempt.key == key and len(signers) + len(liars) >= attempt.quorums.q:
                found.append(digest)
        return found

    def over(self, attempt: Attempt) -> bool:
        """Whether the coordinator can show q ABORTs, with every colluder's."""
        liars = self.colluders & set(attempt.seats)
        return len(self.aborts[attempt.key]) + len(liars) >= attempt.quorums.q

    def _cohort(self, member: str, context: bytes, attempt: Attempt) -> frozenset[str]:
        """U of the certificate that a release must rest on."""
        here = [self.cohorts[digest][1] for digest in self.certified(attempt.key) if self.cohorts[digest][0] == context]
        hold("I3", len(here) == 1, f"{member} releases for {attempt.key} without a certificate")
        return here[0]

    def _release(self, member: str, context: bytes, attempt: Attempt) -> frozenset[str]:
        cohort = self._cohort(member, context, attempt)
        for earlier, before in self.released[member]:
            other = self.attempts[earlier]
            if other.key == attempt.key:
                hold("I2", (earlier, before) == (context, cohort), f"{member} releases twice for {attempt.key}")
            elif other.state == attempt.state and (before ^ cohort) - self.colluders and member not in self.forgetful:
                hold(
                    "I2",
                    self.over(other),
                    f"{member} releases one state for two cohorts: {sorted(before)} and {sorted(cohort)}",
                )
        if (context, cohort) not in self.released[member]:
            self.released[member].append((context, cohort))
        return cohort

    def _revealed(self, member: str, message: Reveal, attempt: Attempt) -> None:
        cohort = self._release(member, message.context, attempt)
        for seed in (message.self_seed, *(seed for _, seed in message.edges)):
            self._may_leave(member, seed, message.context, cohort)
            self.known.add(seed)
        own = self.secrets[message.self_seed].ends
        hold("I3", own == {member}, f"{member} reveals the self seed of {sorted(own)}")

    def _replied(self, member: str, message: RecoverReply, attempt: Attempt) -> None:
        cohort = self._release(member, message.context, attempt)
        for _, share in message.shares:
            if share not in self.dealt:  # of a colluder's trailer
                hold("I3", attempt.seats[message.owner - 1] in self.colluders, f"{member} returns a share of nothing")
                continue
            context, owner, seed, holder = self.dealt[share]
            hold("I3", context == message.context, f"{member} returns a share of another attempt")
            hold("I3", owner in cohort, f"{member} returns a share of {owner}, which is not in the cohort")
            self._may_leave(member, seed, context, cohort)
            self._have(owner, seed, holder, share, attempt)

    def _may_leave(self, member: str, seed: bytes, context: bytes, cohort: frozenset[str]) -> None:
        secret = self.secrets.get(seed)
        hold("I3", secret is not None and secret.context == context, f"{member} releases a secret of another attempt")
        assert secret is not None
        inside = len(secret.ends & cohort)
        hold("I3", inside == 1, f"{member} releases the secret of {sorted(secret.ends)} for {sorted(cohort)}")

    # --------------------------------------------------------------------------------------------------- what it amounts to

    def judge(self) -> list[tuple[bytes, frozenset[str]]]:
        """I4; gives (state, honest members) of the sums that are out."""
        if self._judged == (len(self.known), len(self.seen)):
            return []
        self._judged = (len(self.known), len(self.seen))
        honest = [each for each in self.seen if each.vector.member not in self.colluders]
        sums: list[tuple[bytes, frozenset[str]]] = []
        least = min((attempt.quorums.m for attempt in self.attempts.values()), default=0) - len(self.colluders)
        for combination in determined(honest, self.known):
            states = {vector.state for vector in combination}
            members = frozenset(vector.member for vector in combination)
            even = set(combination.values()) == {1} and len(states) == 1
            hold("I4", even, f"a combination of {sorted(members)} over {len(states)} states that is no sum is out")
            hold("I4", len(members) >= least, f"a sum of {sorted(members)} alone is out")
            sums.append((states.pop(), members))
        hold("I4", len({state for state, _ in sums}) == len(sums), "two cohorts of one state are out")
        return sums


def shares_in(box: bytes) -> list[bytes]:
    """The shares in a box of the stand-in suite."""
    data = box[:-16]
    return [data[start : start + SHARE_BYTES] for start in range(0, len(data), SHARE_BYTES)]
