"""The sum of a cohort: stored updates are added chunk by chunk, the masks that are left are taken off, and the result is judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coordinator.rounds.uploads import Uploads
from federation.errors import ProtocolViolation
from federation.secagg.encoding import Accumulator, encoding_of, read_sum, update_size
from federation.secagg.events import Unmask
from federation.secagg.parameters import Terms


@dataclass(frozen=True, slots=True)
class MadeSum:
    data: memoryview


def make_sum(uploads: Uploads, terms: Terms, unmask: Unmask, members: Sequence[str], weight_unit: int) -> MadeSum:
    """``members``: ids of the cohort. Memory: one accumulator, however many members there are. For a thread of its own.

    Raises ProtocolViolation when the sum is out of range or an update has another size, NotFound when one is gone.
    """
    encoding = encoding_of(terms, unmask.members, weight_unit)
    overhead = update_size(terms, encoding, 0)
    accumulator: Accumulator | None = None
    parameters = 0
    for member in members:
        with uploads.open(unmask.plan.context, member) as update:
            if accumulator is None:
                parameters = (len(update) - overhead) * 8 // terms.ring_bits
                accumulator = Accumulator(terms, encoding, parameters)
            accumulator.add(update)
    if accumulator is None:
        raise ProtocolViolation("The cohort is empty.", check="cohort")
    accumulator.unmask(unmask.plan)
    if not terms.blind:
        read_sum(accumulator.data, terms, encoding, len(members), unmask.total_weight, parameters)
    return MadeSum(accumulator.data)
