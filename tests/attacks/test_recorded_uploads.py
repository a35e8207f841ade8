"""What the coordinator can do with the uploads that it keeps (docs/protocol/secure-aggregation.md, "Attacks", 18 and
19): search seeds, look for patterns, compare its view with the sum. Every measure is also shown something that it must
find.

The uploads are those of the real machines; the recorder alone sees the mask plans, to give the attacker all masks but
one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.bitsliced import NUMBER_AT, NUMBER_BYTES, FirstBlocks, beginnings
from federation.secagg.events import Contribute, Mask, MaskPlan
from federation.secagg.header import header_words
from federation.secagg.masking import HEADER_INDEX, Keystream
from federation.secagg.messages import Upload
from federation.secagg.parameters import CIPHERS
from tests.simulation.harness import Lab, World, random_of

LIMIT = 6.0
"""of a figure that is normal with variance 1 where there is no pattern: reached by chance less than once in 10^8 runs"""


class Recorded(World):
    """Keeps the plan of every upload."""

    def __init__(self, *arguments: Any, **changes: Any) -> None:
        self.plans: dict[bytes, dict[int, MaskPlan]] = {}
        super().__init__(*arguments, **changes)

    def planned(self, plan: MaskPlan) -> MaskPlan:
        return plan

    def _contribute(self, lab: Lab, work: Contribute) -> None:
        plan = self.planned(work.plan)
        self.plans.setdefault(plan.context, {})[lab.machine.index] = plan
        super()._contribute(lab, replace(work, plan=plan))

    def ring(self, data: bytes) -> npt.NDArray[Any]:
        """The model part of an update or a sum."""
        return np.frombuffer(data, f"<u{self.terms.ring_bits // 8}", count=self.size)


# ------------------------------------------------------------------------------------------------------- search of seeds


class Guessable(Recorded):
    """The random numbers of m2 are weak: 40 bits, of which it happens to draw from 2^24 neighbours."""

    FIRST = 0x9A7B << 24

    def _machine(self, name: str, signer: Any, weight: int, life: int) -> Any:
        machine = super()._machine(name, signer, weight, life)
        if name == "m2":
            source = random_of("guessable")
            machine._random = lambda size: self.key(self.FIRST + int.from_bytes(source(3), "little"))[:size]
        return machine

    @staticmethod
    def key(number: int) -> bytes:
        return (bytes(NUMBER_AT) + number.to_bytes(NUMBER_BYTES, "little")).ljust(32, b"\0")


@dataclass(frozen=True)
class Target:
    """Eight bytes of one mask's keystream, for an attacker who knows all the other masks of the upload."""

    context: bytes
    index: int
    seed: bytes
    """what there is to find"""
    keystream: bytes


def targets(world: Recorded) -> Iterator[Target]:
    """Each mask of each upload in turn is the one that the attacker does not know. The header's first word is the
    weight, which is public, so that its keystream is known."""
    words = 8 * header_words(world.terms)
    for context, plans in world.plans.items():
        for index, plan in plans.items():
            header = world.updates[context][index][-words:]
            for hidden in plan.masks:
                known = replace(plan, masks=tuple(mask for mask in plan.masks if mask is not hidden))
                word = np.zeros(1, "<u8")
                Keystream(8).apply(word, known, HEADER_INDEX)
                left = int.from_bytes(header[:8], "little") - int(word[0]) - world.collector.seats[index - 1].weight
                yield Target(context, index, hidden.seed, (hidden.sign * left % 2**64).to_bytes(8, "little"))


def test_search_of_2_24_seeds_finds_nothing_but_the_planted_ones() -> None:
    """2^24 neighbours in a space of 40 bits, each tried against every mask of every upload. A key schedule and a block
    for each: bitsliced, since a cipher object a key would take a minute."""
    honest, weak = (world(5, rounds=2).begin().run() for world in (Recorded, Guessable))
    assert honest.done
    assert weak.done
    goals = [*targets(honest), *targets(weak)]
    stream = Keystream(8)
    assert len(goals) >= 2 * 2 * 5 * 5
    assert all(bytes(stream.fill(goal.seed, HEADER_INDEX, 8)) == goal.keystream for goal in goals)

    blocks = FirstBlocks(HEADER_INDEX.to_bytes(8, "big") + bytes(8), bytes(32))
    by_beginning: dict[int, list[Target]] = {}
    worth_a_look = np.zeros(1 << 16, np.bool_)
    for goal in goals:
        begins = int.from_bytes(goal.keystream[:4], "little")
        by_beginning.setdefault(begins, []).append(goal)
        worth_a_look[begins & 0xFFFF] = True
    found = set()
    for first in range(Guessable.FIRST, Guessable.FIRST + (1 << 24), blocks.keys_a_call):
        begun = beginnings(blocks.under(first))
        for place in np.flatnonzero(worth_a_look[begun & 0xFFFF]):
            for goal in by_beginning.get(int(begun[place]), ()):
                key = Guessable.key(first + int(place))
                if bytes(stream.fill(key, HEADER_INDEX, 8)) == goal.keystream:
                    found.add((goal.context, goal.index, key))
    planted = {(context, 2, plans[2].masks[0].seed) for context, plans in weak.plans.items()}
    assert len(planted) == 2
    assert found == planted


