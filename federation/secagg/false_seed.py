"""A seed that is not the one its owner committed to: a proof that anybody can check, with nothing but the owner's key.

An upload's signed trailer commits to every seed and to every share. Who then signs a REVEAL with another seed, or dealt
shares that bear its own hashes and rebuild another, has lied, whoever shows it. An honest member cannot be shown so: what it
reveals and deals is what it hashed. (docs/protocol/secure-aggregation.md, "Convictions".)
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from federation.errors import FederationError, VerificationFailed
from federation.identity.envelope import canonical
from federation.secagg import shamir, transcripts
from federation.secagg.messages import Box, Reveal, Trailer, Upload
from federation.secagg.parameters import Quorums

if TYPE_CHECKING:
    from federation.secagg.certificate import Verify

FORMAT: Final = "concord/false-seed/v1"
MAX_BYTES: Final = 6 << 20
"""a trailer of 200 members is 2.6 MB, and twice that in hex"""


@dataclass(frozen=True, slots=True)
class FalseSeed:
    identity_key: bytes
    """of the node that signed the upload"""
    upload: Upload
    peer: int
    """whose edge the seed is of; 0: the self seed"""
    reveal: Reveal | None
    """signed by the same key; or else"""
    shares: tuple[tuple[int, bytes], ...]
    """(holder, share): t shares of the seed, each with the hash that the trailer gives for it"""

    def check(self, verify: Verify) -> None:
        """Raises VerificationFailed unless it proves what it says."""
        upload, trailer = self.upload, self.upload.trailer
        text = transcripts.upload_transcript(
            upload.context, upload.index, upload.root, transcripts.trailer_hash(trailer)
        )
        if not verify(self.identity_key, text, upload.signature):
            raise _no_proof("The upload is not signed by the key that is named.")
        holders = [box.holder for box in trailer.boxes]
        columns = (0, *trailer.edges)
        for sequence in (holders, columns):
            if any(low >= high for low, high in pairwise(sequence)):
                raise _no_proof("The trailer is not in order.")
        if (
            len(trailer.secret_hashes) != len(columns)
            or len(trailer.share_hashes) != len(holders) * len(columns)
            or self.peer not in columns
        ):
            raise _no_proof("The trailer does not commit to the seed.")
        if (self.reveal is None) == (not self.shares):
            raise _no_proof("It takes a REVEAL, or shares.")
        column = columns.index(self.peer)
        seed = self._revealed(verify) if self.reveal is not None else self._rebuilt(holders, column, len(columns))
        if seed is not None and (
            transcripts.secret_hash(upload.context, upload.index, self.peer, seed) == trailer.secret_hashes[column]
        ):
            raise _no_proof("The seed is the one that was committed to.")

    def _revealed(self, verify: Verify) -> bytes:
        reveal = self.reveal
        assert reveal is not None
        if (reveal.context, reveal.index) != (self.upload.context, self.upload.index):
            raise _no_proof("The REVEAL is of another attempt, or another place.")
        if not verify(self.identity_key, transcripts.reveal_transcript(reveal), reveal.signature):
            raise _no_proof("The REVEAL is not signed by the key that is named.")
        seeds = {0: reveal.self_seed, **dict(reveal.edges)}
        if self.peer not in seeds:
            raise _no_proof("The REVEAL does not say the seed.")
        return seeds[self.peer]

    def _rebuilt(self, holders: list[int], column: int, columns: int) -> bytes | None:
        """None: the shares rebuild nothing that is a seed."""
        upload = self.upload
        try:
            threshold = Quorums.of(1 + len(holders)).t
        except FederationError:
            raise _no_proof("The trailer is of no roster.") from None
        found = [holder for holder, _ in self.shares]
        if len(found) != threshold or found != sorted(set(found)) or not set(found) <= set(holders):
            raise _no_proof(f"It takes the shares of {threshold} holders.")
        for holder, share in self.shares:
            expected = upload.trailer.share_hashes[holders.index(holder) * columns + column]
            if transcripts.share_hash(upload.context, upload.index, holder, self.peer, share) != expected:
                raise _no_proof("A share is not the one that was dealt.")
        try:
            return shamir.rebuild(dict(self.shares))
        except FederationError:
            return None

    def to_bytes(self) -> bytes:
        """Canonical JSON (RFC 8785)."""
        upload, trailer, reveal = self.upload, self.upload.trailer, self.reveal
        return canonical(
            {
                "format": FORMAT,
                "identityKey": self.identity_key.hex(),
                "upload": {
                    "index": upload.index,
                    "context": upload.context.hex(),
                    "root": upload.root.hex(),
                    "boxes": [[box.holder, box.ciphertext.hex()] for box in trailer.boxes],
                    "edges": list(trailer.edges),
                    "secretHashes": [each.hex() for each in trailer.secret_hashes],
                    "shareHashes": [each.hex() for each in trailer.share_hashes],
                    "signature": upload.signature.hex(),
                },
                "peer": self.peer,
                "reveal": None
                if reveal is None
                else {
                    "index": reveal.index,
                    "context": reveal.context.hex(),
                    "selfSeed": reveal.self_seed.hex(),
                    "edges": _pairs_out(reveal.edges),
                    "signature": reveal.signature.hex(),
                },
                "shares": _pairs_out(self.shares),
            }
        )

    @staticmethod
    def from_bytes(data: bytes) -> FalseSeed:
        """Raises VerificationFailed. Proves nothing before ``check``."""
        if len(data) > MAX_BYTES:
            raise _no_proof("The file is too large.")
        try:
            document: Any = json.loads(data)
            upload, reveal = document["upload"], document["reveal"]
            trailer = Trailer(
                tuple(Box(_place(holder), bytes.fromhex(sealed)) for holder, sealed in upload["boxes"]),
                tuple(map(_place, upload["edges"])),
                tuple(map(bytes.fromhex, upload["secretHashes"])),
                tuple(map(bytes.fromhex, upload["shareHashes"])),
            )
            found = FalseSeed(
                bytes.fromhex(document["identityKey"]),
                Upload(
                    _place(upload["index"]),
                    bytes.fromhex(upload["context"]),
                    bytes.fromhex(upload["root"]),
                    trailer,
                    bytes.fromhex(upload["signature"]),
                ),
                _place(document["peer"]),
                None
                if reveal is None
                else Reveal(
                    _place(reveal["index"]),
                    bytes.fromhex(reveal["context"]),
                    bytes.fromhex(reveal["selfSeed"]),
                    _pairs_in(reveal["edges"]),
                    bytes.fromhex(reveal["signature"]),
                ),
                _pairs_in(document["shares"]),
            )
            same = found.to_bytes() == data
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError, FederationError):
            same = False
        if not same:
            raise _no_proof("The file is not a proof in its one encoding.")
        return found


def _pairs_out(pairs: tuple[tuple[int, bytes], ...]) -> list[list[int | str]]:
    return [[number, value.hex()] for number, value in pairs]


def _pairs_in(pairs: Any) -> tuple[tuple[int, bytes], ...]:
    return tuple((_place(number), bytes.fromhex(value)) for number, value in pairs)


def _place(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 32:
        raise ValueError(value)
    return value


def _no_proof(why: str) -> VerificationFailed:
    return VerificationFailed(f"This convicts nobody: {why}", hint="Ask for the file that the coordinator kept.")
