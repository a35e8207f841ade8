"""Levels, sums and means: bit-exact against plain integers, no wrap at the bound, unbiased, and nothing that is not a
number."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.errors import ProtocolViolation, TaskFailed
from federation.secagg import encoding as codes
from federation.secagg.events import Mask, MaskPlan
from federation.secagg.figures import mean_figures, public_words
from federation.secagg.header import Header, header_words
from federation.secagg.levels import clipped
from federation.secagg.masking import HEADER_INDEX, Keystream
from federation.secagg.merkle import MerkleRoot
from federation.secagg.parameters import Encoding, Terms
from tests.simulation.harness import World, terms_of
from tests.whole import added, encode, mean_of, read_sum

BITS = (8, 16, 32)


def plans_of(n: int, random: np.random.Generator) -> tuple[list[MaskPlan], MaskPlan]:
    """Contributions' plans of n members that all stay, and the plan that unmasks their sum."""
    selves = [random.bytes(32) for _ in range(n)]
    pairs = {(i, j): random.bytes(32) for i in range(n) for j in range(i + 1, n)}
    plans = []
    for i in range(n):
        masks = [Mask(selves[i], +1)]
        masks += [Mask(pairs[min(i, j), max(i, j)], +1 if j > i else -1) for j in range(n) if j != i]
        plans.append(MaskPlan(bytes(32), tuple(masks), random.bytes(32)))
    return plans, MaskPlan(bytes(32), tuple(Mask(seed, -1) for seed in selves))


def summed(
    terms: Terms, code: Encoding, differences: list[np.ndarray], exponent: int, seed: int = 0
) -> tuple[bytes, np.ndarray]:
    """The unmasked sum's bytes, and the plain integer sum of the unmasked levels."""
    random = np.random.default_rng(seed)
    plans, unmask = plans_of(len(differences), random)
    size = differences[0].size
    scales = np.full(code.chunks(size), exponent, np.int8)
    updates = []
    plain = np.zeros(size, np.int64)
    header = Header.of(terms, 1, 0.0, {})
    for difference, plan in zip(differences, plans, strict=True):
        update = b"".join(encode(difference, header, plan, code, scales))
        updates.append(update)
        clear = b"".join(encode(difference, header, MaskPlan(bytes(32), (), plan.dither), code, scales))
        kind = np.dtype(f"<i{code.ring_bits // 8}")
        plain += np.frombuffer(clear[: size * kind.itemsize], kind).astype(np.int64)
    return added(updates, terms, code, unmask), plain


@settings(deadline=None, max_examples=40)
@given(bits=st.sampled_from(BITS), n=st.integers(3, 9), size=st.integers(1, 50), seed=st.integers(0, 2**31))
def test_sums_are_bit_exact_against_plain_integers(bits: int, n: int, size: int, seed: int) -> None:
    terms = terms_of(ring_bits=bits)
    code = codes.encoding_of(terms, n, 1)
    random = np.random.default_rng(seed)
    differences = [random.normal(0, 1, size).astype(np.float32) for _ in range(n)]
    data, plain = summed(terms, code, differences, -3, seed)
    read = read_sum(data, terms, code, n, n, size)
    assert np.array_equal(np.concatenate(list(read.chunks())), plain)
    assert max(abs(int(plain.min())), int(plain.max())) == int(read.peaks.max())


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("n", [3, 5, 10, 100])
@pytest.mark.parametrize("sign", [-1, 1])
def test_all_values_at_the_bound_do_not_wrap(bits: int, n: int, sign: int) -> None:
    terms = terms_of(ring_bits=bits)
    code = codes.encoding_of(terms, n, 1)
    difference = np.full(3, sign * 1e30, np.float32)
    data, plain = summed(terms, code, [difference] * n, 0)
    read = read_sum(data, terms, code, n, n, 3)
    assert plain.tolist() == [sign * n * code.level_bound] * 3
    assert np.concatenate(list(read.chunks())).tolist() == plain.tolist()
    assert read.saturated == 3 * n


@pytest.mark.parametrize("bits", BITS)
def test_rounding_is_unbiased_and_within_one_level(bits: int) -> None:
    terms = terms_of(ring_bits=bits, chunk_parameters=4096)
    code = codes.encoding_of(terms, 3, 1)
    size = 40_000
    difference = np.linspace(-5, 5, size, dtype=np.float32)
    scales = np.zeros(code.chunks(size), np.int8)
    plan = MaskPlan(bytes(32), (), bytes(range(32)))
    header = Header.of(terms, 1, 0.0, {})
    data = b"".join(encode(difference, header, plan, code, scales))
    error = mean_of(read_sum(data, terms, code, 1, 1, size), scales) - difference
    assert np.abs(error).max() < 1.001
    assert abs(error.mean()) < 0.01


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused(bad: float) -> None:
    terms = terms_of()
    code = codes.encoding_of(terms, 3, 1)
    difference = np.zeros(5, np.float32)
    difference[3] = bad
    header = Header.of(terms, 1, 0.0, {})
    with pytest.raises(TaskFailed):
        clipped(difference, 1.0)
    with pytest.raises(TaskFailed):
        list(encode(difference, header, MaskPlan(bytes(32), (), bytes(32)), code, np.zeros(1, np.int8)))
    with pytest.raises(TaskFailed):
        Header.of(terms, 1, 0.0, {"train/loss": bad})


