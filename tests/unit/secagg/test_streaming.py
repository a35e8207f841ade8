"""What streams gives the same bits as what does not, on one thread as on several, and holds nothing of the model's size."""

from __future__ import annotations

import threading
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.errors import ProtocolViolation, TaskFailed
from federation.secagg import encoding as codes
from federation.secagg.events import Mask, MaskPlan, TagPlan
from federation.secagg.header import Header, header_words
from federation.secagg.lanes import in_order, stations_for
from federation.secagg.levels import clipped
from federation.secagg.merkle import MerkleRoot
from federation.secagg.opening import open_sum
from federation.secagg.parameters import Encoding, Terms
from federation.secagg.summing import InMemory, View, root_of, sum_of
from federation.weights.layout import Difference
from tests.simulation.harness import terms_of
from tests.unit.secagg import plain_encoding as plain
from tests.whole import encode, mean_of

CHUNK = 128
BITS = (8, 16, 32)
LANES = (1, 2, 3)


def plan_of(dice: np.random.Generator, masks: int = 3, *, tag: bool = True) -> MaskPlan:
    tagged = TagPlan(dice.bytes(32), (dice.bytes(32),)) if tag else None
    signs = [Mask(dice.bytes(32), +1 if place % 2 else -1) for place in range(masks)]
    return MaskPlan(bytes(32), tuple(signs), dice.bytes(32), tag=tagged)


def models(dice: np.random.Generator, sizes: list[int], kinds: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    base = {
        f"a{place}": (dice.normal(size=size) * 10).astype(kind)
        for place, (size, kind) in enumerate(zip(sizes, kinds, strict=True))
    }
    moved = {
        name: (array + np.asarray(dice.normal(size=array.shape))).astype(array.dtype) for name, array in base.items()
    }
    return moved, base


def setting(bits: int, chunk: int = CHUNK) -> tuple[Terms, Encoding]:
    terms = terms_of(ring_bits=bits, chunk_parameters=chunk)
    return terms, codes.encoding_of(terms, 5, 4)


@settings(deadline=None, max_examples=60)
@given(
    bits=st.sampled_from(BITS),
    lanes=st.sampled_from(LANES),
    sizes=st.lists(st.integers(0, 700), min_size=1, max_size=5).filter(any),
    kinds=st.lists(st.sampled_from(["<f2", "<f4", "<f8", "<i8"]), min_size=5, max_size=5),
    exponent=st.integers(-8, 3),
    norm=st.sampled_from([0.5, 5.0, 1e6]),
    weight=st.sampled_from([1, 2, 3, 4]),
    seed=st.integers(0, 2**31),
)
def test_an_update_is_that_of_whole_arrays_to_the_bit(
    bits: int, lanes: int, sizes: list[int], kinds: list[str], exponent: int, norm: float, weight: int, seed: int
) -> None:
    """From two models to masked bytes, leaves and root: any arrays, any ring, clipped or not, saturated or not."""
    dice = np.random.default_rng(seed)
    kinds = ["<f4", *kinds[1 : len(sizes)]]
    sizes[0] = max(1, sizes[0])
    trained, base = models(dice, sizes, kinds)
    terms, code = setting(bits)
    values, squared = plain.clip(plain.difference(trained, base), norm)
    scales = np.full(code.chunks(values.size), exponent, np.int8)
    scales[::2] -= 1
    plan = plan_of(dice)
    wanted = plain.update(values, Header.of(terms, weight, squared, {}), plan, code, scales)

    source, norm_squared = clipped(Difference(trained, base), norm, lanes)
    assert norm_squared == squared
    header = Header.of(terms, weight, norm_squared, {})
    tree, given = MerkleRoot(), MerkleRoot()
    pieces = []
    for piece in codes.pieces_of(source, header, plan, code, scales, lanes=lanes):
        tree.add_leaf(piece.leaf)
        given.add(piece.data)
        pieces.append(bytes(piece.data))
    assert pieces == wanted
    assert tree.root() == given.root() == plain.root_of(b"".join(wanted), terms, code)
    assert sum(map(len, wanted)) == codes.update_size(terms, code, values.size)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("lanes", LANES)
def test_values_at_every_edge_are_rounded_as_they_are_defined(bits: int, lanes: int) -> None:
    """Bounds, zeros, the smallest and the largest numbers: also those that only the shift into fixed point would overflow."""
    edge = float(codes.encoding_of(terms_of(ring_bits=bits), 5, 4).level_bound)
    tiny, huge = np.finfo(np.float32).tiny, np.finfo(np.float32).max
    numbers = [0.0, -0.0, edge, -edge, edge - 0.5, 0.5 - edge, edge + 1, tiny, -tiny, tiny / 8, 1.5, -1.5, 2**-17]
    values = np.array([*numbers, *(number / 2 for number in numbers)] * 40, np.float32)
    terms, code = setting(bits)
    for extreme in (0.0, 2.0**120, huge):
        held = values.copy()
        held[CHUNK + 3] = extreme
        for exponent in (0, 3):
            scales = np.full(code.chunks(held.size), exponent, np.int8)
            plan = plan_of(np.random.default_rng(1), masks=0)
            header = Header.of(terms, 4, 1.0, {})
            wanted = plain.update(held, header, plan, code, scales)
            assert list(encode(held, header, plan, code, scales, lanes=lanes)) == wanted


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 5 * CHUNK + 1, 40 * CHUNK - 1])
def test_what_is_no_number_is_refused_wherever_it_stands(lanes: int, bad: float, place: int) -> None:
    terms, code = setting(16)
    base = {"w": np.zeros(40 * CHUNK, np.float32)}
    trained = {"w": base["w"].copy()}
    trained["w"][place] = bad
    with pytest.raises(TaskFailed):
        clipped(Difference(trained, base), 1.0, lanes)
    header = Header.of(terms, 1, 0.0, {})
    with pytest.raises(TaskFailed):
        list(encode(trained["w"], header, plan_of(np.random.default_rng(0)), code, np.zeros(40, np.int8), lanes=lanes))


