"""Content-addressed files. A blob is whole and has its digest, or it is somebody's partial upload, which they can continue.

A partial upload belongs to one sender: what others send under the same name neither spoils nor ends it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from federation.errors import InvalidUsage, NotFound, VerificationFailed

MAX_BYTES = 64 << 30
DIGEST_BYTES = 32


class Blobs:
    def __init__(self, root: Path) -> None:
        """For the one process that writes here: what another, killed, was writing is thrown away."""
        self._root = root
        self._partials = root / "partial"
        self._partials.mkdir(parents=True, exist_ok=True)
        for left in self._partials.glob("*.new"):
            left.unlink()

    def path(self, digest: bytes) -> Path:
        """Where a whole blob lies. Raises NotFound."""
        path = self._whole(digest)
        if not path.exists():
            raise NotFound(f"There is no blob {digest.hex()[:16]}…", hint="It was never uploaded, or has been erased.")
        return path

    def held(self, digest: bytes, sender: str = "") -> tuple[int, bool]:
        """(bytes held from the beginning, of this sender's upload; whether that is all)."""
        whole = self._whole(digest)
        if whole.exists():
            return whole.stat().st_size, True
        partial = self._partial(digest, sender)
        return (partial.stat().st_size, False) if partial.exists() else (0, False)

    def put(self, data: bytes | bytearray | memoryview) -> bytes:
        """Stores bytes that are at hand; returns their digest."""
        digest = hashlib.sha256(data).digest()
        if not self._whole(digest).exists():
            temporary = self._partials / f"{digest.hex()}.{os.getpid()}.new"
            with temporary.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(self._whole(digest))
        return digest

    def put_pieces(self, pieces: Iterable[bytes | memoryview]) -> tuple[bytes, int]:
        """Stores what comes piece by piece; returns digest and size. When ``pieces`` raises, nothing is stored."""
        hasher, size = hashlib.sha256(), 0
        temporary = self._partials / f"{secrets.token_hex(16)}.new"
        try:
            with temporary.open("wb", buffering=1 << 20) as stream:
                for piece in pieces:
                    hasher.update(piece)
                    stream.write(piece)
                    size += len(piece)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(self._whole(hasher.digest()))
        finally:
            temporary.unlink(missing_ok=True)
        return hasher.digest(), size

    def append(self, digest: bytes, size: int, offset: int, data: bytes, sender: str = "") -> tuple[int, bool]:
        """One part of an upload; returns as ``held``. Raises InvalidUsage for a gap, VerificationFailed for other bytes."""
        if not 0 <= size <= MAX_BYTES:
            raise InvalidUsage(f"A blob of {size} bytes is too large.")
        whole = self._whole(digest)
        if whole.exists():
            return whole.stat().st_size, True
        partial = self._partial(digest, sender)
        with partial.open("ab") as stream:
            held = stream.tell()
            if offset != held or held + len(data) > size:
                raise InvalidUsage(
                    f"A part at {offset} does not continue the {held} bytes held of {size}.",
                    hint="Ask what is held and continue there.",
                )
            stream.write(data)
            held += len(data)
        if held < size:
            return held, False
        self._finish(partial, whole, digest)
        return size, True

    def begin(self, digest: bytes, sender: str) -> None:
        """Who begins or continues one blob gives up every other that it has not brought to its end."""
        mine = self._partial(digest, sender)
        for path in self._partials.glob(f"*{mine.suffix}"):
            if path != mine:
                path.unlink(missing_ok=True)

    def erase(self, digest: bytes) -> None:
        self._whole(digest).unlink(missing_ok=True)

    @staticmethod
    def _finish(partial: Path, whole: Path, digest: bytes) -> None:
        with partial.open("rb") as stream:
            actual = hashlib.file_digest(stream, "sha256").digest()
            os.fsync(stream.fileno())
        if actual != digest:
            partial.unlink()
            raise VerificationFailed(
                "The uploaded bytes have another digest; they were thrown away.", hint="Upload again."
            )
        partial.replace(whole)

    def _whole(self, digest: bytes) -> Path:
        return self._root / _checked(digest).hex()

    def _partial(self, digest: bytes, sender: str) -> Path:
        return self._partials / f"{_checked(digest).hex()}.{hashlib.sha256(sender.encode()).hexdigest()[:32]}"


def _checked(digest: bytes) -> bytes:
    if len(digest) != DIGEST_BYTES:
        raise InvalidUsage("A blob is named by a SHA-256 digest of 32 bytes.")
    return digest