# --------------------------------------------------------------------------------------------------------------- patterns


def byte_counts(data: npt.NDArray[np.uint8]) -> float:
    """Chi-square of the 256 values, standardised."""
    expected = data.size / 256
    squares = float(((np.bincount(data, minlength=256) - expected) ** 2).sum()) / expected
    return (squares - 255) / 510**0.5


def serial(data: npt.NDArray[np.uint8]) -> float:
    """Correlation of each byte with the next one."""
    centred = data.astype(np.float64) - 127.5
    return float(centred[:-1] @ centred[1:]) / ((256**2 - 1) / 12) / (data.size - 1) ** 0.5


def runs(data: npt.NDArray[np.uint8]) -> float:
    """How often a bit differs from the one before."""
    bits = np.unpackbits(data, bitorder="little")
    changes = np.count_nonzero(bits[1:] != bits[:-1])
    return float(2 * changes - (bits.size - 1)) / (bits.size - 1) ** 0.5


def low_bits(data: npt.NDArray[np.uint8]) -> float:
    """Ones in each of the 16 bits of a word: the one that is furthest from half."""
    words = data[: data.size // 2 * 2].view("<u2")
    figures = [2 * int(np.count_nonzero(words >> bit & 1)) - words.size for bit in range(16)]
    return max(figures, key=abs) / words.size**0.5


MEASURES: dict[str, Callable[[npt.NDArray[np.uint8]], float]] = {
    "byte counts": byte_counts,
    "serial correlation": serial,
    "runs": runs,
    "low bits": low_bits,
}


def patterns(data: npt.NDArray[Any]) -> dict[str, float]:
    """The measures that the data fails."""
    octets = np.ascontiguousarray(data).view(np.uint8)
    figures = {name: measure(octets) for name, measure in MEASURES.items()}
    return {name: figure for name, figure in figures.items() if abs(figure) > LIMIT}


SIZE = 120_000
CHUNK = 40_000


def record(kind: type[Recorded] = Recorded, **changes: Any) -> Recorded:
    return kind(5, **{"size": SIZE, "chunk_parameters": CHUNK, "rounds": 2, **changes}).begin()


def views(world: Recorded) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """What an observer may look at: uploads, the difference of any two (a keystream used twice would show), of a
    member's chunks, and each round's sum before anything is revealed."""
    rings = {
        (number, index): world.ring(update)
        for number, context in enumerate(world.updates)
        for index, update in world.updates[context].items()
    }
    for (one, first), (other, second) in combinations(rings.items(), 2):
        yield f"{one} - {other}", first - second
    for name, ring in rings.items():
        yield f"{name}", ring
        for start in range(CHUNK, SIZE, CHUNK):
            yield f"{name}, chunks", ring[start : start + CHUNK] - ring[:CHUNK]
    for number in range(len(world.updates)):
        yield f"sum of {number}", sum(ring for name, ring in rings.items() if name[0] == number)  # type: ignore[misc]


@pytest.mark.parametrize("cipher", CIPHERS)
def test_recorded_uploads_show_no_pattern(cipher: str) -> None:
    world = record(cipher=cipher).run()
    assert world.done
    shown = dict(views(world))
    assert len(shown) == 45 + 10 + 10 + 2
    assert {name: failed for name, view in shown.items() if (failed := patterns(view))} == {}


class SameMasks(Recorded):
    """Masks that do not depend on the round."""

    def planned(self, plan: MaskPlan) -> MaskPlan:
        return replace(plan, masks=tuple(replace(m, seed=bytes([place]) * 32) for place, m in enumerate(plan.masks)))


class NoSelfMask(Recorded):
    """The b_i are left out, so that the sum lies open before anybody reveals anything."""

    def planned(self, plan: MaskPlan) -> MaskPlan:
        return replace(plan, masks=plan.masks[1:])


class SameChunk(Recorded):
    """Each chunk is masked with the keystream of the first."""

    def _send(self, lab: Lab, message: Any) -> None:
        if isinstance(message, Upload):
            context = message.context
            plan = self.plans[context][message.index]
            masked = np.frombuffer(self.plain[context][message.index], "<u2", count=SIZE).copy()
            for start in range(0, SIZE, CHUNK):
                Keystream(2 * CHUNK).apply(masked[start : start + CHUNK], plan, 0)
            lab.files[context] = masked.tobytes() + lab.files[context][2 * SIZE :]
        super()._send(lab, message)


@pytest.mark.parametrize(
    ("kind", "where"),
    [(SameMasks, "(0, 1) - (1, 1)"), (NoSelfMask, "sum of 0"), (SameChunk, "(0, 1), chunks")],
    ids=["masks of the round before", "no self mask", "one keystream for all chunks"],
)
def test_wrong_masks_show(kind: type[Recorded], where: str) -> None:
    needed = 2 if kind is SameMasks else 1
    world = record(kind, blind=False)
    world.run(until=lambda world: sum(len(kept) == 5 for kept in world.updates.values()) >= needed)
    assert set(patterns(dict(views(world))[where])) >= {"byte counts", "runs"}


def test_an_update_without_masks_shows() -> None:
    world = record().run()
    plain = next(iter(world.plain.values()))[1]
    assert set(patterns(world.ring(plain))) >= {"byte counts", "serial correlation", "runs"}


def biased(name: str) -> npt.NDArray[np.uint8]:
    random = np.random.default_rng(19)
    data = random.integers(0, 256, 2 * SIZE, np.uint8)
    chosen = random.random(data.size)
    if name == "byte counts":  # one value in a hundred places where another should be
        data[(chosen < 0.5) & (data == 77)] = 78
    elif name == "serial correlation":  # in one place of thirty the byte before
        data = np.where(chosen < 1 / 30, np.roll(data, 1), data)
    elif name == "runs":  # in one place of a hundred the bit before
        bits = np.unpackbits(data, bitorder="little")
        data = np.packbits(np.where(random.random(bits.size) < 0.01, np.roll(bits, 1), bits), bitorder="little")
    else:  # one low bit in thirty cleared
        data[::2] &= np.where(chosen[::2] < 1 / 30, 0xFE, 0xFF).astype(np.uint8)
    return data


@pytest.mark.parametrize("name", MEASURES)
def test_each_measure_rejects_a_biased_stream(name: str) -> None:
    assert name in patterns(biased(name))


# ------------------------------------------------------------------------------------------------------------ blind mode

MANY = 1_000_000


def correlation(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    return float(np.corrcoef(one.astype(np.float64), other.astype(np.float64))[0, 1])


def correlations(view: npt.NDArray[np.uint16], truth: npt.NDArray[np.uint16]) -> dict[str, float]:
    """Of the values as signed numbers, and of each bit with its counterpart."""
    found = {"value": correlation(view.view(np.int16), truth.view(np.int16))}
    return found | {f"bit {bit}": correlation(view >> bit & 1, truth >> bit & 1) for bit in range(16)}


def blind_view(world: Recorded) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """The sum of four as the coordinator has it after unmasking, and as it is."""
    world.begin().run(until=lambda world: bool(world.sums))
    (context,) = world.updates
    (data,) = world.sums.values()
    assert len(world.updates[context]) == 4
    truth = sum(world.ring(part) for part in world.plain[context].values())
    return world.ring(data), truth  # type: ignore[return-value]


def test_blind_view_does_not_correlate_with_the_sum_of_an_even_cohort() -> None:
    world = Recorded(4, size=MANY, chunk_parameters=65_536, rounds=1, blind=True)
    view, truth = blind_view(world)
    found = correlations(view, truth)
    assert {name: figure for name, figure in found.items() if abs(figure) >= 0.01} == {}
    assert patterns(view) == {}
    world.run()
    assert world.done
    assert world.judged  # the members do have the sum


class CommonMask(Recorded):
    """One blind mask for all, where each of the first should add its own."""

    def planned(self, plan: MaskPlan) -> MaskPlan:
        return replace(plan, masks=(*plan.masks[:4], Mask(bytes(range(32)), +1)))


def test_one_common_blind_mask_bares_low_bits() -> None:
    """Four times the same number is a multiple of four: two low bits of the sum stand bare under noise."""
    view, truth = blind_view(CommonMask(4, size=MANY, chunk_parameters=65_536, rounds=1, blind=True))
    assert np.array_equal(view & 3, truth & 3)
    found = correlations(view, truth)
    assert {name for name, figure in found.items() if abs(figure) >= 0.01} == {"bit 0", "bit 1"}
    assert min(found["bit 0"], found["bit 1"]) > 0.999


def test_a_view_of_the_sum_itself_correlates() -> None:
    view, truth = blind_view(Recorded(4, size=MANY, chunk_parameters=65_536, rounds=1, blind=False))
    assert all(figure > 0.999 for figure in correlations(view, truth).values())