@pytest.mark.parametrize("lanes", LANES)
def test_a_consumer_that_stops_leaves_no_thread(lanes: int) -> None:
    terms, code = setting(16)
    before = set(threading.enumerate())
    pieces = codes.pieces_of(
        np.ones(100 * CHUNK, np.float32),
        Header.of(terms, 1, 1.0, {}),
        plan_of(np.random.default_rng(0)),
        code,
        np.zeros(100, np.int8),
        lanes=lanes,
    )
    next(pieces)
    pieces.close()
    assert set(threading.enumerate()) == before


class Large:
    """A difference that is nowhere: each part is computed when it is asked for."""

    def __init__(self, size: int) -> None:
        self.size = size

    def part(self, start: int, stop: int, out: Any) -> Any:
        held = out[: stop - start]
        held.fill(np.float32((start % 7) * 0.1))
        return held


@settings(deadline=None, max_examples=60)
@given(
    bits=st.sampled_from(BITS),
    lanes=st.sampled_from(LANES),
    members=st.integers(1, 6),
    size=st.integers(0, 11 * CHUNK),
    masks=st.integers(0, 3),
    seed=st.integers(0, 2**31),
)
def test_a_sum_is_that_of_whole_buffers_to_the_bit(
    bits: int, lanes: int, members: int, size: int, masks: int, seed: int
) -> None:
    """The coordinator's: added and unmasked; and the members': opened, judged, divided. Against the accumulator."""
    dice = np.random.default_rng(seed)
    terms, code = setting(bits)
    group, scales = dice.bytes(32), np.zeros(code.chunks(size), np.int8)
    blind = tuple(Mask(dice.bytes(32), -1) for _ in range(masks))
    updates, selves, pads = [], [], []
    for member in range(members):
        own, pad = dice.bytes(32), dice.bytes(32)
        on = tuple(Mask(mask.seed, +1) for mask in blind) if member == 0 else ()
        plan = MaskPlan(bytes(32), (Mask(own, +1), *on), dice.bytes(32), tag=TagPlan(group, (pad,)))
        values = dice.normal(size=size).astype(np.float32)
        updates.append(b"".join(encode(values, Header.of(terms, 1, 0.5, {}), plan, code, scales)))
        selves.append(Mask(own, -1))
        pads.append(pad)
    total = plain.Accumulator(terms, code, size)
    for update in updates:
        total.add(update)
    unmask = MaskPlan(bytes(32), tuple(selves))
    total.unmask(unmask)
    stored = [InMemory(update) for update in updates]
    found = b"".join(bytes(piece) for piece in sum_of(stored, unmask, terms, code, None, lanes))
    assert found == bytes(total.data)
    for update, one in zip(updates, stored, strict=True):
        assert root_of(one, terms, code, lanes) == plain.root_of(update, terms, code)

    plan = MaskPlan(bytes(32), blind, b"", tag=TagPlan(group, tuple(pads)))
    plain_sum = open_sum(found, plan, terms, code, members, members, size)
    opened = open_sum(found, plan, terms, code, members, members, size, lanes)
    assert opened.header == plain_sum.header
    assert opened.peaks.tolist() == plain_sum.peaks.tolist()
    assert b"".join(map(bytes, opened.chunks())) == b"".join(map(bytes, plain_sum.chunks()))
    assert mean_of(opened, scales).tobytes() == mean_of(plain_sum, scales).tobytes()


