"""The numbers of the certified-cohort masked sum (docs/protocol/secure-aggregation.md, "Parameters")."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Final

from federation.errors import InvalidManifest

CHUNK_PARAMETERS: Final = 65_536
FIRST_ROUND: Final = 1
FIXED_WORDS: Final = 3
"""of a header: weight, squared norm, saturated count"""
MIN_MEMBERS: Final = 3
MAX_MEMBERS: Final = 200
AES_256_CTR: Final = "aes-256-ctr"
CHACHA20: Final = "chacha20"
CIPHERS: Final = (AES_256_CTR, CHACHA20)
"""of keystreams; the manifest names one for all members, ChaCha20 where some have no AES hardware"""


@dataclass(frozen=True, slots=True)
class Quorums:
    """Derived from the roster size alone, so that nobody can move them at run time."""

    n: int
    f: int
    """members that may collude or lie"""
    q: int
    """distinct signatures, counted over n, that certify a cohort, an abort, or a state"""
    t: int
    """holders that can rebuild a silent member's seeds"""
    m: int
    """smallest cohort that may be summed"""

    @staticmethod
    def of(n: int) -> Quorums:
        """Raises InvalidManifest when n is not 3..200."""
        if not MIN_MEMBERS <= n <= MAX_MEMBERS:
            raise InvalidManifest(
                f"A roster of {n} cannot be summed securely: it takes {MIN_MEMBERS} to {MAX_MEMBERS} members.",
                hint="Invite more members, or lower spec.participants.maxMembers.",
                field="spec.participants",
            )
        f = (n - 1) // 3
        q = (n + f) // 2 + 1
        return Quorums(n=n, f=f, q=q, t=n - q + f + 1, m=max(3, f + 2, ceil(2 * n / 3)))


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a clipped difference becomes ring elements; all of it is in the signed manifest."""

    ring_bits: int
    """8, 16 or 32: bits of one parameter on the wire"""
    level_bound: int
    """L: the largest level a member may send; n*L <= 2^(ring_bits-1) - 1"""
    clip_norm: float
    """L2 bound of the difference; float("inf") never: the manifest always states one"""
    weight_unit: int
    """the largest weight bucket in the roster; x_i is multiplied by w_i / weight_unit, a power of two at most 1"""
    min_scale_exponent: int
    max_scale_exponent: int
    """a level stands for 2^exponent; each chunk has its own exponent within these bounds"""
    chunk_parameters: int = CHUNK_PARAMETERS

    @staticmethod
    def level_bound_of(ring_bits: int, n: int) -> int:
        return ((1 << (ring_bits - 1)) - 1) // n

    def chunks(self, parameters: int) -> int:
        return -(-parameters // self.chunk_parameters)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a job fixes for its rounds, as both machines need it. Built from the manifest by ``federation.manifest``."""

    job: bytes
    """the manifest's digest, 32 bytes"""
    federation: str
    rounds: int
    """training rounds are 1..rounds; round rounds+1 is header-only and gives the final figures, when
    ``final_evaluation``"""
    final_evaluation: bool
    ring_bits: int
    clip_norm: float
    weight_cap: int
    initial_scale_exponent: int
    min_scale_exponent: int
    max_scale_exponent: int
    metrics: tuple[str, ...]
    """names "train/<name>" and "evaluate/<name>", sorted: two header words each, weighted sum and weight"""
    min_members: int
    min_jurisdictions: int
    chunk_parameters: int = CHUNK_PARAMETERS
    blind: bool = True
    """whether the coordinator sees neither sums nor models (``coordinatorView: blind``)"""
    cipher: str = AES_256_CTR

    @property
    def last_round(self) -> int:
        return self.rounds + (1 if self.final_evaluation else 0)

    def header_only(self, round_number: int) -> bool:
        return round_number > self.rounds
