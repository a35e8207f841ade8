"""Secure aggregation against the core's own cipher, against Flower's SecAgg+, and against plain averaging: one table.

    python -m benchmarks.secure_aggregation [--large] [--hundred] [--billion] [--only SECTION ...]

By default 1M and 10M parameters, 3, 10 and 21 members, and 100 members at 1M: under ten minutes on two cores. ``--large`` adds
100M parameters, ``--hundred`` 100 members at every size, ``--billion`` one update of 10^9 parameters (4 GB) through three members
and a coordinator.
Progress is on stderr; the table, in Markdown, on stdout. It ends with 1 when a goal is missed; the table says by how much.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from benchmarks import masking, synthetic
from benchmarks.roles import seconds_of
from federation.secagg import encoding as codes
from federation.secagg.events import FloatArray, Mask, MaskPlan, TagPlan
from federation.secagg.header import Header

REPEATS = 5
TEN_MILLION = 10_000_000
HUNDRED = 100
"""members of the largest cohort that is measured"""
BLOCK = 1 << 20
LINKS = ((10_000, "10 Gbit/s"), (1_000, "1 Gbit/s"), (100, "100 Mbit/s"))


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the table."""

    what: str
    ours: str
    against: str
    ratio: str
    goal: str = ""
    holds: bool | None = None
    """None: nothing is promised"""

    def row(self) -> str:
        judged = {True: "holds", False: "**missed**", None: ""}[self.holds]
        return f"| {self.what} | {self.ours} | {self.against} | {self.ratio} | {self.goal} | {judged} |"


def _keystream(size: int) -> Callable[[], None]:
    """AES-256-CTR over ``size`` bytes, in blocks that stay in the cache, and nothing else: the limit."""
    zeros, out = bytes(BLOCK), bytearray(BLOCK)
    cipher = Cipher(AES(bytes(32)), CTR(bytes(16))).encryptor()

    def work() -> None:
        for start in range(0, size, BLOCK):
            count = min(BLOCK, size - start)
            cipher.update_into(memoryview(zeros)[:count], memoryview(out)[:count])

    return work


def _masked(neighbours: int, ring: int, lanes: int, *, whole: bool = False) -> Callable[[FloatArray], None]:
    """Quantise, and every mask; ``whole``: the sum MAC and the hashes, too."""
    terms = synthetic.terms(ring)
    encoding = synthetic.encoding(terms, neighbours + 1)
    masks = tuple(Mask(synthetic.seed(place), +1 if place % 2 else -1) for place in range(neighbours + 1))
    tag = TagPlan(synthetic.seed("group"), (synthetic.seed("pad"),)) if whole else None
    plan = MaskPlan(synthetic.CONTEXT, masks, synthetic.seed("dither"), tag=tag)
    header = Header.of(terms, 1, 1.0, {"train/loss": 0.5})

    def work(difference: FloatArray) -> None:
        scales = synthetic.scales(terms, difference.size)
        for _ in codes.pieces_of(difference, header, plan, encoding, scales, lanes=lanes, hashed=whole):
            pass

    return work


def _difference() -> FloatArray:
    return np.resize(synthetic.tile(1), TEN_MILLION)


def cipher_limit(_chosen: argparse.Namespace) -> Iterator[Line]:
    difference = _difference()
    for neighbours, goal in ((9, 0.6), (20, 0.7)):
        size = 2 * TEN_MILLION * (neighbours + 1)
        one, two = _masked(neighbours, 16, 1), _masked(neighbours, 16, 2)
        limit, mine, both = seconds_of(
            _keystream(size), partial(one, difference), partial(two, difference), repeats=REPEATS
        )
        share = limit / mine
        yield Line(
            f"quantise and all masks, 10M, {neighbours} neighbours, 16 bit, one core",
            f"{mine:.4f} s",
            f"{limit:.4f} s: AES-256-CTR of the masks ({size / limit / 1e9:.1f} GB/s)",
            f"{share:.0%} of the limit",
            f">= {goal:.0%}",
            share >= goal,
        )
        yield Line(
            f"the same, two threads, {neighbours} neighbours",
            f"{both:.4f} s",
            f"{mine:.4f} s: one",
            f"{mine / both:.2f}x",
            ">= 1.8x",
            mine / both >= 1.8,
        )


