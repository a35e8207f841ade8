"""Work on chunks in several threads, with the results in order: what comes out is the same however many threads there are.

Ciphers, hashes and array arithmetic let go of Python's lock while they work, so that threads use as many cores. Memory is
bounded by stations, of which there is one more than lanes: while one result is read, every lane has work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

from federation.secagg import sum_mac

S = TypeVar("S")
T = TypeVar("T")

STRETCH: Final = sum_mac.TOGETHER
"""chunks that a thread takes at a time: few enough for its caches, and enough that handing over costs nothing"""


def stations_for(lanes: int, count: int) -> int:
    """How many stations ``count`` pieces of work need: one, and no thread, when there is one lane or one piece."""
    return 1 if lanes <= 1 or count <= 1 else min(lanes + 1, count)


def in_order(stations: Sequence[S], work: Callable[[S, int], T], count: int) -> Iterator[T]:
    """``work(station, index)`` for each index below ``count``; the results by index.

    A station (the buffers that a piece of work needs) serves one piece at a time. A result may live in its station's buffers:
    it stands until the next is asked for. What ``work`` raises is raised here, at its place in the order.
    """
    if len(stations) == 1:
        for index in range(count):
            yield work(stations[0], index)
        return
    with ThreadPoolExecutor(max(2, len(stations) - 1), "lane") as pool:
        under_way: deque[Future[T]] = deque()
        given = 0
        try:
            while given < count or under_way:
                # The stations that are free: all of them at first, then the one whose result the caller is done with.
                while given < count and len(under_way) < len(stations):
                    under_way.append(pool.submit(work, stations[given % len(stations)], given))
                    given += 1
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()
