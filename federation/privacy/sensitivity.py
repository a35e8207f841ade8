"""How far one member moves a sum of levels, in the L2 norm: clipped, scaled, and **stochastically rounded**.

Rounding adds to the norm. Members round until the norm of the integers is within a bound that all compute alike, and
check the integers themselves, so the sensitivity holds whatever floating point did before (conditional rounding; the
bound is of the kind of arXiv 2102.06387, section 4.3, with min(d/4, sqrt(d) norm) for the variance: an entry v has the
variance (v - floor v)(1 - (v - floor v)) <= min(1/4, |v|)). The chance that a rounding has to be repeated is at most
about 2^-20. For integers the L1 norm is at most the square of the L2 norm, which the accountant uses.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import log, sqrt
from typing import Final

import numpy as np
import numpy.typing as npt

SLACK: Final = sqrt(2 * log(2**20))
TRIES: Final = 16
"""roundings before a member gives up, which no member has reason to"""


def rounded_bound(norm: float, parameters: int) -> float:
    """Bound of the L2 norm after rounding, in levels. ``norm``: before it, in levels."""
    root = sqrt(parameters)
    spread = min(parameters / 4, root * norm) + SLACK * (norm + root / 2)
    return min(norm + root, sqrt(norm * norm + spread))


def squared_norm(chunks: Iterable[npt.NDArray[np.signedinteger]]) -> float:
    """Of integer vectors, chunk by chunk, never too small: exact below 2^53, else rounded up."""
    total = 0.0
    for chunk in chunks:
        part = chunk.astype(np.float64)
        total += float(np.einsum("i,i->", part, part))  # not dot: a BLAS would start threads of its own
    return total if total < 2**53 else total * (1 + 2**-30)
