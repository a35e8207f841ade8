"""Shamir shares over GF(p), p = 2^256 + 297: t of n rebuild a 32-byte secret, fewer learn nothing of it.

A share is 33 bytes, big-endian, at x = the holder's index. (docs/protocol/secure-aggregation.md, "Shares".)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from federation.errors import ProtocolViolation

PRIME: Final = 2**256 + 297
SECRET_BYTES: Final = 32
SHARE_BYTES: Final = 33


def _uniform(random: Callable[[int], bytes]) -> int:
    """Uniform in GF(p): 48 bytes leave a bias below 2^-127."""
    return int.from_bytes(random(48), "big") % PRIME


def split(secret: bytes, threshold: int, holders: Sequence[int], random: Callable[[int], bytes]) -> dict[int, bytes]:
    """One share for each holder, from a fresh polynomial of degree ``threshold - 1``."""
    coefficients = [int.from_bytes(secret, "big"), *(_uniform(random) for _ in range(threshold - 1))]
    shares = {}
    for x in holders:
        value = 0
        for coefficient in reversed(coefficients):
            value = (value * x + coefficient) % PRIME
        shares[x] = value.to_bytes(SHARE_BYTES, "big")
    return shares


@lru_cache(maxsize=32)
def lagrange(holders: tuple[int, ...]) -> Mapping[int, int]:
    """The weight of each holder's share in the secret; the same for every secret that these holders rebuild, so it is kept."""
    weights = {}
    for x in holders:
        above = below = 1
        for other in holders:
            if other != x:
                above = above * other % PRIME
                below = below * (other - x) % PRIME
        weights[x] = above * pow(below, -1, PRIME) % PRIME
    return MappingProxyType(weights)


def rebuild(shares: Mapping[int, bytes]) -> bytes:
    """The secret, from exactly as many shares as the threshold. Raises ProtocolViolation when it is no 32-byte
    value."""
    weights = lagrange(tuple(shares))
    value = sum(weights[x] * int.from_bytes(share, "big") for x, share in shares.items()) % PRIME
    if value >> (8 * SECRET_BYTES):
        raise ProtocolViolation(
            "The shares do not rebuild a seed: the dealer split a wrong value.", check="secret-range"
        )
    return value.to_bytes(SECRET_BYTES, "big")
