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
from federation.weights.tensors import Array, read_file, write_arrays

LABEL: Final = "concord/state/v1"
WEIGHTS_LABEL: Final = "concord/weights/v1"
SCALES: Final = "scales"
WEIGHTS: Final = "weights/"
OPTIMISER: Final = "optimiser/"


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
            hasher = hashlib.sha256(transcript(LABEL, self.round, len(self.arrays), len(self.optimiser)))
            _absorb(hasher, self.arrays)
            _absorb(hasher, self.optimiser)
            hasher.update(transcript("scales", self.scales.tobytes()))
            self._digest.append(hasher.digest())
        return self._digest[0]

    def weights_digest(self) -> bytes:
        """Of the model alone: two states of other rounds, jobs or optimisers may hold the same one."""
        hasher = hashlib.sha256(transcript(WEIGHTS_LABEL, len(self.arrays)))
        _absorb(hasher, self.arrays)
        return hasher.digest()


def _absorb(hasher: hashlib._Hash, arrays: dict[str, Array]) -> None:
    for name, array in arrays.items():
        hasher.update(transcript("array", name, array.dtype.newbyteorder("<").str, *array.shape))
        flat = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(-1)
        if flat.nbytes:
            hasher.update(flat.view(np.uint8).data)


def write_state(path: Path, state: ModelState) -> None:
    """One safetensors file: weights/<name>, optimiser/<name>, scales, and the round in the metadata."""
    arrays: dict[str, Array] = {WEIGHTS + name: array for name, array in state.arrays.items()}
    arrays |= {OPTIMISER + name: array for name, array in state.optimiser.items()}
    arrays[SCALES] = state.scales
    write_arrays(path, arrays, {"round": str(state.round)})


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
