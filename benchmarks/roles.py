"""One role of a round, alone in a process, so that its memory is its own: `python -m benchmarks.roles ROLE ...`, one JSON line.

- `member`: difference of two mapped models, norm, levels, masks, sum MAC, hashes, file: the whole of a contribution after training.
- `collector`: the root of one update, then the sum of all, unmasked, among the blobs; with members lost after UPLOAD or before.
- `step`: a member takes the blind masks off a sum, checks ranges and MAC, and computes, hashes and writes its next state.

Times are medians of ``--repeats`` after one to warm up. ``anonymous_mib`` is the largest anonymous memory (RssAnon) above what the
process had before: what cannot be given back by dropping a mapped file. ``resident_mib`` counts mapped files, too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import mmap
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import synthetic
from benchmarks.processes import resident_peak
from coordinator.rounds.sums import make_sum
from coordinator.rounds.uploads import Uploads
from coordinator.store.blobs import Blobs
from coordinator.store.spool import Spool
from federation.secagg import encoding as codes
from federation.secagg import shamir
from federation.secagg.events import Mask, MaskPlan, Unmask
from federation.secagg.header import Header
from federation.secagg.levels import clipped
from federation.secagg.messages import Trailer, Upload
from federation.secagg.opening import open_sum
from federation.secagg.parameters import Quorums
from federation.secagg.summing import root_of
from federation.weights.layout import Difference
from federation.weights.outer_step import next_scales
from federation.weights.state import ModelState
from federation.weights.tensors import read_arrays
from node_agent.rounds.files import JobFiles
from node_agent.rounds.growing import GrowingUpdate

JOB = bytes(32)
LARGEST_SPOOL = 4 << 30
"""bytes of updates that lie apart on disk; beyond them, files are read again"""


def mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)


class Anonymous:
    """``with Anonymous() as memory``: the largest RssAnon above that at the beginning, looked at every few milliseconds."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._start = self._most = _anonymous()

    def _watch(self) -> None:
        while not self._stop.wait(0.004):
            self._most = max(self._most, _anonymous())

    def __enter__(self) -> Anonymous:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def mib(self) -> float:
        return (self._most - self._start) / 2**20


def _anonymous() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def seconds_of(*works: Callable[[], object], repeats: int) -> list[float]:
    """Medians of works that take turns, so that what disturbs one disturbs the others; after one of each to warm up, but when
    ``repeats`` is 1."""
    found: list[list[float]] = [[] for _ in works]
    for turn in range(repeats + (repeats > 1)):
        for place, work in enumerate(works):
            began = time.perf_counter()
            work()
            if turn or repeats == 1:
                found[place].append(time.perf_counter() - began)
    return [statistics.median(each) for each in found]


def contribute(base: Path, trained: Path, update: Path, member: int, members: int, ring: int, lanes: int) -> bytes:
    """As ``node_agent.rounds.training`` does it."""
    terms = synthetic.terms(ring)
    encoding = synthetic.encoding(terms, members)
    source, squared = clipped(Difference(read_arrays(trained), read_arrays(base)), terms.clip_norm, lanes)
    header = Header.of(terms, 1, squared, {"train/loss": 0.5})
    plan, scales = synthetic.plan_of(member, members), synthetic.scales(terms, source.size)
    growing = GrowingUpdate(update, codes.update_size(terms, encoding, source.size))
    return growing.write(codes.pieces_of(source, header, plan, encoding, scales, lanes=lanes))


def member(chosen: argparse.Namespace) -> dict[str, object]:
    folder: Path = chosen.folder
    base, trained, update = folder / "base", folder / f"trained-{chosen.index}", folder / f"update-{chosen.index}"
    for path, moved in ((base, None), (trained, chosen.index)):
        if not path.exists():
            synthetic.make_model(path, chosen.parameters, moved)
    root = b""

    def work() -> None:
        nonlocal root
        root = contribute(base, trained, update, chosen.index, chosen.members, chosen.ring, chosen.lanes)

    with Anonymous() as memory:
        (seconds,) = seconds_of(work, repeats=chosen.repeats)
    trained.unlink()
    return {"seconds": seconds, "anonymous_mib": memory.mib, "root": root.hex(), "bytes": update.stat().st_size}


