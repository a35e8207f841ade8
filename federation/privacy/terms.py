"""What a job promises of its members' privacy, as the signed manifest fixes it for every round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SKELLAM: Final = "skellam"
DISCRETE_GAUSSIAN: Final = "discrete_gaussian"
DP_SGD: Final = "dp_sgd"
"""the task's own noise on the gradients of records, within the worker: the task's promise"""
MECHANISMS: Final = (SKELLAM, DISCRETE_GAUSSIAN, DP_SGD)
MEMBER: Final = "member"
RECORD: Final = "record"
UNITS: Final = (MEMBER, RECORD)

FIGURE_LEVELS: Final = 64
"""a noised figure is rounded to so many steps of its bound"""
LEAST_VARIANCE: Final = 8.0
"""levels^2 of one member's discrete Gaussian: below it a sum of such is too far from one"""
MOST_VARIANCE: Final = 4800.0**2
"""levels^2 of one member's noise: what the sampler's tables hold"""
MOST_PARAMETERS: Final = 1 << 35
"""of a sum: what a node fetches at most, 64 GiB of 16 bits"""
SIGMAS: Final = 10
"""a sum's noise is held to be within so many standard deviations"""


@dataclass(frozen=True, slots=True)
class FigureNoise:
    """Noise on the header's figures: each is held within +-``bound``, and all of a round together are one query."""

    noise_multiplier: float
    bound: float


@dataclass(frozen=True, slots=True)
class Privacy:
    """``unit``: whose traces are hidden. A member's: its whole update might as well be zero. A record's: one row more or less."""

    mechanism: str
    unit: str
    noise_multiplier: float
    """noise of a sum over its sensitivity, after drop-outs and colluders; for dp_sgd: of each step's gradient"""
    epsilon: float
    """what all rounds spend at ``delta``, as the lead states it and every member checks"""
    delta: float
    figures: FigureNoise | None = None
    sample_rate: float = 0.0
    """dp_sgd: the chance of each record to be in a step's batch"""
    record_clip: float = 0.0
    """dp_sgd: L2 bound of one record's gradient"""
    steps: int = 0
    """dp_sgd: steps of a round"""

    @property
    def distributed(self) -> bool:
        """Whether members add noise to what they upload."""
        return self.mechanism != DP_SGD


def givers(m: int, f: int) -> int:
    """Members whose noise a sum holds at least that nobody knows who looks at it: of the smallest cohort, without the
    colluders; one at least is left out, since a member knows its own noise."""
    return m - max(f, 1)
