"""The numbers of the certified-cohort masked sum (docs/protocol/secure-aggregation.md, "Parameters")."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt
from typing import Final

from federation.errors import InvalidManifest
from federation.privacy.sensitivity import rounded_bound
from federation.privacy.terms import DISCRETE_GAUSSIAN, FIGURE_LEVELS, LEAST_VARIANCE, SIGMAS, Privacy, givers

CHUNK_PARAMETERS: Final = 65_536
FIRST_ROUND: Final = 1
FIXED_WORDS: Final = 3
"""of a header: weight, squared norm, saturated count"""
MIN_MEMBERS: Final = 3
MAX_MEMBERS: Final = 200
MAX_ATTEMPTS: Final = 1000
"""of one round: more than any manifest allows; whatever is asked of a later one is refused, so that votes stay bounded"""
TRAINING_JOB: Final = "TrainingJob"
EVALUATION_JOB: Final = "EvaluationJob"
STATISTICS_JOB: Final = "StatisticsJob"
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


def noise_room(ring_bits: int) -> int:
    """Levels of a sum that are kept for the noise of all n members: half of the ring."""
    return (1 << (ring_bits - 2)) - 1


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
    privacy: Privacy | None = None
    """noise of the levels, and what the header may not say"""
    members: int = 0
    """n of the roster; the noise of one member follows from it"""

    @property
    def noised(self) -> bool:
        return self.privacy is not None and self.privacy.distributed

    def sensitivity(self, parameters: int) -> float:
        """L2 bound of one member's levels, rounding included."""
        return rounded_bound(self.clip_norm * 2.0**-self.min_scale_exponent, parameters)

    def noise_variance(self, parameters: int) -> float:
        """levels^2 of one member's noise in a model of so many parameters: those that give noise to the smallest cohort
        reach the target together. 0 without noise. Raises InvalidManifest when the ring has no room for all n."""
        if self.privacy is None or not self.privacy.distributed or not parameters:
            return 0.0
        quorums = Quorums.of(self.members)
        target = (self.privacy.noise_multiplier * self.sensitivity(parameters)) ** 2
        each = target / givers(quorums.m, quorums.f)
        if SIGMAS * sqrt(self.members * each) > noise_room(self.ring_bits):
            raise InvalidManifest(
                f"A model of {parameters} parameters needs more noise than {self.ring_bits} bits have room for.",
                hint="Raise spec.secureAggregation.scaleExponent and its bounds by a few, or use more ringBits.",
                field="spec.secureAggregation.scaleExponent",
            )
        if self.privacy.mechanism == DISCRETE_GAUSSIAN and each < LEAST_VARIANCE:
            raise InvalidManifest(
                f"In a roster of {self.members} one member's noise is too small for discrete_gaussian.",
                hint="Use skellam, or lower spec.secureAggregation.scaleExponent and its bounds.",
                field="spec.privacy.mechanism",
            )
        return each

    def figure_variance(self, figures: int) -> float:
        """Of one member's noise on each figure, in squared steps of 1/FIGURE_LEVELS of the bound."""
        if self.privacy is None or self.privacy.figures is None:
            return 0.0
        quorums = Quorums.of(self.members)
        target = (self.privacy.figures.noise_multiplier * FIGURE_LEVELS) ** 2 * figures
        return target / givers(quorums.m, quorums.f)

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
    privacy: Privacy | None = None
    """noise of updates and figures, or the task's own; None: none"""
    kind: str = TRAINING_JOB
    """what the rounds are for; the machines do not ask: ``rounds`` may be 0, and the header-only round the only one"""

    @property
    def last_round(self) -> int:
        return self.rounds + (1 if self.final_evaluation else 0)

    def header_only(self, round_number: int) -> bool:
        return round_number > self.rounds
