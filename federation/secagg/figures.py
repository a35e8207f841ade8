"""The figures of a round that people may see: the sums of the declared metrics, as q members sign them in receipts.

A metric takes two words of the header: value times share, and share, both summed over the cohort (2^-32). So curves are
seen where the coordinator is blind, and nobody need believe it where it is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from federation.secagg.parameters import FIXED_WORDS, Terms


def public_words(header: Sequence[int], terms: Terms) -> tuple[int, ...]:
    """Of the header of a sum."""
    return tuple(header[FIXED_WORDS : FIXED_WORDS + 2 * len(terms.metrics)])


def mean_figures(words: Sequence[int], terms: Terms) -> dict[str, float]:
    """Weighted means of the metrics that at least one member had; of words that a receipt carries."""
    pairs = zip(words[::2], words[1::2], terms.metrics, strict=True)
    return {name: value / share for value, share, name in pairs if share > 0}


def exact_means(words: Sequence[int], terms: Terms) -> dict[str, Fraction]:
    """The same without rounding, for what all parties must decide alike."""
    pairs = zip(words[::2], words[1::2], terms.metrics, strict=True)
    return {name: Fraction(value, share) for value, share, name in pairs if share > 0}
