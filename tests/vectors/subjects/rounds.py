"""rounds: worked rounds, from what the labs trained to the receipts of the state that follows."""

from __future__ import annotations

from typing import Any

from tests.plain import floats, sums
from tests.plain import transcripts as t
from tests.vectors.subjects.federations import Round, rounds

Document = dict[str, Any]
NAMES = {"three": "three", "four": "four", "four, round 2": "four", "five, aborted": "five", "five, attempt 1": "five"}


def _member(made: Round, index: int) -> Document:
    attempt = made.attempt
    given, own, update = attempt.inputs[index], attempt.drawn[index], attempt.updates[index]
    return {
        "index": index,
        "difference": floats.bytes_of_singles(given.difference),
        "squared norm": floats.bytes_of_doubles([given.squared_norm]),
        "figures": {name: floats.bytes_of_doubles([value]) for name, value in given.figures.items()},
        "self_seed": own.self_seed,
        "dither": own.dither,
        "coefficients": [[str(number) for number in row] for row in own.coefficients],
        "masks": [{"seed": seed, "sign": sign} for seed, sign in attempt.masks_of(index)],
        "pad seed": attempt.pads[index],
        "levels": update.levels,
        "saturated": update.saturated,
        "tag": [str(each) for each in update.tag],
        "header": [str(word) for word in update.header],
        "chunks": update.chunks,
        "shares": [{str(holder): share for holder, share in each.items()} for each in attempt.shares[index]],
        "trailer_hash": t.trailer_hash(attempt.uploads[index]),
    }


def _case(name: str, made: Round) -> Document:
    attempt, epoch = made.attempt, made.attempt.epoch
    total, following = attempt.opened(), made.following
    rules = attempt.rules
    return {
        "name": name,
        "comment": made.comment,
        "setup": NAMES[name],
        "rules": {
            "ringBits": rules.bits, "cipher": rules.cipher, "coordinatorView": "blind" if rules.blind else "sum",
            "clipNorm": rules.clip_norm, "chunkParameters": rules.chunk, "metrics": list(rules.metrics),
            "minScaleExponent": rules.lowest, "maxScaleExponent": rules.highest,
        },
        "round": attempt.round,
        "attempt": attempt.number,
        "state": {
            "round": made.state.round, "weights": floats.bytes_of_singles(made.state.weights), "scales": made.state.scales,
            "digest": made.state.digest,
        },
        "ready": list(attempt.ready),
        "context": attempt.context,
        "blinders": list(attempt.blinders),
        "tag key": attempt.tag_key,
        "members": [_member(made, index) for index in attempt.ready],
        "readies": attempt.readies,
        "receipts": attempt.receipts,
        "aborts": attempt.aborts,
        "uploads": [attempt.uploads[index] for index in attempt.ready],
        "cohort": list(attempt.cohort),
        "silent": list(attempt.silent),
        "survivors": attempt.survivors,
        "survivors_digest": attempt.survivors_digest,
        "acks": attempt.acks,
        "reveals": list(attempt.reveals.values()),
        "replies": list(attempt.replies.values()),
        "unmasking": [{"seed": seed, "sign": sign} for seed, sign in attempt.masks],
        "sum": attempt.sum,
        "sum_blob": attempt.close["sum_blob"],
        "opened": {"levels": total.chunks, "header": [str(word) for word in total.header]},
        "mean": floats.bytes_of_doubles(sums.mean(attempt.code, total, made.state.scales)),
        "next": {
            "round": following.round, "weights": floats.bytes_of_singles(following.weights), "scales": following.scales,
            "digest": following.digest,
        },
        "after": [attempt.receipt(index, following.digest) for index in range(1, epoch.n + 1)],
    }  # fmt: skip


def round_document() -> Document:
    return {
        "section": "A round",
        "comment": "Floating point is little-endian IEEE 754: difference and weights float32, the rest float64. Words and "
        "coefficients are "
        "decimal strings. shares: of b, then of each edge, by holder. sum: as published, under blind masks where there are "
        "any; opened: as "
        "members read it. after: every member's receipt. The state is one vector \"weights\", the outer step FedAvg. "
        "\"five, aborted\" is "
        "shown whole, although its ABORTs end it before anybody reveals. Chunks of 4 are for the eye: a manifest takes "
        "1,024 at least.",
        "cases": [_case(name, made) for name, made in rounds().items()],
        "invalid": [],
    }  # fmt: skip
