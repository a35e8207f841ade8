"""From reveals and recovered shares to the masks that are left in a sum.

Left in the sum over U: PRG(b_i) of each i in U, and PRG(s_ij) of each i in U towards each j that was ready and is not
in U.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from federation.errors import ProtocolViolation
from federation.secagg import shamir, transcripts
from federation.secagg.certificate import violation
from federation.secagg.events import Mask, MaskPlan
from federation.secagg.messages import RecoverReply, Reveal, Upload

Seeds = Mapping[int, bytes]
"""peer -> seed; peer 0: the self seed"""


def check_reveal(reveal: Reveal, upload: Upload, gone: Sequence[int]) -> None:
    """The seeds are those that the owner's trailer committed to: else the signed reveal convicts it."""
    if tuple(peer for peer, _ in reveal.edges) != tuple(gone):
        raise violation("reveal-edges", f"Member {reveal.index} reveals other edges than the certificate asks for.")
    if false_seed(reveal, upload) is not None:
        raise violation("reveal-seed", f"Member {reveal.index} reveals another seed than it committed to.")


def false_seed(reveal: Reveal, upload: Upload) -> int | None:
    """The first peer (0: the self seed) whose seed is not what the trailer commits to; None where there is none."""
    places = {0: 0, **{peer: place for place, peer in enumerate(upload.trailer.edges, start=1)}}
    for peer, seed in ((0, reveal.self_seed), *reveal.edges):
        if peer in places and (
            transcripts.secret_hash(reveal.context, reveal.index, peer, seed)
            != upload.trailer.secret_hashes[places[peer]]
        ):
            return peer
    return None


def check_reply(reply: RecoverReply, upload: Upload, gone: Sequence[int]) -> None:
    """Each share has the hash that the owner's trailer gives for this holder: else the holder is named."""
    trailer = upload.trailer
    if tuple(peer for peer, _ in reply.shares) != (0, *gone):
        raise violation("share-edges", f"Member {reply.index} returns other shares than the certificate asks for.")
    row = [box.holder for box in trailer.boxes].index(reply.index) * (1 + len(trailer.edges))
    places = {0: 0, **{peer: place for place, peer in enumerate(trailer.edges, start=1)}}
    for peer, share in reply.shares:
        found = transcripts.share_hash(reply.context, reply.owner, reply.index, peer, share)
        if found != trailer.share_hashes[row + places[peer]]:
            raise violation("share-hash", f"Member {reply.index} returns a wrong share of member {reply.owner}'s seed.")


Shares = tuple[tuple[int, bytes], ...]
"""(holder, share)"""


def _columns(
    replies: Sequence[RecoverReply], upload: Upload, gone: Sequence[int], threshold: int
) -> Iterator[tuple[int, Shares, bytes | None]]:
    """(peer, shares, the seed that they rebuild; None when it is not the one that was committed to)"""
    used = sorted(replies, key=lambda reply: reply.index)[:threshold]
    places = {0: 0, **{peer: place for place, peer in enumerate(upload.trailer.edges, start=1)}}
    for column, peer in enumerate((0, *gone)):
        shares = tuple((reply.index, reply.shares[column][1]) for reply in used)
        try:
            seed: bytes | None = shamir.rebuild(dict(shares))
        except ProtocolViolation:
            seed = None
        if seed is not None:
            hashed = transcripts.secret_hash(upload.context, upload.index, peer, seed)
            seed = seed if hashed == upload.trailer.secret_hashes[places[peer]] else None
        yield peer, shares, seed


def rebuild(replies: Sequence[RecoverReply], upload: Upload, gone: Sequence[int], threshold: int) -> dict[int, bytes]:
    """The owner's seeds from ``threshold`` good replies. Raises ProtocolViolation that names the dealer."""
    seeds = {}
    for peer, _, seed in _columns(replies, upload, gone, threshold):
        if seed is None:
            raise violation("dealer", f"Member {upload.index} dealt shares of a wrong seed: they do not rebuild it.")
        seeds[peer] = seed
    return seeds


def misdealt(
    replies: Sequence[RecoverReply], upload: Upload, gone: Sequence[int], threshold: int
) -> tuple[int, Shares] | None:
    """(peer, shares) of the first seed that the replies do not rebuild; None where there is none."""
    for peer, shares, seed in _columns(replies, upload, gone, threshold):
        if seed is None:
            return peer, shares
    return None


def unmask_plan(context: bytes, seeds: Mapping[int, Seeds], cipher: str) -> MaskPlan:
    """``seeds``: by owner in U. The signs are the opposite of those in the contribution."""
    masks = []
    for owner, known in sorted(seeds.items()):
        for peer, seed in sorted(known.items()):
            masks.append(Mask(seed, +1 if 0 < peer < owner else -1))
    return MaskPlan(context, tuple(masks), cipher=cipher)
