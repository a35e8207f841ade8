"""Attacks on the sum itself, through the machines: altered, scaled or reduced (16), a prime added (39), crafted for members that
hold different models (14), overflowed by a member (27); and the faults that must not alter it: values at the bound (33), every ring
(34), a large model (36)."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from federation.errors import ProtocolViolation
from federation.secagg import encoding as codes
from federation.secagg.events import Contribute, Encoded, Mask, MaskPlan, SumReady, TagPlan
from federation.secagg.header import Header, header_words
from federation.secagg.opening import open_sum
from federation.secagg.parameters import Encoding, Quorums
from tests.attacks.forging import Workshop, run_until
from tests.simulation.harness import INITIAL, Lab, World, terms_of
from tests.simulation.stand_ins import Quick
from tests.whole import added, encode, read_sum, root_of

Alter = Callable[["Altering", bytes], bytes]


class Altering(Quick):
    """Its coordinator publishes another sum than the members' uploads give, ``times`` times."""

    def __init__(self, alter: Alter, times: int, **changes: Any) -> None:
        self.alter, self.left = alter, times
        self.reasons: list[str] = []
        super().__init__(5, **{"rounds": 2, "size": 20, "chunk_parameters": 8, **changes})

    def tell_collector(self, event: Any) -> None:
        if isinstance(event, SumReady) and self.left:
            self.left -= 1
            data = self.alter(self, self.sums[event.blob])
            blob = hashlib.sha256(data).digest()
            self.sums[blob] = data
            event = replace(event, blob=blob, size=len(data))
        super().tell_collector(event)

    def deliver(self, name: str, event: Any) -> None:
        if type(event).__name__ == "SumRefused":
            self.reasons.append(event.reason)
        super().deliver(name, event)

    def moved(self, data: bytes, place: int, by: int) -> bytes:
        """One element, mod 2^B."""
        width, found = self.terms.ring_bits // 8, bytearray(data)
        at = place * width
        value = (int.from_bytes(found[at : at + width], "little") + by) % (1 << 8 * width)
        found[at : at + width] = value.to_bytes(width, "little")
        return bytes(found)

    def times(self, data: bytes, factor: int) -> bytes:
        """Every element and every word of the header."""
        body = len(data) - 8 * header_words(self.terms)
        ring = np.frombuffer(data[:body], f"<u{self.terms.ring_bits // 8}")
        header = np.frombuffer(data[body:], "<u8")
        ring = ring * ring.dtype.type(factor % (1 << self.terms.ring_bits))
        return ring.tobytes() + (header * np.uint64(factor % (1 << 64))).tobytes()

    def without(self, data: bytes, index: int) -> bytes:
        """Less the upload of one member, whose masks stay on it or are taken off."""
        update = next(iter(self.updates.values()))[index]
        body = len(data) - 8 * header_words(self.terms)
        kind = f"<u{self.terms.ring_bits // 8}"
        ring = np.frombuffer(data[:body], kind) - np.frombuffer(update[:body], kind)
        header = np.frombuffer(data[body:], "<u8") - np.frombuffer(update[body:], "<u8")
        return ring.tobytes() + header.tobytes()


ALTERED: dict[str, Alter] = {
    "one level by one": lambda world, data: world.moved(data, 3, 1),
    "the last level": lambda world, data: world.moved(data, world.size - 1, -1),
    "scaled": lambda world, data: world.times(data, 2),
    "negated": lambda world, data: world.times(data, -1),
    "nothing but zeros": lambda world, data: bytes(len(data)),
    "without m2": lambda world, data: world.without(data, 2),
    "shortened": lambda world, data: data[:-8],
    "a prime added": lambda world, data: world.moved(data, 5, (1 << 31) - 1),
}


@pytest.mark.parametrize("blind", [True, False], ids=["blind", "sum"])
@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("how", ALTERED)
def test_an_altered_scaled_or_reduced_sum_is_applied_by_nobody(how: str, bits: int, blind: bool) -> None:
    """Attacks 16 and 39. Every member refuses and says why; the round is void; its next attempt, left alone, is exact."""
    world = Altering(ALTERED[how], 1, blind=blind, ring_bits=bits)
    world.begin().run(until=lambda world: len(world.closed) == 2)
    assert len(world.reasons) == 5
    assert {lab.machine.position.round for lab in world.labs.values()} == {1}
    assert all("sum-refused" in lab.refused for lab in world.labs.values())
    assert [moved.attempt for moved in world.phases if moved.phase == "void"] == [0]
    world.run()
    assert world.done is not None
    assert [closed.attempt for closed in world.closed] == [0, 1, 0]
    assert {closed.context for closed in world.closed[1:]} == world.judged