def _spooled(spool: Spool, chosen: argparse.Namespace, size: int) -> None:
    """An update for every member: those that were made, or bytes like them."""
    apart = max(1, min(chosen.members, LARGEST_SPOOL // size))
    for index in range(chosen.members):
        made, path = chosen.folder / f"update-{index}", spool._path(JOB, synthetic.CONTEXT, f"m{index}")
        path.parent.mkdir(parents=True, exist_ok=True)
        if chosen.real:
            made.rename(path)
        elif index < apart:
            synthetic.make_update(path, size)
        else:
            os.link(spool._path(JOB, synthetic.CONTEXT, f"m{index % apart}"), path)


def collector(chosen: argparse.Namespace) -> dict[str, object]:
    terms, n = synthetic.terms(chosen.ring), chosen.members
    encoding = synthetic.encoding(terms, n)
    spool, blobs = Spool(chosen.folder / "spool", 1 << 40), Blobs(chosen.folder / "blobs")
    size = codes.update_size(terms, encoding, chosen.parameters)
    _spooled(spool, chosen, size)
    uploads = Uploads(JOB, terms, spool, {}, chosen.parameters)
    lost = math.floor(0.3 * n) if chosen.lost else 0
    threshold, holders = Quorums.of(n).t, list(range(1, n + 1))
    shares = {
        member: shamir.split(synthetic.seed("self", member), threshold, holders, os.urandom)
        for member in range(n - lost, n)
    }
    digest = b""

    def add(members: int, gone: int) -> None:
        nonlocal digest
        plan = synthetic.plan_of_collector(range(members), range(members, members + gone))
        unmask = Unmask(1, 0, plan, tuple(range(1, members + 1)), members, n, False)
        digest = make_sum(uploads, blobs, terms, unmask, [f"m{index}" for index in range(members)], 1).digest
        if not chosen.real:
            blobs.erase(digest)

    def add_after_rebuilding() -> None:
        for member, held in shares.items():
            some = {holder: held[holder] for holder in holders[:threshold]}
            if shamir.rebuild(some) != synthetic.seed("self", member):
                raise AssertionError("the shares rebuild another seed")
        add(n, 0)

    def root() -> bytes:
        with spool.open(JOB, synthetic.CONTEXT, "m0") as update:
            return root_of(update, terms, encoding, chosen.lanes)

    if chosen.real:  # as the coordinator takes them: settled, hashed, compared with what was signed
        for index in range(n):
            message = Upload(
                index + 1, synthetic.CONTEXT, bytes.fromhex(chosen.roots[index]), Trailer((), (), (), ()), b""
            )
            verdict = asyncio.run(uploads.check(f"m{index}", message, b"", header_only=False, members=n))
            if len(verdict.counted) != 1:
                raise AssertionError("an update was not counted")
    works: dict[str, Callable[[], object]] = {"root_seconds": root, "seconds": lambda: add(n, 0)}
    if lost:
        works["lost_after_seconds"] = add_after_rebuilding
    if lost and chosen.before:
        works["lost_before_seconds"] = lambda: add(n - lost, lost)
    with Anonymous() as memory:
        said = dict(zip(works, seconds_of(*works.values(), repeats=chosen.repeats), strict=True))
    return {**said, "lost": lost, "anonymous_mib": memory.mib, "sum": digest.hex()}


def step(chosen: argparse.Namespace) -> dict[str, object]:
    """The sum: one that was made, or a single update with the blind masks of all: the work is the same."""
    terms, n = synthetic.terms(chosen.ring), chosen.members
    encoding = synthetic.encoding(terms, n)
    base, path = chosen.folder / "base", chosen.folder / "blobs" / chosen.sum if chosen.real else chosen.folder / "sum"
    if not base.exists():
        synthetic.make_model(base, chosen.parameters)
    scales = synthetic.scales(terms, chosen.parameters)
    weight, pads = n, None
    if not chosen.real:
        trained = chosen.folder / "trained"
        synthetic.make_model(trained, chosen.parameters, 0)
        source, squared = clipped(Difference(read_arrays(trained), read_arrays(base)), terms.clip_norm)
        plan = synthetic.plan_of(0, n)
        masks = synthetic.plan_of_sum(n).masks
        blind = MaskPlan(plan.context, tuple(Mask(mask.seed, +1) for mask in masks), plan.dither, tag=plan.tag)
        header = Header.of(terms, 1, squared, {"train/loss": 0.5})
        GrowingUpdate(path, 0).write(codes.pieces_of(source, header, blind, encoding, scales, lanes=2))
        weight, pads = 1, (0,)
        del source
        trained.unlink()
    files = JobFiles(chosen.folder / "job")
    files.prepare()
    state = ModelState(1, read_arrays(base), {}, scales)
    fresh: ModelState | None = None

    def work() -> None:
        nonlocal fresh
        total = open_sum(
            mapped(path), synthetic.plan_of_sum(n, pads), terms, encoding, n, weight, chosen.parameters, chosen.lanes
        )
        moved = next_scales(scales, total.peaks, n, encoding.level_bound, total.saturated, terms)
        fresh = files.advance(synthetic.AVERAGE, state, total.means(scales), moved)

    with Anonymous() as memory:
        (seconds,) = seconds_of(work, repeats=chosen.repeats)
    worst = _worst(state, fresh, n if chosen.real else 1) if fresh is not None else math.inf
    return {"seconds": seconds, "anonymous_mib": memory.mib, "worst_error_in_levels": worst / 2.0 ** int(scales[0])}


def _worst(before: ModelState, after: ModelState, members: int) -> float:
    """How far the first and the last million parameters moved from where the mean of the members' differences puts them."""
    wanted = np.mean([synthetic.tile(1 + member).astype(np.float64) for member in range(members)], axis=0)
    worst = 0.0
    for name in (next(iter(before.arrays)), list(before.arrays)[-1]):
        size = min(synthetic.TILE, before.arrays[name].size)
        found = after.arrays[name][:size].astype(np.float64) - before.arrays[name][:size]
        worst = max(worst, float(np.abs(found - wanted[:size]).max()))
    return worst


ROLES = {"member": member, "collector": collector, "step": step}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.roles", description=__doc__.splitlines()[0])
    parser.add_argument("role", choices=ROLES)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--parameters", type=int, required=True)
    parser.add_argument("--members", type=int, required=True)
    parser.add_argument("--index", type=int, default=0)
    parser.add_argument("--ring", type=int, default=16)
    parser.add_argument("--lanes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--lost", action="store_true", help="also with 30 % lost after UPLOAD")
    parser.add_argument("--before", action="store_true", help="also with 30 % lost before UPLOAD")
    parser.add_argument("--real", action="store_true", help="updates and sum that were made before")
    parser.add_argument("--roots", nargs="*", default=[])
    parser.add_argument("--sum", default="")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    said = ROLES[chosen.role](chosen)
    print(json.dumps({**said, "resident_mib": resident_peak(os.getpid()) / 2**20}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
