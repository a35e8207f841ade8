"""What a round costs: ours against Flower's SuperLink and three SuperNodes; one app, one machine, one run.

    python -m benchmarks.rounds [overhead|large] [--peer-only]

`overhead`: ten floats, so that nothing but the round itself is measured. `large`: ten million float32. Ours is
encrypted (mutual TLS), masked and certified by the members; theirs is none of these. A round is the time from the end
of one to the end of the next, mean of five after one to warm up, with training and evaluation on every node in both.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.flower import PeerFailed, flower
from benchmarks.ours import RunFailed, concord
from benchmarks.reading import Reading
from examples.local_federation import end_on_signals

ROUNDS = 5
SMALL = 10
LARGE = 10_000_000
LIMIT_SECONDS = 180.0
SETTING = {"nodes": 3, "peer_is": "flwr SuperLink + 3 SuperNodes, FedAvg, neither encrypted nor masked"}


def overhead(folder: Path) -> Iterator[Reading]:
    theirs = flower(folder / "flower", SMALL, ROUNDS, LIMIT_SECONDS)
    mine = concord(folder / "concord", SMALL, ROUNDS, LIMIT_SECONDS)
    yield Reading(
        benchmark="round-overhead",
        ours=mine.seconds,
        peer=theirs.seconds,
        unit="s/round",
        goal="ratio >= 50 and ours < 0.1",
        holds=theirs.seconds >= 50 * mine.seconds and mine.seconds < 0.1,
        detail={**SETTING, "parameters": SMALL, **mine.detail, **theirs.detail},
    )


def large(folder: Path) -> Iterator[Reading]:
    theirs = flower(folder / "flower", LARGE, ROUNDS, LIMIT_SECONDS)
    mine = concord(folder / "concord", LARGE, ROUNDS, LIMIT_SECONDS)
    yield Reading(
        benchmark="round-10m",
        ours=mine.seconds,
        peer=theirs.seconds,
        unit="s/round",
        goal="ratio >= 5",
        holds=theirs.seconds >= 5 * mine.seconds,
        detail={**SETTING, "parameters": LARGE, **mine.detail, **theirs.detail},
    )
    ours, peer = mine.peaks["coordinator"] / 1e6, sum(theirs.peaks.values()) / 1e6
    yield Reading(
        benchmark="coordinator-memory-10m",
        ours=ours,
        peer=peer,
        unit="MB",
        goal="ours < peer",
        holds=ours < peer,
        detail={**SETTING, "peer_by_process": {name: round(size / 1e6, 1) for name, size in theirs.peaks.items()}},
    )


BENCHMARKS: dict[str, Callable[[Path], Iterator[Reading]]] = {"overhead": overhead, "large": large}


def main(arguments: list[str] | None = None) -> int:
    end_on_signals()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rounds", description=__doc__.splitlines()[0])
    parser.add_argument("benchmark", nargs="*", choices=[*BENCHMARKS, []], help="which (default: both)")
    parser.add_argument("--peer-only", action="store_true", help="measure Flower alone")
    chosen = parser.parse_args(arguments)
    held = True
    for name in chosen.benchmark or BENCHMARKS:
        with tempfile.TemporaryDirectory(prefix="concord-bench-") as folder:
            if chosen.peer_only:
                theirs = flower(Path(folder) / "flower", SMALL if name == "overhead" else LARGE, ROUNDS, LIMIT_SECONDS)
                line = {"benchmark": name, "peer": theirs.seconds, "unit": "s/round", "peaks": theirs.peaks}
                print(json.dumps({**line, **theirs.detail}), flush=True)
                continue
            try:
                for reading in BENCHMARKS[name](Path(folder)):
                    held = held and reading.holds
                    print(reading.line(), flush=True)
            except (PeerFailed, RunFailed) as error:
                held = False
                print(json.dumps({"benchmark": name, "holds": False, "reason": str(error)}), flush=True)
    return 0 if held else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
