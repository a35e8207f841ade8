"""What this lab was sent and refused, kept for its operator and for the other members: a folder of the home, bounded, never emptied
by the node itself.

One file a piece, canonical JSON (RFC 8785), mode 0600, named by the SHA-256 of its bytes. It holds the message as it came, which
check refused it, and the signed bytes that the check was about, if any. A peer that floods cannot push out what is there: of each
check in a job the first few pieces are kept, of the folder the first ``PIECES``; then no more, until the operator moves them away.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from federation.errors import FederationError, NotFound, ProtocolViolation, VerificationFailed
from federation.identity.envelope import canonical
from node_agent.store.files import private_folder, write_whole

FORMAT: Final = "concord/evidence/v1"
PIECES: Final = 256
PIECES_OF_A_CHECK: Final = 4
"""of one job"""
MESSAGE_LIMIT: Final = 256 << 10
"""bytes of a message that are kept; of a longer one the beginning, and the digest of all of it"""
SIGNED_LIMIT: Final = 64 << 10
FILE_LIMIT: Final = 1 << 20
NAME: Final = re.compile(r"[0-9a-f]{64}\.json")
SHORTEST: Final = 6
"""digits by which people name a piece"""


@dataclass(frozen=True, slots=True)
class Piece:
    job: bytes
    job_name: str
    time: str
    """when it was refused, RFC 3339"""
    check: str
    kind: str
    """of the message, such as Survivors"""
    detail: str
    hint: str
    message: bytes
    """its protobuf encoding (federation/v1/rounds.proto), or the beginning of it"""
    message_size: int
    message_digest: bytes
    signed: bytes
    """what the check was about; empty where nothing signed shows it"""

    @staticmethod
    def of(
        job: bytes, job_name: str, time: str, refused: ProtocolViolation, kind: str, parts: Sequence[bytes]
    ) -> Piece:
        """``parts``: the message's encoding; several for what came as a stream."""
        digest, size, kept = hashlib.sha256(), 0, bytearray()
        for part in parts:
            digest.update(part)
            size += len(part)
            kept += part[: max(0, MESSAGE_LIMIT - len(kept))]
        signed = bytes(refused.evidence[:SIGNED_LIMIT])
        texts = refused.message[:2000], refused.hint[:2000]
        return Piece(job, job_name, time, refused.check, kind, *texts, bytes(kept), size, digest.digest(), signed)

    def to_bytes(self) -> bytes:
        return canonical(
            {
                "format": FORMAT,
                "job": self.job.hex(),
                "jobName": self.job_name,
                "time": self.time,
                "check": self.check,
                "kind": self.kind,
                "detail": self.detail,
                "hint": self.hint,
                "message": base64.b64encode(self.message).decode(),
                "messageSize": self.message_size,
                "messageDigest": self.message_digest.hex(),
                "signed": base64.b64encode(self.signed).decode(),
            }
        )

    @staticmethod
    def from_bytes(data: bytes) -> Piece:
        """Raises VerificationFailed."""
        try:
            found = _read(json.loads(data))
            same = found.to_bytes() == data
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, binascii.Error, FederationError):
            same = False
        if not same:
            raise VerificationFailed(
                "This file is not a piece of evidence.", hint="It was altered, or is another file."
            )
        return found


def _read(document: Any) -> Piece:
    texts = [document[name] for name in ("jobName", "time", "check", "kind", "detail", "hint")]
    size = document["messageSize"]
    if not all(isinstance(text, str) for text in texts) or not isinstance(size, int):
        raise ValueError
    job_name, time, check, kind, detail, hint = texts
    return Piece(
        job=bytes.fromhex(document["job"]),
        job_name=job_name,
        time=time,
        check=check,
        kind=kind,
        detail=detail,
        hint=hint,
        message=base64.b64decode(document["message"], validate=True),
        message_size=size,
        message_digest=bytes.fromhex(document["messageDigest"]),
        signed=base64.b64decode(document["signed"], validate=True),
    )


class EvidenceFolder:
    """The pieces of one node's home. One process writes it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._of_checks: dict[tuple[bytes, str], int] = {}
        self._seen: set[tuple[bytes, str, bytes]] = set()
        """(job, check, message's digest) of what is there"""
        for _, piece in self.pieces():
            self._count(piece)

    @property
    def full(self) -> bool:
        return len(self._seen) >= PIECES

    def keep(self, piece: Piece) -> Path | None:
        """Where it lies now; None when this or enough of its kind is there already."""
        key = (piece.job, piece.check, piece.message_digest)
        if self.full or key in self._seen or self._of_checks.get((piece.job, piece.check), 0) >= PIECES_OF_A_CHECK:
            return None
        data = piece.to_bytes()
        path = private_folder(self._root) / f"{hashlib.sha256(data).hexdigest()}.json"
        write_whole(path, data)
        self._count(piece)
        return path

    def pieces(self) -> list[tuple[Path, Piece]]:
        """In the order in which they were refused; what is no piece, or was altered, is left out."""
        found: list[tuple[Path, Piece]] = []
        for path in self._root.glob("*.json") if self._root.exists() else ():
            try:
                found.append((path, self._load(path)))
            except VerificationFailed:
                continue
        return sorted(found, key=lambda each: (each[1].time, each[0].name))

    def find(self, digits: str) -> tuple[Path, Piece]:
        """By the first digits of its name. Raises NotFound, or VerificationFailed when the file was altered."""
        named = [
            path
            for path in (self._root.glob("*.json") if self._root.exists() else ())
            if NAME.fullmatch(path.name) and len(digits) >= SHORTEST and path.name.startswith(digits)
        ]
        if len(named) != 1:
            raise NotFound(
                f"{len(named) or 'No'} pieces of evidence begin with {digits[:64]!r}.",
                hint=f"`concord-node evidence list` names them; give at least {SHORTEST} digits.",
            )
        return named[0], self._load(named[0])

    def _load(self, path: Path) -> Piece:
        with path.open("rb") as stream:
            data = stream.read(FILE_LIMIT + 1)
        if len(data) > FILE_LIMIT or f"{hashlib.sha256(data).hexdigest()}.json" != path.name:
            raise VerificationFailed(f"{path} is not what was kept under this name.", hint="It was altered.")
        return Piece.from_bytes(data)

    def _count(self, piece: Piece) -> None:
        self._seen.add((piece.job, piece.check, piece.message_digest))
        here = (piece.job, piece.check)
        self._of_checks[here] = self._of_checks.get(here, 0) + 1
