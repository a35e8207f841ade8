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
    credential: bytes
    """the node credential's envelope, verbatim"""
    exchange_key: bytes
    """fresh X25519 public key, 32 bytes"""
    weight: int
    """public bucket: a power of two, or 1 for equal weights; the same as in the member's consent"""
    signature: bytes


@dataclass(frozen=True, slots=True)
class RosterSignature:
    index: int
    roster_hash: bytes
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
    signature: bytes


@dataclass(frozen=True, slots=True)
class Abort:
    index: int
    epoch: int
    round: int
    attempt: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class Announcement:
    epoch: int
    round: int
    attempt: int
    readies: tuple[Ready, ...]
    receipts: tuple[Receipt, ...]
    aborts: tuple[Abort, ...]


@dataclass(frozen=True, slots=True)
class Box:
    holder: int
    ciphertext: bytes


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
