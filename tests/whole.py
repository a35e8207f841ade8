"""Updates and sums that a test wants whole in memory: made and read by the product's own code, piece by piece, and put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import ParamSpec

from federation.secagg import summing
from federation.secagg.encoding import Piece, pieces_of
from federation.secagg.events import MaskPlan
from federation.secagg.masking import Buffer
from federation.secagg.opening import Sum, open_sum
from federation.secagg.parameters import Encoding, Terms
from federation.secagg.summing import InMemory, sum_of

P = ParamSpec("P")


def _copied(made: Callable[P, Iterable[Piece]]) -> Callable[P, Iterator[bytes]]:
    def copies(*arguments: P.args, **named: P.kwargs) -> Iterator[bytes]:
        for piece in made(*arguments, **named):
            yield piece.data.tobytes()

    return copies


encode = _copied(pieces_of)
"""One masked chunk each, header last, as bytes that stay."""


def added(updates: Iterable[bytes], terms: Terms, encoding: Encoding, plan: MaskPlan | None = None) -> bytes:
    """The sum of the updates without the masks of ``plan``, as the coordinator makes it where it sees nothing."""
    stored = [InMemory(update) for update in updates]
    pieces = sum_of(stored, plan or MaskPlan(b"", ()), terms, encoding)
    return b"".join(piece.tobytes() for piece in pieces)


def root_of(update: bytes, terms: Terms, encoding: Encoding) -> bytes:
    """The Merkle root of a complete update."""
    return summing.root_of(InMemory(update), terms, encoding)


def read_sum(
    data: Buffer, terms: Terms, encoding: Encoding, cohort_size: int, total_weight: int, parameters: int | None = None
) -> Sum:
    """A sum without masks, by who has no key of the MAC: all other checks of ``open_sum``."""
    return open_sum(data, MaskPlan(b"", ()), terms, encoding, cohort_size, total_weight, parameters)
