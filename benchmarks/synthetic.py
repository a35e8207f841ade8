"""Updates that nobody trained: terms, plans of a cohort, models on disk, all from a number, so that processes agree on them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from federation.manifest.strategy import StrategySpec
from federation.secagg import encoding as codes
from federation.secagg.events import Mask, MaskPlan, TagPlan
from federation.secagg.parameters import Encoding, Quorums, Terms
from federation.weights.tensors import head

CONTEXT = hashlib.sha256(b"benchmark").digest()
EXPONENT = -12
AVERAGE = StrategySpec("FedAvg", {})
TILE = 1 << 20
ARRAY = 1 << 26
"""parameters of the largest array of a synthetic model"""


def terms(ring_bits: int = 16) -> Terms:
    return Terms(
        job=bytes(32),
        federation="benchmark",
        rounds=2,
        final_evaluation=False,
        ring_bits=ring_bits,
        clip_norm=1e6,
        weight_cap=1 << 20,
        initial_scale_exponent=EXPONENT if ring_bits == 16 else -26,
        min_scale_exponent=-40,
        max_scale_exponent=8,
        metrics=("train/loss",),
        min_members=3,
        min_jurisdictions=1,
    )


def encoding(terms: Terms, members: int) -> Encoding:
    return codes.encoding_of(terms, members, 1)


def scales(terms: Terms, parameters: int) -> np.ndarray:
    return np.full(-(-parameters // terms.chunk_parameters), terms.initial_scale_exponent, np.int8)


def seed(*what: object) -> bytes:
    return hashlib.sha256(repr(what).encode()).digest()


def blinders(members: int) -> int:
    """Of a cohort in which everybody is ready: |R_r| - m + 1."""
    return members - Quorums.of(members).m + 1


def plan_of(member: int, members: int) -> MaskPlan:
    """A member's (from 0): its self mask, one towards every other, a blind mask where it is its turn; and the sum MAC."""
    masks = [Mask(seed("self", member), +1)]
    for other in range(members):
        if other != member:
            masks.append(Mask(seed("pair", *sorted((member, other))), +1 if other > member else -1))
    if member < blinders(members):
        masks.append(Mask(seed("blind", member), +1))
    tag = TagPlan(seed("group"), (seed("pad", member),))
    return MaskPlan(CONTEXT, tuple(masks), seed("dither", member), tag=tag)


def plan_of_collector(members: Sequence[int], gone: Sequence[int] = ()) -> MaskPlan:
    """What is left on the sum of ``members``: their self masks, and their edges towards who was ready and did not upload."""
    masks = [Mask(seed("self", member), -1) for member in members]
    for member in members:
        masks += [Mask(seed("pair", *sorted((member, other))), -1 if other > member else +1) for other in gone]
    return MaskPlan(CONTEXT, tuple(masks))


def plan_of_sum(members: int, pads: Sequence[int] | None = None) -> MaskPlan:
    """What only members take off. ``pads``: of whom (default: of all)."""
    held = range(members) if pads is None else pads
    tag = TagPlan(seed("group"), tuple(seed("pad", member) for member in held))
    return MaskPlan(CONTEXT, tuple(Mask(seed("blind", member), -1) for member in range(blinders(members))), tag=tag)


def tile(number: int) -> np.ndarray:
    """A million normal numbers, of which a model or a difference is made, over and over."""
    return np.random.default_rng(number).normal(0, 0.01, TILE).astype(np.float32)


def make_model(path: Path, parameters: int, moved_by: int | None = None) -> None:
    """A model of float32 arrays as a worker's file; ``moved_by``: the same, a difference of this number further. Piece by piece."""
    sizes = [min(ARRAY, parameters - start) for start in range(0, parameters, ARRAY)]
    shapes = {f"layer.{place}": np.broadcast_to(np.float32(0), size) for place, size in enumerate(sizes)}
    base = tile(0)
    values = base if moved_by is None else base + tile(1 + moved_by)
    with path.open("wb") as stream:
        stream.write(head(shapes))
        for start in range(0, parameters, TILE):
            stream.write(values[: min(TILE, parameters - start)].data)


def make_update(path: Path, size: int) -> None:
    """Bytes as good as masked ones, for a collector that adds them."""
    block = os.urandom(1 << 20)
    with path.open("wb") as stream:
        for start in range(0, size, len(block)):
            stream.write(block[: min(len(block), size - start)])
