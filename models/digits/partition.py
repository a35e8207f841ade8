"""Spreads scikit-learn's digits over members as unevenly as real archives are.

The data: 1,797 scans of 8 x 8 pixels (E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI 1998, CC BY 4.0),
as scikit-learn ships them. A fifth, stratified by class, is held out for judging and trains nobody. The scans of each class are
dealt to the members by a Dirichlet(0.3) draw. SEED is the smallest seed for which, with five members, none holds more than seven
classes and none fewer than 50 scans (``search`` finds it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

CONCENTRATION = 0.3
SEED = 355
HELD_OUT = 0.2
MOST_CLASSES = 7
FEWEST_SCANS = 50

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Shard:
    path: Path
    examples: int
    classes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Scans:
    images: Array
    """float32[n, 1, 8, 8], 0..1"""
    labels: Array
    """int64[n]"""


def load() -> tuple[Scans, Scans]:
    """(for the members, held out): fixed, stratified by class."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = (found.images / 16.0).astype(np.float32).reshape(-1, 1, 8, 8)
    labels = found.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(labels))
    held = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        mine = order[labels[order] == digit]
        held[mine[: round(HELD_OUT * len(mine))]] = True
    return Scans(images[~held], labels[~held]), Scans(images[held], labels[held])


def deal(labels: Array, members: int, seed: int) -> list[Array]:
    """Indices of each member's scans."""
    generator = np.random.default_rng(seed)
    hands: list[list[Array]] = [[] for _ in range(members)]
    for digit in range(10):
        mine = generator.permutation(np.flatnonzero(labels == digit))
        shares = np.cumsum(generator.dirichlet([CONCENTRATION] * members))[:-1]
        for hand, part in zip(hands, np.split(mine, np.rint(shares * len(mine)).astype(int)), strict=True):
            hand.append(part)
    return [np.sort(np.concatenate(hand)) for hand in hands]


def fits(labels: Array, hands: Sequence[Array]) -> bool:
    return all(len(hand) >= FEWEST_SCANS and len(set(labels[hand].tolist())) <= MOST_CLASSES for hand in hands)


def search(members: int = 5, tries: int = 100_000) -> int:
    """The smallest seed that fits."""
    labels = load()[0].labels
    return next(seed for seed in range(tries) if fits(labels, deal(labels, members, seed)))


def write(folder: Path, members: Sequence[str]) -> dict[str, Shard]:
    """Writes each member's own folder and the held-out scans; returns who holds what."""
    scans, held = load()
    shards: dict[str, Shard] = {}
    for member, hand in zip(members, deal(scans.labels, len(members), SEED), strict=True):
        place = folder / member
        _save(place, Scans(scans.images[hand], scans.labels[hand]))
        shards[member] = Shard(place, len(hand), tuple(sorted(set(scans.labels[hand].tolist()))))
    _save(folder / "held-out", held)
    return shards


def held_out(folder: Path) -> Scans:
    return read(folder / "held-out")


def read(place: Path) -> Scans:
    with np.load(place / "scans.npz", allow_pickle=False) as found:
        return Scans(found["images"], found["labels"])


def _save(place: Path, scans: Scans) -> None:
    place.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(place / "scans.npz", images=scans.images, labels=scans.labels)
