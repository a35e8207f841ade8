"""The product and the plain implementation agree bit for bit: whole rounds of the real machines, and each piece by itself."""

from __future__ import annotations

import ast
import subprocess
import sys
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from federation.errors import TaskFailed
from federation.secagg import encoding as codes
from federation.secagg import merkle, recovery
from federation.secagg.events import Contribute, Encoded, FetchSum, MaskPlan, Send, StateReady, SumApplied
from federation.secagg.figures import public_words
from federation.secagg.header import Header
from federation.secagg.messages import RecoverReply, Reveal
from federation.secagg.parameters import Quorums
from federation.weights.outer_step import next_scales
from tests.plain import floats, sums
from tests.plain import merkle as plain_merkle
from tests.plain import update as plain_update
from tests.plain.attempt import Attempt, Input, Rules, majority
from tests.plain.ciphers import AES_256_CTR, CHACHA20, Draws, drawn
from tests.plain.quorums import quorums
from tests.plain.setup import Epoch, Member, epoch_of
from tests.vectors import product
from tests.whole import added, encode, mean_of, root_of

HERE = Path(__file__).parent
PLAIN = [*sorted((HERE.parent / "plain").glob("*.py")), HERE / "generate.py", *sorted((HERE / "subjects").glob("*.py"))]
LABEL = "agreement"


