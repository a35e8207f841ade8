"""Page: "Parameters"."""

from __future__ import annotations

from typing import NamedTuple


class Quorums(NamedTuple):
    n: int
    f: int
    q: int
    t: int
    m: int


def quorums(n: int) -> Quorums:
    f = (n - 1) // 3
    q = (n + f) // 2 + 1
    two_thirds = (2 * n + 2) // 3
    return Quorums(n, f, q, n - q + f + 1, max(3, f + 2, two_thirds))


def level_bound(bits: int, n: int) -> int:
    return (2 ** (bits - 1) - 1) // n
