"""Page: "Shares"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

P = 2**256 + 297


def split(secret: bytes, coefficients: Sequence[int], holders: Sequence[int]) -> dict[int, bytes]:
    """``coefficients``: of x, x^2, ...: one fewer than the threshold."""
    terms = [int.from_bytes(secret, "big"), *coefficients]
    return {x: (sum(term * x**power for power, term in enumerate(terms)) % P).to_bytes(33, "big") for x in holders}


def value_at_zero(shares: Mapping[int, bytes]) -> int:
    total = 0
    for x, share in shares.items():
        above = below = 1
        for other in shares:
            if other != x:
                above, below = above * -other, below * (x - other)
        total += int.from_bytes(share, "big") * above * pow(below, -1, P)
    return total % P


def rebuild(shares: Mapping[int, bytes]) -> bytes | None:
    """None: no 32-byte value, so the dealer split something else."""
    value = value_at_zero(shares)
    return value.to_bytes(32, "big") if value < 2**256 else None
