"""What one core can do about a mask's seed in a minute: against Flower's SecAgg+, and as long against ours.

    python -m benchmarks.seed_search [--seconds 60]

The observer is the server, which keeps to the protocol and keeps what it was sent. Three clients take part; one drops
out after it has shared its keys, so the protocol itself gives the server all masks but the one that the two others
share. Theirs is made by flwr's own functions, stage by stage, and its seed has 28 bits (the lines that make it so are
printed, and explained in docs/benchmarks.md); ours by ``federation.secagg.encoding``. The search of theirs ends when
the seed is found, the space or the time is used up; the search of ours lasts as long as that took. Not part of
`make bench`: together they take one minute on average and two at most.
"""

from __future__ import annotations

import argparse
import inspect
import json
import math
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from flwr.app import ConfigRecord
from flwr.client.mod.secure_aggregation.secaggplus_mod import (
    SecAggPlusState,
    _collect_masked_vectors,
    _setup,
    _share_keys,
    _unmask,
)
from flwr.common import bytes_to_ndarray, ndarrays_to_parameters
from flwr.common.secure_aggregation.crypto.shamir import combine_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
from flwr.common.secure_aggregation.quantization import dequantize
from flwr.common.secure_aggregation.secaggplus_constants import Key
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.supercore.primitives.asymmetric import bytes_to_private_key, bytes_to_public_key

from benchmarks.bitsliced import NUMBER_AT, NUMBER_BYTES, FirstBlocks, beginnings
from federation.secagg import encoding as codes
from federation.secagg.events import FloatArray, Mask, MaskPlan
from federation.secagg.header import Header
from federation.secagg.masking import HEADER_INDEX, Keystream
from federation.secagg.parameters import Terms

SECONDS: Final = 60.0
PARAMETERS: Final = 1_000
GOAL: Final = 2.0**-128

# SecAggPlusWorkflow's defaults
CLIPPING_RANGE: Final = 8.0
QUANTIZATION_RANGE: Final = 4_194_304
MODULUS: Final = 4_294_967_296
MAX_WEIGHT: Final = 1_000.0

PAIR_SEED_BITS: Final = 28
OUR_SEED_BITS: Final = 256

Words = npt.NDArray[np.uint32]

# ----------------------------------------------------------------------------------------------------- theirs: the round


@dataclass(frozen=True, slots=True)
class Observed:
    """Of one client's upload, what is left when the server has taken off every mask that the protocol gave it."""

    left: npt.NDArray[np.int64]
    """the update, and ``sign`` times the mask that the two share, mod 2^32; the first value is the client's weight"""
    sign: int

    def opened(self, seed: bytes) -> npt.NDArray[np.int64]:
        mask = pseudo_rand_gen(seed, MODULUS, [self.left.shape])[0]
        return (self.left - self.sign * mask) % MODULUS


