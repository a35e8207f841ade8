"""state_r: what every member must hold alike before round r — weights, the outer optimiser's state, the scales of the chunks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from federation.errors import VerificationFailed
from federation.identity.keys import transcript
from federation.sealing import sealed_size
from federation.weights.layout import rest_limit
from federation.weights.tensors import HEADER_LIMIT, Array, head, read_file, write_arrays

LABEL: Final = "concord/state/v1"
WEIGHTS_LABEL: Final = "concord/weights/v1"
SCALES: Final = "scales"
WEIGHTS: Final = "weights/"
OPTIMISER: Final = "optimiser/"
MOST_MOMENTS: Final = 2
"""arrays that a strategy keeps beside each of the model's"""
LARGEST_NUMBER: Final = 8
"""bytes of a float64"""
MAX_FILE: Final = 64 << 30
"""whatever the model"""


@dataclass(frozen=True, slots=True)
class ModelState:
    round: int
    """the round that this state is the input of"""
    arrays: dict[str, Array]
    """the model, in the order of the app's ArrayRecord"""
    optimiser: dict[str, Array]
    """"momentum_vector/<name>", "m_t/<name>", "v_t/<name>\""""
    scales: npt.NDArray[np.int8]
    """exponent of each chunk: a level stands for 2^exponent"""
    _digest: list[bytes] = field(default_factory=list, repr=False, compare=False)

    def digest(self) -> bytes:
        """H(state_r): SHA-256 over the label, r, each array's name, type, shape and bytes in order, and the scales."""
        if not self._digest:
            whole = StateDigest(self.round, len(self.arrays), len(self.optimiser))
            whole.add_all(self.arrays)
            whole.add_all(self.optimiser)
            self._digest.append(whole.end(self.scales))
        return self._digest[0]

    def weights_digest(self) -> bytes:
        """Of the model alone: two states of other rounds, jobs or optimisers may hold the same one."""
        whole = _ArraysDigest(transcript(WEIGHTS_LABEL, len(self.arrays)))
        whole.add_all(self.arrays)
        return whole.digest()


class _ArraysDigest:
    """Of arrays that come one after another, each in parts."""

    def __init__(self, start: bytes) -> None:
        self._hasher = hashlib.sha256(start)

    def begin(self, name: str, like: Array) -> None:
        """``like``: an array of its type and shape."""
        self._hasher.update(transcript("array", name, like.dtype.newbyteorder("<").str, *like.shape))

    def add(self, part: Array) -> None:
        """Contiguous and little-endian."""
        if part.nbytes:
            self._hasher.update(part.view(np.uint8).data)

    def add_all(self, arrays: dict[str, Array]) -> None:
        for name, array in arrays.items():
            self.begin(name, array)
            self.add(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(-1))

    def digest(self) -> bytes:
        return self._hasher.digest()


class StateDigest(_ArraysDigest):
    """H(state_r) of a state whose arrays come one after another, each in parts: ``begin`` it, ``add`` them; then ``end``."""

    def __init__(self, round_number: int, arrays: int, optimiser: int) -> None:
        super().__init__(transcript(LABEL, round_number, arrays, optimiser))

    def end(self, scales: npt.NDArray[np.int8]) -> bytes:
        self._hasher.update(transcript("scales", scales.tobytes()))
        return self.digest()


def file_limit(parameters: int) -> int:
    """Bytes that the file of a state has at most, in clear or sealed, of a model of so many summed numbers: who asks for one, and
    who fetches it, knows no more of it."""
    numbers = (1 + MOST_MOMENTS) * LARGEST_NUMBER * parameters
    clear = 8 + HEADER_LIMIT + numbers + rest_limit(parameters) + parameters  # scales: one byte a chunk
    return min(sealed_size(clear), MAX_FILE)


def write_state(path: Path, state: ModelState) -> None:
    """One safetensors file: weights/<name>, optimiser/<name>, scales, and the round in the metadata."""
    write_arrays(path, _filed(state), _metadata(state.round))


def state_head(state: ModelState) -> bytes:
    """How the file of a state of these types and shapes begins; the arrays follow, then the scales."""
    return head(_filed(state), _metadata(state.round))


def _filed(state: ModelState) -> dict[str, Array]:
    arrays: dict[str, Array] = {WEIGHTS + name: array for name, array in state.arrays.items()}
    arrays |= {OPTIMISER + name: array for name, array in state.optimiser.items()}
    arrays[SCALES] = state.scales
    return arrays


def _metadata(round_number: int) -> dict[str, str]:
    return {"round": str(round_number)}


def read_state(path: Path) -> ModelState:
    """Maps the file; whether it is the right state only its digest tells. Raises VerificationFailed."""
    found, metadata = read_file(path)
    scales: Any = found.pop(SCALES, None)
    text = metadata.get("round", "")
    if scales is None or scales.dtype != np.int8 or scales.ndim != 1 or not text.isdecimal() or len(text) > 9:
        raise VerificationFailed(f"{path.name} is not a state file.", hint="Fetch it again.")
    arrays = {name.removeprefix(WEIGHTS): array for name, array in found.items() if name.startswith(WEIGHTS)}
    optimiser = {name.removeprefix(OPTIMISER): array for name, array in found.items() if name.startswith(OPTIMISER)}
    if len(arrays) + len(optimiser) != len(found):
        raise VerificationFailed(f"{path.name} holds arrays that are neither weights nor optimiser state.")
    return ModelState(int(text), arrays, optimiser, scales)
