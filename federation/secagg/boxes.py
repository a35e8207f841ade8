"""Keys that two members, or all of them, share; what is derived from them for one attempt; and boxes sealed under them.

A pair root K_ij and the group key KG belong to a round and are ratcheted to the next: who takes a lab's disk later
learns nothing of the rounds before. Every box has a key of its own, so its nonce is constant; owner, holder and the
purpose are bound as associated data: a box of another owner, holder or attempt does not open.
(docs/protocol/secure-aggregation.md, "Keys".)
"""

from __future__ import annotations

from collections.abc import Sequence

from federation.secagg.certificate import violation
from federation.secagg.shamir import SHARE_BYTES
from federation.secagg.suite import Suite
from federation.secagg.transcripts import transcript


def pair_root(suite: Suite, agreed: bytes, encapsulated: bytes, roster: bytes, one: int, other: int) -> bytes:
    """K_ij for round 1, the same for both ends. ``agreed``: from X25519; ``encapsulated``: from ML-KEM."""
    low, high = sorted((one, other))
    return suite.extract(agreed + encapsulated, roster, transcript("pair", low, high))


def group_key(suite: Suite, parts: Sequence[bytes], roster: bytes) -> bytes:
    """KG for round 1, from the parts of all members in the order of the roster."""
    return suite.extract(b"".join(parts), roster, transcript("group"))


def ratchet(suite: Suite, key: bytes, round_number: int) -> bytes:
    """The key of ``round_number`` from that of the round before."""
    return suite.expand(key, transcript("ratchet", round_number))


# ---------------------------------------------------------------------------------------------------------- one attempt


def mask_seed(suite: Suite, root: bytes, context: bytes) -> bytes:
    """s_ij"""
    return suite.expand(root, transcript("mask", context))


def blind_seed(suite: Suite, group: bytes, context: bytes, index: int) -> bytes:
    """g_i"""
    return suite.expand(group, transcript("blind", context, index))


def tag_key(suite: Suite, group: bytes, context: bytes) -> bytes:
    """Where the sum MAC's vectors rho come from."""
    return suite.expand(group, transcript("tag", context))


def tag_pad(suite: Suite, group: bytes, context: bytes, index: int) -> bytes:
    """pad_i"""
    return suite.expand(group, transcript("pad", context, index))


def state_key(suite: Suite, group: bytes, state_digest: bytes) -> bytes:
    """For the file of a state, on its way to a member that is behind."""
    return suite.expand(group, transcript("state-file", state_digest))


# ---------------------------------------------------------------------------------------------------------------- boxes


def _part_key(suite: Suite, root: bytes, owner: int, holder: int) -> bytes:
    return suite.expand(root, transcript("part", owner, holder))


def seal_part(suite: Suite, root: bytes, roster: bytes, owner: int, holder: int, part: bytes) -> bytes:
    """k_i for one other member, at setup."""
    return suite.seal(_part_key(suite, root, owner, holder), part, transcript("part-data", roster, owner, holder))


def unseal_part(suite: Suite, root: bytes, roster: bytes, owner: int, holder: int, ciphertext: bytes) -> bytes:
    """Raises ProtocolViolation."""
    try:
        bound = transcript("part-data", roster, owner, holder)
        return suite.unseal(_part_key(suite, root, owner, holder), ciphertext, bound)
    except ValueError:
        raise violation(
            "group-part",
            f"What member {owner} sealed for member {holder} does not open: the keys of the two ends differ.",
            hint="A ciphertext was swapped on the way, or the member is faulty. The setup starts again.",
        ) from None


def _box_key(suite: Suite, root: bytes, context: bytes, owner: int, holder: int) -> bytes:
    return suite.expand(root, transcript("box", context, owner, holder))


def _bound(context: bytes, owner: int, holder: int, edges: Sequence[int]) -> bytes:
    return transcript("box-data", context, owner, holder, list(edges))


def seal(
    suite: Suite,
    root: bytes,
    context: bytes,
    owner: int,
    holder: int,
    edges: Sequence[int],
    shares: Sequence[bytes],
) -> bytes:
    """``shares``: of b, then of each edge's seed, in the order of ``edges``. One box per (ctx, owner, holder), ever."""
    key = _box_key(suite, root, context, owner, holder)
    return suite.seal(key, b"".join(shares), _bound(context, owner, holder, edges))


def unseal(
    suite: Suite, root: bytes, context: bytes, owner: int, holder: int, edges: Sequence[int], ciphertext: bytes
) -> tuple[bytes, ...]:
    """Raises ProtocolViolation."""
    try:
        key = _box_key(suite, root, context, owner, holder)
        data = suite.unseal(key, ciphertext, _bound(context, owner, holder, edges))
    except ValueError:
        data = b""
    if len(data) != SHARE_BYTES * (1 + len(edges)):
        raise violation(
            "box",
            f"The sealed shares of member {owner} do not open for member {holder}: another owner's, holder's or attempt's.",
            hint="The other holders can rebuild the seed; report it to the operator.",
        )
    return tuple(data[start : start + SHARE_BYTES] for start in range(0, len(data), SHARE_BYTES))