def flower_round(updates: list[FloatArray], examples: list[int]) -> tuple[Observed, Observed]:
    """A round of three clients, of which the last drops out before it uploads: what the server then knows of the other
    two."""
    nodes = [secrets.randbits(63) for _ in updates]
    clients = {node: SecAggPlusState(nid=node) for node in nodes}
    settings: dict[str, Any] = {
        Key.SAMPLE_NUMBER: 3,
        Key.SHARE_NUMBER: 3,
        Key.THRESHOLD: 2,
        Key.MAX_WEIGHT: MAX_WEIGHT,
        Key.CLIPPING_RANGE: CLIPPING_RANGE,
        Key.TARGET_RANGE: QUANTIZATION_RANGE,
        Key.MOD_RANGE: MODULUS,
    }
    keys: dict[int, list[bytes]] = {}
    sent: dict[str, Any]
    for node, state in clients.items():
        sent = {**_setup(state, ConfigRecord(settings))}
        keys[node] = [sent[Key.PUBLIC_KEY_1], sent[Key.PUBLIC_KEY_2]]
    boxes: dict[int, dict[int, bytes]] = {node: {} for node in nodes}
    for node, state in clients.items():
        sent = {**_share_keys(state, ConfigRecord({str(peer): pair for peer, pair in keys.items()}))}
        for to, box in zip(sent[Key.DESTINATION_LIST], sent[Key.CIPHERTEXT_LIST], strict=True):
            boxes[to][node] = box
    *active, dead = nodes
    uploads: dict[int, npt.NDArray[np.int64]] = {}
    for node, update, count in zip(active, updates, examples, strict=False):
        forwarded = ConfigRecord({Key.CIPHERTEXT_LIST: list(boxes[node].values()), Key.SOURCE_LIST: list(boxes[node])})
        sent = {**_collect_masked_vectors(clients[node], forwarded, count, ndarrays_to_parameters([update]))}
        uploads[node] = np.concatenate([bytes_to_ndarray(part) for part in sent[Key.MASKED_PARAMETERS]])
    shares: dict[int, list[bytes]] = {node: [] for node in nodes}
    for node in active:
        asked = ConfigRecord({Key.ACTIVE_NODE_ID_LIST: active, Key.DEAD_NODE_ID_LIST: [dead]})
        sent = {**_unmask(clients[node], asked)}
        for owner, share in zip(sent[Key.NODE_ID_LIST], sent[Key.SHARE_LIST], strict=True):
            shares[owner].append(share)
    del clients
    lost_key = bytes_to_private_key(combine_shares(shares[dead]))
    seen = []
    for node, peer in (active, active[::-1]):
        shape = [uploads[node].shape]
        own = pseudo_rand_gen(combine_shares(shares[node]), MODULUS, shape)[0]
        pair = generate_shared_key(lost_key, bytes_to_public_key(keys[node][0]))
        edge = pseudo_rand_gen(pair, MODULUS, shape)[0] * (1 if node > dead else -1)
        seen.append(Observed((uploads[node] - own - edge) % MODULUS, 1 if node > peer else -1))
    return seen[0], seen[1]


# ---------------------------------------------------------------------------------------------------- theirs: the search


class FirstWords:
    """The first two words that numpy's RandomState draws for each of many seeds (MT19937, Matsumoto and Nishimura 1998).

    They depend on 399 of the 624 words that seeding makes, so only those are made.
    """

    SEEDS: Final = 32_768

    def __init__(self) -> None:
        self._state, self._spare = np.empty((2, self.SEEDS), np.uint32)
        self._kept = {place: np.empty(self.SEEDS, np.uint32) for place in (0, 1, 2, 397, 398)}
        self._places = [np.uint32(place) for place in range(399)]

    def of(self, seeds: Words) -> tuple[Words, Words]:
        state, spare, factor, top = self._state, self._spare, np.uint32(1_812_433_253), np.uint32(30)
        state[:] = seeds
        self._kept[0][:] = state
        for place in self._places[1:]:
            np.right_shift(state, top, spare)
            np.bitwise_xor(state, spare, state)
            np.multiply(state, factor, state)
            np.add(state, place, state)
            if int(place) in self._kept:
                self._kept[int(place)][:] = state
        return self._drawn(0), self._drawn(1)

    def _drawn(self, place: int) -> Words:
        joined = (self._kept[place] & np.uint32(0x80000000)) | (self._kept[place + 1] & np.uint32(0x7FFFFFFF))
        word: Words = (
            self._kept[place + 397] ^ (joined >> np.uint32(1)) ^ ((joined & np.uint32(1)) * np.uint32(0x9908B0DF))
        )
        word ^= word >> np.uint32(11)
        word ^= (word << np.uint32(7)) & np.uint32(0x9D2C5680)
        word ^= (word << np.uint32(15)) & np.uint32(0xEFC60000)
        word ^= word >> np.uint32(18)
        return word


def spread(numbers: npt.NDArray[np.uint32]) -> Words:
    """The 28-bit numbers as seeds: the exclusive or of ASCII bytes leaves the top bit of each byte clear."""
    seeds = np.zeros_like(numbers)
    for byte in range(4):
        seeds |= (numbers >> np.uint32(7 * byte) & np.uint32(0x7F)) << np.uint32(8 * byte)
    return seeds


@dataclass(frozen=True, slots=True)
class Search:
    """What a search did. ``found``: the seed."""

    found: bytes | None
    tried: int
    seconds: float

    @property
    def rate(self) -> float:
        return self.tried / self.seconds


