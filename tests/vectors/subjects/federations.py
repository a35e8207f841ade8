"""The federations and rounds of the vectors. Everything that is "random" in them is SHAKE256 of a label."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from tests.plain import floats, sums
from tests.plain.attempt import Attempt, Input, Rules
from tests.plain.ciphers import AES_256_CTR, CHACHA20, drawn
from tests.plain.setup import Epoch, Member, epoch_of

JOB = drawn("job", 32)
LABEL = "vectors"


@dataclass(frozen=True)
class State:
    round: int
    weights: list[Fraction]
    scales: list[int]

    @property
    def digest(self) -> bytes:
        return sums.state_digest(self.round, {"weights": self.weights}, self.scales)


@dataclass(frozen=True)
class Round:
    comment: str
    state: State
    attempt: Attempt

    @property
    def following(self) -> State:
        attempt, total = self.attempt, self.attempt.opened()
        step = sums.mean(attempt.code, total, self.state.scales)
        rules = attempt.rules
        scales = sums.next_scales(
            attempt.code, total, self.state.scales, len(attempt.cohort), rules.lowest, rules.highest
        )
        return State(self.state.round + 1, sums.averaged(self.state.weights, step), scales)


@cache
def epoch(name: str) -> Epoch:
    seats = {
        "three": {"br": 4, "in": 2, "ke": 1},
        "four": {"br": 1, "fr": 8, "in": 2, "ke": 8},
        "five": {"br": 1, "fr": 1, "in": 1, "jp": 1, "ke": 1},
        "six": {"br": 1, "fr": 1, "in": 1, "jp": 1, "ke": 1, "us": 1},
        "strangers": {"br": 1, "fr": 1, "in": 1, "us": 1, "za": 1},
    }[name]
    members = [Member.of(f"{LABEL}/{name}", id_, weight) for id_, weight in seats.items()]
    if name in ("six", "strangers"):
        return epoch_of(JOB, members, 2, 0, epoch("five").roster_hash)
    return epoch_of(JOB, members)


def singles(*values: float) -> list[Fraction]:
    """As float32 has them."""
    return [floats.single(Fraction(value)) for value in values]


def squared(values: list[Fraction]) -> Fraction:
    return floats.double(sum((value * value for value in values), Fraction(0)))


def given(label: str, size: int, spread: int, figures: dict[str, float]) -> Input:
    """Differences drawn within +-spread, and figures as float64."""
    words = [int.from_bytes(drawn(f"{label}/{place}", 4), "big") for place in range(size)]
    values = [floats.single(Fraction(2 * word - 2**32 + 1, 2**32) * spread) for word in words]
    return Input(values, squared(values), {name: Fraction(value) for name, value in figures.items()})


def three() -> Round:
    made = epoch("three")
    rules = Rules(16, 64, ("train/loss",), 4)
    state = State(1, singles(0.5, -0.25, 1.0, 0.0, -2.0, 0.125), [-10, -10])
    differences = {
        1: singles(0.01, -0.02, 0.75, 0.0, 3.0, -0.5),
        2: singles(-0.01, 0.015625, -1.5, 0.25, -0.125, 0.0),
        3: singles(1.0, 1e-9, -0.3, 0.1, 60.0, -0.0625),
    }
    losses = {1: {"train/loss": Fraction(2.25)}, 2: {"train/loss": Fraction(1.5)}, 3: {}}
    inputs = {index: Input(values, squared(values), losses[index]) for index, values in differences.items()}
    return Round(
        "Three members, blind, 16-bit ring, AES; member 3 is lost after its UPLOAD and its seeds are rebuilt. It has no figure.",
        state,
        Attempt(
            made,
            rules,
            1,
            0,
            state.digest,
            state.scales,
            (1, 2, 3),
            (1, 2, 3),
            (3,),
            (1, 2),
            inputs,
            f"{LABEL}/three/1/0",
        ),
    )


def four() -> tuple[Round, Round]:
    made = epoch("four")
    rules = Rules(32, 100, ("evaluate/accuracy", "train/loss"), 4, blind=False, cipher=CHACHA20)
    state = State(1, singles(*([0.5] * 9)), [-12, -12, -12])
    first = Attempt(
        made, rules, 1, 0, state.digest, state.scales, (1, 2, 3, 4), (1, 3, 4), (), (1, 3, 4),
        {i: given(f"four/1/{i}", 9, 2, {"evaluate/accuracy": 0.25 * i, "train/loss": 4.0 - i}) for i in range(1, 5)},
        f"{LABEL}/four/1/0",
    )  # fmt: skip
    one = Round(
        "Four members, the coordinator sees the sum, 32-bit ring, ChaCha20; member 2 is ready and lost before its UPLOAD: the "
        "others reveal their seeds towards it.",
        state,
        first,
    )
    after = one.following
    receipts = [first.receipt(index, after.digest) for index in (1, 3, 4)]
    second = Attempt(
        made, rules, 2, 0, after.digest, after.scales, (1, 2, 4), (1, 2, 4), (4,), (1, 2, 3),
        {i: given(f"four/2/{i}", 9, 1, {"train/loss": 1.0 / i}) for i in (1, 2, 4)},
        f"{LABEL}/four/2/0", minimum={2: 3}, receipts=receipts,
    )  # fmt: skip
    two = Round(
        "Round 2 of the same members, with keys that are ratcheted once; member 3 was not ready, yet it ACKs; member 4 is "
        "lost after "
        "its UPLOAD.",
        after,
        second,
    )
    return one, two


def five() -> tuple[Round, Round]:
    made = epoch("five")
    rules = Rules(8, 4, (), 4, cipher=AES_256_CTR)
    state = State(1, singles(0.0, 1.0, -1.0, 0.5, 0.25, 8.0, -8.0), [-3, -3])

    def attempt(number: int, **more: object) -> Attempt:
        return Attempt(
            made, rules, 1, number, state.digest, state.scales, (1, 2, 3, 4, 5), (1, 2, 4, 5), (2,), (1, 3, 4, 5),
            {i: given(f"five/{number}/{i}", 7, 2, {}) for i in range(1, 6)}, f"{LABEL}/five/1/{number}",
            **more,  # type: ignore[arg-type]
        )  # fmt: skip

    first = attempt(0)
    aborts = [first.abort(index) for index in (1, 3, 4, 5)]
    second = attempt(1, aborts=aborts)
    return (
        Round("Five members, blind, 8-bit ring: an attempt that four members ABORT after their UPLOADs.", state, first),
        Round(
            "The next attempt, with fresh seeds: member 3 is lost before its UPLOAD and member 2 after it; one is outside, one is "
            "recovered, and both kinds of seeds are rebuilt.",
            state,
            second,
        ),
    )


@cache
def rounds() -> dict[str, Round]:
    one, two = four()
    before, after = five()
    return {"three": three(), "four": one, "four, round 2": two, "five, aborted": before, "five, attempt 1": after}
