"""What convicts a member of a lie in one attempt, as bytes that travel: two statements that contradict each other, or a
seed that is not the one it committed to.

A proof of another job, epoch or attempt is a true proof of what happened there, and counts for nothing here.
(docs/decisions/0013-a-void-attempt-goes-on-without-the-convicted.md.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from federation.errors import VerificationFailed
from federation.secagg import conviction, false_seed, transcripts
from federation.secagg.conviction import Conviction
from federation.secagg.false_seed import FalseSeed
from federation.secagg.messages import Seat

if TYPE_CHECKING:
    from federation.secagg.certificate import Verify

Proof = Conviction | FalseSeed

MAX_BYTES: Final = max(conviction.MAX_BYTES, false_seed.MAX_BYTES)


def read(data: bytes) -> Proof:
    """Raises VerificationFailed. Proves nothing before ``convicted``."""
    try:
        return FalseSeed.from_bytes(data)
    except VerificationFailed:
        return Conviction.from_bytes(data)


def convicted(proof: Proof, seats: Sequence[Seat], context: bytes, verify: Verify) -> int:
    """The place of the member that the proof convicts of a lie in the attempt with this context. Raises
    VerificationFailed."""
    index = next((seat.index for seat in seats if seat.identity_key == proof.identity_key), 0)
    if not index:
        raise VerificationFailed("The proof is against nobody in the roster.")
    if place_of(proof) != (context, index):
        raise VerificationFailed("The proof is of another job, epoch or attempt, or of another member's place.")
    proof.check(verify)
    return index


def place_of(proof: Proof) -> tuple[bytes, int]:
    """(context, index) of what was said. Raises VerificationFailed."""
    if isinstance(proof, FalseSeed):
        return proof.upload.context, proof.upload.index
    label, fields = transcripts.fields_of(proof.first.text)
    where = conviction.WHERE.get(label)
    if where is None or len(fields) <= max(where):
        raise VerificationFailed("The statements are not of one kind that is signed once.")
    return fields[where[0]], int.from_bytes(fields[where[1]], "big")