def flower(_chosen: argparse.Namespace) -> Iterator[Line]:
    difference = _difference()
    seeds = [synthetic.seed(place) for place in range(10)]
    works: list[Callable[[], object]] = [partial(masking.flower, difference, seeds)]
    for ring in (16, 32):
        for whole in (False, True):
            works.append(partial(_masked(9, ring, 1, whole=whole), difference))
    works.append(partial(_masked(9, 16, 2, whole=True), difference))
    theirs, *mine = seconds_of(*works, repeats=REPEATS)
    names = ("16 bit", "16 bit, with sum MAC and hashes", "32 bit", "32 bit, with sum MAC and hashes")
    goals: tuple[float | None, ...] = (15, None, 8, None)
    for name, seconds, goal in zip(names, mine, goals, strict=False):
        ratio = theirs / seconds
        promised = "" if goal is None else f">= {goal}x"
        holds = None if goal is None else ratio >= goal
        what = f"a member's work, 10M, 9 neighbours, {name}, one thread"
        yield Line(
            what, f"{seconds:.4f} s", f"{theirs:.3f} s: flwr's SecAgg+ functions", f"{ratio:.1f}x", promised, holds
        )
    what = "the same, 16 bit, with sum MAC and hashes, two threads"
    yield Line(what, f"{mine[-1]:.4f} s", f"{theirs:.3f} s (it has one)", f"{theirs / mine[-1]:.1f}x")
    terms = synthetic.terms()
    sent = codes.update_size(terms, synthetic.encoding(terms, 10), TEN_MILLION)
    peer = 8 * TEN_MILLION  # int64 arrays, as parameters_mod returns them
    yield Line(
        "upload, 10M, 16 bit",
        f"{sent / 1e6:.1f} MB",
        f"{peer / 1e6:.0f} MB: int64",
        f"1/{peer / sent:.1f}",
        "<= 1/4, and a header",
        sent <= peer / 4 + 1024,
    )


