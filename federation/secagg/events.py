"""What goes into the two machines and what comes out. Messages of ``federation.secagg.messages`` are events and
payloads as well.

Ordering rule for both drivers: perform instructions in the order given; a ``Remember`` (member) or the commit of the
event (collector) is durable before anything after it is performed; every instruction may be performed again after a
crash.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from federation.errors import ProtocolViolation
from federation.secagg.cohorts import FigureEntry
from federation.secagg.messages import (
    Abort,
    Ack,
    Announcement,
    Certificate,
    Close,
    Confirmation,
    Encapsulation,
    KeyMessage,
    Opening,
    Ready,
    Receipt,
    Recover,
    RecoverReply,
    Reveal,
    RosterSignature,
    Seat,
    Survivors,
    Upload,
    Void,
)
from federation.secagg.parameters import AES_256_CTR

# --------------------------------------------------------------------------------------------------------------- shared


@dataclass(frozen=True, slots=True, repr=False)
class Mask:
    """One keystream to add (sign +1) or subtract (sign -1), from a 32-byte AES-256 key."""

    seed: bytes
    sign: int

    def __repr__(self) -> str:
        return f"Mask(seed redacted, sign={self.sign:+d})"


@dataclass(frozen=True, slots=True, repr=False)
class TagPlan:
    """What makes, or checks, the sum MAC of one attempt (``federation.secagg.sum_mac``)."""

    key: bytes
    """32 bytes, the same for all members: where the two vectors rho come from"""
    pads: tuple[bytes, ...]
    """32 bytes each: the member's own when it contributes; those of the cohort when a sum is checked"""

    def __repr__(self) -> str:
        return f"TagPlan(key redacted, {len(self.pads)} pads)"


@dataclass(frozen=True, slots=True)
class MaskPlan:
    """All that ``federation.secagg.masking`` needs to mask one member's contribution, or to unmask a sum."""

    context: bytes
    masks: tuple[Mask, ...]
    dither: bytes = field(repr=False, default=b"")
    """32-byte key of the rounding dither; empty in the collector's plan"""
    cipher: str = AES_256_CTR
    """of every keystream of the attempt: one of ``parameters.CIPHERS``"""
    tag: TagPlan | None = None
    """the sum MAC; None in the collector's plan, which cannot make or check one"""


Said = (
    KeyMessage
    | Encapsulation
    | RosterSignature
    | Opening
    | Confirmation
    | Ready
    | Upload
    | Ack
    | Reveal
    | RecoverReply
    | Abort
    | Receipt
)
"""what a member says"""

# --------------------------------------------------------------------------------------------- the member: what goes in


@dataclass(frozen=True, slots=True)
class Form:
    """Make keys for a roster. ``predecessor``: roster hash of the epoch before, 32 zero bytes for the first."""

    epoch: int
    formation: int
    predecessor: bytes


@dataclass(frozen=True, slots=True)
class Candidates:
    """Who sent keys, sorted by member: a place in this list is the index from here on."""

    epoch: int
    formation: int
    keys: tuple[KeyMessage, ...]


@dataclass(frozen=True, slots=True)
class Roster:
    """All that the roster hash is over, and the ciphertexts for the receiver (of each lower place, in order)."""

    epoch: int
    formation: int
    keys: tuple[KeyMessage, ...]
    encapsulations: tuple[Encapsulation, ...]
    ciphertexts: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class RosterCertificate:
    epoch: int
    roster_hash: bytes
    signatures: tuple[RosterSignature, ...]


@dataclass(frozen=True, slots=True)
class Openings:
    epoch: int
    roster_hash: bytes
    openings: tuple[Opening, ...]
    """of all n; each with the box for the receiver alone"""


@dataclass(frozen=True, slots=True)
class Confirmations:
    """n of n made the same keys: the epoch stands, and its members move to it."""

    epoch: int
    roster_hash: bytes
    confirmations: tuple[Confirmation, ...]


@dataclass(frozen=True, slots=True)
class Lineage:
    """For a member that joins a job that is under way: the roster of the epoch before, whose hash its own roster
    names, so that it can check that epoch's receipts; and the word of all its members that it stood."""

    roster: Roster
    confirmations: Confirmations