def test_clip_bounds_the_norm_and_tells_its_square() -> None:
    difference = np.array([3, 4], np.float32)
    for norm, wanted, squared in ((10.0, [3, 4], 25.0), (1.0, [0.6, 0.8], 1.0)):
        held, found = clipped(difference, norm)
        assert found == squared
        assert np.allclose(held.part(0, 2, np.empty(2, np.float32)), wanted)
    assert difference.tolist() == [3, 4]


def test_weights_and_metrics_come_out_as_weighted_means() -> None:
    terms = terms_of(metrics=("evaluate/acc", "train/loss"))
    code = codes.encoding_of(terms, 3, 4)
    updates = []
    scales = np.full(1, -8, np.int8)
    values = [(4, 1.0, {"train/loss": 0.5}), (2, 2.0, {"train/loss": 2.0, "evaluate/acc": 0.75}), (1, -4.0, {})]
    for weight, value, metrics in values:
        header = Header.of(terms, weight, 1.0, {**metrics, "train/undeclared": 1.0})
        plan = MaskPlan(bytes(32), (), bytes(32))
        for_sum = encode(np.full(2, value, np.float32), header, plan, code, scales)
        updates.append(b"".join(for_sum))
    read = read_sum(added(updates, terms, code), terms, code, 3, 7, 2)
    assert np.allclose(mean_of(read, scales), (4 * 1 + 2 * 2 - 4) / 7, atol=2**-7)
    assert mean_figures(public_words(read.header, terms), terms) == {
        "evaluate/acc": 0.75,
        "train/loss": pytest.approx(1.0),
    }


@pytest.mark.parametrize(
    ("place", "value", "check"),
    [
        (0, 4, "sum-weight"),
        (1, -1, "sum-header"),
        (2, 1000, "sum-header"),
        (3, 2**60, "sum-header"),
        (4, -1, "sum-header"),
    ],
)
def test_a_header_out_of_range_is_refused(place: int, value: int, check: str) -> None:
    terms = terms_of()
    code = codes.encoding_of(terms, 3, 1)
    words = np.zeros(header_words(terms), "<i8")
    words[0] = 3
    words[place] = value
    with pytest.raises(ProtocolViolation) as refused:
        read_sum(bytes(2) + words.tobytes(), terms, code, 3, 3, 1)
    assert refused.value.check == check


def test_sizes_are_checked() -> None:
    terms = terms_of()
    code = codes.encoding_of(terms, 3, 1)
    for size in (0, 7, codes.update_size(terms, code, 1)):
        with pytest.raises(ProtocolViolation):
            read_sum(bytes(size), terms, code, 3, 3, 2)
    with pytest.raises(ProtocolViolation):
        added([bytes(codes.update_size(terms, code, 2)), bytes(3)], terms, code)


def test_a_scale_outside_the_manifests_bounds_is_refused() -> None:
    terms = terms_of()
    code = codes.encoding_of(terms, 3, 1)
    header = Header.of(terms, 1, 0.0, {})
    plan = MaskPlan(bytes(32), (), bytes(32))
    with pytest.raises(ProtocolViolation):
        list(encode(np.zeros(1, np.float32), header, plan, code, np.full(1, 9, np.int8)))


def test_keystreams_are_aes_256_ctr_with_the_chunk_index_in_the_iv() -> None:
    """The first block of chunk 0 under a zero key is AES-256(0, 0): the vector of FIPS 197's cipher at zero."""
    stream = Keystream(64)
    assert stream.fill(bytes(32), 0, 16).tobytes().hex() == "dc95c078a2408989ad48a21492842087"
    again = stream.fill(bytes(32), HEADER_INDEX, 64).tobytes()
    assert again != stream.fill(bytes(32), 0, 64).tobytes()


@pytest.mark.parametrize("kind", ["<i1", "<i2", "<i4", "<i8"])
def test_a_mask_and_its_opposite_cancel(kind: str) -> None:
    levels = np.arange(-20, 20).astype(kind)
    seed = os.urandom(32)
    masked = levels.copy()
    ring, stream = masked.view(f"<u{masked.itemsize}"), Keystream(masked.nbytes)
    stream.apply(ring, MaskPlan(b"", (Mask(seed, +1),)), 7)
    assert not np.array_equal(masked, levels)
    stream.apply(ring, MaskPlan(b"", (Mask(seed, -1),)), 7)
    assert np.array_equal(masked, levels)


@pytest.mark.parametrize("bits", BITS)
def test_whole_rounds_are_exact_for_every_ring(bits: int) -> None:
    world = World(4, ring_bits=bits, rounds=2, initial_scale_exponent=-1)
    world.begin().run()
    assert len(world.closed) == 2  # the harness compared both with plain integers


def test_the_merkle_root_is_that_of_rfc_6962() -> None:
    from hashlib import sha256

    def leaf(data: bytes) -> bytes:
        return sha256(b"\x00" + data).digest()

    def node(left: bytes, right: bytes) -> bytes:
        return sha256(b"\x01" + left + right).digest()

    a, b, c, d, e = (leaf(letter) for letter in (b"a", b"b", b"c", b"d", b"e"))
    expected = {1: a, 2: node(a, b), 3: node(node(a, b), c), 5: node(node(node(a, b), node(c, d)), e)}
    for count, root in expected.items():
        tree = MerkleRoot()
        for letter in (b"a", b"b", b"c", b"d", b"e")[:count]:
            tree.add(letter)
        assert tree.root() == root
