"""Figures by which a release can be gated, for the evaluate function of an app: import it, or copy this one file into the app.

Every figure is meant to be averaged over a cohort, each member counting by its examples: shares of a member's own examples become
shares of all. So a group or a bin that a member has not is 0 there, never left out: what a member leaves out tells that it has
none. NumPy alone; nothing here knows of a federation. What a job does with the figures: docs/how-to/release.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.floating]
Flags = npt.NDArray[np.bool_]


def group_shares(hits: Flags, groups: Sequence[object], names: Sequence[object]) -> dict[str, float]:
    """For each of ``names``: "hits/NAME", the share of all examples that are hits of this group, and "seen/NAME", its share.

    ``hits``: whether each example was right; ``groups``: the group of each. The ratio of the two sums is the group's accuracy over
    the cohort.
    """
    of_group = [np.array([group == name for group in groups], dtype=bool) for name in names]
    count = max(1, len(hits))
    return {
        **{
            f"hits/{name}": float(np.count_nonzero(hits & mine)) / count
            for name, mine in zip(names, of_group, strict=True)
        },
        **{f"seen/{name}": float(np.count_nonzero(mine)) / count for name, mine in zip(names, of_group, strict=True)},
    }


def calibration_gaps(confidence: Values, hits: Flags, bins: int = 5) -> dict[str, float]:
    """ "gap/0" and so on: of the examples whose confidence lies in a bin, its sum less the hits, over the number of all examples.

    ``confidence``: the probability that the model gave its answer, 0..1; bins are of one width. The absolute values of the cohort's
    gaps, added, are the expected calibration error.
    """
    place = np.minimum((np.asarray(confidence, dtype=np.float64) * bins).astype(int), bins - 1)
    gaps = np.bincount(place, np.asarray(confidence, dtype=np.float64) - hits, bins) / max(1, len(hits))
    return {f"gap/{number}": float(gap) for number, gap in enumerate(gaps)}


def canaries(
    count: int, shape: Sequence[int], classes: int, seed: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Examples that mean nothing: random inputs in 0..1 (``count`` of ``shape``) and random labels. A member trains on the first
    few; those that follow from the same draw, and are trained on by nobody, are what they are ranked among."""
    draw = np.random.default_rng(seed)
    return draw.random((count, *shape), dtype=np.float32), draw.integers(0, classes, count, dtype=np.int64)


def exposure(inserted: Values, reference: Values) -> float:
    """Mean exposure, in bits, of canaries by their losses: log2 of the number of candidates over the rank among them (Carlini
    et al., USENIX Security 2019). 1.44 is expected where nothing is memorised, log2(len(reference) + 1) is the most."""
    ranks = 1 + np.array([np.count_nonzero(np.asarray(reference) <= loss) for loss in inserted])
    return float(np.mean(np.log2(len(reference) + 1) - np.log2(ranks)))


def loss_shares(losses: Values, edges: Sequence[float], family: str) -> dict[str, float]:
    """ "FAMILY/0" and so on: the share of examples whose loss lies below the first of ``edges`` (rising), between the first and the
    second, and so on, and at or above the last. Once for examples that were trained on, once for others."""
    counts = np.bincount(np.searchsorted(np.asarray(edges), losses, side="right"), minlength=len(edges) + 1)
    return {f"{family}/{number}": float(share) for number, share in enumerate(counts / max(1, len(losses)))}
