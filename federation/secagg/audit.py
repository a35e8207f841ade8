"""The audit of a sum: a member takes one place of the update at random and adds up what the cohort signed there.

The sum MAC tells members that a sum is that of its cohort, as long as no member has given the group key away. The audit needs no
key: for one chunk (or the header) the collector shows what each member of the cohort uploaded there, with the Merkle path to the
root that the member signed, and the seeds that took its masks off, as the member signed or committed to them. The chunk of the
published sum must be what comes out. Members choose after the sum is published, each for itself, so whoever alters k of c
chunks is found out by h honest members with probability 1 - (1 - k/c)^h. What an auditor sees is what the collector has: updates
without self masks, under the pairwise masks within the cohort. (docs/protocol/secure-aggregation.md, "Audit".)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from federation.errors import ProtocolViolation
from federation.secagg import recovery, transcripts
from federation.secagg.certificate import Bench, violation
from federation.secagg.events import FetchSum
from federation.secagg.header import WORD_BYTES, header_words
from federation.secagg.masking import HEADER_INDEX, UNSIGNED, Buffer, Keystream
from federation.secagg.merkle import root_from_path
from federation.secagg.messages import Unmasked
from federation.secagg.parameters import Encoding, Terms


@dataclass(frozen=True, slots=True)
class Place:
    """One leaf of an update: a chunk, or the header, which is the last."""

    leaf: int
    leaves: int
    start: int
    end: int
    """bytes of the update, and of the sum"""

    @property
    def header(self) -> bool:
        return self.leaf == self.leaves - 1

    @staticmethod
    def of(leaf: int, size: int, terms: Terms, encoding: Encoding) -> Place:
        """``size``: bytes of the whole update. Raises ProtocolViolation when there is no such leaf."""
        body = size - WORD_BYTES * header_words(terms)
        step = encoding.chunk_parameters * encoding.ring_bits // 8
        leaves = leaves_of(size, terms, encoding)
        if not 0 <= leaf < leaves:
            raise violation("audit-place", f"An update of {leaves} pieces has no piece {leaf}.")
        if leaf == leaves - 1:
            return Place(leaf, leaves, body, size)
        return Place(leaf, leaves, leaf * step, min((leaf + 1) * step, body))


def leaves_of(size: int, terms: Terms, encoding: Encoding) -> int:
    """How many pieces an update of ``size`` bytes has: its chunks, and the header."""
    body = size - WORD_BYTES * header_words(terms)
    step = encoding.chunk_parameters * encoding.ring_bits // 8
    return max(0, -(-body // step)) + 1


@dataclass(frozen=True, slots=True)
class Shown:
    """What the collector shows of one member of the cohort at the audited place."""

    unmasked: Unmasked
    data: bytes
    path: tuple[bytes, ...]


def check_audit(
    bench: Bench, fetch: FetchSum, terms: Terms, encoding: Encoding, place: Place, shown: Sequence[Shown], total: Buffer
) -> None:
    """``total``: the sum as it was published. Raises ProtocolViolation with what does not fit."""
    entries = fetch.close.certificate.survivors.entries
    if [each.unmasked.index for each in shown] != [entry.index for entry in entries]:
        raise violation("audit-cohort", "An audit shows other members than the cohort.")
    width = 64 if place.header else encoding.ring_bits
    ring = UNSIGNED[width]
    found = np.zeros((place.end - place.start) * 8 // width, dtype=ring)
    gone = [index for index in fetch.ready if index not in fetch.cohort]
    seeds: dict[int, Mapping[int, bytes]] = {}
    for entry, each in zip(entries, shown, strict=True):
        name = bench.seats[entry.index - 1].member
        if len(each.data) != place.end - place.start or (
            root_from_path(each.data, place.leaf, place.leaves, each.path) != entry.root
        ):
            raise violation("audit-chunk", f"What the sum is made of is not what {name} signed.", evidence=each.data)
        seeds[entry.index] = _seeds_of(bench, fetch.close.context, entry.trailer_hash, each.unmasked, gone)
        np.add(found, np.frombuffer(each.data, dtype=ring), out=found)
    plan = recovery.unmask_plan(fetch.close.context, seeds, terms.cipher)
    Keystream(found.nbytes, terms.cipher).apply(found, plan, HEADER_INDEX if place.header else place.leaf)
    published = np.frombuffer(total, dtype=np.uint8)[place.start : place.end]
    if found.tobytes() != published.tobytes():
        raise violation(
            "audit-sum",
            "The published sum is not the sum of what its cohort signed.",
            evidence=published.tobytes(),
            hint="The coordinator altered the sum, and a member gave it the group key. Tell the members.",
        )


def _seeds_of(
    bench: Bench, context: bytes, trailer_hash: bytes, unmasked: Unmasked, gone: Sequence[int]
) -> Mapping[int, bytes]:
    """peer -> seed, as the owner revealed them under its signature, or as its trailer commits to them."""
    reveal, upload = unmasked.reveal, unmasked.upload
    if reveal is not None:
        if reveal.context != context or reveal.index != unmasked.index:
            raise violation("audit-seeds", "An audit shows a REVEAL of another attempt or member.")
        bench.check_reveal(reveal)
        seeds = ((0, reveal.self_seed), *reveal.edges)
    else:
        seeds = unmasked.seeds
        if upload is None or transcripts.trailer_hash(upload.trailer) != trailer_hash:
            raise violation("audit-seeds", "An audit shows seeds without the trailer that commits to them.")
        trailer = upload.trailer
        places = {0: 0, **{peer: place for place, peer in enumerate(trailer.edges, start=1)}}
        for peer, seed in seeds:
            committed = trailer.secret_hashes[places[peer]] if peer in places else b""
            if transcripts.secret_hash(context, unmasked.index, peer, seed) != committed:
                raise violation("audit-seeds", "An audit shows a seed to which its owner did not commit.")
    if [peer for peer, _ in seeds] != [0, *gone]:
        raise violation("audit-seeds", "An audit shows other seeds than the certificate opens.")
    return dict(seeds)


__all__ = ["Place", "ProtocolViolation", "Shown", "check_audit", "leaves_of"]
