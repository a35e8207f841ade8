"""What somebody who sees everything but the honest members' disks can work out of it: linear algebra over the masks.

An observation is one masked upload: the member's vector x and every mask on it, each with its sign. Masks whose seeds are
known are taken off; the others are unknowns of their own, uniform and independent, since a keystream of an unknown seed
is. So a combination of observations says something of the vectors exactly when every unknown mask cancels in it. The
vectors of one member in two attempts at one state are the same unknown, as a lab trains on the same data.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

PRIME = (1 << 61) - 1

Row = dict[Hashable, int]


@dataclass(frozen=True, slots=True)
class Vector:
    """An honest member's unknown: what it would add to the sum from this state."""

    member: str
    state: bytes


@dataclass(frozen=True, slots=True)
class Observation:
    vector: Vector
    masks: tuple[tuple[bytes, int], ...]
    """(seed, sign)"""


def _minus(row: Row, factor: int, other: Row) -> None:
    for key, value in other.items():
        left = (row.get(key, 0) - factor * value) % PRIME
        if left:
            row[key] = left
        else:
            row.pop(key, None)


def _eliminate(rows: list[Row], columns: Iterable[Hashable]) -> tuple[list[Row], list[Row]]:
    """(rows with a pivot among ``columns``, reduced; the rows without any of them)"""
    pivots: list[Row] = []
    for column in columns:
        found = next((row for row in rows if column in row), None)
        if found is None:
            continue
        rows = [row for row in rows if row is not found]
        inverse = pow(found[column], -1, PRIME)
        found = {key: value * inverse % PRIME for key, value in found.items()}
        for row in (*rows, *pivots):
            if column in row:
                _minus(row, row[column], found)
        pivots.append(found)
    return pivots, [row for row in rows if row]


def determined(observations: Iterable[Observation], known: set[bytes]) -> list[Mapping[Vector, int]]:
    """A basis, in reduced echelon form, of the combinations of vectors that the observations determine."""
    rows: list[Row] = []
    for seen in set(observations):
        row: Row = {seen.vector: 1}
        for seed, sign in seen.masks:
            if seed not in known:
                row[seed] = (row.get(seed, 0) + sign) % PRIME
        rows.append({key: value for key, value in row.items() if value})
    seeds = sorted({key for row in rows for key in row if isinstance(key, bytes)})
    _, free = _eliminate(rows, seeds)
    vectors = sorted(
        {key for row in free for key in row if isinstance(key, Vector)}, key=lambda each: (each.state, each.member)
    )
    basis, _ = _eliminate(free, vectors)
    return [{key: value for key, value in row.items() if isinstance(key, Vector)} for row in basis]
