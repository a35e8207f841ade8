"""All that the collector's machine knows, as plain values: what a checkpoint holds. Members are named by id or by
index."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from federation.secagg.events import Lineage, Reopen
from federation.secagg.formation import FormationBook, Standing
from federation.secagg.messages import (
    Abort,
    Ack,
    Announcement,
    Certificate,
    Close,
    Ready,
    Receipt,
    RecoverReply,
    Reveal,
    Survivors,
    Unmasked,
    Upload,
    Void,
)

NOT_YET: Final = float("inf")


@dataclass(slots=True, repr=False)
class Ledger:
    phase: str = "new"
    since: float = 0.0
    """when the phase began"""
    deadline: float | None = None
    story: tuple[str, ...] = ()

    # who is there
    present: set[str] = field(default_factory=set)
    lost_at: dict[str, float] = field(default_factory=dict)
    given_up: set[str] = field(default_factory=set)
    """absent when a round was announced: no later announcement waits for them until they return"""
    unable: dict[str, str] = field(default_factory=dict)
    """have no initial model, since the task cannot give it there: member -> why"""
    broke: set[str] = field(default_factory=set)
    """refused or failed in this phase: not waited for"""
    position: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    """the newest state that the member is known to hold"""

    # epochs
    invited: tuple[str, ...] = ()
    joining: set[str] = field(default_factory=set)
    """have consented to a job that is under way: they come in at the next epoch"""
    joined: set[str] = field(default_factory=set)
    """have come in with this epoch"""
    forming: FormationBook | None = None
    standing: Standing | None = None
    before: Lineage | None = None
    """the epoch before"""

    convicted: set[str] = field(default_factory=set)
    """have signed two things that contradict each other: left out of the next epoch"""
    tolerated: set[str] = field(default_factory=set)
    """convicted or gone, and yet no roster could be formed without them"""

    # the round
    round: int = 1
    attempt: int = 0
    opened: float | None = None
    """since when enough members are ready"""
    state_digest: bytes = b""
    certified: tuple[Receipt, ...] = ()
    receipts: dict[int, Receipt] = field(default_factory=dict)
    """of the round before"""
    readies: dict[int, Ready] = field(default_factory=dict)
    aborts: dict[int, Abort] = field(default_factory=dict)
    ended: tuple[Abort, ...] = ()
    """q ABORTs of the attempt before"""
    void: Void | None = None
    """or its certificate, when it gave no sum"""
    bound: tuple[int, ...] = ()
    """the cohort of a certificate of this round that gave no sum, less the convicted: every later attempt sums it, and
    no other"""
    voids: tuple[Reopen, ...] = ()
    """of this round and the one before: a member that was away must see who was convicted in each"""
    proofs: dict[int, bytes] = field(default_factory=dict)
    """of a lie in this attempt, by the liar's index"""
    why_aborted: str = ""
    announcement: Announcement | None = None
    uploads: dict[int, Upload] = field(default_factory=dict)
    survivors: Survivors | None = None
    acks: dict[int, Ack] = field(default_factory=dict)
    certificate: Certificate | None = None
    reveals: dict[int, Reveal] = field(default_factory=dict)
    recovering: set[int] = field(default_factory=set)
    recovering_since: float = 0.0
    replies: dict[tuple[int, int], RecoverReply] = field(default_factory=dict)
    """(owner, holder)"""

    # the round before
    closed: Announcement | None = None
    close: Close | None = None
    closed_proofs: dict[int, bytes] = field(default_factory=dict)
    strays: dict[int, Ack] = field(default_factory=dict)
    """good signatures on survivors that were not announced"""
    unmasked: dict[str, Unmasked] = field(default_factory=dict)
    """how the masks of each member of its cohort came off, for those who audit its sum"""

    # states for members that are behind
    blobs: dict[bytes, bytes] = field(default_factory=dict)
    """files of states that stores of before have, without who gave them"""
    asked: str = ""
    asked_digest: bytes = b""
    """the state that somebody lacks"""

    left: set[str] = field(default_factory=set)
    """have taken back their consent, or were suspended: out at once, and of no later epoch unless readmitted. Earlier versions'
    checkpoints end here, or before"""
    asked_at: float = NOT_YET
    unhelpful: set[str] = field(default_factory=set)
    """asked for a state, and gave none in time, or one that was refused: the others are asked first. Checkpoints end here, or
    before, that know nothing of what follows"""
    ever_asked: set[str] = field(default_factory=set)
    """for the state ``asked_digest``: of nobody else is a file of it taken"""
    given: dict[str, bytes] = field(default_factory=dict)
    """by whom which file of it was given"""
    doubts: set[tuple[str, bytes]] = field(default_factory=set)
    """(member, file): it was told of the file, and says that it does not hold the state, or came back without it twice"""
    told: dict[str, tuple[bytes, int, int, bytes]] = field(default_factory=dict)
    """member -> (file, how often it was told of it, and the round and state that it held before)"""

    def want_state(self, state_digest: bytes) -> None:
        """Somebody lacks this state now; what was given of another is no help any more. Empty: nobody does."""
        self.asked, self.asked_digest = "", state_digest
        self.ever_asked, self.given, self.doubts, self.told = set(), {}, set(), {}

    def clear_attempt(self) -> None:
        """Forgets what belongs to one attempt, seeds first."""
        self.reveals, self.replies, self.recovering = {}, {}, set()
        self.uploads, self.acks, self.aborts, self.strays, self.proofs = {}, {}, {}, {}, {}
        self.announcement = self.survivors = self.certificate = None
        self.opened = None