def _run(module: str, *arguments: object) -> dict[str, Any]:
    """A module of ours in a process of its own: the JSON of its last line."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    print("  " + " ".join(command[2:]), file=sys.stderr, flush=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr[-4000:]}")
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def plain_averaging(chosen: argparse.Namespace) -> Iterator[Line]:
    members = 10
    with tempfile.TemporaryDirectory(prefix="concord-bench-", dir=chosen.folder) as name:
        folder = Path(name)
        synthetic.make_model(folder / "base", TEN_MILLION)
        synthetic.make_model(folder / "trained", TEN_MILLION, 0)
        settings = ("--folder", folder, "--parameters", TEN_MILLION, "--members", members)
        server = subprocess.Popen([sys.executable, "-m", "benchmarks.transport", "serve", *map(str, settings)])
        try:
            deadline = time.monotonic() + 60
            while not (folder / "server").exists():
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the server of the transport did not start")
                time.sleep(0.1)
            said = _run("benchmarks.transport", "compare", *settings, "--repeats", REPEATS)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)
    mine, plain = said["ours"] / members, said["plain"] / members
    yield Line(
        "one member's share of a round (up, sum, down, next state), 10M, 9 neighbours, loopback",
        f"{mine:.3f} s",
        f"{plain:.3f} s: plain fp32 over the same transport",
        f"{mine / plain:.2f}x its time",
        "<= 1.3x",
        mine <= 1.3 * plain,
    )
    for rate, label in LINKS:
        over = [
            seconds + 8 * said[f"{name}_bytes"] / (rate * 1e6) for seconds, name in ((mine, "ours"), (plain, "plain"))
        ]
        promised = rate <= 1_000
        yield Line(
            f"the same at {label}: loopback plus the time of its bytes (computed)",
            f"{over[0]:.2f} s",
            f"{over[1]:.2f} s",
            f"{over[0] / over[1]:.2f}x its time",
            "< 1x" if promised else "",
            over[0] < over[1] if promised else None,
        )


def sizes(chosen: argparse.Namespace) -> Iterator[Line]:
    """Each role alone in a process, so that its memory is its own."""
    parameters = [1_000_000, TEN_MILLION] + ([100_000_000] if chosen.large else [])
    members = [3, 10, 21, HUNDRED]
    for count in parameters:
        for n in members:
            if n == HUNDRED and count > parameters[0] and not chosen.hundred:
                continue
            with tempfile.TemporaryDirectory(prefix="concord-bench-", dir=chosen.folder) as folder:
                settings = ("--folder", folder, "--parameters", count, "--members", n, "--repeats", REPEATS)
                member = _run("benchmarks.roles", "member", *settings)
                # Before UPLOAD, every lost member leaves a mask for each that stayed: quadratic, and told, up to 10M.
                before = ("--before",) if count <= TEN_MILLION else ()
                collector = _run("benchmarks.roles", "collector", *settings, "--lost", *before)
                step = _run("benchmarks.roles", "step", *settings)
            name = f"{count // 1_000_000}M, {n} members"
            mib = member["anonymous_mib"]
            yield Line(
                f"{name}: a member's contribution (difference to file)",
                f"{member['seconds']:.3f} s",
                "",
                f"{mib:.0f} MiB above the model",
                "<= 64 MiB",
                mib <= 64,
            )
            yield Line(
                f"{name}: a member's next state",
                f"{step['seconds']:.3f} s",
                "",
                f"{step['anonymous_mib']:.0f} MiB above the model",
                "<= 64 MiB",
                step["anonymous_mib"] <= 64,
            )
            yield Line(f"{name}: root of one update", f"{collector['root_seconds']:.3f} s", "", "")
            mib = collector["anonymous_mib"]
            yield Line(
                f"{name}: the sum, unmasked",
                f"{collector['seconds']:.3f} s",
                "",
                f"{mib:.0f} MiB, for any number of members",
                "<= 64 MiB",
                mib <= 64,
            )
            if collector["lost"]:
                after, free = collector["lost_after_seconds"], collector["seconds"]
                yield Line(
                    f"{name}: the sum, {collector['lost']} lost after UPLOAD",
                    f"{after:.3f} s",
                    f"{free:.3f} s: nobody lost",
                    f"{after / free:.2f}x",
                    "<= 1.5x" if n == HUNDRED else "",
                    after <= 1.5 * free if n == HUNDRED else None,
                )
                if "lost_before_seconds" in collector:
                    before_seconds = collector["lost_before_seconds"]
                    yield Line(
                        f"{name}: the sum, {collector['lost']} lost before UPLOAD",
                        f"{before_seconds:.3f} s",
                        f"{free:.3f} s: nobody lost",
                        f"{before_seconds / free:.2f}x",
                    )


def billion(chosen: argparse.Namespace) -> Iterator[Line]:
    """Three members' updates of 10^9 parameters, one after another, from model files to the next state's file."""
    parameters, n = chosen.parameters, 3
    with tempfile.TemporaryDirectory(prefix="concord-bench-", dir=chosen.folder) as name:
        folder = Path(name)
        settings = ("--folder", folder, "--parameters", parameters, "--members", n, "--repeats", 1)
        made = [_run("benchmarks.roles", "member", *settings, "--index", index) for index in range(n)]
        roots = [each["root"] for each in made]
        collector = _run("benchmarks.roles", "collector", *settings, "--real", "--roots", *roots)
        step = _run("benchmarks.roles", "step", *settings, "--real", "--sum", collector["sum"])
    name = f"{parameters / 1e9:g} billion parameters, 3 members"
    seconds, mib = statistics.median(each["seconds"] for each in made), max(each["anonymous_mib"] for each in made)
    yield Line(
        f"{name}: a member's contribution",
        f"{seconds:.1f} s",
        "",
        f"{mib:.0f} MiB above the model",
        "<= 64 MiB",
        mib <= 64,
    )
    mib = collector["anonymous_mib"]
    yield Line(
        f"{name}: the coordinator's sum",
        f"{collector['seconds']:.1f} s",
        f"{collector['root_seconds']:.1f} s: hashing one update",
        f"{mib:.0f} MiB",
        "flat",
        mib <= 64,
    )
    mib = step["anonymous_mib"]
    yield Line(
        f"{name}: a member's next state",
        f"{step['seconds']:.1f} s",
        "",
        f"{mib:.0f} MiB above the model",
        "<= 64 MiB",
        mib <= 64,
    )
    worst = step["worst_error_in_levels"]
    yield Line(f"{name}: that state against the plain mean", f"{worst:.2f} levels", "", "", "<= 1 level", worst <= 1.01)


SECTIONS: dict[str, Callable[[argparse.Namespace], Iterator[Line]]] = {
    "cipher": cipher_limit,
    "flower": flower,
    "plain": plain_averaging,
    "sizes": sizes,
    "billion": billion,
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.secure_aggregation", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--large", action="store_true", help="100M parameters as well")
    parser.add_argument("--hundred", action="store_true", help="100 members at every size")
    parser.add_argument("--billion", action="store_true", help="one billion parameters through three members")
    parser.add_argument("--only", nargs="*", choices=SECTIONS, default=[], help="these sections alone")
    parser.add_argument("--folder", type=Path, default=None, help="where the files go (default: the system's place)")
    parser.add_argument("--parameters", type=int, default=1_000_000_000, help="of --billion")
    chosen = parser.parse_args(arguments)
    wanted = chosen.only or [name for name in SECTIONS if name != "billion" or chosen.billion]
    began, lines = time.monotonic(), []
    for name in wanted:
        print(name, file=sys.stderr, flush=True)
        for line in SECTIONS[name](chosen):
            print(line.row(), file=sys.stderr, flush=True)
            lines.append(line)
    cores, system = len(os.sched_getaffinity(0)), platform.processor() or platform.machine()
    print(
        f"{cores} cores ({system}), Python {platform.python_version()}, NumPy {np.__version__}; {time.monotonic() - began:.0f} s.\n"
    )
    print("| what | ours | against | ratio | goal | |\n|---|---|---|---|---|---|")
    for line in lines:
        print(line.row())
    return 0 if all(line.holds is not False for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