def test_a_coordinator_that_alters_every_sum_ends_the_job_and_no_model_moves() -> None:
    world = Altering(ALTERED["one level by one"], 100)
    world.begin().run()
    assert world.stuck is not None
    assert "void" in world.stuck.reason
    assert not world.judged
    assert {lab.machine.position.state_digest for lab in world.labs.values()} == {INITIAL}


# ---------------------------------------------------------------------------------------------------- different models


def test_a_sum_forced_from_members_with_different_models_is_noise() -> None:
    """Attack 14. m1 and m2 mask for one model, m3 to m5 for another: whatever the coordinator takes off, the seeds of the two
    contexts have nothing in common, and every element is spread over the whole ring."""
    size = 4096
    shop = Workshop(run_until(World(5, size=size, blind=False), "collecting"))
    bench = shop.collector.bench
    assert bench is not None
    code = codes.encoding_of(shop.world.terms, 5, bench.weight_unit)
    scales = np.full(code.chunks(size), -6, np.int8)
    header = Header.of(shop.world.terms, 1, 0.0, {})

    def forced(split: int) -> Any:
        total = np.zeros(size, "<u2")
        for index in range(1, 6):
            state = INITIAL if index <= split else bytes(32)
            announced = bench.check_announcement(shop.announcement(range(1, 6), 1, 0, state))
            machine = shop.world.labs[f"m{index}"].machine
            masks = tuple(
                Mask(machine._seed(peer, announced), +1 if peer > index else -1)
                for peer in range(1, 6)
                if peer != index
            )
            plan = MaskPlan(announced.context, masks, bytes([index]) * 32)
            update = b"".join(encode(np.zeros(size, np.float32), header, plan, code, scales))
            total += np.frombuffer(update, "<u2", count=size)
        return total.view("<i2").astype(np.float64)

    assert np.abs(forced(5)).max() <= 5, "of one model, the masks cancel: what is left is rounding"
    noise = forced(2)
    assert abs(noise.mean()) < 6 * 18918 / size**0.5
    assert 0.95 < noise.std() / (2**16 / 12**0.5) < 1.05


# ------------------------------------------------------------------------------------------------------------- overflow


class Overflowing(Quick):
    """m2 encodes without saturation: levels as large as the ring holds, with the right MAC and the right root."""

    level = 0

    def _contribute(self, lab: Lab, work: Contribute) -> None:
        if lab.name != "m2":
            super()._contribute(lab, work)
            return
        honest = codes.encoding_of(self.terms, work.members, work.weight_unit)
        code = replace(honest, level_bound=(1 << self.terms.ring_bits - 1) - 1)
        scales = np.full(code.chunks(self.size), self.terms.initial_scale_exponent, np.int8)
        header = Header.of(self.terms, work.weight, 1.0, {"train/loss": 0.5})
        difference = np.full(self.size, self.level * 2.0**self.terms.initial_scale_exponent, np.float32)
        difference *= np.float32(work.weight_unit / work.weight)
        lab.files[work.plan.context] = update = b"".join(encode(difference, header, work.plan, code, scales))
        self.plain.setdefault(work.plan.context, {})[lab.machine.index] = update
        self.deliver(lab.name, Encoded(work.plan.context, root_of(update, self.terms, honest)))


@pytest.mark.parametrize(("others", "why"), [(0.0, "out of range"), (1e6, "refused")], ids=["range", "wraps"])
@pytest.mark.parametrize("blind", [True, False])
def test_an_overflow_that_bypasses_the_encoder_fails_the_range_check_or_the_mac(
    others: float, why: str, blind: bool
) -> None:
    """Attack 27: the others add up to the bound, so that the sum leaves its range, or wraps around it."""
    world = Overflowing(
        5, rounds=1, blind=blind, size=8, clip_norm=1e12, difference=lambda name, number: np.full(8, others, np.float32)
    )
    world.level = 32_767
    world.windows = replace(world.windows, attempts=1)
    world.collector._windows = world.windows
    world.begin().run()
    assert world.stuck is not None
    assert not world.judged
    assert {lab.machine.position.round for lab in world.labs.values()} == {1}
    assert why in world.stuck.reason or blind, world.stuck.reason


# ---------------------------------------------------------------------------------------------------- exact, whatever


