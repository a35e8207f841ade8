"""Processes that are killed in the middle: a child shares all memory up to then, and nothing of it runs afterwards.

A process is forked from one that has no other threads: ``alone`` starts that one and plays a scene in it (``deaths``).
"""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

KILLED = 9
FAILED = 1
ENDLESS = 200
START = """\
import sys
from importlib import import_module
from pathlib import Path
getattr(import_module(sys.argv[1]), sys.argv[2])(Path(sys.argv[3]))
"""


def alone(scene: Callable[[Path], None], folder: Path) -> None:
    """Plays a scene in a process of its own; what it asserts must hold there."""
    done = subprocess.run(
        [sys.executable, "-c", START, scene.__module__, scene.__name__, str(folder)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr


def killed_in(work: Callable[[], object], *, before: int) -> bool:
    """Runs ``work`` in a child that dies without a word right before its ``before``-th durable step: a sync or a rename.

    False: it came to its end before that. No ``finally`` of the child runs, as under kill -9 or in a power cut.
    """
    child = os.fork()
    if child == 0:
        _die_in(work, before)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, KILLED), f"the child failed by itself ({code})"
    return code == KILLED


def each_kill(work: Callable[[int], object]) -> Iterator[int]:
    """Kills ``work(n)`` before its n-th step, for n = 1, 2, … until it comes to its end; gives each n that was a death."""
    for step in range(1, ENDLESS):
        if not killed_in(lambda step=step: work(step), before=step):  # type: ignore[misc]
            return
        yield step
    raise AssertionError("the work has no end")


def tree(folder: Path) -> dict[str, bytes | None]:
    """All that is in it, without what a kill left staged."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if not path.name.startswith(".")
    }


def _die_in(work: Callable[[], object], before: int) -> None:
    steps = 0

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **words: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps == before:
                os._exit(KILLED)
            return real(*arguments, **words)

        return step

    try:
        os.fsync = dying(os.fsync)
        Path.replace = dying(Path.replace)  # type: ignore[method-assign]
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(FAILED)
    os._exit(0)
