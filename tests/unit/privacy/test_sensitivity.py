"""No member moves a sum further than its sensitivity, rounding included."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.privacy.sensitivity import rounded_bound, squared_norm


@settings(deadline=None, max_examples=200)
@given(norm=st.floats(0.01, 1e4), parameters=st.integers(1, 1 << 40))
def test_the_bound_lies_between_no_rounding_and_all_of_it(norm: float, parameters: int) -> None:
    bound = rounded_bound(norm, parameters)
    assert norm <= bound <= norm + math.sqrt(parameters)
    assert bound <= rounded_bound(norm * 1.01, parameters)


@pytest.mark.parametrize("norm", [0.5, 30.0, 3000.0])
@pytest.mark.parametrize("kind", ["even", "halves", "one"])
def test_rounding_stays_within_the_bound(norm: float, kind: str) -> None:
    """Vectors that rounding favours: 500 roundings each, none beyond the bound, whose chance is below 2^-20 each."""
    random = np.random.default_rng(7)
    size = 2000
    vector = {
        "even": np.full(size, norm / math.sqrt(size)),
        "halves": np.floor(norm / math.sqrt(size)) + np.full(size, 0.5),
        "one": np.eye(1, size)[0] * norm,
    }[kind]
    vector *= min(1.0, norm / np.linalg.norm(vector))
    bound = rounded_bound(norm, size)
    for _ in range(500):
        rounded = np.floor(vector + random.random(size)).astype(np.int32)
        assert squared_norm([rounded]) <= bound * bound


def test_norms_are_never_too_small() -> None:
    random = np.random.default_rng(1)
    for kind, top in ((np.int8, 127), (np.int16, 32767), (np.int32, 2**31 - 1)):
        chunks = [random.integers(-top, top, 5000).astype(kind) for _ in range(3)]
        true = sum(int(value) ** 2 for chunk in chunks for value in chunk.tolist())
        assert true <= squared_norm(chunks) <= true * (1 + 2**-29)
    assert squared_norm([]) == 0.0