@pytest.mark.parametrize("page", PLAIN, ids=lambda page: page.stem)
def test_the_plain_implementation_imports_nothing_of_the_product(page: Path) -> None:
    tree = ast.parse(page.read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
    own = {name for name in names if name.split(".")[0] not in sys.stdlib_module_names}
    assert {
        name for name in own if not name.startswith(("cryptography", "tests.plain", "tests.vectors.subjects"))
    } == set()


def test_nothing_of_the_product_is_loaded_with_it() -> None:
    code = "import sys, tests.vectors.generate; print(*{name.split('.')[0] for name in sys.modules})"
    ran = subprocess.run([sys.executable, "-c", code], cwd=HERE.parents[1], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert "cryptography" in loaded
    assert not loaded & {"federation", "coordinator", "node_agent", "numpy"}


# ---------------------------------------------------------------------------------------------------------- whole rounds


@cache
def epoch(n: int) -> Epoch:
    members = [Member.of(LABEL, f"m{place}", 1 << (3 * place % 4)) for place in range(1, n + 1)]
    return epoch_of(drawn("agreement job", 32), members)


@st.composite
def cases(draw: Any) -> tuple[int, Rules, set[int], set[int], int, list[int]]:
    """n, rules, who is lost before UPLOAD and after it, parameters, and the bits of every difference."""
    n = draw(st.integers(3, 7))
    found = quorums(n)
    rules = Rules(
        bits=draw(st.sampled_from((8, 16, 32))),
        clip_norm=64,
        metrics=("evaluate/accuracy", "train/loss")[: draw(st.integers(0, 2))],
        chunk=4,
        blind=draw(st.booleans()),
        cipher=draw(st.sampled_from((AES_256_CTR, CHACHA20))),
    )
    order = draw(st.permutations(range(1, n + 1)))
    early = set(order[: draw(st.integers(0, n - found.m))])
    late = set(order[len(early) :][: draw(st.integers(0, min(n - found.t, n - found.q)))])
    size = draw(st.integers(1, 9))
    seeds = draw(st.lists(st.integers(0, 2**32 - 1), min_size=n, max_size=n))
    return n, rules, early, late, size, seeds


def input_of(seed: int, size: int, metrics: tuple[str, ...]) -> Input:
    dice = np.random.default_rng(seed)
    spread = float(dice.choice([1e-9, 0.01, 1.0, 30.0, 1e6]))
    values = dice.normal(0, spread, size).astype(np.float32)
    figures = {name: Fraction(float(dice.normal(0, 10))) for name in metrics if dice.random() < 0.8}
    return Input(floats.singles(values.tobytes()), Fraction(float(dice.random() * 5000)), figures)


@settings(deadline=None, max_examples=25)
@given(case=cases())
@example(case=(3, Rules(16, 64, ("train/loss",), 4), set(), {2}, 5, [1, 2, 3]))
@example(case=(4, Rules(32, 64, (), 4, True, CHACHA20), {1}, {3}, 6, [4, 5, 6, 7]))
@example(case=(7, Rules(8, 64, ("train/loss",), 4), {2, 6}, {7}, 9, [1, 2, 3, 4, 5, 6, 7]))
def test_whole_rounds_agree(case: tuple[int, Rules, set[int], set[int], int, list[int]]) -> None:
    """Every message of every member, every byte of every update, the sum, the mean, the next model: over two rounds."""
    n, rules, early, late, size, seeds = case
    made = epoch(n)
    terms = product.terms_of(made.job, rules)
    labs = {index: product.Lab(made, index, terms, LABEL) for index in range(1, n + 1)}
    for index, lab in labs.items():
        said = [product.sent(said) for _, said in lab.setup()]
        assert said == [
            product.sent(product.message(kind, of[index - 1]))
            for kind, of in (
                ("KeyMessage", made.keys),
                ("Encapsulation", made.encapsulations),
                ("RosterSignature", made.signatures),
                ("Opening", made.openings),
                ("Confirmation", made.confirmations),
            )
        ]
        assert lab.machine.position.roster_hash == made.roster_hash

    weights = floats.singles(np.random.default_rng(seeds[0]).normal(0, 1, size).astype(np.float32).tobytes())
    scales = [-6] * -(-size // rules.chunk)
    state = sums.state_digest(1, {"weights": weights}, scales)
    held = product.state_of(1, floats.bytes_of_singles(weights), scales)
    assert held.digest() == state
    for lab in labs.values():
        lab.hears(StateReady(1, state))

    receipts: list[dict[str, Any]] = []
    for round_ in (1, 2):
        ready = tuple(range(1, n + 1))
        attempt = Attempt(
            made, rules, round_, 0, state, scales, ready, tuple(index for index in ready if index not in early), tuple(late),
            majority(n, [index for index in ready if index not in late]),
            {index: input_of(seed + round_, size, rules.metrics) for index, seed in enumerate(seeds, start=1)},
            f"{LABEL}/{round_}", receipts=receipts,
        )  # fmt: skip
        following = run_round(labs, terms, attempt)
        total = attempt.opened()
        assert total.chunks == attempt.plain_sum().chunks
        assert total.header[:-4] == attempt.plain_sum().header

        step = sums.mean(attempt.code, total, scales)
        found = following["sum"]
        assert [level for chunk in found.chunks() for level in chunk.tolist()] == total.levels
        assert mean_of(found, np.array(scales, np.int8)).tobytes() == floats.bytes_of_doubles(step)
        weights = sums.averaged(weights, step)
        after = sums.next_scales(attempt.code, total, scales, len(attempt.cohort), rules.lowest, rules.highest)
        moved = next_scales(
            np.array(scales, np.int8), found.peaks, len(attempt.cohort), attempt.code.bound, found.saturated, terms
        )
        assert moved.tolist() == after
        held = product.stepped(held, mean_of(found, np.array(scales, np.int8)), moved)
        scales = after
        state = sums.state_digest(round_ + 1, {"weights": weights}, scales)
        assert held.digest() == state
        receipts = [attempt.receipt(index, state) for index in range(1, n + 1)]
        for index, lab in labs.items():
            fetch = following["fetch"][index]
            said = lab.hears(SumApplied(attempt.context, state, public_words(found.header, terms)))
            first = next(each.message for each in said if isinstance(each, Send))
            assert first == product.message("Receipt", receipts[index - 1])
            assert fetch.cohort == attempt.cohort
        receipts = receipts[: quorums(n).q]


def run_round(labs: dict[int, product.Lab], terms: Any, attempt: Attempt) -> dict[str, Any]:
    """Every machine through the attempt; the sum as the product's members read it."""
    n, updates = attempt.epoch.n, {}
    for index, lab in labs.items():
        member = attempt.epoch.members[index - 1].id
        lab.draws = Draws(f"{attempt.label}/{member}")
        assert attempt.readies[index - 1] == said_ready(lab, attempt.readies[index - 1])
        work = next(each for each in lab.told("Announcement", attempt.announcement) if isinstance(each, Contribute))
        assert work.plan.context == attempt.context
        pieces = product.encoded(terms, attempt, index, work.plan)
        assert pieces == attempt.updates[index].chunks
        updates[index] = b"".join(pieces)
        code = codes.encoding_of(terms, n, attempt.epoch.unit)
        root = root_of(updates[index], terms, code)
        said = [each.message for each in lab.hears(Encoded(attempt.context, root)) if isinstance(each, Send)]
        assert said == [product.message("Upload", attempt.uploads[index])]
    reveals, replies = {}, []
    for index, lab in labs.items():
        said = [each.message for each in lab.told("Survivors", attempt.survivors) if isinstance(each, Send)]
        assert said == [product.message("Ack", attempt._ack(index))]
    for index, lab in labs.items():
        if index in attempt.silent:
            continue
        said = [each.message for each in lab.told("Certificate", attempt.certificate) if isinstance(each, Send)]
        if index not in attempt.cohort:
            assert said == []
            continue
        assert said == [product.message("Reveal", attempt.reveals[index])]
        reveals[index] = said[0]
        recovery.check_reveal(said[0], product.message("Upload", attempt.uploads[index]), attempt.gone)
    for (owner, holder), asked in attempt.recovers.items():
        said = [each.message for each in labs[holder].told("Recover", asked) if isinstance(each, Send)]
        assert said == [product.message("RecoverReply", attempt.replies[owner, holder])]
        recovery.check_reply(said[0], product.message("Upload", attempt.uploads[owner]), attempt.gone)
        replies.append(said[0])
    seeds = {index: seeds_of(attempt, index, reveals, replies) for index in attempt.cohort}
    assert seeds == attempt.seeds
    unmask = recovery.unmask_plan(attempt.context, seeds, terms.cipher)
    assert added([updates[index] for index in attempt.cohort], terms, code, unmask) == attempt.sum
    fetches = {
        index: next(each for each in lab.told("Close", attempt.close) if isinstance(each, FetchSum))
        for index, lab in labs.items()
    }
    return {"fetch": fetches, "sum": product.opened(terms, attempt, fetches[1], attempt.sum)}


def said_ready(lab: product.Lab, expected: Any) -> Any:
    """Says its last READY again when it is told again where it stands."""
    place = lab.machine.position
    said = [each.message for each in lab.hears(StateReady(place.round, place.state_digest)) if isinstance(each, Send)]
    assert said[-1] == product.message("Ready", expected)
    return expected


def seeds_of(attempt: Attempt, index: int, reveals: dict[int, Reveal], replies: list[RecoverReply]) -> dict[int, bytes]:
    if index in reveals:
        return {0: reveals[index].self_seed, **dict(reveals[index].edges)}
    upload = product.message("Upload", attempt.uploads[index])
    answers = [each for each in replies if each.owner == index]
    return recovery.rebuild(answers, upload, attempt.gone, quorums(attempt.epoch.n).t)


# --------------------------------------------------------------------------------------------------------------- pieces


@settings(deadline=None, max_examples=150)
@given(
    bits=st.sampled_from((8, 16, 32)),
    n=st.integers(3, 200),
    values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=6),
    exponent=st.integers(-60, 20),
    lighter=st.integers(0, 20),
    cipher=st.sampled_from((AES_256_CTR, CHACHA20)),
    index=st.integers(0, 3),
)
def test_levels_of_any_float_agree(
    bits: int, n: int, values: list[float], exponent: int, lighter: int, cipher: str, index: int
) -> None:
    rules = Rules(bits, 64, (), len(values), False, cipher, -60, 20)
    terms = product.terms_of(bytes(32), rules)
    code, unit = codes.encoding_of(terms, n, 1 << 20), 1 << 20
    plain = plain_update.Code(n, bits, cipher, unit, Fraction(64), len(values), ())
    assume(plain.bound)  # 8 bits have no level for more than 127 members, and no manifest asks for it
    data, dither = np.array(values, np.float32), drawn("levels", 32)
    scales = np.full(index + 1, exponent, np.int8)
    padded = np.concatenate([np.zeros(index * len(values), np.float32), data])
    weight = unit >> lighter
    largest = max(abs(value) for value in values) * 2.0**-exponent / 2**lighter
    made = encode(padded, Header.of(terms, weight, 0.0, {}), MaskPlan(bytes(32), (), dither, cipher), code, scales)
    if bits < 32 and largest >= 2.0**128:
        with np.errstate(over="ignore"), pytest.raises(TaskFailed):
            list(made)
        return
    pieces = list(made)
    levels, saturated = plain_update.levels(plain, floats.singles(data.tobytes()), weight, exponent, dither, index)
    assert pieces[index] == plain_update.bytes_of(levels, bits)
    assert int.from_bytes(pieces[-1][16:24], "little") == saturated


@pytest.mark.parametrize("leaves", range(1, 18))
def test_trees_and_paths_agree(leaves: int) -> None:
    chunks = [drawn(f"leaf {place}", 7) for place in range(leaves)]
    tree = merkle.MerkleRoot()
    for chunk in chunks:
        tree.add(chunk)
    assert tree.root() == plain_merkle.root(chunks)
    for place, chunk in enumerate(chunks):
        path = plain_merkle.path(chunks, place)
        assert list(merkle.path_of([merkle.leaf_hash(each) for each in chunks], place)) == path
        assert merkle.root_from_path(chunk, place, leaves, path) == tree.root()


@pytest.mark.parametrize("n", range(3, 201))
def test_quorums_agree(n: int) -> None:
    found = Quorums.of(n)
    assert (found.n, found.f, found.q, found.t, found.m) == tuple(quorums(n))