def search_flower(seen: Observed, seconds: float, start: int, limit: int = 1 << PAIR_SEED_BITS) -> Search:
    """Tries at most ``limit`` seeds of the space, from ``start`` on and around its end. Right is the seed that leaves
    quantised numbers."""
    began = time.perf_counter()
    words = FirstWords()
    begin, tried = start - start % words.SEEDS, 0
    while tried < limit and time.perf_counter() - began < seconds:
        first = (begin + tried) % (1 << PAIR_SEED_BITS)
        seeds = spread(np.arange(first, first + words.SEEDS, dtype=np.uint32))
        fits = np.ones(words.SEEDS, np.bool_)
        for left, drawn in zip(seen.left[:2], words.of(seeds), strict=True):
            value = np.uint32(left) - drawn if seen.sign > 0 else np.uint32(left) + drawn
            fits &= value <= QUANTIZATION_RANGE
        tried += words.SEEDS
        for place in np.flatnonzero(fits):
            seed = int(seeds[place]).to_bytes(4, "little")
            if (seen.opened(seed) <= QUANTIZATION_RANGE).all():
                return Search(seed, tried, time.perf_counter() - began)
    return Search(None, tried, time.perf_counter() - began)


SOURCES: Final[tuple[tuple[Callable[..., Any], str], ...]] = (
    (generate_shared_key, "base64.urlsafe_b64encode("),
    (_collect_masked_vectors, "pseudo_rand_gen(shared_key,"),
    (pseudo_rand_gen, "seed32 ^="),
    (pseudo_rand_gen, "RandomState(seed32)"),
)
"""Why 28 bits: the pair's key as text, of which each byte is below 128; that text as the mask's seed; folded to four bytes by
exclusive or; which seed all of the mask."""


def source_lines() -> list[str]:
    """Where the installed flwr does it: path:line and the line. Raises LookupError when it does so no more."""
    found = []
    for function, words in SOURCES:
        lines, first = inspect.getsourcelines(function)
        place = next((number for number, line in enumerate(lines) if words in line), None)
        path = Path(inspect.getsourcefile(function) or "")
        if place is None:
            raise LookupError(f"{function.__name__} of flwr {version('flwr')} holds no {words!r}")
        inside = Path(*path.parts[path.parts.index("flwr") :])
        found.append(f"{inside}:{first + place}: {lines[place].strip()}")
    return found


# ------------------------------------------------------------------------------------------------------------------ ours


def our_keystream(update: FloatArray, weight: int, known: list[bytes], hidden: bytes) -> bytes:
    """The first 8 bytes of the keystream of ``hidden`` in the header's chunk, as an observer gets them who knows the
    other masks: the header's first word is the member's weight, which is public."""
    terms = Terms(
        job=bytes(32),
        federation="benchmark",
        rounds=1,
        final_evaluation=False,
        ring_bits=16,
        clip_norm=100.0,
        weight_cap=1 << 20,
        initial_scale_exponent=-12,
        min_scale_exponent=-40,
        max_scale_exponent=8,
        metrics=("train/loss",),
        min_members=3,
        min_jurisdictions=1,
    )
    encoding = codes.encoding_of(terms, 3, weight)
    masks = (*(Mask(seed, +1) for seed in known), Mask(hidden, +1))
    scales = np.full(encoding.chunks(update.size), terms.initial_scale_exponent, np.int8)
    header = Header.of(terms, weight, 1.0, {"train/loss": 0.5})
    plan = MaskPlan(bytes(32), masks, secrets.token_bytes(32))
    *_, last = codes.pieces_of(update, header, plan, encoding, scales)
    word = int.from_bytes(last.data[:8], "little") - weight
    for seed in known:
        word -= int.from_bytes(bytes(Keystream(8).fill(seed, HEADER_INDEX, 8)), "little")
    return (word % 2**64).to_bytes(8, "little")


def search_ours(keystream: bytes, base: bytes, seconds: float, limit: int = 1 << 8 * NUMBER_BYTES) -> Search:
    """Tries seeds that are ``base`` with a number in the place that ``FirstBlocks`` varies."""
    began = time.perf_counter()
    blocks = FirstBlocks(HEADER_INDEX.to_bytes(8, "big") + bytes(8), base)
    wanted = int.from_bytes(keystream[:4], "little")
    tried = 0
    while tried < limit and time.perf_counter() - began < seconds:
        for place in np.flatnonzero(beginnings(blocks.under(tried)) == wanted):
            number = (tried + int(place)).to_bytes(NUMBER_BYTES, "little")
            seed = base[:NUMBER_AT] + number + base[NUMBER_AT + NUMBER_BYTES :]
            if bytes(Keystream(8).fill(seed, HEADER_INDEX, 8)) == keystream:
                return Search(seed, tried + int(place) + 1, time.perf_counter() - began)
        tried += blocks.keys_a_call
    return Search(None, tried, time.perf_counter() - began)


