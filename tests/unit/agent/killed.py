"""A process that is killed in the middle: it shares this test's memory up to then, and nothing of it runs afterwards."""

from __future__ import annotations

import os
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

KILLED = 9
FAILED = 1
ENDLESS = 200


def killed_in(work: Callable[[], object], *, before: int) -> bool:
    """Runs ``work`` in a child that dies without a word right before its ``before``-th durable step: a sync or a rename.

    False: it came to its end before that. No ``finally`` of the child runs, as under kill -9 or in a power cut.
    """
    with warnings.catch_warnings():
        # The child touches files alone, none of the threads that other tests may have left running.
        warnings.simplefilter("ignore", DeprecationWarning)
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
