"""The sum of a cohort: stored updates are added chunk by chunk, the masks that are left are taken off, and the result is judged."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Final

from coordinator.rounds.uploads import LANES, Uploads
from coordinator.store.blobs import Blobs
from federation.errors import ProtocolViolation
from federation.secagg.encoding import encoding_of
from federation.secagg.events import Unmask
from federation.secagg.parameters import Terms
from federation.secagg.summing import View, sum_of

SMALL_SUM: Final = 64 << 10
"""bytes of a sum that is kept in memory and in the database, since it rides along with Close"""


@dataclass(frozen=True, slots=True)
class MadeSum:
    digest: bytes
    size: int
    small: bytes
    """the sum, when it is small; else empty, and the sum is a blob"""


def make_sum(
    uploads: Uploads, blobs: Blobs, terms: Terms, unmask: Unmask, members: Sequence[str], weight_unit: int
) -> MadeSum:
    """``members``: ids of the cohort. Memory: a few chunks, however large the model and however many the members. For a
    thread of its own, beside which it takes some more.

    Raises ProtocolViolation when the sum is out of range or an update has another size, NotFound when one is gone.
    """
    if not members:
        raise ProtocolViolation("The cohort is empty.", check="cohort")
    encoding = encoding_of(terms, unmask.members, weight_unit)
    view = None if terms.blind else View(len(members), unmask.total_weight)
    with ExitStack() as stack:
        updates = [stack.enter_context(uploads.open(unmask.plan.context, member)) for member in members]
        # Its threads end before the files that they read are closed.
        pieces = stack.enter_context(closing(sum_of(updates, unmask.plan, terms, encoding, view, LANES)))
        if updates[0].size > SMALL_SUM:
            digest, size = blobs.put_pieces(pieces)
            return MadeSum(digest, size, b"")
        data = b"".join(bytes(piece) for piece in pieces)
        return MadeSum(hashlib.sha256(data).digest(), len(data), data)
