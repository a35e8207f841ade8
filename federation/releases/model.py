"""The final model in two files, each in one encoding: the weights alone, for everybody's tools, and the whole state, whose digest
the members signed (federation.weights.tensors)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from federation.weights.state import OPTIMISER, SCALES, WEIGHTS, ModelState
from federation.weights.tensors import Array, encode


def model_pieces(state: ModelState) -> Iterator[bytes | memoryview]:
    """model.safetensors."""
    return encode(state.arrays)


def state_pieces(state: ModelState) -> Iterator[bytes | memoryview]:
    """state.safetensors, as ``federation.weights.state.write_state`` writes it."""
    arrays: dict[str, Array] = {WEIGHTS + name: array for name, array in state.arrays.items()}
    arrays |= {OPTIMISER + name: array for name, array in state.optimiser.items()}
    arrays[SCALES] = state.scales
    return encode(arrays, {"round": str(state.round)})


def digest_of_pieces(pieces: Iterator[bytes | memoryview]) -> bytes:
    hasher = hashlib.sha256()
    for piece in pieces:
        hasher.update(piece)
    return hasher.digest()