@pytest.mark.parametrize("lanes", LANES)
def test_a_collector_that_sees_the_sum_judges_it_piece_by_piece(lanes: int) -> None:
    terms, code = setting(16)
    words = header_words(terms)
    header = np.zeros(words, "<i8")
    header[0] = 3
    for place in (0, 7 * CHUNK + 5, 12 * CHUNK - 1):
        levels = np.zeros(12 * CHUNK, "<i2")
        levels[place] = 3 * code.level_bound
        good = InMemory(levels.tobytes() + header.tobytes())
        plan = MaskPlan(b"", ())
        assert b"".join(map(bytes, sum_of([good], plan, terms, code, View(3, 3), lanes))) == good.data
        levels[place] += 1
        bad = InMemory(levels.tobytes() + header.tobytes())
        for _ in sum_of([bad], plan, terms, code, None, lanes):
            pass
        with pytest.raises(ProtocolViolation) as refused:
            list(sum_of([bad], plan, terms, code, View(3, 3), lanes))
        assert refused.value.check == "sum-range"
    with pytest.raises(ProtocolViolation) as refused:
        list(sum_of([good], plan, terms, code, View(3, 4), lanes))
    assert refused.value.check == "sum-weight"


@pytest.mark.parametrize("sizes", [[], [0], [7], [1000, 1002], [1000, 998]])
def test_updates_of_other_sizes_make_no_sum(sizes: list[int]) -> None:
    terms, code = setting(16)
    with pytest.raises(ProtocolViolation):
        list(sum_of([InMemory(bytes(size)) for size in sizes], MaskPlan(b"", ()), terms, code))


def peak_of(size: int, bits: int, lanes: int = 2) -> int:
    terms, code = setting(bits, 1 << 16)
    tracemalloc.start()
    try:
        source, squared = clipped(Large(size), 1e6, lanes)
        header = Header.of(terms, 1, squared, {})
        scales = np.zeros(code.chunks(size), np.int8)
        for _ in codes.pieces_of(source, header, plan_of(np.random.default_rng(0), masks=1), code, scales, lanes=lanes):
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("bits", BITS)
def test_memory_does_not_grow_with_the_model(bits: int) -> None:
    """Attack 36, the member's side: at most 64 MiB, and no more for twice the model."""
    small, large = peak_of(4 << 20, bits), peak_of(8 << 20, bits)
    assert large < 64 << 20
    assert large < small * 1.1


@pytest.mark.parametrize("bits", [16, 32])
def test_memory_is_within_bounds_on_as_many_threads_as_a_member_ever_has(bits: int) -> None:
    """With room for what the interpreter and its threads take besides (about 8 MiB where it was measured)."""
    assert peak_of(6 << 20, bits, 4) < 54 << 20


class Endless:
    """An update that is nowhere."""

    def __init__(self, size: int) -> None:
        self.size = size

    def read(self, start: int, out: memoryview) -> None:
        out[:] = bytes(len(out))


def peak_of_sum(members: int, parameters: int) -> int:
    terms, code = setting(16, 1 << 16)
    tracemalloc.start()
    try:
        size = codes.update_size(terms, code, parameters)
        plan = MaskPlan(bytes(32), tuple(Mask(bytes([member]) * 32, -1) for member in range(members)))
        for _ in sum_of([Endless(size)] * members, plan, terms, code, None, 2):
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_grows_neither_with_the_members_nor_with_the_model() -> None:
    """Attack 36, the coordinator's side."""
    small = peak_of_sum(3, 1 << 20)
    assert small < 16 << 20
    assert peak_of_sum(20, 2 << 20) < small * 1.2


@settings(deadline=None, max_examples=40)
@given(lanes=st.integers(1, 4), count=st.integers(0, 20))
def test_lanes_give_results_in_order_and_share_no_station(lanes: int, count: int) -> None:
    stations = [[] for _ in range(stations_for(lanes, count))]
    busy: set[int] = set()

    def work(station: list[int], index: int) -> list[int]:
        assert id(station) not in busy
        busy.add(id(station))
        station[:] = [index]
        busy.discard(id(station))
        return station

    assert [result[0] for result in in_order(stations, work, count)] == list(range(count))


@pytest.mark.parametrize("lanes", LANES)
def test_what_fails_in_a_lane_is_raised_in_its_place(lanes: int) -> None:
    def work(station: None, index: int) -> int:
        if index == 5:
            raise TaskFailed("The sixth fails.", hint="")
        return index

    seen: list[int] = []
    results = in_order([None] * stations_for(lanes, 9), work, 9)
    with pytest.raises(TaskFailed, match="sixth"):
        seen.extend(results)
    assert seen == [0, 1, 2, 3, 4]