@dataclass(frozen=True, slots=True)
class AbortRequest:
    epoch: int
    round: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Reopen:
    """A certified attempt gave no sum: its certificate opens the next attempt for the same cohort."""

    epoch: int
    round: int
    void: Void


@dataclass(frozen=True, slots=True)
class ProvideState:
    """Another member is behind: put the file of this state among the blobs, sealed where the coordinator is blind."""

    epoch: int
    round: int
    state_digest: bytes


@dataclass(frozen=True, slots=True)
class CatchUp:
    """The coordinator says: you are behind, this is the certified input of ``round``. A claim until the receipts are
    checked. ``epoch``: under whose group key the file is sealed."""

    epoch: int
    round: int
    state_digest: bytes
    state_blob: bytes
    receipts: tuple[Receipt, ...]


@dataclass(frozen=True, slots=True)
class StateReady:
    """Local: the driver holds state_round on disk with this digest (initial, or fetched after ``FetchState``, or found
    at a restart).

    Harmless to repeat: the machine sends its last receipt and READY again. A member that computed the state itself says
    SumApplied.
    """

    round: int
    state_digest: bytes


@dataclass(frozen=True, slots=True)
class Encoded:
    """Local: the masked update of ``context`` is complete in the job's private folder; ``root`` is its Merkle root."""

    context: bytes
    root: bytes


@dataclass(frozen=True, slots=True)
class ContributionFailed:
    """Local: training or encoding failed; the member stays out of this attempt and says nothing of it."""

    context: bytes


@dataclass(frozen=True, slots=True)
class SumApplied:
    """Local: the certified sum passed its range checks and the outer step gave state_{round+1} with this digest, on
    disk.

    A header-only round changes no weights: its digest is that of the state that was evaluated, unchanged.
    """

    context: bytes
    state_digest: bytes
    figures: tuple[int, ...]
    """the header words of the declared public metrics"""


@dataclass(frozen=True, slots=True)
class SumRefused:
    """Local: the sum's digest, range, or weights are wrong; or, ``ours``, this lab could not fetch or apply it."""

    context: bytes
    reason: str
    ours: bool = False


MemberEvent = (
    Form
    | Candidates
    | Roster
    | RosterCertificate
    | Openings
    | Confirmations
    | Lineage
    | Announcement
    | Survivors
    | Certificate
    | Recover
    | AbortRequest
    | Reopen
    | Close
    | CatchUp
    | ProvideState
    | StateReady
    | Encoded
    | ContributionFailed
    | SumApplied
    | SumRefused
)

# ------------------------------------------------------------------------------------------- the member: what comes out


@dataclass(frozen=True, slots=True, repr=False)
class Remember:
    """Write (key, value) to the member's journal and fsync before performing anything later. ``value`` None erases the
    key."""

    key: str
    value: bytes | None

    def __repr__(self) -> str:
        return f"Remember({self.key!r}, {'erase' if self.value is None else 'redacted'})"


