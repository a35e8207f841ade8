"""A member's work on one update: quantise 10M parameters and mask them for 9 neighbours, against the functions of
Flower's SecAgg+.

Both sides do the whole of it: weighting, stochastic rounding, one self mask, nine pairwise masks, reduction. Ours is
the 16-bit ring with AES-256-CTR, without the sum MAC, of which the peer has no counterpart: ``with_sum_mac`` is the whole
of what a member does. Theirs is what ``flwr.client.mod.secaggplus_mod`` calls with its default ranges
(32-bit modulus, int64 arrays). Key agreement and shares are left out on both sides. Median of five rounds after one to
warm up, one thread each.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

import numpy as np
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_combine,
    parameters_addition,
    parameters_mod,
    parameters_multiply,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import quantize
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

from federation.secagg import encoding as codes
from federation.secagg.events import FloatArray, Mask, MaskPlan, TagPlan
from federation.secagg.header import Header
from federation.secagg.parameters import Terms

PARAMETERS = 10_000_000
NEIGHBOURS = 9
ROUNDS = 5
GOAL = 10.0

FLOWER_CLIPPING_RANGE = 8.0
FLOWER_QUANTIZATION_RANGE = 4_194_304
FLOWER_MODULUS = 4_294_967_296


def ours(difference: FloatArray, seeds: list[bytes], tag: TagPlan | None = None) -> None:
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
    encoding = codes.encoding_of(terms, NEIGHBOURS + 1, 4)
    masks = tuple(Mask(seed, +1 if place % 2 else -1) for place, seed in enumerate(seeds))
    scales = np.full(encoding.chunks(difference.size), terms.initial_scale_exponent, np.int8)
    header = Header.of(terms, 2, 1.0, {"train/loss": 0.5})
    plan = MaskPlan(bytes(32), masks, bytes(32), tag=tag)
    for _ in codes.pieces_of(difference, header, plan, encoding, scales, hashed=False):
        pass


def ours_with_sum_mac(difference: FloatArray, seeds: list[bytes]) -> None:
    ours(difference, seeds, TagPlan(seeds[0], (seeds[1],)))


def flower(difference: FloatArray, seeds: list[bytes]) -> None:
    """As in ``_collect_masked_vectors``: the arithmetic between its key agreement and its reply."""
    parameters = parameters_multiply([difference], 0.5)
    quantised = quantize(parameters, FLOWER_CLIPPING_RANGE, FLOWER_QUANTIZATION_RANGE)
    quantised = factor_combine(FLOWER_QUANTIZATION_RANGE // 2, quantised)
    dimensions = [array.shape for array in quantised]
    quantised = parameters_addition(quantised, pseudo_rand_gen(seeds[0], FLOWER_MODULUS, dimensions))
    for place, seed in enumerate(seeds[1:]):
        mask = pseudo_rand_gen(seed, FLOWER_MODULUS, dimensions)
        change = parameters_addition if place % 2 else parameters_subtraction
        quantised = change(quantised, mask)
    parameters_mod(quantised, FLOWER_MODULUS)


def median_seconds(work: Callable[[FloatArray, list[bytes]], None]) -> float:
    random = np.random.default_rng(1)
    difference = random.normal(0, 0.01, PARAMETERS).astype(np.float32)
    seeds = [random.bytes(32) for _ in range(NEIGHBOURS + 1)]
    work(difference, seeds)
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work(difference, seeds)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def main() -> int:
    """Prints one JSON line; 1 when the goal is missed."""
    mine, whole, theirs = median_seconds(ours), median_seconds(ours_with_sum_mac), median_seconds(flower)
    ratio = theirs / mine
    print(
        json.dumps(
            {
                "benchmark": "masking",
                "ours": round(mine, 4),
                "peer": round(theirs, 4),
                "with_sum_mac": round(whole, 4),
                "unit": "seconds for 10M parameters and 9 neighbours (peer: flwr SecAgg+ functions)",
                "ratio": round(ratio, 1),
                "goal": GOAL,
                "holds": ratio >= GOAL,
            }
        ),
        flush=True,
    )
    return 0 if ratio >= GOAL else 1


if __name__ == "__main__":
    raise SystemExit(main())