@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("sign", [1, -1])
def test_all_values_at_the_bound_do_not_wrap_through_a_whole_round(bits: int, sign: int) -> None:
    """Attack 33, n = 10, masks, blind masks and MAC on."""
    world = Quick(
        10,
        rounds=1,
        ring_bits=bits,
        clip_norm=1e12,
        size=9,
        blind=True,
        weights=[1] * 10,
        difference=lambda name, number: np.full(9, sign * 1e8, np.float32),
    )
    world.begin().run()
    assert world.done is not None
    (context,) = world.judged
    bound = Encoding.level_bound_of(bits, 10)
    parts = [np.frombuffer(part[: 9 * bits // 8], f"<i{bits // 8}") for part in world.plain[context].values()]
    assert {int(value) for part in parts for value in part} == {sign * bound}
    assert 10 * bound < 1 << (bits - 1)


@pytest.mark.parametrize("n", [3, 7, 20, 60, 127, 200])
@pytest.mark.parametrize("bits", [8, 16, 32])
def test_all_values_at_the_bound_do_not_wrap_up_to_200_members(bits: int, n: int) -> None:
    """Attack 33. A ring of 8 bits has no level for more than 127 members: what it then says is zero, and nothing wraps."""
    terms = terms_of(ring_bits=bits, clip_norm=1e12, chunk_parameters=4, blind=False)
    code = codes.encoding_of(terms, n, 1)
    scales = np.full(2, -6, np.int8)
    pads = [n.to_bytes(2, "big") + index.to_bytes(2, "big") + bytes(28) for index in range(n)]
    key, seeds = bytes(range(32)), [hashlib.sha256(pad).digest() for pad in pads]
    for sign in (1, -1):
        updates = []
        for index in range(n):
            ring = (Mask(seeds[index], +1), Mask(seeds[(index + 1) % n], -1))  # cancel around the circle
            plan = MaskPlan(bytes(32), ring, seeds[index], tag=TagPlan(key, (pads[index],)))
            header = Header.of(terms, 1, 0.0, {})
            updates.append(b"".join(encode(np.full(7, sign * 1e9, np.float32), header, plan, code, scales)))
        plan = MaskPlan(bytes(32), (), b"", tag=TagPlan(key, tuple(pads)))
        found = open_sum(added(updates, terms, code), plan, terms, code, n, n, 7)
        levels = np.concatenate([chunk.copy() for chunk in found.chunks()])
        assert set(levels.tolist()) == {sign * n * code.level_bound}


@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("lost", [(), (("m2", "Upload"),), (("m3", "Ack"),), (("m2", "Upload"), ("m4", "Reveal"))])
def test_the_sum_is_that_of_plain_integers_bit_for_bit(bits: int, lost: tuple[tuple[str, str], ...]) -> None:
    """Attack 34, with the real ciphers; the harness adds up the plain updates and compares every element and word."""
    world = World(7, rounds=1, ring_bits=bits, initial_scale_exponent=-6 if bits > 8 else -2)
    world.kill_before |= set(lost)
    world.begin().run()
    (closed,) = world.closed
    assert world.judged == {closed.context}
    outside = sum(moment == "Upload" for _, moment in lost)
    assert len(closed.certificate.survivors.cohort) == 7 - outside >= Quorums.of(7).m


def test_memory_stays_below_its_ceiling_while_a_large_update_is_masked_and_added() -> None:
    """Attack 36, at the machine's own level: what a member needs beside the model, for nine masks, and what the coordinator needs
    beside its accumulator does not grow with the model. (The large one is a benchmark.)"""
    peaks = []
    for size in (1 << 20, 1 << 22):
        terms = terms_of(chunk_parameters=1 << 16, ring_bits=16, blind=False)
        code = codes.encoding_of(terms, 10, 1)
        scales = np.full(code.chunks(size), -6, np.int8)
        header = Header.of(terms, 1, 0.0, {})
        plan = MaskPlan(bytes(32), tuple(Mask(bytes([seed]) * 32, 1) for seed in range(9)), bytes(32))
        difference = np.zeros(size, np.float32)
        for _ in encode(difference[: 1 << 17], header, plan, code, scales[:2]):
            pass
        tracemalloc.start()
        for chunk in encode(difference, header, plan, code, scales):
            assert len(chunk) <= 2 << 16
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 8 << 20
    assert peaks[1] - peaks[0] < 1 << 20


def test_a_sum_of_other_terms_is_refused() -> None:
    """Whoever reads it with another ring or another number of members reads nothing."""
    world = World(3, rounds=1, blind=False).begin().run()
    (data,) = world.sums.values()
    for bits in (8, 32):
        terms = replace(world.terms, ring_bits=bits)
        with pytest.raises(ProtocolViolation):
            read_sum(data, terms, codes.encoding_of(terms, 3, 4), 3, 7, world.size)