@dataclass(frozen=True, slots=True)
class RememberFigures:
    """As Remember, in the lab's journal of figures, which outlives the job."""

    put: tuple[FigureEntry, ...] = ()
    erase: tuple[FigureEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class Send:
    message: Said


@dataclass(frozen=True, slots=True)
class ComputeInitialState:
    """The first roster stands: make state_1 from the manifest, store it, answer StateReady(1, digest)."""


@dataclass(frozen=True, slots=True)
class FetchState:
    """Fetch the blob, open it when it is sealed, check that the state in it has this digest, store it, answer
    StateReady."""

    round: int
    state_digest: bytes
    state_blob: bytes
    key: bytes = field(repr=False)
    """32 bytes; empty where the coordinator may see models"""


@dataclass(frozen=True, slots=True)
class PutState:
    """Put the file of our state among the blobs, sealed under ``key`` when there is one, and say StateStored of that
    epoch."""

    epoch: int
    round: int
    state_digest: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Contribute:
    """Evaluate and train on state_round, encode, mask with ``plan``, stream to the coordinator, answer Encoded.

    ``weight`` is this member's public bucket. ``weight_unit`` the largest in the roster. ``header_only``: evaluate
    only.
    """

    round: int
    attempt: int
    plan: MaskPlan
    weight: int
    weight_unit: int
    members: int
    """n of the roster; the level bound follows from it"""
    header_only: bool


@dataclass(frozen=True, slots=True)
class FetchSum:
    """Get the sum, check it with ``federation.secagg.opening.open_sum``, apply the outer step, answer SumApplied or
    SumRefused."""

    close: Close
    plan: MaskPlan
    """the blind masks of the cohort, to take off, and its pads"""
    cohort: tuple[int, ...]
    total_weight: int
    """sum of the cohort's public buckets: the header's first word must equal it"""
    weight_unit: int
    members: int
    ready: tuple[int, ...]
    """R_r: its masks towards those who are not in the cohort are among what an audit looks at"""


@dataclass(frozen=True, slots=True)
class StopContributing:
    """The attempt is over for this member: end training for it and erase its masked update."""

    context: bytes


@dataclass(frozen=True, slots=True)
class Refuse:
    """A check failed; tell the coordinator and this lab's operator which, and what to do. State is unchanged."""

    violation: ProtocolViolation


@dataclass(frozen=True, slots=True)
class Forgone:
    """Nothing of this attempt will ever be opened: we never uploaded, or q ABORTs closed it and we released nothing. What
    a privacy ledger set aside for it is free again."""

    context: bytes


@dataclass(frozen=True, slots=True)
class RoundSettled:
    """state_{round+1} is certified by q receipts: states and updates of rounds up to ``round`` may be erased."""

    round: int


MemberInstruction = (
    Remember
    | RememberFigures
    | Send
    | ComputeInitialState
    | FetchState
    | PutState
    | Contribute
    | FetchSum
    | StopContributing
    | Refuse
    | RoundSettled
    | Forgone
)

# ------------------------------------------------------------------------------------------ the collector: what goes in


@dataclass(frozen=True, slots=True)
class Begin:
    """The job was placed: form a roster of these members. (member id, node id), sorted by member id."""

    candidates: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Join:
    """The member has consented to a job that is under way, or has lost its state: it comes in at the next epoch."""

    member: str


@dataclass(frozen=True, slots=True)
class From:
    """A message from a member, whose transport identity says ``member``. The machine checks the signature anyhow.

    An Upload is passed on only when its masked update is complete in the spool and has the Merkle root that it names.
    """

    member: str
    message: Said


@dataclass(frozen=True, slots=True)
class Connected:
    """The member's stream is (again) open; whatever it may have missed in the present phase is told again."""

    member: str
    round: int = 0
    """the round that its state is the input of, as its Hello says; 0: none"""
    state_digest: bytes = b""


@dataclass(frozen=True, slots=True)
class Lost:
    """The member's stream broke."""

    member: str


@dataclass(frozen=True, slots=True)
class TaskBroke:
    """The member said that its task failed, or refused the round; it stays out of the attempt and need not be waited
    for."""

    member: str
    reason: str
    refused: bool = False
    """a message was refused; the task itself may be in order"""


@dataclass(frozen=True, slots=True)
class StateStored:
    """A state's file is among the blobs. Of stores of before alone: nobody's name is kept with it, and a replay believes it as the
    first run did. Now it is StateGiven."""

    state_digest: bytes
    blob: bytes
    epoch: int
    """under whose group key it is sealed, in a blind job"""


@dataclass(frozen=True, slots=True)
class SumReady:
    """Local: the unmasked sum of ``context`` is among the blobs."""

    context: bytes
    blob: bytes
    size: int


@dataclass(frozen=True, slots=True)
class SumFailed:
    """Local: the unmasked sum is out of range (a member sent garbage): the round is void."""

    context: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Tick:
    """``machine.deadline`` has passed."""


@dataclass(frozen=True, slots=True)
class Left:
    """The member has taken its consent back, or was suspended: nothing more comes from it, it is waited for no more, and the next
    epoch is formed without it."""

    member: str


@dataclass(frozen=True, slots=True)
class Readmitted:
    """The member had left, was taken back, and has consented anew: what it says counts again. ``Join``, which comes after, brings
    it into the next epoch. Never said of a member that took its own consent back: that is final."""

    member: str


@dataclass(frozen=True, slots=True)
class StateGiven:
    """A member has put a file among the blobs, and says that it holds this state. Where the coordinator sees models the driver has
    read it; where it is blind, nobody has yet."""

    member: str
    state_digest: bytes
    blob: bytes
    epoch: int
    """under whose group key it is sealed, in a blind job"""


@dataclass(frozen=True, slots=True)
class StateRefused:
    """A member has fetched the file that it was told of, and says that it does not hold the state."""

    member: str
    state_digest: bytes
    blob: bytes


@dataclass(frozen=True, slots=True)
class ContributionLost:
    """The member has nothing to upload for the attempt that it was told of: it was started again, or its task failed. It stays out
    of that attempt; what it can do for the cohort, and for the next round, it does."""

    member: str


CollectorEvent = (
    Begin
    | Join
    | From
    | Connected
    | Lost
    | TaskBroke
    | StateStored
    | SumReady
    | SumFailed
    | Tick
    | Left
    | Readmitted
    | StateGiven
    | StateRefused
    | ContributionLost
)
"""New ones at the end: their order is in what is stored."""

# ---------------------------------------------------------------------------------------- the collector: what comes out


@dataclass(frozen=True, slots=True)
class Tell:
    """Queue a message for each of these members that is connected; a member that connects later is told again by the
    machine.

    The driver says Connected for every open stream right before Begin, and after every Hello; Lost when one breaks.
    """

    members: tuple[str, ...]
    message: (
        Form
        | Candidates
        | Roster
        | RosterCertificate
        | Openings
        | Confirmations
        | Lineage
        | Announcement
        | Survivors
        | Certificate
        | Recover
        | AbortRequest
        | Reopen
        | Close
        | CatchUp
        | ProvideState
    )


@dataclass(frozen=True, slots=True)
class Unmask:
    """Sum the stored updates of the cohort, apply ``plan``, store the sum as a blob, answer SumReady or SumFailed."""

    round: int
    attempt: int
    plan: MaskPlan
    cohort: tuple[int, ...]
    total_weight: int
    members: int
    header_only: bool


@dataclass(frozen=True, slots=True)
class Discard:
    """Stored updates of this context are no longer needed."""

    context: bytes


@dataclass(frozen=True, slots=True)
class PhaseChanged:
    """For the store, metrics and people. Phases: forming, announced, collecting, certifying, revealing, closed,
    aborted, void."""

    epoch: int
    round: int
    attempt: int
    phase: str
    members: tuple[str, ...]
    """R_r when announced; the cohort from certifying on"""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RosterFormed:
    """An epoch stands. ``roster`` and ``certificate``: what shows it to strangers."""

    epoch: int
    roster_hash: bytes
    seats: tuple[Seat, ...]
    roster: Roster
    certificate: RosterCertificate


@dataclass(frozen=True, slots=True)
class RoundClosed:
    round: int
    attempt: int
    context: bytes
    certificate: Certificate
    total_weight: int
    sum_blob: bytes


@dataclass(frozen=True, slots=True)
class StateCertified:
    """q receipts agree on state_{round+1}."""

    round: int
    state_digest: bytes
    receipts: tuple[Receipt, ...]


@dataclass(frozen=True, slots=True)
class JobDone:
    """All rounds are closed and q receipts certify the final state."""

    state_digest: bytes
    receipts: tuple[Receipt, ...]


@dataclass(frozen=True, slots=True)
class JobStuck:
    """The job cannot go on (too few members form a roster, receipts split for good, attempts are used up)."""

    reason: str


@dataclass(frozen=True, slots=True)
class Misconduct:
    """A message was refused: who, which check, and the evidence. ``proof``: it convicts the member by itself."""

    member: str
    violation: ProtocolViolation
    proof: bool


CollectorInstruction = (
    Tell
    | Unmask
    | Discard
    | PhaseChanged
    | RosterFormed
    | RoundClosed
    | StateCertified
    | JobDone
    | JobStuck
    | Misconduct
)


@dataclass(frozen=True, slots=True)
class Windows:
    """Deadlines in seconds, from the manifest."""

    formation: float
    formation_attempts: int
    ready: float
    """how long a round waits for connected members that are not ready"""
    reconnect: float
    """how long a phase waits for a member whose stream broke"""
    round: float
    """train and upload"""
    phase: float
    """each of ACK, REVEAL, RECOVER, ABORT, receipts"""
    attempts: int
    """attempts of one round before the job is stuck"""


FloatArray = npt.NDArray[np.float32]