# ------------------------------------------------------------------------------------------------------------------- run


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _told(theirs: Search, pair: tuple[Observed, Observed], updates: list[FloatArray]) -> Iterator[str]:
    """What the server reads once it has the seed."""
    assert theirs.found is not None
    for name, seen, update in zip("AB", pair, updates, strict=False):
        weight, *levels = seen.opened(theirs.found)
        share = weight / QUANTIZATION_RANGE
        (read,) = dequantize([np.array(levels)], CLIPPING_RANGE, QUANTIZATION_RANGE)
        worst = float(np.abs(read / share - update).max())
        yield f"  client {name}: {share * MAX_WEIGHT:.0f} examples; its {update.size} parameters to within {worst:.1e}"


def main(arguments: list[str] | None = None) -> int:
    """Prints one JSON line, and lines for people on stderr; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seed_search", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=SECONDS, help="the most that each search may take")
    seconds = parser.parse_args(arguments).seconds
    if not 0 < seconds < math.inf:
        parser.error("--seconds is a number above 0")
    random = np.random.default_rng()
    updates = [random.normal(0, 0.05, PARAMETERS).astype(np.float32) for _ in range(3)]

    pair = flower_round(updates, [137, 642, 58])
    theirs = search_flower(pair[0], seconds, secrets.randbits(PAIR_SEED_BITS))
    space = 1 << PAIR_SEED_BITS
    share = min(1.0, theirs.rate * SECONDS / space)
    say(
        f"flwr {version('flwr')} SecAgg+, three clients, one dropped out: a hidden seed of {PAIR_SEED_BITS} bits, made by"
    )
    for line in source_lines():
        say(f"    {line}")
    say(f"  {theirs.tried:,} seeds in {theirs.seconds:.1f} s ({theirs.rate / 1e6:.1f} M/s): {_outcome(theirs)}")
    say(f"  the whole space takes {space / theirs.rate:.0f} s, half of it on average; a minute: {share:.0%} of it")
    if theirs.found:
        for line in _told(theirs, pair, updates):
            say(line)

    weak = bytes(NUMBER_AT) + secrets.randbelow(1 << 20).to_bytes(NUMBER_BYTES, "little")
    weak = weak.ljust(32, b"\0")
    known = [secrets.token_bytes(32), secrets.token_bytes(32)]
    control = search_ours(our_keystream(updates[0], 4, known, weak), bytes(32), seconds, 1 << 20)
    ours = search_ours(
        our_keystream(updates[0], 4, known, secrets.token_bytes(32)), secrets.token_bytes(32), theirs.seconds
    )
    chance = ours.rate * SECONDS / 2.0**OUR_SEED_BITS
    say(f"ours, in the same place: a hidden seed of {OUR_SEED_BITS} bits")
    say(f"  {ours.tried:,} seeds in {ours.seconds:.1f} s ({ours.rate / 1e6:.1f} M/s): {_outcome(ours)}")
    say(f"  a minute finds it with a chance of 2^{math.log2(chance):.0f}")
    say(f"  the same search for a seed of 20 bits, planted: {_outcome(control)}")

    exhausted = theirs.found is None and theirs.tried >= space
    holds = chance < GOAL and ours.found is None and control.found == weak and not exhausted
    print(
        json.dumps(
            {
                "benchmark": "seed-search",
                "ours": float(f"{chance:.3g}"),
                "peer": round(share, 3),
                "unit": "chance that one core finds a mask's seed in a minute (peer: flwr SecAgg+ functions)",
                "ratio": float(f"{share / chance:.3g}"),
                "goal": GOAL,
                "holds": holds,
                "peer_found": theirs.found is not None,
                "peer_seeds_per_second": round(theirs.rate),
                "peer_seconds": round(theirs.seconds, 1),
                "ours_found": ours.found is not None,
                "ours_seeds_per_second": round(ours.rate),
                "ours_seconds": round(ours.seconds, 1),
                "planted_found": control.found == weak,
            }
        ),
        flush=True,
    )
    return 0 if holds else 1


def _outcome(search: Search) -> str:
    return "nothing" if search.found is None else "found"


if __name__ == "__main__":
    raise SystemExit(main())
