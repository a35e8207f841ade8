"""Signed messages of the protocol as values. ``federation.secagg.wire`` maps each to its protobuf twin and back.

Signatures are Ed25519 by the node identity key named in the sender's credential, over the transcripts of
``federation.secagg.transcripts``; they are never over a protobuf encoding. Sets are tuples sorted by index.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KeyMessage:
    epoch: int
    formation: int
    predecessor: bytes
    """the roster hash of the epoch before; 32 zero bytes in the first"""
    credential: bytes
    """the node credential's envelope, verbatim"""
    exchange_key: bytes
    """fresh X25519 public key, 32 bytes"""
    kem_key: bytes
    """fresh ML-KEM-768 encapsulation key, 1,184 bytes"""
    nonce_hash: bytes
    """commits to this member's part of the beacon"""
    group_hash: bytes
    """commits to this member's part of the group key"""
    weight: int
    """public bucket: a power of two, or 1 for equal weights; the same as in the member's consent"""
    signature: bytes


@dataclass(frozen=True, slots=True)
class Encapsulation:
    """The lower index encapsulates to each higher one. The hashes are signed, and so in the roster hash; a ciphertext
    goes to the member that it is for."""

    index: int
    keys_hash: bytes
    """of the candidates' key messages"""
    hashes: tuple[bytes, ...]
    """of the ciphertext for each place after this one, in order"""
    ciphertexts: tuple[bytes, ...]
    """the same ciphertexts (1,088 bytes each) on their way to the coordinator; empty within a roster"""
    signature: bytes


@dataclass(frozen=True, slots=True)
class RosterSignature:
    index: int
    roster_hash: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Box:
    holder: int
    ciphertext: bytes


@dataclass(frozen=True, slots=True)
class Opening:
    """A member's part of the beacon, in clear, and its part of the group key, sealed for each other member."""

    index: int
    roster_hash: bytes
    nonce: bytes
    boxes: tuple[Box, ...]
    """for every other place on the way to the coordinator; only the receiver's on the way to a member"""
    signature: bytes


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What this member made of the setup: all n must have made the same."""

    index: int
    roster_hash: bytes
    beacon: bytes
    group_hash: bytes
    """H("confirm" | KG)"""
    signature: bytes


@dataclass(frozen=True, slots=True)
class Seat:
    """A verified place in the roster: what follows from a KeyMessage whose credential is signed by an officer on the
    roll."""

    index: int
    member: str
    node: str
    jurisdiction: str
    identity_key: bytes
    """Ed25519 public key, 32 bytes"""
    exchange_key: bytes
    kem_key: bytes
    nonce_hash: bytes
    group_hash: bytes
    weight: int


@dataclass(frozen=True, slots=True)
class Ready:
    index: int
    epoch: int
    round: int
    attempt: int
    state_digest: bytes
    min_cohort: int
    """m_i: never below the manifest's m"""
    signature: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    index: int
    epoch: int
    round: int
    context: bytes
    survivors_digest: bytes
    state_digest: bytes
    """H(state_{r+1})"""
    figures: tuple[int, ...]
    """the sums of the declared public metrics, two header words each; what the members agree that people may see"""
    signature: bytes


@dataclass(frozen=True, slots=True)
class Sealing:
    """One member's word on the sealed file of the final state, and its key for the recipients of the release."""

    index: int
    epoch: int
    state_digest: bytes
    sealed_blob: bytes
    """SHA-256 of the sealed file: the same at every member of the epoch"""
    wrapped: tuple[bytes, ...]
    """the file's key for each recipient, in the manifest's order"""
    signature: bytes


@dataclass(frozen=True, slots=True)
class Abort:
    index: int
    epoch: int
    round: int
    attempt: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class Trailer:
    boxes: tuple[Box, ...]
    edges: tuple[int, ...]
    secret_hashes: tuple[bytes, ...]
    share_hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Upload:
    index: int
    context: bytes
    root: bytes
    trailer: Trailer
    signature: bytes


@dataclass(frozen=True, slots=True)
class SurvivorEntry:
    index: int
    root: bytes
    trailer_hash: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Survivors:
    context: bytes
    entries: tuple[SurvivorEntry, ...]

    @property
    def cohort(self) -> tuple[int, ...]:
        return tuple(entry.index for entry in self.entries)


@dataclass(frozen=True, slots=True)
class Ack:
    index: int
    context: bytes
    survivors_digest: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Certificate:
    survivors: Survivors
    acks: tuple[Ack, ...]


@dataclass(frozen=True, slots=True)
class Void:
    """A certified attempt whose sum fails or cannot be completed: it opens the next attempt, for the same cohort, less
    those that are convicted of a lie in this one."""

    attempt: int
    ready: tuple[int, ...]
    """R_r of that attempt; the ACKs are for the ctx that follows from it"""
    certificate: Certificate
    proofs: tuple[bytes, ...] = ()
    """one against each member that the next attempt goes on without (``federation.secagg.proof``), by index"""


@dataclass(frozen=True, slots=True)
class Announcement:
    epoch: int
    round: int
    attempt: int
    readies: tuple[Ready, ...]
    receipts: tuple[Receipt, ...]
    aborts: tuple[Abort, ...]
    void: Void | None


@dataclass(frozen=True, slots=True, repr=False)
class Reveal:
    index: int
    context: bytes
    self_seed: bytes
    edges: tuple[tuple[int, bytes], ...]
    """(peer, pairwise seed) for each peer in R_r that is not in the cohort"""
    signature: bytes

    def __repr__(self) -> str:
        return f"Reveal(index={self.index}, context={self.context.hex()[:12]}, seeds redacted)"


@dataclass(frozen=True, slots=True)
class Recover:
    """What the coordinator shows a holder: the certificate, whose seeds are missing, and the owner's box for this
    holder."""

    certificate: Certificate
    owner: int
    edges: tuple[int, ...]
    box: bytes


@dataclass(frozen=True, slots=True, repr=False)
class RecoverReply:
    index: int
    context: bytes
    owner: int
    shares: tuple[tuple[int, bytes], ...]
    """(peer, share); peer 0 is the owner's self seed"""
    signature: bytes

    def __repr__(self) -> str:
        return f"RecoverReply(index={self.index}, owner={self.owner}, shares redacted)"


@dataclass(frozen=True, slots=True)
class Close:
    round: int
    context: bytes
    survivors_digest: bytes
    sum_blob: bytes
    """SHA-256 of the sum: each chunk's ring elements, then the header's 8-byte words, all little-endian"""
    sum_size: int
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Unmasked:
    """How the masks of one member of the cohort came off: by its own REVEAL, or by seeds rebuilt from shares."""

    index: int
    reveal: Reveal | None
    upload: Upload | None
    """where there is no REVEAL: its trailer commits to the seeds"""
    seeds: tuple[tuple[int, bytes], ...]
    """(peer, seed), where there is no REVEAL; peer 0: the self seed"""

    def __repr__(self) -> str:
        return f"Unmasked(index={self.index}, seeds redacted)"
